"""The section of settings: how to do it again, and what others did otherwise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ..train.config import PRESETS, option
from .charts import folded, table
from .markup import Html, el, join
from .subject import Subject


def settings(s: Subject) -> Html:
    about, chosen = s.reading.about, s.reading.settings
    usual = asdict(PRESETS["laptop"])
    unlike = {
        option(name): f"{_shown(value)} (laptop: {_shown(usual.get(name, '–'))})"
        for name, value in chosen.items()
        if value != usual.get(name)
    }
    versions = about.get("versions")
    origin: dict[str, Any] = {
        **(versions if isinstance(versions, dict) else {}),
        **{key: about[key] for key in ("backend", "machine") if key in about},
    }
    if s.inside:
        data = s.inside.facts["data"]
        origin = {"data": data["name"], "its sha256": data["sha256"], **origin}
    return join(
        [
            el("p", "The command:", class_="note"),
            el("pre", about.get("command", "not written down"), class_="command"),
            el(
                "div",
                el("div", el("h3", "Settings unlike the preset laptop"), _pairs(unlike)),
                el("div", el("h3", "Data, versions, machine"), _pairs(origin)),
                class_="grid",
            ),
            folded("All settings", _pairs({option(n): _shown(v) for n, v in chosen.items()})),
        ]
    )


def differences(subjects: Sequence[Subject]) -> Html:
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


def _pairs(pairs: Mapping[str, Any]) -> Html:
    if not pairs:
        return el("p", "None.", class_="note")
    return el(
        "dl",
        *(el("div", el("dt", name), el("dd", value)) for name, value in pairs.items()),
        class_="pairs",
    )
