"""The sections about classes: what was taken for what, and the mistakes that were surest."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..autograd import Array
from .charts import look, percent, table
from .markup import Html, el, join
from .pictures import data_uri
from .subject import NO_WEIGHTS, Subject


def classes(s: Subject) -> Html:
    if not s.epochs:
        return el("p", "Tests come at the end of an epoch; none is complete yet.")
    matrix = _figure(
        "Confusion",
        "A row is what the images are, a column what they were taken for.",
        el("div", _confusion(s), class_="scroll"),
    )
    bars = _figure(
        "Accuracy by class",
        "The share of a class’s test images that were recognised.",
        _bars(s),
    )
    return el("div", matrix, bars, class_="grid")


def _figure(title: str, words: str, content: Html) -> Html:
    return el("figure", el("figcaption", el("h3", title), el("p", words)), content)


def _confusion(s: Subject) -> Html:
    counts, shares, names = s.epochs[-1]["confusion"], _shares(s), s.class_names
    head = el("tr", el("td"), *(el("th", el("span", name), scope="col") for name in names))
    rows = [
        el(
            "tr",
            el("th", name, scope="row"),
            *(
                el(
                    "td",
                    f"{counts[i, j]:.0f}" if counts[i, j] else "·",
                    style=f"--share:{np.nan_to_num(shares[i, j]):.3f}",
                    class_="hit" if i == j else "miss",
                    title=f"{name} taken for {other}: {counts[i, j]:.0f}",
                )
                for j, other in enumerate(names)
            ),
        )
        for i, name in enumerate(names)
    ]
    words = f"Test images after epoch {s.last('epoch'):.0f}"
    return el(
        "table",
        el("caption", words, class_="unseen"),
        el("thead", head),
        el("tbody", *rows),
        class_="confusion",
    )


def _bars(s: Subject) -> Html:
    shares = np.diag(_shares(s))
    rows = [
        el("tr", el("th", name, scope="row"), el("td", _bar(share)), el("td", percent(share)))
        for name, share in zip(s.class_names, shares, strict=True)
    ]
    words = f"Accuracy by class after epoch {s.last('epoch'):.0f}"
    return el("table", el("caption", words, class_="unseen"), el("tbody", *rows), class_="bars")


def classes_compared(subjects: Sequence[Subject]) -> Html:
    tested = [(i, s) for i, s in enumerate(subjects) if s.epochs]
    if not tested:
        return el("p", "Tests come at the end of an epoch; none is complete yet.")
    if len({tuple(s.class_names) for _, s in tested}) != 1:
        return el("p", "The runs do not share their classes; each has its own below.")
    shares = [np.diag(_shares(s)) for _, s in tested]
    rows = [
        (
            name,
            *(
                join([_bar(share[k], i), percent(share[k])])
                for (i, _), share in zip(tested, shares, strict=True)
            ),
        )
        for k, name in enumerate(tested[0][1].class_names)
    ]
    return table(("accuracy by class", *(s.name for _, s in tested)), rows)


def mistakes(s: Subject) -> Html:
    if s.inside is None:
        return el("p", NO_WEIGHTS)
    if not s.inside.mistakes:
        return el("p", s.inside.why_none)
    cards = [
        el(
            "li",
            el(
                "img",
                src=data_uri(m.image),
                alt=f"{m.label}, taken for {m.taken_for}",
                width=m.image.shape[1],
                height=m.image.shape[0],
            ),
            el("b", m.taken_for),
            el("span", f"{100 * m.confidence:.1f}\u00a0% sure"),
            el("span", f"is {m.label}"),
        )
        for m in s.inside.mistakes
    ]
    note = "The test images it was surest about and wrong, the surest first."
    return join([el("p", note, class_="note"), el("ul", *cards, class_="mistakes")])


def _shares(s: Subject) -> Array:
    """confusion[i, j] as a share of class i; NaN for one without images."""
    confusion = s.epochs[-1]["confusion"]
    total = confusion.sum(axis=1, keepdims=True)
    return np.divide(confusion, total, out=np.full(confusion.shape, np.nan), where=total > 0)


def _bar(share: float, colour: int = 0) -> Html:
    width = f"width:{100 * np.nan_to_num(share):.2f}%"
    return el("span", el("span", style=width, class_=look(colour)), class_="bar")
