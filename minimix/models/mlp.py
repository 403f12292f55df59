"""ResMLP and MLP-Mixer: nets of patches with neither attention nor convolutions."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import numpy as np

from .. import nn
from ..autograd import Tensor
from ..errors import whole
from ..nn import init


class PatchMLP(nn.Module):
    """What the two have in common.   x (N, H, W, C) -> logits (N, n_classes)

        patch embedding
        depth ×  block: tokens (N, T, D) -> (N, T, D)
        norm ─ mean over tokens ─ linear

    hidden_dim    D, the features of a token
    depth         the number of blocks
    patch_size    p of the patch embedding
    n_classes     the number of logits
    image_size    H and W of the images: a pair, or one number for both
    in_channels   C, the channels of the images
    rng           a NumPy Generator, a seed, or None for a fresh one

    Errors: ValueError, naming the argument, where one of these is not in its range; from a call,
    naming both, where an image has another size or other channels.

    Names in the state dict are those of timm.
    """

    Block: ClassVar[type[ResMLPBlock] | type[MixerBlock]]

    def __init__(
        self,
        hidden_dim: int,
        depth: int,
        patch_size: int = 16,
        n_classes: int = 1000,
        *,
        image_size: int | tuple[int, int] = 224,
        in_channels: int = 3,
        rng: init.Seed = None,
    ) -> None:
        whole(type(self).__name__, depth=depth, n_classes=n_classes)
        super().__init__()
        rng = np.random.default_rng(rng)
        self.stem = nn.PatchEmbed(image_size, in_channels, hidden_dim, patch_size, rng=rng)
        sizes = self.stem.n_tokens, hidden_dim, depth
        self.blocks = nn.Sequential(*[self.Block(*sizes, rng) for _ in range(depth)])
        self.norm = self.Block.norm(hidden_dim)
        self.head = nn.Linear(hidden_dim, n_classes, rng=rng)
        init.redraw(self, nn.Linear, self.Block.draw, rng)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)  # (N, T, D)
        x = self.blocks(x)  # (N, T, D)
        x = self.norm(x).mean(axis=1)  # (N, D)
        return self.head(x)  # (N, n_classes)


class ResMLPBlock(nn.Module):
    """Affine maps of each channel, α x + β, for norms; each branch begins small, scaled by s."""

    norm = nn.Affine
    draw = staticmethod(init.trunc_normal)

    def __init__(self, n_tokens: int, dim: int, depth: int, rng: init.Seed) -> None:
        super().__init__()
        s = 0.1 if depth <= 18 else 1e-5 if depth <= 24 else 1e-6  # as the authors have it
        self.norm1 = self.norm(dim)
        self.linear_tokens = nn.Linear(n_tokens, n_tokens, rng=rng)
        self.ls1 = nn.Parameter(np.full(dim, s, np.float32))
        self.norm2 = self.norm(dim)
        self.mlp_channels = nn.MLP(dim, 4 * dim, rng=rng)
        self.ls2 = nn.Parameter(np.full(dim, s, np.float32))

    def forward(self, x: Tensor) -> Tensor:
        y = self.linear_tokens(self.norm1(x).swapaxes(1, 2)).swapaxes(1, 2)
        x = x + self.ls1 * y  # mixes places
        return x + self.ls2 * self.mlp_channels(self.norm2(x))  # mixes channels


class MixerBlock(nn.Module):
    """An MLP over places, of D/2 features inside, and one over channels, of 4 D."""

    norm = staticmethod(partial(nn.LayerNorm, eps=1e-6))
    draw = staticmethod(init.xavier_uniform)

    def __init__(self, n_tokens: int, dim: int, depth: int, rng: init.Seed) -> None:
        super().__init__()
        self.norm1 = self.norm(dim)
        self.mlp_tokens = nn.MLP(n_tokens, max(1, dim // 2), rng=rng)
        self.norm2 = self.norm(dim)
        self.mlp_channels = nn.MLP(dim, 4 * dim, rng=rng)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mlp_tokens(self.norm1(x).swapaxes(1, 2)).swapaxes(1, 2)
        return x + self.mlp_channels(self.norm2(x))


class ResMLP(PatchMLP):
    """ResMLP.   x (N, H, W, C) -> logits (N, n_classes)

        patch embedding
        depth ×  ┌ x + s₁ · linear over tokens (affine x)       mixes places
                 └ x + s₂ · MLP(affine x)                       mixes channels
        affine ─ mean over tokens ─ linear

    Touvron et al. 2021, arXiv:2105.03404.   Arguments and errors: `PatchMLP`.
    """

    Block = ResMLPBlock


class MLPMixer(PatchMLP):
    """MLP-Mixer.   x (N, H, W, C) -> logits (N, n_classes)

        patch embedding
        depth ×  ┌ x + MLP over tokens (norm x)                 mixes places
                 └ x + MLP(norm x)                              mixes channels
        norm ─ mean over tokens ─ linear

    Tolstikhin et al. 2021, arXiv:2105.01601.   Arguments and errors: `PatchMLP`.
    """

    Block = MixerBlock
