"""Softmax and layer normalization, over the numbers of each row."""

from __future__ import annotations

import numpy as np

from ..dispatch import Array, kernel
from .norm import channel_sum


@kernel(x="... C")
def softmax(x: Array) -> Array:
    """eˣ / Σ eˣ over the last axis. The largest x is subtracted first: nothing overflows."""
    with np.errstate(over="ignore"):  # what is too far below it for the dtype is at −∞
        e = np.exp(x - x.max(axis=-1, keepdims=True, initial=-np.inf))
    return e / e.sum(axis=-1, keepdims=True)


@kernel(y="... C", g="... C")
def softmax_backward(y: Array, g: Array) -> Array:
    """y (g − Σ g y): the gradient of softmax, given its result y."""
    return y * (g - (g * y).sum(axis=-1, keepdims=True))


def normal(x: Array, eps: float) -> tuple[Array, Array]:
    """x̂ = (x − μ) rstd, and rstd = 1/√(σ² + ε), of each row."""
    centered = x - x.mean(axis=-1, keepdims=True)
    centered -= centered.mean(axis=-1, keepdims=True)  # what rounding left: equal numbers become 0
    rstd = 1 / np.sqrt(np.square(centered).mean(axis=-1, keepdims=True) + x.dtype.type(eps))
    return centered * rstd, rstd


@kernel(x="M C", gamma="C", beta="C")
def layer_norm(x: Array, gamma: Array, beta: Array, eps: float) -> Array:
    """γ x̂ + β, x̂ = (x − μ) / √(σ² + ε) with mean and biased variance of each row.   x (M, C)"""
    return gamma * normal(x, eps)[0] + beta


@kernel(x="M C", g="M C", gamma="C")
def layer_norm_backward(x: Array, g: Array, gamma: Array, eps: float) -> tuple[Array, Array, Array]:
    """Gradients of `layer_norm` for x, γ and β.

    dβ = Σ g,  dγ = Σ g x̂,  dx = rstd (h − mean(h) − x̂ mean(h x̂)) with h = γ g.
    """
    xhat, rstd = normal(x, eps)
    h = gamma * g
    mean, slope = h.mean(axis=-1, keepdims=True), (h * xhat).mean(axis=-1, keepdims=True)
    return rstd * (h - mean - xhat * slope), channel_sum(g * xhat), channel_sum(g)
