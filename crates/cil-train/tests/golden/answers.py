"""Golden numbers of FeCAM and FeTrIL: python3 answers.py > answers.json (numpy 2.x, scikit-learn 1.9, f64).

FeCAM as dipamgoswami/FeCAM at ed84615 has it (models/base.py, utils/maha_utils.py), restated step by step: np.cov of
Tukey-transformed features, the double shrinkage, correlations, pinv, squared distances between directions. FeTrIL as
PyCIL's models/fetril.py: moved features, directions, LinearSVC.
"""
import json

import numpy as np
from sklearn.svm import LinearSVC

random = np.random.default_rng(8)
WIDTH = 5


def of_class(rows):
    """Features after a ReLU, some of them 0; not below 0."""
    centre, spread = random.uniform(0, 2, WIDTH) * random.integers(0, 3, WIDTH), random.normal(size=(WIDTH, WIDTH)) * 0.4
    return np.maximum(centre + random.normal(size=(rows, WIDTH)) @ spread, 0)


tasks = [[of_class(9), of_class(12), of_class(7)], [of_class(8), of_class(11)]]
images = of_class(6)
BETA, ALPHA1, ALPHA2 = 0.5, 1.0, 0.7


def tukey(x, beta):
    return x if beta == 1 else np.power(x, beta)


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def shrink(cov):
    diagonal = np.mean(np.diagonal(cov))
    off = cov.copy()
    np.fill_diagonal(off, 0)
    off_mean = off.sum() / (off != 0).sum()
    identity = np.eye(len(cov))
    return cov + ALPHA1 * diagonal * identity + ALPHA2 * off_mean * (1 - identity)


def distances(covariances, beta):
    classes = [c for task in tasks for c in task]
    means = [unit(tukey(c.mean(0), beta)) for c in classes]
    found = []
    for mean, cov in zip(means, covariances):
        apart = unit(tukey(unit(images), beta)) - mean
        found.append(np.einsum("ni,ij,nj->n", apart, np.linalg.pinv(cov), apart))
    found = -0.5 * np.stack(found, 1)
    return (found - found[:, :1]).tolist()


def correlations(cov):
    sd = np.sqrt(np.diagonal(cov))
    return cov / np.outer(sd, sd)


def per_class(beta, rounds, normalised):
    covariances = []
    for task in tasks:
        for c in task:
            cov = np.cov(tukey(c, beta).T)
            for _ in range(rounds):
                cov = shrink(cov)
            covariances.append(correlations(cov) if normalised else cov)
    return distances(covariances, beta)


def shared(beta):
    """Each task's covariance around its own mean, shrunk, tasks counting by their classes."""
    common = None
    seen = 0
    for task in tasks:
        cov = shrink(np.cov(tukey(np.concatenate(task), beta).T))
        ratio = seen / (seen + len(task))
        common = cov if common is None else ratio * common + (1 - ratio) * cov
        seen += len(task)
    return distances([common] * seen, beta)


def within(beta):
    covariances = [np.cov(tukey(c, beta).T) for task in tasks for c in task]
    return distances([shrink(np.mean(covariances, 0))] * len(covariances), beta)


def fetril(cost):
    old, new = tasks
    means = [c.mean(0) for c in old]
    own = [c.mean(0) for c in new]
    nearest = np.argmax(unit(np.array(means)) @ unit(np.array(own)).T, 1)
    rows = [new[n] - own[n] + mean for n, mean in zip(nearest, means)] + new
    labels = np.concatenate([[k] * len(r) for k, r in enumerate(rows)])
    svm = LinearSVC(C=cost, dual=False, tol=1e-14, max_iter=100_000)
    svm.fit(unit(np.concatenate(rows)), labels)
    return {"nearest": nearest.tolist(), "said": svm.decision_function(unit(images)).tolist()}


def fetril_base(cost):
    svm = LinearSVC(C=cost, dual=False, tol=1e-14, max_iter=100_000)
    labels = np.concatenate([[k] * len(r) for k, r in enumerate(tasks[0])])
    svm.fit(unit(np.concatenate(tasks[0])), labels)
    return svm.decision_function(unit(images)).tolist()


print(json.dumps({
    "tasks": [[c.tolist() for c in task] for task in tasks], "images": images.tolist(),
    "shrinkage": ALPHA1, "off-diagonal": ALPHA2,
    "per-class": per_class(BETA, 2, True), "per-class-plain": per_class(1.0, 1, False),
    "shared": shared(BETA), "within-class": within(BETA),
    "cost": [1.0, 40.0], "fetril": [fetril(1.0), fetril(40.0)], "fetril-base": [fetril_base(1.0), fetril_base(40.0)]}))
