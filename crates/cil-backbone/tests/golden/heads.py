"""PyTorch's values and gradients of the two heads, and LUCIR's imprinting. Prints JSON; see ../it/heads.rs.

usage: python heads.py > heads.json
"""
import json

import torch
import torch.nn.functional as F

from backbones import noise

ROWS, WIDTH, BLOCKS, SCALE = 5, 6, [3, 1, 2], 2.5


def tensor(name, *dims):
    return noise(name, *dims).clone().requires_grad_()


def lists(value):
    return value.detach().flatten().tolist() if isinstance(value, torch.Tensor) else value


def head(cosine):
    features = tensor("features", ROWS, WIDTH)
    weights = [tensor(f"head.{block}.weight", classes, WIDTH) for block, classes in enumerate(BLOCKS)]
    leaves = {f"head.{block}.weight": weight for block, weight in enumerate(weights)}
    result = {}
    if cosine:
        scale = torch.full((1,), SCALE, requires_grad=True)
        leaves["head.scale"] = scale
        similarities = F.linear(F.normalize(features), F.normalize(torch.cat(weights)))
        logits = scale * similarities
        result["similarities"] = lists(similarities)
        loss = (similarities * noise("to similarities", ROWS, sum(BLOCKS))).sum()
    else:
        biases = [tensor(f"head.{block}.bias", classes) for block, classes in enumerate(BLOCKS)]
        leaves |= {f"head.{block}.bias": bias for block, bias in enumerate(biases)}
        logits = F.linear(features, torch.cat(weights), torch.cat(biases))
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
    print(json.dumps(walk({"linear": head(False), "cosine": head(True), "imprinted": imprinted()})))
