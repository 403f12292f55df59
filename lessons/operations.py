"""What the checkers of several lessons share about operations, (x, …) -> (result, backward)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from .check import Wrong, same


def operation(forward: Callable[..., Any], *gradients: Callable[..., Any]) -> Callable[..., Any]:
    """An operation written as formulas: forward(x, …) and, for each input, gradient(g, x, …)."""

    def op(*inputs):
        return forward(*inputs), lambda g: tuple(d(g, *inputs) for d in gradients)

    return op


def forward_and_backward(answer: Callable[..., Any], *given: Any) -> tuple[Any, ...]:
    """The result of an operation and its gradients; the last of what is given is g.

    What one call keeps for its backward must be its own, and must stay as it is. So backward is
    called twice, and again after another call.
    """
    *inputs, g = given
    result, backward = answer(*inputs)
    gradients = backward(g)
    first = copy.deepcopy(gradients)
    if not same(backward(g), first):
        raise Wrong("backward(g), called twice, gives two results: it changes what it uses")
    _, backward = answer(*inputs)
    answer(*(2 * x for x in inputs))
    if not same(backward(g), first):
        raise Wrong(
            "backward(g) changes when the operation is called again: each call needs its own"
        )
    return result, *(gradients if isinstance(gradients, (tuple, list)) else (gradients,))


def drawn(rng: np.random.Generator, *shapes: tuple[int, ...], dtype: Any = np.float64) -> Any:
    """A tuple of random arrays of these shapes."""
    return tuple(rng.normal(size=shape).astype(dtype) for shape in shapes)
