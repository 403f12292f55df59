"""Programs that run in several processes, started by mpiexec."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
MPIEXEC = shutil.which("mpiexec", path=PATH)
MISSING = "mpiexec" if MPIEXEC is None else "mpi4py" * (importlib.util.find_spec("mpi4py") is None)
LIMIT = 60  # seconds, after which what hangs is killed


def start(n, *arguments, **settings):
    """Start `python arguments` in n processes, with one thread each."""
    if MISSING:
        pytest.skip(f"{MISSING} is not installed: pip install 'minimix[mpi]'")
    env = {**os.environ, "PATH": PATH, "OMP_NUM_THREADS": "1", **settings}
    command = [MPIEXEC, "-n", str(n), sys.executable, *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=env, start_new_session=True, **pipes)


def finish(process):
    """Wait for it: its exit code, what it printed, and what it printed on standard error."""
    try:
        out, err = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        pytest.fail(f"still running after {LIMIT} s: {process.args}\n{out}\n{err}")
    return process.returncode, out, err


@pytest.fixture
def mpiexec():
    """mpiexec(n, *arguments, **environment) -> exit code, stdout, stderr"""
    return lambda n, *arguments, **settings: finish(start(n, *arguments, **settings))
