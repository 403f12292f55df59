"""The notebooks of the lessons, made from their texts.

    python -m lessons.build                   every student notebook
    python -m lessons.build 01 --execute      lesson 01, and its solved notebook, run top to bottom

A text, NN_name/lesson.py, is in the percent format of Jupytext, which VS Code and PyCharm read too.
A code cell with lines between `### BEGIN SOLUTION` and `### END SOLUTION` is an exercise, and the
text cell after it, titled "hints", has its three hints. The student finds a stub, the hints and the
solution folded away; the solved notebook has the solution in place. A code cell titled "folded" is
closed in both: it only draws. WRITING.md says the rest. The first code cell of each notebook is
added here: it installs minimix where that is missing.

A solved notebook keeps its outputs as long as its code stays as it is.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Any

from minimix.errors import MinimixError

from . import ROOT, folders

Cell = Any  # nbformat.NotebookNode, a dict whose keys are attributes too
Notebook = Any

BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"


def cells(folder: Path) -> list[Cell]:
    """The cells of a lesson's text, in order."""
    import jupytext

    return jupytext.read(folder / "lesson.py", fmt="py:percent").cells


def is_exercise(cell: Cell) -> bool:
    return cell.cell_type == "code" and BEGIN in cell.source


def is_hints(cell: Cell) -> bool:
    return cell.metadata.get("title") == "hints"


# ---- the three forms of an exercise


def stub(source: str) -> str:
    """An exercise with every solution replaced by a `raise` that says whose turn it is."""
    lines: list[str] = []
    around: dict[int, str] = {}  # indentation -> the function that is open there
    inside = False
    for line in source.splitlines():
        indent = len(line) - len(line.lstrip())
        if defined := re.match(r"\s*def (\w+)", line):
            around = {i: name for i, name in around.items() if i < indent}
            around[indent] = defined[1]
        if line.strip() == BEGIN:
            inside = True
            name = next((name for i, name in reversed(around.items()) if i < indent), "")
            lines.append(line.replace(BEGIN, f'raise NotImplementedError("your turn: {name}")'))
        elif line.strip() == END:
            inside = False
        elif not inside:
            lines.append(line)
    return "\n".join(lines)


def solution(source: str) -> str:
    """An exercise as it stands when it is done."""
    return "\n".join(line for line in source.splitlines() if line.strip() not in (BEGIN, END))


def folded(hints: str, exercise: str) -> str:
    """Three hints and the solution, each behind a line to click on."""
    items = [h.strip() for h in re.split(r"(?m)^\d\. ", hints)[1:]]
    if len(items) != 3:
        raise MinimixError(f"an exercise has three hints, this one {len(items)}:\n{exercise}")
    parts = [(f"Hint {i}", hint) for i, hint in enumerate(items, 1)]
    parts.append(("Solution", f"```python\n{solution(exercise)}\n```"))
    return "\n\n".join(
        f"<details><summary>{title}</summary>\n\n{text}\n\n</details>" for title, text in parts
    )


# ---- where minimix comes from

# Each notebook's first cell. A checkout is what Binder has; Colab has the notebook alone.
INSTALL = """\
# Installs minimix where it is missing, as on Colab or Binder; elsewhere it does nothing.
import importlib.util, pathlib, subprocess, sys

if importlib.util.find_spec("minimix") is None:
    folders = [pathlib.Path.cwd(), *pathlib.Path.cwd().parents]
    source = next((str(f) for f in folders if (f / "lessons/build.py").exists()), {address!r})
    if not source:
        sys.exit("minimix is not installed; in its folder: python -m pip install -e '.[lessons]'")
    subprocess.run([sys.executable, "-m", "pip", "install", "-q", source], check=True)
    importlib.invalidate_caches()"""


def address() -> str:
    """Where pyproject.toml says that the code is; "" where it does not."""
    text = (ROOT.parent / "pyproject.toml").read_text(encoding="utf-8")
    urls: dict[str, str] = tomllib.loads(text)["project"].get("urls", {})
    return urls.get("Source", "").rstrip("/")


def install_cell(number: str) -> Cell:
    """The cell that installs minimix, closed."""
    from nbformat import v4

    where = f"git+{address()}" if address() else ""
    cell = v4.new_code_cell(INSTALL.format(address=where), id=f"{number}-install")
    cell.metadata |= FOLDED
    return cell


def links(name: str) -> str:
    """A line with links that open a notebook on Colab and Binder; "" where the code is elsewhere.

    Words instead of badges, since a badge is a picture that is missing offline.
    """
    host, _, repository = address().partition("github.com/")
    if not host or not repository:
        return ""
    colab = f"https://colab.research.google.com/github/{repository}/blob/main/lessons/{name}.ipynb"
    binder = f"https://mybinder.org/v2/gh/{repository}/main?labpath=lessons%2F{name}.ipynb"
    return f"\n\n[Open in Colab]({colab}) · [Open in Binder]({binder})"


