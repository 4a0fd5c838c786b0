"""Golden cases of adapters: 02_peft, 02_train, 07_peft_merge, with the layout that test/parity reads."""

import random
from pathlib import Path

import torch
from manifest import write_manifest

PACKAGES = ["peft", "transformers", "torch", "safetensors"]


# --- base models ----------------------------------------------------------------------------------


def save_bases(out: Path, rng: random.Random) -> dict[str, Path]:
    """Small models with random weights: biases, grouped heads, tied and untied heads."""
    from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

    heads = rng.choice([2, 4])
    common = dict(vocab_size=rng.choice([61, 97]), num_hidden_layers=rng.choice([2, 3]), max_position_embeddings=64)
    llama = dict(hidden_size=24, intermediate_size=rng.choice([40, 52]), num_attention_heads=4, head_dim=rng.choice([6, 8]))
    gpt2 = dict(vocab_size=61, n_positions=64, n_embd=8 * heads, n_layer=2, n_head=heads, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0)
    configs = {
        "llama": LlamaConfig(**common, **llama, num_key_value_heads=4, tie_word_embeddings=False),
        "llama_gqa": LlamaConfig(**common, **llama, num_key_value_heads=rng.choice([1, 2]), tie_word_embeddings=True),
        "llama_bias": LlamaConfig(
            **common, **llama, num_key_value_heads=2, attention_bias=True, mlp_bias=True, tie_word_embeddings=False
        ),
        "gpt2": GPT2Config(**gpt2),
        "gpt2_untied": GPT2Config(**gpt2, n_inner=rng.choice([24, 50]), tie_word_embeddings=False),
    }
    for name, config in configs.items():
        torch.manual_seed(rng.randrange(10**6))
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float()
        with torch.no_grad():
            for weight in model.parameters():
                noise = 0.25 * torch.randn(weight.shape)
                weight.copy_(noise + (1 if weight.ndim == 1 and weight.mean() == 1 else 0))
        model.save_pretrained(out / name)
    return {name: out / name for name in configs}


def load_base(folder: Path):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    model.config._name_or_path = model.name_or_path = folder.name  # what an adapter's config says of its base
    return model


# --- 02_peft --------------------------------------------------------------------------------------


