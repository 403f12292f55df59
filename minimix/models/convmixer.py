"""ConvMixer: patches are all you need?"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

import numpy as np

from .. import nn
from ..autograd import Tensor
from ..errors import one_of, whole
from ..nn.init import Seed, delta, smooth_normal

ACTIVATIONS = {"gelu": nn.GELU, "relu": nn.ReLU}
NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch": nn.BatchNorm, "layer": nn.LayerNorm, "none": lambda channels: nn.Identity()
}  # fmt: skip
SHORTCUTS = {"none": (False, False), "depthwise": (True, False), "both": (True, True)}
FILTERS = {"trained": None, "random": None, "smooth": smooth_normal, "delta": delta}


class ConvMixer(nn.Module):
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
    norm          "batch"; "layer": over the channels of each pixel; or "none"
    residual      which half of a block has a shortcut: "depthwise", the upper one, "both" or "none"
    filters       depthwise filters that are "trained", or that stay as they begin: "random", as the
                  trained ones begin; "smooth" (`nn.init.smooth_normal`); "delta", which mix nothing
    stem_dim      channels of a finer stem, which embeds patches of half the size, mixes them in
                  blocks of its own, and joins 2×2 of them to one patch; 0: no such stem
    stem_depth    the number of blocks there
    rng           a NumPy Generator, a seed, or None for a fresh one

    Another stem is assigned: `model.stem = …`, a module (N, H, W, C) -> (N, H′, W′, h).

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
        norm: Literal["batch", "layer", "none"] = "batch",
        residual: Literal["none", "depthwise", "both"] = "depthwise",
        filters: Literal["trained", "random", "smooth", "delta"] = "trained",
        stem_dim: int = 0,
        stem_depth: int = 0,
        rng: Seed = None,
    ) -> None:
        whole("ConvMixer", hidden_dim=hidden_dim, kernel_size=kernel_size, patch_size=patch_size)
        whole("ConvMixer", n_classes=n_classes, in_channels=in_channels)
        whole("ConvMixer", least=0, depth=depth, stem_dim=stem_dim, stem_depth=stem_depth)
        if (stem_depth and not stem_dim) or (stem_dim and patch_size % 2):
            given = f"stem_dim is {stem_dim}, stem_depth {stem_depth}, patch_size {patch_size}"
            raise ValueError(f"ConvMixer: {given}; expected both 0, or stem_dim > 0, even patches")
        Activation = one_of("ConvMixer", "activation", activation, ACTIVATIONS)
        Norm = one_of("ConvMixer", "norm", norm, NORMS)
        shortcuts = one_of("ConvMixer", "residual", residual, SHORTCUTS)
        draw = one_of("ConvMixer", "filters", filters, FILTERS)
        super().__init__()
        rng = np.random.default_rng(rng)

        def stage(convolution: nn.Module, dim: int) -> nn.Sequential:
            return nn.Sequential(convolution, Activation(), Norm(dim))

        def half(layers: nn.Sequential, shortcut: bool) -> Iterable[nn.Module]:
            return [nn.Residual(layers)] if shortcut else layers

        def block(dim: int) -> nn.Sequential:
            depthwise = nn.DepthwiseConv2d(dim, kernel_size, rng=rng)
            pointwise = nn.PointwiseConv2d(dim, dim, rng=rng)
            if draw is not None:  # from a stream beside rng's, so that the rest is as without
                aside = np.random.Generator(rng.bit_generator.spawn(1)[0])
                depthwise.weight.array = draw(depthwise.weight.shape, aside)
            depthwise.weight.requires_grad = filters == "trained"
            places, channels = stage(depthwise, dim), stage(pointwise, dim)
            return nn.Sequential(*half(places, shortcuts[0]), *half(channels, shortcuts[1]))

        stem: list[nn.Module] = []
        if stem_dim:
            finer = nn.Patchify(in_channels, stem_dim, patch_size // 2, rng=rng)
            stem = [*stage(finer, stem_dim), *(block(stem_dim) for _ in range(stem_depth))]
            in_channels, patch_size = stem_dim, 2
        patchify = nn.Patchify(in_channels, hidden_dim, patch_size, rng=rng)
        self.stem = nn.Sequential(*stem, *stage(patchify, hidden_dim))
        self.blocks = nn.Sequential(*[block(hidden_dim) for _ in range(depth)])
        self.pool = nn.GlobalAvgPool()
        self.head = nn.Linear(hidden_dim, n_classes, rng=rng)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)  # (N, H/p, W/p, h)
        x = self.blocks(x)  # (N, H/p, W/p, h)
        x = self.pool(x)  # (N, h)
        return self.head(x)  # (N, n_classes)
