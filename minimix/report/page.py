"""The page: sections, in the order in which one asks."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any

import numpy as np

from .. import __version__
from ..autograd import Array
from ..nn import DepthwiseConv2d, Patchify
from ..train.config import PRESETS, option
from ..train.progress import clock
from ..train.saved import config_of
from .charts import Curve, chart, folded, look, number, percent, smoothed, strips, table
from .inside import Inside
from .markup import Html, el, join
from .pictures import colours, data_uri, signed, strongest, tiles
from .reading import Reading

KERNELS = 48  # shown of each layer


@dataclass(frozen=True)
class Subject:
    """A run as the page speaks of it: its name, what was read, and its model if there is one."""

    name: str
    reading: Reading
    inside: Inside | None

    @property
    def epochs(self) -> list[dict[str, Any]]:
        return self.reading.epochs

    def last(self, key: str) -> float:
        """A number of the last epoch; NaN before there is one."""
        return self.epochs[-1][key] if self.epochs else np.nan

    def each(self, key: str) -> Array:
        """A number of every epoch."""
        return np.array([epoch[key] for epoch in self.epochs], float)

    @property
    def class_names(self) -> list[str]:
        n = len(self.epochs[-1]["confusion"]) if self.epochs else 0
        names = self.inside.class_names if self.inside else []
        return names if len(names) == n else [str(i) for i in range(n)]

    @property
    def speed(self) -> float:
        """Images a second, the median: the first steps compile."""
        speeds = self.reading.steps["speed"]
        return float(np.nanmedian(speeds)) if np.isfinite(speeds).any() else np.nan


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
    parts = {
        "Curves": _curves([s]),
        "Layers": _layers(s),
        "Classes": _classes(s),
        "Mistakes": _mistakes(s),
        "Filters": _filters(s),
        "Model": _model(s),
        "Settings": _settings(s),
    }
    links = el("nav", *(el("a", name, href=f"#{name.lower()}") for name in parts))
    return join(
        [
            el(
                "header",
                el("p", "minimix report", class_="eyebrow"),
                el("h1", s.name),
                el("p", _state(s), class_="lede"),
                _facts(s),
                links,
            ),
            *(el("section", el("h2", name), part, id=name.lower()) for name, part in parts.items()),
        ]
    )


def _several(subjects: Sequence[Subject]) -> Html:
    each = join(
        el(
            "details",
            el("summary", el("span", s.name), el("span", percent(s.last("test_accuracy")))),
            el("p", _state(s), class_="lede"),
            *(
                el("section", el("h3", name), part)
                for name, part in {
                    "Epochs": _epoch_table(s),
                    "Layers": _layers(s),
                    "Classes": _classes(s),
                    "Mistakes": _mistakes(s),
                    "Filters": _filters(s),
                    "Model": _model(s),
                    "Settings": _settings(s),
                }.items()
            ),
            class_="run",
        )
        for s in subjects
    )
    parts = {
        "Results": _results(subjects),
        "Curves": _curves(subjects),
        "Differences": _differences(subjects),
        "Classes": _classes_compared(subjects),
        "Each run": each,
    }
    ids = {name: name.lower().replace(" ", "-") for name in parts}
    return join(
        [
            el(
                "header",
                el("p", "minimix report", class_="eyebrow"),
                el("h1", f"{len(subjects)} runs compared"),
                el("nav", *(el("a", name, href=f"#{ids[name]}") for name in parts)),
            ),
            *(el("section", el("h2", name), part, id=ids[name]) for name, part in parts.items()),
        ]
    )


# ---- what came out


def _state(s: Subject) -> str:
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


def _facts(s: Subject) -> Html:
    facts = {
        "test accuracy": percent(s.last("test_accuracy")),
        "test loss": number(s.last("test_loss")),
        "parameters": f"{s.inside.model.n_parameters():,}" if s.inside else "–",
        "time": clock(s.reading.seconds) if s.reading.seconds else "–",
        "images a second": f"{s.speed:,.0f}" if s.speed == s.speed else "–",
    }
    return el(
        "dl",
        *(el("div", el("dt", name), el("dd", value)) for name, value in facts.items()),
        class_="facts",
    )


def _results(subjects: Sequence[Subject]) -> Html:
    head = (
        "run", "test accuracy", "test loss", "training accuracy", "epochs", "parameters", "time",
        "images a second",
    )  # fmt: skip
    rows = [
        (
            el("span", s.name, class_=f"key {look(i)}"),
            percent(s.last("test_accuracy")),
            number(s.last("test_loss")),
            percent(s.last("train_accuracy")),
            f"{len(s.epochs)} of {s.reading.settings.get('epochs', '?')}",
            f"{s.inside.model.n_parameters():,}" if s.inside else "–",
            clock(s.reading.seconds) if s.reading.seconds else "–",
            f"{s.speed:,.0f}" if s.speed == s.speed else "–",
        )
        for i, s in enumerate(subjects)
    ]
    return table(head, rows)


def _differences(subjects: Sequence[Subject]) -> Html:
    settings = [s.reading.settings for s in subjects]
    names = list(dict.fromkeys(name for each in settings for name in each))
    rows = [
        (option(name), *(_shown(each.get(name, "–")) for each in settings))
        for name in names
        if any(each.get(name) != settings[0].get(name) for each in settings)
    ]
    if not rows:
        return el("p", "All runs have the same settings.")
    return table(("setting", *(s.name for s in subjects)), rows)


def _shown(value: Any) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


# ---- curves

SMALL = {"Learning rate": "lr", "Gradient norm": "grad_norm", "Images a second": "speed"}


def _curves(subjects: Sequence[Subject]) -> Html:
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
            folded("The numbers, epoch by epoch", _epoch_table(subjects[0]))
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


def _epoch_table(s: Subject) -> Html:
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


# ---- layers


def _layers(s: Subject) -> Html:
    if not s.epochs:
        return el("p", "Norms are taken at the end of an epoch; none is complete yet.")
    first, last = (f"{s.epochs[i]['epoch']:.0f}" for i in (0, -1))
    columns = f"Epochs {first} to {last}" if first != last else f"Epoch {first}"
    figures, rows = [], []
    for key, title, note in (
        ("weight_norms", "Weight norms", "logarithmic."),
        ("gradient_norms", "Gradient norms", "logarithmic; of each epoch’s last step, clipped."),
    ):
        layers = list(dict.fromkeys(name for epoch in s.epochs for name in epoch[key]))
        values = {
            _layer(name): [epoch[key].get(name, 0.0) for epoch in s.epochs] for name in layers
        }
        figures.append(strips(title, values, columns, note))
        rows.append(
            table(
                ("layer", *(f"{epoch['epoch']:.0f}" for epoch in s.epochs)),
                [(name, *map(number, line)) for name, line in values.items()],
                title,
            )
        )
    return join([el("div", *figures, class_="grid"), folded("The numbers, layer by layer", *rows)])


def _layer(name: str) -> str:
    """What a ConvMixer's layer is, in words: blocks.2.0.fn.0 -> block 3 depthwise."""
    known = {"stem.0": "patch embedding", "stem.2": "patch norm", "head": "head"}
    inside = {"0.fn.0": "depthwise", "0.fn.2": "norm", "1": "pointwise", "3": "norm after"}
    parts = name.split(".", 2)
    if len(parts) == 3 and parts[0] == "blocks" and parts[1].isdecimal() and parts[2] in inside:
        return f"block {int(parts[1]) + 1} {inside[parts[2]]}"
    return known.get(name, name)


