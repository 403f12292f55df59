"""State dicts of the PyTorch world, transposed at the door.

PyTorch keeps images as (N, C, H, W) and weights as (out, in, k, k); here channels come last. The
names are timm's here too, so what is left to do is to rename the two older spellings of the
authors' code and to transpose:

    stem       (h, C, p, p)  <->  (p, p, C, h)
    depthwise  (h, 1, k, k)  <->  (k, k, h)
    pointwise  (h, h, 1, 1)  <->  (h, h), in before out
    head       (n, h)        <->  (h, n)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..autograd import Array


def from_torch(state: Mapping[str, Any]) -> dict[str, Array]:
    """A PyTorch ConvMixer's state dict (timm's or the authors' names) as minimix's.

    Values are arrays or tensors. `num_batches_tracked` is dropped, `module.` in front is taken
    off. Errors: ValueError naming the first key that no ConvMixer has, or its shape.
    """
    plain = {key.removeprefix("module."): value for key, value in state.items()}
    numbers = [int(n) for n in (key.partition(".")[0] for key in plain) if n.isdigit()]
    depth = max(numbers, default=5) - 5  # the authors' head is layer 5 + d
    return {
        ours: _channels_last(ours, _numpy(value))
        for key, value in plain.items()
        if not key.endswith("num_batches_tracked")
        for ours in [_timm_name(key, depth)]
    }


def to_torch(state: Mapping[str, Array]) -> dict[str, Array]:
    """minimix's state dict as timm's, in arrays; the inverse of `from_torch`.

    Each batch norm gets a `num_batches_tracked` of 0, which PyTorch asks for.
    """
    result: dict[str, Array] = {}
    for key, value in state.items():
        result[key] = np.ascontiguousarray(_channels_first(key, np.asarray(value)))
        if key.endswith("running_var"):
            result[key.replace("running_var", "num_batches_tracked")] = np.zeros((), np.int64)
    return result


def _numpy(value: Any) -> Array:
    return np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value)


def _timm_name(key: str, depth: int) -> str:
    """The authors' Sequential counts stem 0–2, pool and flatten among the rest, and the blocks
    from 3: `{3+i}.0.fn.0.weight` is block i's depthwise convolution."""
    number, _, rest = key.partition(".")
    if not number.isdigit():
        return key
    layer = int(number)
    if layer < 3:
        return f"stem.{layer}.{rest}"
    return f"head.{rest}" if layer == 5 + depth else f"blocks.{layer - 3}.{rest}"


_DEPTHWISE = re.compile(r"blocks\.\d+\.0\.fn\.0\.weight")
_POINTWISE = re.compile(r"blocks\.\d+\.1\.weight")


def _channels_last(key: str, value: Array) -> Array:
    match value.shape:
        case (_, _, _, _) if key == "stem.0.weight":
            value = value.transpose(2, 3, 1, 0)
        case (_, 1, _, _) if _DEPTHWISE.fullmatch(key):
            value = value[:, 0].transpose(1, 2, 0)
        case (_, _, 1, 1) if _POINTWISE.fullmatch(key):
            value = value[:, :, 0, 0].T
        case (_, _) if key == "head.weight":
            value = value.T
        case (_,) if key.startswith(("stem.", "blocks.", "head.")):
            pass
        case _:
            raise ValueError(
                f"from_torch: {key!r} of shape {value.shape} is not part of a ConvMixer"
            )
    return np.ascontiguousarray(value)


def _channels_first(key: str, value: Array) -> Array:
    if key == "stem.0.weight":
        return value.transpose(3, 2, 0, 1)
    if _DEPTHWISE.fullmatch(key):
        return value.transpose(2, 0, 1)[:, None]
    if _POINTWISE.fullmatch(key):
        return value.T[:, :, None, None]
    return value.T
