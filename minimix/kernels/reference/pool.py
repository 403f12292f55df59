"""Pooling: one number for each window of an image. Windows lie `stride` apart, x (N, H, W, C)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..dispatch import Array, kernel
from .conv import Size


def _windows(image: Array, size: int, stride: int) -> Array:
    """A view of every window, (N, H′, W′, C, size, size)."""
    windows = sliding_window_view(image, (size, size), (1, 2), writeable=True)
    return windows[:, ::stride, ::stride]


def _padded(x: Array, padding: int, border: float) -> Array:
    return np.pad(x, ((0, 0), *[(padding, padding)] * 2, (0, 0)), constant_values=border)


def _shared(g: Array, shape: Size, size: int, stride: int, padding: int, share: Callable) -> Array:
    """The gradient for x, of which each number of a window has what `share` says of its place."""
    dx = np.zeros((len(g), shape[0] + 2 * padding, shape[1] + 2 * padding, g.shape[3]), g.dtype)
    places = _windows(dx, size, stride)
    for place, (i, j) in enumerate(np.ndindex(size, size)):
        places[..., i, j] += share(place)
    return dx[:, padding : padding + shape[0], padding : padding + shape[1]]


@kernel(x="N H W C", size=int, stride=int, padding=0)
def max_pool2d(x: Array, size: int, stride: int, padding: int) -> tuple[Array, Array]:
    """Largest number of each window, and where in it, counted row by row, it stands first.

    Around x lies −∞. What is not a number counts as largest. Both (N, H′, W′, C), of x's dtype.
    """
    windows = _windows(_padded(x, padding, -np.inf), size, stride)
    choices = windows.reshape(*windows.shape[:4], size * size)
    chosen = choices.argmax(axis=-1)
    return np.take_along_axis(choices, chosen[..., None], -1)[..., 0], chosen.astype(x.dtype)


@kernel(g="N V U C", chosen="N V U C", shape=int, size=int, stride=int, padding=0)
def max_pool2d_dx(g: Array, chosen: Array, shape: Size, size: int, stride: int,
                  padding: int) -> Array:  # fmt: skip
    """Gradient of `max_pool2d` for x, of shape (H, W): g where the largest number stood."""
    return _shared(g, shape, size, stride, padding, lambda i: np.where(chosen == i, g, 0))


@kernel(x="N H W C", size=int, stride=int, padding=0)
def avg_pool2d(x: Array, size: int, stride: int, padding: int) -> Array:
    """Mean of each window, the zeros around x among it."""
    return _windows(_padded(x, padding, 0), size, stride).mean(axis=(-2, -1))


@kernel(g="N V U C", shape=int, size=int, stride=int, padding=0)
def avg_pool2d_dx(g: Array, shape: Size, size: int, stride: int, padding: int) -> Array:
    """Gradient of `avg_pool2d` for x, of shape (H, W): every number of a window has its share."""
    return _shared(g, shape, size, stride, padding, lambda _: g / size**2)
