"""Trainable and all parameters of adapted models, as peft counts them on the meta device.

python counts.py FILE [--seed N]: needs torch 2.9.1, transformers 5.23.0, peft 0.21.2.
"""
import argparse
import json
import random

import torch
from peft import IA3Config, LoraConfig, PrefixTuningConfig, PromptTuningConfig, VeraConfig
from peft import get_peft_model
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

LLAMA2 = dict(vocab_size=32000, hidden_size=4096, intermediate_size=11008, num_hidden_layers=32,
              num_attention_heads=32)
LLAMA3 = dict(vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32,
              num_attention_heads=32, num_key_value_heads=8)
LLAMA3_70B = dict(vocab_size=128256, hidden_size=8192, intermediate_size=28672, num_hidden_layers=80,
                  num_attention_heads=64, num_key_value_heads=8)
LLAMA32 = dict(vocab_size=128256, hidden_size=2048, intermediate_size=8192, num_hidden_layers=16,
               num_attention_heads=32, num_key_value_heads=8, head_dim=64, tie_word_embeddings=True)
SMALL = dict(vocab_size=1000, hidden_size=96, intermediate_size=200, num_hidden_layers=3,
             num_attention_heads=6, num_key_value_heads=2, head_dim=20, attention_bias=True,
             mlp_bias=True, tie_word_embeddings=True)
