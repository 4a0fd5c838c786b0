"""Golden cases of quantization: 03_bnb (bitsandbytes' generic backend) and 05_gptq (auto_gptq on the CPU)."""

import hashlib
import random
from pathlib import Path

import torch
from manifest import write_manifest

BNB_TOLERANCE = {"offset_rtol": 1e-6}


def generic(name: str, *args):
    """The result of bitsandbytes' generic implementation of an op, also where it has one for CPUs."""
    op = getattr(torch.ops.bitsandbytes, name).default
    return op._op_dk(torch._C.DispatchKey.CompositeExplicitAutograd, *args)


def bnb_inputs(rng: random.Random) -> dict[str, torch.Tensor]:
    rows, columns = rng.choice([(24, 96), (48, 64), (40, 128)])
    zeros = torch.randn(8, 128) * 0.02
    zeros[rng.randrange(8)] = 0
    table = rng.choice([1.0, 0.37, 12.5])
    return {
        "normal": torch.randn(rows, columns) * rng.choice([0.02, 0.3, 4.0]),
        "uniform": (torch.rand(rows, columns) - 0.5) * 3,
        "heavy": torch.randn(16, 64) / torch.rand(16, 64).clamp(min=1e-3),
        "zeros": zeros,
        "ragged": torch.randn(rng.randint(3, 9), 2 * rng.randint(7, 23)),
        "odd": torch.randn(3, 2 * rng.randint(10, 30) + 1),
        "ties": torch.tensor([rng.choice([-1, 1]) * table * i / 64 for i in range(1, 129)]).view(2, 64),
        "big": torch.randn(96, 256) * 0.05,
    }


def bnb(out: Path, seed: int) -> None:
    """bitsandbytes' packed bytes: NF4, FP4, double quantization, 8-bit blocks, LLM.int8."""
    import bitsandbytes.functional as bf
    from safetensors.torch import save_file

    rng = random.Random(seed)
    torch.manual_seed(seed)
    inputs = bnb_inputs(rng)
    signed = bf.create_dynamic_map()
    tensors = {f"in.{name}": x for name, x in inputs.items()}
    four_bit = []
    for name, x in inputs.items():
        for quant_type in ("nf4", "fp4"):
            for blocksize in (32, 64, 128) if name == "normal" else (64,):
                for nested in (False, True) if name in ("normal", "big") else (False,):
                    for dtype in ("float32", "float16", "bfloat16") if name == "uniform" else ("float32",):
                        key = f"{name}.{quant_type}.{blocksize}.{nested}.{dtype}"
                        one = four_bit_case(key, x, quant_type, blocksize, nested, getattr(torch, dtype), signed)
                        four_bit.append({"key": key, "input": f"in.{name}", **one[0]})
                        tensors |= one[1]
    blocks = tensors["in8.blockwise"] = torch.randn(3, 300) * rng.choice([0.1, 2.0])
    blockwise = []
    for size in (64, 256, 4096):
        key = f"bw8.{size}"
        q, absmax = generic("quantize_blockwise", blocks, signed, size)
        back = generic("dequantize_blockwise", q, absmax, signed, size, torch.float32)
        tensors |= {f"{key}.q": q, f"{key}.absmax": absmax, f"{key}.dequant": back}
        blockwise.append({"key": key, "blocksize": size})
    int8 = int8_cases(rng, tensors)
    save_file({k: v.contiguous() for k, v in tensors.items()}, out / "expected.safetensors")
    fields = {"seed": seed, "four_bit": four_bit, "blockwise8": blockwise, "int8": int8, "tolerance": BNB_TOLERANCE}
    write_manifest(out, "03_bnb", ["bitsandbytes", "torch"], fields)


def four_bit_case(key, x, quant_type, blocksize, nested, dtype, signed) -> tuple[dict, dict]:
    packed, absmax = generic("quantize_4bit", x.to(dtype), blocksize, quant_type, torch.uint8)
    back = generic("dequantize_4bit", packed, absmax, blocksize, quant_type, x.shape, dtype)
    fields = {"quant_type": quant_type, "blocksize": blocksize, "compress_statistics": nested}
    tensors = {f"{key}.packed": packed}
    if nested:
        offset = absmax.mean()
        codes, outer = generic("quantize_blockwise", absmax - offset, signed, 256)
        scales = generic("dequantize_blockwise", codes, outer, signed, 256, torch.float32) + offset
        back = generic("dequantize_4bit", packed, scales, blocksize, quant_type, x.shape, dtype)
        tensors |= {f"{key}.absmax": codes, f"{key}.nested_absmax": outer, f"{key}.absmax_dequant": scales}
        fields["offset"] = offset.item()
    else:
        tensors[f"{key}.absmax"] = absmax
    tensors[f"{key}.dequant"] = back
    sha = hashlib.sha256(back.float().numpy().tobytes()).hexdigest()
    return fields | {"dtype": str(dtype), "shape": list(x.shape), "dequant_sha256": sha}, tensors


