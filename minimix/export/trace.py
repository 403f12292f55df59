"""What a model computes, operation by operation: the tape of one forward pass in evaluation.

The pass is made twice, with other images and another number of them. What differs between the two
follows from the images; what is the same is part of the model. So a number that a model computes
beside the tape, and that a file would freeze at its value for these images, is noticed.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import kernels
from ..autograd import Array, Tensor, no_grad, watch
from ..errors import MinimixError
from ..nn import Module, evaluating

BATCHES = (2, 3)  # images in the two passes


@dataclass
class Call:
    """An operation: its name, arguments, options, and the array that it gave."""

    name: str
    arguments: Sequence[Any]
    options: dict[str, Any]
    result: Array


@dataclass
class Pass:
    """One forward pass: the images, what was done, in order, and the logits."""

    images: Array
    calls: list[Call]
    logits: Array


def trace(model: Module, image_shape: Sequence[int]) -> tuple[Pass, Pass]:
    """Both passes of a model through images of this shape (H, W, C), normalized.

    Errors: MinimixError where an array was changed in place, or the passes are not alike.
    """
    content: dict[int, int] = {}  # a checksum of each array, by its identity
    first, second = (_pass(model, (n, *image_shape), n, content) for n in BATCHES)
    if [call.name for call in first.calls] != [call.name for call in second.calls]:
        raise MinimixError(
            "the model does not do the same for every number of images; it cannot be exported"
        )
    return first, second


def _pass(model: Module, shape: tuple[int, ...], seed: int, content: dict[int, int]) -> Pass:
    images = np.random.default_rng(seed).normal(size=shape).astype(np.float32)
    calls: list[Call] = []

    def check(name: str, array: Array) -> None:
        now = zlib.crc32(array.tobytes())
        if content.setdefault(id(array), now) != now:
            raise MinimixError(
                f"{name}: its argument was changed in place before; a file cannot say that: write "
                "x = x + y for x += y"
            )

    def note(name: str, arguments: Sequence[Any], options: dict[str, Any], y: Tensor) -> None:
        for argument in arguments:
            if isinstance(argument, (Tensor, np.ndarray)):
                check(name, argument.array if isinstance(argument, Tensor) else argument)
        content[id(y.array)] = zlib.crc32(y.array.tobytes())
        # Tensors and results are kept, so that no other array gets their identity.
        calls.append(Call(name, list(arguments), options, y.array))

    with kernels.backend("numpy"), no_grad(), evaluating(model), watch(note):
        logits = model(Tensor(images))
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(images):
        found = getattr(logits, "shape", type(logits).__name__)
        raise MinimixError(
            f"the model gave {found} for {len(images)} images; expected (N, classes)"
        )
    check("the model", logits.array)
    return Pass(images, calls, logits.array)
