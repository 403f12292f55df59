"""ConvMixer: patches are all you need?"""

from __future__ import annotations

from typing import Literal

import numpy as np

from ..autograd import Tensor
from ..nn import (
    GELU,
    BatchNorm,
    DepthwiseConv2d,
    GlobalAvgPool,
    Linear,
    Module,
    Patchify,
    PointwiseConv2d,
    ReLU,
    Residual,
    Sequential,
)
from ..nn.init import Seed
from ..nn.layers import positive

ACTIVATIONS: dict[str, type[Module]] = {"gelu": GELU, "relu": ReLU}


class ConvMixer(Module):
    """ConvMixer-h/d.   x (N, H, W, C) -> logits (N, n_classes)

        patch embedding ─ GELU ─ BatchNorm
        depth ×  ┌ (depthwise k×k ─ GELU ─ BatchNorm) + x        mixes places
                 └ pointwise ─ GELU ─ BatchNorm                  mixes channels
        global average pool ─ linear

    hidden_dim    h, the channels all the way through
    depth         d, the number of blocks
    kernel_size   k of the depthwise convolutions
    patch_size    p of the patch embedding; H and W may be any multiples of it
    n_classes     the number of logits
    in_channels   C, the channels of the images
    activation    "gelu", or "relu" as in the released ConvMixer-768/32
    rng           a NumPy Generator, a seed, or None for a fresh one

    Errors: ValueError, naming the argument, where one of these is not in its range; from a call,
    naming both, where an image is not divisible into patches or has other channels than
    in_channels; TypeError where it has another precision than the weights.

    Trockman & Kolter 2022, arXiv:2201.09792. Names in the state dict are those of timm.
    """

    def __init__(
        self,
        hidden_dim: int,
        depth: int,
        kernel_size: int = 9,
        patch_size: int = 7,
        n_classes: int = 1000,
        *,
        in_channels: int = 3,
        activation: Literal["gelu", "relu"] = "gelu",
        rng: Seed = None,
    ) -> None:
        positive(
            "ConvMixer",
            hidden_dim=hidden_dim,
            kernel_size=kernel_size,
            patch_size=patch_size,
            n_classes=n_classes,
            in_channels=in_channels,
        )
        if not isinstance(depth, (int, np.integer)) or depth < 0:
            raise ValueError(f"ConvMixer: depth is {depth!r}; expected a whole number, 0 or more")
        if activation not in ACTIVATIONS:
            raise ValueError(f"ConvMixer: activation is {activation!r}; it can be 'gelu' or 'relu'")
        super().__init__()
        rng = np.random.default_rng(rng)
        Activation = ACTIVATIONS[activation]
        self.stem = Sequential(
            Patchify(in_channels, hidden_dim, patch_size, rng=rng),
            Activation(),
            BatchNorm(hidden_dim),
        )
        self.blocks = Sequential(
            *[
                Sequential(
                    Residual(
                        Sequential(
                            DepthwiseConv2d(hidden_dim, kernel_size, rng=rng),
                            Activation(),
                            BatchNorm(hidden_dim),
                        )
                    ),
                    PointwiseConv2d(hidden_dim, hidden_dim, rng=rng),
                    Activation(),
                    BatchNorm(hidden_dim),
                )
                for _ in range(depth)
            ]
        )
        self.pool = GlobalAvgPool()
        self.head = Linear(hidden_dim, n_classes, rng=rng)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)  # (N, H/p, W/p, h)
        x = self.blocks(x)  # (N, H/p, W/p, h)
        x = self.pool(x)  # (N, h)
        return self.head(x)  # (N, n_classes)
