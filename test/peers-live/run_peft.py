"""Runs the tasks of FOLDER/tasks.json with peft and writes logits to FOLDER/logits.json.

A task either loads an adapter that was saved here ("load") or makes one of random numbers and saves it
("make"); `base` is a model's folder, `adapter` the adapter's."""
import json
import sys
from pathlib import Path

import peft
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification


def randomize(model: torch.nn.Module, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def run(task: dict, seed: int) -> list[float]:
    kind = task["options"].get("task_type", "CAUSAL_LM")
    if kind == "SEQ_CLS":
        base = AutoModelForSequenceClassification.from_pretrained(task["base"], num_labels=3, pad_token_id=2)
    else:
        base = AutoModelForCausalLM.from_pretrained(task["base"])
    if task["kind"] == "load":
        model = peft.PeftModel.from_pretrained(base, task["adapter"])
    else:
        config = getattr(peft, task["config"])(**{"task_type": kind, **task["options"]})
        torch.manual_seed(seed)
        model = peft.get_peft_model(base, config)
        randomize(model, seed)
        model.save_pretrained(task["adapter"])
    model.eval()
    with torch.no_grad():
        return model(input_ids=torch.tensor(task["ids"])).logits.flatten().tolist()


folder = Path(sys.argv[1])
tasks = json.loads((folder / "tasks.json").read_text())
logits = {task["name"]: run(task, seed) for seed, task in enumerate(tasks)}
(folder / "logits.json").write_text(json.dumps(logits))
