"""Lesson 02, tensors and broadcasting."""

from __future__ import annotations

import numpy as np

from minimix.autograd import unbroadcast as library_unbroadcast

from ..exercise import Exercise
from ..operations import forward_and_backward, operation

# ---- unbroadcast


def copies_one(g, shape):
    """The first of the copies instead of their sum."""
    g = g[(0,) * (g.ndim - len(shape))]
    return g[tuple(slice(0, 1) if n == 1 else slice(None) for n in shape)]


def only_missing(g, shape):
    return g.sum(axis=tuple(range(g.ndim - len(shape))))


def without_keepdims(g, shape):
    g = only_missing(g, shape)
    return g.sum(axis=tuple(i for i, n in enumerate(shape) if n == 1))


def averages(g, shape):
    total = library_unbroadcast(g, shape)
    return total * (total.size / g.size)


def only_ones(g, shape):
    return g.sum(axis=tuple(i for i, n in enumerate(shape) if n == 1), keepdims=True)


unbroadcast = Exercise(
    "02.unbroadcast",
    reference=library_unbroadcast,
    cases=lambda rng: [
        (f"g {g} to {shape}", (rng.normal(size=g), shape))
        for g, shape in [
            ((3, 4), (4,)),
            ((3, 4), (3, 1)),
            ((3, 4), (1, 4)),
            ((3, 4), (3, 4)),
            ((2, 3, 4), (3, 1)),
            ((2, 3, 4), (2, 1, 1)),
            ((2, 3, 4), ()),
        ]
    ],
    mistakes={
        "these are sums over the missing axes only; axes of length 1 were stretched "
        "too": only_missing,
        "the axes of length 1 are gone: sum them with keepdims=True": without_keepdims,
        "this is the mean of the copies; their gradients add up": averages,
        "this is the gradient of the first copy only; sum over all of them": copies_one,
        "this is one sum over everything; sum only over the axes that were stretched": (
            lambda g, shape: np.full(shape, g.sum())
        ),
        "the gradients of the copies were cut off or repeated; they add up": (
            lambda g, shape: np.resize(g, shape)
        ),
        "the axes in front that `shape` does not have are still there: sum over them": only_ones,
    },
)


# ---- operations on arrays


def product(x, y):
    return x * y


def dx_of_product(g, x, y):
    return library_unbroadcast(g * y, x.shape)


def dy_of_product(g, x, y):
    return library_unbroadcast(g * x, y.shape)


multiply = Exercise(
    "02.multiply",
    reference=operation(product, dx_of_product, dy_of_product),
    outputs=("x·y", "dx", "dy"),
    run=forward_and_backward,
    cases=lambda rng: [
        (f"x {a}, y {b}", (rng.normal(size=a), rng.normal(size=b), rng.normal(size=c)))
        for a, b, c in [
            ((2, 3), (2, 3), (2, 3)),
            ((3, 1), (4,), (3, 4)),
            ((3, 4), (4,), (3, 4)),
            ((2, 1, 4), (3, 1), (2, 3, 4)),
        ]
    ],
    mistakes={
        "dx and dy have the shape of the result: bring each back to the shape of its own "
        "argument with unbroadcast": operation(
            product, lambda g, x, y: g * y, lambda g, x, y: g * x
        ),
        "dx and dy are swapped: dx is g·y, dy is g·x": operation(
            product,
            lambda g, x, y: library_unbroadcast(g * x, x.shape),
            lambda g, x, y: library_unbroadcast(g * y, y.shape),
        ),
        "g is missing: dx = g·y, dy = g·x": operation(
            product,
            lambda g, x, y: library_unbroadcast(y + 0 * g, x.shape),
            lambda g, x, y: library_unbroadcast(x + 0 * g, y.shape),
        ),
        "the shapes are swapped: dx has the shape of x, dy that of y": operation(
            product,
            lambda g, x, y: library_unbroadcast(g * y, y.shape),
            lambda g, x, y: library_unbroadcast(g * x, x.shape),
        ),
        "g and y are multiplied elementwise, as in the forward pass: `*`, not `@`": operation(
            product,
            lambda g, x, y: library_unbroadcast(g @ y, x.shape),
            lambda g, x, y: library_unbroadcast(g @ x, y.shape),
        ),
        "dx was summed before it was multiplied by y: unbroadcast(g * y, …)": operation(
            product, lambda g, x, y: library_unbroadcast(g, x.shape) * y, dy_of_product
        ),
        "sum after multiplying, not before: the sum of g·x is not the sum of g times x": operation(
            product,
            lambda g, x, y: library_unbroadcast(library_unbroadcast(g, x.shape) * y, x.shape),
            lambda g, x, y: library_unbroadcast(library_unbroadcast(g, y.shape) * x, y.shape),
        ),
    },
)


