"""Which network is trained: a family by its name, or a class in a file of yours; and its settings.

A network's settings are the keyword arguments of its constructor, with their names, types and
defaults. Four of them are not the user's business, and filled in where the constructor takes them:
n_classes, in_channels, image_size (one number, or height and width), and rng.
"""

from __future__ import annotations

import difflib
import hashlib
import inspect
import itertools
import math
import os
import re
import sys
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Union

import numpy as np

from ..errors import CheckpointError, MinimixError
from ..files import expand
from ..models import FAMILIES, sizes
from ..nn import Module

FILLED_IN = ("n_classes", "in_channels", "image_size", "rng")
GIVEN = "python:"  # before the class of a network that was made in Python
REQUIRED: Any = inspect.Parameter.empty
MOST = {"depth": 1000}  # of a setting that is a whole number
MOST_OTHERWISE = 65_536
PLAIN, SEVERAL, UNIONS = (int, float, bool, str), (tuple, list, Sequence), (Union, types.UnionType)

# What a family's settings are unless others are given: about 0.16 million parameters on CIFAR-10.
DEFAULTS: dict[str, dict[str, Any]] = {
    "convmixer": {"hidden_dim": 128, "depth": 8, "kernel_size": 5, "patch_size": 4},
    "vit": {"hidden_dim": 64, "depth": 3, "n_heads": 4, "patch_size": 4},
    "resmlp": {"hidden_dim": 64, "depth": 4, "patch_size": 4},
    "mlp_mixer": {"hidden_dim": 64, "depth": 4, "patch_size": 4},
    "resnet": {"depth": 14},
}


class NotMadeAgainError(CheckpointError):
    """A run's network is of the user's code, which is not at hand."""


@dataclass(frozen=True)
class Setting:
    """A setting of a network.

    kind      int, float, bool or str; `many` of them, in a tuple, where the constructor takes that
    choices   the values allowed, where these are few
    optional  whether it may be None
    default   REQUIRED where there is none
    help      what the class's docstring says of it
    """

    name: str
    kind: type
    default: Any
    choices: tuple[Any, ...] = ()
    many: bool = False
    optional: bool = False
    help: str = ""

    def checked(self, value: Any) -> Any:
        """The value as the constructor takes it. ValueError if it is not of this kind."""
        if self.optional and value is None:
            return None
        if self.many:
            if not isinstance(value, (list, tuple)):
                raise ValueError(f"`{self.name}` is {value!r:.60}; expected several values")
            return tuple(map(self._one, value))
        return self._one(value)

    def _one(self, value: Any) -> Any:
        fits: tuple[type, ...] = (int, float) if self.kind is float else (self.kind,)
        if not isinstance(value, fits) or (isinstance(value, bool) and self.kind is not bool):
            raise ValueError(
                f"`{self.name}` is {value!r:.60}; expected a value of type {self.kind.__name__}"
            )
        if self.choices and value not in self.choices:
            raise ValueError(
                f"`{self.name}` is {value!r:.60}; expected {', '.join(map(str, self.choices))}"
            )
        most = MOST.get(self.name, MOST_OTHERWISE)
        if isinstance(value, int) and value > most:
            raise ValueError(f"`{self.name}` is {value}; expected at most {most:,}")
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"`{self.name}` is {value}; expected a finite number")
        return value


def is_own(name: str) -> bool:
    """Whether this names a class in a file, as in my_net.py:Net."""
    return ".py" in name and not is_given(name)


def is_given(name: str) -> bool:
    """Whether this stands for a network that was made in Python: python:Net."""
    return name.startswith(GIVEN)


def class_of(name: str) -> type[Module]:
    """The class of a family, or of "file.py:Class".

    Errors: ValueError where there is no such family; MinimixError, naming file and line, where the
    class cannot be had from the file.
    """
    if is_own(name):
        return _own_class(name)
    if is_given(name):
        raise NotMadeAgainError(
            f"this network, {_title(name)}, was made in Python; make it there again, and load its "
            "weights into it: minimix.load_model(RUN, model=...)"
        )
    if name not in FAMILIES:
        near = difflib.get_close_matches(name, FAMILIES, n=1, cutoff=0.5)
        meant = f"did you mean {near[0]}? " if near else ""
        raise ValueError(
            f"`model` is {name!r:.60}; {meant}There are {', '.join(FAMILIES)}, "
            "and classes of your own, as my_net.py:Net"
        )
    return FAMILIES[name]


def sized(name: str) -> tuple[str, dict[str, Any]]:
    """The family and the settings behind a name of `models.create`; others as they are."""
    if is_own(name) or is_given(name) or name in FAMILIES:
        return name, {}
    found = sizes().get(name)
    return (found.family, dict(found.settings)) if found else (name, {})


