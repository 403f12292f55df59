"""From a lesson's one text source, its two notebooks.

    python -m lessons.build             every student notebook
    python -m lessons.build 01 --execute     lesson 01, the solved one too, run top to bottom

A source, lessons/NN_name/lesson.py, is in the percent format that Jupytext, VS Code and PyCharm
read:
`# %%` begins a code cell, `# %% [markdown]` a text cell. A code cell with lines between
`### BEGIN SOLUTION` and `### END SOLUTION` is an exercise, and the text cell after it, marked
`# %% hints [markdown]`, has its three hints. The student finds a stub, the hints and the solution
folded away; the solved notebook has the solution in place. lessons/WRITING.md says the rest.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minimix.errors import MinimixError

from . import ROOT, folders

CELL = re.compile(r"# %%\s*(?P<title>[^\[\]]*?)\s*(?P<markdown>\[markdown\])?")
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"


@dataclass
class Cell:
    """kind "code" or "markdown"; the title is "hints" for hints and else empty."""

    kind: str
    title: str
    source: str

    @property
    def is_exercise(self) -> bool:
        return self.kind == "code" and BEGIN in self.source


def source(folder: Path) -> str:
    """The text of a lesson."""
    return (folder / "lesson.py").read_text(encoding="utf-8")


def parse(text: str) -> list[Cell]:
    """The cells of a percent-format source; what stands above the first one is left out."""
    cells: list[Cell] = []
    for line in text.splitlines():
        if start := CELL.fullmatch(line):
            cells.append(Cell("markdown" if start["markdown"] else "code", start["title"], ""))
        elif cells:
            cells[-1].source += line + "\n"
    for cell in cells:
        if cell.kind == "markdown":
            cell.source = re.sub(r"(?m)^# ?", "", cell.source)
        cell.source = cell.source.strip("\n")
    return cells


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


# ---- notebooks


def notebook(folder: Path, solved: bool) -> dict[str, Any]:
    """The notebook of a lesson, not executed: deterministic to the byte once written as JSON."""
    text = source(folder)
    cells: list[dict[str, Any]] = []
    exercise = ""
    for cell in parse(text):
        content = cell.source
        if cell.title == "hints":
            if solved:
                continue
            content = folded(content, exercise)
        elif cell.is_exercise:
            exercise = content
            content = solution(content) if solved else stub(content)
        form: dict[str, Any] = {"cell_type": cell.kind, "id": f"{folder.name[:2]}-{len(cells):02}"}
        form |= {"metadata": {}, "source": content.splitlines(keepends=True)}
        if cell.kind == "code":
            form |= {"execution_count": None, "outputs": []}
        cells.append(form)
    return {
        "cells": cells,
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
            # By which `minimix lessons` knows whether a student's copy is of this edition.
            "minimix": {"edition": hashlib.sha256(text.encode()).hexdigest()[:12]},
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def to_json(book: dict[str, Any]) -> str:
    return json.dumps(book, indent=1, ensure_ascii=False) + "\n"


def execute(book: dict[str, Any], timeout: float = 600) -> dict[str, Any]:
    """Run a notebook top to bottom in an empty folder; the same one with what came out.

    Errors: MinimixError with the cell and what went wrong in it.
    """
    import nbformat
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    form: Any = nbformat.reads(to_json(book), as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            form,
            timeout=timeout,
            record_timing=False,
            resources={"metadata": {"path": folder}},
        )
        try:
            client.execute(env=os.environ | {"OMP_NUM_THREADS": "2"})
        except CellExecutionError as error:
            raise MinimixError(re.sub(r"\x1b\[[\d;]*m", "", str(error))) from None  # no colours
    for cell in form.cells:
        cell.metadata.clear()
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if not _is_compiling(o)]
    form.metadata["language_info"] = {"name": "python"}
    # One form for text, a list of lines, as nbformat and code hosts write it.
    return json.loads(nbformat.writes(form, version=nbformat.NO_CONVERT))


def _is_compiling(output: dict[str, Any]) -> bool:
    """What the library says once on a fresh machine, and what is not part of the lesson."""
    return output.get("name") == "stderr" and output["text"].startswith("minimix: compiling")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8", newline="\n")
    os.replace(part, path)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m lessons.build", description="Make the notebooks from their sources."
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
            write(ROOT / f"{folder.name}.ipynb", to_json(notebook(folder, solved=False)))
            line = folder.name
            if args.execute:
                start = time.perf_counter()
                done = to_json(execute(notebook(folder, solved=True)))
                write(ROOT / "solved" / f"{folder.name}.ipynb", done)
                line += f": {time.perf_counter() - start:.0f} s, {len(done) // 1024} KiB"
            print(line, flush=True)
        except MinimixError as error:
            print(f"minimix: {folder.name}: {error}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
