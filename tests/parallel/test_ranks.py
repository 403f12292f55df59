"""What several processes compute together, started by mpiexec."""

import sys
from pathlib import Path

import pytest

from minimix.errors import MinimixError
from minimix.parallel import ALONE, apart, world

HERE = Path(__file__).parent


@pytest.mark.parametrize("n", [2, 3])
def test_batch_norms_look_at_all_ranks_images(mpiexec, n):
    code, out, err = mpiexec(n, HERE / "norms.py", MINIMIX_BACKEND="numpy")
    assert (code, out) == (0, "batch norms agree\n"), err


@pytest.fixture
def launched(monkeypatch):
    """launched(n): as if a launcher had started this process as one of n; mpi4py is not there."""
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    monkeypatch.delitem(sys.modules, "mpi4py.MPI", raising=False)

    def start(n):
        monkeypatch.setenv("PMI_RANK", "0")
        monkeypatch.setenv("PMI_SIZE", str(n))

    return start


def test_alone_nothing_is_imported(launched):
    assert world.__wrapped__() is ALONE
    launched(1)
    assert world.__wrapped__() is ALONE


def test_several_processes_without_mpi4py_are_told(launched):
    launched(4)
    with pytest.raises(MinimixError, match=r"started 4 processes.*pip install 'minimix\[mpi\]'"):
        world.__wrapped__()


def test_what_is_started_apart_is_no_rank():
    assert apart({"PMI_RANK": "1", "PMI_SIZE": "4", "PATH": "x"}) == {"PATH": "x"}
