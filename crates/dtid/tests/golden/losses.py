"""Golden numbers of dtid: /opt/pt/bin/python losses.py > losses.json (torch 2.x, f64, seed in golden.py)."""

import torch
import torch.nn.functional as F
from golden import case, write

randn = torch.randn


def kl(student, teacher, t):
    return F.kl_div(F.log_softmax(student / t, 1), F.softmax(teacher / t, 1), reduction="batchmean") * t * t


case("kl", lambda student, teacher: kl(student, teacher, 2.0), ["student"], student=randn(4, 5), teacher=3 * randn(4, 5))

rows = torch.tensor([3, 0])
case(
    "columns",
    lambda student, old, new, rows: 0.7 * kl(student[:, :3], old, 2.0) + 1.3 * kl(student[rows, 3:], new, 2.0),
    ["student"], student=randn(4, 5), old=randn(4, 3), new=randn(2, 2), rows=rows,
)


def joint(student, old, new, scale):
    old = old - old.mean(1, keepdim=True)
    new = new - new.mean(1, keepdim=True)
    if scale:
        new = new * old.pow(2).mean().sqrt() / new.pow(2).mean().sqrt()
    return 0.5 * kl(student, torch.cat([old, new], 1), 1.5)


both = dict(student=randn(4, 5), old=2 + randn(4, 3), new=4 * randn(4, 2) - 3)
case("joint", lambda **it: joint(**it, scale=False), ["student"], **both)
case("joint_scaled", lambda **it: joint(**it, scale=True), ["student"], **both)


def facil(student, old, new):
    targets = torch.cat([old, new], dim=1)
    targets = targets - targets.mean(0)
    return F.mse_loss(student, targets, reduction="mean")


def paper(student, old, new):
    targets = torch.cat([old - old.mean(1, keepdim=True), new - new.mean(1, keepdim=True)], dim=1)
    return F.mse_loss(student, targets, reduction="mean")


case("regression_batch", facil, ["student"], **both)
case("regression_row", paper, ["student"], **both)


def vid(mean, teacher, raw):
    s2 = (F.softplus(raw) + 1e-5).view(1, -1, 1, 1)
    return 0.5 * ((mean - teacher) ** 2 / s2 + torch.log(s2)).mean()


raw = torch.log(torch.exp(5.0 * torch.ones(3) - 1e-5) - 1.0)
maps = dict(mean=randn(2, 3, 2, 2), teacher=randn(2, 3, 2, 2))
case("vid", vid, ["mean", "raw"], **maps, raw=raw)
case("vid_any_variance", vid, ["mean", "raw"], **maps, raw=torch.tensor([-3.0, 0.0, 15.0]))
write()
