"""Golden numbers of cil_train::loss: /opt/pt/bin/python losses.py > losses.json (torch 2.x, f64, seed in golden.py)."""

import pathlib
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F

sys.path.insert(0, str(pathlib.Path(__file__).parents[3] / "dtid/tests/golden"))
from golden import case, write  # noqa: E402

randn, rand = torch.randn, torch.rand
labels = torch.tensor([0, 4, 2, 1, 4, 3])
batch = dict(logits=2 * randn(6, 5), labels=labels)
class_weights, row_weights = rand(5) + 0.1, rand(6)

case("cross_entropy", lambda logits, labels: F.cross_entropy(logits, labels), ["logits"], **batch)
case(
    "class_weights",
    lambda logits, labels, class_weights: F.cross_entropy(logits, labels, class_weights),
    ["logits"], **batch, class_weights=class_weights,
)
case(
    "both_weights_by_rows",
    lambda logits, labels, class_weights, row_weights:
        (F.cross_entropy(logits, labels, class_weights, reduction="none") * row_weights).mean(),
    ["logits"], **batch, class_weights=class_weights, row_weights=row_weights,
)
features = dict(student=randn(4, 3), old=randn(4, 3))
case(
    "less_forget",
    lambda student, old: nn.CosineEmbeddingLoss()(student, old, torch.ones(4)),
    ["student"], **features,
)


def margin(similarities, labels):
    """LUCIR's code, restated: 3 old classes of 6, the 2 nearest new ones."""
    old = labels < 3
    own = similarities[old].gather(1, labels[old].unsqueeze(1)).repeat(1, 2).view(-1)
    negative = similarities[old, 3:].topk(2, dim=1)[0].view(-1)
    return nn.MarginRankingLoss(margin=0.5)(own, negative, torch.ones_like(own))


similarities = 2 * rand(6, 6) - 1
case("margin", margin, ["similarities"], similarities=similarities, labels=labels)

pair = dict(student=randn(4, 5), old=2 * randn(4, 3))
case(
    "logit_kd",
    lambda student, old:
        4 * F.kl_div(F.log_softmax(student[:, :3] / 2, 1), F.softmax(old / 2, 1), reduction="batchmean"),
    ["student"], **pair,
)
case("logit_l1", lambda student, old: F.l1_loss(student[:, :3], old), ["student"], **pair)


def abd(student, old, head):
    linear = nn.Linear(3, 2)
    linear.weight.data, linear.bias.data = head, torch.ones(2)
    per_class = nn.MSELoss(reduction="none")(linear(student), linear(old))
    return per_class.sum(dim=1).mean() / per_class.size(1)


case("old_head", abd, ["student"], **features, head=randn(2, 3))


def angle(student, old, student_projection=None, old_projection=None):
    def angles(rows, weight):
        rows = rows if weight is None else F.linear(rows, weight, torch.ones(weight.size(0)))
        directions = F.normalize(rows.unsqueeze(0) - rows.unsqueeze(1), p=2, dim=2)
        return torch.bmm(directions, directions.transpose(1, 2)).view(-1)

    return F.l1_loss(angles(student, student_projection), angles(old, old_projection))


case("angle", angle, ["student"], student=randn(4, 3), old=randn(4, 2))
case(
    "angle_projected", angle, ["student", "student_projection", "old_projection"],
    student=randn(4, 3), old=randn(4, 2), student_projection=randn(5, 3), old_projection=randn(5, 2),
)


def pod(weight, **maps):
    """PODNet's released code (c09fc54, `pod` with collapse_channels="spatial"), restated; student0 against old0, ..."""
    loss = 0
    for at in range(len(maps) // 2):
        pair = []
        for side in ["student", "old"]:
            squares = torch.pow(maps[f"{side}{at}"], 2)
            by_row = squares.sum(dim=3).view(squares.shape[0], -1)
            by_column = squares.sum(dim=2).view(squares.shape[0], -1)
            pair.append(F.normalize(torch.cat([by_row, by_column], dim=-1), dim=1, p=2))
        loss = loss + torch.mean(torch.linalg.vector_norm(pair[0] - pair[1], dim=-1))
    return weight * loss / (len(maps) // 2)


first = dict(student0=randn(3, 2, 4, 5), old0=randn(3, 2, 4, 5))
case("pod", lambda **maps: pod(1, **maps), ["student0"], **first)
case(
    "pod_of_two_maps", lambda **maps: pod(0.7, **maps), ["student0", "student1"],
    **first, student1=0.5 * randn(3, 4, 2, 3), old1=10 * randn(3, 4, 2, 3),
)


def nca(similarities, labels, scale, margin=0.6):
    """PODNet's released code (c09fc54, `nca` with exclude_pos_denominator), restated: the margin that it takes off every
    class, and the label's place in the denominator, where it leaves e^0 after the largest is taken off."""
    rows = torch.arange(len(labels))
    similarities = scale * (similarities - margin)
    similarities = similarities - similarities.max(1)[0].view(-1, 1)
    disable_pos = torch.zeros_like(similarities)
    disable_pos[rows, labels] = similarities[rows, labels]
    denominator = similarities - disable_pos
    return (-(similarities[rows, labels] - torch.log(torch.exp(denominator).sum(-1)))).mean()


def nca_of_the_paper(similarities, labels, scale, margin=0.6):
    own = F.one_hot(labels, similarities.shape[1]).bool()
    others = torch.logsumexp((scale * similarities).masked_fill(own, -torch.inf), dim=1)
    return F.relu(others - scale * (similarities[own] - margin)).mean()


scores = dict(similarities=-4 * rand(6, 5), labels=labels, scale=torch.tensor([3.5]))
# One row whose label has the largest score, so that both sides of the released form are there.
scores["similarities"][2, labels[2]] = -0.01
case("nca", nca, ["similarities", "scale"], **scores)
case("nca_without_margin", lambda **it: nca(**it, margin=0.0), ["similarities", "scale"], **scores)
case("nca_of_the_paper", nca_of_the_paper, ["similarities", "scale"], **scores)
case(
    "pod_flat",
    lambda student, old: 2.0 * (9 / 4) ** 0.5 * F.cosine_embedding_loss(old, student, torch.ones(old.shape[0])),
    ["student"], student=randn(4, 3), old=randn(4, 3),
)
write()
