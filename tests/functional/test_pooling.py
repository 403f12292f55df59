"""Pooling: known answers, empty images, and what does not fit."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimix import Tensor
from minimix import functional as F


def pooled(f, x, g, **options):
    """The pooled image and the gradient of one image of one channel, as lists of rows."""
    x = Tensor(np.array(x, float)[None, :, :, None], requires_grad=True)
    y = f(x, **options)
    y.backward(np.array(g, float)[None, :, :, None])
    return y.array[0, :, :, 0].tolist(), x.grad[0, :, :, 0].tolist()


IMAGE = [[1, 5, 2], [4, 3, 9], [8, 7, 6]]


def test_the_largest_by_hand():
    y, dx = pooled(F.max_pool2d, IMAGE, [[1, 10], [100, 1000]], size=2, stride=1)
    assert y == [[5, 9], [8, 9]]
    assert dx == [[0, 1, 0], [0, 0, 1010], [100, 0, 0]]
    y, dx = pooled(F.max_pool2d, IMAGE, [[1, 10], [100, 1000]], size=2, padding=1)
    assert y == [[1, 5], [8, 9]]
    assert dx == [[1, 10, 0], [0, 0, 1000], [100, 0, 0]]
    assert pooled(F.max_pool2d, IMAGE, [[7]], size=2) == ([[5]], [[0, 7, 0], [0, 0, 0], [0, 0, 0]])


def test_the_mean_by_hand():
    y, dx = pooled(F.avg_pool2d, IMAGE, [[4, 40], [400, 4000]], size=2, stride=1)
    assert y == [[3.25, 4.75], [5.5, 6.25]]
    assert dx == [[1, 11, 10], [101, 1111, 1010], [100, 1100, 1000]]
    y, dx = pooled(F.avg_pool2d, IMAGE, [[4, 40], [400, 4000]], size=2, padding=1)
    assert y == [[0.25, 1.75], [3, 6.25]]
    assert dx == [[1, 10, 10], [100, 1000, 1000], [100, 1000, 1000]]


def test_the_first_of_equals_has_the_gradient():
    assert pooled(F.max_pool2d, [[0, 0], [0, 0]], [[3]], size=2)[1] == [[3, 0], [0, 0]]
    assert pooled(F.max_pool2d, [[1, 2], [2, 2]], [[3]], size=2)[1] == [[0, 3], [0, 0]]


@given(
    st.integers(0, 2), st.integers(1, 6), st.integers(1, 6), st.integers(0, 2), st.data(),
    st.sampled_from([np.float32, np.float64]),
)  # fmt: skip
def test_every_window_of_any_image(n, height, width, c, data, dtype):
    padding = data.draw(st.integers(0, 2), "padding")
    size = data.draw(st.integers(max(1, 2 * padding), min(height, width) + 2 * padding), "size")
    stride = data.draw(st.integers(1, 3), "stride")
    rng = np.random.default_rng(0)
    x = rng.integers(-9, 10, (n, height, width, c)).astype(dtype)
    options = {"size": size, "stride": stride, "padding": padding}
    for f, border, reduced in ((F.max_pool2d, -np.inf, np.max), (F.avg_pool2d, 0, np.mean)):
        leaf = Tensor(x, requires_grad=True)
        y = f(leaf, **options)
        around = np.pad(
            x, [(0, 0), (padding, padding), (padding, padding), (0, 0)], constant_values=border
        )
        rows = range(0, around.shape[1] - size + 1, stride)
        columns = range(0, around.shape[2] - size + 1, stride)
        assert y.shape == (n, len(rows), len(columns), c)
        assert y.dtype == dtype
        for i, h in enumerate(rows):
            for j, v in enumerate(columns):
                window = around[:, h : h + size, v : v + size]
                np.testing.assert_allclose(
                    y.array[:, i, j], reduced(window, axis=(1, 2)), rtol=1e-5, atol=1e-5
                )
        g = rng.integers(-4, 5, y.shape).astype(dtype)
        y.backward(g)
        assert leaf.grad.shape == x.shape
        if f is F.max_pool2d:
            assert leaf.grad.sum() == g.sum()
        else:  # linear: ⟨g, y⟩ = ⟨dx, x⟩
            assert np.vdot(g, y.array) == pytest.approx(np.vdot(leaf.grad, x), rel=1e-4, abs=1e-3)


@pytest.mark.parametrize("f", [F.max_pool2d, F.avg_pool2d])
@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((3, 3), {"size": 2}, "x has shape (3, 3); expected (N, H, W, C)"),
        ((1, 3, 3, 1), {"size": 0}, "size is 0; expected 1, 2, …"),
        ((1, 3, 3, 1), {"size": 2.0}, "size is 2.0; expected 1, 2, …"),
        ((1, 3, 3, 1), {"size": 2, "stride": 0}, "stride is 0; expected 1, 2, …"),
        ((1, 3, 3, 1), {"size": 2, "padding": -1}, "padding is -1; expected 0, 1, …"),
        ((1, 3, 3, 1), {"size": 2, "padding": 2}, "a window of 2×2 does not fit an image of 3×3"),
        ((1, 3, 5, 1), {"size": 4}, "a window of 4×4 does not fit an image of 3×5 with padding 0"),
        ((1, 0, 5, 1), {"size": 1}, "a window of 1×1 does not fit an image of 0×5 with padding 0"),
    ],
)
def test_windows_that_make_no_sense(f, shape, options, message):
    with pytest.raises(ValueError, match=re.escape(f"{f.__name__}: {message}")):
        f(np.ones(shape), **options)
