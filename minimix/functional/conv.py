"""Convolutions, channels last, and the linear map they all come down to.

    linear             every row times one matrix
    pointwise_conv2d   linear at every pixel: mixes channels, not places
    depthwise_conv2d   one small kernel a channel: mixes places, not channels
    patchify           linear at every patch: the patch embedding
    conv2d             the general one; the three above are its special cases

As in all of deep learning, "convolution" does not flip the kernel: it is a cross-correlation.

In formulas, h and v are the row and the column of a pixel, since w is the weights; in code, sizes
are height and width.
"""

from __future__ import annotations

from math import prod

from .. import kernels
from ..autograd import Array, op
from ..errors import expect_shapes, expect_whole
from ..kernels.reference.conv import Sides, Size, result_size

__all__ = ["conv2d", "depthwise_conv2d", "linear", "patchify", "pointwise_conv2d"]


def _rows(x: Array) -> Array:
    """x (…, C) -> (M, C), empty or not."""
    return x.reshape(prod(x.shape[:-1]), x.shape[-1])


def _affine(x: Array, w: Array, b: Array | None):
    """x (…, K), w (K, C), b (C,) -> x w + b (…, C), and its backward."""
    expect_shapes("x (…, K), w (K, C), b (C,)", x, w, b)
    rows = _rows(x)

    def backward(g):
        flat = _rows(g)
        return (
            lambda: kernels.matmul(flat, w.T).reshape(x.shape),
            lambda: kernels.matmul(rows.T, flat),
            None if b is None else lambda: kernels.channel_sum(flat),
        )

    return kernels.matmul(rows, w, b).reshape(*x.shape[:-1], w.shape[1]), backward


@op
def linear(x, w, b=None):
    """Linear map of the last axis.   x (…, K), w (K, C), b (C,) -> y (…, C)

        y = x w + b
        dx = g wᵀ     dw = xᵀ g     db = Σ g      rows of x and g: all axes but the last

    Errors: ValueError, naming both, where K or C differ.
    """
    return _affine(x, w, b)


@op
def pointwise_conv2d(x, w, b=None):
    """1×1 convolution.   x (N, H, W, K), w (K, C), b (C,) -> y (N, H, W, C)

        y[n,h,v] = x[n,h,v] w + b
        dx = g wᵀ     dw = xᵀ g     db = Σ g      pixels as rows

    Channels last makes it one matrix product with nothing to transpose.
    Errors: ValueError, naming both, where x is not an image, or K or C differ.
    """
    expect_shapes("x (N, H, W, K)", x)
    return _affine(x, w, b)


@op
def depthwise_conv2d(x, w, b=None):
    """Depthwise convolution, "same" padding.

    x (N, H, W, C), w (k, k, C), b (C,) -> y (N, H, W, C)

        y[n,h,v,c] = Σᵢⱼ x[n, h+i−a, v+j−a, c] w[i,j,c] + b[c],     a = (k−1)//2

    with zeros outside the image; an even k pads one more after than before. Each x was read by
    k×k outputs, through w turned half round, so

        dx = g convolved with the flipped w (padded k//2 before)
        dw[i,j,c] = Σₙₕᵥ x[n, h+i−a, v+j−a, c] g[n,h,v,c]        db = Σ g

    Errors: ValueError, naming both, where x or w has another shape or the channels differ.
    """
    expect_shapes("x (N, H, W, C), w (k, k, C), b (C,)", x, w, b)
    y = kernels.depthwise_conv2d(x, w)
    if b is not None:
        y += b

    def backward(g):
        return (
            lambda: kernels.depthwise_conv2d_dx(g, w),
            lambda: kernels.depthwise_conv2d_dw(x, g, len(w)),
            None if b is None else lambda: kernels.channel_sum(_rows(g)),
        )

    return y, backward