def matrix_product(x, w):
    return x @ w


def dx_of_matmul(g, x, w, *b):
    return g @ w.T


def dw_of_matmul(g, x, w, *b):
    return x.T @ g


def matrices(rng, m, k, c, *more):
    return rng.normal(size=(m, k)), rng.normal(size=(k, c)), *more, rng.normal(size=(m, c))


matmul = Exercise(
    "02.matmul",
    reference=operation(matrix_product, dx_of_matmul, dw_of_matmul),
    outputs=("x @ w", "dx", "dw"),
    run=forward_and_backward,
    cases=lambda rng: [
        ("all square, 3×3", matrices(rng, 3, 3, 3)),
        ("x (5, 4), w (4, 3)", matrices(rng, 5, 4, 3)),
        ("float32, x (2, 6), w (6, 1)", tuple(a.astype("f") for a in matrices(rng, 2, 6, 1))),
    ],
    mistakes={
        "w is not transposed: dx sums over c, the last axis of g and of w: g @ w.T": operation(
            matrix_product, lambda g, x, w: g @ w, dw_of_matmul
        ),
        "x is not transposed: dw sums over m, the first axis of x and of g: x.T @ g": operation(
            matrix_product, dx_of_matmul, lambda g, x, w: x @ g
        ),
        "dw is transposed: (C, K) instead of (K, C)": operation(
            matrix_product, dx_of_matmul, lambda g, x, w: g.T @ x
        ),
        "dx is transposed: (K, M) instead of (M, K)": operation(
            matrix_product, lambda g, x, w: w @ g.T, dw_of_matmul
        ),
        "the factors are in the wrong order: dx = g @ w.T and dw = x.T @ g": operation(
            matrix_product, lambda g, x, w: w.T @ g, lambda g, x, w: g @ x.T
        ),
        "dx and dw are swapped: return the gradient of x first, then that of w": operation(
            matrix_product, dw_of_matmul, dx_of_matmul
        ),
    },
)


def affine(x, w, b):
    return x @ w + b


def db_of_linear(g, x, w, b):
    return g.sum(axis=0)


linear = Exercise(
    "02.linear",
    reference=operation(affine, dx_of_matmul, dw_of_matmul, db_of_linear),
    outputs=("y", "dx", "dw", "db"),
    run=forward_and_backward,
    cases=lambda rng: [
        ("x (3, 3), w (3, 3), b (3,)", matrices(rng, 3, 3, 3, rng.normal(size=3))),
        ("x (5, 4), w (4, 3), b (3,)", matrices(rng, 5, 4, 3, rng.normal(size=3))),
        ("one row: x (1, 4), w (4, 2), b (2,)", matrices(rng, 1, 4, 2, rng.normal(size=2))),
    ],
    mistakes={
        "db is not summed over the batch: it has one number per column": operation(
            affine, dx_of_matmul, dw_of_matmul, lambda g, x, w, b: g
        ),
        "db is summed over the wrong axis: the rows are the batch, axis 0": operation(
            affine, dx_of_matmul, dw_of_matmul, lambda g, x, w, b: g.sum(axis=1)
        ),
        "db is the mean over the batch; gradients of copies add up": operation(
            affine, dx_of_matmul, dw_of_matmul, lambda g, x, w, b: g.mean(axis=0)
        ),
        "the bias is missing in y": operation(
            lambda x, w, b: x @ w, dx_of_matmul, dw_of_matmul, db_of_linear
        ),
        "the derivative with respect to b is 1, not b: db = Σ g": operation(
            affine, dx_of_matmul, dw_of_matmul, lambda g, x, w, b: (g * b).sum(axis=0)
        ),
    },
)


# ---- cross_entropy


