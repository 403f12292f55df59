"""What the checkers of several lessons share about operations, (x, …) -> (result, backward)."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from .differences import same
from .exercise import Wrong


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
    result, backward = _pair(answer(*inputs))
    gradients = backward(g)
    if gradients is None:
        raise Wrong("backward(g) returns nothing: is its `return` missing?")
    if isinstance(gradients, (tuple, list)):
        if any(isinstance(d, (tuple, list)) for d in gradients):
            raise Wrong("backward(g) returns a tuple within a tuple: unpack the inner one with *")
        if len(gradients) != len(inputs):
            raise Wrong(
                f"backward(g) returns {len(gradients)} gradients; one for each of the "
                f"{len(inputs)} inputs is asked for"
            )
    first = copy.deepcopy(gradients)
    if not same(backward(g), first):
        raise Wrong("backward(g), called twice, gives two results: it changes what it uses")
    _, backward = _pair(answer(*inputs))
    answer(*(2 * x for x in inputs))
    if not same(backward(g), first):
        raise Wrong(
            "backward(g) changes when the operation is called again: each call needs its own"
        )
    return result, *(gradients if isinstance(gradients, (tuple, list)) else (gradients,))


def _pair(returned: Any) -> tuple[Any, Callable[..., Any]]:
    """The result and the backward function that an operation returned."""
    if returned is None:
        raise Wrong("nothing is returned: is there a `return`, of the result and of backward?")
    if not (isinstance(returned, (tuple, list)) and len(returned) == 2):
        raise Wrong("two things should be returned: the result, and the function backward")
    result, backward = returned
    if not callable(backward):
        raise Wrong(
            "the second thing returned should be the function backward itself, not what it "
            "returns: leave out its parentheses"
        )
    return result, backward


def drawn(rng: np.random.Generator, *shapes: tuple[int, ...], dtype: Any = np.float64) -> Any:
    """A tuple of random arrays of these shapes."""
    return tuple(rng.normal(size=shape).astype(dtype) for shape in shapes)
