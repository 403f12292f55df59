"""The processes of one training: all of minimix that knows MPI."""

from __future__ import annotations

import functools
import os
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np

from ..errors import MinimixError

T = TypeVar("T")

# What MPI's launchers tell a process that they start: MPICH and its relatives, Open MPI, PMIx.
RANK = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK")
SIZE = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE")


class Ranks:
    """The processes that train together: `rank` 0 … `size` − 1 is this one.

    Every method is called by all ranks in the same order, with arrays of the same shape and dtype,
    and gives all of them the same bits. Where there is one rank, they do nothing.
    """

    def __init__(self, communicator: Any = None) -> None:
        self.communicator = communicator
        self.rank: int = communicator.Get_rank() if communicator else 0
        self.size: int = communicator.Get_size() if communicator else 1

    @property
    def first(self) -> bool:
        """Whether this is rank 0, the one that writes and speaks."""
        return self.rank == 0

    def broadcast(self, value: T) -> T:
        """What rank 0 gave: anything that can be pickled."""
        return self.communicator.bcast(value) if self.size > 1 else value

    @contextmanager
    def first_then_others(self) -> Iterator[None]:
        """Rank 0 goes through the block first: what it downloads, say, the others find there."""
        if not self.first:
            self.broadcast(None)
        yield
        if self.first:
            self.broadcast(None)

    def gather(self, value: T) -> list[T]:
        """What each rank gave, in their order."""
        return self.communicator.allgather(value) if self.size > 1 else [value]

    def sum(self, array: np.ndarray) -> np.ndarray:
        """The sum over all ranks, in the memory of `array`, which must be contiguous."""
        if self.size > 1:
            from mpi4py import MPI

            self.communicator.Allreduce(MPI.IN_PLACE, array)
        return array

    def reduce(
        self, array: np.ndarray, merge: Callable[[np.ndarray, np.ndarray], np.ndarray]
    ) -> np.ndarray:
        """The rows of float64 arrays (n, k) of all ranks merged, instead of added.

        merge  takes rows (m, k) of two arrays; it must be associative up to rounding, and give the
               same bits when the two change places
        """
        if self.size > 1:
            row, operation = _operation(merge, array.shape[1])
            result = np.empty_like(array)
            self.communicator.Allreduce(
                [array, len(array), row], [result, len(array), row], operation
            )
            return result
        return array

    def highest(self, *numbers: float) -> list[float]:
        """The highest that any rank gave, of each number."""
        if self.size == 1:
            return list(numbers)
        from mpi4py import MPI

        highest = np.array(numbers, float)
        self.communicator.Allreduce(MPI.IN_PLACE, highest, MPI.MAX)
        return highest.tolist()

    def check_alike(self, arrays: Mapping[str, np.ndarray], when: str) -> None:
        """Raise MinimixError, in all ranks, unless they have the same bits in each array."""
        if self.size == 1:
            return
        sums = [zlib.crc32(np.ascontiguousarray(a).view(np.uint8).data) for a in arrays.values()]
        for rank, others in enumerate(self.gather(sums)):
            for name, mine, other in zip(arrays, self.broadcast(sums), others, strict=True):
                if mine != other:
                    raise MinimixError(
                        f"rank {rank} has other numbers in {name} than rank 0 {when}; expected the "
                        "same bits: do all machines have the same kind of processor, and the same "
                        "versions of minimix, NumPy and Numba?"
                    )

    def sum_gradients(
        self,
        parameters: Sequence[Any],
        numbers: Sequence[float],
        averages: Sequence[np.ndarray] = (),
        weight: float = 1.0,
        early: Mapping[int, np.ndarray] = MappingProxyType({}),
    ) -> list[float]:
        """Sum the gradients of all ranks, in one flat buffer and one message.

        parameters  tensors; each has its `grad` replaced by the sum, unless no rank has one
        numbers     are summed as well, and returned
        averages    arrays that are replaced, in place, by the sum of each rank's times its weight
        early       gradients that have been summed, flat, by the `id` of the parameter's array
        """
        if self.size == 1:
            return list(numbers)
        for p in parameters:
            if id(p.array) in early and p.grad is not None:
                p.grad = early[id(p.array)].reshape(p.shape)
        parameters = [p for p in parameters if id(p.array) not in early]
        flags = [0.0 if p.grad is None else 1.0 for p in parameters]
        grads = [np.zeros_like(p.array) if p.grad is None else p.grad for p in parameters]
        weighted = [weight * a for a in averages]
        arrays = [*grads, *weighted, np.asarray(numbers, float), np.array(flags)]
        dtype = np.result_type(np.float32, *grads)
        flat = self.sum(
            np.concatenate([a.ravel() for a in arrays], dtype=dtype, casting="same_kind")
        )
        parts = np.split(flat, np.cumsum([a.size for a in arrays])[:-1])
        *sums, totals, flags_of_all = parts
        for p, part, flag in zip(parameters, sums[: len(grads)], flags_of_all, strict=True):
            p.grad = part.reshape(p.shape).astype(p.dtype, copy=False) if flag else None
        for a, part in zip(averages, sums[len(grads) :], strict=True):
            a[...] = part.reshape(a.shape)
        return totals.tolist()


ALONE = Ranks()


@functools.cache
def _operation(merge: Callable[..., np.ndarray], k: int) -> tuple[Any, Any]:
    """MPI's type of a row of k numbers, and its operation that merges rows."""
    from mpi4py import MPI

    def call(given: Any, result: Any, _type: Any) -> None:
        a, b = (np.frombuffer(memory, np.float64).reshape(-1, k) for memory in (given, result))
        b[...] = merge(a, b)

    return MPI.DOUBLE.Create_contiguous(k).Commit(), MPI.Op.Create(call, commute=True)


def apart(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment for a process that is to train by itself, though its parent does not."""
    return {name: value for name, value in environment.items() if name not in RANK + SIZE}


def launched() -> int | None:
    """The number that a launcher gave this process; None where none started it."""
    return next((int(os.environ[name]) for name in RANK if name in os.environ), None)


@functools.cache
def world() -> Ranks:
    """All processes that mpiexec started together; `ALONE` where it started none, or one.

    Errors: MinimixError where they cannot reach each other: mpi4py is missing, or belongs to
    another MPI than mpiexec.
    """
    if launched() is None and "mpi4py.MPI" not in sys.modules:
        return ALONE
    expected = max([int(os.environ.get(name, 1)) for name in SIZE])
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # RuntimeError: mpi4py found no MPI
        if expected == 1:
            return ALONE
        raise MinimixError(
            f"mpiexec started {expected} processes, which need mpi4py to work together ({error}); "
            "install it: pip install 'minimix[mpi]'"
        ) from error
    size = MPI.COMM_WORLD.Get_size()
    if size == 1 < expected:
        name = MPI.Get_library_version().split("\n")[0].strip("\0")
        raise MinimixError(
            f"mpiexec started {expected} processes, but mpi4py belongs to another MPI ({name}), "
            "where each is alone; start them with the mpiexec of that one"
        )
    return Ranks(MPI.COMM_WORLD.Dup()) if size > 1 else ALONE
