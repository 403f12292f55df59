"""A run folder: what a training writes, and finds again.

RUN/run.json                         the command, the settings, the versions; for a reader
RUN/metrics.jsonl                    a line a step and an epoch; the same for the same seed
RUN/timing.jsonl                     what the clock said of each step
RUN/checkpoint-00000390.safetensors  everything there is to go on from; the last three
RUN/model.safetensors                the trained weights, once training has ended
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Self

import numpy as np

from .. import files
from ..autograd import Array
from ..errors import CheckpointError, DiskError, DivergenceError
from .checkpoint import DamagedError, load, save
from .state import State, described

KEEP = 3  # checkpoints


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoint files in a run folder, newest first."""
    return sorted(folder.glob("checkpoint-*.safetensors"), reverse=True)


Saved = tuple[dict[str, Array], dict[str, Any]]  # arrays and facts


def newest(folder: Path, say: Callable[[str], None]) -> tuple[Path, Saved] | None:
    """The newest checkpoint that is whole; None where there is no file at all.

    Each damaged one is named in a line. CheckpointError where all of them are damaged, or the
    newest is of another format.
    """
    error = None
    for path in checkpoints(folder):
        try:
            return path, load(path)
        except DamagedError as damage:
            error = damage
            say(f"{damage}; trying the one before")
    if error:
        raise CheckpointError(f"{folder} holds no checkpoint that is whole; start again") from error
    return None


class Run:
    """A run folder that this process holds. Use it in a `with` block.

    found   the newest whole checkpoint's arrays and facts, or None in a new folder
    saved   the path of the newest checkpoint, once there is one

    Errors: CheckpointError where the folder cannot be written, is in use, or holds nothing whole.
    """

    def __init__(self, folder: Path, say: Callable[[str], None] = print) -> None:
        self.folder = folder
        inside = (folder / n for n in (".lock", "run.json", "metrics.jsonl", "timing.jsonl"))
        self._new = [path for path in (*inside, folder, *folder.parents) if not path.exists()]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._held = contextlib.ExitStack()
            self._held.enter_context(files.lock(folder / ".lock", self._busy))
        except (OSError, DiskError) as error:
            reason = getattr(error, "strerror", None) or error
            raise CheckpointError(
                f"cannot write to {folder}: {reason}; choose another folder with --out"
            ) from error
        self.metrics = Lines(folder / "metrics.jsonl")
        self.timing = Lines(folder / "timing.jsonl")
        try:
            newest_whole = newest(folder, say)
        except CheckpointError:
            self._held.close()
            raise
        self.saved: Path | None
        self.found: Saved | None
        self.saved, self.found = newest_whole or (None, None)
        self._saved_at = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.metrics.close()
        self.timing.close()
        self._held.close()
        if self.saved is None:  # nothing came of it: leave nothing behind
            with contextlib.suppress(OSError):
                for path in self._new:
                    if path.is_dir():
                        path.rmdir()
                    else:
                        path.unlink(missing_ok=True)

    def _busy(self, holder: str) -> None:
        raise CheckpointError(
            f"{self.folder} is in use by process {holder}; "
            "let that one end, or choose another --out"
        )

    @property
    def model(self) -> Path:
        """Where the trained weights are once training has ended."""
        return self.folder / "model.safetensors"

    def describe(self, facts: Mapping[str, Any]) -> None:
        """Write run.json."""
        text = json.dumps(facts, indent=2, ensure_ascii=False)
        files.write(self.folder / "run.json", f"{text}\n".encode())

    def restore(self, state: State) -> None:
        """Give `state` what was found, and take back all that was written after it.

        Where nothing was found the state is saved instead, so that there is always a checkpoint
        to go back to, and a disk that takes none is noticed now.
        """
        if self.found is None:
            for lines in (self.metrics, self.timing):
                lines.rewind(-1)
            self.save(state)
            return
        state.restore(*self.found)
        damaged = itertools.takewhile(lambda path: path != self.saved, checkpoints(self.folder))
        for leftover in damaged:
            leftover.unlink()
        files.sweep(self.folder)
        for lines in (self.metrics, self.timing):
            lines.rewind(state.step)

    def save(self, state: State) -> None:
        """Write a checkpoint of this step; then drop all but the last three.

        DivergenceError where something in it is not finite: what is saved is good to go on from.
        """
        arrays = state.arrays()
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                raise DivergenceError(
                    f"after step {state.step} {name} is not finite; the last good checkpoint is "
                    f"{self.saved}; a smaller --lr usually helps"
                )
        self.metrics.sync()
        self.timing.sync()
        path = self.folder / f"checkpoint-{state.step:08d}.safetensors"
        save(path, arrays, state.facts())
        self.saved, self._saved_at = path, time.monotonic()
        for old in checkpoints(self.folder)[KEEP:]:
            old.unlink()

    def unsaved(self) -> float:
        """Seconds since the last checkpoint."""
        return time.monotonic() - self._saved_at

    def seconds(self) -> float:
        """How long the steps and tests of this run took, interruptions left out."""
        lines = map(json.loads, self.timing.path.read_bytes().splitlines())
        return sum(line.get("seconds", 0) + line.get("test_seconds", 0) for line in lines)

    def finish(self, state: State, test_accuracy: float) -> None:
        """Write the trained weights by themselves: the model's as they are now."""
        facts = described(state.config, state.data) | {"test_accuracy": test_accuracy}
        save(self.model, state.model.state_dict(), facts)


class Lines:
    """A file of JSON lines, each with a "step", that can be read while it grows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: IO[bytes] | None = None

    def write(self, line: Mapping[str, Any]) -> None:
        """Append one line. DiskError where the disk refuses."""
        with self._told():
            if self._file is None:
                self._file = open(self.path, "ab", buffering=0)  # noqa: SIM115
            rest = json.dumps(line).encode() + b"\n"
            while rest:  # a disk that fills takes a part first, and refuses the next
                rest = rest[self._file.write(rest) :]

    def sync(self) -> None:
        """Force what was written to the disk."""
        if self._file is not None:
            with self._told():
                os.fsync(self._file.fileno())

    def rewind(self, step: int) -> None:
        """Keep the lines up to this step; a line that a kill cut short goes with the rest."""
        self.close()
        kept = b""
        if self.path.exists():
            for line in self.path.read_bytes().splitlines(keepends=True):
                if not line.endswith(b"\n") or json.loads(line)["step"] > step:
                    break
                kept += line
        files.write(self.path, kept)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise DiskError(f"cannot write {self.path}: {error.strerror}") from error