# ---- notebooks

FOLDED = {"jupyter": {"source_hidden": True}, "tags": ["hide-input"]}


def notebook(folder: Path, solved: bool) -> Notebook:
    """The notebook of a lesson, not executed; the same text always makes the same notebook."""
    from nbformat import v4

    found: list[Cell] = []
    exercise, number = "", folder.name[:2]
    for cell in cells(folder):
        source = cell.source
        if is_hints(cell):
            if solved:
                continue
            source = folded(source, exercise)
        elif is_exercise(cell):
            exercise = source
            source = solution(source) if solved else stub(source)
        new = v4.new_code_cell if cell.cell_type == "code" else v4.new_markdown_cell
        found.append(new(source, id=f"{number}-{len(found):02}"))
        if cell.metadata.get("title") == "folded":
            found[-1].metadata |= FOLDED
    found[0].source += links(folder.name)
    found.insert(1, install_cell(number))
    metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        # By which `minimix lessons` knows whether a student's copy is of this edition.
        "minimix": {
            "edition": hashlib.sha256((folder / "lesson.py").read_bytes()).hexdigest()[:12]
        },
    }
    return v4.new_notebook(cells=found, metadata=metadata, nbformat_minor=5)


def execute(book: Notebook, timeout: float = 600) -> None:
    """Run a notebook top to bottom in an empty folder, and keep in it what came out.

    Errors: MinimixError with the cell and what went wrong in it.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            book, timeout=timeout, record_timing=False, resources={"metadata": {"path": folder}}
        )
        try:
            client.execute(env=os.environ | {"OMP_NUM_THREADS": "2"})
        except CellExecutionError as error:
            raise MinimixError(re.sub(r"\x1b\[[\d;]*m", "", str(error))) from None  # no colors
    for cell in book.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            for output in cell.outputs:
                if "text" in output:  # what is said once on a fresh machine is no part of a lesson
                    output["text"] = re.sub(r"minimix: compiling.*\n?", "", output["text"])
            cell.outputs = joined([o for o in cell.outputs if o.get("text", "output").strip()])
    book.metadata["language_info"] = {"name": "python"}


def joined(outputs: list[Any]) -> list[Any]:
    """Outputs of a cell, with what was printed piece by piece in one."""
    found: list[Any] = []
    for output in outputs:
        if found and "text" in output and output.get("name") == found[-1].get("name"):
            found[-1]["text"] += output["text"]
        else:
            found.append(output)
    return found


def keep_outputs(book: Notebook, path: Path) -> bool:
    """Give a notebook the outputs of the one at `path`, if their code is the same."""
    import nbformat

    if not path.exists():
        return False
    old = nbformat.read(path, as_version=4)
    pairs = [[c for c in b.cells if c.cell_type == "code"] for b in (book, old)]
    if [c.source for c in pairs[0]] != [c.source for c in pairs[1]]:
        return False
    for new, cell in zip(*pairs, strict=True):
        new.outputs, new.execution_count = cell.outputs, cell.execution_count
    return True


def write(path: Path, book: Notebook) -> None:
    import nbformat

    path.write_text(nbformat.writes(book) + "\n", encoding="utf-8", newline="\n")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m lessons.build", description="Make the notebooks from the lessons' texts."
    )
    parser.add_argument("lessons", nargs="*", help="numbers, such as 01; all of them if none")
    parser.add_argument("--execute", action="store_true", help="run and write the solved ones too")
    args = parser.parse_args(argv)
    chosen = [f for f in folders() if not args.lessons or f.name[:2] in args.lessons]
    if not chosen:
        print(f"minimix: there is no lesson {' '.join(args.lessons)} in {ROOT}")
        return 1
    for folder in chosen:
        try:
            write(ROOT / f"{folder.name}.ipynb", notebook(folder, solved=False))
            line = folder.name
            path = ROOT / "solved" / f"{folder.name}.ipynb"
            done = notebook(folder, solved=True)
            if args.execute:
                start = time.perf_counter()
                execute(done)
                write(path, done)
                took = time.perf_counter() - start
                line += f": {took:.0f} s, {path.stat().st_size // 1024} KiB"
            elif keep_outputs(done, path):
                write(path, done)
            else:
                line += ": its code has changed, and its solved notebook has to be run: --execute"
            print(line, flush=True)
        except MinimixError as error:
            print(f"minimix: {folder.name}: {error}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