BASES = {
    "Llama-2-7B": (LlamaConfig, LLAMA2),
    "Llama-3-8B": (LlamaConfig, LLAMA3),
    "Llama-3-70B": (LlamaConfig, LLAMA3_70B),
    "Llama-3.2-1B": (LlamaConfig, LLAMA32),
    "GPT-2": (GPT2Config, {}),
    "GPT-2 medium": (GPT2Config, dict(n_embd=1024, n_layer=24, n_head=16)),
    "GPT-2 XL": (GPT2Config, dict(n_embd=1600, n_layer=48, n_head=25)),
    "small GPT-2": (GPT2Config, dict(vocab_size=77, n_positions=33, n_embd=36, n_layer=3, n_head=3, n_inner=50,
                                     tie_word_embeddings=False)),
    "small Llama": (LlamaConfig, SMALL),
}
TASK = dict(task_type="CAUSAL_LM")
ADAPTERS = [
    ("Llama-2-7B", LoraConfig, dict(r=16, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"])),
    ("Llama-2-7B", LoraConfig, dict(r=8, target_modules="all-linear")),
    ("Llama-2-7B", LoraConfig, dict(r=8, use_dora=True)),
    ("Llama-2-7B", IA3Config, {}),
    ("Llama-2-7B", VeraConfig, dict(r=256)),
    ("Llama-2-7B", PrefixTuningConfig, dict(num_virtual_tokens=20)),
    ("Llama-2-7B", PromptTuningConfig, dict(num_virtual_tokens=20)),
    ("Llama-3-8B", LoraConfig, dict(r=16, target_modules=["q_proj", "v_proj"])),
    ("Llama-3-8B", PrefixTuningConfig, dict(num_virtual_tokens=20)),
    ("Llama-3-8B", LoraConfig, dict(r=4, target_modules=["q_proj", "embed_tokens"])),
    ("GPT-2", LoraConfig, dict(r=16)),
    ("GPT-2", IA3Config, {}),
    ("GPT-2", PrefixTuningConfig, dict(num_virtual_tokens=20)),
    ("GPT-2", PrefixTuningConfig, dict(num_virtual_tokens=20, prefix_projection=True)),
    ("GPT-2", PromptTuningConfig, dict(num_virtual_tokens=20)),
    ("GPT-2", LoraConfig, dict(r=4, target_modules=["c_proj"], bias="all")),
    ("GPT-2", LoraConfig, dict(r=4, modules_to_save=["ln_f"])),
    ("small Llama", LoraConfig, dict(r=3, target_modules="all-linear", bias="lora_only")),
    ("small Llama", LoraConfig, dict(r=3, target_modules=r".*\.[02]\..*(gate|down)_proj",
                                     rank_pattern={"down_proj": 7})),
    ("small Llama", LoraConfig, dict(r=2, target_modules=["v_proj", "mlp.up_proj"],
                                     layers_to_transform=[1], use_dora=True)),
    ("small Llama", PrefixTuningConfig, dict(num_virtual_tokens=7, prefix_projection=True,
                                             encoder_hidden_size=11)),
    ("small Llama", VeraConfig, dict(r=5, target_modules=["k_proj", "down_proj"])),
    ("small Llama", IA3Config, dict(target_modules=["q_proj", "down_proj"],
                                    feedforward_modules=["down_proj"])),
]


NAMES = {
    LlamaConfig: ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "mlp.up_proj"],
    GPT2Config: ["c_attn", "c_proj", "c_fc", "attn.c_proj", "mlp.c_proj", "h.0.mlp.c_fc"],
}
WHOLE = {LlamaConfig: ["lm_head", "embed_tokens", "norm", "mlp"], GPT2Config: ["lm_head", "ln_f", "wte", "mlp"]}
REGEX = {LlamaConfig: r".*\.(1|2)\.\w+\.(k|gate|down)_proj", GPT2Config: r"transformer\.h\.\d*[02]\.(attn|mlp)\.c_\w+"}


def random_adapter(rng):
    """A base and a config with options of every kind."""
    base = rng.choice(list(BASES))
    kind = BASES[base][0]
    some = lambda: rng.sample(NAMES[kind], rng.randint(1, 4))
    targets = rng.choice([some(), some(), some(), "all-linear", REGEX[kind]])
    names = [] if isinstance(targets, str) else targets
    options = dict(target_modules=targets)
    if rng.random() < 0.2:
        options["modules_to_save"] = rng.sample(WHOLE[kind], 1)
    method = rng.choice(["lora", "lora", "lora", "ia3", "vera", "prefix", "prompt"])
    if method == "lora":
        options |= dict(r=rng.choice([1, 4, 8, 16, 64, 100]), use_dora=rng.random() < 0.3)
        options |= dict(bias=rng.choice(["none", "none", "all", "lora_only"]), use_rslora=rng.random() < 0.3)
        if names and rng.random() < 0.4:
            options["layers_to_transform"] = rng.choice([0, [0, 2], [1]])
        if rng.random() < 0.4:
            options["rank_pattern"] = {rng.choice([*NAMES[kind], r"\w*\.?0\..*proj"]): rng.randint(1, 40)}
        if rng.random() < 0.3:
            options["exclude_modules"] = rng.sample(NAMES[kind], 1)
        return base, LoraConfig, options
    if method == "ia3":
        if names and rng.random() < 0.5:
            options["feedforward_modules"] = rng.sample(names, 1)
        return base, IA3Config, options if rng.random() < 0.8 else {}
    if method == "vera":
        return base, VeraConfig, options | dict(r=rng.choice([4, 256]))
    tokens = dict(num_virtual_tokens=rng.randint(1, 100))
    if method == "prompt":
        return base, PromptTuningConfig, tokens
    if rng.random() < 0.4:
        tokens |= dict(prefix_projection=True, encoder_hidden_size=rng.choice([None, 64, 512]))
    return base, PrefixTuningConfig, tokens


def count(base, config_class, options):
    kind, fields = BASES[base]
    config = config_class(**TASK, **options)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(kind(**fields))
        trainable, every = get_peft_model(model, config).get_nb_trainable_parameters()
    json_base = {"model_type": kind.model_type, **fields}
    json_peft = {"peft_type": config.peft_type.value, **TASK, **options}
    return dict(name=base, base=json_base, peft=json_peft, trainable=trainable, all=every)


parser = argparse.ArgumentParser()
parser.add_argument("file")
parser.add_argument("--seed", type=int, default=5)
parser.add_argument("--random", type=int, default=40)
args = parser.parse_args()
rng = random.Random(args.seed)
cases = [count(*adapter) for adapter in ADAPTERS]
while len(cases) < len(ADAPTERS) + args.random:
    try:
        cases.append(count(*random_adapter(rng)))
    except ValueError:  # targets that mean nothing in this base
        continue
with open(args.file, "w") as file:
    json.dump(cases, file, indent=1)
    file.write("\n")
