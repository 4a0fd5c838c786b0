# One contestant of `bench peft` in Python, with torch and peft: says when it is ready, then for each line
# 'N' does its task N times and answers with the milliseconds, and for 'q' with further figures, and ends.
import json, os, sys, tempfile, time, warnings

task = json.loads(sys.argv[1])
size, threads, mode = task["sizes"], task["threads"], task["mode"]
os.environ["OMP_NUM_THREADS"] = str(threads)
warnings.filterwarnings("ignore")
import peft
import torch
import transformers

transformers.logging.set_verbosity_error()
torch.set_num_threads(threads)
torch.manual_seed(0)
LINEAR = [f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up", "down")]
COUNT = 50
further = {}


def make_model():
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(
        vocab_size=size["vocab"], hidden_size=size["hidden"], intermediate_size=size["inner"],
        num_hidden_layers=size["layers"], num_attention_heads=size["heads"],
        num_key_value_heads=size["keyHeads"], rms_norm_eps=1e-5, tie_word_embeddings=size["tied"],
        max_position_embeddings=512, use_cache=False, attn_implementation="sdpa")).float()


def make_config():
    if mode == "ia3":
        return peft.IA3Config(task_type="CAUSAL_LM")
    if mode == "prefix":
        return peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=20)
    r = 8 if mode in ("lora", "dora") else 16
    return peft.LoraConfig(r=r, lora_alpha=2 * r, target_modules=LINEAR, use_dora=mode == "dora", task_type="CAUSAL_LM")


def trainer():
    model = peft.get_peft_model(make_model(), make_config()).train()
    params = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(params, lr=1e-3, weight_decay=0.01, fused=True)

    def step():
        ids = torch.randint(0, size["vocab"], (size["batch"], size["length"]))
        labels = (ids * 7 + 3) % size["vocab"]
        start = time.perf_counter()
        logits = model(input_ids=ids).logits
        loss = torch.nn.functional.cross_entropy(logits.view(-1, size["vocab"]), labels.view(-1))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss.item()
        return (time.perf_counter() - start) * 1000

    return step


def merger():
    if mode == "merge layer":
        base = torch.nn.Sequential(torch.nn.Linear(4096, 4096, bias=False))
        model = peft.get_peft_model(base, peft.LoraConfig(r=16, target_modules=["0"]))
    else:
        model = peft.get_peft_model(make_model(), make_config())

    def merge():
        start = time.perf_counter()
        model.merge_adapter()
        model.unmerge_adapter()
        return (time.perf_counter() - start) * 1000

    return merge


def resident_mb():
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith("VmRSS")).split()[1]) / 1024


def switcher():
    model = peft.get_peft_model(make_model(), make_config())
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        before = resident_mb()
        for i in range(COUNT):
            model.load_adapter(folder, f"adapter{i}")
        further["resident"] = resident_mb() - before
    at = 0

    def switch():
        nonlocal at
        start = time.perf_counter()
        model.set_adapter(f"adapter{at % COUNT}")
        at += 1
        return (time.perf_counter() - start) * 1000

    return switch


run = merger() if mode.startswith("merge") else switcher() if mode == "switch" else trainer()
run()
print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    if line.strip() == "q":
        break
    print(json.dumps([run() for _ in range(int(line))]), flush=True)
print(json.dumps(further), flush=True)
