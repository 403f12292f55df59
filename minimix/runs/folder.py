"""A run folder, to write to and to read weights from."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from .. import files
from ..autograd import Array
from ..errors import CheckpointError, DiskError
from . import checkpoint
from .checkpoint import Checkpoint, DamagedError, MissingError
from .log import Log, whole_lines

ABOUT, METRICS, TIMING, MODEL = "run.json", "metrics.jsonl", "timing.jsonl", "model.safetensors"
LOCK, CODE = ".lock", "model.py"
KEEP = 3  # checkpoints


def checkpoint_paths(folder: Path) -> list[Path]:
    """The checkpoint files in a run folder, newest first."""
    with files.disk_errors(f"cannot read {folder}"):
        names = os.listdir(folder)
    steps = (re.fullmatch(r"checkpoint-(\d{8,18})\.safetensors", name) for name in names)
    return [folder / m[0] for m in sorted(filter(None, steps), key=lambda m: -int(m[1]))]


def newest_checkpoint(folder: Path, say: Callable[[str], None]) -> Checkpoint | None:
    """The newest checkpoint that is whole; None where there is no file at all.

    Each damaged one is named in a line. Errors: CheckpointError where all of them are damaged, or
    the newest whole one has another format.
    """
    damage: CheckpointError | None = None
    for _ in range(5):  # the process that trains may remove one before it has been read
        for path in checkpoint_paths(folder):
            try:
                return checkpoint.load(path)
            except MissingError as error:
                damage = error
                break
            except DamagedError as error:
                damage = error
                say(f"{error}; trying the one before")
        else:
            break
    if damage:
        raise CheckpointError(
            f"{folder} holds no undamaged checkpoint ({damage}); start again in another folder"
        ) from damage
    return None


def read_weights(path: Path) -> Checkpoint:
    """The model in a file that a run wrote, or in a run folder.

    Of a folder the trained weights, or while it is still being trained those of its newest
    checkpoint. Errors: CheckpointError where there are none, or they are damaged.
    """
    if not os.path.isdir(path):
        return checkpoint.load(path)
    with contextlib.suppress(MissingError):
        return checkpoint.load(path / MODEL)
    found = newest_checkpoint(path, say=lambda line: None)
    if found is None:
        raise CheckpointError(f"{path} holds no checkpoint; expected a run folder or a model file")
    return found


def has_begun(folder: Path) -> bool:
    """Whether there is a run in this folder that can be resumed, or that has ended."""
    return os.path.isdir(folder) and bool(
        checkpoint_paths(folder) or os.path.lexists(folder / MODEL)
    )


def in_use(folder: Path) -> bool:
    """Whether a process is training in this folder now."""

    class Held(Exception):
        pass

    def refuse(holder: str) -> None:
        raise Held

    if not os.path.lexists(folder / LOCK):
        return False
    try:
        with files.lock(folder / LOCK, refuse):
            return False
    except Held:
        return True


class RunFolder:
    """A run folder that this process holds, to write to. Use it in a `with` block.

    path        the folder, which is made where there is none
    checkpoint  the newest whole checkpoint in it, or None in a new run
    saved       the path of the newest checkpoint, once there is one
    metrics     the log of everything that follows from the seed
    seconds     how long steps and tests have taken so far, interruptions left out

    A folder that has no checkpoint at the end of the block is left as it was found.

    Errors: CheckpointError where it is in use or holds no whole checkpoint, DiskError where it
    cannot be written.
    """

    def __init__(self, path: Path, say: Callable[[str], None] = print) -> None:
        self.path, self._say = path, say
        inside = [path / name for name in (LOCK, ABOUT, CODE, METRICS, TIMING)]
        self._new = [one for one in (*inside, path, *path.parents) if not os.path.lexists(one)]
        self.seconds = 0.0
        self.saved: Path | None = None
        self._ours = False  # whether a run has begun here before
        self.metrics = Log(path / METRICS)
        self._timing = Log(path / TIMING)
        self._held = contextlib.ExitStack()
        self._held.callback(self._tidy)
        try:
            with files.disk_errors(f"cannot write to {path}"):
                path.mkdir(parents=True, exist_ok=True)
            self._held.enter_context(files.lock(path / LOCK, self._refuse))
            self.checkpoint = newest_checkpoint(path, say)
        except BaseException:
            self._held.close()
            raise
        if self.checkpoint:
            self.saved = self.checkpoint.path
        self._saved_at = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._held.close()

    def _refuse(self, holder: str) -> None:
        raise CheckpointError(
            f"{self.path} is in use by process {holder}; wait for it, or choose another folder"
        )

    def _tidy(self) -> None:
        for log in (self.metrics, self._timing):
            with contextlib.suppress(DiskError):  # what counts was synced, or has failed before
                log.close()
        if self.saved is None:  # nothing came of it: leave nothing behind
            for one in self._new:
                with contextlib.suppress(OSError):
                    one.rmdir() if one.is_dir() else one.unlink()

    # -------------------------------------------------------------- what was found

    @property
    def model(self) -> Path:
        """Where the trained weights are once training has ended."""
        return self.path / MODEL

    @property
    def begun(self) -> bool:
        """Whether there is a run in the folder already, of which nothing may be overwritten."""
        return bool(self.checkpoint or os.path.lexists(self.model) or self.metrics.read())

    def finished(self) -> bool:
        """Whether the model file holds the weights of the newest checkpoint.

        A damaged one is named in a line, and does not count. Errors: CheckpointError where it is
        another run's.
        """
        assert self.checkpoint
        try:
            found = checkpoint.load(self.model)
        except MissingError:
            return False
        except DamagedError as damage:
            self._say(f"{damage}; it will be written again")
            return False
        weights = self.checkpoint.weights
        if found.weights.keys() != weights.keys() or any(
            not np.array_equal(found.weights[name], weights[name]) for name in weights
        ):
            raise CheckpointError(
                f"{self.model} does not hold the weights of {self.checkpoint.path}: "
                "it is of another run; move it away, and resume again"
            )
        return True

    # -------------------------------------------------------------- writing

    def describe(self, facts: Mapping[str, Any]) -> None:
        """Write run.json, unless it is there and whole.

        Errors: CheckpointError where a new run would write over one that is no run's; DiskError.
        """
        path = self.path / ABOUT
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
            self._ours = isinstance(json.loads(path.read_bytes())["settings"], dict)
        if self.checkpoint:
            if self._ours:
                return
            self._say(f"{path} is missing or damaged; it is written again")
        elif not self._ours:
            self._refuse_to_replace(path)
        files.write(path, f"{json.dumps(facts, indent=2)}\n".encode())

    def keep_code(self, code: str) -> None:
        """Write the file that the network's class is in, unless it is there.

        Errors: CheckpointError where a new run would write over one that is no run's; DiskError.
        """
        path = self.path / CODE
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if path.read_bytes().decode() == code:
                return
        if not (self.checkpoint or self._ours):
            self._refuse_to_replace(path)
        files.write(path, code.encode())

    def _refuse_to_replace(self, path: Path) -> None:
        if os.path.lexists(path):
            raise CheckpointError(
                f"{path} is there already, and is not a run's; choose another folder for the run"
            )

    def rewind(self) -> None:
        """Take back everything that was written after the checkpoint, or begin new logs.

        Errors: CheckpointError where the metrics are not what they were at the checkpoint.
        """
        if self.checkpoint is None:
            self.metrics.start()
            self._timing.start()
            return
        try:
            step, mark = self.checkpoint.facts["step"], self.checkpoint.facts["metrics"]
        except KeyError as error:
            raise CheckpointError(
                f"{self.saved} is of another version of minimix: it lacks {error}; "
                "start another run"
            ) from error
        self.metrics.rewind(mark)
        self._rewind_timing(step)
        for path in checkpoint_paths(self.path):  # newer ones are damaged
            if path == self.saved:
                break
            with files.disk_errors(f"cannot remove {path}"):
                path.unlink()
        files.sweep(self.path)

    def _rewind_timing(self, step: int) -> None:
        """Keep the times up to this step, as far as they are there: nothing depends on them."""
        kept, timed = [], set()
        for line, value in whole_lines(self._timing.read()):
            at = value.get("step")
            taken = value.get("seconds", value.get("test_seconds"))
            if isinstance(at, int) and isinstance(taken, float) and at <= step:
                kept.append(line)
                self.seconds += taken
                timed |= {at} if "seconds" in value else set()
        if missing := step - len(timed):
            self._say(
                f"{self._timing.path} lacks the times of {missing} of {step} steps: "
                "the times shown will be too short"
            )
        self._timing.start(b"".join(kept))

    def time(self, step: int, **seconds: float) -> None:
        """Add a line to the timing log: `seconds` of a step, or `test_seconds`, and other rates."""
        self._timing.write({"step": step, **{k: round(v, 6) for k, v in seconds.items()}})
        self.seconds += seconds.get("seconds", 0.0) + seconds.get("test_seconds", 0.0)

    def save(self, step: int, arrays: Mapping[str, Array], facts: Mapping[str, Any]) -> None:
        """Write a checkpoint, then remove all but the last three. Errors: DiskError."""
        self.metrics.sync()
        self._timing.sync()
        path = self.path / f"checkpoint-{step:08d}.safetensors"
        checkpoint.save(path, arrays, {**facts, "step": step, "metrics": self.metrics.mark()})
        self.saved, self._saved_at = path, time.monotonic()
        for old in checkpoint_paths(self.path)[KEEP:]:
            with contextlib.suppress(OSError):  # somebody reads it: it is removed the next time
                old.unlink()

    def unsaved(self) -> float:
        """Seconds since the last checkpoint."""
        return time.monotonic() - self._saved_at

    def finish(self, weights: Mapping[str, Array], facts: Mapping[str, Any]) -> None:
        """Write the trained weights by themselves. Errors: DiskError."""
        checkpoint.save(self.model, weights, facts)
