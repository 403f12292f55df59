"""Attention: every token gathers from all tokens what concerns it."""

from __future__ import annotations

from .. import kernels
from ..autograd import op
from ..errors import expect_shapes

__all__ = ["attention"]


@op
def attention(q, k, v):
    """Scaled dot-product attention.   q (…, T, D), k (…, S, D), v (…, S, E) -> y (…, T, E)

        p = softmax(q kᵀ / √D)          (…, T, S): how much token t takes of token s, in sum 1
        y = p v

        dv = pᵀ g     dz = p (g vᵀ − Σ g y)     dq = dz k / √D     dk = dzᵀ q / √D

    with z = q kᵀ/√D, and Σ over the E numbers of a token: Σₛ p (g vᵀ), as softmax has it, is Σ g y.

    Leading axes are equal: images, or images and heads. Nothing is masked. D = 0 counts as 1, and
    without tokens to take from (S = 0) y is 0.

    Errors: ValueError, naming the shapes, where they do not fit together.
    Vaswani et al. 2017, arXiv:1706.03762.
    """
    expect_shapes("q (…, T, D), k (…, S, D), v (…, S, E)", q, k, v)
    return kernels.attention(q, k, v), lambda g: kernels.attention_backward(q, k, v, g)
