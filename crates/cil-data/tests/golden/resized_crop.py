"""Writes resized_crop.json: what torchvision's RandomResizedCrop.get_params makes of given draws.

usage: python resized_crop.py > resized_crop.json

The arithmetic is that of torchvision 0.29's get_params, line by line, with its draws replaced by numbers that are
written down, so that the same parts come out of the same numbers elsewhere. Where torchvision is installed, its own
function runs instead, with torch's draws replaced in the same way.
"""

import json
import math
import random

random.seed(3)


def get_params(height, width, scale, ratio, tries):
    area = height * width
    for share, aspect, top, left in tries:
        target_area = area * share
        w = int(round(math.sqrt(target_area * aspect)))
        h = int(round(math.sqrt(target_area / aspect)))
        if 0 < w <= width and 0 < h <= height:
            return min(int(top * (height - h + 1)), height - h), min(int(left * (width - w + 1)), width - w), h, w
    in_ratio = float(width) / float(height)
    if in_ratio < min(ratio):
        w = width
        h = int(round(w / min(ratio)))
    elif in_ratio > max(ratio):
        h = height
        w = int(round(h * max(ratio)))
    else:
        w = width
        h = height
    return (height - h) // 2, (width - w) // 2, h, w


def installed(height, width, scale, ratio, tries):
    import torch
    from torchvision.transforms import RandomResizedCrop

    class Picture:
        pass

    log = [iter([t[0] for t in tries]), iter([math.log(t[1]) for t in tries])]
    uniform, randint, dimensions = torch.Tensor.uniform_, torch.randint, None
    from torchvision.transforms import functional as F
    from torchvision.transforms import transforms as T

    calls = {"uniform": 0}
    place = {"at": 0}

    def fake_uniform(self, low, high):
        which = calls["uniform"] % 2
        calls["uniform"] += 1
        place["at"] = (calls["uniform"] - 1) // 2
        return torch.tensor([next(log[which])], dtype=torch.float64)

    order = {"n": 0}

    def fake_randint(low, high, size):
        share = tries[place["at"]][2 + order["n"]]
        order["n"] += 1
        return torch.tensor([min(int(share * high), high - 1)])

    dimensions = F.get_dimensions
    empty = torch.empty
    try:
        torch.Tensor.uniform_, torch.randint = fake_uniform, fake_randint
        F.get_dimensions = lambda _: (3, height, width)
        return RandomResizedCrop.get_params(Picture(), list(scale), list(ratio))
    finally:
        torch.Tensor.uniform_, torch.randint, F.get_dimensions = uniform, randint, dimensions


def main():
    cases = []
    for at in range(48):
        height, width = random.choice([(256, 341), (341, 256), (64, 64), (32, 32), (256, 1000), (1000, 256), (5, 3), (1, 900)])
        scale, ratio = ((0.08, 1.0), (3 / 4, 4 / 3)) if at % 4 else ((0.9, 1.0), (1.2, 1.9))
        tries = [(random.uniform(*scale), math.exp(random.uniform(math.log(ratio[0]), math.log(ratio[1]))), random.random(), random.random())
                 for _ in range(10)]
        found = get_params(height, width, scale, ratio, tries)
        try:
            assert installed(height, width, scale, ratio, tries) == found, (height, width)
        except ImportError:
            pass
        top, left, h, w = found
        cases.append({"height": height, "width": width, "scale": scale, "ratio": ratio, "tries": tries,
                      "part": {"top": top, "left": left, "height": h, "width": w}})
    print(json.dumps({"cases": cases}))


main()
