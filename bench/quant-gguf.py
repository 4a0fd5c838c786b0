"""The peers of bench/quant-gguf.ts: a line of JSON [name, times to run] comes in, seconds each go out."""
import json
import sys
import time

import bitsandbytes.functional as bnb
import gguf
import numpy as np
import torch

SIZE = 4096
X = np.random.default_rng(0).standard_normal((SIZE, SIZE)).astype(np.float32)


def blocks(kind):
    return lambda: gguf.quants.quantize(X, gguf.GGMLQuantizationType[kind])


def numbers(kind):
    packed = gguf.quants.quantize(X, gguf.GGMLQuantizationType[kind])
    return lambda: gguf.quants.dequantize(packed, gguf.GGMLQuantizationType[kind])


class Grid:
    """Scale and zero of each row, symmetric, 4 bits."""

    def __init__(self, w, bits=4):
        self.top = 2**bits - 1
        size = torch.maximum(w.min(1)[0].clamp(max=0).abs(), w.max(1)[0].clamp(min=0))
        self.scale = torch.where(size == 0, 1.0, size) * 2 / self.top
        self.zero = (self.top + 1) / 2

    def __call__(self, column):
        code = torch.clamp(torch.round(column / self.scale) + self.zero, 0, self.top)
        return self.scale * (code - self.zero)


def gptq(w, inputs, group=128, damp=0.01, block=128):
    columns = w.shape[1]
    h = torch.zeros(columns, columns)
    for count, x in enumerate(inputs):
        h *= count / (count + 1)
        scaled = (2 / (count + 1)) ** 0.5 * x.t()
        h += scaled.matmul(scaled.t())
    h.diagonal().add_(damp * h.diagonal().mean())
    u = torch.linalg.cholesky(torch.cholesky_inverse(torch.linalg.cholesky(h)), upper=True)
    w, q = w.clone(), torch.zeros_like(w)
    for begin in range(0, columns, block):
        end = min(begin + block, columns)
        own, errors = w[:, begin:end].clone(), torch.zeros(w.shape[0], end - begin)
        inner = u[begin:end, begin:end]
        for i in range(end - begin):
            if (begin + i) % group == 0:
                grid = Grid(w[:, begin + i : begin + i + group])
            rounded = grid(own[:, i])
            q[:, begin + i] = rounded
            error = (own[:, i] - rounded) / inner[i, i]
            own[:, i:] -= error.unsqueeze(1).matmul(inner[i, i:].unsqueeze(0))
            errors[:, i] = error
        w[:, end:] -= errors.matmul(u[begin:end, end:])
    return q


def layer():
    torch.manual_seed(0)
    w = torch.randn(1024, 1024)
    mixed = torch.randn(128, 64, 64) @ torch.randn(64, 1024)
    inputs = mixed + torch.randn(128, 64, 1024)
    return lambda: gptq(w, inputs)


def pack(double):
    weight = torch.from_numpy(X)
    return lambda: bnb.quantize_4bit(weight, quant_type="nf4", compress_statistics=double)


def unpack(double):
    packed, state = bnb.quantize_4bit(torch.from_numpy(X), quant_type="nf4", compress_statistics=double)
    return lambda: bnb.dequantize_4bit(packed, state)


def dynamic():
    values = torch.from_numpy(X)
    return lambda: bnb.quantize_blockwise(values)


def undynamic():
    codes, state = bnb.quantize_blockwise(torch.from_numpy(X))
    return lambda: bnb.dequantize_blockwise(codes, state)


TASKS = {
    "NF4, quantize": lambda: pack(False),
    "NF4, dequantize": lambda: unpack(False),
    "NF4, double quantization, quantize": lambda: pack(True),
    "NF4, double quantization, dequantize": lambda: unpack(True),
    "8-bit blockwise, quantize": dynamic,
    "8-bit blockwise, dequantize": undynamic,
    "Q4_0 quantize": lambda: blocks("Q4_0"),
    "Q8_0 quantize": lambda: blocks("Q8_0"),
    "Q4_0 dequantize": lambda: numbers("Q4_0"),
    "Q8_0 dequantize": lambda: numbers("Q8_0"),
    "GPTQ": layer,
}

if len(sys.argv) > 1:
    torch.set_num_threads(int(sys.argv[1]))
made = {}
for line in sys.stdin:
    name, count = json.loads(line)
    run = made.setdefault(name, TASKS[name]())
    times = []
    for _ in range(count):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    print(json.dumps(times), flush=True)