# ---- classes


def _shares(s: Subject) -> Array:
    """confusion[i, j] as a share of class i; NaN for one without images."""
    confusion = s.epochs[-1]["confusion"]
    total = confusion.sum(axis=1, keepdims=True)
    return np.divide(confusion, total, out=np.full(confusion.shape, np.nan), where=total > 0)


def _classes(s: Subject) -> Html:
    if not s.epochs:
        return el("p", "Tests come at the end of an epoch; none is complete yet.")
    confusion, shares, names = s.epochs[-1]["confusion"], _shares(s), s.class_names
    rows = [
        el(
            "tr",
            el("th", name, scope="row"),
            *(
                el(
                    "td",
                    f"{confusion[i, j]:.0f}" if confusion[i, j] else "·",
                    style=f"--share:{np.nan_to_num(shares[i, j]):.3f}",
                    class_="hit" if i == j else "miss",
                    title=f"{name} taken for {other}: {confusion[i, j]:.0f}",
                )
                for j, other in enumerate(names)
            ),
        )
        for i, name in enumerate(names)
    ]
    epoch = f"{s.epochs[-1]['epoch']:.0f}"
    matrix = el(
        "figure",
        el(
            "figcaption",
            el("h3", "Confusion"),
            el("p", "A row is what the images are, a column what they were taken for."),
        ),
        el(
            "div",
            el(
                "table",
                el("caption", f"Test images after epoch {epoch}", class_="unseen"),
                el(
                    "thead",
                    el(
                        "tr",
                        el("td"),
                        *(el("th", el("span", name), scope="col") for name in names),
                    ),
                ),
                el("tbody", *rows),
                class_="confusion",
            ),
            class_="scroll",
        ),
    )
    bars = el(
        "figure",
        el(
            "figcaption",
            el("h3", "Accuracy by class"),
            el("p", "The share of a class’s test images that were recognised."),
        ),
        el(
            "table",
            el("caption", f"Accuracy by class after epoch {epoch}", class_="unseen"),
            el(
                "tbody",
                *(
                    el(
                        "tr",
                        el("th", names[i], scope="row"),
                        el("td", _bar(shares[i, i])),
                        el("td", percent(shares[i, i])),
                    )
                    for i in range(len(names))
                ),
            ),
            class_="bars",
        ),
    )
    return el("div", matrix, bars, class_="grid")


