"""Golden numbers of statistics of several stages: python3 stages.py > stages.json (torch 2.x, f64).

The same classes and images as discriminant.json. Another way than ours: log-likelihoods of normal distributions, the
backbone's change by least squares with the ridge as rows of its own, which hold the change and not the map, and ridge
regression of the images themselves.
"""
import json
import pathlib

import torch

torch.set_default_dtype(torch.float64)
RIDGE = 1e-2
given = json.loads(pathlib.Path(__file__).with_name("discriminant.json").read_text())
old = [torch.tensor(it) for it in given["old"]]
before, of_new = torch.tensor(given["before"]), [torch.tensor(it) for it in given["after"]]
after, images, shrinkage = torch.cat(of_new), torch.tensor(given["images"]), given["shrinkage"]
width = before.shape[1]


def statistics(classes):
    means = torch.stack([it.mean(0) for it in classes])
    return means, torch.stack([torch.cov(it.T, correction=0) for it in classes]).mean(0)


def carried(means, covariance):
    """after - before = before C + b by least squares; the ridge holds C alone."""
    spread = torch.cov(before.T, correction=0) * len(before)
    penalty = (RIDGE * torch.trace(spread) / width).sqrt() * torch.eye(width)
    seen = torch.cat([before, torch.ones(len(before), 1)], 1)
    rows = torch.cat([seen, torch.cat([penalty, torch.zeros(width, 1)], 1)])
    change = torch.linalg.lstsq(rows, torch.cat([after - before, torch.zeros(width, width)])).solution
    left, map_ = after - before - seen @ change, torch.eye(width) + change[:-1]
    return means @ map_ + change[-1], map_.T @ covariance @ map_ + torch.cov(left.T, correction=0)


def answers(means, covariance):
    covariance = covariance + shrinkage * torch.trace(covariance) / width * torch.eye(width)
    normal = torch.distributions.MultivariateNormal
    found = torch.stack([normal(mean, covariance).log_prob(images) for mean in means], 1)
    return (found - found[:, :1]).tolist()


def least_squares(classes):
    """Indicators of the classes, each of which counts the same; the ridge as rows of its own."""
    rows = torch.cat([it / (len(classes) * len(it)) ** 0.5 for it in classes])
    targets = torch.zeros(len(rows), len(classes))
    at = 0
    for label, it in enumerate(classes):
        targets[at:at + len(it), label] = (len(classes) * len(it)) ** -0.5
        at += len(it)
    penalty = (shrinkage * (rows * rows).sum() / width).sqrt() * torch.eye(width)
    solution = torch.linalg.lstsq(torch.cat([rows, penalty]), torch.cat([targets, torch.zeros(width, len(classes))]))
    found = images @ solution.solution
    return (found - found[:, :1]).tolist()


moved, newer = carried(*statistics(old)), statistics(of_new)
joined = torch.cat([moved[0], newer[0]]), (3 * moved[1] + 2 * newer[1]) / 5
print(json.dumps({
    "alone": answers(*statistics(old)), "joined": answers(*joined),
    "ridge": least_squares(old + of_new)}))
