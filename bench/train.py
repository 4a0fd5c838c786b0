"""TRL's SFT or DPO on rows of a JSON file: prints the milliseconds of each step and its losses as JSON."""
import json, sys, tempfile, time

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

task = json.load(open(sys.argv[1]))
torch.manual_seed(0)
torch.set_num_threads(task["threads"])
tokenizer = AutoTokenizer.from_pretrained(task["tokenizer"])
model = AutoModelForCausalLM.from_pretrained(task["model"], dtype="float32")
if task["lora"]:
    lora = LoraConfig(r=task.get("r", 8), lora_alpha=2 * task.get("r", 8), target_modules=task["targets"], task_type="CAUSAL_LM")
    model = get_peft_model(model, lora)
times, cpu = [], []


class Clock(TrainerCallback):
    def on_step_begin(self, *args, **kwargs):
        self.start, self.used = time.perf_counter(), time.process_time()

    def on_step_end(self, *args, **kwargs):
        times.append(1000 * (time.perf_counter() - self.start))
        cpu.append(1000 * (time.process_time() - self.used))


config, trainer = {"sft": (SFTConfig, SFTTrainer), "dpo": (DPOConfig, DPOTrainer)}[task["kind"]]
args = config(
    output_dir=tempfile.mkdtemp(),
    logging_steps=1,
    report_to="none",
    save_strategy="no",
    use_cpu=True,
    bf16=False,
    gradient_checkpointing=False,
    disable_tqdm=True,
    train_sampling_strategy="sequential",
    **task["args"],
)
run = trainer(
    model=model,
    args=args,
    processing_class=tokenizer,
    train_dataset=Dataset.from_list(task["rows"]),
    callbacks=[Clock()],
)
start = time.perf_counter()
run.train()
total = time.perf_counter() - start
log = [entry for entry in run.state.log_history if "loss" in entry]
losses = [entry["loss"] for entry in log]
tokens = [entry.get("num_tokens") for entry in log]
print(json.dumps({"times": times, "cpu": cpu, "losses": losses, "tokens": tokens, "seconds": total}))
