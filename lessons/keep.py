"""What a student has written, as a small package of their own: `mymix/`, beside the notebooks.

    keep("05", cut, join, patchify)     checks them, and writes them to mymix/patches.py
    mine("05.patchify")                 the student's own, checked again; ours where there is none

A file of mymix holds the functions as they were written, with whatever else of the notebook they
use: other functions, classes, constants and imports.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import itertools
import linecache
import pprint
import symtable
import sys
import textwrap
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from minimix.errors import MinimixError
from minimix.files import write

from . import folders
from .check import examine, exercises
from .exercise import Exercise
from .progress import read_in

PACKAGE = Path("mymix")


def _file(lesson: str) -> Path:
    (folder,) = (f for f in folders() if f.name.startswith(f"{lesson}_"))
    return PACKAGE / f"{folder.name[3:]}.py"


def _exercise(name: str) -> Exercise:
    known = {e.name: e for e in exercises(name[:2])}
    if name not in known:
        raise ValueError(f"there is no exercise {name!r}; there is {', '.join(known)}")
    return known[name]


def keep(lesson: str, *functions: Callable[..., Any]) -> None:
    """Write the functions of lesson "NN" to mymix/, if every one of them is right.

    Prints what was written, or which function is not right yet.
    """
    wrong = [
        name
        for f in functions
        if not examine(_exercise(name := f"{lesson}.{f.__name__}"), f).passed
    ]
    if wrong:
        print(f"nothing is kept yet: {', '.join(wrong)} {'is' if len(wrong) == 1 else 'are'} wrong")
        return
    try:
        text = source(functions)
    except (OSError, TypeError) as error:
        raise MinimixError(f"the code of {lesson} cannot be found: {error}") from None
    PACKAGE.mkdir(exist_ok=True)
    (PACKAGE / "__init__.py").touch()
    write(_file(lesson), text.encode())
    print(f"{_file(lesson).as_posix()}: {', '.join(f.__name__ for f in functions)}")


def mine(name: str) -> Callable[..., Any]:
    """The student's answer to an exercise, from mymix/; where that is missing or wrong, ours.

    Prints a line where it is ours.
    """
    exercise, path = _exercise(name), _file(name[:2])
    answer = getattr(_loaded(path), name[3:], None) if path.exists() else None
    if answer is not None and examine(exercise, answer).passed:
        return answer
    why = f"is not right in {path}" if answer else "is not in mymix yet"
    print(f"{name} {why}: this is ours")
    return exercise.reference


def _loaded(path: Path) -> types.ModuleType:
    """A file of mymix as a module, loaded anew."""
    name = f"mymix.{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


# ---- the text of a file


def source(functions: tuple[Callable[..., Any], ...]) -> str:
    """The code of functions, after that of everything else in their notebook which they use."""
    imports: dict[str, None] = {}
    code: dict[str, str] = {}
    for function in functions:
        _collect(function.__name__, function, imports, code)
    head = "".join(f"{line}\n" for line in sorted(imports))
    return "\n\n".join([head, *code.values()]).lstrip()


def _collect(name: str, value: Any, imports: dict[str, None], code: dict[str, str]) -> None:
    plain = getattr(value, "py_func", value)
    if isinstance(plain, types.ModuleType):
        imports[f"import {plain.__name__}" + ("" if plain.__name__ == name else f" as {name}")] = (
            None
        )
    elif isinstance(plain, itertools.count):
        imports["import itertools"] = None
        code[name] = f"{name} = itertools.count()\n"
    elif isinstance(plain, (types.FunctionType, type)) and _of_a_notebook(plain):
        if name in code:
            return
        code[name] = ""  # its place, should it use itself
        text, space = _text(plain), _function(plain).__globals__
        for used in _names(text):
            if used in space and used != name:
                _collect(used, space[used], imports, code)
        del code[name]
        code[name] = text
    elif hasattr(plain, "__module__") and hasattr(plain, "__name__"):
        known = plain.__name__
        line = f"from {plain.__module__} import {known}"
        imports[line if known == name else f"{line} as {name}"] = None
    else:
        if type(plain).__module__ == "numpy":
            imports["import numpy as np"] = None
        code[name] = f"{name} = {pprint.pformat(plain)}\n"


def _of_a_notebook(value: Any) -> bool:
    return value.__module__ == "__main__"


def _function(value: Any) -> types.FunctionType:
    """A function; of a class, one that was written in it."""
    if isinstance(value, types.FunctionType):
        return value
    for method in vars(value).values():
        written = isinstance(method, types.FunctionType)
        if written and method.__qualname__ == f"{value.__qualname__}.{method.__name__}":
            return method
    raise TypeError(f"{value.__name__} has no method")


def _text(value: Any) -> str:
    """The source of a function or class of a notebook; `inspect` does not find such classes."""
    if isinstance(value, types.FunctionType):
        text = textwrap.dedent(inspect.getsource(value))
        if value.__name__ not in text:  # lines of another file, as after a change on disk
            raise OSError(f"the source of {value.__name__} is not known")
        return text
    cell = "".join(linecache.getlines(_function(value).__code__.co_filename))
    for node in ast.parse(cell).body:
        if isinstance(node, ast.ClassDef) and node.name == value.__name__:
            return (ast.get_source_segment(cell, node) or "") + "\n"
    raise OSError(f"the source of {value.__name__} is not known")


def _names(text: str) -> Iterator[str]:
    """The names that code reads from its notebook, in order; not those that it defines itself."""
    read = read_in(symtable.symtable(text, "<code>", "exec"))
    names = (n.id for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Name))
    return (name for name in dict.fromkeys(names) if name in read)
