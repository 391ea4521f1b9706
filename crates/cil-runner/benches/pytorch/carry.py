"""What carrying statistics of old classes to a changed backbone costs, by the images that the map is fitted on: the sketch
behind `recipe.discriminant.views` (docs/results.md).

usage: carry.py CHECKPOINT [--data datasets/cifar100] [--orders datasets/class_orders.json]

CHECKPOINT is one of the last task's end in a run of `cifar100-20c` with increments=[5,5,5,5] and class-order=podnet_1
(NAME.partial/*.checkpoint): it holds the old model and the new one. True statistics of the old classes in the old model
are carried to the new one; half of the training images make statistics, the other half is classified. Test images are not
read. Prints accuracy on all classes, on old and on new ones, in percent.
"""
import argparse
import json
import struct
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

DEPTH, OLD, CLASSES = 20, 15, 20
STAGES = ((3, 2), (2, 4), (1, 4))


def read(path):
    """Tensors of a checkpoint by name."""
    file = Path(path).read_bytes()
    size = struct.unpack("<Q", file[:8])[0]
    header, values = json.loads(file[8:8 + size]), file[8 + size:]
    header.pop("__metadata__", None)
    kinds = {"F32": torch.float32, "F64": torch.float64, "U32": torch.int32, "I64": torch.int64}
    return {name: torch.frombuffer(bytearray(values[slice(*it["data_offsets"])]), dtype=kinds[it["dtype"]]).view(it["shape"])
            for name, it in header.items()}


def norm(x, values, name):
    keys = ("running_mean", "running_var", "weight", "bias")
    return F.batch_norm(x, *(values[f"{name}.{key}"] for key in keys), training=False, eps=1e-5)


def stages(values, x):
    """Features of all stages, as `frozen-stages` has them, of LUCIR's network."""
    x = F.relu(norm(F.conv2d(x, values["stem.conv.weight"], padding=1), values, "stem.norm"))
    blocks, ends = (DEPTH - 2) // 6, {}
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
        ends[stage] = F.relu(x)
    parts = [F.normalize(F.adaptive_avg_pool2d(ends[stage], cells).flatten(1), dim=1) for stage, cells in STAGES]
    return torch.cat(parts, 1).double()


def views(x, generator):
    """Views of images, by name."""
    def crop(x):
        wide, at = F.pad(x, (4, 4, 4, 4)), torch.randint(0, 9, (len(x), 2), generator=generator).tolist()
        return torch.stack([wide[i, :, a:a + 32, b:b + 32] for i, (a, b) in enumerate(at)])

    def mix(x):
        share = torch.rand(len(x), 1, 1, 1, generator=generator)
        return share * x + (1 - share) * x[torch.randperm(len(x), generator=generator)]

    def paste(x):
        other, result = x[torch.randperm(len(x), generator=generator)], x.clone()
        for i, (a, b) in enumerate(torch.randint(0, 16, (len(x), 2), generator=generator).tolist()):
            result[i, :, a:a + 16, b:b + 16] = other[i, :, a:a + 16, b:b + 16]
        return result

    def colour(x):
        channels = torch.stack([torch.randperm(3, generator=generator) for _ in range(len(x))])
        return torch.stack([x[i, channels[i]] for i in range(len(x))]) * (0.6 + 0.8 * torch.rand(len(x), 3, 1, 1, generator=generator))

    both = (x, x.flip(3))
    return {"plain": both, "crop": [crop(it) for it in both], "rotated": [x.rot90(k, (2, 3)) for k in (1, 2, 3)],
            "mix": [mix(it) for it in both], "pasted": [paste(it) for it in both], "colour": [colour(it) for it in both]}


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("checkpoint")
    arguments.add_argument("--data", default="datasets/cifar100")
    arguments.add_argument("--orders", default="datasets/class_orders.json")
    given = arguments.parse_args()
    values = read(given.checkpoint)
    part = lambda name: {key[len(name):]: it for key, it in values.items() if key.startswith(name)}  # noqa: E731
    old, new = part("fixed/old/"), part("moving/network/") or part("fixed/model/")
    order = json.loads(Path(given.orders).read_text())["cifar100"]["podnet_1"]["order"][:CLASSES]
    files = json.loads((Path(given.data) / "manifest.json").read_text())["splits"]["train"]
    images = torch.from_numpy(np.fromfile(Path(given.data) / files["images"], dtype=np.uint8)).view(-1, 3, 32, 32)
    labels = np.fromfile(Path(given.data) / files["labels"], dtype="<u2").astype(int)
    mean, deviation = (torch.tensor(it).view(1, 3, 1, 1) for it in ([0.5071, 0.4866, 0.4409], [0.2009, 0.1984, 0.2023]))
    x = (torch.cat([images[labels == label] for label in order]).float() / 255 - mean) / deviation
    y = torch.arange(CLASSES).repeat_interleave(500)
    first = torch.arange(len(y)) % 500 < 250

    def seen(values, images):
        with torch.no_grad():
            return torch.cat([stages(values, batch) for batch in images.split(500)])

    by_old, by_new = ((seen(it, x), seen(it, x.flip(3))) for it in (old, new))

    def statistics(by, classes):
        rows = [torch.cat([it[(y == at) & first] for it in by]) for at in classes]
        return torch.stack([it.mean(0) for it in rows]), torch.stack([torch.cov(it.T, correction=0) for it in rows]).mean(0)

    means, covariance = statistics(by_old, range(OLD))
    new_means, new_covariance = statistics(by_new, range(OLD, CLASSES))
    held_out, truth = by_new[0][~first], y[~first]

    def answer(name, means, covariance):
        means = torch.cat([means, new_means])
        covariance = (OLD * covariance + (CLASSES - OLD) * new_covariance) / CLASSES
        covariance += 0.01 * covariance.diagonal().mean() * torch.eye(len(covariance))
        weights = torch.linalg.solve(covariance, means.T)
        right = (held_out @ weights - 0.5 * (means.T * weights).sum(0)).argmax(1) == truth
        shares = [100 * right[of].double().mean().item() for of in (truth >= 0, truth < OLD, truth >= OLD)]
        print(f"{name:48} all {shares[0]:.1f} old {shares[1]:.1f} new {shares[2]:.1f}", flush=True)

    torch.set_default_dtype(torch.float64)
    answer("true statistics", *statistics(by_new, range(OLD)))
    answer("not carried", means, covariance)
    torch.set_default_dtype(torch.float32)
    shown = views(x[(y >= OLD) & first], torch.Generator().manual_seed(0))
    pairs = {name: [torch.cat([seen(it, view) for view in of]) for it in (old, new)] for name, of in shown.items()}
    torch.set_default_dtype(torch.float64)
    everything = ["plain", "crop", "rotated", "mix", "pasted", "colour"]
    for names in [["plain"], *(["plain", name] for name in everything[1:]), everything]:
        before, after = (torch.cat([pairs[name][at] for name in names]) for at in (0, 1))
        start, end = before.mean(0), after.mean(0)
        before, change = before - start, after - end - (before - start)
        for ridge in (3e-2, 1e-2, 3e-3):
            squares = before.T @ before
            squares += ridge * squares.diagonal().mean() * torch.eye(len(squares))
            moved = torch.linalg.solve(squares, before.T @ change)
            left, map_ = change - before @ moved, torch.eye(len(moved)) + moved
            answer(f"{'+'.join(names)}, ridge {ridge}", (means - start) @ map_ + end, map_.T @ covariance @ map_ + left.T @ left / len(left))


main()
