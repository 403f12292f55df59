"""The run folder where several processes train together: rank 0 holds it, and alone writes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..parallel import Ranks
from .checkpoint import Checkpoint
from .folder import RunFolder
from .log import Log


def hold(path: Callable[[], Path], say: Callable[[str], None], ranks: Ranks) -> RunFolder:
    """The run folder, to be used in a `with` block by every rank; `path` is asked on rank 0 alone.

    Where this is not rank 0, the folder says what rank 0 found in it, and writes nothing.
    Errors: those of RunFolder, on rank 0.
    """
    if ranks.first:
        folder = RunFolder(path(), say)
        ranks.broadcast((folder.path, folder.checkpoint))
        return folder
    return Elsewhere(*ranks.broadcast((Path(), None)))


class Elsewhere(RunFolder):
    """A run folder that another process holds: what it found there, and methods that do nothing."""

    def __init__(self, path: Path, checkpoint: Checkpoint | None) -> None:
        self.path, self.checkpoint = path, checkpoint
        self.saved = checkpoint.path if checkpoint else None
        self.metrics = Unwritten(path)
        self.seconds = 0.0

    def __exit__(self, *_exception: object) -> None: ...

    @property
    def begun(self) -> bool:
        return False

    def finished(self) -> bool:
        return False

    def describe(self, facts: Mapping[str, Any]) -> None: ...

    def keep_code(self, code: str) -> None: ...

    def rewind(self) -> None: ...

    def time(self, step: int, **seconds: float) -> None: ...

    def save(self, step: int, arrays: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        self.saved = self.path

    def unsaved(self) -> float:
        return 0.0

    def finish(self, weights: Mapping[str, Any], facts: Mapping[str, Any]) -> None: ...


class Unwritten(Log):
    """A log to which nothing is written."""

    def write(self, line: Mapping[str, Any]) -> None: ...
