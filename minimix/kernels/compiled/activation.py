"""GELU, elementwise: one pass over memory, a vector at a time."""

from __future__ import annotations

import numpy as np

from ..reference.activation import SQRT_2_OVER_PI
from ..simd.jit import helper, kernel
from ..simd.memory import empty_like
from ..simd.rows import PIECE, flat, pieces
from ..simd.threads import run
from ..simd.vectors import clip, exp, gelu_and_slope, gelu_value, lanes, load, store, work


@kernel
def _gelu(queue, x, y):
    step = lanes(x)
    for piece in work(queue):
        stop = min((piece + 1) * PIECE, x.size)
        for i in range(piece * PIECE, stop, step):
            store(y, i, stop - i, gelu_value(load(x, i, stop - i)))


@kernel
def _gelu_backward(queue, x, g, dx):
    step = lanes(x)
    for piece in work(queue):
        stop = min((piece + 1) * PIECE, x.size)
        for i in range(piece * PIECE, stop, step):
            _, slope = gelu_and_slope(load(x, i, stop - i))
            store(dx, i, stop - i, load(g, i, stop - i) * slope)


@helper
def _sigmoids(z):
    """½ (1 + tanh u) and ½ (1 − tanh u), u of `gelu_tanh`: the logistic function of ±2u.

    z is between −22, where the first is 0 in either dtype, and 9, where it is 1 and e²ᵘ is finite.
    """
    e = exp((z * z * 0.044715 + 1.0) * z * (2 * SQRT_2_OVER_PI))
    rest = 1.0 / (e + 1.0)
    return e * rest, rest


@kernel
def _gelu_tanh(queue, x, y):
    step = lanes(x)
    for piece in work(queue):
        stop = min((piece + 1) * PIECE, x.size)
        for i in range(piece * PIECE, stop, step):
            z = load(x, i, stop - i)
            s, _ = _sigmoids(clip(z, -22.0, 9.0))
            store(y, i, stop - i, clip(z, -22.0, np.inf) * s)


@kernel
def _gelu_tanh_backward(queue, x, g, dx):
    step = lanes(x)
    for piece in work(queue):
        stop = min((piece + 1) * PIECE, x.size)
        for i in range(piece * PIECE, stop, step):
            z = clip(load(x, i, stop - i), -22.0, 9.0)  # beyond, the slope is 0 or 1
            s, rest = _sigmoids(z)
            slope = (z * z * (3 * 0.044715) + 1.0) * (2 * SQRT_2_OVER_PI)  # of 2u
            store(dx, i, stop - i, load(g, i, stop - i) * (s + z * s * rest * slope))


def _map(kernel, x, *others):
    y = empty_like(x)
    run(kernel, pieces(x.size), flat(x), *map(flat, others), y.reshape(-1))
    return y


def gelu(x):
    return _map(_gelu, x)


def gelu_backward(x, g):
    return _map(_gelu_backward, x, g)


def gelu_tanh(x):
    return _map(_gelu_tanh, x)


def gelu_tanh_backward(x, g):
    return _map(_gelu_tanh_backward, x, g)