def peft_configs(rng: random.Random) -> dict[str, tuple[str, str, dict]]:
    """Name: (base, config class, options)."""
    r = lambda: rng.randint(1, 9)
    alpha = lambda: rng.choice([1, 4, 7, 16, 33])
    attention = rng.sample(["q_proj", "k_proj", "v_proj", "o_proj"], rng.randint(1, 4))
    mlp = rng.sample(["gate_proj", "up_proj", "down_proj"], rng.randint(1, 3))
    lora = lambda **more: dict(r=r(), lora_alpha=alpha()) | more
    any_llama = lambda: rng.choice(["llama", "llama_gqa", "llama_bias"])
    any_gpt2 = lambda: rng.choice(["gpt2", "gpt2_untied"])
    return {
        "default_llama": (any_llama(), "LoraConfig", {}),
        "default_gpt2": (any_gpt2(), "LoraConfig", {}),
        "lists": (any_llama(), "LoraConfig", lora(target_modules=attention + mlp)),
        "all_linear": (any_llama(), "LoraConfig", lora(target_modules="all-linear")),
        "all_linear_gpt2": (any_gpt2(), "LoraConfig", lora(target_modules="all-linear")),
        "one_path": ("llama", "LoraConfig", lora(target_modules=["model.layers.1.mlp.up_proj", "q_proj"])),
        "regex": (any_llama(), "LoraConfig", lora(target_modules=r".*\.[01]\.(self_attn|mlp)\.(v|down)_proj")),
        "regex_gpt2": (any_gpt2(), "LoraConfig", lora(target_modules=r"transformer\.h\.\d+\.(attn\.c_attn|mlp\.c_proj)")),
        "exclude": (any_llama(), "LoraConfig", lora(target_modules=["q_proj", "up_proj"], exclude_modules=["layers.0.mlp.up_proj"])),
        "exclude_regex": (any_llama(), "LoraConfig", lora(target_modules="all-linear", exclude_modules=r".*(o|gate)_proj")),
        "layers": (any_llama(), "LoraConfig", lora(target_modules=["v_proj", "down_proj"], layers_to_transform=[0])),
        "layers_int": (any_gpt2(), "LoraConfig", lora(target_modules=["c_fc"], layers_to_transform=1, layers_pattern="h")),
        "patterns": (
            any_llama(),
            "LoraConfig",
            lora(
                target_modules="all-linear",
                rank_pattern={r"layers\.0\..*\.(q|up)_proj": r(), "down_proj": r(), "^model.layers.1.mlp.gate_proj": r()},
                alpha_pattern={"v_proj": alpha(), r".*1\.mlp.*": alpha()},
            ),
        ),
        "patterns_gpt2": (
            any_gpt2(),
            "LoraConfig",
            lora(target_modules=["c_attn", "c_proj"], rank_pattern={"mlp.c_proj": r()}, alpha_pattern={r"0\.attn\.c_proj": alpha()}),
        ),
        "big_rank": (any_llama(), "LoraConfig", dict(r=70, lora_alpha=alpha(), target_modules=["k_proj", "up_proj"])),
        "rslora": (any_llama(), "LoraConfig", lora(use_rslora=True, target_modules=attention, rank_pattern={"q_proj": r()})),
        "rslora_gpt2": (any_gpt2(), "LoraConfig", lora(use_rslora=True, target_modules=["c_proj"])),
        "dora": (any_llama(), "LoraConfig", lora(use_dora=True, target_modules=attention + mlp)),
        "dora_bias": ("llama_bias", "LoraConfig", lora(use_dora=True, target_modules="all-linear")),
        "dora_gpt2": (any_gpt2(), "LoraConfig", lora(use_dora=True, use_rslora=True, target_modules=["c_attn", "c_fc"])),
        "bias_all": ("llama_bias", "LoraConfig", lora(bias="all", target_modules=attention)),
        "bias_all_gpt2": (any_gpt2(), "LoraConfig", lora(bias="all", target_modules=["c_fc"])),
        "bias_lora_only": ("llama_bias", "LoraConfig", lora(bias="lora_only", target_modules=mlp)),
        "bias_lora_only_gpt2": (any_gpt2(), "LoraConfig", lora(bias="lora_only", target_modules=["c_proj"])),
        "dora_bias_all_gpt2": (any_gpt2(), "LoraConfig", lora(bias="all", use_dora=True, target_modules=["c_proj"])),
        "save_head": ("llama", "LoraConfig", lora(modules_to_save=["lm_head"])),
        "save_norms": (any_llama(), "LoraConfig", lora(modules_to_save=["norm", "input_layernorm"], target_modules=["q_proj"])),
        "save_bias_all": (any_gpt2(), "LoraConfig", lora(bias="all", modules_to_save=["ln_f"], target_modules=["c_fc"])),
        "save_mlp_bias_all": (any_gpt2(), "LoraConfig", lora(bias="all", modules_to_save=["mlp"])),
        "save_embed": ("llama", "LoraConfig", lora(modules_to_save=["embed_tokens"])),
        "save_gpt2": (any_gpt2(), "LoraConfig", lora(modules_to_save=["ln_f", "mlp.c_fc"])),
        "embedding": ("llama", "LoraConfig", lora(target_modules=["embed_tokens", "v_proj"])),
        "embedding_head": ("llama_bias", "LoraConfig", lora(target_modules=["embed_tokens", "lm_head"])),
        "embedding_gpt2": ("gpt2_untied", "LoraConfig", lora(target_modules=["wte", "wpe"])),
        "embedding_tied_gpt2": ("gpt2", "LoraConfig", lora(target_modules=["wte", "c_attn"])),
        "embedding_tied": ("llama_gqa", "LoraConfig", lora(target_modules=["embed_tokens"])),
        "pissa": (any_llama(), "LoraConfig", dict(r=4, lora_alpha=alpha(), init_lora_weights="pissa")),
        "gaussian": (any_llama(), "LoraConfig", lora(init_lora_weights="gaussian")),
        "ia3_llama": (any_llama(), "IA3Config", {}),
        "ia3_gpt2": (any_gpt2(), "IA3Config", {}),
        "ia3_lists": ("llama_bias", "IA3Config", dict(target_modules=["q_proj", "up_proj", "o_proj"], feedforward_modules=["up_proj"])),
        "ia3_none": (any_llama(), "IA3Config", dict(target_modules=["q_proj", "down_proj"], feedforward_modules=[])),
        "ia3_regex": (any_llama(), "IA3Config", dict(target_modules=r".*(v|down)_proj", feedforward_modules=r".*down_proj")),
        "ia3_save": ("llama", "IA3Config", dict(modules_to_save=["lm_head"])),
        "ia3_exclude": (any_gpt2(), "IA3Config", dict(target_modules=["c_attn", "mlp.c_fc"], feedforward_modules=["mlp.c_fc"], exclude_modules=["h.0.mlp.c_fc"])),
        "vera": (any_llama(), "VeraConfig", dict(r=rng.randint(3, 20), target_modules=["q_proj", "down_proj"], d_initial=0.3)),
        "vera_gpt2": (any_gpt2(), "VeraConfig", dict(r=5, projection_prng_key=rng.randrange(1000))),
        "vera_key": (any_llama(), "VeraConfig", dict(r=6, save_projection=False, projection_prng_key=rng.randrange(1000), target_modules=["v_proj", "up_proj"])),
        "vera_layers": (any_llama(), "VeraConfig", dict(r=6, target_modules=["q_proj"], layers_to_transform=[1])),
        "prefix": (any_llama(), "PrefixTuningConfig", dict(num_virtual_tokens=rng.randint(1, 6))),
        "prefix_gqa": ("llama_gqa", "PrefixTuningConfig", dict(num_virtual_tokens=rng.randint(1, 6))),
        "prefix_gpt2": (any_gpt2(), "PrefixTuningConfig", dict(num_virtual_tokens=rng.randint(1, 6))),
        "projection": (any_gpt2(), "PrefixTuningConfig", dict(num_virtual_tokens=3, prefix_projection=True, encoder_hidden_size=rng.randint(4, 20))),
        "projection_gqa": ("llama_gqa", "PrefixTuningConfig", dict(num_virtual_tokens=3, prefix_projection=True)),
        "prompt": (any_llama(), "PromptTuningConfig", dict(num_virtual_tokens=rng.randint(1, 6))),
        "prompt_gpt2": (any_gpt2(), "PromptTuningConfig", dict(num_virtual_tokens=rng.randint(1, 6))),
    }


