"""Rows (M, C) in chunks: how channel statistics are summed in a fixed order."""

from __future__ import annotations

import numpy as np

CHUNK = (
    96  # rows a thread takes at a time: with 256 channels, a fifth of a usual second-level cache
)


def flat(x):
    return np.ascontiguousarray(x).reshape(-1)


def chunks(m):
    """How many chunks m rows make."""
    return -(-m // CHUNK)


def total(parts, dtype):
    """Σ over chunks, in float64 and always in the same order."""
    return parts.sum(axis=0, dtype=np.float64).astype(dtype)


def merge_moments(means, squares, m):
    """Mean and biased variance of m rows from each chunk's mean and Σ(x − mean)².

    Chan, Golub & LeVeque 1983: squares about the common mean are the squares about each mean plus
    what the means themselves scatter.
    """
    sizes = np.full((len(means), 1), CHUNK, np.float64)
    sizes[-1] = m - CHUNK * (len(means) - 1)
    mean = (sizes * means).sum(axis=0) / m
    scatter = (sizes * np.square(means - mean)).sum(axis=0)
    variance = (squares.sum(axis=0, dtype=np.float64) + scatter) / m
    return mean.astype(means.dtype), variance.astype(means.dtype)
