"""The matrix product."""

from __future__ import annotations

from ..dispatch import Array, kernel


@kernel(a="M K", b="K C", bias="C")
def matmul(a: Array, b: Array, bias: Array | None = None) -> Array:
    """a @ b, and + bias (C,) where there is one, of two matrices (M, K) and (K, C)."""
    return a @ b if bias is None else a @ b + bias
