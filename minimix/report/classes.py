"""The sections "Classes" and "Mistakes": which classes are confused, and the worst errors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .charts import color_class
from .formatting import percent
from .images import colors, data_uri
from .markup import Html, el, figure, join, note, table
from .mistakes import Mistake
from .run_data import RunData

NOT_TESTED = "The model is tested after each epoch; the first is not complete yet."


def classes(run: RunData) -> Html:
    if not run.epochs:
        return el("p", NOT_TESTED)
    after = f"after epoch {run.last('epoch'):.0f}"
    images = f"{run.tested_on} images"
    rows = el("p", f"Rows: true class. Columns: predicted class. Numbers: {images}.")
    rates = el("p", f"The fraction of each class’s {images} that are classified correctly.")
    matrix = figure(f"Confusion matrix {after}", _confusion(run), beside=rows)
    bars = figure(f"Accuracy by class {after}", _bars(run), beside=rates)
    return el("div", matrix, bars, class_="grid")


def _confusion(run: RunData) -> Html:
    counts, rates, names = run.epochs[-1]["confusion"], run.confusion_rates, run.class_names

    def cell(i: int, j: int) -> Html:
        if not counts[i, j]:
            return el("td", "·")
        words = f"{names[i]} classified as {names[j]}: {counts[i, j]:.0f}"
        look = {"class_": "correct" if i == j else "wrong", "style": f"--rate:{rates[i, j]:.3f}"}
        return el("td", f"{counts[i, j]:.0f}", title=words, **look)

    head = el("tr", el("td"), *(el("th", el("span", name), scope="col") for name in names))
    rows = (
        el("tr", el("th", name, scope="row"), *(cell(i, j) for j in range(len(names))))
        for i, name in enumerate(names)
    )
    caption = el("caption", "Confusion matrix", class_="unseen")
    look = {"class_": "confusion", "style": f"--classes:{len(names)}"}
    whole = el("table", caption, el("thead", head), el("tbody", *rows), **look)
    return el("div", whole, class_="scroll")


def _bars(run: RunData) -> Html:
    rows = (
        el("tr", el("th", name, scope="row"), el("td", _bar(rate)), el("td", percent(rate)))
        for name, rate in zip(run.class_names, run.recall, strict=True)
    )
    caption = el("caption", "Accuracy by class", class_="unseen")
    return el("table", caption, el("tbody", *rows), class_="bars")


def classes_compared(runs: Sequence[RunData]) -> Html:
    tested = [run for run in runs if run.epochs]
    if not tested:
        return el("p", NOT_TESTED)
    if len({tuple(run.class_names) for run in tested}) != 1:
        return el("p", "The runs have different classes; see each run below.")
    columns = (
        [join(_bar(rate, run.number), percent(rate)) for rate in run.recall] for run in tested
    )
    rows = zip(tested[0].class_names, *columns, strict=True)
    return table(("accuracy by class", *(run.name for run in tested)), rows)


def _bar(rate: float, color: int = 0) -> Html:
    width = f"width:{100 * np.nan_to_num(rate):.2f}%"
    return el("span", el("span", style=width, class_=color_class(color)), class_="bar")


def mistakes(run: RunData) -> Html:
    if run.model is None:
        return el("p", run.why_none)
    if not run.model.mistakes:
        return el("p", run.model.why_none)
    words = note(
        f"Misclassified {run.tested_on} images with the predicted class, most confident first."
    )
    return join(words, el("ul", *map(_card, run.model.mistakes), class_="mistakes"))


def _card(mistake: Mistake) -> Html:
    height, width, _ = mistake.image.shape
    words = f"{mistake.label}, classified as {mistake.predicted}"
    return el(
        "li",
        el("img", src=data_uri(colors(mistake.image)), alt=words, width=width, height=height),
        el("b", mistake.predicted),
        el("span", percent(mistake.confidence)),
        el("span", f"true: {mistake.label}"),
    )