def _bar(share: float, colour: int = 0) -> Html:
    width = f"width:{100 * np.nan_to_num(share):.2f}%"
    return el("span", el("span", style=width, class_=look(colour)), class_="bar")


def _classes_compared(subjects: Sequence[Subject]) -> Html:
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


# ---- what needs the weights

NO_WEIGHTS = "There are no weights in this folder yet."


def _mistakes(s: Subject) -> Html:
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


def _filters(s: Subject) -> Html:
    if s.inside is None:
        return el("p", NO_WEIGHTS)
    figures = []
    for name, module in s.inside.model.named_modules():
        if isinstance(module, Patchify):
            filters = module.weight.array.transpose(3, 0, 1, 2)  # (D, p, p, C)
            sheet, what = colours(strongest(filters, 2 * KERNELS)), "patch filters"
            columns = 16
        elif isinstance(module, DepthwiseConv2d):
            kernels = module.weight.array.transpose(2, 0, 1)  # (C, k, k)
            sheet, what = signed(strongest(kernels, KERNELS)), "kernels"
            columns, filters = 12, kernels
        else:
            continue
        size = filters.shape[1]
        title = _layer(name)
        count = f"{len(sheet)} of {len(filters)}" if len(sheet) < len(filters) else f"{len(sheet)}"
        picture = tiles(sheet, columns, zoom=max(1, 24 // size), gap=4)
        figures.append(
            el(
                "figure",
                el("figcaption", el("h3", title[0].upper() + title[1:])),
                el(
                    "img",
                    src=data_uri(picture),
                    alt=f"{title}: {count} {what} of {size}×{size}, the strongest first",
                    width=picture.shape[1],
                    height=picture.shape[0],
                ),
                el("p", f"{count} {what} of {size}×{size}", class_="note"),
                class_="filters",
            )
        )
    note = (
        "The strongest first, each over its own range. Patch filters in the colours that they look "
        "for; depthwise kernels orange where positive, blue where negative."
    )
    return join([el("p", note, class_="note"), el("div", *figures, class_="sheets")])


def _model(s: Subject) -> Html:
    if s.inside is None:
        return el("p", NO_WEIGHTS)
    height, width = s.inside.facts["data"]["image_size"]
    summary = s.inside.model.summary((1, height, width, 3))
    return el("pre", summary, class_="scroll", tabindex="0", aria_label="Model summary")


# ---- how to do it again


def _settings(s: Subject) -> Html:
    about, settings = s.reading.about, s.reading.settings
    usual = asdict(PRESETS["laptop"])
    changed = [name for name in settings if settings[name] != usual.get(name)]
    data = s.inside.facts["data"] if s.inside else {}
    machine: dict[str, Any] = {
        **({"data": data["name"], "its sha256": data["sha256"]} if data else {}),
        **_flat(about.get("versions", {})),
        **{key: value for key, value in about.items() if key in ("backend", "machine")},
    }
    return join(
        [
            el("p", "The command:", class_="note"),
            el("pre", about.get("command", "not written down"), class_="command"),
            el(
                "div",
                el("div", el("h3", "Settings unlike the preset laptop"), _pairs(
                    [(option(n), f"{_shown(settings[n])} (laptop: {_shown(usual.get(n, '–'))})")
                     for n in changed] or [("none", "")]
                )),
                el("div", el("h3", "Data, versions, machine"), _pairs(machine.items())),
                class_="grid",
            ),
            folded(
                "All settings", _pairs((option(n), _shown(v)) for n, v in settings.items())
            ),
        ]
    )  # fmt: skip


def _flat(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _pairs(pairs: Any) -> Html:
    return el(
        "dl",
        *(el("div", el("dt", name), el("dd", value)) for name, value in pairs),
        class_="pairs",
    )
