# One contestant of `bench engine` in Python (torch with transformers and peft, or llama.cpp): says what
# its first step took, then for each line 'N' runs N steps and answers with their milliseconds, and for
# 'q' with its peak memory in MB.
import json, os, sys, time, warnings

task = json.loads(sys.argv[1])
size, threads, mode = task["sizes"], task["threads"], task["mode"]
os.environ["OMP_NUM_THREADS"] = str(threads)
os.environ["TOKENIZERS_PARALLELISM"] = "false"
warnings.filterwarnings("ignore")
PROMPT = [5 + i for i in range(8)]


def llama_cpp():
    from llama_cpp import Llama

    model = Llama(task["file"], n_ctx=512, n_threads=threads, n_threads_batch=threads, verbose=False)

    def decode(count):
        model.reset()
        start = time.perf_counter()
        tokens = model.generate(PROMPT, temp=0.0, top_k=1, reset=True)
        for _ in range(count):
            next(tokens)
        return [(time.perf_counter() - start) * 1000 / count]

    return decode


def torch_model():
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=size["vocab"], hidden_size=size["hidden"], intermediate_size=size["inner"],
        num_hidden_layers=size["layers"], num_attention_heads=size["heads"],
        num_key_value_heads=size["keyHeads"], rms_norm_eps=1e-5, tie_word_embeddings=size["tied"],
        max_position_embeddings=512, use_cache=mode == "decode", attn_implementation="sdpa",
    )
    model = transformers.LlamaForCausalLM(config).float()
    if mode == "lora":
        from peft import LoraConfig, get_peft_model

        targets = [f"{name}_proj" for name in ("q", "k", "v", "o", "gate", "up", "down")]
        model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, lora_dropout=0.0, target_modules=targets, task_type="CAUSAL_LM"))
    return model


def decoder():
    import torch

    model = torch_model().eval()
    ids = torch.tensor([PROMPT])

    def decode(count):
        start = time.perf_counter()
        with torch.no_grad():
            model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, eos_token_id=None,
                           pad_token_id=0, min_new_tokens=count, max_new_tokens=count)
        return [(time.perf_counter() - start) * 1000 / count]

    return decode


def trainer():
    import torch

    model = torch_model().train()
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

    return lambda count: [step() for _ in range(count)]


def peak_mb():
    with open("/proc/self/status") as status:
        return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) / 1024


run = llama_cpp() if task["engine"] == "llama.cpp" else decoder() if mode == "decode" else trainer()
start = time.perf_counter()
run(1)
print(json.dumps({"first": (time.perf_counter() - start) * 1000}), flush=True)
for line in sys.stdin:
    if line.strip() == "q":
        break
    print(json.dumps(run(int(line))), flush=True)
print(json.dumps({"peak": peak_mb()}), flush=True)
