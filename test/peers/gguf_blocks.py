"""python gguf_blocks.py FILE --seed N: blocks of every GGUF type, as ggml packs and gguf-py reads them.

Rows of 256 numbers: normal ones of several sizes, outliers, zeros, constants, one sign, halves.
"""
import argparse
import ctypes
import pathlib

import gguf
import llama_cpp
import numpy as np
from gguf import GGMLQuantizationType as T
from safetensors.numpy import save_file

TYPES = ["F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL"]


def rows(seed):
    rng = np.random.default_rng(seed)
    normal = rng.standard_normal
    out = [normal(256) * size for size in (0.02, 1, 50, 1e-6)]
    outlier = normal(256) * 0.02
    outlier[rng.integers(0, 256, 3)] = (2.5, -3, 1)
    half_zero = normal(256)
    half_zero[:128] = 0
    out += [outlier, half_zero, np.zeros(256), np.full(256, 0.37), np.full(256, -0.11)]
    out += [np.abs(normal(256)), -np.abs(normal(256)), rng.integers(-8, 8, 256) / 2, rng.laplace(size=256)]
    out += [rng.uniform(-1, 1, 256), np.sign(normal(256)) * 0.5, normal(256) * np.repeat(10.0 ** rng.integers(-4, 2, 8), 32)]
    return np.stack(out).astype(np.float32)


def ggml():
    folder = pathlib.Path(llama_cpp.__file__).parent / "lib"
    lib = ctypes.CDLL(str(next(folder.glob("libggml-base.*"))))
    lib.ggml_quantize_chunk.restype = ctypes.c_size_t
    lib.ggml_quantize_chunk.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p] + [ctypes.c_int64] * 3 + [ctypes.c_void_p]
    return lib


def pack(lib, values, kind):
    if kind in ("F16", "BF16"):
        return gguf.quants.quantize(values, T[kind]).view(np.uint8).reshape(len(values), -1)
    size, width = gguf.GGML_QUANT_SIZES[T[kind]]
    out = np.zeros((len(values), values.shape[1] // size * width), np.uint8)
    lib.ggml_quantize_chunk(T[kind].value, values.ctypes.data, out.ctypes.data, 0, *values.shape, None)
    return out


def tensors(values):
    lib = ggml()
    out = {"source": values}
    for kind in TYPES:
        packed = pack(lib, values, kind)
        out[f"raw.{kind}"] = packed
        dense = packed.view(np.float16) if kind == "F16" else packed
        out[f"dequant.{kind}"] = np.ascontiguousarray(gguf.quants.dequantize(dense, T[kind]).astype(np.float32))
        if kind.startswith("Q") and not kind.endswith("_K"):
            assert np.array_equal(gguf.quants.quantize(values, T[kind]), packed), kind
    return out


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("file")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--random-rows", type=int, default=0, help="plain normal rows in the place of the odd ones")
    args = parser.parse_args()
    rng = np.random.default_rng(args.seed)
    plain = rng.standard_normal((args.random_rows, 256)).astype(np.float32)
    save_file(tensors(plain if args.random_rows else rows(args.seed)), args.file)
