"""TRL's trainers on the rows and settings of a JSON file: prints the losses of each step as JSON.

python run_train.py FILE: {"kind": "sft" or "dpo", "model", "tokenizer", "adapter" or null, "rows", "args"}
"""
import json, sys, tempfile

from datasets import Dataset
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

task = json.load(open(sys.argv[1]))
tokenizer = AutoTokenizer.from_pretrained(task["tokenizer"])
model = AutoModelForCausalLM.from_pretrained(task["model"], dtype="float32")
if task["adapter"]:
    model = PeftModel.from_pretrained(model, task["adapter"], is_trainable=True)
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
)
run.train()
print(json.dumps([entry["loss"] for entry in run.state.log_history if "loss" in entry]))
