"""What came of a study: a table of its rows and one of their differences, as text, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import numpy as np

from ..runs import RunLog, read_log
from ..train.progress import clock
from ..version import __version__
from .running import Point
from .statistics import CONFIDENCE, Difference, Mean, mean, paired_difference
from .study import Row, Study


@dataclass(frozen=True)
class RowResult:
    """What the trainings of a row gave.

    logs        of the finished ones, by seed
    accuracy    after the last epoch; None where no training has finished
    seconds     of training, on average: each epoch's steps at the median speed of that epoch, so
                that a machine that was busy for a while does not count; NaN where no clock was read
    cost        what `measure.cost` found
    failures    what went wrong, by seed
    """

    row: Row
    logs: Mapping[int, RunLog]
    accuracy: Mean | None
    seconds: float
    cost: Mapping[str, Any]
    failures: Mapping[int, str]

    @property
    def accuracies(self) -> dict[int, float]:
        return {seed: last_accuracy(log) for seed, log in self.logs.items()}

    @property
    def curve(self) -> tuple[np.ndarray, np.ndarray]:
        """Epochs (E,) and the accuracy after each, for each seed (seeds, E)."""
        each = [[e["test_accuracy"] for e in log.epochs] for log in self.logs.values()]
        return np.arange(1, len(each[0]) + 1), np.array(each)


@dataclass(frozen=True)
class Contrast:
    """How a row differs in accuracy from the one that has the baseline of a factor."""

    factor: str
    row: Row
    against: Row
    difference: Difference


@dataclass(frozen=True)
class Results:
    """What came of a study.

    tested_on  "test", or "validation" where images for that were split off the training images
    n_images   how many images it was tested on
    data       the data set, in words
    """

    study: Study
    rows: Sequence[RowResult]
    contrasts: Sequence[Contrast]
    tested_on: str
    n_images: int
    data: str


def last_accuracy(log: RunLog) -> float:
    return float(log.epochs[-1]["test_accuracy"])


def collect(
    study: Study, points: Sequence[Point], costs: Mapping[str, Mapping[str, Any]], data: str
) -> Results:
    """Read the runs of a study.

    costs  by the row's name, as far as they are known
    """
    logs: dict[str, dict[int, RunLog]] = {row.name: {} for row in study.rows}
    failures: dict[str, dict[int, str]] = {row.name: {} for row in study.rows}
    for point in points:
        if point.done:
            logs[point.row.name][point.seed] = read_log(point.folder)
        elif point.why:
            failures[point.row.name][point.seed] = point.why
    n_images = max(
        (int(log.epochs[-1]["confusion"].sum()) for by in logs.values() for log in by.values()),
        default=0,
    )
    resolution = 1 / n_images if n_images else 0.0
    rows = {}
    for row in study.rows:
        found = list(logs[row.name].values())
        accuracy = mean(list(map(last_accuracy, found)), resolution) if found else None
        seconds = fmean(map(_training_seconds, found)) if found else math.nan
        rows[row.name] = RowResult(
            row, logs[row.name], accuracy, seconds, costs.get(row.name, {}), failures[row.name]
        )
    contrasts = []
    for factor, row, against in study.contrasts():
        mine, other = (rows[one.name].accuracies for one in (row, against))
        difference = paired_difference(mine, other, resolution)
        if difference:
            contrasts.append(Contrast(factor, row, against, difference))
    kinds = sorted({row.config().tested_on for row in study.rows})
    return Results(study, list(rows.values()), contrasts, " or ".join(kinds), n_images, data)


def _training_seconds(log: RunLog) -> float:
    """Of all steps, each epoch at its median speed: what held up some of them does not count."""
    epoch, speed = log.steps["epoch"], log.steps["speed"]
    images = speed * log.steps["seconds"]
    timed = np.isfinite(images) & (speed > 0)
    total = 0.0
    for n in np.unique(epoch):
        of_epoch, known = epoch == n, (epoch == n) & timed
        if known.any():  # steps without a time are as large as the others
            seen = images[known].mean() * of_epoch.sum()
            total += float(seen / np.median(speed[known]))
    return total or math.nan


# ------------------------------------------------------------------ as text


def accuracy_text(accuracy: Mean | None) -> str:
    """83.01 ± 0.12 %"""
    if accuracy is None:
        return "–"
    error = f" ± {100 * accuracy.error:.2f}" if math.isfinite(accuracy.error) else ""
    return f"{100 * accuracy.mean:.2f}{error} %"


def difference_text(difference: Difference) -> tuple[str, str]:
    """The mean difference and its interval, in percentage points."""
    interval = f"{100 * difference.low:+.2f} to {100 * difference.high:+.2f}"
    return (
        f"{100 * difference.mean:+.2f}",
        interval if math.isfinite(difference.low) else "one seed",
    )


def cost_texts(cost: Mapping[str, Any]) -> list[str]:
    """Parameters, multiply-adds, images per second in training and inference, memory."""
    return [
        f"{cost['parameters']:,}" if "parameters" in cost else "–",
        large(cost.get("multiply_adds")),
        speed(cost.get("training")),
        speed(cost.get("inference")),
        f"{cost['memory'] / 2**20:,.0f} MB" if "memory" in cost else "–",
    ]


COST_HEADS = ("parameters", "multiply-adds", "training, images/s", "inference, images/s", "memory")


def speed(images: float | None) -> str:
    if images is None:
        return "–"
    return f"{images:,.0f}" if images >= 10 else f"{images:.2g}"


def large(n: float | None) -> str:
    """20 400 000 -> 20.4 M"""
    if n is None:
        return "–"
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if n >= unit:
            return f"{n / unit:.3g} {name}"
    return f"{n:g}"


def seconds_text(seconds: float) -> str:
    return clock(seconds) if math.isfinite(seconds) else "–"


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of cells as lines: the first cell to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def as_text(results: Results) -> str:
    """Both tables, for a terminal."""
    study = results.study
    title = f"{study.title}\n{results.data}; {accuracy_words(results)}"
    head = (study.name, "accuracy", "seeds", *COST_HEADS, "time")
    rows = [
        (
            one.row.name,
            accuracy_text(one.accuracy),
            f"{len(one.logs)}/{len(study.seeds)}",
            *cost_texts(one.cost),
            seconds_text(one.seconds),
        )
        for one in results.rows
    ]
    parts = [title, "\n".join(columns([head, *rows]))]
    if results.contrasts:
        differences = [
            (c.row.name, c.against.name, *difference_text(c.difference), c.difference.verdict)
            for c in results.contrasts
        ]
        names = ("difference in percentage points", "against", "mean", interval_head(), "verdict")
        parts.append("\n".join(columns([names, *differences])))
    failed = [
        f"{one.row.name}, seed {seed}, failed: {why}"
        for one in results.rows
        for seed, why in one.failures.items()
    ]
    if failed:
        parts.append("\n".join(failed))
    return "\n\n".join(parts) + "\n"


def accuracy_words(results: Results) -> str:
    return (
        f"{results.tested_on} accuracy on {results.n_images:,} images after the last epoch, "
        "mean ± standard error over seeds"
    )


def interval_head() -> str:
    return f"{100 * CONFIDENCE:.0f} % interval"


# ------------------------------------------------------------------ as CSV and JSON


def as_csv(results: Results) -> str:
    """A line for each row of the study, fractions and numbers in full."""
    factors = list(results.study.factors)
    measured = ("parameters", "multiply_adds", "training", "inference", "memory")
    with io.StringIO(newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            ["row", *factors, "accuracy", "standard_error", "seeds", "seconds", *measured]
        )
        for one in results.rows:
            found = one.accuracy
            writer.writerow(
                [
                    one.row.name,
                    *one.row.levels,
                    *([found.mean, _plain(found.error)] if found else ["", ""]),
                    len(one.logs),
                    _plain(one.seconds),
                    *(_plain(one.cost.get(key, math.nan)) for key in measured),
                ]
            )
        return file.getvalue()


def as_json(results: Results) -> str:
    study = results.study
    content = {
        "study": study.name,
        "title": study.title,
        "about": study.about,
        "minimix": __version__,
        "data": results.data,
        "tested_on": results.tested_on,
        "n_images": results.n_images,
        "seeds": study.seeds,
        "factors": study.factors,
        "rows": [
            {
                "row": one.row.name,
                "levels": one.row.levels,
                "settings": one.row.settings,
                "accuracy": asdict(one.accuracy) if one.accuracy else None,
                "accuracies": one.accuracies,
                "by_epoch": {
                    seed: [e["test_accuracy"] for e in log.epochs] for seed, log in one.logs.items()
                },
                "seconds": one.seconds,
                "failures": one.failures,
                **one.cost,
            }
            for one in results.rows
        ],
        "differences": [
            {
                "factor": c.factor,
                "row": c.row.name,
                "against": c.against.name,
                **asdict(c.difference),
                "verdict": c.difference.verdict,
            }
            for c in results.contrasts
        ],
    }
    return json.dumps(_without_nan(content), indent=1, ensure_ascii=False) + "\n"


def _plain(value: float) -> float | str:
    return value if math.isfinite(value) else ""


def _without_nan(value: Any) -> Any:
    """The same with None for numbers that JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(one) for one in value]
    return value
