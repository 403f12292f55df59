"""Gradients that are under way while the backward pass goes on.

The backward pass reaches the last layers first. What an operation finds there is complete long
before the rest, so its sum over all ranks begins at once, in a message of its own, and need not be
waited for before the end. It pays where sending takes long: between machines.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from .ranks import ALONE, Ranks

Array = np.ndarray


class Early:
    """The sums of one backward pass that have begun."""

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks
        self.begun: list[tuple[Sequence[Array], Array, Any]] = []

    def begin(self, parameters: Sequence[Array], gradients: Sequence[Array]) -> None:
        from mpi4py import MPI

        flat = np.concatenate([g.ravel() for g in gradients])
        request = self.ranks.communicator.Iallreduce(MPI.IN_PLACE, flat)
        self.begun.append((parameters, flat, request))
        for *_, earlier in self.begun:  # MPI moves what is under way only while it is called
            earlier.Test()

    def finish(self) -> dict[int, Array]:
        """The sums over all ranks, flat, by the `id` of the parameter's array."""
        sums: dict[int, Array] = {}
        for parameters, flat, request in self.begun:
            request.Wait()
            ends = np.cumsum([p.size for p in parameters])[:-1]
            for p, part in zip(parameters, np.split(flat, ends), strict=True):
                sums[id(p)] = part if id(p) not in sums else sums[id(p)] + part
        return sums


_early = Early(ALONE)
_abandoned: list[Early] = []  # by errors: MPI may still write into their memory


@contextmanager
def early_sums(ranks: Ranks) -> Iterator[Early]:
    """Inside this block, a backward pass hands over what it finds to be complete.

    `Ranks.sum_gradients` takes what `finish` gives, and sums what is left. All ranks run the same
    operations, in the same order.
    """
    global _early
    before, _early = _early, Early(ranks)
    try:
        yield _early
    except BaseException:
        _abandoned.append(_early)
        raise
    finally:
        _early = before


def announcing() -> bool:
    """Whether what is announced is summed at once: in such a block, with several ranks."""
    return _early.ranks.size > 1


def announce(parameters: Sequence[Array], gradients: Sequence[Array]) -> None:
    """Begin to sum the gradients of these parameters: nothing will be added to them any more.

    parameters  their arrays, which no other operation of this pass has used
    gradients   this rank's, of the same shapes and one dtype; they are copied
    """
    if announcing():
        _early.begin(parameters, gradients)
