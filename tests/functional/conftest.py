"""What the tests of the operations share."""

import importlib.util

import pytest

from minimix import kernels


@pytest.fixture(params=["numpy", "numba"])
def backend(request):
    """Runs the test in both back ends."""
    if request.param == "numba" and importlib.util.find_spec("numba") is None:
        pytest.skip("numba is not installed")
    with kernels.backend(request.param):
        yield request.param
