"""Reports: what happened in one training run or several, as a single self-contained page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from .. import files
from .page import page
from .run_data import collect

__all__ = ["report"]


def report(
    folders: Sequence[Path], out: Path | None = None, say: Callable[[str], None] = print
) -> Path:
    """Write an HTML page about a run, or about several to compare, and return its path.

    folders  run folders, of finished runs or of runs in progress
    out      the file (default: report.html in the run's folder, or for several runs in the current
             folder)
    say      gets a line for what takes a while

    Errors: CheckpointError if a folder is not a run's or is damaged, DiskError if the page cannot
    be written; then nothing is written at all.
    """
    runs = collect(folders, say)
    out = out or (folders[0] if len(folders) == 1 else Path()) / "report.html"
    # A folder's name may hold bytes that are not text.
    files.write(out, page(runs).encode("utf-8", "replace"))
    return out
