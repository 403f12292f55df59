"""What fused models share: which layers are as the rules need them, and what norms know."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import nn
from ..autograd import Array
from ..functional.norm import move_statistics
from ..nn.module import Module

Moments = tuple[Array, Array, int]  # μ and σ², each (C,), and how many numbers a channel has


def contents(layers: Any) -> list[Any]:
    """What a Sequential holds; nothing where it is none."""
    return list(layers.children()) if is_plain(layers, nn.Sequential) else []


def is_plain(layer: Any, kind: type[nn.Module], bias: bool = True) -> bool:
    """Whether a layer is of this kind, with all its parameters, and nothing about it replaced.

    Without a bias, where it is told that there is none.
    """
    own = vars(layer) if type(layer) is kind else {"forward": None}
    without = own.get("weight", 0) is None or (own.get("bias", 0) is None) is bias
    return not ("forward" in own or without or own.get("approximate", "none") != "none")


def is_own(model: Module) -> bool:
    """Whether each parameter is in one place of the model."""
    places = [id(p) for _, m in model.named_modules() for p in m._parameters.values()]
    return len(places) == len(set(places))


def inverse_std(var: Array, eps: float) -> Array:
    """r = 1/√(σ²+ε)"""
    return 1 / np.sqrt(var + var.dtype.type(eps))


def move(norms: Sequence[nn.BatchNorm], moments: Sequence[Moments]) -> None:
    """Move the running statistics of norms by what each knows of its batch."""
    for norm, of_batch in zip(norms, moments, strict=True):
        move_statistics(norm.running_mean, norm.running_var, *of_batch, norm.momentum)
