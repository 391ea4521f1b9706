"""PyTorch's values and gradients of LUCIR's and PODNet's networks. Prints JSON; see ../it/backbones.rs.

usage: python backbones.py > backbones.json

The networks are those of hshustc/CVPR19_Incremental_Learning (modified_resnet_cifar.py, modified_resnet.py,
resnet_cifar.py), GT-RIPL/AlwaysBeDreaming-DFCIL (models/resnet.py; its zero channels behind the others), srebuffi/iCaRL and
arthurdouillard/incremental_learning.pytorch (inclearn/convnet/my_resnet.py), written here by their structure and with
our names. Each tensor is told as [dot product with noise, length]: an error in any element moves the first.
"""
import json
import math

import numpy
import torch
import torch.nn as nn

torch.set_default_dtype(torch.float64)
ROWS, CHANNELS, HEIGHT, WIDTH = 4, 3, 12, 10
IMAGES = "images 3"  # chosen so that rounding to f32 moves nothing over a ReLU's edge; checked below
NETWORKS = [("lucir", 14, 4), ("lucir", 32, 4), ("podnet", 14, 4), ("podnet", 32, 4), ("lucir", 14, 16),
            ("imagenet", 18, 4), ("imagenet-small", 18, 3), ("lucir-relu", 14, 4), ("he", 14, 4), ("icarl", 14, 4)]


def noise(name, *dims):
    """Uniform in [-1, 1), exact: a hash of (name, index)."""
    key = 2166136261
    for byte in name.encode():
        key = (key ^ byte) * 16777619 & 0xFFFFFFFF
    x = (numpy.arange(math.prod(dims), dtype=numpy.uint64) * 0x9E3779B1 + key) & 0xFFFFFFFF
    for shift, factor in [(16, 0x7FEB352D), (15, 0x846CA68B)]:
        x ^= x >> shift
        x = x * factor & 0xFFFFFFFF
    x ^= x >> 16
    return torch.from_numpy(x.astype(numpy.float64) / 2**31 - 1).reshape(dims)


closest_to_zero = math.inf


def relu(x):
    global closest_to_zero
    closest_to_zero = min(closest_to_zero, x.detach().abs().min().item())
    return x.relu()


def told(name, tensor):
    tensor = tensor.detach()
    product = (tensor * noise("told " + name, *tensor.shape)).sum()
    return [float(f"{value:.12g}") for value in (product.item(), tensor.norm().item())]


def conv3x3(inputs, outputs, stride=1):
    return nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)


class Lucir(nn.Module):
    class Block(nn.Module):
        def __init__(self, inputs, outputs, stride):
            super().__init__()
            self.conv1, self.norm1 = conv3x3(inputs, outputs, stride), nn.BatchNorm2d(outputs)
            self.conv2, self.norm2 = conv3x3(outputs, outputs), nn.BatchNorm2d(outputs)
            if stride != 1 or inputs != outputs:
                self.shortcut = nn.Sequential()
                self.shortcut.add_module("conv", nn.Conv2d(inputs, outputs, 1, stride, bias=False))
                self.shortcut.add_module("norm", nn.BatchNorm2d(outputs))

        def forward(self, x):
            y = self.norm2(self.conv2(relu(self.norm1(self.conv1(x)))))
            return y + (self.shortcut(x) if hasattr(self, "shortcut") else x)

    STAGES, STEM, POOL, CLOSES = 3, (3, 1, 1), False, False

    def __init__(self, n, width):
        super().__init__()
        self.stem = stem(width, *self.STEM)
        inputs = width
        for stage in range(self.STAGES):
            outputs, blocks = width << stage, nn.Module()
            for block in range(n):
                blocks.add_module(f"block{block}", self.Block(inputs, outputs, 2 if stage > 0 and block == 0 else 1))
                inputs = outputs
            self.add_module(f"stage{stage + 1}", blocks)

    def forward(self, x):
        x, taps = relu(self.stem(x)), {}
        if self.POOL:
            x = nn.functional.max_pool2d(x, 3, 2, 1)
        for stage in [f"stage{at + 1}" for at in range(self.STAGES)]:
            for block in self._modules[stage].children():
                taps[stage] = block(x)
                x = relu(taps[stage])
        taps["pooled"] = (x if self.CLOSES else taps[stage]).mean((2, 3))  # LUCIR leaves the very last ReLU out
        return taps


class LucirRelu(Lucir):
    CLOSES = True


class Icarl(Lucir):
    class Block(nn.Module):
        def __init__(self, inputs, outputs, stride):
            super().__init__()
            self.conv1, self.norm1 = conv3x3(inputs, outputs, stride), nn.BatchNorm2d(outputs)
            self.conv2, self.norm2 = conv3x3(outputs, outputs), nn.BatchNorm2d(outputs)
            self.grows = outputs - inputs

        def forward(self, x):
            y = self.norm2(self.conv2(relu(self.norm1(self.conv1(x)))))
            if self.grows:
                x = nn.functional.pad(x[..., ::2, ::2], (0, 0, 0, 0, 0, self.grows))
            return y + x


class He(Icarl):
    CLOSES = True


