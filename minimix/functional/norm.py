"""Normalization over the batch and over the channels."""

from __future__ import annotations

from math import prod

import numpy as np

from .. import kernels
from ..autograd import Array, op
from ..errors import expect, expect_shapes
from ..parallel.moments import synchronizing, whole_moments, whole_sums

__all__ = ["batch_norm", "layer_norm"]


@op
def batch_norm(x, gamma, beta, *, running_mean: Array | None = None,
               running_var: Array | None = None, training: bool = True, momentum: float = 0.1,
               eps: float = 1e-5):  # fmt: skip
    """Batch normalization over all axes but the last.   x (…, C), γ (C,), β (C,) -> y (…, C)

        y = γ x̂ + β,   x̂ = (x − μ) / √(σ² + ε)

    In training μ and σ² are the mean and the biased variance of each channel over the M numbers
    that it has in this batch, all ranks' parts of it (`minimix.parallel`), so every x has a part in
    them:

        dβ = Σ g     dγ = Σ g x̂     dx = γ/√(σ²+ε) (g − dβ/M − x̂ dγ/M)

    and the running statistics, where given, are moved in place:

        running ← (1 − momentum) running + momentum · (μ, or the unbiased variance M/(M−1) σ²)

    Otherwise μ and σ² are the running statistics, constants: dx = g γ/√(σ²+ε).

    Errors: ValueError where the channels differ, where there is one value a channel in training,
    where one running statistic is missing, or both in evaluation, where one cannot be moved, or
    where momentum or ε is not a number from 0 to 1. Nothing is moved then.

    Ioffe & Szegedy 2015, arXiv:1502.03167.
    """
    shapes = "x (…, C), gamma (C,), beta (C,), running_mean (C,), running_var (C,)"
    expect_shapes(shapes, x, gamma, beta, running_mean, running_var)
    if (running_mean is None) != (running_var is None):
        raise ValueError("batch_norm: running_mean and running_var go together; one is missing")
    unit = {"momentum": momentum, "eps": eps}
    expect("batch_norm", "0 ≤ x ≤ 1", **unit)
    m = prod(x.shape[:-1])
    rows = x.reshape(m, x.shape[-1])
    if training:
        if m < (1 if synchronizing() else 2):
            it = f"batch_norm: {m} value a channel in x of shape {x.shape}; training needs at least"
            raise ValueError(f"{it} 2: give a larger batch or image, or evaluate with .eval()")
        mean, var, whole = whole_moments(*kernels.channel_moments(rows), m)
        if running_mean is not None and running_var is not None:
            move_statistics(running_mean, running_var, mean, var, whole, momentum)
    else:
        if running_mean is None or running_var is None:
            raise ValueError("batch_norm: evaluation needs running_mean and running_var")
        mean, var = running_mean.astype(x.dtype), running_var.astype(x.dtype)
    rstd = 1 / np.sqrt(var + x.dtype.type(eps))
    y = kernels.normalize(rows, mean, rstd, gamma, beta).reshape(x.shape)

    def backward(g):
        flat = g.reshape(rows.shape)
        if training:
            dgamma, dbeta = kernels.batch_norm_sums(rows, flat, mean, rstd)
            norm = mean, rstd, gamma, *whole_sums(dgamma, dbeta, m)
            return kernels.batch_norm_dx(rows, flat, norm).reshape(x.shape), dgamma, dbeta
        return (
            lambda: g * (gamma * rstd),
            lambda: kernels.channel_sum(flat * ((rows - mean) * rstd)),
            lambda: kernels.channel_sum(flat),
        )

    return y, backward


def move_statistics(
    running_mean: Array, running_var: Array, mean: Array, var: Array, m: int, momentum: float
) -> None:
    """Move running statistics toward those of a batch of M numbers a channel, both or neither.

        running ← (1 − momentum) running + momentum · (μ, or the unbiased variance M/(M−1) σ²)

    Errors: ValueError where one of them cannot be written to or holds no floating-point numbers.
    """
    for name, running in {"running_mean": running_mean, "running_var": running_var}.items():
        if running.dtype.kind != "f" or not running.flags.writeable:
            what = "read-only" if running.dtype.kind == "f" else f"of {running.dtype}"
            raise ValueError(f"batch_norm: {name} is {what}; training moves it in place")
    moved_mean = running_mean + momentum * (mean - running_mean)
    moved_var = running_var + momentum * (var * (m / (m - 1)) - running_var)
    running_mean[...] = moved_mean
    running_var[...] = moved_var


@op
def layer_norm(x, gamma, beta, *, eps: float = 1e-5):
    """Layer normalization over the last axis.   x (…, C), γ (C,), β (C,) -> y (…, C)

        y = γ x̂ + β,   x̂ = (x − μ) / √(σ² + ε)      μ, σ²: mean and biased variance of each row

        dβ = Σ g     dγ = Σ g x̂     dx = (h − mean(h) − x̂ mean(h x̂)) / √(σ²+ε),   h = γ g

    Ba, Kiros & Hinton 2016, arXiv:1607.06450.
    """
    expect_shapes("x (…, c), gamma (c,), beta (c,)", x, gamma, beta)
    rows = x.reshape(prod(x.shape[:-1]), x.shape[-1])

    def backward(g):
        dx, *others = kernels.layer_norm_backward(rows, g.reshape(rows.shape), gamma, eps)
        return dx.reshape(x.shape), *others

    return kernels.layer_norm(rows, gamma, beta, eps).reshape(x.shape), backward
