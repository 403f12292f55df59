"""For lesson 12: copies of parts of the library. In each group one is correct, the others are not.

    depthwise["A"](x, w, b)                    an operation on tensors
    batch_norm["A"](x, gamma, beta, …)         another, with the options of functional.batch_norm
    adamw["A"](parameters, lr=…, weight_decay=…)   an optimizer
    classifiers["A"](images)                   uint8 (N, H, W, 3) -> scores (N, 10)
    steps["A"](model, optimizer, x, labels)    one training step -> loss

All of them run, and networks made of them learn. The `__doc__` of each says what is wrong with it.

Spoilers ahead: write your tests before you read on.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from minimix import AdamW, ConvMixer, Module, Tensor, no_grad, op
from minimix import functional as F
from minimix.autograd import Array
from minimix.data import normalize

RIGHT = "nothing: this is the correct one"


def _named(name: str, confession: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """All functions of a group have the same name, and a docstring that says what is wrong."""
    function.__name__ = function.__qualname__ = name
    function.__doc__ = confession
    return function


# ---- depthwise convolution


def _shifts(x: Array, k: int, before: int, mode: Any) -> dict[tuple[int, int], Array]:
    ""
    ""
    ""
    ""
    """For each place (i, j) of a k×k kernel, the part of padded x that it multiplies."""
    _, h, v, _ = x.shape
    sides = ((0, 0), (before, k - 1 - before), (before, k - 1 - before), (0, 0))
    padded = np.pad(x, sides, mode=mode)
    return {(i, j): padded[:, i : i + h, j : j + v] for i, j in np.ndindex(k, k)}


def _depthwise(
    confession: str,
    *,
    flipped: bool = False,
    flip_backward: bool = True,
    early: int = 0,
    border: str = "constant",
    mean_bias: bool = False,
) -> Callable[..., Tensor]:
    def depthwise_conv2d(x, w, b):
        k = len(w)
        before = (k - 1) // 2 + early * (k % 2 == 0)
        kernel = w[::-1, ::-1] if flipped else w
        y = sum(seen * kernel[at] for at, seen in _shifts(x, k, before, border).items()) + b

        def backward(g):
            back = kernel[::-1, ::-1] if flip_backward else kernel
            shifts = _shifts(g, k, k - 1 - before, border)
            dx = sum(seen * back[at] for at, seen in shifts.items())
            dw = np.empty_like(w)
            for at, seen in _shifts(x, k, before, border).items():
                dw[at] = (seen * g).sum(axis=(0, 1, 2))
            db = g.sum(axis=(0, 1, 2)) / (len(g) if mean_bias else 1)
            return dx, dw[::-1, ::-1] if flipped else dw, db

        return y, backward

    return op(_named("depthwise_conv2d", confession, depthwise_conv2d))


depthwise = {
    "A": _depthwise("the padding wraps around: it repeats the opposite side", border="wrap"),
    "B": _depthwise("in the backward pass the kernel is not rotated by 180°", flip_backward=False),
    "C": _depthwise(
        "the kernel is rotated by 180°, forward and backward: a true convolution", flipped=True
    ),
    "D": _depthwise(RIGHT),
    "E": _depthwise("the gradient of the bias is a mean over the images", mean_bias=True),
    "F": _depthwise("an even kernel pads one more before, not after", early=1),
}


# ---- batch normalization


def _batch_norm(
    confession: str,
    *,
    constant: bool = False,
    biased: bool = False,
    always_batch: bool = False,
    swapped: bool = False,
    eps_outside: bool = False,
) -> Callable[..., Tensor]:
    def batch_norm(
        x,
        gamma,
        beta,
        *,
        running_mean=None,
        running_var=None,
        training=True,
        momentum=0.1,
        eps=1e-5,
    ):
        rows = x.reshape(-1, x.shape[-1])
        m = len(rows)
        if training or always_batch:
            mean, var = rows.mean(axis=0), rows.var(axis=0)
        else:
            mean, var = running_mean, running_var
        if training and running_mean is not None:
            keep = momentum if swapped else 1 - momentum
            running_mean[...] = keep * running_mean + (1 - keep) * mean
            unbiased = var if biased else var * m / (m - 1)
            running_var[...] = keep * running_var + (1 - keep) * unbiased
        rstd = 1 / (np.sqrt(var) + eps) if eps_outside else 1 / np.sqrt(var + eps)
        normal = (rows - mean) * rstd

        def backward(g):
            flat = g.reshape(rows.shape)
            h = gamma * flat
            dx = h
            if training and not constant:
                # With ε outside the root, x̂ is (x − μ)/(σ + ε), and its slope along x̂ differs.
                pull = (h * normal).mean(axis=0) / (rstd * np.sqrt(var) if eps_outside else 1)
                dx = h - h.mean(axis=0) - normal * pull
            return (dx * rstd).reshape(x.shape), (flat * normal).sum(axis=0), flat.sum(axis=0)

        return (gamma * normal + beta).reshape(x.shape), backward

    return op(_named("batch_norm", confession, batch_norm))


batch_norm = {
    "A": _batch_norm("the running variance is the biased one", biased=True),
    "B": _batch_norm(
        "in evaluation it normalizes with the statistics of the batch", always_batch=True
    ),
    "C": _batch_norm(RIGHT),
    "D": _batch_norm(
        "the running statistics keep a tenth of the old value instead of nine tenths", swapped=True
    ),
    "E": _batch_norm("the gradient treats mean and variance as constants", constant=True),
    "F": _batch_norm("ε is added to the standard deviation, not to the variance", eps_outside=True),
}


# ---- AdamW


def _adamw(
    confession: str,
    *,
    corrected: bool = True,
    coupled: bool = False,
    bare_decay: bool = False,
    count_parameters: bool = False,
    eps_inside: bool = False,
) -> Callable[..., AdamW]:
    class Suspect(AdamW):
        updates = 0

        def _update(self, moved, group):
            beta1, beta2 = group["betas"]
            lr, decay, eps = group["lr"], group["weight_decay"], group["eps"]
            for p, g, state in moved:
                self.updates += 1
                t = self.updates if count_parameters else self.steps
                if coupled:
                    g = g + decay * p
                else:
                    p *= 1 - (decay if bare_decay else lr * decay)
                m, v = state["m"], state["v"]
                m += (1 - beta1) * (g - m)
                v += (1 - beta2) * (g * g - v)
                direction, scale = m, v
                if corrected:
                    direction, scale = m / (1 - beta1**t), v / (1 - beta2**t)
                root = np.sqrt(scale + eps) if eps_inside else np.sqrt(scale) + eps
                p -= lr * direction / root

    def make(parameters, lr=1e-3, weight_decay=1e-2):
        return Suspect(parameters, lr=lr, weight_decay=weight_decay)

    return _named("AdamW", confession, make)


adamw = {
    "A": _adamw("the decay is part of the gradient: Adam with L2, not AdamW", coupled=True),
    "B": _adamw("m and v are not bias-corrected", corrected=False),
    "C": _adamw(
        "the step count t advances with every parameter, not with every step", count_parameters=True
    ),
    "D": _adamw("the decay is not multiplied by the learning rate", bare_decay=True),
    "E": _adamw(RIGHT),
    "F": _adamw("ε is inside the square root, where 10⁻⁸ has the effect of 10⁻⁴", eps_inside=True),
}


# ---- classifiers: a trained model, and the steps from a user's pictures to its scores


def _model() -> Module:
    """A network with running statistics like those of a trained one."""
    model = ConvMixer(8, 2, kernel_size=3, patch_size=4, n_classes=10, rng=0)
    rng = np.random.default_rng(1)
    for name, buffer in model.named_buffers():
        low, high = (0.2, 2.0) if name.endswith("var") else (-0.5, 0.5)
        buffer[...] = rng.uniform(low, high, buffer.shape)
    return model


def _fours(n: int) -> list[slice]:
    return [slice(i, i + 4) for i in range(0, n, 4)]


def _classifier(
    confession: str,
    *,
    prepare: Callable[[Array], Array] = normalize,
    training: bool = False,
    batches: Callable[[int], list[slice]] = _fours,
) -> Callable[[Array], Array]:
    def classify(images):
        model = _model().train(training)
        with no_grad():
            x = Tensor(prepare(images))
            return np.concatenate([model(x[part]).array for part in batches(len(images))])

    return _named("classify", confession, classify)


def _own_statistics(images: Array) -> Array:
    x = images.astype(np.float32)
    return (x - x.mean(axis=(0, 1, 2))) / (x.std(axis=(0, 1, 2)) + 1e-3)


def _clipped(images: Array) -> Array:
    np.clip(images, 16, 235, out=images)
    return normalize(images)


_fresh = np.random.default_rng(2)
_distances = itertools.cycle((3, 7, 1, 5, 2, 8, 4, 6))  # never the same twice in a row


def _moved(images: Array) -> Array:
    return normalize(np.roll(images, next(_distances), axis=2))


classifiers = {
    "A": _classifier("the pictures are shifted at random, as in training", prepare=_moved),
    "B": _classifier("the model is in training mode", training=True),
    "C": _classifier(
        "the last images are dropped if they do not fill a batch of four",
        batches=lambda n: _fours(n - n % 4) or [slice(0, n)],
    ),
    "D": _classifier("the user's pictures are overwritten", prepare=_clipped),
    "E": _classifier(
        "pictures are normalized with their own mean, not that of the training set",
        prepare=_own_statistics,
    ),
    "F": _classifier(RIGHT),
}


# ---- training steps


def _step(
    confession: str,
    *,
    forward: Callable[[Module, Tensor], Tensor] = lambda model, x: model(x),
    prepare: Callable[[Array], Array] = lambda labels: labels,
    rate: float = 1.0,
) -> Callable[..., float]:
    def step(model, optimizer, x, labels):
        model.train()
        loss = F.cross_entropy(forward(model, x), prepare(labels))
        optimizer.zero_grad()
        loss.backward()
        lr, optimizer.lr = optimizer.lr, rate * optimizer.lr
        optimizer.step()
        optimizer.lr = lr
        return loss.item()

    return _named("step", confession, step)


def _only_head(model: Module, x: Tensor) -> Tensor:
    *body, head = model._modules.values()
    for layer in body:
        x = layer(x)
    return head(x.detach())


steps = {
    "A": _step(
        "a softmax is applied before the loss, which applies its own",
        forward=lambda model, x: F.softmax(model(x)),
    ),
    "B": _step(RIGHT),
    "C": _step(
        "the tape is cut before the last layer, so only that layer learns", forward=_only_head
    ),
    "D": _step("the labels are shuffled independently of the images", prepare=_fresh.permutation),
    "E": _step("the learning rate is a hundredth of what was requested", rate=0.01),
}
