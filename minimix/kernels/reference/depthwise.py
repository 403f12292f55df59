"""Depthwise convolution with "same" padding, (k−1)//2 zeros before and the rest after."""

from __future__ import annotations

import numpy as np

from ..dispatch import Array, kernel


def _pad_same(x: Array, k: int, before: int) -> Array:
    after = k - 1 - before
    return np.pad(x, ((0, 0), (before, after), (before, after), (0, 0)))


@kernel(x="N H W C", w="k k C")
def depthwise_conv2d(x: Array, w: Array) -> Array:
    """y[n,h,v,c] = Σᵢⱼ x[n, h+i−b, v+j−b, c] w[i,j,c], b = (k−1)//2, zero outside the image.

    x (N, H, W, C), w (k, k, C) -> (N, H, W, C).
    """
    k, (_, height, width, _) = w.shape[0], x.shape
    padded = _pad_same(x, k, (k - 1) // 2)
    y = np.zeros_like(x)
    for i in range(k):
        for j in range(k):
            y += padded[:, i : i + height, j : j + width] * w[i, j]
    return y


@kernel(g="N H W C", w="k k C")
def depthwise_conv2d_dx(g: Array, w: Array) -> Array:
    """Gradient of `depthwise_conv2d` for x: convolution of g with the flipped kernel.

    An even kernel pads unevenly, and its flip the other way round: k//2 before.
    """
    k, (_, height, width, _) = w.shape[0], g.shape
    padded = _pad_same(g, k, k // 2)
    dx = np.zeros_like(g)
    for i in range(k):
        for j in range(k):
            dx += padded[:, i : i + height, j : j + width] * w[k - 1 - i, k - 1 - j]
    return dx


@kernel(x="N H W C", g="N H W C", k=int)
def depthwise_conv2d_dw(x: Array, g: Array, k: int) -> Array:
    """Gradient of `depthwise_conv2d` for w: dw[i,j,c] = Σₙₕᵥ x[n, h+i−b, v+j−b, c] g[n,h,v,c]."""
    _, height, width, c = x.shape
    padded = _pad_same(x, k, (k - 1) // 2)
    dw = np.empty((k, k, c), x.dtype)
    for i in range(k):
        for j in range(k):
            dw[i, j] = np.einsum("nhvc,nhvc->c", padded[:, i : i + height, j : j + width], g)
    return dw
