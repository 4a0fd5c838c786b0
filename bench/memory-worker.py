# What PyTorch with transformers and PEFT holds in a step of `bench memory`: weights, AdamW's averages, and
# the larger of gradients and what the forward pass saves for the backward pass, each storage counted once.
import json, sys, warnings

warnings.filterwarnings("ignore")
import torch
import transformers

transformers.logging.set_verbosity_error()
task = json.loads(sys.argv[1])
size = task["sizes"]
config = transformers.LlamaConfig(
    vocab_size=size["vocab"], hidden_size=size["hidden"], intermediate_size=size["inner"],
    num_hidden_layers=size["layers"], num_attention_heads=size["heads"], num_key_value_heads=size["keyHeads"],
    tie_word_embeddings=size["tied"], use_cache=False, attn_implementation="sdpa",
)
model = transformers.LlamaForCausalLM(config).float().train()
if task["method"] == "lora":
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(model, LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM"))
own = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in model.parameters()}
trained = sum(p.nbytes for p in model.parameters() if p.requires_grad)
saved = {}


def pack(tensor):
    storage = tensor.untyped_storage()
    if storage.data_ptr() not in own:
        saved[storage.data_ptr()] = storage.nbytes()
    return tensor


ids = torch.randint(0, size["vocab"], (size["batch"], size["length"]))
with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
    output = model(input_ids=ids, labels=ids)
# The scores, and the gradient of their softmax on its way to them.
scores = output.logits.nbytes * 3
print(json.dumps({"held": sum(own.values()) + 2 * trained + max(trained, sum(saved.values()) + scores)}))
