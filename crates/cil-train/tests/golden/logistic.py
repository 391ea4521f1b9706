"""Golden numbers of new classes beside a head that stays: python3 logistic.py > logistic.json (torch 2.x, f64).

Another way than ours: the whole loss, on weights of features as they are, minimised by L-BFGS.
"""
import json

import torch

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
WIDTH, OLD, NEW, PENALTY = 5, 3, 2, 0.02
COUNTS = [30, 12, 7, 20, 9]
mixing = torch.randn(WIDTH, WIDTH)
features = torch.cat([torch.randn(count, WIDTH) @ mixing + torch.randn(WIDTH) * 2 for count in COUNTS])
classes = torch.cat([torch.full((count,), label) for label, count in enumerate(COUNTS)])
old = features @ torch.randn(WIDTH, OLD) * 0.3 + torch.randn(OLD)
share = (1 / (torch.tensor(COUNTS) * len(COUNTS)).double())[classes]
deviation = features.var(0, correction=0).sqrt().mean()
weights, biases = torch.zeros(NEW, WIDTH, requires_grad=True), torch.zeros(NEW, requires_grad=True)


def loss():
    logits = torch.cat([old, features @ weights.T + biases], 1)
    each = torch.nn.functional.cross_entropy(logits, classes, reduction="none")
    return (share * each).sum() + PENALTY / 2 * ((weights * deviation) ** 2).sum()


optimizer = torch.optim.LBFGS([weights, biases], max_iter=5000, tolerance_grad=1e-13, tolerance_change=1e-16,
                              line_search_fn="strong_wolfe")


def closure():
    optimizer.zero_grad()
    value = loss()
    value.backward()
    return value


optimizer.step(closure)
print(json.dumps({
    "features": features.tolist(), "old": old.tolist(), "classes": classes.tolist(), "penalty": PENALTY,
    "weights": weights.tolist(), "biases": biases.tolist(), "loss": loss().item(),
}))
