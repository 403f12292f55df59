"""The loss."""

from __future__ import annotations

import numpy as np

from ..autograd import Array, Tensor, op
from ..errors import expect, expect_shapes
from .activation import log_softmax

__all__ = ["cross_entropy"]


def cross_entropy(logits: Tensor, targets: Array | Tensor, *, label_smoothing: float = 0) -> Tensor:
    """Mean cross-entropy of softmax(logits) against targets.

    logits (N, K); targets either N integers in 0 … K−1, or (N, K) probabilities -> one number

        q = (1 − ε) targets + ε/K          ε: label_smoothing; integers count as one-hot rows
        L = −1/N Σₙₖ q log softmax(logits)

    Errors: ValueError, naming both, where lengths differ, a label is out of range, ε is not in
    [0, 1], or the batch is empty: nothing has no mean.
    Label smoothing: Szegedy et al. 2016, arXiv:1512.00567.
    """
    expect("cross_entropy", "0 ≤ x ≤ 1", label_smoothing=label_smoothing)
    expect_shapes("cross_entropy: logits (n, k)", logits)
    n, k = logits.shape
    if not isinstance(targets, Tensor):
        targets = np.asarray(targets)
        if targets.dtype.kind in "iub" and targets.shape == (n,):
            targets = one_hot(targets, k).astype(logits.dtype)
    if targets.shape != (n, k):
        what = f"cross_entropy: {n} logits of {k} classes, targets {targets.dtype} {targets.shape}"
        raise ValueError(f"{what}; expected ({n},) integers or ({n}, {k}) probabilities")
    if label_smoothing:
        targets = targets * (1 - label_smoothing) + label_smoothing / k
    return _cross_entropy(logits, targets)


def one_hot(labels: Array, k: int) -> Array:
    """N integers in 0 … K−1 -> (N, K), 1 at the label and 0 elsewhere, float64."""
    wrong = labels[(labels < 0) | (labels >= k)]
    if wrong.size:
        raise ValueError(f"cross_entropy: label {wrong[0]} is out of range for {k} classes")
    return (labels[:, None] == np.arange(k)).astype(np.float64)


@op
def _cross_entropy(logits, targets):
    """L = −1/N Σ q log p,  p = softmax(logits).   logits, q (N, K) -> ()

        dlogits = g/N (p Σₖ q − q)          dq = −g/N log p

    A class with q = 0 adds nothing, though its log p may be −∞: a masked logit, or one that is too
    far below the largest for its dtype.
    """
    log_p, _ = log_softmax.array(logits, axis=1)
    n = logits.dtype.type(len(logits))
    terms = np.multiply(targets, log_p, out=np.zeros_like(log_p), where=targets != 0)
    loss = np.asarray(-terms.sum() / n)

    def backward(g):
        scale = g / n
        return (
            lambda: scale * (np.exp(log_p) * targets.sum(axis=1, keepdims=True) - targets),
            lambda: -scale * log_p,
        )

    return loss, backward
