"""PyTorch's side of the race on a GPU: images a second of every mode, for one work.

usage: pytorch.py WORK [--batch N] [--steps N] [--seconds N]
  WORK   train | eval | invert, the same as of step_server.py
Modes: f32 without TF32, TF32, automatic bf16 and channels last, the same compiled with `reduce-overhead` (which captures
CUDA graphs), and the same captured by hand. The learning rate of a captured step is fixed. networks.py lies beside this
file or in ../pytorch. It stops trying further modes after --seconds.
"""
import argparse
import pathlib
import sys
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

HERE = pathlib.Path(__file__).parent
sys.path += [str(HERE), str(HERE.parent / "pytorch")]
from networks import Generator, ResNet32, WatchedNorm  # noqa: E402

MODES = ["f32", "tf32", "bf16", "bf16 graph", "bf16 compiled"]


class Works:
    def __init__(self, mode, batch):
        torch.manual_seed(0)
        fast = mode.startswith("bf16")
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = mode != "f32"
        memory = torch.channels_last if fast else torch.contiguous_format
        self.autocast = torch.autocast("cuda", torch.bfloat16, enabled=fast)
        self.net = ResNet32().cuda().to(memory_format=memory)
        self.images = torch.randn(batch, 3, 32, 32, device="cuda").contiguous(memory_format=memory)
        self.labels = torch.randint(0, 100, (batch,), device="cuda")
        self.sgd = torch.optim.SGD(self.net.parameters(), 0.1, momentum=0.9, weight_decay=5e-4, fused=True)
        self.generator = Generator().cuda().to(memory_format=memory)
        self.adam = torch.optim.Adam(self.generator.parameters(), 1e-3, betas=(0.5, 0.999), fused=True, capturable=True)
        self.batch = batch
        wrap = torch.compile(mode="reduce-overhead") if mode.endswith("compiled") else lambda loss: loss
        self.loss, self.seen, self.dreamt = wrap(self.train_loss), wrap(self.net), wrap(self.inversion_loss)

    def train_loss(self):
        with self.autocast:
            return F.cross_entropy(self.net(self.images), self.labels)

    def train(self):
        self.sgd.zero_grad(set_to_none=True)
        self.loss().backward()
        self.sgd.step()

    @torch.no_grad()
    def eval(self):
        with self.autocast:
            self.seen(self.images)

    def inversion_loss(self):
        noise = torch.randn(self.batch, 100, device="cuda")
        with self.autocast:
            loss = F.cross_entropy(self.net(self.generator(noise)), self.labels)
        for norm in self.norms:
            var, mean = (it.float() for it in norm.seen)
            ratio = ((mean - norm.running_mean) ** 2 + var) / (2 * norm.running_var)
            loss = loss + (ratio - 0.5 * torch.log(var / norm.running_var) - 0.5).sum()
        return loss

    def invert(self):
        self.adam.zero_grad(set_to_none=True)
        self.dreamt().backward()
        self.adam.step()

    def ready(self, work):
        self.net.train(work == "train")
        if work == "invert":
            self.net.requires_grad_(False)
            self.norms = [it for it in self.net.modules() if isinstance(it, nn.BatchNorm2d)]
            for norm in self.norms:
                norm.__class__ = WatchedNorm
        return getattr(self, work)


def captured(step):
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(5):
            step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", choices=["train", "eval", "invert"])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=80)
    arguments = parser.parse_args()
    begun = time.perf_counter()
    print(torch.__version__, torch.cuda.get_device_name())
    for mode in MODES:
        if time.perf_counter() - begun > arguments.seconds:
            print(f"{arguments.work} {mode}: no time left")
            continue
        try:
            step = Works(mode, arguments.batch).ready(arguments.work)
            if mode.endswith("graph"):
                step = captured(step)
            for _ in range(10):
                step()
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(arguments.steps):
                step()
            torch.cuda.synchronize()
            seconds = (time.perf_counter() - start) / arguments.steps
            print(f"{arguments.work} {mode}: {seconds * 1e3:.3f} ms, {arguments.batch / seconds:.0f} images a second", flush=True)
        except Exception as error:
            print(f"{arguments.work} {mode}: {type(error).__name__}: {str(error).splitlines()[0]}", flush=True)


if __name__ == "__main__":
    main()
