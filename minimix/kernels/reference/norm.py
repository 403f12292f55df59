"""Sums and moments of channels, and batch normalization, over rows (M, C), M = N·H·W."""

from __future__ import annotations

import numpy as np

from ..dispatch import Array, Arrays, Maybe, kernel
from .activation import relu, relu_backward


@kernel(x="M C")
def channel_sum(x: Array) -> Array:
    """Σₘ x[m, c]: the gradient of a bias.   x (M, C) -> (C,)

    Added in float32 one by one, many numbers would lose digits.
    """
    return x.sum(axis=0, dtype=np.float64).astype(x.dtype)


@kernel(x="M C")
def channel_moments(x: Array) -> tuple[Array, Array]:
    """Mean and biased variance of each channel.   x (M, C) -> (C,), (C,)"""
    d = x.astype(np.float64) - x[0]  # all 0 in a constant channel, whose variance is 0
    shift = d.mean(axis=0)
    variance = np.square(d - shift).mean(axis=0)
    return (x[0] + shift).astype(x.dtype), variance.astype(x.dtype)


@kernel(x="M C", mean="C", rstd="C", gamma="C", beta="C")
def normalize(x: Array, mean: Array, rstd: Array, gamma: Array, beta: Array) -> Array:
    """γ (x − mean) rstd + β.   x (M, C), the others (C,) -> (M, C)"""
    return (x - mean) * (rstd * gamma) + beta


@kernel(x="... C", mean="C", rstd="C", gamma="C", beta="C", residual="... C")
def normalize_relu(x: Array, mean: Array, rstd: Array, gamma: Array, beta: Array,
                   residual: Maybe = None) -> Array:  # fmt: skip
    """max(y, 0) of y = γ (x − mean) rstd + β, and + residual where there is one.   x (…, C)"""
    y = normalize(x, mean, rstd, gamma, beta)
    return relu(y if residual is None else y + residual)


@kernel(x="M C", g="M C", mean="C", rstd="C")
def batch_norm_sums(x: Array, g: Array, mean: Array, rstd: Array) -> Arrays:
    """dγ = Σ g x̂ and dβ = Σ g, with x̂ = (x − mean) rstd.   x, g (M, C), all others (C,)"""
    return channel_sum(g * ((x - mean) * rstd)), channel_sum(g)


@kernel(x="M C", y="M C", g="M C", mean="C", rstd="C", added="M C")
def relu_norm_sums(x: Array, y: Array, g: Array, mean: Array, rstd: Array,
                   added: Maybe = None) -> Arrays:  # fmt: skip
    """h and `batch_norm_sums` with it: h is the gradient of what ReLU made y of.

    g, and + added where there is something, is that of y.
    """
    h = relu_backward(y, g if added is None else g + added)
    return h, *batch_norm_sums(x, h, mean, rstd)


@kernel(x="M C", g="M C", norm="C")
def batch_norm_dx(x: Array, g: Array, norm: Arrays) -> Array:
    """γ rstd (g − dβ/M − x̂ dγ/M): the gradient of training-mode batch normalization for x.

    norm  mean, rstd, γ, dγ and dβ
    """
    (mean, rstd, gamma, dgamma, dbeta), m = norm, len(x)
    return gamma * rstd * (g - dbeta / m - (x - mean) * rstd * (dgamma / m))
