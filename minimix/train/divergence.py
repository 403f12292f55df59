"""Where training diverged, and what usually helps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .. import functional as F
from ..autograd import Array, Tensor
from ..errors import DivergenceError
from ..nn import Module, observe
from .config import Config

ONLY_THE_NORM = "the norm of the gradient"  # of gradients that are finite one by one


def divergence(config: Config, when: str, what: str, saved: Path | None) -> DivergenceError:
    """The error to raise: when and where, the last good checkpoint, what may help."""
    clip = "" if config.clip_norm else ", or `clip_norm` 1,"
    return DivergenceError(
        f"training diverged {when}: {what} is not finite; the last good checkpoint is {saved}; "
        f"a smaller `lr` (it is {config.lr:g}){clip} usually helps"
    )


def first_not_finite(model: Module, x: Array, targets: Array, label_smoothing: float = 0.0) -> str:
    """Repeat the step, check every array on the way, and name the first that is not finite.

    In the order of a step: the images, the parameters, the layers' outputs, the loss, then the
    gradients from the last layer back to the first.
    """
    if not np.isfinite(x).all():
        return "the input"
    for name, parameter in model.named_parameters():
        if not np.isfinite(parameter.array).all():
            return f"the parameter {name}"

    names = {id(module): name for name, module in model.named_modules()}
    outputs: list[tuple[str, Tensor]] = []

    def note(module: Module, _inputs: tuple[Any, ...], output: Tensor) -> None:
        if not module._modules:
            layer = f"{names[id(module)]} ({type(module).__name__})"
            outputs.append((layer, output.retain_grad()))

    with observe(note):
        loss = F.cross_entropy(model(Tensor(x)), targets, label_smoothing=label_smoothing)
    for layer, output in outputs:
        if not np.isfinite(output.array).all():
            return f"the output of {layer}"
    if not np.isfinite(loss.array):
        return "the loss, of finite logits,"

    model.zero_grad()
    loss.backward()
    for layer, output in reversed(outputs):
        if output.grad is not None and not np.isfinite(output.grad).all():
            return f"the gradient at the output of {layer}"
    for name, parameter in reversed(list(model.named_parameters())):
        if parameter.grad is not None and not np.isfinite(parameter.grad).all():
            return f"the gradient of {name}"
    return ONLY_THE_NORM
