"""Makes optimizers.json with torch: parameters after each step of AdamW and SGD for given gradients."""
import json
import torch

torch.manual_seed(5)
START = [torch.randn(2, 3), torch.randn(4)]
GRADS = [[torch.randn(2, 3), torch.randn(4) * 1e-3] for _ in range(4)]
CASES = [
    ("AdamW", {"lr": 0.01, "weight_decay": 0.05}, [{}, {"lr": 0.16}]),
    ("AdamW", {"lr": 0.02, "betas": [0.8, 0.95], "eps": 1e-6, "weight_decay": 0.0}, None),
    ("SGD", {"lr": 0.1}, None),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.02}, [{}, {"lr": 0.5}]),
]


def run(kind, options, groups):
    params = [torch.nn.Parameter(p.clone()) for p in START]
    given = [{"params": [p], **g} for p, g in zip(params, groups)] if groups else params
    optimizer = getattr(torch.optim, kind)(given, **options)
    after = []
    for grads in GRADS:
        for p, g in zip(params, grads):
            p.grad = g.clone()
        optimizer.step()
        after.append([p.detach().flatten().tolist() for p in params])
    return {"kind": kind, "options": options, "groups": groups, "after": after}


flat = lambda tensors: [t.flatten().tolist() for t in tensors]
cases = [run(*case) for case in CASES]
print(json.dumps({"torch": torch.__version__, "shapes": [[2, 3], [4]], "start": flat(START),
                  "grads": [flat(g) for g in GRADS], "cases": cases}))
