"""Golden numbers of features of several stages: python3 cells.py > cells.json (torch 2.x, f64).

Maps of sides that cells divide and of sides that they do not, after ReLU, by PyTorch's adaptive average pooling.
"""
import json

import torch
from torch.nn import functional as F

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
MAPS = {"stage1": (3, 8, 8), "stage2": (4, 7, 5), "stage3": (2, 3, 3)}
# Stage, cells, whether its vector is divided by its length.
STAGES = [(3, 2, True), (1, 4, True), (2, 3, False)]

maps = {name: torch.randn(2, *dims) for name, dims in MAPS.items()}


def of_stage(stage, cells, normalised):
    found = F.adaptive_avg_pool2d(F.relu(maps[f"stage{stage}"]), cells).flatten(1)
    return F.normalize(found) if normalised else found


print(json.dumps({
    "maps": {name: {"dims": list(it.shape), "values": it.flatten().tolist()} for name, it in maps.items()},
    "stages": [{"stage": stage, "cells": cells, "normalised": it} for stage, cells, it in STAGES],
    "features": torch.cat([of_stage(*it) for it in STAGES], 1).flatten().tolist(),
}))
