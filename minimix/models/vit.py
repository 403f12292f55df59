"""ViT: an image is worth 16×16 words; and DeiT, which is the same net."""

from __future__ import annotations

from typing import Literal

import numpy as np

from .. import functional as F
from .. import nn
from ..autograd import Tensor
from ..errors import one_of, whole
from ..nn.init import Seed, redraw, trunc_normal


class Block(nn.Module):
    """One layer of the encoder: x (N, T, D) -> (N, T, D)."""

    def __init__(self, dim: int, n_heads: int, mlp_ratio: int, rng: Seed) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = nn.SelfAttention(dim, n_heads, rng=rng)
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.MLP(dim, mlp_ratio * dim, rng=rng)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))  # mixes places
        return x + self.mlp(self.norm2(x))  # mixes channels


class ViT(nn.Module):
    """Vision transformer.   x (N, H, W, C) -> logits (N, n_classes)

        class token and patch embedding, + learned positions
        depth ×  ┌ x + attention(norm x)                        mixes places
                 └ x + MLP(norm x)                              mixes channels
        norm ─ class token ─ linear

    hidden_dim    D, the features of a token
    depth         the number of blocks
    n_heads       heads of the attention; they divide hidden_dim
    patch_size    p of the patch embedding
    n_classes     the number of logits
    image_size    H and W of the images: a pair, or one number for both
    mlp_ratio     the features inside an MLP, as a multiple of hidden_dim
    pool          "token": the class token is read; "average": there is none, the mean over all
                  tokens is read and normalized; "distilled": a class token and one for learning
                  from a teacher, each with a head, whose logits are averaged (DeiT)
    in_channels   C, the channels of the images
    rng           a NumPy Generator, a seed, or None for a fresh one

    Errors: ValueError, naming the argument, where one of these is not in its range; from a call,
    naming both, where an image has another size or other channels.

    Dosovitskiy et al. 2021, arXiv:2010.11929; Touvron et al. 2021, arXiv:2012.12877. Names in the
    state dict are those of timm.
    """

    def __init__(
        self,
        hidden_dim: int,
        depth: int,
        n_heads: int,
        patch_size: int = 16,
        n_classes: int = 1000,
        *,
        image_size: int | tuple[int, int] = 224,
        mlp_ratio: int = 4,
        pool: Literal["token", "average", "distilled"] = "token",
        in_channels: int = 3,
        rng: Seed = None,
    ) -> None:
        whole("ViT", depth=depth, mlp_ratio=mlp_ratio, n_classes=n_classes)
        n_special = one_of("ViT", "pool", pool, {"token": 1, "average": 0, "distilled": 2})
        super().__init__()
        rng = np.random.default_rng(rng)

        def learned(n: int, std: float = 0.02) -> nn.Parameter:
            return nn.Parameter(trunc_normal((1, n, hidden_dim), rng, std))

        self.patch_embed = nn.PatchEmbed(image_size, in_channels, hidden_dim, patch_size, rng=rng)
        self.cls_token = learned(1, std=1e-6) if n_special else None
        self.dist_token = learned(1) if n_special == 2 else None
        self.pos_embed = learned(n_special + self.patch_embed.n_tokens)
        blocks = [Block(hidden_dim, n_heads, mlp_ratio, rng) for _ in range(depth)]
        self.blocks = nn.Sequential(*blocks)
        norm = nn.LayerNorm(hidden_dim, eps=1e-6)
        self.norm = norm if n_special else nn.Identity()
        self.fc_norm = nn.Identity() if n_special else norm
        self.head = nn.Linear(hidden_dim, n_classes, rng=rng)
        self.head_dist = nn.Linear(hidden_dim, n_classes, rng=rng) if n_special == 2 else None
        redraw(self, nn.Linear, trunc_normal, rng)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x)  # (N, T, D)
        special = [t for t in (self.cls_token, self.dist_token) if t is not None]
        repeated = [t.expand(len(x), -1, -1) for t in special]
        x = F.concatenate([*repeated, x], axis=1) + self.pos_embed
        x = self.norm(self.blocks(x))
        if self.cls_token is None:
            return self.head(self.fc_norm(x.mean(axis=1)))  # (N, n_classes)
        y = self.head(x[:, 0])
        return y if self.head_dist is None else (y + self.head_dist(x[:, 1])) / 2
