"""What a model's features could tell: a linear probe with all real images, old ones too, which no method has.

usage: probe.py MODEL.safetensors ORDER [--classes N] [--data datasets/cifar100] [--orders datasets/class_orders.json]

Reads a model of the `lucir` networks with a cosine head that a run has written, and the training images of the classes
of ORDER that it knows, or of the first N (more than it knows: without what its head says); test images are not read.
Prints, in percent of these images (a run's held-out ones are among them):
  classifier        the model as it is
  best offsets      the same with one number added to the cosines of each task's classes, the best there is
  nearest mean      cosine to means of real features; means of half of the images, tested on the other half
  discriminant      linear discriminant of the same halves: means, and one covariance of all classes
  linear probe      a linear classifier trained on half of the images, tested on the other half
"""
import argparse
import json
import struct
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F


def read(path):
    """Tensors by name, and the file's description of the model."""
    file = Path(path).read_bytes()
    size = struct.unpack("<Q", file[:8])[0]
    header, values = json.loads(file[8:8 + size]), file[8 + size:]
    model = json.loads(header.pop("__metadata__")["cil"])
    tensors = {name: torch.frombuffer(bytearray(values[slice(*it["data_offsets"])]), dtype=torch.float32)
               .view(it["shape"]) for name, it in header.items()}
    return tensors, model


def norm(x, values, name):
    keys = ("running_mean", "running_var", "weight", "bias")
    return F.batch_norm(x, *(values[f"{name}.{key}"] for key in keys), training=False, eps=1e-5)


def features(values, depth, x):
    x = F.relu(norm(F.conv2d(x, values["stem.conv.weight"], padding=1), values, "stem.norm"))
    blocks = (depth - 2) // 6
    for stage in (1, 2, 3):
        for block in range(blocks):
            name, stride = f"stage{stage}.block{block}", 2 if stage > 1 and block == 0 else 1
            y = F.relu(norm(F.conv2d(x, values[f"{name}.conv1.weight"], stride=stride, padding=1), values, f"{name}.norm1"))
            y = norm(F.conv2d(y, values[f"{name}.conv2.weight"], padding=1), values, f"{name}.norm2")
            shortcut = values.get(f"{name}.shortcut.conv.weight")
            if shortcut is not None:
                x = norm(F.conv2d(x, shortcut, stride=stride), values, f"{name}.shortcut.norm")
            x = x + y
            if (stage, block) != (3, blocks - 1):
                x = F.relu(x)
    return F.normalize(x.mean((2, 3)), dim=1)


def share(scores, labels):
    return 100 * (scores.argmax(1) == labels).float().mean().item()


def best_offsets(scores, labels, blocks):
    task = torch.repeat_interleave(torch.arange(len(blocks)), torch.tensor(blocks))
    offsets, best = torch.zeros(scores.shape[1]), share(scores, labels)
    for _ in range(3):
        for of in range(len(blocks)):
            for offset in np.arange(-0.4, 0.41, 0.04):
                tried = torch.where(task == of, torch.tensor(float(offset)), offsets)
                found = share(scores + tried, labels)
                if found > best:
                    best, offsets = found, tried
    return best


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("model")
    arguments.add_argument("order")
    arguments.add_argument("--classes", type=int)
    arguments.add_argument("--data", default="datasets/cifar100")
    arguments.add_argument("--orders", default="datasets/class_orders.json")
    given = arguments.parse_args()
    torch.manual_seed(0)
    values, model = read(given.model)
    if (model["architecture"]["variant"], model["head"]["kind"]) != ("lucir", "cosine"):
        raise SystemExit(f"{given.model} is a {model['architecture']['variant']} with a {model['head']['kind']} head; "
                         "lucir and cosine are right")
    blocks, data = model["head"]["blocks"], Path(given.data)
    order = json.loads(Path(given.orders).read_text())["cifar100"][given.order]["order"]
    part = json.loads((data / "manifest.json").read_text())["splits"]["train"]
    images = torch.from_numpy(np.fromfile(data / part["images"], dtype=np.uint8)).view(-1, *model["image-dims"])
    labels = np.fromfile(data / part["labels"], dtype="<u2").astype(int)
    mean, deviation = (torch.tensor(model["card"][key]).view(1, 3, 1, 1) for key in ("mean", "deviation"))

    n_seen, found = sum(blocks), []
    probed = order[:given.classes or n_seen]
    with torch.no_grad():
        for label in probed:
            of = images[labels == label].float() / 255
            found.append(features(values, model["architecture"]["depth"], (of - mean) / deviation))
    count = len(found[0])
    x = torch.cat(found)
    y = torch.arange(len(probed)).repeat_interleave(count)
    first = torch.arange(len(y)) % count < count // 2
    if n_seen == len(probed):
        head = F.normalize(torch.cat([values[f"head.{at}.weight"] for at in range(len(blocks))]), dim=1)
        scores = x @ head.T
        print(f"classifier    {share(scores, y):.1f}")
        print(f"best offsets  {best_offsets(scores, y, blocks):.1f}")
    means = torch.stack([x[first & (y == at)].mean(0) for at in range(len(probed))])
    print(f"nearest mean  {share(x[~first] @ F.normalize(means, dim=1).T, y[~first]):.1f}")
    spread = torch.cat([x[first & (y == at)] - means[at] for at in range(len(probed))])
    inverse = torch.linalg.inv(spread.T @ spread / len(spread) + 1e-4 * torch.eye(x.shape[1]))
    told = x[~first] @ inverse @ means.T - 0.5 * ((means @ inverse) * means).sum(1)
    print(f"discriminant  {share(told, y[~first]):.1f}")
    probe = torch.nn.Linear(x.shape[1], len(probed))
    optimizer = torch.optim.Adam(probe.parameters(), 1e-2)
    for _ in range(300):
        loss = F.cross_entropy(10 * probe(x[first]), y[first])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"linear probe  {share(probe(x[~first]), y[~first]):.1f}")


main()
