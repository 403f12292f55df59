"""`minimix lessons`: the notebooks in a folder of the student's own, and how far one has come.

minimix lessons [DIR]            copy them to DIR, never over existing work; open JupyterLab
minimix lessons --check [DIR]    which exercises there are solved; with --json, for grading
"""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

from minimix import files
from minimix.errors import MinimixError

from . import ROOT, folders, progress

DEFAULT = Path("minimix-lessons")


def notebooks() -> list[Path]:
    """The student notebooks as they came with minimix, in order."""
    return [ROOT / f"{folder.name}.ipynb" for folder in folders()]


def main(
    folder: Path | str = DEFAULT,
    *,
    check_progress: bool = False,
    as_json: bool = False,
    open_lab: bool = True,
) -> int:
    """What `minimix lessons` does; returns the exit code.

    Errors: MinimixError where the folder is missing, a file or cannot be written, or JupyterLab is
    not installed.
    """
    folder = Path(folder)
    if check_progress:
        progress.show(folder, as_json=as_json)
        return 0
    first = folder / notebooks()[0].name
    begun = first.exists()
    try:
        lines = copy(folder)
    except OSError as error:
        raise MinimixError(
            f"the lessons cannot be written to {folder}: {error.strerror}; name another folder"
        ) from None
    print(*lines, sep="\n")
    return open_jupyter(folder if begun else first) if open_lab else 0


# ---- copying


def edition(path: Path) -> str:
    """Which edition of a lesson a notebook was made from; "" where it does not say, or is none."""
    try:
        book = json.loads(path.read_text(encoding="utf-8"))
        return book["metadata"]["minimix"]["edition"]
    except (ValueError, KeyError, TypeError):
        return ""


def copy(folder: Path) -> list[str]:
    """Put the notebooks into a folder; what was done, a line each.

    A notebook that is there is never touched. If it is of an older edition, the new one is put
    beside it as NN_name.new.ipynb, or if that is of an older one too, as NN_name.new-2.ipynb.
    """
    if folder.exists() and not folder.is_dir():
        raise MinimixError(f"{folder} is a file; name a folder for the lessons")
    folder.mkdir(parents=True, exist_ok=True)
    new, kept, lines = 0, 0, []
    for source in notebooks():
        mine = folder / source.name
        if not mine.exists():
            files.write(mine, source.read_bytes())
            new += 1
            continue
        kept += 1
        if edition(mine) != edition(source):
            numbers = itertools.chain([""], (f"-{n}" for n in itertools.count(2)))
            names = (mine.with_suffix(f".new{n}.ipynb") for n in numbers)
            beside = next(b for b in names if not b.exists() or edition(b) == edition(source))
            if not beside.exists():
                files.write(beside, source.read_bytes())
            lines.append(
                f"{mine.name} is of another edition, or damaged, and was kept; see {beside.name}"
            )
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
            f"the lessons are in {folder}, but JupyterLab is not installed: pip install jupyterlab"
        )
    command = [sys.executable, "-m", "jupyterlab", str(place)]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        print("you are root: JupyterLab is started with --allow-root, which it asks for")
        command.append("--allow-root")
    try:
        return subprocess.call(command)
    except KeyboardInterrupt:
        return 0
