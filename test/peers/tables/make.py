"""Rows that pyarrow and Python's csv write: `python make.py FOLDER` (pyarrow 22 or later)."""
import csv, sys
from pathlib import Path
import pyarrow as pa, pyarrow.parquet as pq

folder = Path(sys.argv[1])
rows = [
    {"instruction": f"Say {i}, \"quoted\"\nand more é", "output": str(i * i), "score": i / 4, "count": i, "messages": [{"role": "user", "content": f"m{i}"}]}
    for i in range(7)
]
pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet", row_group_size=3)
with open(folder / "rows.csv", "w", newline="") as file:
    writer = csv.DictWriter(file, ["instruction", "output", "score", "count"], extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
