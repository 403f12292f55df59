"""An exception at any step of the pool of threads leaves every later kernel whole.

Python lets a signal handler, and so Ctrl-C, raise between any two steps of the main thread.
"""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import threading
import weakref

import jobs
import pytest
from jobs import Job, everybody_comes

from minimix import kernels
from minimix.kernels.simd import team, threads


@pytest.fixture(autouse=True)
def same_number_of_threads_afterwards():
    before = kernels.get_num_threads()
    yield
    kernels.set_num_threads(before)


class Injected(BaseException):
    pass


def raise_at(step, names):
    """A trace function that raises at the step-th bytecode (line, call, return) of these files."""
    steps = itertools.count()

    def trace(frame, event, argument):
        if frame.f_code.co_filename not in names:
            return None
        frame.f_trace_opcodes = True
        if next(steps) == step:
            raise Injected
        return trace

    return trace


def interrupted(step, names, action):
    """Whether `action` took so many steps that it was interrupted at this one."""
    before = sys.gettrace()
    sys.settrace(raise_at(step, names))
    try:
        action()
    except Injected:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.parametrize("n", [1, 2, 3, 4, 8])
def test_an_exception_at_any_bytecode_leaves_the_threads_as_they_were(n):
    kernels.set_num_threads(n)
    assert everybody_comes(n)
    for step in itertools.count():
        job = Job(n + 1)
        raised = interrupted(step, (team.__file__, jobs.__file__), job.run)
        assert job.nobody_is_inside(), f"step {step}: a helper is still at work"
        entered = job.inside[0]
        if not raised:
            assert job.is_done()
        for _ in range(2):
            after = Job(n + 1)
            after.run()
            assert after.is_done(), f"after step {step}"
            assert after.nobody_is_inside()
        assert job.inside[0] == entered, f"step {step}: a helper came when the caller had left"
        if step % 10 == 0 or not raised:
            assert everybody_comes(n)
        if not raised:
            break
    assert step > (20 if n == 1 else 140)


@pytest.mark.parametrize("n", [2, 4])
def test_an_exception_while_an_error_is_on_its_way_waits_for_the_helpers_too(n):
    kernels.set_num_threads(n)
    assert everybody_comes(n)
    Job(20 * n).run()  # from here on every run takes the same steps
    late = 0
    for step in itertools.count():
        job, raised = Job(20 * n, slow=10 * jobs.PAUSE, fails=True), False
        with contextlib.suppress(ValueError):
            raised = interrupted(step, (team.__file__,), job.run)
            late += int(job.inside[0] > 0)  # the exception came after the error
        assert job.nobody_is_inside(), f"step {step}: a helper is still at work"
        if not raised:
            break
    assert late > 20
    assert everybody_comes(n)


@pytest.mark.parametrize("n", [2, 4])
def test_an_exception_while_the_helpers_are_hired_is_harmless(n, monkeypatch):
    kernels.set_num_threads(n)
    for step in itertools.count():
        monkeypatch.setattr(team, "_helpers", [])  # as after a fork
        job = Job(n)
        raised = interrupted(step, (team.__file__,), job.run)
        assert job.nobody_is_inside()
        assert everybody_comes(n)
        if not raised:
            break


def test_set_num_threads_can_be_interrupted_anywhere():
    for step in itertools.count():
        kernels.set_num_threads(2)
        raised = interrupted(step, (threads.__file__,), lambda: kernels.set_num_threads(4))
        assert everybody_comes(kernels.get_num_threads())
        if not raised:
            break
    assert kernels.get_num_threads() == 4


