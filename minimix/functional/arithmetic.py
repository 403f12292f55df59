"""Elementwise arithmetic, and the matrix product.

Shapes broadcast as NumPy's do; the engine sums gradients back over the broadcast axes, so each
`backward` here may answer in the shape of the result.
"""

from __future__ import annotations

import numpy as np

from ..autograd import op, unbroadcast
from ..kernels import product


@op
def add(x, y):
    """Sum.   x, y (broadcastable) -> x + y

    dx = g,  dy = g
    """

    def backward(g):
        return g, g

    return x + y, backward


@op
def subtract(x, y):
    """Difference.   x, y (broadcastable) -> x − y

    dx = g,  dy = −g
    """

    def backward(g):
        return g, lambda: -g

    return x - y, backward


@op
def multiply(x, y):
    """Product.   x, y (broadcastable) -> x y

    dx = g y,  dy = g x
    """

    def backward(g):
        return lambda: g * y, lambda: g * x

    return x * y, backward


@op
def divide(x, y):
    """Quotient.   x, y (broadcastable) -> x / y

    dx = g / y,  dy = −g x / y²
    """
    z = x / y

    def backward(g):
        return lambda: g / y, lambda: -g * z / y

    return z, backward


@op
def power(x, y):
    """Power.   x, y (broadcastable) -> xʸ;   x > 0 where the gradient for y is wanted

    dx = g y xʸ⁻¹       0 where y is 0, at x = 0 too
    dy = g xʸ ln x      0 where x is 0 and y at least 0: 0ʸ stays 0 as y grows
    """
    z = x**y

    def dx(g):
        constant = y == 0
        return np.where(constant, 0, g) * y * x ** np.where(constant, 0, y - 1)

    def dy(g):
        constant = (x == 0) & (y >= 0)
        return np.where(constant, 0, g) * z * np.log(np.where(constant, 1, x))

    def backward(g):
        return lambda: dx(g), lambda: dy(g)

    return z, backward


@op
def negative(x):
    """Negation.   x (any shape) -> −x

    dx = −g
    """

    def backward(g):
        return -g

    return -x, backward


@op
def exp(x):
    """Exponential.   x (any shape) -> y = eˣ

    dx = g y
    """
    y = np.exp(x)

    def backward(g):
        return g * y

    return y, backward


@op
def log(x):
    """Natural logarithm.   x (any shape, > 0) -> ln x

    dx = g / x
    """

    def backward(g):
        return g / x

    return np.log(x), backward


@op
def sqrt(x):
    """Square root.   x (any shape, > 0) -> y = √x

    dx = g / (2 y)
    """
    y = np.sqrt(x)

    def backward(g):
        return g / (2 * y)

    return y, backward


@op
def tanh(x):
    """Hyperbolic tangent.   x (any shape) -> y = tanh x

    dx = g (1 − y²)
    """
    y = np.tanh(x)

    def backward(g):
        return g * (1 - y * y)

    return y, backward


@op
def matmul(x, y):
    """Matrix product.   x (…, M, K), y (…, K, C) -> x y (…, M, C)

    dx = g yᵀ,  dy = xᵀ g,  summed over leading axes that were broadcast. A vector (K,) on the left
    counts as one row, on the right as one column, as in NumPy.

    Errors: ValueError, naming both shapes, where the inner lengths differ.
    """
    if x.ndim == 0 or y.ndim == 0 or x.shape[-1] != y.shape[-2 if y.ndim > 1 else 0]:
        raise ValueError(f"matmul: inner lengths of shapes {x.shape} and {y.shape} differ")
    rows, columns = np.atleast_2d(x), y[:, None] if y.ndim == 1 else y

    def backward(g):
        stack = np.broadcast_shapes(rows.shape[:-2], columns.shape[:-2])
        g = g.reshape(*stack, rows.shape[-2], columns.shape[-1])
        return (
            lambda: unbroadcast(product(g, columns.swapaxes(-1, -2)), rows.shape).reshape(x.shape),
            lambda: unbroadcast(product(rows.swapaxes(-1, -2), g), columns.shape).reshape(y.shape),
        )

    z = product(rows, columns)
    z = z[..., 0, :] if x.ndim == 1 else z
    return np.asarray(z[..., 0] if y.ndim == 1 else z), backward
