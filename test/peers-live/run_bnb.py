"""bitsandbytes' side of bnb.test.ts: reads FOLDER/ours-KIND, saves FOLDER/base as FOLDER/theirs-KIND; prints JSON."""
import json
import sys

import bitsandbytes as bnb
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

KINDS = {
    "nf4": BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True),
    "fp4": BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="fp4"),
    "int8": BitsAndBytesConfig(load_in_8bit=True),
}
OPTIONS = {"dtype": torch.float32, "device_map": "cpu"}


def about(model):
    """The kind of one layer, its weight unpacked, and logits."""
    layer = model.get_submodule("model.layers.0.mlp.up_proj")
    weight = layer.weight
    if getattr(weight, "quant_state", None) is not None:
        numbers = bnb.functional.dequantize_4bit(weight.data, weight.quant_state)
    else:
        numbers = weight.data.float() * weight.SCB.view(-1, 1) / 127
    model.train()  # else a CPU with AVX-512 takes a kernel in bfloat16
    with torch.no_grad():
        logits = model(torch.tensor([[1, 5, 9, 2]])).logits[0]
    return {
        "layer": type(layer).__name__,
        "logits": logits.flatten().tolist(),
        "weight": numbers.float().flatten().tolist(),
    }


def main(folder):
    told = {}
    for kind, config in KINDS.items():
        ours = AutoModelForCausalLM.from_pretrained(f"{folder}/ours-{kind}", **OPTIONS)
        theirs = AutoModelForCausalLM.from_pretrained(f"{folder}/base", quantization_config=config, **OPTIONS)
        theirs.save_pretrained(f"{folder}/theirs-{kind}")
        told[kind] = {"ours": about(ours), "theirs": about(theirs)}
    print(json.dumps(told))


main(sys.argv[1])