def settings_of(name: str) -> dict[str, Setting]:
    """The settings of a network, by name, in the order of its constructor; those with their
    family's default where it has one. Errors: as `class_of`."""
    if is_given(name):
        return {}
    family, given = sized(name)
    cls, usual = class_of(family), given or DEFAULTS.get(family, {})
    try:
        hints = typing.get_type_hints(cls.__init__)
    except Exception:  # an annotation that means nothing here: the defaults have types too
        hints = {}
    found = {}
    for p in inspect.signature(cls).parameters.values():
        if p.name in FILLED_IN or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD, p.POSITIONAL_ONLY):
            continue
        default = usual.get(p.name, p.default)
        setting = _setting(p.name, hints.get(p.name), default)
        if setting:
            found[p.name] = replace(setting, help=_help(cls, p.name))
        elif default is REQUIRED:
            raise MinimixError(
                f"{_where(cls)}: {cls.__name__}'s argument {p.name!r} needs an annotation or a "
                "default: int, float, bool, str, a Literal, or a tuple of these"
            )
    return found


def completed(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a network: those given, checked, and the defaults of the others.

    Errors: ValueError, naming it, for a setting that it does not have or that has no value.
    """
    known = settings_of(name)
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            meant = f"; did you mean `{near[0]}`?" if near else ""
            listed = ", ".join(f"`{k}`" for k in known) or "none"
            raise ValueError(
                f"`{key}` is not a setting of {_title(name)}{meant} (its settings: {listed})"
            )
    missing = [s.name for s in known.values() if s.default is REQUIRED and s.name not in given]
    if missing:
        raise ValueError(f"`{missing[0]}` of {_title(name)} has no default; give it a value")
    return {key: s.checked(given[key]) if key in given else s.default for key, s in known.items()}


def described(name: str, settings: Mapping[str, Any]) -> str:
    """The network in words: its class, its sizes, and what differs from its constructor."""
    try:
        own = dict(inspect.signature(class_of(name)).parameters)
    except (MinimixError, ValueError):  # a class of the user's that is gone
        own = {}
    sizes = DEFAULTS.get(name, {})
    shown = [
        f"{key.replace('_', ' ')} {_shown(value)}"
        for key, value in settings.items()
        if key in sizes or key not in own or own[key].default != value
    ]
    return ", ".join([_title(name), *shown])


def build(
    name: str,
    settings: Mapping[str, Any],
    *,
    n_classes: int,
    image_size: tuple[int, int],
    in_channels: int = 3,
    rng: np.random.Generator | int = 0,
) -> Module:
    """The network, with what its constructor takes beside its settings.

    Errors: ValueError where its constructor refuses a setting; MinimixError, naming file and line,
    where a class of the user's fails, or is not a Module.
    """
    cls = class_of(name)
    height, width = image_size
    offered = {
        "n_classes": n_classes,
        "in_channels": in_channels,
        "image_size": height if height == width else (height, width),
        "rng": rng,
    }
    takes = inspect.signature(cls).parameters
    filled = {key: value for key, value in offered.items() if key in takes}
    try:
        with blaming(name):
            return cls(**completed(name, settings), **filled)
    except (ValueError, TypeError) as error:
        # "ViT: depth is −1" -> "`depth` is −1", which the command line makes --depth of.
        text = str(error).removeprefix(f"{cls.__name__}: ")
        names = "|".join(sorted(settings, key=len, reverse=True))
        text = re.sub(rf"(?<![`\w])({names})(?![`\w])", r"`\1`", text) if names else text
        raise ValueError(text) from error


def _setting(name: str, hint: Any, default: Any) -> Setting | None:
    """A setting from its annotation and its default; None where it is no plain value."""
    if hint is None:
        hint = type(default) if default not in (REQUIRED, None) else None
    members = typing.get_args(hint) if typing.get_origin(hint) in UNIONS else (hint,)
    optional = type(None) in members
    for member in members:
        origin, inside = typing.get_origin(member), typing.get_args(member)
        if member in PLAIN:
            return Setting(name, member, default, optional=optional)
        if origin is Literal:
            return Setting(name, type(inside[0]), default, inside, optional=optional)
        if member in SEVERAL and isinstance(default, (tuple, list)) and default:
            inside = (type(default[0]),)
        if (member in SEVERAL or origin in SEVERAL) and inside and inside[0] in PLAIN:
            return Setting(name, inside[0], default, many=True, optional=optional)
    return None


def _help(cls: type[Module], name: str) -> str:
    """What a docstring says of an argument: "depth    the number of blocks", and lines below."""
    docs = [inspect.cleandoc(base.__doc__ or "").splitlines() for base in cls.__mro__]
    lines = list(itertools.chain.from_iterable(docs))
    for i, line in enumerate(lines):
        if found := re.match(rf"{name}\s\s+(?=\S)", line):
            more = itertools.takewhile(
                lambda x: x[: found.end()].isspace() and x.strip(), lines[i + 1 :]
            )
            return " ".join([line[found.end() :], *(x.strip() for x in more)])
    return ""


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return "-".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _title(name: str) -> str:
    """ConvMixer; of a class in a file, Net (my_net.py)"""
    if not is_own(name):
        return FAMILIES[name].__name__ if name in FAMILIES else name.removeprefix(GIVEN)
    path, cls = _split(name)
    return f"{cls} ({path.name})" if cls else str(path)


# ---- classes of the user's own

_loaded: dict[tuple[str, str], types.ModuleType] = {}  # by path and sha256


def absolute(name: str) -> str:
    """The same name, from whatever folder it is read: my_net.py:Net -> /home/…/my_net.py:Net"""
    if not is_own(name):
        return name
    path, cls = _split(name)
    return f"{path}:{cls}" if cls else str(path)


def _split(name: str) -> tuple[Path, str]:
    """The file's absolute path and the class's name, which may be missing."""
    path, colon, cls = name.rpartition(":")
    if not (colon and path.endswith(".py")):
        path, cls = name, ""
    return Path(os.path.abspath(expand(path))), cls


def code_of(name: str) -> str | None:
    """The text of the file that a class of the user's is in; None for a family.

    Errors: MinimixError where it cannot be read.
    """
    return _read(_split(name)[0]) if is_own(name) else None


def sha256_of(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()


@contextmanager
def blaming(name: str) -> Iterator[None]:
    """What goes wrong in the user's file is said in one line that names the file and its line."""
    if not is_own(name):
        yield
        return
    path = str(_split(name)[0])
    try:
        yield
    except MinimixError:
        raise
    except Exception as error:
        line = _line_in(path, error)
        if line is None:
            raise
        what = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}".rstrip(": ")
        raise MinimixError(f"{path}, line {line}: {what}") from error


