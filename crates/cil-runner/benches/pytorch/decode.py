"""Images decoded a second: ours beside torchvision and Pillow, on the same files with as many workers.

usage: python decode.py FOLDER [--side 224] [--workers 2] [--rounds 3] [--ours target/debug/examples/decode]

FOLDER holds `train` (and `val`) with a folder a class. Both sides bring the shorter side to 8/7 of SIDE (below 128 to SIDE
itself) and cut the middle. Rounds alternate, so that what else the machine does meets both; the best of each is taken.
torchvision's loader is its own `ImageFolder` in a `DataLoader` of processes, as one trains with it.
"""

import argparse
import json
import subprocess
import time
from pathlib import Path

from torch.utils.data import ConcatDataset, DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import CenterCrop, Compose, PILToTensor, Resize


def theirs(folder, side, workers):
    shorter = side * 8 // 7 if side >= 128 else side
    change = Compose([Resize(shorter), CenterCrop(side), PILToTensor()])
    parts = [part for part in (folder / "train", folder / "val") if part.is_dir()] or [folder]
    files = ConcatDataset([ImageFolder(part, change) for part in parts])
    begun = time.perf_counter()
    images = sum(len(labels) for _, labels in DataLoader(files, batch_size=64, num_workers=workers))
    seconds = time.perf_counter() - begun
    return {"images": images, "seconds": seconds, "per_second": images / seconds}


def ours(program, folder, side, workers):
    return json.loads(subprocess.check_output([program, folder, str(side), str(workers)]))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ours", default="target/debug/examples/decode")
    asked = parser.parse_args()
    found = {"ours": [], "torchvision": []}
    for _ in range(asked.rounds):
        found["ours"].append(ours(asked.ours, asked.folder, asked.side, asked.workers))
        found["torchvision"].append(theirs(asked.folder, asked.side, asked.workers))
    best = {name: max(run["per_second"] for run in runs) for name, runs in found.items()}
    for name, runs in found.items():
        rates = ", ".join(f"{run['per_second']:.0f}" for run in runs)
        print(f"{name}: {best[name]:.0f} images/s ({rates}; {runs[0]['images']} images, {asked.workers} workers)")
    print(f"ratio {best['ours'] / best['torchvision']:.2f}")


main()