class ImagenetSmall(Lucir):
    STAGES = 4


class Imagenet(ImagenetSmall):
    STEM, POOL = (7, 2, 3), True


class Podnet(nn.Module):
    class Block(nn.Module):
        def __init__(self, inputs, grows=False):
            super().__init__()
            outputs = 2 * inputs if grows else inputs
            self.conv1, self.norm1 = conv3x3(inputs, outputs, 2 if grows else 1), nn.BatchNorm2d(outputs)
            self.conv2, self.norm2 = conv3x3(outputs, outputs), nn.BatchNorm2d(outputs)
            self.grows = grows

        def forward(self, x):
            y = self.norm2(self.conv2(relu(self.norm1(self.conv1(x)))))
            if self.grows:
                x = x[..., ::2, ::2]
                x = torch.cat((x, x.mul(0)), 1)
            return x + y

    def __init__(self, n, width):
        super().__init__()
        self.stem = stem(width)
        stages = [(1, width, [], n), (2, width, [True], n - 1), (3, 2 * width, [True], n - 2)]
        for stage, inputs, grows, more in stages:
            blocks = nn.Module()
            for block, grows in enumerate(grows + [False] * more):
                blocks.add_module(f"block{block}", self.Block(inputs, grows))
                inputs = 2 * inputs if grows else inputs
            self.add_module(f"stage{stage}", blocks)
        self.stage4 = nn.Module()
        self.stage4.add_module("block0", self.Block(4 * width))

    def forward(self, x):
        x, taps = relu(self.stem(x)), {}
        for stage in ["stage1", "stage2", "stage3", "stage4"]:
            for block in self._modules[stage].children():
                x = block(x)
            taps[stage] = x
        taps["pooled"] = x.mean((2, 3))
        return taps


def stem(width, kernel=3, stride=1, padding=1):
    layers = nn.Sequential()
    layers.add_module("conv", nn.Conv2d(CHANNELS, width, kernel, stride, padding, bias=False))
    layers.add_module("norm", nn.BatchNorm2d(width))
    return layers


def network(family, depth, width):
    families = {"lucir": Lucir, "podnet": Podnet, "imagenet": Imagenet, "imagenet-small": ImagenetSmall,
                "lucir-relu": LucirRelu, "he": He, "icarl": Icarl}
    net = families[family](2 if depth == 18 else (depth - 2) // 6, width)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if name.endswith("num_batches_tracked"):
                continue
            value = noise(name, *tensor.shape)
            if tensor.dim() == 4:
                value = value * math.sqrt(6 / tensor[0].numel())
            elif name.endswith(("weight", "running_var")):
                value = 1 + 0.5 * value
            else:
                value = 0.25 * value
            tensor.copy_(value)
    return net


def run(net, train, upstream):
    """One pass forward and back. `upstream`: the taps that receive a gradient."""
    net.train(train)
    moments = {}
    for name, module in net.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            def hook(_module, x, _y, name=name):
                moments[name] = (x[0].mean((0, 2, 3)), x[0].var((0, 2, 3), unbiased=False))
            module.register_forward_hook(hook)
    x = noise(IMAGES, ROWS, CHANNELS, HEIGHT, WIDTH).requires_grad_()
    taps = net(x)
    loss = sum((taps[name] * noise("to " + name, *taps[name].shape)).sum() for name in upstream or taps)
    for name, (mean, variance) in moments.items():
        loss = loss + (mean * noise(f"to {name}.mean", *mean.shape)).sum()
        loss = loss + (variance * noise(f"to {name}.variance", *variance.shape)).sum()
    loss.backward()
    return {
        "taps": {name: told(name, tap) for name, tap in taps.items()},
        "moments": [[name, told(name + ".mean", m), told(name + ".variance", v)] for name, (m, v) in moments.items()],
        "gradients": {name: told(name, weight.grad) for name, weight in net.named_parameters()},
        "input": told("input", x.grad),
    }


def golden(family, depth, width):
    batch_net = network(family, depth, width)
    batch = run(batch_net, True, None)
    batch["statistics"] = {name: told(name, value) for name, value in batch_net.named_buffers() if "running" in name}
    running = run(network(family, depth, width), False, None)
    probe = run(network(family, depth, width), False, ["pooled"])["input"]
    return {"family": family, "depth": depth, "width": width, "batch": batch, "running": running, "probe": probe}


if __name__ == "__main__":
    networks = ",\n".join(json.dumps(golden(*form)) for form in NETWORKS)
    assert closest_to_zero > 2e-6, closest_to_zero  # the 7x7 stem comes that near; rounding there is 20 times less
    count = lambda family, depth, width: sum(p.numel() for p in network(family, depth, width).parameters())
    forms = [(family, depth, 16) for family in ["lucir", "podnet"] for depth in [14, 20, 32, 56]]
    forms += [("imagenet", 18, 64), ("imagenet-small", 18, 64)]
    sizes = json.dumps({f"{family}-{depth}": count(family, depth, width) for family, depth, width in forms})
    print(f'{{"sizes": {sizes},\n"networks": [\n{networks}\n]}}')
