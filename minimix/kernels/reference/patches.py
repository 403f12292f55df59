"""Images cut into patches, and put together again. In NumPy alone: nothing is computed."""

from __future__ import annotations

from ..dispatch import Array


def cut_patches(x: Array, p: int) -> Array:
    """x (N, H, W, C) -> its patches of p×p pixels (N, H/p, W/p, p·p·C), each as one vector.

    p divides H and W.
    """
    n, height, width, c = x.shape
    h, v = height // p, width // p
    return x.reshape(n, h, p, v, p, c).transpose(0, 1, 3, 2, 4, 5).reshape(n, h, v, p * p * c)


def join_patches(patches: Array, p: int) -> Array:
    """The inverse of `cut_patches`.   patches (N, h, v, p·p·C) -> (N, p h, p v, C)"""
    n, h, v, d = patches.shape
    c = d // (p * p)
    return patches.reshape(n, h, v, p, p, c).transpose(0, 1, 3, 2, 4, 5).reshape(n, h * p, v * p, c)
