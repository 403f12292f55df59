"""What a gradient check is given: the inputs by name, and whether they can be checked."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..autograd import Tensor


def name_of(f: Any) -> str:
    while hasattr(f, "func"):  # functools.partial
        f = f.func
    name = getattr(f, "__name__", type(f).__name__)
    return "f" if name == "<lambda>" else name


def tensors_of(f: Any, inputs: Any) -> dict[str, Tensor]:
    """The inputs by name: those of a dict, or of f's parameters, or their numbers."""
    if isinstance(inputs, (Tensor, np.ndarray)):
        inputs = [inputs]
    if not isinstance(inputs, Mapping):
        try:
            names = [
                p.name
                for p in inspect.signature(getattr(f, "forward", f)).parameters.values()
                if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
            ]
        except (TypeError, ValueError):
            names = []
        names += [f"input {i}" for i in range(len(names), len(inputs))]
        inputs = dict(zip(names, inputs, strict=False))
    own = dict(f.named_parameters()) if hasattr(f, "named_parameters") else {}
    found = {}
    for name, x in inputs.items():
        new = isinstance(x, np.ndarray) and x.dtype == np.float64
        clash = name in own and own[name] is not x  # a parameter that is called like an input
        found[f"input {name}" if clash else name] = Tensor(x, requires_grad=True) if new else x
    return found


def validate(tensors: dict[str, Tensor], named: set[str]) -> None:
    for name, t in tensors.items():
        if not isinstance(t, (Tensor, np.ndarray)):
            raise TypeError(
                f"gradcheck: {name!r} is a {type(t).__name__}; expected a tensor or an array of "
                f"float64. What has no gradient belongs inside f: lambda x: f(x, {name})"
            )
        if t.dtype != np.float64:
            raise TypeError(
                f"gradcheck: {name!r} is {t.dtype}; expected float64, since the rounding of "
                "anything shorter drowns the differences: convert with .astype(np.float64)"
            )
        if t.size == 0:
            raise ValueError(f"gradcheck: {name!r} of shape {t.shape} is empty")
        if t.node is not None:
            raise ValueError(
                f"gradcheck: {name!r} is the result of {t.node.op}; expected a leaf: give "
                "Tensor(array, requires_grad=True)"
            )
        if not np.isfinite(t.array).all():
            where = [int(i) for i in np.argwhere(~np.isfinite(t.array))[0]]
            raise ValueError(f"gradcheck: {name!r} is not finite at {where}")
    if not any(t.requires_grad for t in tensors.values()):
        raise ValueError(
            f"gradcheck: none of the inputs ({', '.join(tensors) or 'there are none'}) requires a "
            "gradient; give Tensor(array, requires_grad=True)"
        )
    for name in named - {name for name, t in tensors.items() if t.requires_grad}:
        raise ValueError(
            f"gradcheck: no input {name!r} requires a gradient; there are {', '.join(tensors)}"
        )
