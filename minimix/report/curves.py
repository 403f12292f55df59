"""The section "Curves": what was measured, step by step and epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..autograd import Array
from .charts import Curve, averaged, line_chart
from .formatting import number, percent
from .markup import Html, details, el, join, table
from .run_data import RunData

BY_STEP = {"Learning rate": "lr", "Gradient norm": "grad_norm", "Images per second": "speed"}
NOTES = {
    "Learning rate": "At each step, as set by the schedule.",
    "Gradient norm": "Over all parameters, before clipping.",
    "Images per second": "During training steps; testing is not included.",
}


def curves(runs: Sequence[RunData]) -> Html:
    if not any(run.log.steps["step"].size for run in runs):
        return el("p", "No training step has been taken yet.")
    by_epoch = all(run.log.steps_per_epoch for run in runs)

    def x_of(run: RunData, steps: Array) -> Array:
        return steps / (run.log.steps_per_epoch if by_epoch else 1)

    def by_step(key: str, name: str = "") -> list[Curve]:
        return [
            averaged(
                name or run.name,
                x_of(run, run.log.steps["step"]),
                run.log.steps[key],
                run.number,
            )
            for run in runs
        ]

    def by_test(key: str, name: str = "", colour: int = 0) -> list[Curve]:
        return [
            Curve(
                name or run.name,
                x_of(run, run.each("step")),
                run.each(key),
                colour + run.number,
                markers=True,
            )
            for run in runs
        ]

    x_end = max(x_of(run, run.log.steps["step"]).max(initial=0) for run in runs)
    notes = dict(NOTES)

    def draw(charts: Mapping[str, list[Curve]]) -> list[Html]:
        return [
            line_chart(
                title,
                curves,
                x_name="epoch" if by_epoch else "step",
                x_end=x_end,
                as_percent="ccuracy" in title,
                from_zero=title in BY_STEP,
                note=notes.get(title),
            )
            for title, curves in charts.items()
            if any(np.isfinite(c.y).any() for c in curves)
        ]

    if len(runs) == 1:
        notes["Loss"] = _about_loss(runs[0])
        notes["Accuracy"] = "The fraction of images whose largest logit is that of their class."
        large = {
            "Loss": by_step("loss", "training") + by_test("test_loss", "test", colour=1),
            "Accuracy": by_step("accuracy", "training")
            + by_test("test_accuracy", "test", colour=1),
        }
        folded = details("The numbers for each epoch", epoch_table(runs[0]))
    else:
        large = {
            "Test accuracy": by_test("test_accuracy"),
            "Test loss": by_test("test_loss"),
            "Training accuracy": by_step("accuracy"),
            "Training loss": by_step("loss"),
        }
        folded = details("The test accuracy after each epoch", _accuracy_table(runs))
    note = (
        "Lines show training, in long runs averaged over neighbouring steps, with a pale band for "
        "their range. Dots show the test after each epoch."
    )
    small = {title: by_step(key) for title, key in BY_STEP.items()}
    return join(
        [
            el("p", note, class_="note"),
            el("div", *draw(large), class_="grid"),
            el("div", *draw(small), class_="grid small"),
            folded,
        ]
    )


def _about_loss(run: RunData) -> str:
    """Why the training loss can be higher than the test loss."""
    settings = run.log.settings
    training = ["augmented images"]
    if settings.get("mixup") or settings.get("cutmix"):
        training.append("mixed images")
    if settings.get("label_smoothing"):
        training.append(f"label smoothing {settings['label_smoothing']}")
    return (
        f"The training loss is measured while learning, with {' and '.join(training)}; "
        "the test loss on the original images."
    )


def epoch_table(run: RunData) -> Html:
    if not run.epochs:
        return el("p", "The first epoch is not complete yet.")
    steps = run.log.steps

    def row(epoch: Mapping[str, float]) -> list[str]:
        inside = steps["epoch"] == epoch["epoch"]
        rate, gradient = steps["lr"][inside], steps["grad_norm"][inside]
        return [
            f"{epoch['epoch']:.0f}",
            f"{epoch['step']:,.0f}",
            number(epoch["train_loss"]),
            percent(epoch["train_accuracy"]),
            number(epoch["test_loss"]),
            percent(epoch["test_accuracy"]),
            number(rate[-1]) if rate.size else "–",
            number(gradient.mean()) if gradient.size else "–",
        ]

    head = (
        "epoch", "step", "training loss", "training accuracy", "test loss", "test accuracy",
        "final learning rate", "mean gradient norm",
    )  # fmt: skip
    return table(head, map(row, run.epochs))


def _accuracy_table(runs: Sequence[RunData]) -> Html:
    by_epoch = [{e["epoch"]: e["test_accuracy"] for e in run.epochs} for run in runs]
    rows = [
        (f"{epoch:.0f}", *(percent(each.get(epoch, np.nan)) for each in by_epoch))
        for epoch in sorted({epoch for each in by_epoch for epoch in each})
    ]
    return table(("epoch", *(run.name for run in runs)), rows)
