"""One learning step of LUCIR with DF-GR and DT-ID in PyTorch: what `cil-runner bench --work step` does.

Per step: the generator draws images (no gradient, eval mode); the frozen old teacher sees the real and the generated
images, the frozen new teacher the real ones; the student sees all in one batch. Losses, as crates/cil-train and
crates/dtid have them: cross-entropy with every class counting the same, 1 - cosine of the features at weight
5 sqrt(old / new), T^2 KL of each teacher on its own columns at T = 2. SGD. Real images are fixed: reading and changing
them is part of the Rust step and not of this one.
"""
import torch
import torch.nn as nn
import torch.nn.functional as F

from networks import Generator, LucirResNet32

OLD, NEW, TEMPERATURE = 50, 10, 2.0
WIDTHS = (16, 32, 64)


class Regressor(nn.Module):
    """Variational information distillation of one map: mean by 1x1 convolutions, one variance a channel."""

    def __init__(self, width):
        super().__init__()
        self.mean = nn.Sequential(nn.Conv2d(width, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
                                  nn.Conv2d(width, width, 1, bias=False))
        start = torch.log(torch.expm1(torch.tensor(5.0 - 1e-5)))
        self.raw = nn.Parameter(torch.full((width,), float(start)))

    def forward(self, student, teacher):
        variance = (F.softplus(self.raw) + 1e-5).view(1, -1, 1, 1)
        return 0.5 * ((teacher - self.mean(student)) ** 2 / variance + torch.log(variance)).mean()


def kl(student, teacher):
    target = F.log_softmax(teacher / TEMPERATURE, 1)
    said = F.log_softmax(student / TEMPERATURE, 1)
    return TEMPERATURE ** 2 * F.kl_div(said, target, log_target=True, reduction="batchmean")


class Learning:
    def __init__(self, mode, batch, vid):
        torch.manual_seed(0)
        self.batch, self.vid = batch, vid
        self.memory = torch.channels_last if mode.endswith("channels_last") else torch.contiguous_format
        new = min(NEW, batch)
        self.new, self.less_forget = new, 5.0 * (OLD / new) ** 0.5
        place = lambda module: module.to(memory_format=self.memory)
        self.student = place(LucirResNet32([OLD, new])).train()
        self.student.head[0].requires_grad_(False)
        self.old = place(LucirResNet32([OLD])).eval().requires_grad_(False)
        self.teacher = place(LucirResNet32([new])).eval().requires_grad_(False)
        self.generator = place(Generator(256, 0.8)).eval().requires_grad_(False)
        regressors = [Regressor(width) for _ in ("old", "new") for width in WIDTHS] if vid else []
        self.regressors = place(nn.ModuleList(regressors))
        self.images = torch.randn(batch, 3, 32, 32).contiguous(memory_format=self.memory)
        self.labels = OLD + torch.arange(batch) % new
        trained = [it for it in [*self.student.parameters(), *self.regressors.parameters()] if it.requires_grad]
        self.sgd = torch.optim.SGD(trained, 0.1, momentum=0.9, weight_decay=5e-4)
        compiled = torch.compile if mode.startswith("compile") else lambda it: it
        self.look, self.loss = compiled(self.teachers_say), compiled(self.objective)

    @torch.no_grad()
    def teachers_say(self, noise):
        """Generated images, and what the teachers say: the old one of all images, the new one of the real ones."""
        drawn = self.generator(noise).contiguous(memory_format=self.memory)
        real, generated = self.old(self.images), self.old(drawn)
        features = torch.cat([real[0], generated[0]])
        logits = torch.cat([real[1], generated[1]])
        taps = [torch.cat(maps) for maps in zip(real[2], generated[2])] if self.vid else []
        labels = torch.cat([self.labels, generated[1].argmax(1)])
        _, new_logits, new_taps = self.teacher(self.images)
        images = torch.cat([self.images, drawn]).contiguous(memory_format=self.memory)
        return images, labels, features, logits, taps, new_logits, new_taps if self.vid else []

    def objective(self, images, labels, old_features, old_logits, old_taps, new_logits, new_taps):
        features, logits, taps = self.student(images)
        rows, n = len(labels), self.batch
        # Half of the rows are of old classes, half of new ones.
        weights = torch.where(labels < OLD, OLD, self.new) * (rows / n / (OLD + self.new))
        loss = (weights * F.cross_entropy(logits, labels, reduction="none")).sum() / rows
        loss = loss + self.less_forget * (1 - F.cosine_similarity(features, old_features)).mean()
        loss = loss + kl(logits[:, :OLD], old_logits) + kl(logits[:n, OLD:], new_logits)
        for at, tap in enumerate(taps if self.vid else []):
            loss = loss + self.regressors[at](tap, old_taps[at])
            loss = loss + self.regressors[len(WIDTHS) + at](tap[:n], new_taps[at])
        return loss

    def step(self):
        said = self.look(torch.randn(self.batch, 256))
        self.sgd.zero_grad(set_to_none=True)
        self.loss(*said).backward()
        self.sgd.step()
