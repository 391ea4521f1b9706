"""Herding in NumPy, for tests/herding.rs.

usage: python herding.py > herding.json

`ranking` is algorithm 4 of iCaRL (Rebuffi et al. 2017) as it reads, each image chosen once. The code that LUCIR and
PODNet published maximises an inner product instead, which is the same for features of length 1 until it comes to an
image a second time: it then counts that image twice. The first case is one where it does not.
"""
import json

import numpy as np


def directions(features):
    features = features.astype(np.float64)
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def ranking(features, count):
    features = directions(features)
    mean, chosen = features.mean(axis=0), []
    for size in range(1, count + 1):
        distance = np.linalg.norm(mean - (features[chosen].sum(axis=0) + features) / size, axis=1)
        distance[chosen] = np.inf
        chosen.append(int(distance.argmin()))
    return chosen


def published(features, count):
    features = directions(features)
    mean, chosen = features.mean(axis=0), []
    weights = mean
    while len(chosen) < count:
        best = int(np.dot(weights, features.T).argmax())
        if best not in chosen:
            chosen.append(best)
        weights = weights + mean - features[best]
    return chosen


random = np.random.default_rng(1993)
cases = []
for rows, width, count in [(60, 32, 8), (12, 3, 12), (100, 8, 20)]:
    # Like features after a last ReLU: not negative, with a common direction, of different lengths.
    features = np.maximum(random.normal(size=(rows, width)) + random.uniform(1, 2, width), 0).round(3)
    features = features.astype(np.float32)
    chosen = ranking(features, count)
    if not cases:
        assert chosen == published(features, count)
    cases.append({"width": width, "features": features.flatten().astype(str).astype(float).tolist(), "chosen": chosen})
print(json.dumps({"cases": cases}))
