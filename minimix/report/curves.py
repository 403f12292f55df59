"""The section "Curves": what was measured, step by step and epoch by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ..autograd import Array
from .charts import Curve, averaged, line_chart
from .formatting import number, percent
from .markup import Html, details, el, join, note, table
from .run_data import RunData, tested_on

BY_STEP = {"Learning rate": "lr", "Gradient norm": "grad_norm", "Images per second": "speed"}
WORDS = {
    "Accuracy": "The fraction of images whose largest logit is that of their class.",
    "Learning rate": "At each step, as set by the schedule.",
    "Gradient norm": "Over all parameters, before clipping.",
    "Images per second": "During training steps; testing is not included.",
}
NOTE = (
    "Lines show training, in long runs averaged over neighboring steps, with a pale band for "
    "their range. Dots show the test after each epoch."
)


def curves(runs: Sequence[RunData]) -> Html:
    if not any(run.log.steps["step"].size for run in runs):
        return el("p", "No training step has been taken yet.")
    by_epoch = all(run.log.steps_per_epoch for run in runs)

    def x_of(run: RunData, steps: Array) -> Array:
        return steps / (run.log.steps_per_epoch if by_epoch else 1)

    def training(run: RunData, key: str, name: str = "") -> Curve:
        x = x_of(run, run.log.steps["step"])
        return averaged(name or run.name, x, run.log.steps[key], run.number)

    def test(run: RunData, key: str, name: str = "", color: int | None = None) -> Curve:
        x, color = x_of(run, run.each("step")), run.number if color is None else color
        return Curve(name or run.name, x, run.each(key), color, markers=True)

    images = tested_on(runs)
    if len(runs) == 1:
        (run,) = runs
        large = {
            "Loss": [training(run, "loss", "training"), test(run, "test_loss", run.tested_on, 1)],
            "Accuracy": [
                training(run, "accuracy", "training"),
                test(run, "test_accuracy", run.tested_on, 1),
            ],
        }
        words = WORDS | {"Loss": _about_loss(run)}
        numbers = details("The numbers for each epoch", epoch_table(run))
    else:
        large = {
            f"{images.capitalize()} accuracy": [test(run, "test_accuracy") for run in runs],
            f"{images.capitalize()} loss": [test(run, "test_loss") for run in runs],
            "Training accuracy": [training(run, "accuracy") for run in runs],
            "Training loss": [training(run, "loss") for run in runs],
        }
        words = WORDS
        numbers = details(f"The {images} accuracy after each epoch", _accuracy_table(runs))
    small = {title: [training(run, key) for run in runs] for title, key in BY_STEP.items()}
    x_end = max(x_of(run, run.log.steps["step"]).max(initial=0) for run in runs)

    def grid(charts: Mapping[str, list[Curve]], look: str) -> Html:
        x = {"x_name": "epoch" if by_epoch else "step", "x_end": x_end}
        drawn = (
            line_chart(
                title,
                curves,
                **x,
                as_percent="ccuracy" in title,
                from_zero=title in BY_STEP,
                words=words.get(title),
            )
            for title, curves in charts.items()
        )
        return el("div", *drawn, class_=look)

    return join(note(NOTE), grid(large, "grid"), grid(small, "grid small"), numbers)


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
        f"the {run.tested_on} loss on the original images."
    )


def epoch_table(run: RunData) -> Html:
    if not run.epochs:
        return el("p", "The first epoch is not complete yet.")
    steps = run.log.steps

    def row(epoch: Mapping[str, float]) -> list[str]:
        rates, norms = (steps[key][steps["epoch"] == epoch["epoch"]] for key in ("lr", "grad_norm"))
        return [
            f"{epoch['epoch']:.0f}",
            f"{epoch['step']:,.0f}",
            *(f(epoch[f"{of}_{key}"]) for of in ("train", "test") for key, f in MEASURED.items()),
            number(rates[-1] if rates.size else np.nan),
            number(norms.mean() if norms.size else np.nan),
        ]

    head = (
        "epoch",
        "step",
        "training loss",
        "training accuracy",
        f"{run.tested_on} loss",
        f"{run.tested_on} accuracy",
        "final learning rate",
        "mean gradient norm",
    )
    return table(head, map(row, run.epochs))


MEASURED = {"loss": number, "accuracy": percent}


def _accuracy_table(runs: Sequence[RunData]) -> Html:
    by_epoch = [{e["epoch"]: e["test_accuracy"] for e in run.epochs} for run in runs]
    rows = (
        (f"{epoch:.0f}", *(percent(each.get(epoch, np.nan)) for each in by_epoch))
        for epoch in sorted(set().union(*by_epoch))
    )
    return table(("epoch", *(run.name for run in runs)), rows)
