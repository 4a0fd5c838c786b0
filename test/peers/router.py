"""Load-balancing losses of random routers by transformers. python router.py FILE (transformers 5.23.0)."""
import json
import sys

import torch
from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

torch.manual_seed(7)
cases = []
for batch, steps, experts, top_k, masked in [(2, 5, 4, 1, False), (3, 4, 5, 2, False), (2, 6, 3, 2, True)]:
    logits = torch.randn(batch, steps, experts) * 1.5
    mask = (torch.arange(steps)[None] < torch.tensor([[steps], [steps - 3], [2]])[:batch]).long()
    flat = (logits.reshape(-1, experts),)
    loss = load_balancing_loss_func(flat, experts, top_k, mask if masked else None)
    case = dict(logits=logits.tolist(), topK=top_k, loss=loss.item())
    if masked:
        case["mask"] = mask.tolist()
    cases.append(case)
with open(sys.argv[1], "w") as file:
    json.dump(cases, file)
    file.write("\n")