@op
def patchify(x, w, b=None):
    """Patch embedding: cut an image into p×p patches and map each one linearly.

    x (N, H, W, C), w (p, p, C, D), b (D,) -> y (N, H/p, W/p, D)

        y[n,h,v] = vec(x[n, hp:hp+p, vp:vp+p]) · vec(w) + b      vec: (p, p, C) -> (p·p·C)

    A convolution with kernel p and stride p: no pixel is read twice, so it is a reshape and a
    matrix product, and backward is the same two in reverse.

    Errors: ValueError, naming both, where H or W is not divisible by p or the channels differ.
    Dosovitskiy et al. 2021, arXiv:2010.11929; Trockman & Kolter 2022, arXiv:2201.09792.
    """
    expect_shapes("x (N, H, W, C), w (p, p, C, D), b (D,)", x, w, b)
    (_, height, width, c), (p, _, _, d) = x.shape, w.shape
    if height % p or width % p:
        what = f"patchify: an image of {height}×{width} is not divisible into patches of {p}×{p}"
        raise ValueError(f"{what}; resize or crop it, or choose another patch size")
    y, affine_backward = _affine(kernels.cut_patches(x, p), w.reshape(p * p * c, d), b)

    def backward(g):
        dpatches, dw, db = affine_backward(g)
        return lambda: kernels.join_patches(dpatches(), p), lambda: dw().reshape(w.shape), db

    return y, backward


@op
def conv2d(
    x, w, b=None, *, stride: int = 1, padding: int | str = 0, dilation: int = 1, groups: int = 1
):
    """Convolution.   x (N, H, W, C), w (k, l, C/groups, D), b (D,) -> y (N, H′, W′, D)

        y[n,h,v] = Σᵢⱼ x̄[n, sh+di, sv+dj] w[i,j] + b       x̄: x with zeros around it

    with stride s and dilation d. Whatever an x was multiplied with, its gradient is:

        dx̄[n, sh+di, sv+dj] += g wᵢⱼᵀ       dwᵢⱼ = Σₙₕᵥ x̄ᵀ g       db = Σ g

    padding  zeros on every side, or "same": d(k−1) zeros a side pair, (d(k−1))//2 of them before
             (stride 1 only), or "valid": none
    groups   both channel axes are cut into so many parts that do not mix
    H′ = (H + padding before and after − d(k−1) − 1)//s + 1

    Errors: ValueError, naming both, where channels, groups or bias differ, the kernel is larger
    than the padded image, or an option is not a whole number in its range.
    """
    expect_shapes("x (N, H, W, C), w (k, l, K, D), b (D,)", x, w, b)
    (_, height, width, c), (k, l, each, d) = x.shape, w.shape
    expect_whole("conv2d", 1, stride=stride, dilation=dilation, groups=groups)
    if c != each * groups or d % groups:
        what = f"conv2d: x has {c} channels in {groups} groups, but w of shape {w.shape}"
        raise ValueError(f"{what} takes {each} channels a group and gives {d}")
    zeros = _padding(padding, (k, l), stride, dilation)
    options = int(stride), int(dilation), zeros
    if min(result_size((height, width), (k, l), *options)) < 1:
        image = f"the padded image of {height + sum(zeros[:2])}×{width + sum(zeros[2:])}"
        larger = f"a kernel of {k}×{l} with dilation {dilation} is larger than"
        raise ValueError(f"conv2d: {larger} {image}")

    def grouped(a: Array) -> Array:
        """(…, channels) -> (…, groups, channels a group)"""
        return a.reshape(*a.shape[:-1], groups, a.shape[-1] // groups)

    xs, ws, bs = grouped(x), grouped(w), None if b is None else grouped(b)
    y = kernels.conv2d(xs, ws, *options, bs)

    def backward(g):
        gs = grouped(g)
        return (
            lambda: kernels.conv2d_dx(gs, ws, (height, width), *options).reshape(x.shape),
            lambda: kernels.conv2d_dw(xs, gs, (k, l), *options).reshape(w.shape),
            None if b is None else lambda: kernels.channel_sum(_rows(g)),
        )

    return y.reshape(*y.shape[:3], d), backward


def _padding(padding: int | str, kernel: Size, stride: int, dilation: int) -> Sides:
    """Zeros above, below, left and right."""
    if padding == "valid":
        padding = 0
    if padding == "same":
        if stride != 1:
            raise ValueError(f"conv2d: padding 'same' needs stride 1, not {stride}")
        down, across = (int(dilation) * (k - 1) for k in kernel)
        return down // 2, down - down // 2, across // 2, across - across // 2
    if isinstance(padding, str) or not hasattr(padding, "__index__") or padding < 0:
        raise ValueError(f"conv2d: padding is {padding!r}; it can be 'same', 'valid' or 0, 1, 2, …")
    return (int(padding),) * 4
