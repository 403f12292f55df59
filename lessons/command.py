"""`minimix lessons`: the notebooks in a folder of the student's own, and how far one has come.

minimix lessons [DIR]            copy them to DIR, never over existing work; open JupyterLab
minimix lessons --check [DIR]    which exercises there are solved
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, TypeGuard

from minimix.errors import MinimixError

from . import ROOT, folders
from .check import Report, check, exercises

DEFAULT = Path("minimix-lessons")


def notebooks() -> list[Path]:
    """The student notebooks as they came with minimix, in order."""
    return [ROOT / f"{folder.name}.ipynb" for folder in folders()]


def main(
    folder: Path | str = DEFAULT, *, check_progress: bool = False, open_lab: bool = True
) -> int:
    """What `minimix lessons` does; returns the exit code.

    Errors: MinimixError where the folder is missing or a file, or JupyterLab is not installed.
    """
    folder = Path(folder)
    if check_progress:
        print(progress(folder))
        return 0
    first = folder / notebooks()[0].name
    begun = first.exists()
    for line in copy(folder):
        print(line)
    return open_jupyter(folder if begun else first) if open_lab else 0


# ---- copying


def edition(path: Path) -> str:
    """Which edition of a lesson a notebook was made from; "" where it does not say."""
    try:
        book = json.loads(path.read_text(encoding="utf-8"))
        return book["metadata"]["minimix"]["edition"]
    except (ValueError, KeyError, TypeError):
        return ""


def copy(folder: Path) -> list[str]:
    """Put the notebooks into a folder; what was done, a line each.

    A notebook that is there is never touched. If it is of an older edition, the new one is put
    beside it as NN_name.new.ipynb.
    """
    if folder.exists() and not folder.is_dir():
        raise MinimixError(f"{folder} is a file; name a folder for the lessons")
    folder.mkdir(parents=True, exist_ok=True)
    new, kept, lines = 0, 0, []
    for source in notebooks():
        mine = folder / source.name
        if not mine.exists():
            shutil.copyfile(source, mine)
            new += 1
        elif edition(mine) == edition(source):
            kept += 1
        else:
            beside = mine.with_suffix(".new.ipynb")
            shutil.copyfile(source, beside)
            kept += 1
            lines.append(f"{mine.name} is of another edition and was kept; see {beside.name}")
    if kept:
        lines.insert(0, f"{kept} kept as they were")
    if new:
        lines.insert(0, f"{new} notebooks copied to {folder}")
    return lines


def open_jupyter(place: Path) -> int:
    """Start JupyterLab in a folder, or with a notebook open, and wait until it ends.

    In a folder it comes back as it was left: so lesson 00 is opened the first time only.
    """
    if importlib.util.find_spec("jupyterlab") is None:
        folder = place if place.is_dir() else place.parent
        raise MinimixError(
            f"the lessons are in {folder}, but JupyterLab is not installed: "
            "pip install 'minimix[lessons]'"
        )
    try:
        return subprocess.call([sys.executable, "-m", "jupyterlab", str(place)])
    except KeyboardInterrupt:
        return 0


# ---- progress


def definitions(cells: list[str]) -> tuple[list[str], list[ast.Call]]:
    """From code cells, every `check("NN.name", answer)`, and what its answer is made of.

    That is imports, functions, classes and assignments, as far as the answers use their names,
    directly or through each other. All else (training, timing, pictures) is not run.
    A cell that is not Python is left out.
    """
    nodes: list[ast.stmt] = []
    checks: list[ast.Call] = []
    for cell in cells:
        try:
            body = ast.parse(cell).body
        except SyntaxError:
            continue
        checks += [n.value for n in body if isinstance(n, ast.Expr) and _is_check(n.value)]
        nodes += [n for n in body if isinstance(n, DEFINITIONS)]
    needed = set().union(*(_uses(call) for call in checks))
    kept: set[ast.stmt] = set()
    while more := [n for n in nodes if n not in kept and _defines(n) & needed]:
        kept.update(more)
        needed.update(*(_uses(n) for n in more))
    return [ast.unparse(n) for n in nodes if n in kept], checks


DEFINITIONS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef, ast.Assign)


def _is_check(node: ast.expr) -> TypeGuard[ast.Call]:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "check"
        and len(node.args) == 2
        and isinstance(node.args[0], ast.Constant)
    )


def _defines(node: ast.stmt) -> set[str]:
    """The names that a statement gives a meaning to; for `Value.__add__ = add` that is Value."""
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return {(a.asname or a.name).split(".")[0] for a in node.names}
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return {node.name}
    assert isinstance(node, ast.Assign)
    targets = [n for target in node.targets for n in ast.walk(target)]
    return {n.id for n in targets if isinstance(n, ast.Name)}


def _uses(node: ast.AST) -> set[str]:
    """The names that it reads and does not itself bind."""
    names = [n for n in ast.walk(node) if isinstance(n, ast.Name)]
    own = {n.arg for n in ast.walk(node) if isinstance(n, ast.arg)}
    if isinstance(node, ast.FunctionDef):
        own |= {n.id for n in names if isinstance(n.ctx, ast.Store)}
    return {n.id for n in names if isinstance(n.ctx, ast.Load)} - own


def examine_cells(cells: list[str]) -> dict[str, Report]:
    """Run the definitions of some code cells and every check among them.   name -> report"""
    space: dict[str, Any] = {"__name__": "__lesson__"}
    kept, checks = definitions(cells)
    for source in kept:
        try:
            exec(source, space)
        except Exception:
            continue  # what needed it says so in its check
    reports = {}
    for call in checks:
        name = call.args[0].value  # type: ignore[attr-defined]
        try:
            answer = eval(ast.unparse(call.args[1]), space)
            reports[name] = check(name, answer)
        except Exception as error:
            reports[name] = Report(name, False, (f"{type(error).__name__}: {error}",))
    return reports


def code_cells(path: Path) -> list[str]:
    """The sources of a notebook's code cells, without lines that only Jupyter understands."""
    book = json.loads(path.read_text(encoding="utf-8"))
    cells = ["".join(c["source"]) for c in book["cells"] if c["cell_type"] == "code"]
    return ["\n".join(s for s in c.split("\n") if not s.startswith(("%", "!"))) for c in cells]


