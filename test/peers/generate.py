"""Makes golden cases with the Python ecosystem: python generate.py KIND FOLDER [--seed N]

Each case is a folder with a manifest.json whose `case` names its kind. README.md beside this file
tells which packages, and the versions that the committed cases were made with.
"""

import argparse
import inspect
import json
import random
from pathlib import Path

import torch
from generate_peft import adapter_merges, adapter_training, adapters_of_peft
from generate_quant import bnb, gptq
from generate_tokenizers import bpe, sentencepiece, tokenizers_
from generate_trl import dpo_loss, packing
from manifest import write_manifest


# --- 01_models: tiny models with random weights, shapes and rotary variants -----------------------


def rope_variants(rng: random.Random, head_dim: int) -> dict[str, dict]:
    theta = rng.choice([1e4, 5e4, 5e5])
    factors = lambda low, high: [round(rng.uniform(low, high), 3) for _ in range(head_dim // 2)]
    return {
        "default": {"rope_type": "default", "rope_theta": theta},
        "linear": {"rope_type": "linear", "rope_theta": theta, "factor": rng.choice([2.0, 3.5])},
        "dynamic": {"rope_type": "dynamic", "rope_theta": theta, "factor": rng.choice([2.0, 4.0])},
        "yarn": {
            "rope_type": "yarn",
            "rope_theta": theta,
            "factor": rng.choice([4.0, 8.0]),
            "original_max_position_embeddings": rng.choice([16, 32]),
        },
        "yarn_scaled": {
            "rope_type": "yarn",
            "rope_theta": theta,
            "factor": 4.0,
            "original_max_position_embeddings": 16,
            "beta_fast": 8.0,
            "beta_slow": 0.5,
            "mscale": 0.7,
            "mscale_all_dim": 0.5,
        },
        "llama3": {
            "rope_type": "llama3",
            "rope_theta": theta,
            "factor": rng.choice([4.0, 8.0]),
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": rng.choice([16, 32]),
        },
        "longrope": {
            "rope_type": "longrope",
            "rope_theta": theta,
            "short_factor": factors(1, 1.5),
            "long_factor": factors(1.5, 6),
            "original_max_position_embeddings": rng.choice([8, 64]),
        },
    }


def model_configs(seed: int) -> dict:
    from transformers import GPT2Config, LlamaConfig

    rng = random.Random(seed)
    configs = {}
    for rope in rope_variants(rng, 8):
        kv, ratio = rng.choice([(1, 4), (2, 1), (2, 2), (2, 3), (3, 3)])
        heads, head_dim = kv * ratio, rng.choice([8, 12, 16])
        configs[f"llama_{rope}"] = LlamaConfig(
            vocab_size=rng.choice([61, 96, 131]),
            hidden_size=heads * rng.choice([8, 12]),
            intermediate_size=rng.choice([40, 56, 72]),
            num_hidden_layers=rng.choice([1, 2, 3]),
            num_attention_heads=heads,
            num_key_value_heads=kv,
            head_dim=head_dim,
            hidden_act=rng.choice(["silu", "gelu", "gelu_pytorch_tanh", "relu"]),
            max_position_embeddings=10 if rope == "dynamic" else 64,
            rms_norm_eps=rng.choice([1e-5, 1e-6]),
            attention_bias=rng.random() < 0.5,
            mlp_bias=rng.random() < 0.5,
            tie_word_embeddings=rng.random() < 0.5,
            rope_parameters=rope_variants(rng, head_dim)[rope],
        )
    for i in range(3):
        heads = rng.choice([2, 3, 4])
        configs[f"gpt2_{i}"] = GPT2Config(
            vocab_size=rng.choice([61, 96, 131]),
            n_positions=64,
            n_embd=heads * rng.choice([8, 12]),
            n_layer=rng.choice([1, 2, 3]),
            n_head=heads,
            n_inner=rng.choice([None, 50]),
            activation_function=rng.choice(["gelu_new", "gelu", "relu", "quick_gelu"]),
            scale_attn_by_inverse_layer_idx=rng.random() < 0.5,
            scale_attn_weights=rng.random() < 0.7,
            tie_word_embeddings=rng.random() < 0.7,
            bos_token_id=1,
            eos_token_id=2,
            resid_pdrop=0,
            embd_pdrop=0,
            attn_pdrop=0,
        )
    return configs


def models(out: Path, seed: int) -> None:
    """Logits, hidden states, losses, greedy output and parameter counts of tiny models."""
    for name, config in model_configs(seed).items():
        model_case(out / name, name, config, seed)


def model_case(out: Path, name: str, config, seed: int) -> None:
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval().float()
    with torch.no_grad():
        for weight in model.parameters():
            is_norm = weight.ndim == 1
            weight.copy_(torch.randn(weight.shape) * (0.3 if is_norm else 0.25) + (1 if is_norm else 0))
    out.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(out)
    ids = torch.randint(3, config.vocab_size, (2, 12))
    mask = torch.ones_like(ids)
    mask[1, :3] = 0
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    masked = ids.clone()
    masked[:, :6] = -100
    with torch.no_grad():
        plain = model(ids, output_hidden_states=True, labels=ids)
        padded = model(ids, attention_mask=mask, position_ids=positions)
        half = model(ids, labels=masked).loss.item()
        prompt = ids[:1, :5]
        greedy = model.generate(prompt, max_new_tokens=16, do_sample=False, pad_token_id=0, eos_token_id=None)
        again = model(greedy).logits[0, 4:-1].topk(2).values
    tensors = {f"hidden_states.{i}": h for i, h in enumerate(plain.hidden_states)} | {
        "logits": plain.logits,
        "logits_leftpad": padded.logits,
        "input_ids": ids.int(),
        "attention_mask_leftpad": mask.int(),
    }
    save_file({k: v.contiguous() for k, v in tensors.items()}, out / "expected.safetensors")
    expected = {
        "logits": "expected.safetensors:logits",
        "logits_leftpad": "compare only rows where mask==1",
        "hidden_states": "expected.safetensors:hidden_states.N",
        "loss_labels_eq_inputs": plain.loss.item(),
        "loss_labels_first6_masked": half,
        "greedy_prompt": prompt[0].tolist(),
        "greedy_output": greedy[0].tolist(),
        "greedy_min_top2_margin": (again[:, 0] - again[:, 1]).min().item(),
        "num_parameters": model.num_parameters(),
        "num_parameters_exclude_embeddings": model.num_parameters(exclude_embeddings=True),
    }
    tolerance = {"logits_atol": 1e-4, "logits_rtol": 1e-4, "loss_atol": 1e-5, "greedy": "exact"}
    fields = {"name": name, "seed": seed, "expected": expected, "tolerance": tolerance}
    write_manifest(out, "01_models", ["transformers", "torch", "safetensors"], fields)


# --- 08_schedules ---------------------------------------------------------------------------------


def schedules(out: Path, seed: int) -> None:
    """Learning rates of every schedule with random lengths and options."""
    from transformers import get_scheduler

    rng = random.Random(seed)
    cases = []
    for name, kwargs in schedule_options(rng):
        lr, warmup, steps = rng.choice([1e-3, 3e-4, 2e-5]), rng.choice([0, 1, 4, 7]), rng.randint(20, 40)
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
        scheduler = get_scheduler(name, optimizer, warmup, steps, scheduler_specific_kwargs=kwargs)
        lrs = []
        for _ in range(steps + 3):
            lrs.append(scheduler.get_last_lr()[0])
            optimizer.step()
            scheduler.step()
        cases.append(
            {"name": name, "base_lr": lr, "num_warmup_steps": warmup, "num_training_steps": steps}
            | {"kwargs": kwargs, "lrs": lrs}
        )
    fields = {"schedules": cases, "tolerance": {"rtol": 1e-12}}
    write_manifest(out, "08_schedules", ["transformers", "torch"], fields)


def schedule_options(rng: random.Random) -> list[tuple[str, dict]]:
    shapes = ["linear", "cosine", "1-sqrt"]
    return [
        ("constant", {}),
        ("constant_with_warmup", {}),
        ("linear", {}),
        ("cosine", {}),
        ("cosine", {"num_cycles": rng.choice([0.25, 1.5])}),
        ("cosine_with_restarts", {}),
        ("cosine_with_restarts", {"num_cycles": rng.randint(2, 4)}),
        ("polynomial", {}),
        ("polynomial", {"lr_end": 1e-6, "power": rng.choice([0.5, 2.0, 3.0])}),
        ("inverse_sqrt", {}),
        ("inverse_sqrt", {"timescale": rng.randint(5, 50)}),
        ("cosine_with_min_lr", {"min_lr_rate": rng.choice([0.1, 0.3])}),
        ("cosine_with_min_lr", {"min_lr": 1e-6, "num_cycles": 1.0}),
        ("cosine_warmup_with_min_lr", {"min_lr_rate": 0.1}),
        ("cosine_warmup_with_min_lr", {"min_lr_rate": 0.2, "warmup_lr_rate": rng.choice([0.1, 0.4])}),
        ("warmup_stable_decay", {"num_decay_steps": rng.randint(3, 8)}),
        *(
            ("warmup_stable_decay", {"num_decay_steps": 5, "min_lr_ratio": 0.1, "warmup_type": w, "decay_type": d})
            for w in shapes
            for d in shapes
        ),
        ("warmup_stable_decay", {"num_decay_steps": 4, "num_stable_steps": 6, "num_cycles": 1.5}),
    ]


# --- safetensors ----------------------------------------------------------------------------------


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


def generation(out: Path, seed: int) -> None:
    """Scores after transformers' logits processors, and its outputs for prompts of unequal length."""
    from transformers import AutoModelForCausalLM, GenerationConfig

    torch.manual_seed(seed)
    folder = Path(__file__).parent / "01_models" / "llama_b"
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    processed = []
    for options in (
        {"repetition_penalty": 1.3},
        {"do_sample": True, "temperature": 0.7},
        {"do_sample": True, "top_k": 5},
        {"do_sample": True, "top_k": 0, "top_p": 0.6},
        {"do_sample": True, "temperature": 1.7, "top_k": 12, "top_p": 0.8, "repetition_penalty": 1.2},
        {"do_sample": True, "top_k": 3, "top_p": 0.01},
    ):
        ids, scores = torch.randint(0, 40, (1, 9)), torch.randn(1, 40) * 2
        config = GenerationConfig(**options)
        config.top_k = options.get("top_k", 50)
        processors = model._get_logits_processor(config, input_ids_seq_length=9, device="cpu")
        result = [x if x > -1e30 else None for x in processors(ids, scores.clone())[0].tolist()]
        processed.append({"options": options, "ids": ids[0].tolist(), "scores": scores[0].tolist(), "result": result})
    prompts = [torch.randint(3, 96, (n,)).tolist() for n in (3, 7, 1, 5)]
    width = max(map(len, prompts))
    padded = torch.tensor([[0] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    batches = []
    for options in ({}, {"repetition_penalty": 1.5}, {"eos_token_id": [17, 5]}):
        outputs = model.generate(
            padded, attention_mask=mask, max_new_tokens=12, do_sample=False, pad_token_id=0, **options
        )
        batches.append({"options": options, "outputs": outputs[:, width:].tolist()})
    fields = {"processed": processed, "prompts": prompts, "batches": batches}
    (out / "generation.json").write_text(json.dumps(fields))


def activations(out: Path, seed: int) -> None:
    """Values of transformers' activation functions."""
    from transformers.activations import ACT2FN

    names = ["silu", "gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "quick_gelu", "relu", "relu2", "relu6"]
    x = torch.linspace(-6, 6, 49)
    values = {name: ACT2FN[name](x).tolist() for name in [*names, "leaky_relu", "tanh", "sigmoid", "mish", "linear"]}
    (out / "activations.json").write_text(json.dumps({"x": x.tolist(), "values": values}))


def number(value: float | int | bool) -> str:
    """The decimal text of a number as JavaScript reads it."""
    text = repr(int(value) if isinstance(value, bool) else value)
    return text.replace("inf", "Infinity").replace("nan", "NaN")


KINDS = {
    "models": models,
    "peft": adapters_of_peft,
    "train": adapter_training,
    "peft_merge": adapter_merges,
    "schedules": schedules,
    "bnb": bnb,
    "gptq": gptq,
    "packing": packing,
    "dpo_loss": dpo_loss,
    "tokenizers": tokenizers_,
    "safetensors": safetensors,
    "generation": generation,
    "activations": activations,
    "bpe": bpe,
    "sentencepiece": sentencepiece,
}


def main() -> None:
    kinds = "\n".join(f"  {name}: {inspect.getdoc(make)}" for name, make in KINDS.items())
    parser = argparse.ArgumentParser(
        description=f"{__doc__}\n{kinds}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=1234)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    KINDS[args.kind](args.folder, args.seed)


if __name__ == "__main__":
    main()
