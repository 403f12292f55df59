"""The same bits for any number of threads, from any thread, in a forked child."""

import hashlib
import itertools
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from minimix import kernels
from minimix.kernels.simd import threads


@pytest.fixture(autouse=True)
def same_number_of_threads_afterwards():
    before = kernels.get_num_threads()
    yield
    kernels.set_num_threads(before)


def everything():
    """Digests of every kernel's results on something large enough to be divided."""
    rng = np.random.default_rng(0)
    x, g = rng.standard_normal((2, 20, 9, 9, 40)).astype(np.float32)
    rows, g_rows = x.reshape(-1, 40), g.reshape(-1, 40)
    w, k3 = rng.standard_normal((40, 40)), rng.standard_normal((3, 3, 40))
    w, k3, c = w.astype(np.float32), k3.astype(np.float32), rows[0]
    p, m, v = np.abs(rng.standard_normal((3, 70_000))).astype(np.float32)
    kernels.adamw_update([(p, m[::-1].copy(), m, v, 1)], 0.1, 0.9, 0.9, 1e-8, 0.1)
    one = x.reshape(1, 81, 20, 40)  # an image in bands, where there are several threads
    five = (c, rows[1], rows[2], rows[3], rows[4])
    results = (
        p, m, v,
        kernels.gelu(x), kernels.gelu_backward(x, g),
        kernels.matmul(rows, w), kernels.matmul(rows.T, g_rows),
        kernels.matmul(g_rows[:, :39].T[:, :400].copy(), rows[:400].repeat(4, axis=1)),
        kernels.conv2d_relu(x, w[None, None], 1, 0, five[:4], g),
        kernels.conv2d_relu(x[:3], w[None, None], 3, 0, five[:4]),
        kernels.channel_sum(rows), *kernels.channel_moments(rows),
        kernels.normalize(rows, c, c, c, c),
        kernels.normalize_relu(rows, c, c, c, c),
        *kernels.batch_norm_sums(rows, g_rows, c, c),
        *kernels.relu_norm_sums(rows, g_rows, g_rows, c, c, rows),
        kernels.batch_norm_dx(rows, g_rows, five),
        kernels.depthwise_conv2d(x, k3), kernels.depthwise_conv2d_dw(x, g, 3),
        *kernels.embed(rows, w, c), *kernels.mix_places(x, k3, c),
        *kernels.mix_channels(x, g, c, c, w, c),
        kernels.infer_convmixer(x, (k3,), (w,), rows[:6].reshape(2, 3, 40)),
        kernels.infer_convmixer(one, (k3, k3), (w, w), rows[:12].reshape(4, 3, 40)),
        *kernels.mix_layer_norm(x, five[:3], 1e-5, w, five[2:], 1e-5, g),
        *kernels.mix_layer_norm_backward(x, g, five[:3], 1e-5, g, five[2:], 1e-5, w, x),
        *kernels.act_layer_norm_backward(x, g, five[:3], 1e-5),
        kernels.infer_convmixer(x, (k3,), (w,), rows[:6].reshape(2, 3, 40), None, np.abs(c[:2])),
        *kernels.act_norm_sums(x, g, c, c),
        *kernels.mix_channels_backward(x, g, five, g, x, five[:4], w),
        *kernels.mix_places_backward(x, g, five, g, k3),
    )  # fmt: skip
    return [hashlib.sha256(np.ascontiguousarray(r).tobytes()).hexdigest() for r in results]


def test_the_same_bits_for_any_number_of_threads():
    kernels.set_num_threads(1)
    alone = everything()
    for n in (2, 3, 7):
        kernels.set_num_threads(n)
        assert everything() == alone, f"{n} threads"


