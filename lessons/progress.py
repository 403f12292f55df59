"""Which exercises in a student's notebooks are solved: `minimix lessons --check`, or `--json`.

A notebook is run in a process of its own, top to bottom and as far as its checks need: what defines
a name that a check uses, directly or through other names, and the checks. Training, timing and
pictures are left out.
"""

from __future__ import annotations

import ast
import builtins
import json
import linecache
import os
import re
import subprocess
import symtable
import sys
import threading
import types
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minimix.errors import MinimixError

from . import check, folders
from .exercise import described
from .limits import TooLong, time_limit

LIMIT = 30.0  # seconds of computing for one statement
PATIENCE = 60.0  # seconds for one that waits, or cannot be interrupted


def show(folder: Path, *, as_json: bool = False) -> None:
    """Print a line for each exercise as it is checked, and at last how many are solved.

    as_json  print one JSON document instead, for grading: {"solved", "total", "exercises": [{
             "exercise", "passed", "said"}, …]}

    Errors: MinimixError where there is no such folder, or no lesson in it.
    """
    if not folder.is_dir():
        raise MinimixError(f"there is no folder {folder}; `minimix lessons {folder}` makes one")
    names = [lesson.name for lesson in folders()]
    if not any((folder / f"{name}.ipynb").exists() for name in names):
        raise MinimixError(
            f"there are no lessons in {folder}; `minimix lessons {folder}` copies them"
        )

    def say(line: str) -> None:
        if not as_json:
            print(line, flush=True)

    results = []
    for name in names:
        say(name)
        for event in _checked(folder / f"{name}.ipynb"):
            if event.exercise:
                results.append(event)
                mark = "✓" if event.passed else "·"
                say(f"  {mark} {event.exercise.ljust(24)} {event.text}".rstrip())
            else:
                say(f"  {event.text}")
    solved = sum(event.passed for event in results)
    say(f"\n{solved} of {len(results)} exercises solved")
    if as_json:
        listed = [{"exercise": e.exercise, "passed": e.passed, "said": e.text} for e in results]
        document = {"solved": solved, "total": len(results), "exercises": listed}
        print(json.dumps(document, ensure_ascii=False, indent=1))


def _checked(notebook: Path) -> Iterator[Event]:
    """What came of each exercise of a lesson, and of those that could not be checked."""
    missing = {exercise.name: None for exercise in check.exercises(notebook.name[:2])}
    try:
        for event in examine(notebook):
            if event.exercise in missing or not event.exercise:
                missing.pop(event.exercise, None)
                yield event
        why = "its check cell is missing"
    except MinimixError as error:
        yield Event(str(error))
        why = "not checked"
    yield from (Event(why, exercise) for exercise in missing)


@dataclass(frozen=True)
class Event:
    """What is said about an exercise, or, where `exercise` is empty, about the notebook."""

    text: str
    exercise: str = ""
    passed: bool = False


