# python3 test/peers/svd.py > test/peers/svd.json   (needs numpy)
import json

import numpy

draw = numpy.random.RandomState(7)
MATRICES = {
    "tall": draw.normal(size=(7, 4)),
    "wide": draw.normal(size=(3, 6)),
    "square": draw.normal(size=(5, 5)),
    "rank 2 of 6": draw.normal(size=(6, 2)) @ draw.normal(size=(2, 6)),
    "graded": draw.normal(size=(5, 5)) * numpy.array([1e3, 1e1, 1, 1e-1, 1e-2]),
    "zeros": numpy.zeros((3, 2)),
    "one row": draw.normal(size=(1, 4)),
}
cases = []
for name, matrix in MATRICES.items():
    matrix = matrix.astype("float32")
    values = numpy.linalg.svd(matrix.astype("float64"), compute_uv=False)
    cases.append({"name": name, "matrix": matrix.tolist(), "s": values.tolist()})
peer = "numpy %s, numpy.linalg.svd" % numpy.__version__
print(json.dumps({"peer": peer, "command": "python3 test/peers/svd.py", "cases": cases}, indent=1))
