"""Images cut into patches, and put together again."""

from __future__ import annotations

from ..dispatch import Array, kernel


@kernel(x="N H W C", p=int)
def cut_patches(x: Array, p: int) -> Array:
    """x (N, H, W, C) -> its patches of p×p pixels (N, H/p, W/p, p·p·C), each as one vector.

    p divides H and W.
    """
    n, height, width, c = x.shape
    runs = x.reshape(n * (height // p), p, width // p, p * c)  # of pixels side by side in a patch
    return runs.swapaxes(1, 2).reshape(n, height // p, width // p, p * p * c)


@kernel(patches="N H W D", p=int)
def join_patches(patches: Array, p: int) -> Array:
    """The inverse of `cut_patches`.   patches (N, H/p, W/p, p·p·C) -> (N, H, W, C)"""
    n, rows, columns, d = patches.shape
    runs = patches.reshape(n * rows, columns, p, d // p)
    return runs.swapaxes(1, 2).reshape(n, rows * p, columns * p, d // (p * p))
