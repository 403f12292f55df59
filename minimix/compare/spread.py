"""A study's trainings spread over the processes that mpiexec started, one in each, by mpi4py.

The run folders must be the same for all: on several machines, in a shared file system.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ..parallel import Ranks
from ..train.interrupt import Interrupt
from .running import PAUSE, Point, Training

_interrupt = Interrupt(quiet=True)  # of a process that trains for rank 0


def serve(ranks: Ranks) -> None:
    """Train what rank 0 asks for, until it has no more."""
    from mpi4py.futures import MPICommExecutor

    with _interrupt, MPICommExecutor(ranks.communicator, root=0):
        pass  # entering is serving


@contextmanager
def spread(ranks: Ranks) -> Iterator[Callable[[Point, Sequence[str]], Training]]:
    """On rank 0: what starts a training wherever nothing is trained at present.

    All processes have been told of a signal that rank 0 gets, as mpiexec does.
    """
    if ranks.size == 1:
        yield Training
        return
    from mpi4py.futures import MPICommExecutor

    here: list[Training] = []

    def start(point: Point, options: Sequence[str]) -> Training:
        if here and here[0].alive():
            return Elsewhere(point, options, executor)
        here[:] = [Training(point, options)]
        return here[0]

    with MPICommExecutor(ranks.communicator, root=0) as executor:
        yield start


class Elsewhere(Training):
    """A point that another rank trains."""

    def __init__(self, point: Point, options: Sequence[str], executor: Any) -> None:
        self.point = point
        self.future = executor.submit(train_here, point, options)

    def alive(self) -> bool:
        return not self.future.done()

    def ended(self) -> bool:
        if self.alive():
            return False
        self.point.why = self.future.result()
        return True

    def close(self) -> None: ...

    def kill(self) -> None:
        self.future.cancel()


def train_here(point: Point, options: Sequence[str]) -> str:
    """In another rank: train a point to its end. Returns why it failed, if it did."""
    training = Training(point, options)
    try:
        while not training.ended():
            if _interrupt.signal:
                training.close()
            time.sleep(PAUSE)
    except BaseException:
        training.kill()
        raise
    return point.why
