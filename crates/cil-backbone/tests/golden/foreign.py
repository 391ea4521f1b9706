"""Logits of torchvision's ResNets and of akamaster/pytorch_resnet_cifar10's, with weights made by name. Prints JSON; see
../it/foreign.rs.

usage: python foreign.py > foreign.json

The CIFAR network is written here after resnet.py of akamaster/pytorch_resnet_cifar10 at d5489e8, option A. Logits are
told as [dot product with noise, length], as in backbones.py.
"""
import json

import torch
import torch.nn.functional as F
import torchvision
from torch import nn

from backbones import noise, told

CLASSES, ROWS = 7, 3


class Block(nn.Module):
    def __init__(self, inputs, planes, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, planes, 3, stride, 1, bias=False), nn.BatchNorm2d(planes)
        self.conv2, self.bn2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False), nn.BatchNorm2d(planes)
        self.changes, self.planes = stride != 1 or inputs != planes, planes

    def forward(self, x):
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.changes:
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.planes // 4, self.planes // 4), "constant", 0)
        return F.relu(out + x)


class Cifar(nn.Module):
    def __init__(self, blocks):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        inputs = 16
        for stage, planes in enumerate([16, 32, 64], 1):
            layers = []
            for block in range(blocks):
                layers.append(Block(inputs, planes, 2 if stage > 1 and block == 0 else 1))
                inputs = planes
            setattr(self, f"layer{stage}", nn.Sequential(*layers))
        self.linear = nn.Linear(64, CLASSES)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.linear(F.avg_pool2d(x, x.shape[3]).flatten(1))


def small(network):
    """timm's networks for small images: the same names, a 3x3 stem of stride 1 and no pool."""
    network.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    network.maxpool = nn.Identity()
    return network


def value(name, shape):
    values = noise(name, *shape)
    if len(shape) == 4:
        return values * (6 / (shape[1] * shape[2] * shape[3])) ** 0.5
    if len(shape) == 2:
        return values * 0.1
    return values * 0.5 + 1 if name.endswith(("weight", "running_var")) else values * 0.25


NETWORKS = {
    "cifar-20": (lambda: Cifar(3), 16),
    "cifar-110": (lambda: Cifar(18), 16),
    "torchvision-18": (lambda: torchvision.models.resnet18(num_classes=CLASSES), 64),
    "torchvision-34": (lambda: torchvision.models.resnet34(num_classes=CLASSES), 64),
    "torchvision-50": (lambda: torchvision.models.resnet50(num_classes=CLASSES), 64),
    "small-18": (lambda: small(torchvision.models.resnet18(num_classes=CLASSES)), 16),
}

golden = {}
for name, (build, side) in NETWORKS.items():
    network = build().double().eval()
    tensors = {key: it for key, it in network.state_dict().items() if not key.endswith("num_batches_tracked")}
    network.load_state_dict({key: value(key, it.shape) for key, it in tensors.items()}, strict=False)
    logits = network(noise(f"images {name}", ROWS, 3, side, side))
    names = {key: list(it.shape) for key, it in tensors.items()}
    golden[name] = {"side": side, "tensors": names, "logits": told("logits", logits)}
print(json.dumps(golden))