def entropy(shift=True, divide=True, one_hot=1.0, mean=True, sign=-1.0, with_g=True, axis=1):
    """A `cross_entropy` of which one step can be left out or be wrong."""

    def cross_entropy(logits, *, labels):
        n = len(labels)
        z = logits - logits.max(axis=axis, keepdims=True) if shift else logits
        log_p = z - np.log(np.exp(z).sum(axis=axis, keepdims=True))
        picked = log_p[np.arange(n), labels]

        def backward(g):
            dz = np.exp(log_p)
            dz[np.arange(n), labels] -= one_hot
            return (g if with_g else 1.0) * dz / (n if divide else 1)

        return sign * (picked.mean() if mean else picked.sum()), backward

    return cross_entropy


def by_softmax(clip=0.0, shift=True):
    """The logarithm of the softmax, which loses small probabilities."""

    def cross_entropy(logits, *, labels):
        rows = np.arange(len(labels))
        z = logits - logits.max(axis=1, keepdims=True) if shift else logits
        p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)

        def backward(g):
            dz = p.copy()
            dz[rows, labels] -= 1
            return g * dz / len(labels)

        return -np.log(np.maximum(p, clip))[rows, labels].mean(), backward

    return cross_entropy


def backward_of(dlogits):
    """The right loss, with this gradient from p, labels and g."""

    def cross_entropy(logits, *, labels):
        loss, backward = entropy()(logits, labels=labels)
        p = backward(1.0) * len(labels) + np.eye(logits.shape[1])[labels]
        return loss, lambda g: dlogits(p, labels, g)

    return cross_entropy


def over_all(logits, *, labels):
    loss, backward = entropy()(logits, labels=labels)
    k = logits.shape[1]
    return loss / k, lambda g: backward(g) / k


def every_pair(logits, *, labels):
    z = logits - logits.max(axis=1, keepdims=True)
    log_p = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return -log_p[:, labels].mean(), entropy()(logits, labels=labels)[1]


def try_entropy(cross_entropy, logits, labels, g):
    return forward_and_backward(lambda z: cross_entropy(z, labels=labels), logits, g)


cross_entropy = Exercise(
    "02.cross_entropy",
    reference=entropy(),
    outputs=("the loss", "dlogits"),
    run=try_entropy,
    cases=lambda rng: [
        ("3 rows of 3 classes", (rng.normal(size=(3, 3)), np.array([2, 0, 1]), 1.0)),
        ("5 rows of 4 classes, g=2", (rng.normal(size=(5, 4)), np.array([3, 0, 1, 1, 2]), 2.0)),
        (
            "logits of 1000 and -1000",
            (np.array([[1000.0, 0.0, -1000.0], [0.0, 900.0, 1.0]]), np.array([0, 2]), 1.0),
        ),
    ],
    mistakes={
        "large logits overflow: subtract the largest of each row first": entropy(shift=False),
        "the softmax of large logits is nan or 0: subtract the largest of each row before "
        "exp": by_softmax(shift=False),
        "very small probabilities are rounded to 0, whose logarithm is −∞: compute log p itself, "
        "z − log Σ eᶻ": by_softmax(),
        "very small probabilities are 0, and were cut off before the logarithm: compute log p "
        "itself, z − log Σ eᶻ": by_softmax(clip=1e-300),
        "very small probabilities were cut off before the logarithm, so the loss is too "
        "small": by_softmax(clip=1e-12),
        "labels are class numbers, not rows of 0 and 1: subtract 1 at [row, label]": backward_of(
            lambda p, labels, g: g * (p - labels[:, None]) / len(labels)
        ),
        "the gradient begins with log p; it is p = exp(log p), minus 1 at the label": backward_of(
            lambda p, labels, g: g * (np.log(p) - np.eye(p.shape[1])[labels]) / len(labels)
        ),
        "this is the mean over all N·n_classes numbers; take it over the N rows": over_all,
        "every row is looked up at all labels: use one label for each row, "
        "[np.arange(N), labels]": every_pair,
        "the gradient is not divided by N, though the loss is a mean": entropy(divide=False),
        "this is p/N: 1 must be subtracted at the right class": entropy(one_hot=0.0),
        "the loss is the sum over the batch, not its mean": entropy(mean=False),
        "the loss has the wrong sign: it is minus the logarithm": entropy(sign=1.0),
        "g is missing: multiply by the incoming gradient": entropy(with_g=False),
        "softmax runs over the batch; it should run over the classes, axis 1": entropy(axis=0),
    },
)

EXERCISES = [unbroadcast, multiply, matmul, linear, cross_entropy]
