"""Numbers of torch.optim for tests/optim.rs; run: python optim.py > optim.json"""
import json
import torch

torch.manual_seed(3)
VALUES = {"a": torch.randn(4, 3, dtype=torch.float64), "b": torch.randn(5, dtype=torch.float64)}
GRADIENTS = [{k: torch.randn_like(v) for k, v in VALUES.items()} for _ in range(6)]
RATES = [0.1, 0.1, 0.05, 0.05, 0.02, 0.02]


def trajectory(make):
    """Values after each step; `b` has twice the rate and no decay, and no gradient in step 2."""
    params = {k: v.clone().requires_grad_() for k, v in VALUES.items()}
    optimizer = make([
        {"params": [params["a"]], "weight_decay": 0.01},
        {"params": [params["b"]], "weight_decay": 0.0},
    ])
    rows = []
    for step, (gradients, rate) in enumerate(zip(GRADIENTS, RATES)):
        optimizer.param_groups[0]["lr"] = rate
        optimizer.param_groups[1]["lr"] = 2 * rate
        for name, param in params.items():
            param.grad = None if (name == "b" and step == 2) else gradients[name].clone()
        optimizer.step()
        rows.append({k: v.detach().flatten().tolist() for k, v in params.items()})
    return rows


def rates(make, epochs):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.4)
    schedule = make(optimizer)
    out = []
    for _ in range(epochs):
        out.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return out


S = torch.optim.lr_scheduler
print(json.dumps({
    "torch": torch.__version__,
    "values": {k: v.flatten().tolist() for k, v in VALUES.items()},
    "gradients": [{k: v.flatten().tolist() for k, v in g.items()} for g in GRADIENTS],
    "rates": RATES,
    "sgd": trajectory(lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)),
    "nesterov": trajectory(lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True)),
    "adam": trajectory(lambda p: torch.optim.Adam(p, lr=0.1, betas=(0.5, 0.999), eps=1e-8)),
    "step": rates(lambda o: S.StepLR(o, 3, 0.5), 10),
    "multi_step": rates(lambda o: S.MultiStepLR(o, [4, 7], 0.1), 10),
    "cosine": rates(lambda o: S.CosineAnnealingLR(o, 10), 10),
}, indent=1))