def randomize(model: torch.nn.Module) -> None:
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.add_(0.08 * torch.randn(weight.shape))


def adapter_grads(model) -> dict[str, torch.Tensor]:
    """Gradients by the keys that the adapter's file has."""
    from peft import get_peft_model_state_dict

    grads = {p.data_ptr(): torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters() if p.requires_grad}
    state = get_peft_model_state_dict(model)
    twice = (".modules_to_save.", ".original_module.")  # with bias="all" these come under two names
    own = {key: t.data_ptr() for key, t in state.items() if not any(part in key for part in twice)}
    return {f"grad:{key}": grads[at] for key, at in own.items() if at in grads}


def adapters_of_peft(out: Path, seed: int) -> None:
    """Adapters of every method with unusual options: logits, gradients, merged weights, counts."""
    rng = random.Random(seed)
    bases = save_bases(out / "bases", rng)
    for name, (base, kind, options) in peft_configs(rng).items():
        peft_case(out / name, bases[base], kind, options, seed=rng.randrange(10**6))


def peft_case(out: Path, base: Path, kind: str, options: dict, seed: int) -> None:
    import peft
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    config = getattr(peft, kind)(task_type="CAUSAL_LM", **options)
    model = peft.get_peft_model(load_base(base), config)
    is_pissa = options.get("init_lora_weights") == "pissa"
    if is_pissa:  # its base is another one; save the adapter as it is in a model of the plain base
        config = peft.LoraConfig(task_type="CAUSAL_LM", **(options | {"init_lora_weights": True}))
        model = peft.get_peft_model(load_base(base), config)
    randomize(model)
    model.save_pretrained(out)
    line = trainable_line(model)
    counts = list(model.get_nb_trainable_parameters())
    ids = torch.randint(3, model.config.vocab_size, (2, 9))
    labels = ids.clone()
    labels[0, :3] = -100
    projected = options.get("prefix_projection", False)
    if projected:  # what is saved is no longer projected
        model = peft.PeftModel.from_pretrained(load_base(base), out)
    model.eval()
    result = model(input_ids=ids, labels=labels)
    tensors = {"logits": result.logits, "input_ids": ids.int(), "labels": labels.int()}
    if not projected:
        result.loss.backward()
        tensors |= adapter_grads(model)
    loss = result.loss.item()
    if not config.is_prompt_learning:
        before = {k: v.clone() for k, v in load_base(base).state_dict().items()}
        merged = model.merge_and_unload().state_dict()
        tensors |= {f"merged:{k}": v for k, v in merged.items() if k not in before or not torch.equal(v, before[k])}
    save_file({k: v.detach().clone().contiguous() for k, v in tensors.items()}, out / "expected.safetensors")
    fields = {
        "name": out.name,
        "base_model": f"../bases/{base.name}",
        "seed": seed,
        "expected": {"print_trainable_parameters": line, "trainable_all": counts, "loss": loss},
        "tolerance": {"logits_atol": 2e-4, "loss_atol": 2e-5, "grad_atol": 1e-5, "grad_rtol": 1e-3, "merged_atol": 2e-6},
    }
    write_manifest(out, "02_peft", PACKAGES, fields)


