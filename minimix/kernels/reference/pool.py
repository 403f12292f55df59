"""Pooling: one number for each window of an image. Windows lie `stride` apart, x (N, H, W, C)."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ..dispatch import Array, kernel


def _windows(image: Array, size: int, stride: int) -> Array:
    """A view of every window, (N, H′, W′, C, size, size)."""
    windows = sliding_window_view(image, (size, size), (1, 2), writeable=True)
    return windows[:, ::stride, ::stride]


def _padded(x: Array, padding: int, border: float) -> Array:
    return np.pad(x, ((0, 0), *[(padding, padding)] * 2, (0, 0)), constant_values=border)


def _inside(image: Array, padding: int) -> Array:
    return image[:, padding : image.shape[1] - padding, padding : image.shape[2] - padding]


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
def max_pool2d_dx(
    g: Array, chosen: Array, shape: tuple[int, int], size: int, stride: int, padding: int
) -> Array:
    """Gradient of `max_pool2d` for x, of shape (H, W): g where the largest number stood."""
    dx = _padded(np.zeros((len(g), *shape, g.shape[3]), g.dtype), padding, 0)
    places = _windows(dx, size, stride)
    for place, (i, j) in enumerate(np.ndindex(size, size)):
        places[..., i, j] += np.where(chosen == place, g, 0)
    return _inside(dx, padding)


@kernel(x="N H W C", size=int, stride=int, padding=0)
def avg_pool2d(x: Array, size: int, stride: int, padding: int) -> Array:
    """Mean of each window, the zeros around x among it."""
    return _windows(_padded(x, padding, 0), size, stride).mean(axis=(-2, -1))


@kernel(g="N V U C", shape=int, size=int, stride=int, padding=0)
def avg_pool2d_dx(g: Array, shape: tuple[int, int], size: int, stride: int, padding: int) -> Array:
    """Gradient of `avg_pool2d` for x, of shape (H, W): every number of a window has its share."""
    dx = _padded(np.zeros((len(g), *shape, g.shape[3]), g.dtype), padding, 0)
    places = _windows(dx, size, stride)
    for i, j in np.ndindex(size, size):
        places[..., i, j] += g / size**2
    return _inside(dx, padding)
