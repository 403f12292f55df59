"""What the tests of the command line share: a small data set, and no network."""

import pytest

from minimix import kernels
from minimix.data import shapes10


@pytest.fixture(autouse=True)
def _small_and_in_numpy(monkeypatch, tmp_path):
    few = shapes10.load(150, 60)
    monkeypatch.setattr(shapes10, "load", lambda: few)
    monkeypatch.setenv("MINIMIX_BACKEND", "numpy")
    monkeypatch.setenv("MINIMIX_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    with kernels.backend("numpy"):
        yield