def examine_notebook(path: Path, timeout: float = 60) -> dict[str, tuple[bool, str]]:
    """Check a notebook's exercises in a process of their own.   name -> (solved, why not)

    Errors: MinimixError where the file is no notebook or its code takes longer than `timeout`
    seconds.
    """
    command = [sys.executable, "-m", "lessons.command", path.name]
    try:
        done = subprocess.run(
            command,
            cwd=path.parent,
            env=os.environ | {"MPLBACKEND": "agg", "PYTHONIOENCODING": "utf-8"},
            capture_output=True,
            encoding="utf-8",
            timeout=timeout,
        )
        return {name: tuple(r) for name, r in json.loads(done.stdout.splitlines()[-1]).items()}
    except subprocess.TimeoutExpired:
        raise MinimixError(
            f"{path.name}: its code was still running after {timeout:.0f} s"
        ) from None
    except (ValueError, IndexError):
        raise MinimixError(f"{path.name} could not be read as a notebook") from None


def progress(folder: Path) -> str:
    """A line an exercise, and how many are solved."""
    if not folder.is_dir():
        raise MinimixError(f"there is no folder {folder}; `minimix lessons {folder}` makes one")
    lines: list[str] = []
    solved = total = 0
    for original in notebooks():
        known = [e.name for e in exercises(original.name[:2])]
        mine = folder / original.name
        if not known or not mine.exists():
            continue
        try:
            found = examine_notebook(mine)
        except MinimixError as error:
            lines.append(f"  {error}")
            found = {}
        done = sum(found.get(name, (False, ""))[0] for name in known)
        lines.append(f"{original.stem}   {done} of {len(known)}")
        for name in known:
            passed, why = found.get(name, (False, "its check cell is missing"))
            lines.append(f"  {'✓' if passed else '·'} {name.ljust(24)} {'' if passed else why}")
        solved, total = solved + done, total + len(known)
    if not lines:
        raise MinimixError(
            f"there are no lessons in {folder}; `minimix lessons {folder}` copies them"
        )
    return "\n".join(
        line.rstrip() for line in [*lines, "", f"{solved} of {total} exercises solved"]
    )


if __name__ == "__main__":
    reports = examine_cells(code_cells(Path(sys.argv[1])))
    print()
    print(json.dumps({n: (r.passed, r.lines[0] if r.lines else "") for n, r in reports.items()}))
