"""Makes golden cases with the Python ecosystem: python generate.py KIND FOLDER [--seed N]

Kinds: safetensors. See README.md beside this file for the versions that the committed cases
were made with.
"""

import argparse
import json
from pathlib import Path

import torch


def safetensors(out: Path, seed: int) -> None:
    """One tensor of every number type, with the values that rounding and signs make tricky."""
    from safetensors.torch import save_file

    special = [0, -0.0, 1, -1.5, 65504, 6.1e-5, 5.96e-8, torch.inf, -torch.inf, torch.nan, 3.14159, 1e-30]
    floats = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    tensors = {
        name.lower(): torch.tensor(special, dtype=torch.float64).to(dtype).reshape(3, 4)
        for name, dtype in floats.items()
    }
    for bits in (64, 32, 16, 8):
        for sign in ("i", "u"):
            dtype = getattr(torch, f"{'u' if sign == 'u' else ''}int{bits}")
            info = torch.iinfo(dtype)
            tensors[f"{sign}{bits}"] = torch.tensor([info.min, info.max, 0, 1, 42, 7], dtype=dtype)
    tensors |= {
        "bool": torch.tensor([[True, False], [False, True]]),
        "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3),
    }
    save_file(tensors, out / "dtypes.safetensors", metadata={"format": "pt"})
    names = {"scalar": "F32", "empty": "F32"}
    expected = {
        name: {
            "dtype": names.get(name, name.upper()),
            "shape": list(t.shape),
            "values": [number(x) for x in (t.double() if t.is_floating_point() else t).flatten().tolist()],
        }
        for name, t in tensors.items()
    }
    (out / "dtypes.json").write_text(json.dumps(expected, indent=0))


def number(value: float | int | bool) -> str:
    """The decimal text of a number as JavaScript reads it."""
    text = repr(int(value) if isinstance(value, bool) else value)
    return text.replace("inf", "Infinity").replace("nan", "NaN")


KINDS = {"safetensors": safetensors}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=1234)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    KINDS[args.kind](args.folder, args.seed)


if __name__ == "__main__":
    main()