def examine(notebook: Path, limit: float = LIMIT, patience: float = PATIENCE) -> Iterator[Event]:
    """Run the checks of a notebook in another process: what came of each, as it comes.

    Errors: MinimixError where the file cannot be read as a notebook, or its code hangs or ends
    Python.
    """
    code_cells(notebook)  # where it cannot be read, that is said here
    with subprocess.Popen(
        [sys.executable, "-m", "lessons.progress", notebook.name, str(limit)],
        cwd=notebook.parent,
        env=os.environ | {"MPLBACKEND": "agg", "PYTHONIOENCODING": "utf-8"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
    ) as process:
        assert process.stdout
        place, ended, hangs = "", False, threading.Event()

        def stop() -> None:
            hangs.set()
            process.kill()

        watch = threading.Timer(patience, stop)
        try:
            for line in process.stdout:
                watch.cancel()
                watch = threading.Timer(patience, stop)
                watch.start()
                kind, *said = json.loads(line)
                if kind == "event":
                    yield Event(*said)
                elif kind == "at":
                    (place,) = said
                ended = kind == "end"
        finally:
            watch.cancel()
            process.kill()
    if hangs.is_set():
        raise MinimixError(f"{place} was still running after {patience:g} s, and was stopped")
    if not ended:
        raise MinimixError(f"Python ended in {place or 'its first cell'}")


def code_cells(notebook: Path) -> list[str]:
    """The texts of a notebook's code cells, without what only Jupyter understands.

    Errors: MinimixError where the file cannot be read as a notebook.
    """
    try:
        book = json.loads(notebook.read_text(encoding="utf-8"))
        sources = [c["source"] for c in book["cells"] if c["cell_type"] == "code"]
        return [python("".join(source)) for source in sources]
    except FileNotFoundError:
        raise MinimixError(
            f"{notebook.name} is missing; `minimix lessons {notebook.parent}` copies it"
        ) from None
    except OSError as error:
        raise MinimixError(f"{notebook.name} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise MinimixError(
            f"{notebook.name} is damaged: not a notebook. Move it away, and "
            f"`minimix lessons {notebook.parent}` copies a new one"
        ) from None


def python(cell: str) -> str:
    """A cell with its magics and shell commands replaced by nothing, what they give by None."""
    with suppress(SyntaxError, ValueError):
        ast.parse(cell)  # a line of Python may begin with % as well
        return cell
    if re.match(r"\s*%%(?!time|timeit|capture|prun)", cell):
        return ""  # in another language, or for a file
    cell = re.sub(r"(?m)^(\s*\w+ *= *)(%|!)(?!=).*", r"\1None", cell)
    return re.sub(r"(?m)^(\s*)(%|!|\?|[\w.]+\?+\s*$).*", r"\1pass", cell)


# ---- in the notebook's own process


def run(title: str, cells: list[str], limit: float) -> Iterator[tuple[Any, ...]]:
    """Run what the checks in a notebook's cells need, and the checks.

    Yields ("at", place) before each statement, ("event", …) with what makes an `Event`, ("end",).
    """
    faults: dict[str, str] = {}  # a name that is not defined -> why
    statements: list[Statement] = []
    for number, cell in enumerate(cells, 1):
        place = f"code cell {number}"
        file = f"<{title}, {place}>"
        linecache.cache[file] = len(cell), None, cell.splitlines(keepends=True), file
        try:
            statements += [Statement(node, place, file) for node in ast.parse(cell, file).body]
        except SyntaxError as error:
            why = f"{type(error).__name__}: {error.msg} ({place}, line {error.lineno})"
            yield "event", why
            faults |= dict.fromkeys(re.findall(r"(?m)^(?:def |class )?\s*(\w+)", cell), why)
            for exercise in re.findall(r"""\bcheck\(\s*["']([\w.]+)""", cell):
                yield "event", why, exercise, False

    results: dict[str, check.Report] = {}

    class Recording(check.Check):
        def __call__(self, name: str, answer: check.Answer) -> check.Report:
            results[name] = super().__call__(name, answer)
            return results[name]

    check.check = Recording()  # what the notebook imports
    space = types.ModuleType("__main__")
    sys.modules["__main__"] = space
    todo = needed(statements)
    left = Counter(exercise for statement in todo for exercise in statement.checks)
    for statement in todo:
        yield "at", statement.place
        why = ""
        try:
            with time_limit(limit):
                exec(statement.code(), space.__dict__)
        except NotImplementedError as error:
            why = check.not_written(error)
        except (Exception, SystemExit, TooLong) as error:
            why = f"{described(error)} ({statement.place})"
        if why:
            faults |= dict.fromkeys(statement.defines, why)
            for exercise in set(statement.checks) - set(results):
                results[exercise] = check.Report(exercise, False, (why,))
        left.subtract(statement.checks)
        for exercise, report in list(results.items()):
            if report.passed or left[exercise] <= 0:
                del results[exercise]
                why = "" if report.passed else report.summary
                if undefined := re.search(r"NameError: name '(\w+)' is not defined", repr(report)):
                    why = faults.get(undefined[1], why)
                yield "event", why, exercise, report.passed
    yield ("end",)


@dataclass(eq=False)
class Statement:
    """A statement of a notebook that is in no function or class.

    defines   the names that it gives a meaning to, or changes; "*" for a star import
    uses      the names that it reads
    checks    the exercises that it checks
    """

    node: ast.stmt
    place: str
    file: str
    defines: set[str] = field(default_factory=set)
    uses: set[str] = field(default_factory=set)
    checks: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        table = symtable.symtable(ast.unparse(self.node), self.file, "exec")
        self.uses |= read_in(table)
        self.defines |= {
            s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported()
        }
        for node in _outside_functions(self.node):
            match node:
                case ast.ImportFrom(names=[ast.alias("*")]):
                    self.defines.add("*")
                case ast.NamedExpr(ast.Name(name)):  # inside [… for …] too
                    self.defines.add(name)
                # `Value.__add__ = add`, `del table["x"]`, `names.append(x)` change the first name
                case ast.Attribute(ctx=ast.Store() | ast.Del()):
                    self.defines |= _root(node)
                case ast.Subscript(ctx=ast.Store() | ast.Del()):
                    self.defines |= _root(node)
                case ast.Expr(ast.Call(ast.Attribute() as method)):
                    self.defines |= _root(method)
                case ast.Call(ast.Name("setattr"), [changed, *_]):
                    self.defines |= _root(changed)
                case ast.Call(ast.Name("check") | ast.Attribute(attr="check"), arguments):
                    self.uses.add("check")
                    match arguments:
                        case [ast.Constant(str(exercise)), *_]:
                            self.checks.append(exercise)

    def code(self) -> types.CodeType:
        return compile(ast.Module([self.node], []), self.file, "exec")


def read_in(table: symtable.SymbolTable) -> set[str]:
    """The names outside of functions and classes that a statement reads, in functions too."""
    outside = table.get_type() == "module"
    names = {
        s.get_name()
        for s in table.get_symbols()
        if s.is_referenced() and (outside or s.is_global())
    }
    return names.union(*(read_in(inner) for inner in table.get_children()))


def _outside_functions(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
        for child in ast.iter_child_nodes(node):
            yield from _outside_functions(child)


def _root(node: ast.AST) -> set[str]:
    """The name that an expression such as `a.b[c].d` begins with."""
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return {node.id} if isinstance(node, ast.Name) else set()


def needed(statements: list[Statement]) -> list[Statement]:
    """The checks, and what they need: what defines a name that they use, and so on."""
    kept = {s for s in statements if "check" in s.uses or "*" in s.defines}
    modules = {
        name
        for s in statements
        if isinstance(s.node, (ast.Import, ast.ImportFrom))
        for name in s.defines
    }
    while True:
        names = set().union(*(s.uses for s in kept))
        more = {
            s
            for s in statements
            if s.defines & names and not (isinstance(s.node, ast.Expr) and s.defines <= modules)
        }
        if more <= kept:
            return [s for s in statements if s in kept]
        kept |= more


def main(name: str, limit: str) -> None:
    """Run a notebook of the current folder: what `run` yields as lines of JSON on standard output.

    What the student's code prints goes nowhere, and it is told that nobody answers `input()`.
    """

    def unanswered(prompt: object = "") -> str:
        raise RuntimeError("input() gets no answer while exercises are checked")

    cells = code_cells(Path(name))
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as channel:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        builtins.input = unanswered
        for line in run(name, cells, float(limit)):
            print(json.dumps(line), file=channel, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
