"""GELU and ReLU, elementwise: one pass over memory, a vector at a time."""

from __future__ import annotations

import math

import numpy as np

from ..reference.activation import SQRT_2_OVER_PI
from ..simd.jit import helper, kernel
from ..simd.memory import empty_like
from ..simd.rows import PIECE, flat, pieces
from ..simd.team import run
from ..simd.vectors import (
    clip,
    exp2,
    gate,
    gelu_and_slope,
    gelu_value,
    lanes,
    load,
    relu_and_slope,
    store,
)
from ..simd.work import shared, work

TWICE = 2 * SQRT_2_OVER_PI
BINARY = TWICE / math.log(2)  # such that e²ᵘ is a power of 2


@helper
def activated(relu, v):
    return clip(v, 0.0, np.inf) if relu else gelu_value(v)


@helper
def activated_and_slope(relu, v):
    return relu_and_slope(v) if relu else gelu_and_slope(v)


# Each kernel takes whole vectors first: where `load` and `store` know that a vector is whole, they
# need not ask. What a piece then has left is less than a vector.


@helper
def _span(piece, x):
    """Where a piece of x begins, where its last whole vector ends, and where it ends itself."""
    start = piece * PIECE
    stop = min(start + PIECE, x.size)
    return start, stop - (stop - start) % lanes(x), stop


@kernel
def _relu(queue, x, y):
    step = lanes(x)
    for piece in work(shared(queue)):
        start, whole, stop = _span(piece, x)
        for i in range(start, whole, step):
            store(y, i, step, clip(load(x, i, step), 0.0, np.inf))
        if whole < stop:
            store(y, whole, stop - whole, clip(load(x, whole, stop - whole), 0.0, np.inf))


@kernel
def _relu_backward(queue, y, g, dx):
    step = lanes(y)
    for piece in work(shared(queue)):
        start, whole, stop = _span(piece, y)
        for i in range(start, whole, step):
            store(dx, i, step, gate(load(y, i, step), load(g, i, step)))
        if whole < stop:
            n = stop - whole
            store(dx, whole, n, gate(load(y, whole, n), load(g, whole, n)))


@helper
def _value(x, y, i, n):
    store(y, i, n, gelu_value(load(x, i, n)))


@kernel
def _gelu(queue, x, y):
    step = lanes(x)
    for piece in work(shared(queue)):
        start, whole, stop = _span(piece, x)
        for i in range(start, whole, step):
            _value(x, y, i, step)
        if whole < stop:
            _value(x, y, whole, stop - whole)


@helper
def _slope(x, g, dx, i, n):
    _, slope = gelu_and_slope(load(x, i, n))
    store(dx, i, n, load(g, i, n) * slope)


@kernel
def _gelu_backward(queue, x, g, dx):
    step = lanes(x)
    for piece in work(shared(queue)):
        start, whole, stop = _span(piece, x)
        for i in range(start, whole, step):
            _slope(x, g, dx, i, step)
        if whole < stop:
            _slope(x, g, dx, whole, stop - whole)


@helper
def _low(x):
    """Where e²ᵘ, u of `gelu_tanh`, has become 0: in float32, about where `exp2` is 0."""
    return -10.031 if x.itemsize == 4 else -22.0


@helper
def _sigmoids(z):
    """½ (1 + tanh u) and ½ (1 − tanh u), u of `gelu_tanh`: the logistic function of ±2u.

    z is between `_low` and 9, where the first is 1 and e²ᵘ is finite.
    """
    e = exp2((z * z * (0.044715 * BINARY) + BINARY) * z)
    rest = 1.0 / (e + 1.0)
    return e * rest, rest


@helper
def _tanh_value(x, y, i, n):
    z = clip(load(x, i, n), _low(x), np.inf)
    s, _ = _sigmoids(clip(z, -np.inf, 9.0))
    store(y, i, n, z * s)


@kernel
def _gelu_tanh(queue, x, y):
    step = lanes(x)
    for piece in work(shared(queue)):
        start, whole, stop = _span(piece, x)
        for i in range(start, whole, step):
            _tanh_value(x, y, i, step)
        if whole < stop:
            _tanh_value(x, y, whole, stop - whole)


@helper
def _tanh_slope(x, g, dx, i, n):
    z = clip(load(x, i, n), _low(x), 9.0)  # beyond, the slope is 0 or 1
    s, rest = _sigmoids(z)
    slope = z * z * (3 * 0.044715 * TWICE) + TWICE  # of 2u
    store(dx, i, n, load(g, i, n) * (s + z * s * rest * slope))


@kernel
def _gelu_tanh_backward(queue, x, g, dx):
    step = lanes(x)
    for piece in work(shared(queue)):
        start, whole, stop = _span(piece, x)
        for i in range(start, whole, step):
            _tanh_slope(x, g, dx, i, step)
        if whole < stop:
            _tanh_slope(x, g, dx, whole, stop - whole)


def _map(kernel, x, *others):
    y = empty_like(x)
    run(kernel, pieces(x.size), flat(x), *map(flat, others), y.reshape(-1))
    return y


def relu(x):
    return _map(_relu, x)


def relu_backward(y, g):
    return _map(_relu_backward, y, g)


def gelu(x):
    return _map(_gelu, x)


def gelu_backward(x, g):
    return _map(_gelu_backward, x, g)


def gelu_tanh(x):
    return _map(_gelu_tanh, x)


def gelu_tanh_backward(x, g):
    return _map(_gelu_tanh_backward, x, g)
