"""Reports: what happened in a training, as one page that needs nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from .. import files
from .inside import look_inside
from .page import Subject, page
from .reading import read

__all__ = ["report"]


def report(
    folders: Sequence[Path], out: Path | None = None, say: Callable[[str], None] = print
) -> Path:
    """Write an HTML page about a run, or about several to compare, and return where it is.

    folders  run folders, of finished runs or of such as still go on
    out      the file; without one report.html in the run's folder, or for several in this one
    say      gets a line for what takes a while

    Errors: CheckpointError where a folder is no run's or is damaged, DiskError where the file
    cannot be written; then nothing is written at all.
    """
    readings = [read(folder) for folder in folders]
    short = [reading.name for reading in readings]
    subjects = [
        Subject(
            reading.name if short.count(reading.name) == 1 else str(reading.folder),
            reading,
            look_inside(reading.folder, say),
        )
        for reading in readings
    ]
    out = out or (folders[0] if len(folders) == 1 else Path()) / "report.html"
    # A folder's name may hold bytes that are no text.
    files.write(out, page(subjects).encode("utf-8", "replace"))
    return out
