"""PyTorch's side of the race on a GPU: milliseconds a step and images a second of each mode, for one work.

usage: pytorch.py WORK [--modes MODE,...] [--batch N] [--steps N] [--seconds N]
  WORK   train | eval | invert | step, the same as of ../pytorch/step_server.py; step with its losses on maps
  MODE   f32, tf32 or bf16 (automatic, weights in f32), all channels last, alone or with one of two ways to launch less:
         -graph captures the step by hand, -compiled compiles the losses with `reduce-overhead`, which captures too
The learning rate of a captured step is fixed. networks.py and learning.py lie beside this file or in ../pytorch. It begins
no further mode after --seconds. Of `step` two images count for each of the batch: real ones, and as many generated.
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
from learning import Learning  # noqa: E402
from networks import Generator, ResNet32, WatchedNorm  # noqa: E402

MODES = [f"{values}{launch}" for launch in ("-graph", "", "-compiled") for values in ("tf32", "bf16", "f32")]


def precision(mode):
    """Sets what f32 is multiplied as; the context in which losses are computed."""
    values = mode.split("-")[0]
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = values != "f32"
    return torch.autocast("cuda", torch.bfloat16, enabled=values == "bf16")


class Steps(Learning):
    """One learning step, on the GPU."""

    def __init__(self, mode, batch):
        self.autocast = precision(mode)
        with torch.device("cuda"):
            super().__init__("channels_last", batch, True)
        if mode.endswith("compiled"):
            wrap = torch.compile(mode="reduce-overhead")
            self.look, self.loss = wrap(self.look), wrap(self.loss)

    def step(self):
        with self.autocast:
            said = self.look(torch.randn(self.batch, 256, device="cuda"))
        self.sgd.zero_grad(set_to_none=True)
        with self.autocast, torch.device("cuda"):
            loss = self.loss(*said)
        loss.backward()
        self.sgd.step()

    def ready(self, _):
        return self.step


class Works:
    def __init__(self, mode, batch):
        torch.manual_seed(0)
        self.autocast, memory = precision(mode), torch.channels_last
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


def race(work, mode, batch, steps):
    """Milliseconds of a step."""
    step = (Steps if work == "step" else Works)(mode, batch).ready(work)
    if mode.endswith("graph"):
        step = captured(step)
    for _ in range(10):
        step()
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    torch.cuda.synchronize()
    return (time.perf_counter() - start) / steps * 1e3


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", choices=["train", "eval", "invert", "step"])
    parser.add_argument("--modes", type=lambda text: text.split(","), default=MODES)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=80)
    arguments = parser.parse_args()
    for mode in arguments.modes:
        if mode not in MODES:
            parser.error(f"{mode} is not a mode; use one of {', '.join(MODES)}")
    begun = time.perf_counter()
    print(torch.__version__, torch.cuda.get_device_name(), flush=True)
    for mode in arguments.modes:
        what = f"PyTorch {arguments.work} {mode} batch {arguments.batch}"
        if time.perf_counter() - begun > arguments.seconds:
            print(f"{what}: no time left", flush=True)
            continue
        try:
            milliseconds = race(arguments.work, mode, arguments.batch, arguments.steps)
            images = arguments.batch * (2 if arguments.work == "step" else 1)
            print(f"{what}: {milliseconds:.3f} ms, {images / milliseconds * 1e3:.0f} images/s", flush=True)
        except Exception as error:
            print(f"{what}: {type(error).__name__}: {str(error).splitlines()[0]}", flush=True)


if __name__ == "__main__":
    main()
