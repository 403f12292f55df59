"""Moments of two parts together."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from minimix.parallel.moments import merge, whole_moments, whole_sums


def moments(x):
    """m, μ and S of numbers (m, C), as rows (C, 3)."""
    squares = np.square(x - x.mean(axis=0)).sum(axis=0)
    return np.stack([np.full(x.shape[1], float(len(x))), x.mean(axis=0), squares], axis=1)


def test_known_moments():
    a, b = moments(np.array([[1.0], [3.0]])), moments(np.array([[8.0]]))
    np.testing.assert_array_equal(merge(a, b), [[3, 4, 26]])  # 9 + 1 + 16


@given(st.integers(1, 30), st.integers(1, 30), st.sampled_from([0, 1, 1e4, 1e8]))
def test_merged_moments_are_those_of_all_numbers(m, n, mean):
    rng = np.random.default_rng(m * 100 + n)
    x, y = rng.normal(mean, 1, (m, 3)), rng.normal(mean, 2, (n, 3))
    x[:, 2] = y[:, 2] = 5.0
    merged, swapped = merge(moments(x), moments(y)), merge(moments(y), moments(x))
    np.testing.assert_array_equal(merged, swapped)  # the same bits, whoever is first
    expected = moments(np.concatenate([x, y]))
    np.testing.assert_allclose(merged, expected, rtol=max(1e-12, 1e-15 * mean))
    assert merged[2, 2] == 0  # a constant channel has no variance at all


def test_alone_nothing_changes():
    mean, var = np.ones(3), np.full(3, 2.0)
    same_mean, same_var, m = whole_moments(mean, var, 7)
    assert same_mean is mean
    assert same_var is var
    assert m == 7
    assert whole_sums(mean, var, 7) == (mean, var)
