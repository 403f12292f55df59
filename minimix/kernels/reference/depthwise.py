"""Depthwise convolution with "same" padding, (k−1)//2 zeros before and the rest after."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..dispatch import Array, kernel


def _seen(x: Array, k: int, before: int) -> Iterator[tuple[int, int, Array]]:
    """What each place (i, j) of a kernel sees of the images, `before` zeros above and left."""
    after, (_, height, width, _) = k - 1 - before, x.shape
    padded = np.pad(x, ((0, 0), (before, after), (before, after), (0, 0)))
    return ((i, j, padded[:, i : i + height, j : j + width]) for i, j in np.ndindex(k, k))


@kernel(x="N H W C", w="k k C")
def depthwise_conv2d(x: Array, w: Array) -> Array:
    """y[n,h,v,c] = Σᵢⱼ x[n, h+i−b, v+j−b, c] w[i,j,c], b = (k−1)//2, zero outside the image.

    x (N, H, W, C), w (k, k, C) -> (N, H, W, C).
    """
    y = np.zeros_like(x)
    for i, j, seen in _seen(x, len(w), (len(w) - 1) // 2):
        y += seen * w[i, j]
    return y


@kernel(g="N H W C", w="k k C")
def depthwise_conv2d_dx(g: Array, w: Array) -> Array:
    """Gradient of `depthwise_conv2d` for x: convolution of g with the flipped kernel.

    An even kernel pads unevenly, and its flip the other way round: k//2 before.
    """
    dx = np.zeros_like(g)
    for i, j, seen in _seen(g, len(w), len(w) // 2):
        dx += seen * w[-1 - i, -1 - j]
    return dx


@kernel(x="N H W C", g="N H W C", k=int)
def depthwise_conv2d_dw(x: Array, g: Array, k: int) -> Array:
    """Gradient of `depthwise_conv2d` for w: dw[i,j,c] = Σₙₕᵥ x[n, h+i−b, v+j−b, c] g[n,h,v,c]."""
    dw = np.empty((k, k, x.shape[3]), x.dtype)
    for i, j, seen in _seen(x, k, (k - 1) // 2):
        dw[i, j] = np.einsum("nhvc,nhvc->c", seen, g)
    return dw
