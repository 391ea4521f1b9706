"""PyTorch's loss and gradients of LUCIR's ResNet-32 on real images, in double precision. Prints JSON; see ../it/real_images.rs.

usage: python real_images.py ../../../../datasets/cifar100 > real_images.json

The images are ROWS training images of CIFAR-100 as `cargo xtask fetch-data cifar100` leaves them, STEP apart; no pixel
is told. Weights, and what each tensor is told by: backbones.py. `float_error` is the largest error of PyTorch's own
gradients in single precision, told in the same way.
"""
import json
import pathlib
import sys

import numpy
import torch

from backbones import network, noise, told

ROWS, STEP, SIDE, CLASSES = 16, 3101, 32, 100
MEAN, DEVIATION = [0.5071, 0.4866, 0.4409], [0.2009, 0.1984, 0.2023]


def read(folder):
    part = lambda name, kind, *dims: numpy.fromfile(folder / name, kind).reshape(-1, *dims)[::STEP][:ROWS]
    images = torch.from_numpy(part("train.images", numpy.uint8, 3, SIDE, SIDE).astype(numpy.float64))
    labels = torch.from_numpy(part("train.labels", "<u2").astype(numpy.int64))
    shape = lambda values: torch.tensor(values).view(1, 3, 1, 1)
    return (images / 255 - shape(MEAN)) / shape(DEVIATION), labels


def run(images, labels, train, dtype):
    net = network("lucir", 32, 16).train(train).to(dtype)
    head = noise("head", CLASSES, 64).to(dtype).requires_grad_()
    images = images.to(dtype).requires_grad_()
    loss = torch.nn.functional.cross_entropy(net(images)["pooled"] @ head.t(), labels)
    loss.backward()
    gradients = {name: told(name, weight.grad) for name, weight in net.named_parameters()}
    told_of = {"head": told("head", head.grad), "input": told("input", images.grad)}
    return {"loss": loss.item(), "gradients": gradients, **told_of}


def golden(images, labels, train):
    double, single = (run(images.clone(), labels, train, dtype) for dtype in (torch.float64, torch.float32))
    flat = lambda it: {**it["gradients"], "head": it["head"], "input": it["input"]}
    pairs = [(value, flat(single)[name]) for name, value in flat(double).items()]
    double["float_error"] = max(abs(a[at] - b[at]) / a[1] for a, b in pairs for at in range(2))
    return double


if __name__ == "__main__":
    images, labels = read(pathlib.Path(sys.argv[1]))
    modes = ",\n".join(f'"{mode}": {json.dumps(golden(images, labels, mode == "batch"))}' for mode in ["batch", "running"])
    print(f'{{"step": {STEP}, "labels": {labels.tolist()},\n{modes}\n}}')
