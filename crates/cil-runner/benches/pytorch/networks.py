"""The race's networks in PyTorch: those of crates/cil-runner/src/commands/bench/networks.rs, and LUCIR's ResNet-32."""
import torch
import torch.nn as nn
import torch.nn.functional as F


class BasicBlock(nn.Module):
    def __init__(self, c_in, c_out, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.shortcut = nn.Identity() if stride == 1 and c_in == c_out else nn.Sequential(
            nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))

    def before_relu(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return self.bn2(self.conv2(y)) + self.shortcut(x)

    def forward(self, x):
        return F.relu(self.before_relu(x))


def stages(widths, blocks, c_in):
    layers = []
    for i, width in enumerate(widths):
        for j in range(blocks):
            layers.append(BasicBlock(c_in, width, 2 if i > 0 and j == 0 else 1))
            c_in = width
    return nn.Sequential(*layers)


class WatchedNorm(nn.BatchNorm2d):
    """Batch norm that keeps variance and mean of its input."""

    def forward(self, x):
        self.seen = torch.var_mean(x, (0, 2, 3), unbiased=False)
        return super().forward(x)


class ResNet32(nn.Module):
    side, classes = 32, 100

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        self.body = stages((16, 32, 64), 5, 16)
        self.head = nn.Linear(64, self.classes)

    def forward(self, x):
        return self.head(self.body(self.stem(x)).mean((2, 3)))


class ResNet18(nn.Module):
    classes = 200

    def __init__(self, side=64):
        super().__init__()
        self.side = side
        stem = [nn.Conv2d(3, 64, 3, 1, 1, bias=False) if side <= 32 else nn.Conv2d(3, 64, 7, 2, 3, bias=False),
                nn.BatchNorm2d(64), nn.ReLU()]
        self.stem = nn.Sequential(*stem, *[nn.MaxPool2d(3, 2, 1)] * (side > 32))
        self.body = stages((64, 128, 256, 512), 2, 64)
        self.head = nn.Linear(512, self.classes)

    def forward(self, x):
        return self.head(self.body(self.stem(x)).mean((2, 3)))


class Generator(nn.Module):
    """DAFL's generator; `epsilon` is what its inner batch norms add to the variance (0.8 in crates/dfgr)."""

    def __init__(self, latent=100, epsilon=1e-5):
        super().__init__()
        self.linear = nn.Linear(latent, 128 * 8 * 8)
        self.bn0 = nn.BatchNorm2d(128)
        self.conv1, self.bn1 = nn.Conv2d(128, 128, 3, 1, 1), nn.BatchNorm2d(128, epsilon)
        self.conv2, self.bn2 = nn.Conv2d(128, 64, 3, 1, 1), nn.BatchNorm2d(64, epsilon)
        self.conv3, self.bn3 = nn.Conv2d(64, 3, 3, 1, 1), nn.BatchNorm2d(3, affine=False)

    def forward(self, z):
        x = self.bn0(self.linear(z).view(-1, 128, 8, 8))
        x = F.leaky_relu(self.bn1(self.conv1(F.interpolate(x, scale_factor=2))), 0.2)
        x = F.leaky_relu(self.bn2(self.conv2(F.interpolate(x, scale_factor=2))), 0.2)
        return self.bn3(torch.tanh(self.conv3(x)))


class LucirResNet32(nn.Module):
    """LUCIR's ResNet-32: no ReLU after the last block, cosine head of one block per task. Taps are before the ReLU."""

    def __init__(self, blocks):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU())
        layers = list(stages((16, 32, 64), 5, 16))
        self.stages = nn.ModuleList(nn.Sequential(*layers[at:at + 4]) for at in (0, 5, 10))
        self.lasts = nn.ModuleList(layers[at + 4] for at in (0, 5, 10))
        self.head = nn.ParameterList(torch.empty(classes, 64).uniform_(-0.125, 0.125) for classes in blocks)
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        """Features, logits, and the maps of the three stages."""
        x, taps = self.stem(x), []
        for stage, last in zip(self.stages, self.lasts):
            taps.append(last.before_relu(stage(x)))
            x = F.relu(taps[-1])
        features = taps[-1].mean((2, 3))
        cosines = F.normalize(features) @ F.normalize(torch.cat(list(self.head))).t()
        return features, self.scale * cosines, taps
