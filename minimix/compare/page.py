"""The page about a study."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from ..report import charts
from ..report.formatting import percent
from ..report.markup import Html, el, join, note, pairs, table
from ..report.page import document, sections
from ..train.config import flat, option
from .charts import accuracies, against
from .results import (
    COST_HEADS,
    Results,
    RowResult,
    accuracy_text,
    accuracy_words,
    cost_texts,
    difference_text,
    interval_head,
    seconds_text,
)

INTERVALS = (
    "Differences are taken seed by seed, as both trainings of a seed see the same images in the "
    "same order. An interval holds the true mean difference in 95 of 100 cases (Student's t over "
    "seeds); where it holds 0, the seeds cannot tell the two apart. One in twenty such intervals "
    "misses, so among many verdicts expect a wrong one. The test images are the same throughout: "
    "what other images would give is a further uncertainty."
)
COSTS = (
    "Parameters and multiply-adds of one image; images per second and the memory of a training "
    "step are measured on this machine, each network in a process of its own, without the data "
    "pipeline. Time is that of one training's steps, each at the median speed of its epoch."
)


def page(results: Results) -> str:
    """The whole page, which needs no other file."""
    study = results.study
    with charts.style():
        parts = {
            "Results": _results(results),
            "Differences": _differences(results),
            "Curves": _curves(results),
            "Cost": _cost(results),
            "Recipes": _recipes(results),
            "Each training": _trainings(results),
        }
        about = el("p", study.about, class_="lede") if study.about else None
        top = join(about, pairs(_facts(results), "facts"))
        body = sections(study.title, top, {k: part for k, part in parts.items() if part})
    return document(study.title, body)


def _facts(results: Results) -> dict[str, str]:
    done = sum(len(one.logs) for one in results.rows)
    return {
        "trainings": f"{done} of {len(results.rows) * len(results.study.seeds)}",
        "seeds": f"{len(results.study.seeds)}",
        f"{results.tested_on} images": f"{results.n_images:,}",
        "data": results.data.partition(",")[0],
    }


def _results(results: Results) -> Html:
    rows = (
        (
            one.row.name,
            accuracy_text(one.accuracy),
            f"{len(one.logs)}",
            *cost_texts(one.cost),
            seconds_text(one.seconds),
        )
        for one in results.rows
    )
    words = accuracy_words(results)
    picture = accuracies(results)
    return join(
        note(f"{words[0].upper()}{words[1:]}. {COSTS}"),
        el("div", picture, class_="grid") if picture else None,
        table(("row", "accuracy", "seeds", *COST_HEADS, "time"), rows),
    )


def _differences(results: Results) -> Html | None:
    if not results.contrasts:
        return None
    rows = (
        (c.row.name, c.against.name, *difference_text(c.difference), c.difference.verdict)
        for c in results.contrasts
    )
    head = ("row", "against", "points", interval_head(), "verdict")
    return join(note(INTERVALS), table(head, rows))


def _curves(results: Results) -> Html | None:
    """One chart; where there are several factors, one for each level of the last."""
    tested = [one for one in results.rows if one.logs]
    if not tested:
        return None
    several = len(results.study.factors) > 1
    groups: dict[str, list[charts.Curve]] = {}
    for one in tested:
        *others, last = one.row.levels if several else (one.row.name, "")
        epochs, each = one.curve
        band = (each.min(axis=0), each.max(axis=0)) if len(each) > 1 else None
        group = groups.setdefault(last, [])
        curve = ", ".join(others), epochs, each.mean(axis=0), len(group), band
        group.append(charts.Curve(*curve, markers=True))
    drawn = (
        charts.line_chart(
            f"{results.tested_on.capitalize()} accuracy{f', {name}' if name else ''}",
            group,
            x_name="epoch",
            x_end=max(len(curve.x) for curve in group),
            as_percent=True,
        )
        for name, group in groups.items()
    )
    words = "Means over seeds, with a pale band from the lowest seed to the highest."
    return join(note(words), el("div", *drawn, class_="grid"))


def _cost(results: Results) -> Html | None:
    wanted = {
        "Accuracy against training time": ("time", [one.seconds for one in results.rows]),
        "Accuracy against parameters": ("parameters", _each(results, "parameters")),
        "Accuracy against multiply-adds": ("multiply-adds", _each(results, "multiply_adds")),
        "Accuracy against speed": ("inference, images/s", _each(results, "inference")),
    }
    drawn = [against(results, title, *what) for title, what in wanted.items()]
    found = [chart for chart in drawn if chart]
    return el("div", *found, class_="grid") if found else None


def _each(results: Results, key: str) -> list[float]:
    return [float(one.cost.get(key, math.nan)) for one in results.rows]


def _recipes(results: Results) -> Html:
    """The settings that all rows share, and those in which they differ."""
    full = [flat_settings(one) for one in results.rows]
    names = list(dict.fromkeys(name for settings in full for name in settings))
    names = [name for name in names if name not in ("seed", "threads", "data")]
    values = {name: [shown(settings.get(name, "–")) for settings in full] for name in names}
    same = {name: each[0] for name, each in values.items() if len(set(each)) == 1}
    differing = [name for name in names if name not in same]
    rows = (
        (one.row.name, *(values[name][i] for name in differing))
        for i, one in enumerate(results.rows)
    )
    return join(
        el("h3", "What differs") if differing else None,
        table(("row", *differing), rows) if differing else None,
        el("h3", "What all rows share"),
        pairs({option(name): value for name, value in same.items()}, "pairs"),
    )


def flat_settings(one: RowResult) -> dict[str, Any]:
    return flat(asdict(one.row.config().complete()))


def shown(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _trainings(results: Results) -> Html:
    seeds = results.study.seeds
    rows = ((one.row.name, *(_outcome(one, seed) for seed in seeds)) for one in results.rows)
    return table(("row", *(f"seed {seed}" for seed in seeds)), rows)


def _outcome(one: RowResult, seed: int) -> str:
    if seed in one.logs:
        return percent(one.accuracies[seed])
    return f"failed: {one.failures[seed]}" if seed in one.failures else "not yet"
