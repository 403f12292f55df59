"""Linear maps with what stands before and after them: the kernels of fused nets of tokens.

`before` is what becomes of x first: nothing (""), "gelu", or an ε: x̂, each row normalized with it.
"""

from __future__ import annotations

import numpy as np

from ..dispatch import Array, Arrays, kernel
from .activation import gelu, gelu_backward
from .norm import channel_sum
from .rowwise import layer_norm_backward, normal

Before = str | float


def _ahead(x: Array, before: Before) -> Array:
    return gelu(x) if before == "gelu" else x if before == "" else normal(x, float(before))[0]


def _back(x: Array, dx: Array, before: Before) -> Array:
    if isinstance(before, float):
        return layer_norm_backward.reference(x, dx, np.ones(1, x.dtype), before)[0]
    return gelu_backward(x, dx) if before else dx


def _sum(x: Array, added: Array | None) -> Array:
    return x if added is None else x + added


@kernel(x="M K", w="K C", b="C", added="M C")
def linear(x: Array, w: Array, b: Array, added: Array | None = None, before: Before = "") -> Array:
    """x′ w + b, and + added where there is something; x′ is x after `before`.   -> (M, C)"""
    return _sum(_ahead(x, before) @ w + b, added)


@kernel(x="M K", g="M C", w="K C", added="M K")
def linear_backward(
    x: Array, g: Array, w: Array, added: Array | None = None, before: Before = ""
) -> Arrays:
    """Gradients of `linear` for x, to which `added` is added, for w and for b."""
    return _sum(_back(x, g @ w.T, before), added), _ahead(x, before).T @ g, channel_sum(g)


@kernel(x="N S D", w="S T", scale="D", shift="T D", added="N T D")
def linear_tokens(
    x: Array, w: Array, scale: Array, shift: Array, added: Array | None = None, before: Before = ""
) -> Array:
    """scale (wᵀ x′) + shift, and + added, of each image: mixes its tokens.   -> (N, T, D)"""
    return _sum(w.T @ _ahead(x, before) * scale + shift, added)


@kernel(x="N S D", g="N T D", w="S T", scale="D", added="N S D")
def linear_tokens_backward(
    x: Array, g: Array, w: Array, scale: Array, added: Array | None = None, before: Before = ""
) -> Arrays:
    """Gradients of `linear_tokens` for x, to which `added` is added, for w, scale and shift."""
    a, r = _ahead(x, before), w @ g
    dw = (a @ (scale * g).swapaxes(1, 2)).sum(axis=0)
    return _sum(_back(x, scale * r, before), added), dw, (a * r).sum(axis=(0, 1)), g.sum(axis=0)
