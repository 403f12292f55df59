"""Kernels for tests of the threads: they tell who is at work, and meet."""

import numpy as np
import pytest

pytest.importorskip("numba", reason="only compiled kernels share work")

from minimix.kernels.simd.jit import helper, kernel
from minimix.kernels.simd.team import run
from minimix.kernels.simd.vectors import address
from minimix.kernels.simd.work import DESK, peek, replace, shared, work

PAUSE = 10_000  # looks at a word, each of which takes a few ns
PATIENCE = 5_000_000_000


@helper
def add(x, i, n):
    """x[i] += n in one step."""
    while True:
        old = peek(address(x), i)
        if replace(address(x), i, old, old + n):
            break


@helper
def wait(x, i, value, looks):
    """Until x[i] is at least `value`; no longer than for so many looks."""
    for _ in range(looks):
        if peek(address(x), i) >= value:
            break


@kernel
def _do(queue, out, inside, slow, fails):
    """out += 1, helpers slowly. inside[0] counts the helpers that come, inside[1] those that go.

    Or the caller fails as soon as a helper has come.
    """
    helps = peek(address(queue), DESK) != 0
    if helps:
        add(inside, 0, 1)
    for piece in work(shared(queue)):
        if fails and not helps:
            wait(inside, 0, 1, PATIENCE)
            raise ValueError("the caller fails")
        wait(inside, 0, 1 << 60, slow * 5 if helps else slow)
        add(out, piece, 1)
    if helps:
        wait(inside, 0, 1 << 60, slow)
        add(inside, 1, 1)


@kernel
def _meet(queue, here, n):
    for _ in work(shared(queue)):
        add(here, 0, 1)
        wait(here, 0, n, PATIENCE)


class Job:
    """A kernel that knows at any time who works on it."""

    def __init__(self, pieces, slow=PAUSE, fails=False):
        self.out, self.inside = np.zeros(pieces, np.int64), np.zeros(2, np.int64)
        self.how = slow, fails

    def run(self):
        run(_do, len(self.out), self.out, self.inside, *self.how)

    def nobody_is_inside(self):
        return self.inside[0] == self.inside[1]

    def is_done(self):
        return self.out.tolist() == [1] * len(self.out)


def everybody_comes(n):
    """n threads are in one kernel at the same time: each has one of its pieces, and waits."""
    here = np.zeros(1, np.int64)
    run(_meet, n, here, n)
    return here[0] == n