STORM = """
import itertools, random, signal, sys, time
import numpy as np
from minimix import kernels

kernels.set_num_threads(int(sys.argv[1]))
rng = np.random.default_rng(0)
x, w = rng.standard_normal((700, 48)).astype("f"), rng.standard_normal((48, 48)).astype("f")
long = rng.standard_normal(300_000).astype("f")
calls = (lambda: kernels.gelu(long), lambda: kernels.matmul(x, w), lambda: kernels.matmul(x.T, x),
         lambda: kernels.channel_moments(x)[0])
truth = [call().tobytes() for call in calls]
random.seed(0)
armed, hits, done = False, 0, 0


def strike(*_):
    signal.setitimer(signal.ITIMER_REAL, random.uniform(2e-5, 5e-4))
    if armed:
        raise KeyboardInterrupt


signal.signal(signal.SIGALRM, strike)
strike()
end = time.monotonic() + float(sys.argv[2])
for call, expected in itertools.cycle(zip(calls, truth)):
    result = None
    try:
        armed = True
        result = call()
        armed = False
    except KeyboardInterrupt:
        armed = False
        hits += 1
    if result is not None:
        done += 1
        if result.tobytes() != expected:
            sys.exit(f"a wrong result, after {hits} interrupts")
    if time.monotonic() > end and hits > 100 and done > 100:
        break
signal.signal(signal.SIGALRM, signal.SIG_IGN)  # a strike under way may set the timer once more
print(hits, done)
"""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timers")
@pytest.mark.parametrize("n", [1, 2, 3, 8])
def test_a_storm_of_signals_leaves_compiled_kernels_right(n):
    pytest.importorskip("numba")
    command = [sys.executable, "-c", STORM, str(n), "1.5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


# ---- from everywhere


def test_callers_in_several_threads_share_the_helpers():
    kernels.set_num_threads(3)
    wrong = []

    def caller():
        for _ in range(30):
            job = Job(6)
            job.run()
            wrong.extend([] if job.is_done() and job.nobody_is_inside() else [job])

    callers = [threading.Thread(target=caller) for _ in range(5)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join()
    assert wrong == []
    assert everybody_comes(3)


def test_what_a_kernel_was_given_is_let_go_of():
    kernels.set_num_threads(2)
    job = Job(8)
    gone = weakref.ref(job.out)
    job.run()
    del job
    assert gone() is None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_child_forked_while_kernels_run_has_threads_of_its_own():
    code = """
import os, threading
import numpy as np
from minimix import kernels
kernels.set_num_threads(3)
x = np.linspace(-3, 3, 400_000, dtype=np.float32)
truth = kernels.gelu(x).tobytes()
stop = []
def other():
    while not stop:
        kernels.gelu(x)
thread = threading.Thread(target=other)
thread.start()
codes = []
for _ in range(10):
    child = os.fork()
    if child == 0:
        kernels.set_num_threads(2)
        right = all(kernels.gelu(x).tobytes() == truth for _ in range(3))
        os._exit(0 if right else 1)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
stop.append(1)
thread.join()
raise SystemExit(codes != [0] * 10)
"""
    pytest.importorskip("numba")
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


# ---- how many threads by default


V1 = ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")
NESTED = "7:blkio:/x\n4:cpu,cpuacct:/a/b\n0::/a/b\n"


@pytest.mark.parametrize(
    ("files", "own", "cores"),
    [
        ({}, "", 8),
        ({"cpu.max": "max 100000\n"}, "", 8),
        ({"cpu.max": "200000 100000\n"}, "", 2),
        ({"cpu.max": "250000 100000\n"}, "", 3),
        ({"cpu.max": "5000 100000\n"}, "", 1),
        ({"cpu.max": "6400000 100000\n"}, "", 8),
        ({"cpu.max": "nonsense\n"}, "", 8),
        ({V1[0]: "-1\n", V1[1]: "100000\n"}, "", 8),
        ({V1[0]: "150000\n", V1[1]: "100000\n"}, "", 2),
        ({V1[0]: "150000\n", V1[1]: "0\n"}, "", 8),
        ({V1[0]: "150000\n"}, "", 8),
        # The groups that a process is in are found by their paths, and those around them count.
        ({"a/b/cpu.max": "300000 100000\n"}, "", 8),
        ({"a/b/cpu.max": "300000 100000\n"}, NESTED, 3),
        ({"a/b/cpu.max": "max 100000\n", "a/cpu.max": "200000 100000\n"}, NESTED, 2),
        ({"a/b/cpu.max": "300000 100000\n", "cpu.max": "50000 100000\n"}, NESTED, 1),
        ({"x/cpu.max": "100000 100000\n", "blkio/x/cpu.max": "100000 100000\n"}, NESTED, 8),
        ({"cpu/a/cpu.cfs_quota_us": "400000", "cpu/a/cpu.cfs_period_us": "100000"}, NESTED, 4),
    ],
)
def test_a_control_groups_quota_is_kept_to(tmp_path, files, own, cores):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert threads._quota(tmp_path, own, 8) == cores


@pytest.mark.parametrize(("asked", "n"), [("", 3), ("2", 2), ("9", 3), ("0", 3), ("x", 3)])
def test_affinity_and_the_number_asked_for_are_kept_to(monkeypatch, asked, n):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {1, 4, 5}, raising=False)
    monkeypatch.setattr(threads, "_quota", lambda _folder, _own, cores: cores)
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert threads._default() == n
