"""The page as a whole: its head, its sections in order, and the results at the top."""

from __future__ import annotations

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from importlib.resources import files

from ..train.progress import clock
from ..version import __version__
from . import charts
from .classes import classes, classes_compared, mistakes
from .curves import curves, epoch_table
from .formatting import number, percent
from .layers import filters, layers, model_summary
from .markup import Html, el, join, pairs, table
from .run_data import RunData, tested_on
from .settings import differences, settings


def page(runs: Sequence[RunData]) -> str:
    """The whole page, for one run or for several to be compared."""
    with charts.style():
        body = _one(runs[0]) if len(runs) == 1 else _several(runs)
    return document(" · ".join(run.name for run in runs), body)


def document(title: str, body: Html) -> str:
    """A page with this title and content, which needs no other file."""
    here = files(__package__)
    style, script = (here.joinpath(f"page.{kind}").read_text("utf-8") for kind in ("css", "js"))
    # The page loads nothing, and runs no script but this one.
    sha256 = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{sha256}'"
    )
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=policy),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("link", rel="icon", href="data:,"),
        el("title", f"{title} · minimix"),
        el("style", Html(style)),
    )
    origin = f"Written by minimix {__version__}. This page loads nothing from the network."
    foot = el("footer", el("p", origin))
    body = el("body", el("main", body), foot, el("script", Html(script)))
    return f"<!DOCTYPE html>\n{el('html', head, body, lang='en')}\n"


def _one(run: RunData) -> Html:
    top = join(
        el("p", _state(run), class_="lede"),
        pairs(_facts(run, _mirrored(run), run.tested_on), "facts"),
    )
    return sections(run.name, top, {"Curves": curves([run]), **_parts(run)})


def _several(runs: Sequence[RunData]) -> Html:
    parts = {
        "Results": _results(runs),
        "Curves": curves(runs),
        "Differences": differences(runs),
        "Classes": classes_compared(runs),
        "Each run": join(*map(_folded, runs)),
    }
    return sections(f"{len(runs)} runs compared", None, parts)


def _folded(run: RunData) -> Html:
    head = el("summary", el("span", run.name), el("span", percent(run.last("test_accuracy"))))
    parts = {"Epochs": epoch_table(run), **_parts(run)}
    sections = (el("section", el("h3", name), part) for name, part in parts.items())
    return el("details", head, el("p", _state(run), class_="lede"), *sections, class_="run")


def _parts(run: RunData) -> dict[str, Html]:
    """The sections about a single run, after its curves."""
    return {
        "Layers": layers(run),
        "Classes": classes(run),
        "Mistakes": mistakes(run),
        "Filters": filters(run),
        "Model": model_summary(run),
        "Settings": settings(run),
    }


def sections(title: str, top: Html | None, parts: Mapping[str, Html]) -> Html:
    """A heading with links to the parts, and the parts under their names."""
    ids = {name: name.lower().replace(" ", "-") for name in parts}
    links = el("nav", *(el("a", name, href=f"#{ids[name]}") for name in parts))
    above = el("p", "minimix report", class_="eyebrow")
    each = (el("section", el("h2", name), part, id=ids[name]) for name, part in parts.items())
    return join(el("header", above, el("h1", title), top, links), *each)


# ---- results


def _state(run: RunData) -> str:
    """How far the training has come."""
    done, planned = len(run.epochs), run.log.settings.get("epochs", "?")
    steps = len(run.log.steps["step"])
    model = f"{run.model.name} on {run.model.data}. " if run.model else ""
    if not steps:
        return f"{model}No training step has been taken yet."
    if run.log.finished:
        return f"{model}Training finished: {done} epochs, {steps:,} steps."
    return f"{model}Training not finished: {done} of {planned} epochs, {steps:,} steps so far."


def _facts(run: RunData, mirrored: bool, images: str) -> dict[str, str]:
    """The most important numbers; with that for mirrored images if a run of the page has it.

    images  what it was tested on, in words
    """
    beside = {"with mirrored images": percent(run.last("mirrored_accuracy"))} if mirrored else {}
    speed = run.images_per_second
    return {
        f"{images} accuracy": percent(run.last("test_accuracy")),
        **beside,
        f"{images} loss": number(run.last("test_loss")),
        "parameters": f"{run.model.model.n_parameters():,}" if run.model else "–",
        "time": clock(run.log.seconds) if run.log.seconds else "–",
        "images per second": f"{speed:,.0f}" if math.isfinite(speed) else "–",
    }


def _mirrored(run: RunData) -> bool:
    return math.isfinite(run.last("mirrored_accuracy"))


def _results(runs: Sequence[RunData]) -> Html:
    facts = [_facts(run, any(map(_mirrored, runs)), tested_on(runs)) for run in runs]
    rows = (
        (
            el("span", run.name, class_=f"key {charts.color_class(run.number)}"),
            *facts[run.number].values(),
            percent(run.last("train_accuracy")),
            f"{len(run.epochs)} of {run.log.settings.get('epochs', '?')}",
        )
        for run in runs
    )
    return table(("run", *facts[0], "training accuracy", "epochs"), rows)
