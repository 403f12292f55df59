"""Nets of tokens, fused: ViT, ResMLP and MLP-Mixer, a residual branch in one operation.

Each branch is linear maps with something before them and something added:

    x + proj(attention(qkv(norm x)))          tokens, in a ViT
    x + s · linear over tokens(norm x)        tokens, in a ResMLP
    x + MLP over tokens(norm x)               tokens, in an MLP-Mixer
    x + s · MLP(norm x)                       channels, in all three

What stands before a product (a norm, an affine map, GELU) is computed as it reads, and s and x come
in as it is written: `kernels.linear`, `kernels.mlp` for two maps, or `kernels.linear_tokens` where
tokens are mixed. So of a branch only its input and what comes before an activation are saved.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain, pairwise, takewhile
from typing import Any, NamedTuple

import numpy as np

from .. import kernels, nn
from ..autograd import Array, Tensor, is_recording, op
from ..kernels.reference.tokens import Before
from ..models import MLPMixer, ResMLP, ViT
from ..models.mlp import MixerBlock, ResMLPBlock
from ..models.vit import Block
from ..nn.module import Module, is_observed
from ..nn.tokens import MLP, Affine, SelfAttention
from .layers import contents, is_plain

LONG = 1024  # tokens; a map over more of them would lose digits in one sum


class _Fused(Module):
    """What `fuse` returns: a net that shares all but how its blocks run with another one."""

    blocks: nn.Sequential

    def __init__(self, model: Module) -> None:
        object.__setattr__(self, "__dict__", vars(model))

    def forward(self, x: Tensor) -> Tensor:
        """x (N, H, W, C) -> logits (N, n_classes); as the net itself, and with its errors."""
        if is_observed() or not is_plain(self.blocks, nn.Sequential):
            return super().forward(x)
        own = object.__new__(type(self))
        object.__setattr__(own, "__dict__", vars(self) | {"blocks": _Blocks(contents(self.blocks))})
        return super(_Fused, own).forward(x)


class FusedViT(_Fused, ViT):
    """A ViT, fused."""


class FusedResMLP(_Fused, ResMLP):
    """A ResMLP, fused."""


class FusedMLPMixer(_Fused, MLPMixer):
    """An MLP-Mixer, fused."""


class _Blocks:
    """The blocks of a net, each as its branches where rules take both."""

    def __init__(self, blocks: list[Any]) -> None:
        self.blocks = blocks

    def __call__(self, x: Tensor) -> Tensor:
        rest = self.blocks
        while rest:
            # All rules first: kernels push Python's own code and data out of the cache.
            found = list(takewhile(bool, (_branches(block, x) for block in rest)))
            for branch in chain.from_iterable(found):
                x = branch.run(x)
            rest = rest[len(found) :]
            if rest:
                x, rest = rest[0](x), rest[1:]
        return x


# ---- the rules

Parameters = list[tuple[Tensor, tuple[int, ...]]]


class Branch(NamedTuple):
    """x + what a branch makes of x: an operation, its parameters with their shapes, its options."""

    operation: Callable[..., Tensor]
    parameters: Parameters
    options: dict[str, Any]

    def fits(self, x: Tensor) -> bool:
        return all(
            type(p.array) is np.ndarray and p.shape == shape and p.dtype == x.dtype
            for p, shape in self.parameters
        )

    def run(self, x: Tensor) -> Tensor:
        return self.operation(x, *(p for p, _ in self.parameters), **self.options)


def _branches(block: Any, x: Tensor) -> list[Branch]:
    """What a block adds to x, one after the other; none where it must run as it is."""
    rules = {Block: _attention, ResMLPBlock: _over_tokens, MixerBlock: _mlp_over_tokens}
    rule, plain = rules.get(type(block)), "forward" not in vars(block)
    if not (rule and plain and isinstance(x, Tensor) and x.ndim == 3 and x.size):
        return []
    found = [rule(block, *x.shape[1:]), _mlp(block, *x.shape[1:])]
    branches = [branch for branch in found if branch and branch.fits(x)]
    return branches if len(branches) == len(found) else []


def _norm(layer: Any, d: int) -> tuple[Parameters, dict[str, Any]] | None:
    """γ and β of a norm or an affine map, and how to normalize."""
    if is_plain(layer, Affine):
        return [(layer.alpha, (d,)), (layer.beta, (d,))], {}
    if is_plain(layer, nn.LayerNorm) and isinstance(layer.eps, float) and 0 <= layer.eps <= 1:
        return [(layer.weight, (d,)), (layer.bias, (d,))], {"before": layer.eps}
    return None


def _maps(layers: list[Any], *widths: int) -> Parameters | None:
    """Weights and biases of linear maps from each of these widths to the next."""
    if not all(is_plain(layer, nn.Linear) for layer in layers):
        return None
    pairs = zip(layers, pairwise(widths), strict=True)
    return [p for layer, (k, c) in pairs for p in ((layer.weight, (k, c)), (layer.bias, (c,)))]


def _mlp_of(mlp: Any, d: int) -> Parameters | None:
    """Those of an MLP, d numbers wide."""
    if not (is_plain(mlp, MLP) and is_plain(mlp.act, nn.GELU) and is_plain(mlp.fc1, nn.Linear)):
        return None
    return _maps([mlp.fc1, mlp.fc2], d, mlp.fc1.weight.shape[-1], d)


def _branch(operation: Any, norm: Any, maps: Any, *scale: Any, **options: Any) -> Branch | None:
    return norm and maps and Branch(operation, [*norm[0], *maps, *scale], norm[1] | options)


def _mlp(block: Any, t: int, d: int) -> Branch | None:
    """x + s · MLP(norm x)"""
    scale = [(block.ls2, (d,))] if type(block) is ResMLPBlock else []
    mlp = block.mlp if type(block) is Block else block.mlp_channels
    return _branch(fused_mlp, _norm(block.norm2, d), _mlp_of(mlp, d), *scale)


def _over_tokens(block: Any, t: int, d: int) -> Branch | None:
    """x + s · linear over tokens(norm x)"""
    maps = _maps([block.linear_tokens], t, t) if t <= LONG else None
    return _branch(fused_token_map, _norm(block.norm1, d), maps, (block.ls1, (d,)))


def _mlp_over_tokens(block: Any, t: int, d: int) -> Branch | None:
    """x + MLP over tokens(norm x)"""
    maps = _mlp_of(block.mlp_tokens, t)
    maps = maps if maps and max(t, *maps[1][1]) <= LONG else None
    return _branch(fused_token_mlp, _norm(block.norm1, d), maps)


def _attention(block: Any, t: int, d: int) -> Branch | None:
    """x + proj(attention(qkv(norm x)))"""
    attention = block.attn
    if not is_plain(attention, SelfAttention):
        return None
    n_heads = attention.n_heads
    if not (type(n_heads) is int and n_heads > 0 and d % n_heads == 0):
        return None
    into, out = _maps([attention.qkv], d, 3 * d), _maps([attention.proj], d, d)
    maps = into and out and [*into, *out]
    return _branch(fused_attention, _norm(block.norm1, d), maps, n_heads=n_heads)


# ---- the operations


def _flat(x: Array) -> Array:
    """(N, T, D) -> (N T, D)"""
    return x.reshape(-1, x.shape[-1])


@op
def fused_mlp(x, gamma, beta, w1, b1, w2, b2, *s, before: Before = ""):
    """x + s · MLP(γ x̂ + β).   x (N, T, D), w₁ (D, H), w₂ (H, D), b₁ (H,), the others (D,) -> as x

        z = (γ x̂ + β) w₁ + b₁     y = x + s · (gelu(z) w₂ + b₂)

    s       may be left out: there is none
    before  "" or, where x̂ is x normalized, its ε

    x and z are saved.
    """
    rows, affine = _flat(x), (gamma, beta)
    scale = s[0] if s else None
    y, *saved = kernels.mlp(rows, w1, b1, w2, b2, rows, before, affine, scale, keep=is_recording())

    def backward(g):
        g = _flat(g)
        dz, *second = kernels.linear_backward(saved.pop(), g, w2, b2, None, "gelu", None, *s)
        dx, dw1, db1, *first = kernels.linear_backward(rows, dz, w1, b1, g, before, affine)
        return dx.reshape(x.shape), *first, dw1, db1, *second

    return y.reshape(x.shape), backward


@op
def fused_attention(x, gamma, beta, w, b, w2, b2, *, n_heads: int, before: Before = ""):
    """x + proj(attention(qkv(γ x̂ + β))).   x (N, T, D), w (D, 3 D), w₂ (D, D) -> as x

        q, k, v = (γ x̂ + β) w + b     a = attention(q, k, v)     y = x + a w₂ + b₂

    γ, β, b₂ (D,), b (3 D,); before as in `fused_mlp`. x, q, k, v and a are saved.
    """
    n, t, d = x.shape
    rows, affine = _flat(x), (gamma, beta)

    def heads(a):
        """(N T, 3 D or D) -> each (N, heads, T, D/heads)"""
        return a.reshape(n, t, -1, n_heads, d // n_heads).transpose(2, 0, 3, 1, 4)

    q, k, v = heads(kernels.linear(rows, w, b, None, before, affine))
    a = _flat(kernels.attention(q, k, v).swapaxes(1, 2).reshape(x.shape))
    y = kernels.linear(a, w2, b2, rows).reshape(x.shape)

    def backward(g):
        g = _flat(g)
        da, *second = kernels.linear_backward(a, g, w2, b2)
        dqkv = np.empty((n * t, 3 * d), x.dtype)
        kernels.attention_backward(q, k, v, heads(da)[0], tuple(heads(dqkv)))
        dx, dw, db, *first = kernels.linear_backward(rows, dqkv, w, b, g, before, affine)
        return dx.reshape(x.shape), *first, dw, db, *second

    return y, backward


@op
def fused_token_map(x, gamma, beta, w, b, s, *, before: Before = ""):
    """x + s · (wᵀ (γ x̂ + β) + b), which mixes tokens.   x (N, T, D), w (T, T) -> as x

    γ, β, s (D,), b (T,); before as in `fused_mlp`. Only x is saved.
    """
    how = before, (gamma, beta), s

    def backward(g):
        dx, dw, db, *affine, ds = kernels.linear_tokens_backward(x, g, w, b, g, *how)
        return dx, *affine, dw, db, ds

    return kernels.linear_tokens(x, w, b, x, *how), backward


@op
def fused_token_mlp(x, gamma, beta, w1, b1, w2, b2, *, before: Before = ""):
    """x + w₂ᵀ gelu(z) + b₂, z = w₁ᵀ (γ x̂ + β) + b₁: an MLP over tokens.   x (N, T, D) -> as x

    w₁ (T, H), w₂ (H, T), b₁ (H,), b₂ (T,), γ, β (D,); before as in `fused_mlp`. x and z are
    saved.
    """
    how = before, (gamma, beta)
    saved = [kernels.linear_tokens(x, w1, b1, None, *how)]
    y = kernels.linear_tokens(saved[0], w2, b2, x, "gelu")

    def backward(g):
        dz, *second = kernels.linear_tokens_backward(saved.pop(), g, w2, b2, None, "gelu")
        dx, dw1, db1, *first = kernels.linear_tokens_backward(x, dz, w1, b1, g, *how)
        return dx, *first, dw1, db1, *second

    return y, backward
