"""What `Module.summary` counts, and the table that it prints."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import functional
from ..autograd import Tensor
from ..functional.einsum import explicit

CONVOLUTIONS = {"linear", "pointwise_conv2d", "depthwise_conv2d", "patchify", "conv2d"}


def multiply_adds(
    operation: str, arguments: tuple[Any, ...], options: dict[str, Any], y: Tensor
) -> int | None:
    """Multiplications, each with its addition, of one call of an operation with result y.

    A matrix product (…, M, K) (K, C) takes K for each number of its result, a convolution with
    weights (k, k, C, D) one for each weight of the output channel, attention those of its two
    products, einsum one for each sum of one product fewer than it has arguments; other operations
    none. None: the operation is not one of minimix.functional.
    """
    if operation == "matmul":
        return y.size * np.shape(arguments[0])[-1]
    if operation in CONVOLUTIONS:
        return y.size * math.prod(np.shape(arguments[1])[:-1])
    if operation == "attention":
        q, k, v = map(np.shape, arguments)
        return math.prod(q[:-1]) * k[-2] * (q[-1] + v[-1])
    if operation == "einsum":
        inputs, output = explicit(options["subscripts"])
        lengths: dict[str, int] = {}
        for group, x in zip(inputs, arguments, strict=True):
            before, _, after = group.partition("...")
            lengths.update(zip(before, np.shape(x), strict=False))
            lengths.update(zip(after[::-1], np.shape(x)[::-1], strict=False))
        summed = math.prod(n for letter, n in lengths.items() if letter not in output)
        return y.size * summed * (len(arguments) - 1)
    return 0 if operation in functional.__all__ else None


def table(rows: list[tuple[str, str, str, int, int]], title: str) -> str:
    """The rows in columns under their heads, the last row under a rule of its own."""
    head = ("name", "layer", "output", "parameters", "multiply-adds")
    text = [head] + [(*row[:3], f"{row[3]:,}", f"{row[4]:,}") for row in rows]
    widths = [max(len(row[i]) for row in text) for i in range(5)]
    lines = [
        "  ".join(
            cell.ljust(width) if i < 3 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in text
    ]
    rule = "─" * max(map(len, lines))
    return "\n".join([title, rule, lines[0], rule, *lines[1:-1], rule, lines[-1]])
