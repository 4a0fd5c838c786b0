"""Integer grids, fake quantization and HQQ by torch.ao and hqq. python integer.py FILE (torch 2.9.1, hqq 0.2.8.post1).

hqq/core/optimize.py and quantize.py are used as they are; install hqq with `pip install --no-deps hqq==0.2.8.post1`
and PyTorch beside it. HQQ_PATH names a folder that holds the package, if it is not installed."""
import importlib.util
import json
import os
import sys

import torch
from torch.ao.quantization import MinMaxObserver, PerChannelMinMaxObserver

torch.manual_seed(5)
SHAPE = (6, 32)
weight = torch.randn(SHAPE)
weight[2] += 1.5
weight[4] = 0
weight[5, 3] = 9.0


def grids():
    cases = []
    for bits in (2, 4, 8):
        for scheme in ("absmax", "zeropoint"):
            half = 2 ** (bits - 1) - 1
            low, high = (-half, half) if scheme == "absmax" else (0, 2**bits - 1)
            symmetric = scheme == "absmax"
            dtype = torch.qint8 if symmetric else torch.quint8
            for granularity in ("tensor", "channel", 8):
                rows = weight.reshape(-1, granularity) if granularity == 8 else weight
                common = dict(dtype=dtype, quant_min=low, quant_max=high, eps=1e-30)
                if granularity == "tensor":
                    kind = torch.per_tensor_symmetric if symmetric else torch.per_tensor_affine
                    observer = MinMaxObserver(qscheme=kind, **common)
                else:
                    kind = torch.per_channel_symmetric if symmetric else torch.per_channel_affine
                    observer = PerChannelMinMaxObserver(ch_axis=0, qscheme=kind, **common)
                observer(rows)
                scale, zero = observer.calculate_qparams()
                leaf = rows.clone().requires_grad_()
                if granularity == "tensor":
                    fake = torch.fake_quantize_per_tensor_affine(leaf, scale, zero.int(), low, high)
                else:
                    fake = torch.fake_quantize_per_channel_affine(leaf, scale, zero.int(), 0, low, high)
                cases.append(
                    dict(bits=bits, scheme=scheme, granularity=granularity, scales=scale.flatten().tolist(),
                         zeros=zero.flatten().tolist(), values=fake.detach().flatten().tolist()))
    return cases


def gradients():
    """A fixed grid that cuts values off: y and dx for dy = 1, 2, 3, ..."""
    x = torch.linspace(-3, 3, 41).requires_grad_()
    y = torch.fake_quantize_per_tensor_affine(x, 0.1, 7, 0, 15)
    y.backward(torch.arange(1.0, 42.0))
    return dict(x=x.tolist(), scale=0.1, zero=7, low=0, high=15, y=y.tolist(), dx=x.grad.tolist())


def module(name):
    folder = os.environ.get("HQQ_PATH") or importlib.util.find_spec("hqq").submodule_search_locations[0]
    spec = importlib.util.spec_from_file_location(name, os.path.join(folder, "core", name + ".py"))
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def hqq():
    optimize = module("optimize").optimize_weights_proximal_legacy
    cases = []
    for bits, group in ((2, 16), (3, 32), (4, 16), (8, 32)):
        matrix = torch.randn(8, 64) * 0.05
        matrix[:, 5] *= 12
        rows = matrix.reshape(-1, group)
        # The first grid, as hqq.core.quantize.Quantizer.quantize has it for axis=1.
        low, high = rows.min(1, keepdim=True)[0], rows.max(1, keepdim=True)[0]
        top = 2**bits - 1
        scale = (top / (high - low)).clamp(max=2e4)
        codes, scale, zero = optimize(rows, scale, -low * scale, [0, top], axis=1, device="cpu")
        values = (codes - zero) / scale
        cases.append(
            dict(nbits=bits, groupSize=group, shape=[8, 64], weight=matrix.flatten().tolist(),
                 codes=codes.flatten().tolist(), scales=(1 / scale).flatten().tolist(), zeros=zero.flatten().tolist(),
                 values=values.flatten().tolist()))
    return cases


result = dict(shape=list(SHAPE), weight=weight.flatten().tolist(), grids=grids(), gradients=gradients(), hqq=hqq())
with open(sys.argv[1], "w") as file:
    json.dump(result, file)
    file.write("\n")
