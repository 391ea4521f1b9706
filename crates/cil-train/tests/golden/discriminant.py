"""Golden numbers of the discriminant of class statistics: python3 discriminant.py > discriminant.json (torch 2.x, f64).

Another way than ours: log-likelihoods of normal distributions, and least squares with the ridge as rows of its own.
"""
import json

import torch

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
WIDTH, RIDGE, SHRINKAGE = 5, 1e-4, 0.05
mixing = torch.randn(WIDTH, WIDTH)


def features(rows, shift):
    return torch.randn(rows, WIDTH) @ mixing + shift


def statistics(classes):
    means = torch.stack([it.mean(0) for it in classes])
    return means, torch.stack([torch.cov(it.T, correction=0) for it in classes]).mean(0)


def carried(means, covariance, before, after):
    """y = x A + b by least squares; the ridge holds A alone."""
    spread = torch.cov(before.T, correction=0) * len(before)
    penalty = (RIDGE * torch.trace(spread) / WIDTH).sqrt() * torch.eye(WIDTH)
    rows = torch.cat([torch.cat([before, torch.ones(len(before), 1)], 1), torch.cat([penalty, torch.zeros(WIDTH, 1)], 1)])
    solution = torch.linalg.lstsq(rows, torch.cat([after, torch.zeros(WIDTH, WIDTH)])).solution
    left = after - torch.cat([before, torch.ones(len(before), 1)], 1) @ solution
    return (means @ solution[:-1] + solution[-1],
            solution[:-1].T @ covariance @ solution[:-1] + torch.cov(left.T, correction=0))


def answers(means, covariance, images):
    """Log-likelihoods less the first class's: what all classes share is out."""
    covariance = covariance + SHRINKAGE * torch.trace(covariance) / WIDTH * torch.eye(WIDTH)
    normal = torch.distributions.MultivariateNormal
    found = torch.stack([normal(mean, covariance).log_prob(images) for mean in means], 1)
    return found - found[:, :1]


old = [features(7, 0), features(9, 2 * torch.randn(WIDTH)), features(8, 2 * torch.randn(WIDTH))]
new = [features(6, 3 * torch.randn(WIDTH)), features(10, 3 * torch.randn(WIDTH))]
at_hand = torch.cat(new)
drifted = at_hand @ (torch.eye(WIDTH) + 0.2 * torch.randn(WIDTH, WIDTH)) + 0.3 + 0.1 * torch.randn(16, WIDTH)
images = features(6, 1)
means, covariance = statistics(old)
moved, moved_covariance = carried(means, covariance, at_hand, drifted)
of_new = [drifted[:6], drifted[6:]]
new_means, new_covariance = statistics(of_new)
joined = torch.cat([moved, new_means]), (3 * moved_covariance + 2 * new_covariance) / 5
print(json.dumps({
    "old": [it.tolist() for it in old], "before": at_hand.tolist(), "after": [it.tolist() for it in of_new],
    "images": images.tolist(), "shrinkage": SHRINKAGE, "alone": answers(means, covariance, images).tolist(),
    "joined": answers(*joined, images).tolist(),
}))
