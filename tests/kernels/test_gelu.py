"""GELU and its slope over the whole range of numbers, against the C library's erfc."""

import math

import numpy as np
import pytest

from minimix import kernels
from minimix.kernels.simd.rows import PIECE

BOTH = pytest.mark.parametrize("backend", kernels.BACKENDS)
FLOAT = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def everywhere(dtype):
    """Any float32 there is (by its bits), all that is near 0, and the ends."""
    bits = np.random.default_rng(0).integers(0, 2**32, 20_000, np.uint32).view(np.float32)
    ends = [0.0, -0.0, 1e-45, -1e-45, 1e-38, -1e-38, 5.2537, -5.5918, 3.4e38, -3.4e38]
    huge = [1e10, 1e12, 1e13, 3e19, 1e30, math.inf]
    x = [bits[np.isfinite(bits)], np.linspace(-15, 15, 60_001), ends, huge, np.negative(huge)]
    return np.concatenate(x, dtype=np.float32, casting="same_kind").astype(dtype)


@np.vectorize
def exact(x):
    """(x Φ(x), its slope)"""
    cdf = math.erfc(-x * 0.5**0.5) / 2
    if abs(x) > 40:
        return max(x, 0.0), cdf
    return x * cdf, cdf + x * math.exp(-x * x / 2) / math.sqrt(2 * math.pi)


@np.vectorize
def by_tanh(x):
    """(x σ(2u), its slope), u = √(2/π) (x + 0.044715 x³)"""
    if abs(x) > 15:
        return max(x, 0.0), float(x > 0)
    twice = 2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)
    cdf, rest = 1 / (1 + math.exp(-twice)), 1 / (1 + math.exp(twice))
    slope = 2 * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x * x)
    return x * cdf, cdf + x * cdf * rest * slope


FORMS = {
    "exact": (exact, kernels.gelu, kernels.gelu_backward),
    "tanh": (by_tanh, kernels.gelu_tanh, kernels.gelu_tanh_backward),
}


@BOTH
@FLOAT
@pytest.mark.parametrize("form", FORMS)
def test_every_number(form, dtype, backend):
    right, value, slope = FORMS[form]
    x = everywhere(dtype)
    y, dy = right(x.astype(np.float64))
    with kernels.backend(backend):
        mine, slopes = value(x), slope(x, np.ones_like(x))
    tolerance = {"exact": 3e-7, "tanh": 5e-7}[form] if dtype == np.float32 else 1e-14
    relative = 2 * np.finfo(dtype).eps
    finite = np.isfinite(y)
    assert (mine[~finite] == y[~finite]).all()
    assert (np.abs(mine[finite] - y[finite]) <= tolerance + relative * np.abs(y[finite])).all()
    assert (mine * np.sign(x) >= 0).all()  # gelu(x) never has the other sign than x
    # The NumPy form takes tanh² from 1 in float32, and multiplies what is left by up to 40.
    tolerance = {"exact": 8e-7, "tanh": 2e-6}[form] if dtype == np.float32 else 2e-14
    assert np.abs(slopes - dy).max() < tolerance


@FLOAT
def test_a_number_gives_the_same_wherever_it_stands(dtype):
    """Whole vectors and what is left behind them, within a piece and at its end."""
    x, g = np.random.default_rng(1).standard_normal((2, PIECE + 70)).astype(dtype)
    for _, value, slope in FORMS.values():
        y, dx = value(x), slope(x, g)
        for n in (*range(70), *range(PIECE - 2, PIECE + 3), PIECE + 69):
            np.testing.assert_array_equal(value(x[:n]), y[:n])
            np.testing.assert_array_equal(slope(x[:n], g[:n]), dx[:n])


@BOTH
@FLOAT
def test_where_x_overflows_the_slope_is_0_or_1(dtype, backend):
    x = np.array([-np.inf, -3e38, -1e30, -3e19, -1e13, -1e12, -1e10, 1e10, 3e19, 3e38], dtype)
    expected = (x > 0).astype(dtype)
    for _, value, slope in FORMS.values():
        with kernels.backend(backend):
            np.testing.assert_array_equal(slope(x, np.ones_like(x)), expected)
            np.testing.assert_array_equal(value(x), np.maximum(x, 0))


@BOTH
@FLOAT
def test_not_a_number_stays_so(dtype, backend):
    x = np.full(40, np.nan, dtype)
    for _, value, slope in FORMS.values():
        with kernels.backend(backend):
            assert np.isnan(value(x)).all()
            assert np.isnan(slope(x, np.ones_like(x))).all()
            assert np.isnan(slope(np.ones_like(x), x)).all()


def test_forward_and_backward_see_the_same_activation():
    """Batch norm behind GELU is differentiated at the value that the forward pass gave."""
    z = np.linspace(-8, 8, 3000, dtype=np.float32).reshape(1, 30, 100, 1)
    one = np.ones(1, np.float32)
    value = kernels.act_affine(z, one, 0 * one)
    np.testing.assert_array_equal(value, kernels.gelu(z))
    # dz = gelu′(z) (p g + q gelu(z) + o): with p = o = 0 it is q gelu gelu′
    m = np.float32(z.size)
    both = kernels.act_norm_backward(z, 0 * z, (0 * one, one, one, -m * one, 0 * one))
    np.testing.assert_array_equal(both, value * kernels.gelu_backward(z, np.ones_like(z)))
