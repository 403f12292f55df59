"""Linear maps with what stands before and after them: the kernels of fused nets of tokens.

x′, which they map, is x after `before`: nothing (""), "gelu", or an ε: each row normalized with it;
and after `affine`: γ x + β, where there is one. In the end comes `scale`, and `added` is added.
"""

from __future__ import annotations

import numpy as np

from ..dispatch import Array, Arrays, Maybe, kernel
from .activation import gelu, gelu_backward
from .norm import channel_sum
from .rowwise import layer_norm_backward, normal

Before = str | float
Affine = tuple[Array, Array] | None


def _ahead(x: Array, before: Before, affine: Affine) -> Array:
    """x′"""
    x = gelu(x) if before == "gelu" else x if before == "" else normal(x, float(before))[0]
    return affine[0] * x + affine[1] if affine else x


def _back(x: Array, g: Array, before: Before, affine: Affine) -> Arrays:
    """From the gradient of x′ to those of x and, where there are such, γ and β."""
    dx = h = g * affine[0] if affine else g
    if before != "":
        dx = gelu_backward(x, h) if before == "gelu" else _normal_backward(x, h, float(before))
    return dx, *((_sums(g * _ahead(x, before, None)), _sums(g)) if affine else ())


def _normal_backward(x: Array, g: Array, eps: float) -> Array:
    return layer_norm_backward.reference(x, g, np.ones(1, x.dtype), eps)[0]


def _sums(x: Array) -> Array:
    """Over all axes but the last."""
    return channel_sum(x.reshape(-1, x.shape[-1]))


def _end(y: Array, scale: Maybe, added: Maybe) -> Array:
    y = y if scale is None else y * scale
    return y if added is None else y + added


@kernel(x="M K", w="K C", b="C", added="M C", affine="K", scale="C")
def linear(x: Array, w: Array, b: Array, added: Maybe = None, before: Before = "",
           affine: Affine = None, scale: Maybe = None) -> Array:  # fmt: skip
    """scale (x′ w + b) + added.   -> (M, C)"""
    return _end(_ahead(x, before, affine) @ w + b, scale, added)


@kernel(x="M K", g="M C", w="K C", b="C", added="M K", affine="K", scale="C")
def linear_backward(x: Array, g: Array, w: Array, b: Array, added: Maybe = None,
                    before: Before = "", affine: Affine = None, scale: Maybe = None,
                    ) -> Arrays:  # fmt: skip
    """Gradients of `linear` for x, to which `added` is added, w, b and, if given, γ, β, scale."""
    a, h = _ahead(x, before, affine), _end(g, scale, None)
    dx, *others = _back(x, h @ w.T, before, affine)
    others += [] if scale is None else [_sums(g * (a @ w + b))]
    return _end(dx, None, added), a.T @ h, channel_sum(h), *others


@kernel(x="M K", w1="K H", b1="H", w2="H C", b2="C", added="M C", affine="K", scale="C")
def mlp(x: Array, w1: Array, b1: Array, w2: Array, b2: Array, added: Maybe = None,
        before: Before = "", affine: Affine = None, scale: Maybe = None,
        keep: bool = False) -> Arrays:  # fmt: skip
    """scale (gelu(z) w₂ + b₂) + added, z = x′ w₁ + b₁.   -> (M, C) and, where `keep`, z (M, H)"""
    z = _ahead(x, before, affine) @ w1 + b1
    y = _end(gelu(z) @ w2 + b2, scale, added)
    return (y, z) if keep else (y,)


@kernel(x="N S D", w="S T", b="T", added="N T D", affine="D", scale="D")
def linear_tokens(x: Array, w: Array, b: Array, added: Maybe = None, before: Before = "",
                  affine: Affine = None, scale: Maybe = None) -> Array:  # fmt: skip
    """scale (wᵀ x′ + b) + added of each image: a linear map of its tokens.   -> (N, T, D)"""
    return _end(w.T @ _ahead(x, before, affine) + b[:, None], scale, added)


@kernel(x="N S D", g="N T D", w="S T", b="T", added="N S D", affine="D", scale="D")
def linear_tokens_backward(x: Array, g: Array, w: Array, b: Array, added: Maybe = None,
                           before: Before = "", affine: Affine = None, scale: Maybe = None,
                           ) -> Arrays:  # fmt: skip
    """Those of `linear_tokens`, in the same order."""
    a, h = _ahead(x, before, affine), _end(g, scale, None)
    dx, *others = _back(x, w @ h, before, affine)
    others += [] if scale is None else [_sums(g * (w.T @ a + b[:, None]))]
    return _end(dx, None, added), (a @ h.swapaxes(1, 2)).sum(axis=0), h.sum(axis=(0, 2)), *others
