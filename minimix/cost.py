"""What a model costs: the parameters and multiply-adds of each of its layers.

Multiply-adds are those of matrix products and convolutions; additions and elementwise functions
count as nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import functional
from .autograd import Tensor, no_grad, watch
from .functional.arithmetic import explicit
from .nn import Module
from .nn.module import evaluating, observe

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


@dataclass(frozen=True)
class Layer:
    """A row of the table: one call of a module.

    name           as in the state dict; "" for the model itself
    kind           its class, with its sizes
    output         the shape of what it returned; of several, each
    parameters     numbers in its own parameters that no row above has counted
    multiply_adds  those that it did itself, not in modules inside it, for the whole batch
    """

    name: str
    kind: str
    output: str
    parameters: int
    multiply_adds: int


def layers(model: Module, input_shape: tuple[int, ...]) -> tuple[list[Layer], list[str]]:
    """The layers of `model` in the order of their calls, and the operations not counted, by name.

    input_shape  that of a batch, (N, H, W, C)

    The model is run once on zeros, in evaluation mode. A module that is called twice has two rows;
    one that only calls others has none. Multiply-adds count wherever they are; operations that are
    not those of minimix.functional cannot be counted.
    """
    names: dict[int, str] = {}
    for name, module in model.named_modules():
        names.setdefault(id(module), name)
    rows: list[Layer] = []
    work: list[int] = []  # of the modules that are running, the innermost last
    uncounted: set[str] = set()
    counted: set[int] = set()

    def enter(module: Module) -> None:
        work.append(0)

    def operation(
        name: str, arguments: tuple[Any, ...], options: dict[str, Any], y: Tensor
    ) -> None:
        count = multiply_adds(name, arguments, options, y)
        if count is None:
            uncounted.add(name)
        work[-1] += count or 0

    def leave(module: Module, inputs: tuple[Any, ...], y: Any) -> None:
        own = {id(p): p.size for p in module._parameters.values() if id(p) not in counted}
        counted.update(own)
        done = work.pop()
        if module._parameters or done or not module._modules:
            kind = f"{type(module).__name__}({module.extra_repr()})"
            name = names.get(id(module), "?")
            rows.append(Layer(name, kind, _shape(y), sum(own.values()), done))

    dtype = next((p.dtype for p in model.parameters()), np.dtype(np.float32))
    with no_grad(), evaluating(model), observe(leave, enter), watch(operation):
        model(Tensor(np.zeros(input_shape, dtype)))
    return rows, sorted(uncounted)


def _shape(y: Any) -> str:
    """The shape of an output; of several, in a tuple or a list, each."""
    if isinstance(y, (tuple, list)):
        return " ".join(_shape(part) for part in y)
    return str(getattr(y, "shape", type(y).__name__))


def summary(model: Module, input_shape: tuple[int, ...]) -> str:
    """A table of every layer: name, kind, output shape, parameters, multiply-adds; and the sums.

    input_shape  that of a batch, (N, H, W, C)

    See `layers`. Operations of your own cannot be counted, and are named below the table; so is
    how many of the parameters are frozen.
    """
    rows, uncounted = layers(model, input_shape)
    text = [("name", "layer", "output", "parameters", "multiply-adds")]
    total = Layer("", "", "", model.n_parameters(), sum(row.multiply_adds for row in rows))
    for row in [*rows, total]:
        numbers = f"{row.parameters:,}", f"{row.multiply_adds:,}"
        text.append((row.name, row.kind, row.output, *numbers))
    widths = [max(map(len, column)) for column in zip(*text, strict=True)]
    lines = [
        "  ".join(
            cell.ljust(width) if i < 3 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in text
    ]
    rule = "─" * max(map(len, lines))
    title = f"{type(model).__name__}, input {input_shape}"
    below = [f"not counted: {name}" for name in uncounted]
    frozen = sum(p.size for p in model.parameters() if not p.requires_grad)
    if frozen:
        below.insert(0, f"frozen: {frozen:,} of the parameters")
    return "\n".join([title, rule, lines[0], rule, *lines[1:-1], rule, lines[-1], *below])
