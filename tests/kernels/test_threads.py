"""The same bits for any number of threads, from any thread, in a forked child."""

import ast
import hashlib
import itertools
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import jobs
import numpy as np
import pytest
from jobs import add, everybody_comes, wait
from llvmlite import ir

import minimix
from minimix import kernels
from minimix.kernels.simd import team, threads
from minimix.kernels.simd.jit import kernel
from minimix.kernels.simd.team import run
from minimix.kernels.simd.vectors import address
from minimix.kernels.simd.work import (
    APART,
    ASLEEP,
    BYTES,
    DESK,
    DOES,
    FAILED,
    I64,
    LEAST,
    MORE,
    MOST,
    NEXT,
    PATIENCE,
    _repeat,
    leave,
    peek,
    shared,
    work,
)


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


@kernel
def _fail(queue, in_helpers, seen):
    helps = peek(address(queue), DESK) != 0
    for _ in work(shared(queue)):
        if helps == in_helpers:
            add(seen, 0, 1)
            raise ValueError("a kernel's own error")
        wait(seen, 0, 1, jobs.PATIENCE)  # else nothing may be left for the one that is to fail


def test_an_error_in_a_kernel_reaches_the_caller_and_leaves_the_threads_usable():
    kernels.set_num_threads(3)
    for _ in range(300):  # memory that is let go of twice shows only later
        seen = np.zeros(1, np.int64)
        with pytest.raises(ValueError, match="a kernel's own error"):
            run(_fail, 100, False, seen)
        assert everybody_comes(3)


def test_the_error_of_a_helper_is_raised_when_all_have_left():
    kernels.set_num_threads(3)
    for _ in range(20):
        seen = np.zeros(1, np.int64)
        with pytest.raises(MemoryError, match="_fail: no memory left in one of its threads"):
            run(_fail, 100, True, seen)
        assert everybody_comes(3)


@pytest.mark.parametrize("n", [2, 3, 8])
def test_every_thread_helps(n):
    kernels.set_num_threads(n)
    for _ in range(20):
        assert everybody_comes(n)


def test_a_helper_that_sleeps_is_woken():
    kernels.set_num_threads(3)
    assert everybody_comes(3)
    helpers = team._helpers[:2]
    for _ in range(3):
        end = time.monotonic() + 30
        while not all(helper.desk[ASLEEP] for helper in helpers) and time.monotonic() < end:
            time.sleep(0.001)
        assert [helper.desk[ASLEEP] for helper in helpers] == [1, 1]
        assert everybody_comes(3)


@kernel
def _in_order(queue, taken, last_first):
    at = 0
    for piece in work(shared(queue), last_first):
        taken[at] = piece
        at = at + 1


