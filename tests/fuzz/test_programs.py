"""Random programs: both back ends and plain NumPy agree, whatever the memory their numbers lie in.

Seeded and bounded: the same programs each time. MINIMIX_FUZZ=10 runs ten times as many.
"""

import os
import signal
import time

import numpy as np
import pytest
from programs import Author, disguised

import minimix as mx
from minimix.kernels import get_num_threads, set_num_threads

TIMES = int(os.environ.get("MINIMIX_FUZZ", "1"))
SMALL = 400 * TIMES  # programs of a few thousand numbers
LARGE = 30 * TIMES  # of so many that several threads share the work


@pytest.fixture(autouse=True)
def threads():
    before = get_num_threads()
    yield
    set_num_threads(before)


def written(seed, large=False):
    """A program, and with it its leaves, cotangents and generator."""
    rng = np.random.default_rng([seed, large])
    program = Author(rng, large).written(int(rng.integers(2, 9)))
    values = program.meaning(program.leaves)
    size = max(1.0, *(np.abs(v).max(initial=0) for v in values))
    cotangents = [rng.standard_normal(v.shape) / size for v in values]
    return program, values, cotangents, rng


def agree(found, expected, tolerance, what):
    for i, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert a.shape == b.shape, f"{what} {i}"
        scale = np.abs(b).max(initial=1.0)
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * scale, err_msg=f"{what} {i}")


def differences(program, cotangents, direction, tolerance):
    """d/dt Σ value · cotangent at leaves + t direction, by a five-point stencil.

    Steps are halved until two of them agree; None where none do, at a kink.
    """

    def total(t):
        moved = [a + t * d for a, d in zip(program.leaves, direction, strict=True)]
        values = program.meaning(moved)
        return sum(float((v * c).sum()) for v, c in zip(values, cotangents, strict=True))

    def slope(h):
        return (total(-2 * h) - 8 * total(-h) + 8 * total(h) - total(2 * h)) / (12 * h)

    before = slope(1e-3)
    for halvings in range(1, 7):
        now = slope(1e-3 / 2**halvings)
        if abs(now - before) < tolerance:
            return now
        before = now
    return None


@pytest.mark.parametrize("seed", range(SMALL))
def test_both_back_ends_and_plain_numpy_agree(seed):
    program, values, cotangents, rng = written(seed)
    gradients = {}
    for backend in ("numpy", "numba"):
        for dtype, tolerance in ((np.float64, 1e-10), (np.float32, 2e-3)):
            leaves = [disguised(a, dtype, rng) for a in program.leaves]
            before = [a.tobytes() for a in leaves]
            with mx.backend(backend):
                found, gradients[backend, dtype] = program.run(leaves, cotangents)
            assert all(a.dtype == dtype for a in found), backend
            agree(found, values, tolerance, f"{backend} {dtype.__name__}: value")
            assert [a.tobytes() for a in leaves] == before, f"{backend}: a leaf was changed"
    exact = gradients["numpy", np.float64]
    agree(gradients["numba", np.float64], exact, 1e-10, "numba: gradient")
    for backend in ("numpy", "numba"):
        agree(gradients[backend, np.float32], exact, 1e-2, f"{backend} float32: gradient")

    direction = [rng.standard_normal(a.shape) for a in program.leaves]
    along = sum(float((g * d).sum()) for g, d in zip(exact, direction, strict=True))
    scale = 1 + sum(np.abs(g * d).sum() for g, d in zip(exact, direction, strict=True))
    slope = differences(program, cotangents, direction, 1e-6 * scale)
    if slope is None:
        assert not program.smooth
    else:
        assert abs(along - slope) < 1e-5 * scale


@pytest.mark.parametrize("seed", range(LARGE))
def test_the_same_bits_on_any_number_of_threads(seed):
    program, _, cotangents, _ = written(seed, large=True)
    leaves = [a.astype(np.float32) for a in program.leaves]
    with mx.backend("numba"):
        outcomes = []
        for n in (1, 2, 3, 8):
            set_num_threads(n)
            found, gradients = program.run(leaves, cotangents)
            outcomes.append([a.tobytes() for a in (*found, *gradients)])
    assert all(outcome == outcomes[0] for outcome in outcomes)


def interrupted(run, seconds):
    """KeyboardInterrupt somewhere in run(), as Ctrl-C in a notebook; or soon after it."""

    def stop(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        run()
        time.sleep(seconds + 0.1)
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers (not Windows)")
@pytest.mark.parametrize("seed", range(LARGE))
def test_an_interrupted_program_leaves_nothing_behind(seed):
    program, _, cotangents, rng = written(seed, large=True)
    leaves = [a.astype(np.float32) for a in program.leaves]
    with mx.backend("numba"):
        set_num_threads(3)
        found, gradients = program.run(leaves, cotangents)
        whole = [a.tobytes() for a in (*found, *gradients)]
        for _ in range(10):
            interrupted(lambda: program.run(leaves, cotangents), rng.uniform(1e-4, 2e-2))
            found, gradients = program.run(leaves, cotangents)
            assert [a.tobytes() for a in (*found, *gradients)] == whole
