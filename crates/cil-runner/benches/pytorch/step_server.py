"""PyTorch's side of the race: one step for each line read.

usage: step_server.py MODE THREADS [MODEL] [BATCH] [--side PIXELS] [--vid]
  MODE   default | channels_last | compile | compile_channels_last
  MODEL  resnet32 (3x32x32, 100 classes; default) | resnet18 (3x64x64 or --side, 200 classes; ImageNet's stem above 32 pixels)
  BATCH  images in a step; 128 by default, 64 for resnet18
Reads lines `train`, `eval`, `invert` or `step`; answers each with `WALL_MS CPU_MS`. A work is made, and compiled, when it
is first asked for; the first answers of each are slow.
  train   forward, cross-entropy, backward, SGD(momentum 0.9, weight decay 5e-4)
  eval    forward in eval mode, no gradient
  invert  generator forward, frozen classifier forward, label cross-entropy + BN-statistics KL, backward into the
          generator, Adam step (resnet32 only)
  step    one learning step of LUCIR + DF-GR + DT-ID on 50 old and 10 new classes, BATCH real and BATCH generated images
          (see learning.py; resnet32 only); --vid adds variational information distillation of three stages by both teachers
It needs torch, and a C++ compiler for the compiled modes. race.py beside it races all modes against `cil-runner bench`.
The networks of train, eval and invert are those of crates/cil-runner/src/commands/bench/networks.rs.
"""
import argparse
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

from learning import Learning
from networks import Generator, ResNet18, ResNet32, WatchedNorm


class Classifier:
    """train, eval and invert."""

    def __init__(self, mode, model, batch, side):
        torch.manual_seed(0)
        self.memory = torch.channels_last if mode.endswith("channels_last") else torch.contiguous_format
        self.compiled = mode.startswith("compile")
        self.net = (ResNet32() if model == "resnet32" else ResNet18(side)).to(memory_format=self.memory)
        self.images = torch.randn(batch, 3, self.net.side, self.net.side).contiguous(memory_format=self.memory)
        self.labels = torch.randint(0, self.net.classes, (batch,))
        self.forward = torch.compile(self.net) if self.compiled else self.net
        self.sgd = torch.optim.SGD(self.net.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)
        self.batch, self.generator = batch, None

    def train(self):
        self.net.train()
        self.sgd.zero_grad(set_to_none=True)
        F.cross_entropy(self.forward(self.images), self.labels).backward()
        self.sgd.step()

    @torch.no_grad()
    def eval(self):
        self.net.eval()
        self.forward(self.images)

    def invert(self):
        if self.generator is None:
            self.generator = Generator().to(memory_format=self.memory)
            self.adam = torch.optim.Adam(self.generator.parameters(), 1e-3, betas=(0.5, 0.999))
            self.net.requires_grad_(False).eval()
            self.norms = [it for it in self.net.modules() if isinstance(it, nn.BatchNorm2d)]
            for norm in self.norms:
                norm.__class__ = WatchedNorm
            self.inversion_loss = torch.compile(self.loss_of_noise) if self.compiled else self.loss_of_noise
        self.adam.zero_grad(set_to_none=True)
        self.inversion_loss(torch.randn(self.batch, 100)).backward()
        self.adam.step()

    def loss_of_noise(self, noise):
        loss = F.cross_entropy(self.net(self.generator(noise)), self.labels)
        for norm in self.norms:
            var, mean = norm.seen
            ratio = ((mean - norm.running_mean) ** 2 + var) / (2 * norm.running_var)
            loss = loss + (ratio - 0.5 * torch.log(var / norm.running_var) - 0.5).sum()
        return loss


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=["default", "channels_last", "compile", "compile_channels_last"])
    parser.add_argument("threads", type=int)
    parser.add_argument("model", nargs="?", default="resnet32", choices=["resnet32", "resnet18"])
    parser.add_argument("batch", nargs="?", type=int)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--vid", action="store_true")
    arguments = parser.parse_args()
    batch = arguments.batch or {"resnet32": 128, "resnet18": 64}[arguments.model]
    torch.set_num_threads(arguments.threads)
    works = {}
    for line in sys.stdin:
        work = line.strip()
        known = ["train", "eval", "invert", "step"] if arguments.model == "resnet32" else ["train", "eval"]
        if work not in known:
            sys.exit(f"error: there is no work {work!r} of {arguments.model}; use one of {', '.join(known)}")
        if work not in works:
            works[work] = (Learning(arguments.mode, batch, arguments.vid).step if work == "step"
                           else getattr(Classifier(arguments.mode, arguments.model, batch, arguments.side), work))
        wall, cpu = time.perf_counter(), time.process_time()
        works[work]()
        print(f"{(time.perf_counter() - wall) * 1e3:.3f} {(time.process_time() - cpu) * 1e3:.3f}", flush=True)


if __name__ == "__main__":
    main()
