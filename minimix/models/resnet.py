"""ResNet: deep residual learning for image recognition."""

from __future__ import annotations

from typing import Literal

import numpy as np

from .. import functional as F
from .. import nn
from ..autograd import Tensor
from ..errors import one_of, whole
from ..nn.init import Seed, he_normal, redraw

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 152: (3, 8, 36, 3)}  # a stage


class ResNet(nn.Module):
    """ResNet.   x (N, H, W, C) -> logits (N, n_classes)

        convolution ─ BatchNorm ─ ReLU ─ (max pool)
        stages ×  n ×  ReLU(x + (convolution ─ BatchNorm ─ ReLU ─ convolution ─ BatchNorm)(x))
        global average pool ─ linear

    Each stage has half the height and width of the one before, and twice the channels.

    depth        the number of layers: 18 or 34, in four stages; 50 or 152, the same with
                 bottlenecks; or another 6n + 2 (14, 20, 56, …), in three stages of n blocks
    width        channels of the first stage
    stem         "3x3": a convolution that keeps the size, for small images; "7x7": one that halves
                 it, and a max pool that halves it again
    shortcut     where x has another shape than what is added to it: "A": every other pixel, and
                 zeros for the channels that are missing; "B": a 1×1 convolution and BatchNorm
    n_classes    the number of logits
    in_channels  C, the channels of the images
    rng          a NumPy Generator, a seed, or None for a fresh one

    Errors: ValueError, naming the argument, where one of these is not in its range; from a call,
    naming both, where an image has other channels.

    He et al. 2016, arXiv:1512.03385; there ResNet(20) is for CIFAR, ResNet(50, 64, "7x7", "B") for
    ImageNet. A bottleneck's stride is in its 3×3 convolution, as has become usual. Names in the
    state dict are those of timm.
    """

    def __init__(
        self,
        depth: int,
        width: int = 16,
        stem: Literal["3x3", "7x7"] = "3x3",
        shortcut: Literal["A", "B"] = "A",
        n_classes: int = 10,
        *,
        in_channels: int = 3,
        rng: Seed = None,
    ) -> None:
        whole("ResNet", depth=depth, width=width, n_classes=n_classes, in_channels=in_channels)
        kernel, stride = one_of("ResNet", "stem", stem, {"3x3": (3, 1), "7x7": (7, 2)})
        Shortcut = one_of("ResNet", "shortcut", shortcut, {"A": PadShortcut, "B": ConvShortcut})
        if depth not in BLOCKS and (depth < 8 or depth % 6 != 2):
            some = ", ".join(map(str, BLOCKS))
            raise ValueError(f"ResNet: depth is {depth}; it can be {some}, or 6n + 2")
        super().__init__()
        rng = np.random.default_rng(rng)
        c = width
        self.conv1 = nn.Conv2d(in_channels, c, kernel, stride, kernel // 2, bias=False, rng=rng)
        self.bn1 = nn.BatchNorm(c)
        self.act1 = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if stem == "7x7" else nn.Identity()
        Block = Bottleneck if depth in (50, 152) else BasicBlock
        for i, n in enumerate(BLOCKS.get(depth, [(depth - 2) // 6] * 3)):
            blocks = []
            for stride in [2 if i else 1] + [1] * (n - 1):
                out = width * 2**i * Block.expansion
                around = nn.Identity() if (stride, c) == (1, out) else Shortcut(c, out, stride, rng)
                blocks.append(Block(c, width * 2**i, stride, around, rng))
                c = out
            setattr(self, f"layer{i + 1}", nn.Sequential(*blocks))
        self.global_pool = nn.GlobalAvgPool()
        self.fc = nn.Linear(c, n_classes, rng=rng)
        redraw(self, (nn.Conv2d, nn.PointwiseConv2d), he_normal, rng)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.children():
            x = layer(x)
        return x


class BasicBlock(nn.Module):
    """Two 3×3 convolutions: x (N, H, W, C) -> (N, H/stride, W/stride, width)."""

    expansion = 1

    def __init__(self, c: int, width: int, stride: int, shortcut: nn.Module, rng: Seed) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(c, width, 3, stride, padding=1, bias=False, rng=rng)
        self.bn1 = nn.BatchNorm(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False, rng=rng)
        self.bn2 = nn.BatchNorm(width)
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + self.downsample(x))


class Bottleneck(nn.Module):
    """1×1, 3×3, 1×1 convolution: x (N, H, W, C) -> (N, H/stride, W/stride, 4 width)."""

    expansion = 4

    def __init__(self, c: int, width: int, stride: int, shortcut: nn.Module, rng: Seed) -> None:
        super().__init__()
        self.conv1 = nn.PointwiseConv2d(c, width, bias=False, rng=rng)
        self.bn1 = nn.BatchNorm(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False, rng=rng)
        self.bn2 = nn.BatchNorm(width)
        self.conv3 = nn.PointwiseConv2d(width, 4 * width, bias=False, rng=rng)
        self.bn3 = nn.BatchNorm(4 * width)
        self.downsample = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn1(self.conv1(x)))
        y = F.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu(y + self.downsample(x))


class PadShortcut(nn.Module):
    """Shortcut A: every `stride`-th pixel, and zeros on both sides of the channels."""

    def __init__(self, c: int, out: int, stride: int, rng: Seed) -> None:
        super().__init__()
        self.stride, self.missing = stride, out - c

    def forward(self, x: Tensor) -> Tensor:
        zeros = self.missing // 2, self.missing - self.missing // 2
        return F.pad(x[:, :: self.stride, :: self.stride], width=[(0, 0)] * 3 + [zeros])


class ConvShortcut(nn.Sequential):
    """Shortcut B: a 1×1 convolution with that stride, and BatchNorm."""

    def __init__(self, c: int, out: int, stride: int, rng: Seed) -> None:
        super().__init__(nn.Conv2d(c, out, 1, stride, bias=False, rng=rng), nn.BatchNorm(out))
