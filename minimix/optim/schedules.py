"""Learning rates over time: functions from a step (0, 1, …, total − 1) to a learning rate.

    schedule = one_cycle(0.01, total=3900)
    for step in range(3900):
        optimizer.lr = schedule(step)
        …

`step` may be a fraction. After `total` a schedule stays at its last value.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from math import cos, pi

Schedule = Callable[[float], float]


def _check(name: str, **positive: float) -> None:
    for argument, value in positive.items():
        if not value > 0:
            raise ValueError(f"{name}: {argument} is {value}; expected more than 0")


def piecewise(steps: Sequence[float], rates: Sequence[float]) -> Schedule:
    """Straight lines between the points (steps[i], rates[i]), flat before and after.

    Errors: ValueError where lengths differ or the steps do not increase.
    """
    if len(steps) != len(rates) or not steps:
        raise ValueError(f"piecewise: {len(steps)} steps but {len(rates)} rates")
    if any(b < a for a, b in itertools.pairwise(steps)):
        raise ValueError(f"piecewise: steps {list(steps)} do not increase")

    def rate(step: float) -> float:
        if step <= steps[0]:
            return float(rates[0])
        for a, b, low, high in zip(steps, steps[1:], rates, rates[1:], strict=False):
            if step < b:
                return low + (high - low) * (step - a) / (b - a)
        return float(rates[-1])

    return rate


def constant(lr: float) -> Schedule:
    """lr, always."""
    return lambda step: lr


def warmup_cosine(lr: float, total: float, warmup: float = 0.0, final: float = 0.0) -> Schedule:
    """A straight line up to lr in `warmup` steps, then half a cosine down to `final`.

    The first step moves already, by lr / (warmup + 1).
    Loshchilov & Hutter 2017, arXiv:1608.03983; warm-up: Goyal et al. 2017, arXiv:1706.02677.
    """
    _check("warmup_cosine", lr=lr, total=total)
    if not 0 <= warmup < total:
        raise ValueError(
            f"warmup_cosine: warmup is {warmup} of {total} steps; expected 0 ≤ … < total"
        )

    def rate(step: float) -> float:
        if step < warmup:
            return lr * (step + 1) / (warmup + 1)
        t = min((step - warmup) / (total - warmup), 1.0)
        return final + (lr - final) * 0.5 * (1 + cos(pi * t))

    return rate


def cosine(lr: float, total: float, final: float = 0.0) -> Schedule:
    """Half a cosine from lr down to `final`: `warmup_cosine` without the warm-up."""
    return warmup_cosine(lr, total, 0.0, final)


def one_cycle(
    lr: float, total: float, peak_at: float = 0.25, start: float = 0.04, final: float = 0.0
) -> Schedule:
    """A straight line from start·lr up to lr at the fraction `peak_at`, and down to final·lr.

    Smith & Topin 2018, arXiv:1708.07120.
    """
    _check("one_cycle", lr=lr, total=total)
    if not 0 < peak_at < 1:
        raise ValueError(f"one_cycle: peak_at is {peak_at}; expected between 0 and 1")
    return piecewise([0, peak_at * total, total], [start * lr, lr, final * lr])


def official(lr: float, total: float, epochs: int | None = None) -> Schedule:
    """The ConvMixer authors' CIFAR-10 schedule: 0 to lr by 2/5 of the way, lr/20 by 4/5, then 0.

    epochs  E, where both corners are to be at the ends of whole epochs, ⌊2E/5⌋ and ⌊4E/5⌋, as
            theirs are
    """
    _check("official", lr=lr, total=total, epochs=1 if epochs is None else epochs)
    first, second = total * 2 / 5, total * 4 / 5
    if epochs is not None:
        first, second = (total * (part * epochs // 5) / epochs for part in (2, 4))
    return piecewise([0, first, second, total], [0, lr, lr / 20, 0])
