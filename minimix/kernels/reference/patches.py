"""Images cut into patches, and put together again. In NumPy alone: nothing is computed."""

from __future__ import annotations

from ..dispatch import Array


def cut_patches(x: Array, p: int) -> Array:
    """x (N, H, W, C) -> its patches of p×p pixels (N, H/p, W/p, p·p·C), each as one vector.

    p divides H and W.
    """
    n, height, width, c = x.shape
    patches = x.reshape(n, height // p, p, width // p, p, c).transpose(0, 1, 3, 2, 4, 5)
    return patches.reshape(n, height // p, width // p, p * p * c)


def join_patches(patches: Array, p: int) -> Array:
    """The inverse of `cut_patches`.   patches (N, H/p, W/p, p·p·C) -> (N, H, W, C)"""
    n, rows, columns, d = patches.shape
    x = patches.reshape(n, rows, columns, p, p, d // (p * p)).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, rows * p, columns * p, d // (p * p))
