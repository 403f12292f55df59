"""What the tests of training share."""

import pytest

from minimix import kernels


@pytest.fixture(autouse=True)
def _in_numpy(monkeypatch):
    """Networks this small need no compiled kernels, here or in the processes that are started."""
    monkeypatch.setenv("MINIMIX_BACKEND", "numpy")
    with kernels.backend("numpy"):
        yield
