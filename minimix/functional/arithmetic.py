"""Elementwise arithmetic, the matrix product, and sums of products.

Shapes broadcast as NumPy's do; the engine sums gradients back over the broadcast axes, so each
`backward` here may answer in the shape of the result.
"""

from __future__ import annotations

import numpy as np

from ..autograd import Array, Tensor, op, unbroadcast
from ..kernels import product

__all__ = ["abs", "add", "clip", "divide", "einsum", "exp", "log", "matmul", "maximum", "minimum"]
__all__ += ["multiply", "negative", "power", "sqrt", "subtract", "tanh", "where"]


@op
def add(x, y):
    """Sum.   x, y (broadcastable) -> x + y

    dx = g,  dy = g
    """
    return x + y, lambda g: (g, g)


@op
def subtract(x, y):
    """Difference.   x, y (broadcastable) -> x − y

    dx = g,  dy = −g
    """
    return x - y, lambda g: (g, lambda: -g)


@op
def multiply(x, y):
    """Product.   x, y (broadcastable) -> x y

    dx = g y,  dy = g x
    """
    return x * y, lambda g: (lambda: g * y, lambda: g * x)


@op
def divide(x, y):
    """Quotient.   x, y (broadcastable) -> x / y

    dx = g / y,  dy = −g x / y²
    """
    z = x / y
    return z, lambda g: (lambda: g / y, lambda: -g * z / y)


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

    return z, lambda g: (lambda: dx(g), lambda: dy(g))


@op
def negative(x):
    """Negation.   x (any shape) -> −x

    dx = −g
    """
    return -x, lambda g: -g


@op
def exp(x):
    """Exponential.   x (any shape) -> y = eˣ

    dx = g y
    """
    y = np.exp(x)
    return y, lambda g: g * y


@op
def log(x):
    """Natural logarithm.   x (any shape, > 0) -> ln x

    dx = g / x
    """
    return np.log(x), lambda g: g / x


@op
def sqrt(x):
    """Square root.   x (any shape, > 0) -> y = √x

    dx = g / (2 y)
    """
    y = np.sqrt(x)
    return y, lambda g: g / (2 * y)


@op
def tanh(x):
    """Hyperbolic tangent.   x (any shape) -> y = tanh x

    dx = g (1 − y²)
    """
    y = np.tanh(x)
    return y, lambda g: g * (1 - y * y)


@op
def abs(x):
    """Absolute value.   x (any shape) -> |x|

    dx = g sign x, 0 at the kink x = 0
    """
    return np.abs(x), lambda g: np.where(x == 0, 0, g) * np.sign(x)


@op
def maximum(x, y):
    """The larger of two, elementwise.   x, y (broadcastable) -> max(x, y)

    dx = g where x is larger, 0 elsewhere; dy likewise. Where both are equally large (a kink: no
    gradient exists) they share g evenly. What is not a number counts as larger.
    """

    z = np.maximum(x, y)
    return z, lambda g: (lambda: _share(g, x, y, z), lambda: _share(g, y, x, z))


@op
def minimum(x, y):
    """The smaller of two, elementwise.   x, y (broadcastable) -> min(x, y)

    dx = g where x is smaller, 0 elsewhere; dy likewise; at a kink and of NaN as for `maximum`.
    """

    z = np.minimum(x, y)
    return z, lambda g: (lambda: _share(g, x, y, z), lambda: _share(g, y, x, z))


def _share(g: Array, mine: Array, other: Array, z: Array) -> Array:
    """g where z is mine, half of it where z is the other as well, 0 elsewhere."""
    chosen = (z == mine) | np.isnan(mine)
    both = chosen & ((z == other) | np.isnan(other))
    return np.where(both, g / 2, np.where(chosen, g, 0))


@op
def clip(x, *, low=None, high=None):
    """Confine to an interval.   x (any shape) -> min(max(x, low), high)

    dx = g where low ≤ x ≤ high, 0 outside.   low, high: numbers, arrays that broadcast, or None for
    no bound on that side.
    """
    low, high = (None if bound is None else np.asarray(bound, x.dtype) for bound in (low, high))

    def backward(g):
        outside = (False if low is None else x < low) | (False if high is None else x > high)
        return np.where(outside, 0, g)

    return np.clip(x, low, high), backward


@op
def where(condition, x, y):
    """Choose between two.   condition, x, y (broadcastable) -> x where condition is not 0, else y

    dx = g where x was chosen, 0 elsewhere;  dy = g where y was. A condition has no gradient.
    """
    chosen = condition != 0

    def backward(g):
        return None, lambda: np.where(chosen, g, 0), lambda: np.where(chosen, 0, g)

    return np.where(chosen, x, y), backward


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


def einsum(subscripts: str, *xs: Tensor) -> Tensor:
    """Sum of products.   einsum("nhtd,nhsd->nhts", q, k): q kᵀ for each n and h

    A group of letters for each array, a letter for each axis; equal letters are the same axis.
    Letters that do not stand after "->" are summed over; without "->" those are kept that stand
    only once, in alphabetical order. "..." is any axes, which broadcast.

    The gradient of x is a sum of products too, in which g takes the place of x. An axis that only x
    had was summed: g is copied along it. Of a letter that stands twice, only the diagonal was read.

    Errors: ValueError where letters and axes do not fit.
    """
    return _einsum(*xs, subscripts=subscripts)


@op
def _einsum(*xs, subscripts: str):
    inputs, output = explicit(subscripts)
    y = np.einsum(f"{','.join(inputs)}->{output}", *xs, optimize=True)

    def dx(g: Array, i: int) -> Array:
        groups = [output, *inputs[:i], *inputs[i + 1 :]]
        dots = "..." * inputs[i].count("...")
        letters = dict.fromkeys(inputs[i].replace("...", ""))  # each once
        shared = "".join(c for c in letters if any(c in group for group in groups))
        alone = "".join(c for c in letters if c not in shared)
        arrays = (g, *xs[:i], *xs[i + 1 :])
        part = np.einsum(f"{','.join(groups)}->{dots}{shared}", *arrays, optimize=True)
        dx = np.zeros_like(xs[i])
        # A view of what was read (of a single number NumPy would make a copy).
        read = np.einsum(f"{inputs[i]}->{dots}{shared}{alone}", dx) if dx.ndim else dx
        read[...] = unbroadcast(part[(..., *(None for _ in alone))], read.shape)
        return dx

    return y, lambda g: tuple(lambda i=i: dx(g, i) for i in range(len(xs)))


def explicit(subscripts: str) -> tuple[list[str], str]:
    """The letters of each array, and those of the result, which may have been left out."""
    inputs, arrow, output = subscripts.replace(" ", "").partition("->")
    if not arrow:
        once = sorted(c for c in set(inputs) - set(",.") if inputs.count(c) == 1)
        output = "..." * ("..." in inputs) + "".join(once)
    return inputs.split(","), output
