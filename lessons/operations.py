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

    Between forward and backward the operation is called again with other inputs, and backward is
    called twice: what one call keeps must be its own, and must stay as it is.
    """
    *inputs, g = given
    result, backward = answer(*inputs)
    answer(*(2 * x for x in inputs))
    gradients = backward(g)
    before = copy.deepcopy(gradients)
    if not same(backward(g), before):
        raise Wrong(
            "backward(g) gives something else when it is called again: it changes what it uses"
        )
    return result, *(gradients if isinstance(gradients, tuple) else (gradients,))


def drawn(rng: np.random.Generator, *shapes: tuple[int, ...], dtype: Any = np.float64) -> Any:
    """Random arrays of these shapes."""
    return tuple(rng.normal(size=shape).astype(dtype) for shape in shapes)


def kind(dtype: Any) -> str:
    """What to add to the description of a case in float32."""
    return ", float32" if dtype == np.float32 else ""