def trainable_line(model) -> str:
    from contextlib import redirect_stdout
    from io import StringIO

    text = StringIO()
    with redirect_stdout(text):
        model.print_trainable_parameters()
    return text.getvalue().strip()


# --- 02_train -------------------------------------------------------------------------------------


def adapter_training(out: Path, seed: int) -> None:
    """Five steps of AdamW on adapters of several methods, with random rates and schedules."""
    rng = random.Random(seed)
    bases = save_bases(out / "bases", rng)
    adapters = {
        "lora": ("llama_gqa", "LoraConfig", dict(r=rng.randint(1, 6), target_modules="all-linear")),
        "lora_gpt2": ("gpt2", "LoraConfig", dict(r=3, target_modules=["c_proj", "c_fc"], bias="lora_only")),
        "dora_gpt2": ("gpt2_untied", "LoraConfig", dict(r=3, use_dora=True, target_modules=["c_attn", "c_proj"])),
        "dora": ("llama_bias", "LoraConfig", dict(r=4, use_dora=True, target_modules=["q_proj", "down_proj"])),
        "ia3": ("llama", "IA3Config", {}),
        "vera": ("llama", "VeraConfig", dict(r=8, target_modules=["q_proj", "up_proj"])),
        "prefix": ("llama_gqa", "PrefixTuningConfig", dict(num_virtual_tokens=3)),
        "prompt": ("gpt2", "PromptTuningConfig", dict(num_virtual_tokens=3)),
        "save_head": ("llama", "LoraConfig", dict(r=2, modules_to_save=["lm_head"])),
        "embedding": ("llama", "LoraConfig", dict(r=2, target_modules=["embed_tokens", "v_proj"])),
    }
    for name, (base, kind, options) in adapters.items():
        train_case(out / name, bases[base], kind, options, rng)


