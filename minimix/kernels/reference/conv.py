"""Convolution with any kernel, stride, padding, dilation and groups.

Channels come in groups that do not mix: x is (N, H, W, G, c), w (k, l, c, G, d) and the result
(N, H′, W′, G, d). `padding` is how many zeros lie above, below, left and right of the image.
"""

from __future__ import annotations

import numpy as np

from ..dispatch import Array, Arrays, Maybe, kernel
from .norm import normalize_relu

Size = tuple[int, int]  # of an image or a kernel: height and width
Sides = tuple[int, int, int, int]  # above, below, left and right of it


def result_size(size: Size, kernel: Size, stride: int, dilation: int, padding: Sides) -> Size:
    """(H′, W′) of what an image of this size gives: (H + zeros − dilation (k−1) − 1)//s + 1."""
    (height, width), (k, l), (top, bottom, left, right) = size, kernel, padding
    return (
        (height + top + bottom - dilation * (k - 1) - 1) // stride + 1,
        (width + left + right - dilation * (l - 1) - 1) // stride + 1,
    )


def _seen(x: Array, kernel: Size, stride: int, dilation: int, padding: Sides) -> Array:
    """What each place of the result sees of x, as rows (G, N·H′·W′, k·l·c)."""
    n, _, _, groups, c = x.shape
    top, bottom, left, right = padding
    image = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0), (0, 0)))
    spans = tuple(dilation * (taps - 1) + 1 for taps in kernel)
    windows = np.lib.stride_tricks.sliding_window_view(image, spans, (1, 2))
    windows = windows[:, ::stride, ::stride, ..., ::dilation, ::dilation]  # N H′ W′ G c k l
    m = n * windows.shape[1] * windows.shape[2]
    return windows.transpose(3, 0, 1, 2, 5, 6, 4).reshape(groups, m, kernel[0] * kernel[1] * c)


def _rows(g: Array) -> Array:
    """g (N, H′, W′, G, d) as rows (G, N·H′·W′, d)."""
    n, height, width, groups, d = g.shape
    return g.reshape(n * height * width, groups, d).swapaxes(0, 1)


def _matrices(w: Array) -> Array:
    """w (k, l, c, G, d) as one matrix a group (G, k·l·c, d)."""
    k, l, c, groups, d = w.shape
    return w.transpose(3, 0, 1, 2, 4).reshape(groups, k * l * c, d)


@kernel(x="N H W G c", w="k l c G d", stride=int, dilation=int, padding=0, bias="G d")
def conv2d(x: Array, w: Array, stride: int, dilation: int, padding: Sides,
           bias: Maybe = None) -> Array:  # fmt: skip
    """y[n,h,v] = Σᵢⱼ x̄[n, sh+δi, sv+δj] w[i,j] + bias, x̄: x with zeros around it.

    s is the stride, δ the dilation; bias (G, d), if any.
    """
    height, width = result_size(x.shape[1:3], w.shape[:2], stride, dilation, padding)
    y = (_seen(x, w.shape[:2], stride, dilation, padding) @ _matrices(w)).swapaxes(0, 1)
    y = y.reshape(len(x), height, width, *w.shape[3:])
    return y if bias is None else y + bias


@kernel(x="N H W C", w="k l C D", stride=int, padding=0, norm="D", residual="N V U D")
def conv2d_relu(x: Array, w: Array, stride: int, padding: int, norm: Arrays,
                residual: Maybe = None) -> Array:  # fmt: skip
    """`normalize_relu` of y = `conv2d`.   x (N, H, W, C), w (k, l, C, D) -> (N, H′, W′, D)

    norm  mean, rstd, γ and β, each (D,)
    """
    y = conv2d.reference(x[..., None, :], w[..., None, :], stride, 1, (padding,) * 4)[..., 0, :]
    mean, rstd, gamma, beta = norm
    return normalize_relu.reference(y, mean, rstd, gamma, beta, residual)


@kernel(g="N V U G d", w="k l c G d", size=int, stride=int, dilation=int, padding=0)
def conv2d_dx(g: Array, w: Array, size: Size, stride: int, dilation: int, padding: Sides) -> Array:
    """Gradient of `conv2d` for x of this size: dx̄[n, sh+δi, sv+δj] += g[n,h,v] w[i,j]ᵀ."""
    (n, height, width, groups, _), (k, l, c) = g.shape, w.shape[:3]
    top, bottom, left, right = padding
    parts = (_rows(g) @ _matrices(w).swapaxes(1, 2)).reshape(groups, n, height, width, k, l, c)
    image = np.zeros((n, size[0] + top + bottom, size[1] + left + right, groups, c), g.dtype)
    for i, j in np.ndindex(k, l):
        rows = slice(i * dilation, i * dilation + stride * (height - 1) + 1, stride)
        columns = slice(j * dilation, j * dilation + stride * (width - 1) + 1, stride)
        image[:, rows, columns] += parts[..., i, j, :].transpose(1, 2, 3, 0, 4)
    return image[:, top : top + size[0], left : left + size[1]]


@kernel(x="N H W G c", g="N V U G d", size=int, stride=int, dilation=int, padding=0)
def conv2d_dw(x: Array, g: Array, size: Size, stride: int, dilation: int, padding: Sides) -> Array:
    """Gradient of `conv2d` for w of this size: dw[i,j] = Σₙₕᵥ x̄[n, sh+δi, sv+δj]ᵀ g[n,h,v]."""
    dw = _seen(x, size, stride, dilation, padding).swapaxes(1, 2) @ _rows(g)
    return dw.reshape(dw.shape[0], *size, x.shape[4], g.shape[4]).transpose(1, 2, 3, 0, 4)
