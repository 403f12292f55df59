"""Batch normalization over the images of all ranks.

Each rank knows the mean μᵣ and the variance σᵣ² of its own mᵣ numbers a channel. Those of all
M = Σ mᵣ numbers follow without looking at the numbers again (Chan, Golub & LeVeque 1979): of two
parts a and b,

    m = mₐ + m_b     μ = (mₐ μₐ + m_b μ_b) / m     S = Sₐ + S_b + (μₐ − μ_b)² mₐ m_b / m

with S = m σ², the sum of squares about the mean. That is the operation of one sum over all ranks,
instead of +. It is symmetric in a and b to the last bit, so all ranks get the same bits, and it
loses no digits where the mean is large, as Σ x² − M μ² would.

And back: dx = γ r (g − dβ/M − x̂ dγ/M) takes dγ and dβ over all ranks. Kernels divide by the m they
see, their own rank's, so they are given m/M of these sums. What a rank keeps as its share of the
gradients of γ and β are its own sums: they are added up later, like those of all parameters.

Synchronized batch normalization: Zhang et al. 2018, arXiv:1803.08904.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from .ranks import ALONE, Ranks

Array = np.ndarray

_ranks, _copies = ALONE, 1


@contextmanager
def synchronized(ranks: Ranks, copies: int = 1) -> Iterator[None]:
    """Inside this block, batch norms in training look at the images of all ranks.

    All ranks run the same batch norms in the same order, forward and backward.
    copies  how many ranks look at each image
    """
    global _ranks, _copies
    before = _ranks, _copies
    _ranks, _copies = ranks, copies
    try:
        yield
    finally:
        _ranks, _copies = before


def synchronizing() -> bool:
    """Whether batch norms look at the images of other ranks."""
    return _ranks.size > 1


def whole_moments(mean: Array, var: Array, m: int) -> tuple[Array, Array, int]:
    """From a rank's own moments to those of all ranks, and how many values a channel they are of.

    mean, var (C,) of m values a channel; the results are of their dtype
    """
    if not synchronizing():
        return mean, var, m
    parts = np.stack([np.full(mean.shape, float(m)), mean, var * float(m)], axis=1)
    count, mean64, squares = _ranks.reduce(parts, merge).T
    whole = round(count[0])
    return mean64.astype(mean.dtype), (squares / whole).astype(var.dtype), whole // _copies


def merge(a: Array, b: Array) -> Array:
    """The moments of two sets of numbers together.   (…, 3): m, μ and S of each channel"""
    (m, mean, squares), (n, other, others) = np.moveaxis(a, -1, 0), np.moveaxis(b, -1, 0)
    between = np.square(mean - other) * (m * n / (m + n))
    return np.stack(
        [m + n, (m * mean + n * other) / (m + n), (squares + others) + between], axis=-1
    )


def whole_sums(dgamma: Array, dbeta: Array, m: int) -> tuple[Array, Array]:
    """dγ and dβ over all ranks, times m/M: what the backward kernels of m values a channel take."""
    if not synchronizing():
        return dgamma, dbeta
    sums = _ranks.sum(np.concatenate([dgamma, dbeta, [m]]).astype(np.float64))
    both = (sums[:-1] * (m / sums[-1])).astype(dgamma.dtype)
    return both[: len(dgamma)], both[len(dgamma) :]
