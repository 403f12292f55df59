"""The page: sections, in the order in which one asks."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from importlib.resources import files

from ..train.progress import clock
from ..train.saved import config_of
from ..version import __version__
from .charts import look, number, percent, table
from .classes import classes, classes_compared, mistakes
from .curves import curves, epoch_table
from .markup import Html, el, join
from .settings import differences, settings
from .subject import Subject
from .weights import filters, layers, model_summary


def page(subjects: Sequence[Subject]) -> str:
    """The whole page, for one run or for several to be compared."""
    assets = files(__package__)
    style, script = (assets.joinpath(f"page.{kind}").read_text("utf-8") for kind in ("css", "js"))
    body = _one(subjects[0]) if len(subjects) == 1 else _several(subjects)
    title = " · ".join(subject.name for subject in subjects)
    # Nothing is loaded from anywhere, and the one script that runs is this one.
    sha256 = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{sha256}'"
    )
    head = (
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=policy),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("link", rel="icon", href="data:,"),
        el("title", f"{title} · minimix"),
        el("style", Html(style)),
    )
    foot = el("footer", el("p", f"Written by minimix {__version__}. Nothing is loaded from afar."))
    whole = el(
        "html",
        el("head", *head),
        el("body", el("main", body), foot, el("script", Html(script))),
        lang="en",
    )
    return f"<!DOCTYPE html>\n{whole}\n"


def _one(s: Subject) -> Html:
    top = join([el("p", _state(s), class_="lede"), _facts_list(s)])
    return _sections(s.name, top, {"Curves": curves([s]), **_parts(s)})


def _several(subjects: Sequence[Subject]) -> Html:
    each = join(
        el(
            "details",
            el("summary", el("span", s.name), el("span", percent(s.last("test_accuracy")))),
            el("p", _state(s), class_="lede"),
            *(
                el("section", el("h3", name), part)
                for name, part in {"Epochs": epoch_table(s), **_parts(s)}.items()
            ),
            class_="run",
        )
        for s in subjects
    )
    parts = {
        "Results": _results(subjects),
        "Curves": curves(subjects),
        "Differences": differences(subjects),
        "Classes": classes_compared(subjects),
        "Each run": each,
    }
    return _sections(f"{len(subjects)} runs compared", None, parts)


def _parts(s: Subject) -> dict[str, Html]:
    """What there is to say of a run by itself, after its curves."""
    return {
        "Layers": layers(s),
        "Classes": classes(s),
        "Mistakes": mistakes(s),
        "Filters": filters(s),
        "Model": model_summary(s),
        "Settings": settings(s),
    }


def _sections(title: str, top: Html | None, parts: Mapping[str, Html]) -> Html:
    ids = {name: name.lower().replace(" ", "-") for name in parts}
    return join(
        [
            el(
                "header",
                el("p", "minimix report", class_="eyebrow"),
                el("h1", title),
                top,
                el("nav", *(el("a", name, href=f"#{ids[name]}") for name in parts)),
            ),
            *(el("section", el("h2", name), part, id=ids[name]) for name, part in parts.items()),
        ]
    )


# ---- what came out


def _state(s: Subject) -> str:
    """How far the training has come."""
    reading = s.reading
    done, planned = len(s.epochs), reading.settings.get("epochs", "?")
    taken = len(reading.steps["step"])
    model = ""
    if s.inside:
        model = f"{config_of(s.inside.facts).name} on {s.inside.facts['data']['name']}. "
    if not taken:
        return f"{model}No step has been taken yet."
    if reading.finished:
        return f"{model}Trained to its end: {done} epochs, {taken:,} steps."
    return f"{model}Not at its end: {done} of {planned} epochs, {taken:,} steps so far."


def _facts(s: Subject, mirrored: bool) -> dict[str, str]:
    """The numbers that one looks for first; that with mirrored images where some run has it."""
    beside = {"with mirrored images": percent(s.last("mirrored_accuracy"))} if mirrored else {}
    return {
        "test accuracy": percent(s.last("test_accuracy")),
        **beside,
        "test loss": number(s.last("test_loss")),
        "parameters": f"{s.inside.model.n_parameters():,}" if s.inside else "–",
        "time": clock(s.reading.seconds) if s.reading.seconds else "–",
        "images a second": f"{s.speed:,.0f}" if s.speed == s.speed else "–",
    }


def _mirrored(s: Subject) -> bool:
    return math.isfinite(s.last("mirrored_accuracy"))


def _facts_list(s: Subject) -> Html:
    pairs = _facts(s, _mirrored(s)).items()
    return el(
        "dl", *(el("div", el("dt", name), el("dd", value)) for name, value in pairs), class_="facts"
    )


def _results(subjects: Sequence[Subject]) -> Html:
    facts = [_facts(s, any(map(_mirrored, subjects))) for s in subjects]
    rows = [
        (
            el("span", s.name, class_=f"key {look(i)}"),
            *facts[i].values(),
            percent(s.last("train_accuracy")),
            f"{len(s.epochs)} of {s.reading.settings.get('epochs', '?')}",
        )
        for i, s in enumerate(subjects)
    ]
    return table(("run", *facts[0], "training accuracy", "epochs"), rows)
