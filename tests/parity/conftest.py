"""What the tests against PyTorch share."""

import importlib.util

import numpy as np
import pytest

from minimix import kernels


@pytest.fixture(params=["numpy", "numba"])
def backend(request):
    """Runs the test in both back ends."""
    if request.param == "numba" and importlib.util.find_spec("numba") is None:
        pytest.skip("numba is not installed")
    with kernels.backend(request.param):
        yield request.param


@pytest.fixture
def agree():
    """agree(ours, theirs, rtol): to rtol each number, and to rtol/100 of the largest one near 0."""

    def compare(ours, theirs, rtol, what=""):
        theirs = theirs.detach().numpy() if hasattr(theirs, "detach") else np.asarray(theirs)
        assert ours.dtype == theirs.dtype, what
        scale = np.abs(theirs).max(initial=0.0)
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol * scale / 100, err_msg=what)

    return compare
