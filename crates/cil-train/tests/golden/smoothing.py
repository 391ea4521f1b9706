"""Golden numbers of label smoothing: python3 smoothing.py > smoothing.json (numpy 2.x).

The targets are written out, as PyTorch's documentation of `CrossEntropyLoss(label_smoothing=...)` has them.
"""
import json

import numpy as np

logits = np.array([[1.5, -0.5, 0.25, 2.0], [0.0, 3.0, -1.0, 0.5], [-2.0, 0.75, 1.25, 1.0]])
labels, weights = np.array([0, 1, 3]), np.array([0.5, 1.75, 0.75])


def smoothed(share, weights):
    targets = (1 - share) * np.eye(4)[labels] + share / 4
    likely = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    rows = -(targets * np.log(likely)).sum(1)
    gradient = (likely * targets.sum(1, keepdims=True) - targets) * weights[:, None] / len(logits)
    return {"smoothing": share, "loss": float((rows * weights).mean()), "gradient": gradient.flatten().tolist()}


print(json.dumps({
    "logits": logits.flatten().tolist(), "labels": labels.tolist(), "weights": weights.tolist(),
    "plain": [smoothed(share, np.ones(3)) for share in (0.0, 0.1, 0.6)],
    "weighted": [smoothed(share, weights) for share in (0.0, 0.1, 0.6)]}))
