"""Golden numbers of the losses of rival methods: python3 rivals.py > rivals.json (torch 2.x, f64, seed in golden.py)."""

import pathlib
import sys

import torch
import torch.nn.functional as F

sys.path.insert(0, str(pathlib.Path(__file__).parents[3] / "dtid/tests/golden"))
from golden import case, write  # noqa: E402

randn = torch.randn
labels = torch.tensor([0, 4, 2, 1, 4, 3])


def icarl(logits, labels, old):
    """iCaRL's targets and loss (PyCIL's first icarl.py, restated), with the sum over classes for the mean."""
    targets = F.one_hot(labels, logits.size(1)).to(logits.dtype)
    targets[:, :old.size(1)] = torch.sigmoid(old)
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / logits.size(0)


def base(logits, labels):
    targets = F.one_hot(labels, logits.size(1)).to(logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, targets, reduction="sum") / logits.size(0)


binary = dict(logits=3 * randn(6, 5), labels=labels)
case("icarl", icarl, ["logits"], **binary, old=3 * randn(6, 3))
case("icarl_base", base, ["logits"], **binary)


def global_kd(student, old):
    """ABD's DeepInversion on generated images (`loss_fn_kd` with soft targets), times T squared, less the entropy."""
    targets = torch.cat([F.softmax(old / 2, 1), torch.zeros(old.size(0), student.size(1) - old.size(1))], 1)
    cross = -(targets * F.log_softmax(student / 2, 1)).sum(1)
    entropy = -(F.softmax(old / 2, 1) * F.log_softmax(old / 2, 1)).sum(1)
    return 4 * (cross - entropy).mean()


def projected_kd(student, old, weight1, bias1, weight2, bias2):
    """AdaGauss's projected distillation: `distiller` of two linear layers and GELU, mean squared error."""
    hidden = F.gelu(F.linear(student, weight1, bias1))
    return F.mse_loss(F.linear(hidden, weight2, bias2), old)


def anti_collapse(features):
    """AdaGauss's `loss_ac` with a limit of 0.9."""
    return -torch.diag(torch.linalg.cholesky(torch.cov(features.T))).clamp(max=0.9).mean()


case("global_kd", global_kd, ["student"], student=randn(4, 5), old=2 * randn(4, 3))
layers = dict(weight1=randn(8, 4), bias1=randn(8), weight2=randn(4, 8), bias2=randn(4))
case("projected_kd", projected_kd, ["student", *layers], student=randn(5, 4), old=randn(5, 4), **layers)
spread = randn(9, 4) @ torch.diag(torch.tensor([2.0, 1.0, 0.5, 0.1])) @ randn(4, 4)
case("anti_collapse", anti_collapse, ["features"], features=spread)


def rotation(features, turned, labels, weight, bias):
    """PASS's labels of turned images: `target = torch.stack([target * 4 + k for k in range(4)], 1)`."""
    upright = features.size(0)
    logits = [F.linear(features, weight, bias)] + [F.linear(it, weight, bias) for it in turned.split(upright)]
    rows = torch.stack(logits, 1).flatten(0, 1)
    return F.cross_entropy(rows, torch.stack([labels * 4 + k for k in range(4)], 1).flatten())


given = dict(features=randn(3, 4), turned=randn(9, 4), weight=randn(8, 4), bias=randn(8))
case("rotation", rotation, list(given), labels=torch.tensor([1, 0, 1]), **given)


def feature_matrix(logits, head):
    """EFC's `compute_efm`, by the gradients that its closed form is of: of each row and class."""
    total = torch.zeros(head.size(1), head.size(1))
    for row in logits.detach():
        # Features of which the head makes these logits need not be known: the gradient is the chain rule's.
        chances = F.softmax(row, 0)
        for number in range(row.numel()):
            scores = row.clone().requires_grad_()
            (to_logits,) = torch.autograd.grad(F.log_softmax(scores, 0)[number], scores)
            gradient = to_logits @ head.detach()
            total += chances[number] * torch.outer(gradient, gradient)
    return total / logits.size(0)


def elastic(student, old, logits, head):
    """EFC's `efc_loss` with lambda 10 and damping 0.1."""
    matrix = 10.0 * feature_matrix(logits, head) + 0.1 * torch.eye(head.size(1))
    apart = (student - old).unsqueeze(1)
    return torch.bmm(torch.bmm(apart, matrix.expand(apart.size(0), -1, -1)), apart.permute(0, 2, 1)).mean()


of_head = dict(logits=2 * randn(7, 5), head=randn(5, 4))
case("elastic", elastic, ["student"], student=randn(6, 4), old=randn(6, 4), **of_head)
write()
