"""Products of stacks of matrices."""

from __future__ import annotations

from ..dispatch import Array, kernel


@kernel(a="... M K", b="... K C")
def matmul_stack(a: Array, b: Array) -> Array:
    """a @ b of each two matrices.   a (…, M, K), b (…, K, C) -> (…, M, C), equal leading axes"""
    return a @ b
