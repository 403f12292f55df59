"""Moments of two parts together."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minimix.functional as F
from minimix import Tensor, kernels, models
from minimix.fuse import fuse
from minimix.parallel import Ranks, synchronized
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


class Twins(Ranks):
    """Two ranks that look at the same images: this process is both."""

    def __init__(self):
        self.rank, self.size = 0, 2

    def sum(self, array):
        return array + array

    def reduce(self, array, merge):
        return merge(array, array)


@pytest.mark.parametrize("backend", kernels.BACKENDS)
@pytest.mark.parametrize("wrap", [fuse, lambda model: model])
def test_twins_see_what_one_sees(backend, wrap):
    """In both back ends: what compiled kernels are given must be what they take."""
    rng = np.random.default_rng(0)
    x, targets = rng.normal(size=(4, 8, 8, 3)).astype(np.float32), rng.integers(0, 3, 4)
    results = []
    for ranks in (Ranks(), Twins()):
        settings = {"kernel_size": 3, "patch_size": 2, "n_classes": 3, "rng": 0}
        model = models.ConvMixer(hidden_dim=8, depth=1, **settings)
        with kernels.backend(backend), synchronized(ranks):
            F.cross_entropy(wrap(model)(Tensor(x)), targets).backward()
        results.append({name: p.grad for name, p in model.named_parameters()})
        var = model.stem[2].running_var
        results[-1]["unbiased"] = (var - 0.9) / 0.1
    m = 4 * 4 * 4
    results[1]["unbiased"] *= (2 * m - 1) / (2 * m) * m / (m - 1)  # they are more of the same
    for name, expected in results[0].items():
        np.testing.assert_allclose(results[1][name], expected, rtol=1e-4, atol=1e-6, err_msg=name)
