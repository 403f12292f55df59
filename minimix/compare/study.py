"""A study: which networks are trained, with which settings and seeds, to be compared.

A TOML file, of which every part but one is optional:

    title = "Is it attention, or is it the patches?"
    about = "What is compared, and with which recipe."      # shown on the page
    data = "cifar10"                # as in `minimix train`
    seeds = 3                       # 0, 1 and 2; or a list

    [settings]                      # of every training, by the names of `minimix train`; all
                                    # others are those of the preset plain, or of the family
    epochs = 10

    [models.ViT]                    # the rows: each has a name, and settings of its own
    model = "vit"                   # not needed where the row's name is that of a family
    lr = 0.002

    [variants.plain]                # every model is trained in every variant
    [variants.shuffled]
    shuffle_patches = 4

    [grid]                          # and with every value of these settings
    weight_decay = [0.005, 0.05]

Models, variants and each setting of the grid are the study's factors. Each factor's first level is
its baseline: the others are compared with it, with all other factors unchanged.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from ..data import Dataset
from ..errors import MinimixError
from ..models import FAMILIES
from ..train.architecture import described, settings_of
from ..train.config import SETTINGS, Config, recipe
from ..train.probe import network
from . import presets

PARTS = ("title", "about", "data", "seeds", "settings", "models", "variants", "grid")
OVERALL = ("seed", "threads", "data")  # settings that are not a row's business
SAME = ("image_size", "test_fraction")  # and those that say which images there are
MOST_RUNS = 10_000


@dataclass(frozen=True)
class Row:
    """What is trained once with each seed: a line of the table.

    levels    the level of each of the study's factors, in their order
    settings  what differs from the defaults of `minimix train`
    """

    levels: tuple[str, ...]
    settings: Mapping[str, Any]

    @property
    def name(self) -> str:
        return ", ".join(self.levels) or "default"

    @property
    def folder(self) -> str:
        """A name for its folder: of letters, digits, dots and dashes."""
        return re.sub(r"[^\w.]+", "-", self.name).strip("-.") or "row"

    def config(self, seed: int = 0, **others: Any) -> Config:
        """Its settings for one training. Errors: ValueError where one makes no sense."""
        return make_config({**self.settings, **others, "seed": seed})


@dataclass(frozen=True)
class Study:
    """What is to be trained and compared.

    source   where it was read from, for messages
    text     its file
    factors  the names of the levels of each factor, the baseline first
    rows     every combination of levels
    """

    name: str
    source: str
    text: str
    title: str
    about: str
    data: str
    seeds: tuple[int, ...]
    factors: Mapping[str, tuple[str, ...]]
    rows: tuple[Row, ...]

    def with_settings(self, **settings: Any) -> Study:
        """The same study with these settings in every row. Errors: MinimixError where rows differ
        in one of them, and so would no more."""
        for key in settings:
            if len({row.settings.get(key) for row in self.rows}) > 1:
                raise MinimixError(
                    f"{self.source}: {key} differs from row to row, so it cannot be set for all"
                )
        rows = (replace(row, settings={**row.settings, **settings}) for row in self.rows)
        return replace(self, rows=tuple(rows))

    def contrasts(self) -> Iterator[tuple[str, Row, Row]]:
        """Every (factor, row, the row that differs from it in this factor, where it has the
        baseline)."""
        by_levels = {row.levels: row for row in self.rows}
        for i, (factor, levels) in enumerate(self.factors.items()):
            for row in self.rows:
                if row.levels[i] != levels[0]:
                    yield factor, row, by_levels[(*row.levels[:i], levels[0], *row.levels[i + 1 :])]

    def check(self, data: Dataset) -> None:
        """Raise MinimixError where a row cannot be trained on these images."""
        tried = set()
        for row in self.rows:
            try:
                config = row.config().complete()
                part = config.limited(data)
                config.check_data(part)
                about = config.model, dict(config.model_settings), config.batch_size, config.whiten
                early = config.early_epochs > 0, config.early_size, len(part.train_images)
                if repr((about, early)) not in tried:
                    network(config, part)
                    tried.add(repr((about, early)))
            except (ValueError, MinimixError) as error:
                raise self.wrong(row.name, error) from error

    def wrong(self, where: str, error: object) -> MinimixError:
        """The error that something is wrong with a part of this study."""
        return wrong(self.source, where, error)


def wrong(source: str, where: str, error: object) -> MinimixError:
    # A study has the library's names for settings, so nobody is to read them as options.
    return MinimixError(f"{source}: {where}: {str(error).replace('`', '')}")


def read_study(name: str, seeds: int | None = None) -> Study:
    """The preset of this name, or the study in this TOML file.

    seeds  use the seeds 0 … seeds − 1 instead of the study's own

    Errors: MinimixError, in one line that names the place, where there is none, it is not TOML, or
    something in it is not known or makes no sense.
    """
    known = name in presets.NAMES
    text = _read(str(presets.FOLDER / f"{name}.toml") if known else name)
    try:
        content = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise MinimixError(f"{name} is not TOML: {error}") from error
    return replace(parse(content, name if known else Path(name).stem, name, seeds), text=text)


def _read(name: str) -> str:
    try:
        return Path(name).read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise MinimixError(f"{name} is not TOML: line {line} is not UTF-8") from error
    except OSError as error:
        if name.endswith(".toml") or "/" in name:
            raise MinimixError(f"cannot read {name}: {error.strerror or error}") from error
        meant = difflib.get_close_matches(name, presets.NAMES, n=1)
        hint = f"did you mean {meant[0]}?" if meant else f"there are {', '.join(presets.NAMES)}"
        raise MinimixError(f"there is no study {name!r}; {hint} (or a TOML file)") from error


def parse(content: Mapping[str, Any], name: str, source: str, seeds: int | None = None) -> Study:
    """The study that these tables describe."""
    for key in content:
        if key not in PARTS:
            raise MinimixError(f"{source}: {key} is not a part of a study{_near(key, PARTS)}")
    for key in ("title", "about", "data"):
        if not isinstance(content.get(key, ""), str):
            raise MinimixError(f"{source}: {key} is {content[key]!r}; expected a text")
    shared = _table(content, "settings", source)
    factors: dict[str, dict[str, dict[str, Any]]] = {}
    for key in ("models", "variants"):
        if key in content:
            factors[key.removesuffix("s")] = _levels(content, key, source)
    for label, settings in factors.get("model", {}).items():
        if label in FAMILIES and "model" not in shared:
            settings.setdefault("model", label)
    for key, values in _table(content, "grid", source).items():
        if not isinstance(values, list) or not values:
            raise wrong(source, "[grid]", f"{key} is {values!r}; expected a list of values")
        if len(set(map(repr, values))) < len(values):
            raise wrong(source, "[grid]", f"{key} has a value twice: {values}")
        if key in factors:
            raise wrong(source, "[grid]", f"{key} is a factor already: the table [{key}s]")
        factors[key] = {f"{key} {value}": {key: value} for value in values}
    n_rows = 1
    for levels in factors.values():
        n_rows *= len(levels)
    found = _seeds(content.get("seeds", 1), source) if seeds is None else tuple(range(seeds))
    if not 0 < n_rows * len(found) <= MOST_RUNS:
        raise MinimixError(
            f"{source} asks for {n_rows * len(found):,} trainings; expected 1 to {MOST_RUNS:,}"
        )

    rows = []
    for chosen in product(*(levels.items() for levels in factors.values())):
        settings = dict(shared)
        for _, more in chosen:
            settings |= more
        rows.append(Row(tuple(name for name, _ in chosen), settings))
    study = Study(
        name,
        source,
        "",
        content.get("title", name),
        content.get("about", ""),
        content.get("data", "auto"),
        found,
        {factor: tuple(levels) for factor, levels in factors.items()},
        tuple(rows),
    )
    for row in rows:
        for key in OVERALL:
            if key in row.settings:
                way = "seeds" if key == "seed" else f"--{key}"
                raise study.wrong(row.name, f"{key} is not a row's own setting; give {way}")
        try:
            config = row.config()
        except (ValueError, MinimixError) as error:
            raise study.wrong(row.name, error) from error
        for key in SAME:
            if (mine := getattr(config, key)) != (first := getattr(rows[0].config(), key)):
                how = f"{key} is {mine}, but {first} in {rows[0].name}"
                raise study.wrong(row.name, f"{how}; all rows see the same images")
    seen: dict[str, Row] = {}
    for row in rows:
        other = seen.setdefault(row.folder.lower(), row)
        if other is not row:
            raise study.wrong(row.name, f"its name is too much like that of {other.name}")
    return study


def _table(content: Mapping[str, Any], key: str, source: str) -> dict[str, Any]:
    found = content.get(key, {})
    if not isinstance(found, dict):
        raise MinimixError(f"{source}: {key} is {found!r:.40}; expected a table, [{key}]")
    return found


def _levels(content: Mapping[str, Any], key: str, source: str) -> dict[str, dict[str, Any]]:
    """The levels of a factor and their settings."""
    levels = _table(content, key, source)
    if not levels:
        raise MinimixError(f"{source}: [{key}] has nothing in it, so there is nothing to train")
    for name in levels:
        if not name.strip() or not name.isprintable() or len(name) > 60:
            raise MinimixError(f"{source}: {name!r:.80} in [{key}] is not fit for a name")
        _table(levels, name, source)
    return levels


def _seeds(value: Any, source: str) -> tuple[int, ...]:
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return tuple(range(value))
    whole = isinstance(value, list) and value and all(type(one) is int for one in value)
    if whole and len(set(value)) == len(value):
        return tuple(value)
    raise MinimixError(
        f"{source}: seeds is {value!r:.60}; expected how many, or a list of different numbers"
    )


def _near(name: str, known: Sequence[str]) -> str:
    meant = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {meant[0]}?" if meant else f" (those are {', '.join(known)})"


# ---- settings


def make_config(settings: Mapping[str, Any]) -> Config:
    """The settings of a training, by the names of `minimix train`.

    Errors: ValueError for a name that is not known, or a value that makes no sense.
    """
    model = settings.get("model", "convmixer")
    if not isinstance(model, str):
        raise ValueError(f"model is {model!r}; expected the name of a family, or a class in a file")
    known = [*settings_of(model), *SETTINGS]
    for key in settings:
        if key not in known:
            meant = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {meant[0]}?" if meant else "minimix train --help lists them"
            raise ValueError(f"{key} is not a setting of {described(model, {})}; {hint}")
    return recipe(**settings)
