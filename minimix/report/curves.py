"""The section of curves: what was measured, step by step and epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..autograd import Array
from .charts import Curve, chart, folded, number, percent, smoothed, table
from .markup import Html, el, join
from .subject import Subject

SMALL = {"Learning rate": "lr", "Gradient norm": "grad_norm", "Images a second": "speed"}


def curves(subjects: Sequence[Subject]) -> Html:
    if not any(s.reading.steps["step"].size for s in subjects):
        return el("p", "There is nothing to draw before the first step.")
    by_epoch = all(s.reading.steps_per_epoch for s in subjects)
    x_name = "epoch" if by_epoch else "step"
    notes = {
        "Learning rate": "As the schedule sets it, step by step.",
        "Gradient norm": "Of all parameters together, before clipping.",
        "Images a second": "In training steps; tests are not counted.",
    }
    if len(subjects) == 1:
        notes["Loss"] = _about_loss(subjects[0])
        notes["Accuracy"] = "The share of images whose largest logit is that of their class."

    def x_of(s: Subject, steps: Array) -> Array:
        return steps / (s.reading.steps_per_epoch if by_epoch else 1)

    def by_step(key: str, name: str | None = None) -> list[Curve]:
        return [
            smoothed(name or s.name, x_of(s, s.reading.steps["step"]), s.reading.steps[key], i)
            for i, s in enumerate(subjects)
        ]

    def by_test(key: str, name: str | None = None, colour: int = 0) -> list[Curve]:
        return [
            Curve(name or s.name, x_of(s, s.each("step")), s.each(key), colour + i, dots=True)
            for i, s in enumerate(subjects)
        ]

    x_end = max(x_of(s, s.reading.steps["step"]).max(initial=0) for s in subjects)

    def draw(charts: Mapping[str, list[Curve]]) -> list[Html]:
        return [
            chart(
                title,
                curves,
                x_name=x_name,
                x_end=x_end,
                as_percent="ccuracy" in title,
                from_zero=title in SMALL,
                note=notes.get(title),
            )
            for title, curves in charts.items()
            if any(np.isfinite(c.y).any() for c in curves)
        ]

    if len(subjects) == 1:
        large = {
            "Loss": by_step("loss", "training") + by_test("test_loss", "test", colour=1),
            "Accuracy": by_step("accuracy", "training")
            + by_test("test_accuracy", "test", colour=1),
        }
    else:
        large = {
            "Test accuracy": by_test("test_accuracy"),
            "Test loss": by_test("test_loss"),
            "Training accuracy": by_step("accuracy"),
            "Training loss": by_step("loss"),
        }
    small = {title: by_step(key) for title, key in SMALL.items()}
    how = "Lines are means of neighbouring steps, the pale band is what they range over; "
    return join(
        [
            el("p", how, "dots are tests after an epoch.", class_="note"),
            el("div", *draw(large), class_="grid"),
            el("div", *draw(small), class_="grid small"),
            folded("The numbers, epoch by epoch", epoch_table(subjects[0]))
            if len(subjects) == 1
            else folded("The test accuracies, epoch by epoch", _accuracy_table(subjects)),
        ]
    )


def _about_loss(s: Subject) -> str:
    """Why training can look worse than the test."""
    settings = s.reading.settings
    differs = ["augmented images"]
    if settings.get("label_smoothing"):
        differs.append(f"labels smoothed by {settings['label_smoothing']}")
    if settings.get("mixup") or settings.get("cutmix"):
        differs.append("mixed images")
    return (
        f"In training it is that of {' and '.join(differs)}, while learning; "
        "in a test that of plain images."
    )


def epoch_table(s: Subject) -> Html:
    if not s.epochs:
        return el("p", "No epoch is complete yet.")
    steps = s.reading.steps
    rows = []
    for epoch in s.epochs:
        inside = steps["epoch"] == epoch["epoch"]
        rate = steps["lr"][inside]
        gradient = steps["grad_norm"][inside]
        rows.append(
            (
                f"{epoch['epoch']:.0f}",
                f"{epoch['step']:,.0f}",
                number(epoch["train_loss"]),
                percent(epoch["train_accuracy"]),
                number(epoch["test_loss"]),
                percent(epoch["test_accuracy"]),
                number(rate[-1]) if rate.size else "–",
                number(gradient.mean()) if gradient.size else "–",
            )
        )
    head = (
        "epoch", "step", "training loss", "training accuracy", "test loss", "test accuracy",
        "last learning rate", "mean gradient norm",
    )  # fmt: skip
    return table(head, rows)


def _accuracy_table(subjects: Sequence[Subject]) -> Html:
    by_epoch = [{e["epoch"]: e["test_accuracy"] for e in s.epochs} for s in subjects]
    rows = [
        (f"{epoch:.0f}", *(percent(each[epoch]) if epoch in each else "–" for each in by_epoch))
        for epoch in sorted({epoch for each in by_epoch for epoch in each})
    ]
    return table(("epoch", *(s.name for s in subjects)), rows)
