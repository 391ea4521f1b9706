"""Golden numbers of how statistics follow a backbone: python3 carry.py > carry.json (torch 2.x, f64).

SDC's weighted drift and the nearest mean as the loops of the codes have them; LDC's projector as least squares over rows
of features and a ridge, where its code takes steps of Adam towards it; adversarial images of ADC on a network of one
layer, whose gradient is autograd's.
"""
import json

import torch
import torch.nn.functional as F

torch.manual_seed(3)
torch.set_default_dtype(torch.float64)
WIDTH, RIDGE, SIGMA = 4, 1e-4, 0.8
old = [torch.randn(n, WIDTH) + 2 * torch.randn(WIDTH) for n in (6, 9, 7)]
before = torch.randn(12, WIDTH)
after = before @ (torch.eye(WIDTH) + 0.3 * torch.randn(WIDTH, WIDTH)) + 0.2 + 0.1 * torch.randn(12, WIDTH)
means = torch.stack([it.mean(0) for it in old])
covariance = torch.stack([torch.cov(it.T, correction=0) for it in old]).mean(0)


def nearby():
    moved = []
    for mean in means:
        weights = [torch.exp(-((row - mean) ** 2).sum() / (2 * SIGMA**2)) + 1e-5 for row in before]
        shift = sum(weight * (to - row) for weight, row, to in zip(weights, before, after)) / sum(weights)
        moved.append(mean + shift)
    return torch.stack(moved)


def linear():
    penalty = (RIDGE * (before**2).sum() / WIDTH).sqrt() * torch.eye(WIDTH)
    rows, targets = torch.cat([before, penalty]), torch.cat([after, torch.zeros(WIDTH, WIDTH)])
    solution = torch.linalg.lstsq(rows, targets).solution
    left = after - before @ solution
    return means @ solution, solution.T @ covariance @ solution + left.T @ left / len(before)


def adversarial(images, weight, point, length, iterations):
    low, high = images.min(), images.max()
    for _ in range(iterations):
        images = images.detach().requires_grad_(True)
        features = F.normalize(images.flatten(1) @ weight.T)
        # ADC's loss; its mean is over rows and features, which a step of fixed length does not see.
        F.mse_loss(features, point.expand_as(features)).backward()
        step = length * len(images) ** 0.5 * images.grad / images.grad.norm()
        images = (images - step).clamp(low, high)
    return images.detach()


queries = torch.randn(5, WIDTH)
nearest = F.normalize(queries) @ F.normalize(means).T
linear_means, linear_covariance = linear()
images, weight, point = torch.randn(3, 1, 2, 2), torch.randn(3, 4), F.normalize(torch.randn(1, 3))
print(json.dumps({
    "old": [it.tolist() for it in old], "before": before.tolist(), "after": after.tolist(), "sigma": SIGMA,
    "nearby": nearby().tolist(), "linear_means": linear_means.tolist(), "linear_covariance": linear_covariance.tolist(),
    "queries": queries.tolist(), "nearest": nearest.tolist(),
    "images": images.flatten().tolist(), "weight": weight.tolist(), "point": point.tolist(), "length": 0.3, "iterations": 3,
    "changed": adversarial(images, weight, point, 0.3, 3).flatten().tolist(),
}))
