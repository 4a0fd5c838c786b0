"""Steps of bitsandbytes' AdamW with averages in 8 and 32 bits, on CPU: writes FILE.safetensors and FILE.json.

`python paged_adamw.py FILE`; start and gradients are drawn from numpy's RandomState, as the test does.
Codes are those of its generic backend (the nearest level); its AVX kernels miss it in 0.7 % of cases.
"""
import json
import sys

import bitsandbytes as bnb
import numpy as np
import torch
from bitsandbytes.backends.cpu import ops
from bitsandbytes.optim import AdamW
from safetensors.torch import save_file

SEED = 5
SHAPES = [[4400], [33, 30]]
STEPS = 6
OPTIONS = [
    {"lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.0},
    {"lr": 3e-3, "betas": [0.8, 0.99], "eps": 1e-6, "weight_decay": 0.1},
]


def nearest(values, code, absmax_out, codes_out, blocksize):
    """bitsandbytes' generic quantize_blockwise."""
    padded = torch.nn.functional.pad(values.flatten(), (0, -values.numel() % blocksize))
    blocks = padded.reshape(-1, blocksize)
    absmax = blocks.abs().max(dim=-1)[0]
    scaled = torch.clamp(blocks * (1 / absmax.clamp(min=1e-38).view(-1, 1)), -1, 1)
    codes = torch.argmin(torch.abs(scaled.unsqueeze(-1) - code), dim=-1).to(torch.uint8)
    codes_out.copy_(codes.flatten()[: values.numel()].reshape(codes_out.shape))
    absmax_out.copy_(absmax)


ops._quant_blockwise_fp32_direct = nearest


def draw(random, shape, size):
    return (random.standard_normal(shape) * size).astype(np.float32)


def main(path):
    random = np.random.RandomState(SEED)
    start = [draw(random, shape, 1) for shape in SHAPES]
    grads = [[draw(random, shape, 0.1 ** (t % 3)) for shape in SHAPES] for t in range(STEPS)]
    for step in grads:
        step[0][256:512] = 0
    tensors, cases = {}, []
    for bits in (8, 32):
        for options in OPTIONS:
            params = [torch.nn.Parameter(torch.from_numpy(values.copy())) for values in start]
            optimizer = AdamW(params, optim_bits=bits, **{**options, "betas": tuple(options["betas"])})
            for t, step in enumerate(grads):
                for param, grad in zip(params, step):
                    param.grad = torch.from_numpy(grad.copy())
                optimizer.step()
                for i, param in enumerate(params):
                    tensors[f"{len(cases)}.step{t}.param.{i}"] = param.detach().flatten().clone()
            for i, param in enumerate(params):
                for name in ("state1", "state2", "absmax1", "absmax2"):
                    if name in optimizer.state[param]:
                        tensors[f"{len(cases)}.{name}.{i}"] = optimizer.state[param][name].flatten().clone()
            cases.append({"bits": bits, **options})
    save_file(tensors, f"{path}.safetensors")
    versions = {"bitsandbytes": bnb.__version__, "torch": torch.__version__, "numpy": np.__version__}
    about = {"versions": versions, "seed": SEED, "shapes": SHAPES, "steps": STEPS, "cases": cases}
    with open(f"{path}.json", "w") as file:
        json.dump(about, file, indent=1)


main(sys.argv[1])
