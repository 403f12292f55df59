"""The trainings of a study: each by `minimix train` in a process and a run folder of its own.

What has been done is known from the run folders alone, so that nothing can be wrong about it,
whenever and however the comparison was stopped.
"""

from __future__ import annotations

import heapq
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from .. import files
from ..data import Dataset
from ..errors import MinimixError
from ..parallel import apart
from ..runs import has_begun, in_use, read_log, read_weights
from ..train.architecture import code_of
from ..train.config import config_of, differences, option
from ..train.interrupt import Interrupt
from ..train.progress import clock
from ..train.state import MAY_CHANGE, check_code
from .study import Row, Study

PAUSE = 0.05  # seconds between two looks at the processes
Say = Callable[[str], None]


@dataclass
class Point:
    """One training: a row of the study with one seed.

    folder  its run folder; beside it, `log` has what its processes printed
    why     what went wrong, in a line, where it did
    """

    row: Row
    seed: int
    folder: Path
    why: str = ""

    @property
    def name(self) -> str:
        return f"{self.row.name}, seed {self.seed}"

    @property
    def log(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.log")

    @property
    def done(self) -> bool:
        return has_begun(self.folder) and read_log(self.folder).finished


def points_of(study: Study, out: Path) -> list[Point]:
    """Every training of the study: all rows with one seed before the next, so that whatever is
    there when it is stopped can be compared."""
    return [
        Point(row, seed, out / "runs" / row.folder / f"seed-{seed}")
        for seed in study.seeds
        for row in study.rows
    ]


def check_folder(study: Study, points: Sequence[Point], data: Dataset, out: Path) -> None:
    """Raise MinimixError where a run in the folder is not the one that the study asks for."""
    digests: dict[tuple[Any, ...], str] = {}
    for point in points:
        if not has_begun(point.folder):
            continue
        facts = read_weights(point.folder).facts
        mine, began = point.row.config(point.seed).complete(), config_of(facts)
        for key, now, before in differences(mine, began):
            if key not in MAY_CHANGE:
                raise MinimixError(
                    f"{study.source}: {point.row.name}: {key} is {now}, but {point.folder} was "
                    f"begun with {before}; put it back, or choose another folder"
                )
        code = code_of(mine.model)
        check_code(mine, code, facts, str(point.folder), "choose another folder")
        seed = mine.seed if mine.limit_train else 0  # a sample follows from the seed
        parts = mine.limit_train, mine.limit_test, mine.validation, seed
        if parts not in digests:
            digests[parts] = mine.limited(data).fingerprint
        learned = facts.get("data", {})
        if learned.get("sha256") != digests[parts]:
            raise MinimixError(
                f"{point.folder} was trained on other images of {learned.get('name')} than those "
                f"of {data.name}, {data.source}; give those images, or choose another folder"
            )


def beginning(settings: Mapping[str, Any]) -> list[str]:
    """Settings as options of `minimix train` for a new training, over its family's recipe."""
    plain = settings.get("model", "convmixer") == "convmixer"  # which would be laptop's otherwise
    return [*(["--preset=plain"] if plain else []), *arguments(settings)]


def arguments(settings: Mapping[str, Any]) -> list[str]:
    """Settings as options of `minimix train`."""
    given = []
    for name, value in settings.items():
        if isinstance(value, bool):
            given.append(option(name if value else f"no_{name}"))
        elif isinstance(value, (list, tuple)):
            given.append(f"{option(name)}={','.join(map(str, value))}")
        else:
            given.append(f"{option(name)}={value}")
    return given


def minimix(module: str, *words: str, **options: Any) -> subprocess.Popen[bytes]:
    """Start `python -m module words…` with this very minimix, whatever lies in this folder."""
    root = str(Path(__file__).parent.parent.parent)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-P", "-m", module, *words]
    environment = {**apart(os.environ), "PYTHONPATH": path}
    return subprocess.Popen(command, env=environment, **options)


class Training:
    """A point that is being trained, by a process that ends with this one."""

    def __init__(self, point: Point, options: Sequence[str]) -> None:
        self.point = point
        settings = {**point.row.settings, "seed": point.seed}
        begun = has_begun(point.folder)
        how = ["--resume", *arguments(settings)] if begun else beginning(settings)
        with files.disk_errors(f"cannot write {point.log}"):
            point.log.parent.mkdir(parents=True, exist_ok=True)
            with open(point.log, "ab") as log:
                self.said_before = log.tell()  # by the processes before this one
                self.process = minimix(
                    "minimix.compare.lifeline",
                    *("train", f"--out={point.folder}", *how, *options),
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C is for the parent, who passes it on
                )

    def alive(self) -> bool:
        return self.process.poll() is None

    def ended(self) -> bool:
        """Whether it has ended; if it failed, the point knows why."""
        code = self.process.poll()
        if code is None:
            return False
        self.close()
        if code:
            new = self.point.log.read_bytes()[self.said_before :]
            lines = new.decode("utf-8", "replace").splitlines()
            said = [line for line in lines if line.startswith("minimix")]
            self.point.why = said[-1].partition(": ")[2] if said else f"it ended with code {code}"
        return True

    def close(self) -> None:
        """Let go of the lifeline: the process finishes its step, saves, and ends."""
        assert self.process.stdin
        self.process.stdin.close()

    def kill(self) -> None:
        self.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def train_all(
    points: Sequence[Point],
    options: Sequence[str],
    jobs: int,
    say: Say,
    start: Callable[[Point, Sequence[str]], Training] = Training,
) -> int:
    """Train every point that is not done, `jobs` at a time.

    options  of `minimix train`, for all of them
    say      gets a line for each that has ended
    start    starts one, here or elsewhere

    Returns the number of the signal that stopped it, when everything has been saved; 0 if none did.
    A second Ctrl-C raises KeyboardInterrupt at once.
    """
    waiting = [point for point in points if not point.done]
    todo, finished = len(waiting), 0
    running: list[Training] = []
    took: dict[str, list[float]] = {}  # seconds, by the name of the row
    told = False
    with ExitStack() as stack, Interrupt() as interrupt:

        @stack.callback
        def _leave_none_behind() -> None:
            for training in running:
                training.kill()

        while waiting or running:
            for training in [one for one in running if one.ended()]:
                running.remove(training)
                point = training.point
                if interrupt.signal and not point.done:  # it was told to stop
                    point.why = ""
                    continue
                finished += 1
                count = f"{finished:>{len(str(todo))}}/{todo}"
                if point.why:
                    say(f"{count}  {point.name}: failed: {point.why}")
                    continue
                log = read_log(point.folder)
                took.setdefault(point.row.name, []).append(log.seconds)
                accuracy = 100 * log.epochs[-1]["test_accuracy"]
                left = _left(waiting, took, jobs)
                way = f", about {clock(left)} left" if waiting else ""
                say(f"{count}  {point.name}: {accuracy:.2f} % in {clock(log.seconds)}{way}")
            if interrupt.signal:
                for training in running:
                    training.close()
                waiting.clear()
                running = [one for one in running if one.alive()]
            while waiting and len(running) < jobs:
                free = next((point for point in waiting if not in_use(point.folder)), None)
                if free is None:
                    break
                waiting.remove(free)
                running.append(start(free, options))
            if waiting and not running and not told:
                told = True
                say(f"waiting for the process that trains in {waiting[0].folder}")
            time.sleep(PAUSE)
        return interrupt.signal


def _left(waiting: Sequence[Point], took: Mapping[str, Sequence[float]], jobs: int) -> float:
    """Seconds that the waiting points will take, by those of their rows, else by the mean."""
    overall = fmean([one for times in took.values() for one in times])
    return makespan([fmean(took.get(point.row.name, [overall])) for point in waiting], jobs)


def makespan(seconds: Sequence[float], jobs: int) -> float:
    """When the last of these trainings ends, if each begins as soon as one of the jobs is free."""
    busy = [0.0] * max(1, min(jobs, len(seconds)))
    for one in seconds:
        heapq.heapreplace(busy, busy[0] + one)
    return max(busy)
