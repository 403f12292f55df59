"""What nets of tokens (N, T, D) are made of: patches as tokens, attention, an MLP."""

from __future__ import annotations

import numpy as np

from .. import functional as F
from ..autograd import Tensor
from ..errors import expect_shapes, whole
from .init import Seed
from .layers import GELU, Linear, Patchify
from .module import Module, Parameter

__all__ = ["MLP", "Affine", "PatchEmbed", "SelfAttention"]

Size = int | tuple[int, int]


class PatchEmbed(Module):
    """Patches as tokens, row by row: x (N, H, W, C) -> (N, T, D),   T = H/p · W/p.

    image_size  H and W: a pair, or one number for both. Patches p×p must divide it, and images of
                another size are refused: a net of tokens has weights for each of its T places

    Errors: ValueError, naming both sizes.
    """

    def __init__(
        self, image_size: Size, in_channels: int, dim: int, patch_size: int, rng: Seed = None
    ) -> None:
        super().__init__()
        height, width = (image_size,) * 2 if isinstance(image_size, int) else image_size
        whole("PatchEmbed", height=height, width=width)
        self.proj = Patchify(in_channels, dim, patch_size, rng=rng)
        if height % patch_size or width % patch_size:
            image = f"PatchEmbed: an image of {height}×{width}"
            raise ValueError(f"{image} is not divisible into patches of {patch_size}×{patch_size}")
        self.image_size = height, width
        self.n_tokens = height // patch_size * (width // patch_size)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim == 4 and x.shape[1:3] != self.image_size:
            made = "{}×{}; this model was made for {}×{}".format(*x.shape[1:3], *self.image_size)
            raise ValueError(f"PatchEmbed: an image of {made}")
        y = self.proj(x)  # (N, H/p, W/p, D)
        return y.reshape(y.shape[0], self.n_tokens, y.shape[3])


class MLP(Module):
    """Two linear maps with GELU between them: x (…, D) -> (…, D).   hidden: the features inside."""

    def __init__(self, dim: int, hidden: int, rng: Seed = None) -> None:
        super().__init__()
        rng = np.random.default_rng(rng)
        self.fc1 = Linear(dim, hidden, rng=rng)
        self.act = GELU()
        self.fc2 = Linear(hidden, dim, rng=rng)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class SelfAttention(Module):
    """Multi-head self-attention: every token asks all of them.   x (N, T, D) -> (N, T, D)

    Queries, keys and values are linear in x, and cut into heads of D/n_heads features, each of
    which attends by itself (`functional.attention`); `proj` mixes what they found.

    Errors: ValueError where n_heads does not divide D.   Vaswani et al. 2017, arXiv:1706.03762.
    """

    def __init__(self, dim: int, n_heads: int, rng: Seed = None) -> None:
        whole("SelfAttention", dim=dim, n_heads=n_heads)
        if dim % n_heads:
            raise ValueError(f"SelfAttention: {dim} features do not divide into {n_heads} heads")
        super().__init__()
        rng = np.random.default_rng(rng)
        self.n_heads = n_heads
        self.qkv = Linear(dim, 3 * dim, rng=rng)
        self.proj = Linear(dim, dim, rng=rng)

    def forward(self, x: Tensor) -> Tensor:
        expect_shapes("SelfAttention: x (N, T, D)", x)
        n, t, d = x.shape
        qkv = self.qkv(x).reshape(n, t, 3, self.n_heads, d // self.n_heads)
        q, k, v = qkv.transpose(2, 0, 3, 1, 4).unbind()  # each (N, heads, T, D/heads)
        return self.proj(F.attention(q, k, v).swapaxes(1, 2).reshape(n, t, d))

    def extra_repr(self) -> str:
        return f"{self.n_heads} heads"


class Affine(Module):
    """x (…, D) -> α x + β, per channel.   alpha, beta (D,) start at 1 and 0.

    Takes the place of normalization in ResMLP.   Touvron et al. 2021, arXiv:2105.03404.
    """

    def __init__(self, channels: int) -> None:
        whole("Affine", channels=channels)
        super().__init__()
        self.alpha = Parameter(np.ones(channels, np.float32))
        self.beta = Parameter(np.zeros(channels, np.float32))

    def forward(self, x: Tensor) -> Tensor:
        expect_shapes("alpha (D), Affine: x (…, D)", self.alpha, x)
        return self.alpha * x + self.beta

    def extra_repr(self) -> str:
        return str(self.alpha.size)
