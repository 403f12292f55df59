"""What several processes compute together, started by mpiexec."""

from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.parametrize("n", [2, 3])
def test_batch_norms_look_at_all_ranks_images(mpiexec, n):
    code, out, err = mpiexec(n, HERE / "norms.py", MINIMIX_BACKEND="numpy")
    assert (code, out) == (0, "batch norms agree\n"), err
