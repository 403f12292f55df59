"""Activations and dropout: against their definitions, at the edges of what floats can hold."""

import math

import numpy as np
import pytest

from minimix import Tensor
from minimix import functional as F

FLOATS = [np.float32, np.float64]


def slope(f, x):
    t = Tensor(x, requires_grad=True)
    f(t).backward(np.ones(x.shape))
    return t.grad


def test_gelu_is_x_times_the_normal_distribution_function(backend):
    x = np.linspace(-9, 9, 301)
    cdf = np.array([0.5 * math.erfc(-t / math.sqrt(2)) for t in x])
    pdf = np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    # To within the rounding of 1 + erf, which loses the digits of a tail that is nearly 0.
    np.testing.assert_allclose(F.gelu(x).array, x * cdf, rtol=1e-12, atol=3e-15)
    np.testing.assert_allclose(slope(F.gelu, x), cdf + x * pdf, rtol=1e-12, atol=3e-15)


def test_gelu_s_tanh_form(backend):
    x = np.linspace(-9, 9, 301)
    y = 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    np.testing.assert_allclose(F.gelu(x, approximate="tanh").array, y, rtol=1e-12, atol=3e-15)
    assert np.abs(y - F.gelu(x).array).max() < 1e-3


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    "f",
    [F.gelu, lambda x: F.gelu(x, approximate="tanh"), F.sigmoid, F.tanh, F.relu],
    ids=["gelu", "gelu tanh", "sigmoid", "tanh", "relu"],
)
def test_nothing_overflows_at_the_edges(f, dtype, backend):
    x = np.array([-1e4, -200, -100, -40, 0, 40, 100, 200, 1e4], dtype)
    y, dx = f(Tensor(x)).array, slope(f, x)
    assert y.dtype == dx.dtype == dtype
    assert np.isfinite(y).all()
    assert np.isfinite(dx).all()
    assert abs(dx[0]) < 1e-20
    assert y[0] == -1 if f is F.tanh else abs(y[0]) < 1e-20
    assert y[-1] in (1, x[-1])


@pytest.mark.parametrize("f", [F.gelu, F.relu, F.sigmoid, F.tanh, F.softmax, F.exp])
def test_what_is_not_a_number_stays_so(f, backend):
    assert np.isnan(f(np.array([[np.nan, 1.0]])).array[0, 0])


def test_a_small_sigmoid_keeps_its_digits():
    x = np.array([-700.0, -40.0, -1.0, 0.0, 1.0, 40.0])
    expected = [math.exp(t) / (1 + math.exp(t)) for t in x]
    np.testing.assert_allclose(F.sigmoid(x).array, expected, rtol=1e-15)
    np.testing.assert_allclose(
        slope(F.sigmoid, x),
        [math.exp(-abs(t)) / (1 + math.exp(-abs(t))) ** 2 for t in x],
        rtol=1e-15,
    )


def test_relu_at_its_kink():
    assert slope(F.relu, np.array([-1.0, 0.0, 2.0])).tolist() == [0, 0, 1]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax_sums_to_one_however_large_its_input(axis, dtype):
    x = np.array([[1e4, -1e4, 1e4], [0, 1, 2]], dtype)
    y = F.softmax(x, axis=axis).array
    assert y.dtype == dtype
    np.testing.assert_allclose(y.sum(axis=axis), 1, rtol=1e-6)
    logs = F.log_softmax(x, axis=axis).array
    assert logs.dtype == dtype
    assert np.isfinite(logs).all()
    np.testing.assert_allclose(np.exp(logs), y, rtol=1e-6)
    assert np.isfinite(slope(lambda t: F.log_softmax(t, axis=axis), x)).all()


def test_softmax_by_hand():
    x = np.log([[1.0, 2.0, 5.0]])
    np.testing.assert_allclose(F.softmax(x).array, [[1 / 8, 2 / 8, 5 / 8]], rtol=1e-15)
    np.testing.assert_allclose(F.softmax(x + 1000).array, [[1 / 8, 2 / 8, 5 / 8]], rtol=1e-12)


# ---- dropout


def test_dropout_zeroes_some_and_scales_the_rest():
    x = Tensor(np.full((100, 100), 2.0), requires_grad=True)
    y = F.dropout(x, p=0.25, rng=np.random.default_rng(0))
    kept = y.array != 0
    assert set(np.unique(y.array)) == {0, 2 / 0.75}
    assert 0.72 < kept.mean() < 0.78
    y.backward(np.full((100, 100), 3.0))
    np.testing.assert_array_equal(x.grad, np.where(kept, 3 / 0.75, 0))


def test_dropout_of_nothing_and_of_a_single_number():
    x = np.arange(5.0)
    assert np.array_equal(F.dropout(x, p=0, rng=np.random.default_rng(0)).array, x)
    assert F.dropout(np.array(3.0), p=0.5, rng=np.random.default_rng(0)).shape == ()
    assert F.dropout(x.astype("f"), p=0.5, rng=np.random.default_rng(0)).dtype == np.float32


@pytest.mark.parametrize("p", [-0.1, 1, 1.5, math.nan])
def test_dropout_of_everything(p):
    with pytest.raises(ValueError, match=f"dropout: p is {p}; expected 0 ≤ p < 1"):
        F.dropout(np.ones(2), p=p, rng=np.random.default_rng(0))
