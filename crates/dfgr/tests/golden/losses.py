"""Golden numbers of dfgr::loss: /opt/pt/bin/python losses.py > losses.json (torch 2.x, f64, seed in golden.py)."""

import math
import pathlib
import sys

import torch
import torch.nn.functional as F
from torch.distributions import Categorical, Normal, kl_divergence

sys.path.insert(0, str(pathlib.Path(__file__).parents[3] / "dtid/tests/golden"))
from golden import case, write  # noqa: E402

randn, rand = torch.randn, torch.rand


def bn(reverse, mean):
    def loss(**it):
        layers = []
        for layer in "ab":
            generated = Normal(it["mean_" + layer], it["variance_" + layer].sqrt())
            stored = Normal(it["running_mean_" + layer], it["running_variance_" + layer].sqrt())
            kl = kl_divergence(stored, generated) if reverse else kl_divergence(generated, stored)
            layers.append(kl.mean() if mean else kl.sum())
        return torch.stack(layers).mean() if mean else sum(layers)

    return loss


moments = {}
for layer, n in [("a", 3), ("b", 2)]:
    moments |= {"mean_" + layer: randn(n), "variance_" + layer: rand(n) + 0.1}
    moments |= {"running_mean_" + layer: randn(n), "running_variance_" + layer: rand(n) + 0.1}
wanted = ["mean_a", "variance_a", "mean_b", "variance_b"]
case("bn_sum", bn(False, False), wanted, **moments)
case("bn_mean", bn(False, True), wanted, **moments)
case("bn_reverse_sum", bn(True, False), wanted, **moments)
case("bn_reverse_mean", bn(True, True), wanted, **moments)

logits = 2 * randn(4, 3)
case("label", lambda logits, labels: F.cross_entropy(logits, labels), ["logits"], logits=logits, labels=torch.tensor([2, 0, 1, 1]))
case("instance", lambda logits: Categorical(logits=logits).entropy().mean(), ["logits"], logits=logits)
case("batch", lambda logits: -Categorical(probs=F.softmax(logits, 1).mean(0)).entropy(), ["logits"], logits=logits)


def ratio(images, noise, first, second):
    distance = lambda it: F.l1_loss(it[first], it[second], reduction="none").flatten(1).mean(1)
    return (distance(images) / distance(noise)).mean()


# labels [0, 1, 0, 0, 1]
pairs = dict(first=torch.tensor([0, 1, 2]), second=torch.tensor([2, 4, 3]))
made = dict(images=randn(5, 2, 2, 3), noise=randn(5, 4))
case("ratio", ratio, ["images"], **made, **pairs)
case("diversity", lambda **it: 1 / (ratio(**it) + 1e-5), ["images"], **made, **pairs)
case(
    "smoothness",
    lambda images: F.mse_loss(images[..., 1:], images[..., :-1]) + F.mse_loss(images[:, :, 1:], images[:, :, :-1]),
    ["images"], images=made["images"],
)
case(
    "balance",
    lambda logits: 1 + (lambda p: (p * p.log() / math.log(3)).sum())(F.softmax(logits, 1).mean(0)),
    ["logits"], logits=logits,
)


def blur(images):
    """ABD's prior (1aa209b, `Gaussiansmoothing(3, 5, 1)`), restated with its kernel as it is computed."""
    one = torch.exp(-(((torch.arange(5.0, dtype=images.dtype) - 2) / 2) ** 2))
    kernel = torch.outer(one, one)
    kernel = (kernel / kernel.sum()).expand(images.size(1), 1, 5, 5)
    smooth = F.conv2d(F.pad(images, (2, 2, 2, 2), mode="reflect"), kernel, groups=images.size(1))
    return F.mse_loss(images, smooth)


case("blur", blur, ["images"], images=randn(2, 3, 4, 5))


def targets_of_stages(stage1, stage2, means, directions, noise, labels):
    """Distance from targets of features of two stages, the first one's of length 1."""
    cells = [F.adaptive_avg_pool2d(F.relu(it), size).flatten(1) for it, size in ((stage1, 2), (stage2, 3))]
    read = torch.cat([F.normalize(cells[0], dim=1), cells[1]], 1)
    targets = means[labels] + noise[:, :directions.size(0)] @ directions
    return (read - targets).pow(2).sum(1).mean() / directions.pow(2).sum()


def targets_of_pooled(features, means, directions, noise, labels):
    targets = means[labels] + noise[:, :directions.size(0)] @ directions
    return (F.normalize(features, dim=1) - targets).pow(2).sum(1).mean() / directions.pow(2).sum()


asked = dict(noise=randn(3, 5), labels=torch.tensor([1, 0, 1]))
maps = dict(stage1=randn(3, 2, 4, 4), stage2=randn(3, 1, 5, 5))
of_stages = dict(means=randn(2, 17), directions=randn(4, 17))
case("targets_of_stages", targets_of_stages, list(maps), **maps, **of_stages, **asked)
of_pooled = dict(features=randn(3, 4), means=randn(2, 4), directions=randn(3, 4))
case("targets_of_pooled", targets_of_pooled, ["features"], **of_pooled, **asked)


def outside(read, means, labels):
    return (((read - means[labels]) ** 2).sum(1) / 0.9 - 1).clamp(min=0).mean()


def outside_of_stages(stage1, stage2):
    cells = [F.adaptive_avg_pool2d(F.relu(it), size).flatten(1) for it, size in ((stage1, 2), (stage2, 3))]
    return outside(torch.cat([F.normalize(cells[0], dim=1), cells[1]], 1), of_stages["means"], asked["labels"])


case("outside_of_stages", outside_of_stages, list(maps), **maps)
case(
    "outside_of_pooled",
    lambda features: outside(F.normalize(features, dim=1), of_pooled["means"], asked["labels"]),
    ["features"], features=of_pooled["features"],
)
write()
