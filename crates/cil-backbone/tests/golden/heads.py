"""PyTorch's values and gradients of the heads, and LUCIR's imprinting. Prints JSON; see ../it/heads.rs.

usage: python heads.py > heads.json
"""
import json

import torch
import torch.nn.functional as F

from backbones import noise

ROWS, WIDTH, BLOCKS, SCALE, PROXIES = 5, 6, [3, 1, 2], 2.5, 3


def tensor(name, *dims):
    return noise(name, *dims).clone().requires_grad_()


def lists(value):
    return value.detach().flatten().tolist() if isinstance(value, torch.Tensor) else value


def podnet(features, weights):
    """PODNet's CosineClassifier with distance neg_stable_cosine_distance and merging softmax, at c09fc54, restated."""
    a, b = F.normalize(features, p=2, dim=-1), F.normalize(weights, p=2, dim=-1)
    squares = a.pow(2).sum(1, keepdim=True) + b.pow(2).sum(1) - 2 * a @ b.T
    per_proxy = -torch.clamp(squares, min=0.0).view(len(features), -1, PROXIES)
    return (per_proxy * F.softmax(1.0 * per_proxy, dim=-1)).sum(-1)


def head(kind):
    features = tensor("features", ROWS, WIDTH)
    rows = PROXIES if kind == "multi-proxy" else 1
    weights = [tensor(f"head.{block}.weight", rows * classes, WIDTH) for block, classes in enumerate(BLOCKS)]
    leaves = {f"head.{block}.weight": weight for block, weight in enumerate(weights)}
    result = {}
    if not kind.startswith("linear"):
        scale = torch.full((1,), SCALE, requires_grad=True)
        leaves["head.scale"] = scale
        if kind == "cosine":
            similarities = F.linear(F.normalize(features), F.normalize(torch.cat(weights)))
        else:
            similarities = podnet(features, torch.cat(weights))
        logits = scale * similarities
        result["similarities"] = lists(similarities)
        loss = (similarities * noise("to similarities", ROWS, sum(BLOCKS))).sum()
    else:
        biases = [tensor(f"head.{block}.bias", classes) for block, classes in enumerate(BLOCKS)]
        leaves |= {f"head.{block}.bias": bias for block, bias in enumerate(biases)}
        directions = F.normalize(features) if kind == "linear-of-directions" else features
        logits = F.linear(directions, torch.cat(weights), torch.cat(biases))
        loss = 0.0
    (loss + (logits * noise("to logits", ROWS, sum(BLOCKS))).sum()).backward()
    result |= {"logits": lists(logits), "features": lists(features.grad)}
    return result | {"gradients": {name: lists(leaf.grad) for name, leaf in leaves.items()}}


def imprinted():
    """As class_incremental_cosine_cifar100.py: normalise, average, normalise, times the old weights' mean length."""
    old = noise("old", 4, WIDTH)
    rows = []
    for name, images in [("first", 4), ("second", 1)]:
        embedding = F.normalize(noise(name, images, WIDTH), p=2, dim=1).mean(0)
        rows.append(F.normalize(embedding, p=2, dim=0) * old.norm(dim=1, keepdim=True).mean(0))
    return lists(torch.stack(rows))


if __name__ == "__main__":
    walk = lambda v: {k: walk(w) for k, w in v.items()} if isinstance(v, dict) else [float(f"{w:.14g}") for w in v]
    heads = {kind: head(kind) for kind in ["linear", "cosine", "multi-proxy", "linear-of-directions"]}
    print(json.dumps(walk(heads | {"imprinted": imprinted()})))