def int8_cases(rng: random.Random, tensors: dict) -> list[dict]:
    columns = rng.choice([32, 48])
    inputs = torch.randn(rng.randint(3, 9), columns)
    inputs[:, rng.randrange(columns)] *= 9
    weight = torch.randn(rng.choice([16, 24]), columns) * 0.2
    wq, scb, _ = generic("int8_vectorwise_quant", weight.half(), 0.0)
    aq, stats, _ = generic("int8_vectorwise_quant", inputs.half(), 0.0)
    product = generic("int8_linear_matmul", aq, wq)
    tensors |= {
        "int8.A": inputs,
        "int8.W": weight,
        "int8.Wq": wq,
        "int8.W_row_stats(SCB)": scb,
        "int8.W_dequant": wq.float() * scb.view(-1, 1) * 7.874015718698502e-3,
        "int8.acc_i32": product,
        "int8.mm_dequant_fp32": generic("int8_mm_dequant", product, stats, scb, torch.float32, None),
    }
    cases = []
    for threshold in (0.0, rng.choice([3.0, 6.0])):
        key = f"int8.th{threshold}"
        aq, stats, columns_out = generic("int8_vectorwise_quant", inputs.half(), threshold)
        tensors |= {f"{key}.Aq": aq, f"{key}.row_stats": stats}
        if columns_out is not None:
            tensors[f"{key}.outlier_cols"] = columns_out
        cases.append({"key": key, "threshold": threshold})
    return cases


def gptq(out: Path, seed: int) -> None:
    """auto_gptq's codes, scales, zero points and packed tensors of a layer (its wheel unpacked on PYTHONPATH)."""
    from auto_gptq.nn_modules.qlinear.qlinear_cuda import QuantLinear
    from auto_gptq.quantization.gptq import GPTQ
    from safetensors.torch import save_file

    torch.cuda.synchronize = lambda *_: None
    rng = random.Random(seed)
    torch.manual_seed(seed)
    columns, rows = rng.choice([(128, 64), (256, 32), (192, 64)])
    mix = torch.randn(columns, columns) / columns**0.5
    x = torch.randn(rng.randint(20, 40), 16, columns) @ (mix + 0.5 * torch.eye(columns))
    layer = torch.nn.Linear(columns, rows, bias=False)
    torch.nn.init.normal_(layer.weight, std=0.1)
    w = layer.weight.data.clone()
    tensors = {"W": w, "X": x}
    cases = []
    for _ in range(8):
        bits, group, sym = rng.choice([2, 3, 4, 8]), rng.choice([-1, 32, 64, 128]), rng.random() < 0.5
        if group > 0 and columns % group:
            group = 64
        act_order = rng.random() < 0.5
        static = act_order and group > 0 and rng.random() < 0.5
        damp = rng.choice([0.01, 0.05])
        key = f"b{bits}_g{group}_{'sym' if sym else 'asym'}_{act_order}_{static}_{damp}"
        layer.weight.data = w.clone()
        solver = GPTQ(layer)
        solver.add_batch(x, None)
        tensors.setdefault("H_diag_before_damp", solver.H.diagonal().clone())
        solver.quantizer.configure(bits, perchannel=True, sym=sym, mse=False)
        scale, zero, g_idx = solver.fasterquant(
            percdamp=damp, group_size=group, actorder=act_order, static_groups=static
        )
        q = layer.weight.data
        per_column = (scale[:, g_idx.long()], zero[:, g_idx.long()])
        codes = (q / per_column[0] + per_column[1]).round().clamp(0, 2**bits - 1).to(torch.uint8)
        tensors |= {f"{key}.codes": codes, f"{key}.scales": scale, f"{key}.zeros": zero, f"{key}.g_idx": g_idx.int()}
        wanted = x.reshape(-1, columns) @ w.T
        error = ((x.reshape(-1, columns) @ q.T - wanted) ** 2).sum() / (wanted**2).sum()
        case = {"key": key, "bits": bits, "group_size": group, "sym": sym, "act_order": act_order}
        case |= {"static_groups": static, "percdamp": damp, "gptq_rel_output_err": error.item()}
        packed = QuantLinear(bits, group, columns, rows, False)
        packed.pack(layer, scale.clone(), zero.clone(), g_idx.clone())
        for name in ("qweight", "qzeros", "scales", "g_idx"):
            value = getattr(packed, name)
            tensors[f"{key}.packed.{name}"] = value.half() if name == "scales" else value
        cases.append(case | {"packed": "AutoGPTQ v1: qzeros store zero - 1"})
    save_file({k: v.contiguous().clone() for k, v in tensors.items()}, out / "expected.safetensors")
    tolerance = {"codes_equal_fraction_min": 0.97, "rel_err_rtol": 0.02}
    write_manifest(out, "05_gptq", ["torch"], {"seed": seed, "cases": cases, "tolerance": tolerance})