def test_several_python_threads_at_once():
    kernels.set_num_threads(3)
    x = np.random.default_rng(0).standard_normal(50_000).astype(np.float32)
    truth = kernels.gelu(x).tobytes()
    wrong = []

    def caller():
        wrong.extend(i for i in range(50) if kernels.gelu(x).tobytes() != truth)

    callers = [threading.Thread(target=caller) for _ in range(4)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join()
    assert wrong == []


def test_an_error_in_a_kernel_reaches_the_caller_and_leaves_the_threads_usable():
    kernels.set_num_threads(3)
    with pytest.raises(ZeroDivisionError):
        threads.run(lambda queue: 1 / 0, 100)
    x = np.ones(50_000, np.float32)
    assert kernels.gelu(x)[0] == pytest.approx(0.8413447)


def test_every_thread_helps():
    kernels.set_num_threads(3)
    end = time.monotonic() + 30
    while any(inbox.qsize() for inbox in threads._inboxes) and time.monotonic() < end:
        time.sleep(0.001)  # helpers that still look at earlier kernels' places would be left out
    meeting = threading.Barrier(3, timeout=30)
    threads.run(lambda queue: meeting.wait(), 3)


def test_a_thread_takes_its_own_share_first_and_then_what_is_left_of_the_others():
    pytest.importorskip("numba", reason="only compiled kernels share work")
    from minimix.kernels.simd.jit import kernel
    from minimix.kernels.simd.vectors import address, work

    @kernel
    def in_order(queue, taken, last_first):
        at = 0
        for piece in work(address(queue), last_first):
            taken[at] = piece
            at = at + 1

    def taken(share, last_first=False):
        order = np.full(20, -1)
        in_order(share, order, last_first)
        return [int(piece) for piece in order if piece >= 0]

    for n in range(1, 6):
        for pieces in range(20):
            parts = [range(t * pieces // n, (t + 1) * pieces // n) for t in range(n)]
            for t in range(n):
                for backward in (False, True):
                    shares = threads._shares(pieces, n).copy()
                    mine = [part[::-1] if backward else part for part in parts[t:] + parts[:t]]
                    assert taken(shares[t], backward) == [*itertools.chain(*mine)]
                    assert all(taken(share) == [] for share in shares)
    shares = threads._shares(10, 2).copy()
    shares[0, threads.NEXT] = 3  # as far as another thread has come
    assert taken(shares[1]) == [5, 6, 7, 8, 9, 3, 4]


def test_a_caller_that_begins_tells_the_helpers_and_a_helper_tells_nobody():
    pytest.importorskip("numba", reason="only compiled kernels share work")
    from minimix.kernels.simd.jit import kernel
    from minimix.kernels.simd.spin import linger, settle
    from minimix.kernels.simd.vectors import address, work

    @kernel
    def begin(queue):
        for _ in work(address(queue)):
            pass

    desks = np.zeros((2, 2), np.int64)
    shares = threads._shares(6, 3).copy()
    shares[1:, threads.DESK] = [desk.ctypes.data for desk in desks]
    begin(shares[1])
    assert desks.tolist() == [[0, 0], [0, 0]]
    begin(shares[0])
    assert desks.tolist() == [[1, 0], [1, 0]]
    linger(desks[0].ctypes.data, 7, 10)
    settle(desks[0].ctypes.data, 7)
    linger(desks[1].ctypes.data, 8, 10)
    settle(desks[1].ctypes.data, 9)  # which never comes: it waits for a moment only
    assert desks.tolist() == [[1, 7], [1, 8]]


def test_a_helper_that_comes_late_looks_for_work_less_long():
    inbox, place = threads._Inbox(), threads._Place(print, ())
    shortest, longest = threads.PATIENCE
    found = []
    for place.begun in [True, True, False, True, *[True] * 100, False]:
        threads._settle([inbox], [place])
        found.append(inbox.patience)
    more = shortest + threads.MORE
    assert found[:4] == [more, more + threads.MORE, shortest, more]
    assert found[-2:] == [longest, shortest]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_has_its_own_threads():
    code = (
        "import os, numpy as np\n"
        "from minimix import kernels\n"
        "kernels.set_num_threads(2)\n"
        "x = np.ones(50_000, np.float32); y = kernels.gelu(x)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os._exit(0 if (kernels.gelu(x) == y).all() else 1)\n"
        "raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


@pytest.mark.parametrize("n", [0, -1, 1.5, "2", True])
def test_a_number_of_threads_that_makes_no_sense(n):
    with pytest.raises(ValueError, match="set_num_threads"):
        kernels.set_num_threads(n)


def test_set_num_threads_is_what_get_num_threads_says():
    kernels.set_num_threads(5)
    assert kernels.get_num_threads() == 5
