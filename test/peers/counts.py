"""Trainable and all parameters of adapted models, as peft counts them on the meta device.

python counts.py FILE: needs torch 2.9.1, transformers 5.23.0, peft 0.21.2.
"""
import json
import sys

import torch
from peft import IA3Config, LoraConfig, PrefixTuningConfig, PromptTuningConfig, VeraConfig
from peft import get_peft_model
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

LLAMA2 = dict(vocab_size=32000, hidden_size=4096, intermediate_size=11008, num_hidden_layers=32,
              num_attention_heads=32)
LLAMA3 = dict(vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32,
              num_attention_heads=32, num_key_value_heads=8)
SMALL = dict(vocab_size=1000, hidden_size=96, intermediate_size=200, num_hidden_layers=3,
             num_attention_heads=6, num_key_value_heads=2, head_dim=20, attention_bias=True,
             mlp_bias=True, tie_word_embeddings=True)
BASES = {
    "Llama-2-7B": (LlamaConfig, LLAMA2),
    "Llama-3-8B": (LlamaConfig, LLAMA3),
    "GPT-2": (GPT2Config, {}),
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


def count(base, config_class, options):
    kind, fields = BASES[base]
    config = config_class(**TASK, **options)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(kind(**fields))
        trainable, every = get_peft_model(model, config).get_nb_trainable_parameters()
    json_base = {"model_type": kind.model_type, **fields}
    json_peft = {"peft_type": config.peft_type.value, **TASK, **options}
    return dict(name=base, base=json_base, peft=json_peft, trainable=trainable, all=every)


with open(sys.argv[1], "w") as file:
    json.dump([count(*adapter) for adapter in ADAPTERS], file, indent=1)
    file.write("\n")