def train_case(out: Path, base: Path, kind: str, options: dict, rng: random.Random) -> None:
    import peft
    from safetensors.torch import save_file
    from transformers import get_scheduler

    seed = rng.randrange(10**6)
    torch.manual_seed(seed)
    config = getattr(peft, kind)(task_type="CAUSAL_LM", **options)
    model = peft.get_peft_model(load_base(base), config)
    randomize(model)
    model.save_pretrained(out / "adapter_init")
    numbers = {
        "lr": rng.choice([2e-2, 5e-3, 1e-3]),
        "betas": rng.choice([[0.9, 0.95], [0.9, 0.999], [0.8, 0.99]]),
        "eps": rng.choice([1e-8, 1e-6]),
        "weight_decay": rng.choice([0.0, 0.1]),
        "schedule": rng.choice(["linear", "cosine", "constant_with_warmup"]),
        "num_warmup_steps": rng.choice([0, 1, 2]),
        "num_training_steps": 10,
        "max_grad_norm": rng.choice([0.5, 1.0]),
        "gradient_accumulation": 1,
        "steps": 5,
    }
    params = [p for p in model.parameters() if p.requires_grad]
    names = ("lr", "betas", "eps", "weight_decay")
    optimizer = torch.optim.AdamW(params, **{name: numbers[name] for name in names})
    scheduler = get_scheduler(numbers["schedule"], optimizer, numbers["num_warmup_steps"], numbers["num_training_steps"])
    batches = torch.randint(3, model.config.vocab_size, (5, 4, 10))
    model.eval()
    losses, lrs, norms = [], [], []
    for batch in batches:
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(params, numbers["max_grad_norm"]).item())
        losses.append(loss.item())
        lrs.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
    with torch.no_grad():
        after = model(input_ids=batches[0], labels=batches[0]).loss.item()
    state = peft.get_peft_model_state_dict(model)
    tensors = {f"final:{k}": v for k, v in state.items()} | {"batches": batches.int()}
    save_file({k: v.detach().clone().contiguous() for k, v in tensors.items()}, out / "expected.safetensors")
    fields = {
        "name": out.name,
        "base_model": f"../bases/{base.name}",
        "adapter_init": "adapter_init",
        "seed": seed,
        "config": numbers,
        "expected": {"losses": losses, "lrs": lrs, "grad_norms_before_clip": norms, "loss_batch0_after": after},
        "tolerance": {"loss_atol": 1e-4, "lr_rtol": 1e-9, "final_atol": 5e-4},
    }
    write_manifest(out, "02_train", PACKAGES, fields)


# --- 07_peft_merge --------------------------------------------------------------------------------


def adapter_merges(out: Path, seed: int) -> None:
    """Weighted merges of adapters of several ranks and scalings, with DARE's masks recorded."""
    rng = random.Random(seed)
    bases = save_bases(out / "bases", rng)
    merge_case(out / "llama", bases["llama_gqa"], ["q_proj", "up_proj", "down_proj"], rng)
    merge_case(out / "gpt2", bases["gpt2"], ["c_attn", "c_fc"], rng)


def merge_recipes(rng: random.Random) -> list[tuple[str, list[str], list[float], dict]]:
    pair, three, mixed = ["A", "B"], ["A", "B", "C"], ["A", "B", "D"]
    weights = lambda n: [round(rng.uniform(-1.2, 1.5), 2) for _ in range(n)]
    density = lambda: round(rng.uniform(0.2, 0.9), 2)
    sign = lambda: rng.choice(["total", "frequency"])
    return [
        ("linear", pair, weights(2), {}),
        ("linear", three, weights(3), {}),
        ("linear", ["C"], weights(1), {}),
        ("cat", mixed, weights(3), {}),
        ("cat", ["D"], weights(1), {}),
        ("svd", mixed, weights(3), {}),
        ("svd", mixed, weights(3), {"svd_rank": rng.randint(1, 7)}),
        ("ties", three, weights(3), {"density": density(), "majority_sign_method": sign()}),
        ("ties", three, weights(3), {"density": density(), "majority_sign_method": "frequency"}),
        ("ties", three, weights(3), {"density": 1.0}),
        ("ties_svd", mixed, weights(3), {"density": density(), "majority_sign_method": sign(), "svd_rank": 5}),
        ("dare_linear", pair, weights(2), {"density": density()}),
        ("dare_ties", three, weights(3), {"density": density(), "majority_sign_method": sign()}),
        ("dare_linear_svd", mixed, weights(3), {"density": density(), "svd_rank": 6}),
        ("dare_ties_svd", mixed, weights(3), {"density": density(), "majority_sign_method": sign(), "svd_rank": 4}),
        ("magnitude_prune", three, weights(3), {"density": density()}),
        ("magnitude_prune_svd", mixed, weights(3), {"density": density(), "svd_rank": 3}),
    ]