def test_a_thread_takes_its_own_share_first_and_then_what_is_left_of_the_others():
    def taken(shares, last_first=False):
        order = np.full(20, -1)
        _in_order(shares, order, last_first)
        return [int(piece) for piece in order if piece >= 0]

    for n in range(1, 6):
        for pieces in range(20):
            parts = [range(t * pieces // n, (t + 1) * pieces // n) for t in range(n)]
            for t in range(n):
                for backward in (False, True):
                    shares = team._shares(pieces, n).copy()
                    mine = [part[::-1] if backward else part for part in parts[t:] + parts[:t]]
                    assert taken(shares[t:], backward) == [*itertools.chain(*mine)]
                    assert all(taken(shares[i:]) == [] for i in range(n))
    shares = team._shares(10, 2).copy()
    shares[0, NEXT] = 3  # as far as another thread has come
    assert taken(shares[1:]) == [5, 6, 7, 8, 9, 3, 4]


@kernel
def _look(queue, desks, seen):
    for piece in work(shared(queue)):
        seen[piece] = peek(address(desks), piece * APART + DOES)


def test_a_caller_asks_the_helpers_who_are_free_and_takes_back_what_nobody_began():
    shares, desks = team._shares(3, 4).copy(), np.zeros((3, APART), np.int64)
    shares[1:4, DESK] = [desk.ctypes.data for desk in desks]
    desks[1, DOES] = 4 << 40 | 1  # at work for somebody else
    desks[:, PATIENCE] = MOST
    seen = np.zeros(3, np.int64)
    _look(shares, desks, seen)
    where, row = shares.ctypes.data, shares.strides[0]
    assert seen.tolist() == [where + row, 4 << 40 | 1, where + 3 * row]
    assert desks[:, DOES].tolist() == [0, 4 << 40 | 1, 0]
    least = LEAST if threads.CORES > 3 else 0
    assert desks[:, PATIENCE].tolist() == [least, MOST, least]
    assert shares[:4, DESK].tolist() == [0] * 4
    assert shares[0, FAILED] == 0


def test_who_leaves_for_a_kernel_that_failed_lets_its_call_stand():
    shares = team._shares(3, 2).copy()
    shares[2:] = 7  # the call, which a helper that has been asked may yet make
    leave(shares)
    assert (shares[2:] == 7).all()
    assert shares[0, FAILED] == 0


def test_a_helper_asks_nobody():
    shares, desks = team._shares(2, 3).copy(), np.zeros((2, APART), np.int64)
    shares[1:3, DESK] = [desk.ctypes.data for desk in desks]
    seen = np.ones(2, np.int64)
    _look(shares[1:], desks, seen)
    assert seen.tolist() == [0, 0]
    assert shares[0, FAILED] == 1  # only the caller knows that work has ended


def with_cores(monkeypatch, cores):
    """As on a machine with so many: shares made for this one's are not used again."""
    monkeypatch.setattr(threads, "CORES", cores)
    monkeypatch.setattr(team, "_shares", team._shares.__wrapped__)


def test_a_helper_that_comes_late_looks_for_work_less_long(monkeypatch):
    with_cores(monkeypatch, 2)
    kernels.set_num_threads(2)
    assert everybody_comes(2)
    desk = team._helpers[0].desk
    desk[PATIENCE] = LEAST
    for i in range(1, 60):
        assert everybody_comes(2)
        assert desk[PATIENCE] == min(LEAST + i * MORE, MOST)
    shares, late = team._shares(2, 2).copy(), np.zeros(APART, np.int64)
    shares[1, DESK], late[PATIENCE] = late.ctypes.data, MOST
    _look(shares, np.zeros((2, APART), np.int64), np.zeros(2, np.int64))
    assert late[PATIENCE] == LEAST


def test_more_threads_than_cores_keep_nobody_waiting(monkeypatch):
    with_cores(monkeypatch, 1)
    kernels.set_num_threads(2)
    assert everybody_comes(2)
    assert team._helpers[0].desk[PATIENCE] == 0


def test_the_call_of_a_helper_has_the_callers_arguments_but_its_own_share_and_owns_nothing():
    array = [BYTES, BYTES, I64, I64, I64.as_pointer(), I64, I64]
    status = ir.FunctionType(ir.IntType(32), [BYTES.as_pointer(), BYTES.as_pointer(), *array * 2])
    kernel = ir.Function(ir.Module(), status, "k")
    call = ir.LiteralStructType([I64, *array * 2])
    text = str(_repeat(kernel, call, 4))
    [line] = [line for line in text.splitlines() if " call " in line]
    given = line.partition("(")[2].rpartition(")")[0].split(", ")[2:]
    assert [i for i, value in enumerate(given) if value == "i8* null"] == [0, 7]
    assert text.count("inttoptr") == 1
    assert text.partition("inttoptr")[0].rpartition("\n")[2].strip(" =") == given[4].split()[1]


def test_too_many_arguments_to_write_down():
    def many(queue, xs):
        for _ in work(shared(queue)):
            pass

    with pytest.raises(Exception, match="too many arguments to share"):
        kernel(many)(team._shares(1, 1).copy(), (np.ones(1),) * 40)


def functions():
    """All functions that may be compiled: their syntax trees and what decorates them."""
    for path in Path(minimix.__file__).parent.rglob("*.py"):
        compiled = {"compiled", "simd"} & set(path.parts)
        for node in ast.walk(ast.parse(path.read_text())) if compiled else ():
            if isinstance(node, ast.FunctionDef):
                yield node, {ast.unparse(d).partition("(")[0] for d in node.decorator_list}


def calls(tree):
    """The calls of `shared` in a syntax tree, but those in functions inside of it."""
    for node in ast.iter_child_nodes(tree):
        if not isinstance(node, ast.FunctionDef):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "shared":
                yield node
            yield from calls(node)


def test_shared_stands_in_a_kernel_whose_first_argument_it_is_given():
    found = 0
    for function, decorators in functions():
        for call in (of_one := list(calls(function))):
            assert "kernel" in decorators, function.name
            assert ast.unparse(call) == f"shared({function.args.args[0].arg})"
            assert len(of_one) == 1, f"{function.name}: its work can be shared only once"
            found += 1
    assert found > 50


def test_kernels_raise_nothing_of_their_own():
    """Of a helper's error only this is known, that there was one: it can only be of memory."""
    for function, decorators in functions():
        if decorators & {"kernel", "helper"}:
            raising = [n for n in ast.walk(function) if isinstance(n, ast.Raise | ast.Assert)]
            assert raising == [], function.name


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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_can_compile(tmp_path):
    """Nothing is compiled in a helper: a child would inherit the compiler's lock, taken."""
    code = (
        "import os, numpy as np\n"
        "from minimix import kernels\n"
        "x = np.ones(50_000, np.float32)\n"
        "kernels.set_num_threads(1); kernels.gelu(x)\n"
        "kernels.set_num_threads(2); kernels.gelu(x)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    kernels.relu(x)\n"
        "    os._exit(0)\n"
        "raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    environment = os.environ | {"MINIMIX_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], timeout=120, env=environment)
    assert done.returncode == 0


def test_a_helper_that_cannot_begin_keeps_nobody_waiting(monkeypatch):
    def fail():
        raise MemoryError("no memory for a desk")

    kernels.set_num_threads(2)
    assert everybody_comes(2)  # so that all that this needs is compiled
    monkeypatch.setattr(team, "_helpers", [])
    monkeypatch.setattr(team, "_Helper", fail)
    monkeypatch.setattr(sys, "unraisablehook", lambda error: None)
    kernels.set_num_threads(3)
    assert kernels.gelu(np.ones(70_000, np.float32))[0] == pytest.approx(0.8413447)
    assert team._helpers == []


@pytest.mark.parametrize("n", [0, -1, 1.5, "2", True])
def test_a_number_of_threads_that_makes_no_sense(n):
    with pytest.raises(ValueError, match="set_num_threads"):
        kernels.set_num_threads(n)


def test_set_num_threads_is_what_get_num_threads_says():
    kernels.set_num_threads(5)
    assert kernels.get_num_threads() == 5
