"""ConvMixer in PyTorch, twice: with the names of the authors' code and with timm's."""

import torch
from torch import nn


class Residual(nn.Module):
    def __init__(self, fn):
        super().__init__()
        self.fn = fn

    def forward(self, x):
        return self.fn(x) + x


class ChannelNorm(nn.LayerNorm):
    """Over the channels of each pixel."""

    def forward(self, x):
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def stage(convolution, channels, activation=nn.GELU, norm=nn.BatchNorm2d):
    return [convolution, activation(), norm(channels)]


def block(h, k, *kinds):
    depthwise = nn.Conv2d(h, h, k, groups=h, padding="same")
    return nn.Sequential(
        Residual(nn.Sequential(*stage(depthwise, h, *kinds))),
        *stage(nn.Conv2d(h, h, 1), h, *kinds),
    )


def authors(h, d, k, p, n, *kinds):
    """One Sequential: the stem is 0 to 2, block i is 3 + i, the head 5 + d."""
    return nn.Sequential(
        *stage(nn.Conv2d(3, h, p, stride=p), h, *kinds),
        *(block(h, k, *kinds) for _ in range(d)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(h, n),
    ).double()


class Timm(nn.Module):
    """stem, blocks, head."""

    def __init__(self, h, d, k, p, n, activation=nn.GELU):
        super().__init__()
        self.stem = nn.Sequential(*stage(nn.Conv2d(3, h, p, stride=p), h, activation))
        self.blocks = nn.Sequential(*(block(h, k, activation) for _ in range(d)))
        self.head = nn.Linear(h, n)
        self.double()

    def forward(self, x):
        return self.head(self.blocks(self.stem(x)).mean((2, 3)))


def images(x):
    """(N, H, W, C) for ours as (N, C, H, W) for theirs."""
    return torch.tensor(x).permute(0, 3, 1, 2)
