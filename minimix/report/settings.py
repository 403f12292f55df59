"""The sections "Settings" and "Differences": how to repeat a run, and how runs differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..train.config import PRESETS, RECIPES, flat, option, recipe
from .markup import Html, details, el, join, note, pairs, table
from .run_data import RunData


def settings(run: RunData) -> Html:
    about, chosen = run.log.about, flat(run.log.settings)
    family = str(chosen.get("model"))
    known = family in RECIPES and family != "convmixer"
    base = family if known else "laptop" if family == "convmixer" else "plain"
    usual = flat(asdict(recipe(family) if known else PRESETS[base]))
    unlike = {
        option(name): f"{_shown(value)} ({base}: {_shown(usual.get(name, '–'))})"
        for name, value in chosen.items()
        if _shown(value) != _shown(usual.get(name))
    }
    origin: dict[str, Any] = {}
    if run.model:
        origin |= {"data": run.model.data, "data sha256": run.model.sha256}
    if isinstance(versions := about.get("versions"), dict):
        origin |= versions
    origin |= {key: about[key] for key in ("backend", "machine") if key in about}
    title = f"the recipe of {family}" if known else f"the preset {base}"
    return join(
        note("Command:"),
        el("pre", about.get("command", "not recorded"), class_="command"),
        el(
            "div",
            _list(f"Settings that differ from {title}", unlike),
            _list("Data, versions, machine", origin),
            class_="grid",
        ),
        details("All settings", pairs({option(n): _shown(v) for n, v in chosen.items()}, "pairs")),
    )


def _list(title: str, values: Mapping[str, Any]) -> Html:
    content = pairs(values, "pairs") if values else note("None.")
    return el("div", el("h3", title), content)


def differences(runs: Sequence[RunData]) -> Html:
    each = [flat(run.log.settings) for run in runs]
    rows = [
        (option(name), *(_shown(settings.get(name, "–")) for settings in each))
        for name in dict.fromkeys(name for settings in each for name in settings)
        if any(settings.get(name) != each[0].get(name) for settings in each)
    ]
    if not rows:
        return el("p", "All runs have the same settings.")
    return table(("setting", *(run.name for run in runs)), rows)


def _shown(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_shown, value))
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
