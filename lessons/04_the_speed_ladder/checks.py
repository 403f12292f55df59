"""Lesson 04, the speed ladder. What is checked is that it is right; the lesson's bars say how fast.

Mistakes are plain Python: they compute what a wrong compiled function would.
"""

from __future__ import annotations

import math

import numpy as np

from ..check import Exercise


def pairs(rng, *sizes):
    """Cases: float32 matrices (M, K) and (K, C)."""
    return [
        (
            f"a ({m}, {k}), b ({k}, {c})",
            (rng.normal(size=(m, k)).astype("f"), rng.normal(size=(k, c)).astype("f")),
        )
        for m, k, c in sizes
    ]


def last_product(a, b):
    """`c[i, j] = …` where `+=` belongs: only the last k stays."""
    return np.outer(a[:, -1], b[-1])


MATMUL_MISTAKES = {
    "only the last product of each sum remains: add them up with +=": last_product,
    "the last k is missing: range(K) ends at K − 1 by itself": lambda a, b: a[:, :-1] @ b[:-1],
    "this is the product with b transposed: b[k, j], not b[j, k]": lambda a, b: (
        a @ b.T if b.shape[0] == b.shape[1] else _index_error()
    ),
    "this is the elementwise product, without a sum": lambda a, b: a * b,
    "this is the transpose of the result: c[i, j], i from a and j from b": lambda a, b: (a @ b).T,
}


def _index_error():
    raise IndexError("index is out of bounds")


def matmul_exercise(name):
    return Exercise(
        name,
        reference=np.matmul,
        cases=lambda rng: pairs(rng, (3, 3, 3), (2, 5, 3), (4, 1, 2)),
        mistakes=MATMUL_MISTAKES,
    )


ROOT = math.sqrt(2 / math.pi)


def gelu_of(inner=lambda x: x + 0.044715 * x**3, outer=lambda x, t: 0.5 * x * (1 + t)):
    """GELU of which the inner or the outer formula can be wrong; float32."""
    return lambda x: outer(x, np.tanh(ROOT * inner(x.astype(float)))).astype(x.dtype)


gelu_fast = Exercise(
    "04.gelu_fast",
    reference=gelu_of(),
    rtol=1e-3,
    cases=lambda rng: [
        ("x = -1, 0, 1, 2", (np.array([-1, 0, 1, 2], np.float32),)),
        ("500 numbers from -10 to 10", (np.linspace(-10, 10, 500, dtype=np.float32),)),
    ],
    mistakes={
        "the cube is a square: 0.044715 x³": gelu_of(lambda x: x + 0.044715 * x**2),
        "the ½ in front is missing": gelu_of(outer=lambda x, t: x * (1 + t)),
        "the 1 + is missing: ½ x (1 + tanh u)": gelu_of(outer=lambda x, t: 0.5 * x * t),
        "the x in front is missing: ½ x (1 + tanh u)": gelu_of(outer=lambda x, t: 0.5 * (1 + t)),
        "the root is missing: u = √(2/π) (x + 0.044715 x³)": gelu_of(
            lambda x: (x + 0.044715 * x**3) / ROOT
        ),
        "this is tanh of x itself: u contains a cube as well": gelu_of(lambda x: x / ROOT),
    },
)

EXERCISES = [
    matmul_exercise("04.matmul_loops"),
    matmul_exercise("04.matmul_outer"),
    matmul_exercise("04.matmul_ikj"),
    gelu_fast,
]
