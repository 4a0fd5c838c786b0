"""Golden cases of TRL: 06_packing (pack_dataset) and 06_dpo_loss (DPOTrainer._compute_loss with given log-probs)."""

import random
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace

import torch
from manifest import write_manifest

LOSSES = [
    "sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired",
    "apo_zero", "apo_down", "discopop", "sigmoid_norm",
]  # fmt: skip


def packing(out: Path, seed: int) -> None:
    """Rows packed by each strategy, many of equal lengths, some longer than the packed row."""
    from datasets import Dataset
    from trl.data_utils import pack_dataset

    rng = random.Random(seed)
    rows = [[rng.randrange(3, 90) for _ in range(rng.choice([1, 2, 5, 9, 9, 16, rng.randint(1, 40)]))] for _ in range(30)]
    cases = []
    for strategy in ("bfd", "bfd_split", "wrapped"):
        for length in (rng.randint(5, 12), 16, rng.randint(20, 45)):
            packed = pack_dataset(Dataset.from_dict({"input_ids": rows}), length, strategy)
            cases.append({"strategy": strategy, "seq_length": length, "packed": packed.to_dict()})
    fields = {"seed": seed, "input_ids": rows, "cases": cases, "tolerance": "exact"}
    write_manifest(out, "06_packing", ["trl", "datasets"], fields)


def dpo_loss(out: Path, seed: int) -> None:
    """Each loss of DPO, its logged rewards, and its gradient by the policy's log-probabilities."""
    rng = random.Random(seed)
    torch.manual_seed(seed)
    pairs = rng.randint(2, 6)
    lengths = torch.randint(1, 8, (2 * pairs,))
    policy = -torch.rand(2 * pairs) * 3 * lengths
    reference = policy + torch.randn(2 * pairs)
    cases = []
    for loss_type in LOSSES:
        for divergence in ("reverse_kl", "forward_kl", "js_divergence") if loss_type == "sigmoid" else ("reverse_kl",):
            for beta in (0.1, round(rng.uniform(0.05, 1.0), 2)):
                smoothing = rng.choice([0.1, 0.2]) if loss_type in ("robust", "exo_pair", "aot", "aot_unpaired") else 0.0
                cases.append(dpo_case(loss_type, beta, smoothing, divergence, lengths, policy, reference))
    half = lambda values: {"chosen": values[:pairs].tolist(), "rejected": values[pairs:].tolist()}
    inputs = {f"policy_{k}_logps": v for k, v in half(policy).items()}
    inputs |= {f"ref_{k}_logps": v for k, v in half(reference).items()}
    inputs |= {f"{k}_lengths": v for k, v in half(lengths).items()}
    tolerance = {"loss_rtol": 1e-5, "grad_rtol": 1e-4}
    fields = {"seed": seed, "inputs": inputs, "cases": cases, "tolerance": tolerance}
    write_manifest(out, "06_dpo_loss", ["trl", "torch"], fields)


def dpo_case(loss_type, beta, smoothing, divergence, lengths, policy, reference) -> dict:
    from trl import DPOTrainer

    rows, width = len(lengths), int(lengths.max()) + 1
    mask = torch.zeros(rows, width, dtype=torch.long)
    for i, n in enumerate(lengths):
        mask[i, 1 : 1 + n] = 1
    leaf = policy.clone().requires_grad_()
    spread = mask[:, 1:] / lengths.unsqueeze(1)

    def output(values):
        zeros = torch.zeros(rows, width - 1)
        logged = {"entropy": zeros, "mean_logits": zeros, "is_top1": zeros.bool(), "aux_loss": None}
        return SimpleNamespace(log_probs=values.unsqueeze(1) * spread, **logged)

    model = lambda **_: output(leaf)
    model.training = True
    metrics = {"train": defaultdict(list), "eval": defaultdict(list)}
    same = lambda x: x
    trainer = SimpleNamespace(
        model=model,
        ref_model=lambda **_: output(reference),
        accelerator=SimpleNamespace(device="cpu", gather=same, gather_for_metrics=same, unwrap_model=same),
        args=SimpleNamespace(gradient_checkpointing_kwargs=None, discopop_tau=0.05),
        aux_loss_enabled=False,
        ld_alpha=None,
        precompute_ref_logps=True,
        f_divergence_type=divergence,
        f_alpha_divergence_coef=0.5,
        loss_types=[loss_type],
        loss_weights=[1.0],
        beta=beta,
        label_smoothing=smoothing,
        use_weighting=False,
        _metrics=metrics,
        _total_train_tokens=0,
        _tp_size=1,
    )
    inputs = {"input_ids": mask.clone(), "attention_mask": torch.ones_like(mask), "completion_mask": mask}
    chosen, rejected = reference.chunk(2)
    inputs |= {"ref_chosen_logps": chosen, "ref_rejected_logps": rejected}
    loss = DPOTrainer._compute_loss(trainer, model, inputs, False)
    loss.backward()
    logged = {name: values[0] for name, values in metrics["train"].items() if name.startswith("rewards/")}
    case = {"loss_type": loss_type, "beta": beta, "label_smoothing": smoothing, "f_divergence_type": divergence}
    return case | {"loss": loss.item(), "metrics": logged, "grad_wrt_sequence_logps": leaf.grad.tolist()}
