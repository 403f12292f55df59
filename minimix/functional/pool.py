"""Pooling: one number for each window of an image, or for the whole of it."""

from __future__ import annotations

from .. import kernels
from ..autograd import Array, Tensor, op
from ..errors import expect_shapes, expect_whole
from .reduce import mean

__all__ = ["avg_pool2d", "global_avg_pool", "max_pool2d"]


@op
def max_pool2d(x, *, size: int, stride: int | None = None, padding: int = 0):
    """Largest number of each window.   x (N, H, W, C) -> y (N, H′, W′, C)

        y[n,h,v,c] = max of x̄[n, sh+i, sv+j, c] over i, j < size       x̄: x with −∞ around it

    dx = g, added where the largest stood: the first, row by row, where several are equally large (a
    kink: no gradient exists). What is not a number counts as largest.

    stride   s, from one window to the next; None: the size, so that no pixel is read twice
    padding  pixels of −∞ on every side, at most half the size
    H′ = (H + 2 padding − size)//s + 1

    Errors: ValueError where x is not an image, a window does not fit into it, or an option is not a
    whole number in its range.
    """
    how = _checked("max_pool2d", x, size, stride, padding)
    y, chosen = kernels.max_pool2d(x, *how)
    return y, lambda g: kernels.max_pool2d_dx(g, chosen, x.shape[1:3], *how)


@op
def avg_pool2d(x, *, size: int, stride: int | None = None, padding: int = 0):
    """Mean of each window.   x (N, H, W, C) -> y (N, H′, W′, C)

        y[n,h,v,c] = Σ x̄[n, sh+i, sv+j, c] / size²  over i, j < size       x̄: x with zeros around it

    dx̄[n, sh+i, sv+j, c] += g / size².   Options, sizes and errors are those of `max_pool2d`; the
    zeros around the image are averaged too.
    """
    how = _checked("avg_pool2d", x, size, stride, padding)
    y = kernels.avg_pool2d(x, *how)
    return y, lambda g: kernels.avg_pool2d_dx(g, x.shape[1:3], *how)


def _checked(
    name: str, x: Array, size: int, stride: int | None, padding: int
) -> tuple[int, int, int]:
    """Size, stride and padding, once everything is known to fit together."""
    expect_shapes("x (N, H, W, C)", x)
    stride = size if stride is None else stride
    expect_whole(name, 1, size=size, stride=stride)
    expect_whole(name, 0, padding=padding)
    if 2 * padding > size or size > 2 * padding + min(x.shape[1:3]):
        what = f"a window of {size}×{size} does not fit an image of {x.shape[1]}×{x.shape[2]}"
        most = "which may be half the window at most"
        raise ValueError(f"{name}: {what} with padding {padding}, {most}")
    return int(size), int(stride), int(padding)


def global_avg_pool(x: Tensor) -> Tensor:
    """Mean over the pixels.   x (N, H, W, C) -> (N, C)

    dx = g / (H W), the same for every pixel.   Lin, Chen & Yan 2013, arXiv:1312.4400.
    Errors: ValueError where x is not (N, H, W, C), or has no pixels.
    """
    expect_shapes("global_avg_pool: x (N, h, w, C)", x)
    return mean(x, axis=(1, 2))