def _line_in(path: str, error: BaseException) -> int | None:
    """The innermost line of this file that an error came through; None if it did not."""
    if isinstance(error, SyntaxError) and error.filename == path:
        return error.lineno
    line, at = None, error.__traceback__
    while at is not None:
        if at.tb_frame.f_code.co_filename == path:
            line = at.tb_lineno
        at = at.tb_next
    return line


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        raise MinimixError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise MinimixError(f"{path} is not a Python file: it is not text in UTF-8") from error


def _own_class(name: str) -> type[Module]:
    path, cls_name = _split(name)
    module = _module(path)
    own = [
        key
        for key, value in vars(module).items()
        if inspect.isclass(value)
        and issubclass(value, Module)
        and value.__module__ == module.__name__
    ]
    classes = ", ".join(own) or "none"
    if not cls_name:
        raise MinimixError(
            f"name a class of {name} as well, as {name}:{own[0] if own else 'Net'} "
            f"(its Modules: {classes})"
        )
    cls = getattr(module, cls_name, None)
    if cls is None:
        near = difflib.get_close_matches(cls_name, own, n=1)
        meant = f"; did you mean {near[0]}?" if near else ""
        raise MinimixError(f"{path} has no class {cls_name}{meant} (its Modules: {classes})")
    if not (inspect.isclass(cls) and issubclass(cls, Module)):
        what = f"subclasses {cls.__mro__[1].__name__}" if inspect.isclass(cls) else "is no class"
        if inspect.isclass(cls) and cls.__mro__[1] is object:
            what = "is a plain class"
        where = _where(cls) if inspect.isclass(cls) else path
        raise MinimixError(f"{where}: {cls_name} {what}; expected a subclass of minimix.Module")
    return cls


def _module(path: Path) -> types.ModuleType:
    """The module that a file is, run once for each content."""
    code = _read(path)
    key = (str(path), sha256_of(code))
    if key not in _loaded:
        module = types.ModuleType(f"{path.stem}_{key[1][:12]}")
        module.__file__ = str(path)
        sys.path.insert(0, str(path.parent))  # it may import its neighbors
        sys.modules[module.__name__] = module  # where dataclasses and pickle look for it
        try:
            with blaming(str(path)):
                exec(compile(code, str(path), "exec"), vars(module))
        except BaseException:
            del sys.modules[module.__name__]
            raise
        finally:
            sys.path.remove(str(path.parent))
        _loaded[key] = module
    return _loaded[key]


def _where(cls: Any) -> str:
    """File and line of a class, as far as that is known."""
    try:
        path = inspect.getsourcefile(cls)
        return f"{path}, line {inspect.getsourcelines(cls)[1]}"
    except (TypeError, OSError):
        return getattr(cls, "__name__", repr(cls))
