# python3 test/peers/random-state.py > test/peers/random-state.json   (needs numpy)
import json

import numpy

CASES = []
for seed in [0, 42, 20240601, 4294967295]:
    draw = lambda: numpy.random.RandomState(seed)
    uniform, normal, randint = draw(), draw(), draw()
    CASES.append(
        {
            "seed": seed,
            "random": uniform.random_sample(2000)[[0, 1, 2, 700, 1999]].tolist(),
            "normal": [normal.normal() for _ in range(5)],
            "normalScaled": draw().normal(1, 3),
            "uniform": draw().uniform(-2, 5),
            "randint": [int(randint.randint(3, 17)) for _ in range(6)],
            "permutation": draw().permutation(12).tolist(),
        }
    )
peer = "numpy %s, numpy.random.RandomState" % numpy.__version__
command = "python3 test/peers/random-state.py"
print(json.dumps({"peer": peer, "command": command, "cases": CASES}, indent=1))
