"""The sections "Classes" and "Mistakes": which classes are confused, and the worst errors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .charts import colour_class
from .formatting import percent
from .images import data_uri
from .markup import Html, el, join, table
from .run_data import NO_WEIGHTS, RunData

NOT_TESTED = "The model is tested after each epoch; the first is not complete yet."


def classes(run: RunData) -> Html:
    if not run.epochs:
        return el("p", NOT_TESTED)
    after = f"after epoch {run.last('epoch'):.0f}"
    matrix = _figure(
        f"Confusion matrix {after}",
        "Rows: true class. Columns: predicted class. Numbers: test images.",
        el("div", _confusion(run), class_="scroll"),
    )
    bars = _figure(
        f"Accuracy by class {after}",
        "The fraction of each class’s test images that are classified correctly.",
        _bars(run),
    )
    return el("div", matrix, bars, class_="grid")


def _figure(title: str, words: str, content: Html) -> Html:
    return el("figure", el("figcaption", el("h3", title), el("p", words)), content)


def _confusion(run: RunData) -> Html:
    counts, rates, names = run.epochs[-1]["confusion"], run.confusion_rates, run.class_names

    def cell(i: int, j: int) -> Html:
        if not counts[i, j]:
            return el("td", "·")
        return el(
            "td",
            f"{counts[i, j]:.0f}",
            style=f"--rate:{rates[i, j]:.3f}",
            class_="correct" if i == j else "wrong",
            title=f"{names[i]} classified as {names[j]}: {counts[i, j]:.0f}",
        )

    head = el("tr", el("td"), *(el("th", el("span", name), scope="col") for name in names))
    rows = (
        el("tr", el("th", name, scope="row"), *(cell(i, j) for j in range(len(names))))
        for i, name in enumerate(names)
    )
    return el(
        "table",
        el("caption", "Confusion matrix", class_="unseen"),
        el("thead", head),
        el("tbody", *rows),
        class_="confusion",
        style=f"--classes:{len(names)}",
    )


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
    rates = [run.recall for run in tested]
    rows = (
        (
            name,
            *(
                join([_bar(rate[k], run.number), percent(rate[k])])
                for run, rate in zip(tested, rates, strict=True)
            ),
        )
        for k, name in enumerate(tested[0].class_names)
    )
    return table(("accuracy by class", *(run.name for run in tested)), rows)


def _bar(rate: float, colour: int = 0) -> Html:
    width = f"width:{100 * np.nan_to_num(rate):.2f}%"
    return el("span", el("span", style=width, class_=colour_class(colour)), class_="bar")


def mistakes(run: RunData) -> Html:
    if run.model is None:
        return el("p", NO_WEIGHTS)
    if not run.model.mistakes:
        return el("p", run.model.why_none)
    cards = (
        el(
            "li",
            el(
                "img",
                src=data_uri(m.image),
                alt=f"{m.label}, classified as {m.predicted}",
                width=m.image.shape[1],
                height=m.image.shape[0],
            ),
            el("b", m.predicted),
            el("span", percent(m.confidence)),
            el("span", f"true: {m.label}"),
        )
        for m in run.model.mistakes
    )
    note = "Misclassified test images with the predicted class, most confident first."
    return join([el("p", note, class_="note"), el("ul", *cards, class_="mistakes")])
