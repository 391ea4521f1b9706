"""PyTorch's values and gradients of one network that has every node type. Prints JSON; see ../every_node.rs.

usage: python every_node.py > every_node.json
"""
import json
import math

import torch
import torch.nn.functional as F

torch.set_default_dtype(torch.float64)
ROWS = 3


def wave(count, phase):
    return torch.tensor([math.sin(0.37 * i + phase) for i in range(count)])


SPECS = [
    ("conv1.weight", (4, 3, 3, 3)), ("conv1.bias", (4,)),
    ("norm1.weight", (4,)), ("norm1.bias", (4,)), ("norm1.running_mean", (4,)), ("norm1.running_var", (4,)),
    ("conv2.weight", (6, 4, 3, 3)),
    ("norm2.weight", (6,)), ("norm2.bias", (6,)), ("norm2.running_mean", (6,)), ("norm2.running_var", (6,)),
    ("conv3.weight", (5, 12, 1, 1)),
    ("linear.weight", (8, 5)), ("linear.bias", (8,)),
    ("norm3.running_mean", (8,)), ("norm3.running_var", (8,)),
]


def parameters():
    result = {}
    for index, (name, dims) in enumerate(SPECS):
        value = 0.4 * wave(math.prod(dims), index).reshape(dims)
        if name.endswith("running_var") or (name.startswith("norm") and name.endswith(".weight")):
            value = 1.0 + value
        result[name] = value.requires_grad_("running" not in name)
    return result


def run(batch_norm_mode):
    p = parameters()
    moments, statistics = {}, {}

    def norm(x, name, affine=True):
        axes = (0, 2, 3) if x.dim() == 4 else (0,)
        mean, var = x.mean(axes), x.var(axes, unbiased=False)
        moments[name] = (mean, var)
        rm, rv = p[name + ".running_mean"].clone(), p[name + ".running_var"].clone()
        y = F.batch_norm(x, rm, rv, p[name + ".weight"] if affine else None, p[name + ".bias"] if affine else None,
                         batch_norm_mode, 0.1, 1e-5)
        statistics[name] = (rm, rv)
        return y

    x = wave(ROWS * 3 * 9 * 8, 0.5).reshape(ROWS, 3, 9, 8).requires_grad_()
    a = F.relu(norm(F.conv2d(x, p["conv1.weight"], p["conv1.bias"], padding=1), "norm1"))
    b = norm(F.conv2d(a, p["conv2.weight"], stride=2, padding=1), "norm2")
    shortcut = F.pad(a[:, :, ::2, ::2], (0, 0, 0, 0, 0, 2))
    c = F.leaky_relu(b + shortcut, 0.2)
    d = F.max_pool2d(c, 3, 2, 1)
    e = F.interpolate(d, scale_factor=2)
    f = F.avg_pool2d(torch.cat([e[:, :, :, :], torch.tanh(e)], 1), 3, 2)
    g = F.conv2d(f, p["conv3.weight"])
    h = F.linear(g.mean((2, 3)), p["linear.weight"], p["linear.bias"])
    i = norm(h, "norm3", affine=False)
    j = torch.cat([i[:, 1:7], h], 1).reshape(ROWS, 14, 1, 1)
    taps = {"shortcut": shortcut, "sum": c, "pooled": d, "out": j}
    loss = sum((tap * wave(tap.numel(), k).reshape(tap.shape)).sum() for k, tap in enumerate(taps.values()))
    for k, (mean, var) in enumerate(moments.values()):
        loss = loss + (mean * wave(mean.numel(), k + 0.1)).sum() + (var * wave(var.numel(), k + 0.2)).sum()
    loss.backward()
    flat = lambda t: t.detach().flatten().tolist()
    return {
        "taps": {k: flat(v) for k, v in taps.items()},
        "moments": {k: [flat(v[0]), flat(v[1])] for k, v in moments.items()},
        "statistics": {k: [flat(v[0]), flat(v[1])] for k, v in statistics.items()},
        "input": flat(x.grad),
        "gradients": {k: flat(v.grad) for k, v in p.items() if v.grad is not None},
    }


rounded = lambda v: float(f"{v:.12g}")
walk = lambda v: {k: walk(w) for k, w in v.items()} if isinstance(v, dict) else \
    [walk(w) for w in v] if isinstance(v, list) else rounded(v)
print(json.dumps(walk({"batch": run(True), "running": run(False)})))