def merge_case(out: Path, base: Path, targets: list[str], rng: random.Random) -> None:
    import peft
    from peft.utils import merge_utils
    from safetensors.torch import save_file

    seed = rng.randrange(10**6)
    torch.manual_seed(seed)
    rank = rng.randint(2, 6)
    lora = lambda **more: peft.LoraConfig(task_type="CAUSAL_LM", target_modules=targets, lora_alpha=rng.choice([3, 8, 20]), **more)
    configs = {"A": lora(r=rank), "B": lora(r=rank, use_rslora=True), "C": lora(r=rank, alpha_pattern={targets[0]: 5}), "D": lora(r=rank + 3)}
    model = None
    for name, config in configs.items():
        if model is None:
            model = peft.get_peft_model(load_base(base), config, adapter_name=name)
        else:
            model.add_adapter(name, config)
    model.set_requires_grad(list(configs))
    randomize(model)
    model.save_pretrained(out)
    for name in configs:
        (out / name).rename(out / f"adapter_{name}")
    ids = torch.randint(3, model.config.vocab_size, (1, 8))
    tensors, cases = {"input_ids": ids.int()}, []
    prune = merge_utils.random_pruning
    for at, (kind, adapters, weights, kwargs) in enumerate(merge_recipes(rng)):
        name, masks = f"{at:02d}_{kind}", []

        def recorded(tensor, density, rescale):
            mask = torch.bernoulli(torch.full_like(tensor, density))
            masks.append(mask)
            kept = tensor * mask
            return kept / density if rescale else kept

        merge_utils.random_pruning = recorded
        model.add_weighted_adapter(adapters, weights, name, combination_type=kind, **kwargs)
        merge_utils.random_pruning = prune
        model.set_adapter(name)
        model.eval()
        order = []
        for path, module in model.named_modules():
            if name not in getattr(module, "lora_A", {}):
                continue
            path = path.removeprefix("base_model.model.")
            order.append(path)
            a, b = module.lora_A[name].weight, module.lora_B[name].weight
            if kind.endswith("svd"):
                tensors[f"{name}:delta:{path}"] = b @ a
            else:
                tensors |= {f"{name}:A:{path}": a, f"{name}:B:{path}": b}
        with torch.no_grad():
            tensors[f"{name}:logits"] = model(input_ids=ids).logits
        tensors |= {f"{name}:mask{i:03d}": mask.to(torch.uint8) for i, mask in enumerate(masks)}
        config = model.peft_config[name]
        cases.append(
            {"name": name, "combination_type": kind, "adapters": adapters, "weights": weights, "kwargs": kwargs}
            | {"result_r": config.r, "result_alpha": config.lora_alpha, "n_masks": len(masks), "module_order": order}
        )
    save_file({k: v.detach().clone().contiguous() for k, v in tensors.items()}, out / "expected.safetensors")
    fields = {
        "seed": seed,
        "base_model": f"../bases/{base.name}",
        "adapters": {name: f"adapter_{name}" for name in configs},
        "cases": cases,
        "tolerance": {"A_B_atol": 1e-6, "svd_delta_atol": 1e-5, "logits_atol": 2e-4},
    }
    write_manifest(out, "07_peft_merge", PACKAGES, fields)
