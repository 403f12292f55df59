"""The matrix product."""

from __future__ import annotations

from ..dispatch import Array, kernel
from .stack import matmul_stack


@kernel(a="M K", b="K C", bias="C")
def matmul(a: Array, b: Array, bias: Array | None = None) -> Array:
    """a @ b, and + bias (C,) where there is one, of two matrices (M, K) and (K, C)."""
    return a @ b if bias is None else a @ b + bias


def product(x: Array, y: Array) -> Array:
    """x @ y of matrices, or of stacks of matrices whose leading axes broadcast.

    In compiled code, where no stack is repeated to fit the other, the bits are the same for any
    number of threads. The rest goes to NumPy, and BLAS divides its sums by the threads it has.
    """
    if x.ndim == y.ndim == 2:
        return matmul(x, y)
    if x.ndim == y.ndim == 3 and len(x) == len(y) == 1:
        return matmul(x[0], y[0])[None]
    return matmul_stack(x, y)
