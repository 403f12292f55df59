"""NaN and infinity come through: divergence must be seen in the loss."""

import numpy as np
import pytest
from back_ends import KERNELS, compiled

BAD = [np.nan, np.inf, -np.inf]


def spoiled(shape, bad, dtype):
    x = np.ones(shape, dtype)
    x.reshape(-1)[x.size // 2] = bad
    return x


def lost(*results):
    """Whether a result is finite throughout, as if nothing had happened."""
    return any(np.isfinite(r).all() for r in results)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bad", BAD)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_what_is_not_finite_stays_so(bad, dtype):
    image = spoiled((2, 5, 5, 20), bad, dtype)
    rows, good, c = image.reshape(-1, 20), np.ones((50, 20), dtype), np.ones(20, dtype)
    moments = 1 if bad == -np.inf else 2  # gelu(−∞) is 0: z shows it, the mean of gelu(z) not
    w, k3 = np.ones((20, 20), dtype), np.ones((3, 3, 20), dtype)
    conv, eye = np.ones((3, 3, 20, 1, 20), dtype), np.eye(50, dtype=dtype)
    assert not lost(
        compiled.matmul(rows, w),
        compiled.matmul(rows.T, good),
        compiled.relu(np.abs(rows)),
        compiled.relu_backward(good, rows),
        compiled.layer_norm(rows, c, c, 1e-5),
        *compiled.layer_norm_backward(rows, good, c, 1e-5)[:2],
        compiled.matmul_stack(rows[None], w[None]),
        compiled.matmul_stack(good.T[None], rows[None]),
        compiled.attention(rows, good, good),
        compiled.attention(good, rows * rows, good),  # a score of −∞ is a weight of 0
        compiled.attention(good, good, rows),
        *compiled.attention_backward(good, good, good, rows),
        compiled.channel_sum(rows),
        compiled.linear(rows, w, c, rows),
        compiled.linear(np.abs(rows), w, c, None, "gelu"),
        compiled.linear(rows, w, c, None, 1e-5),
        compiled.linear(rows, w, c, None, "", (c, c), c),
        *compiled.mlp(np.abs(rows), w, c, w, c, keep=True),
        *compiled.mlp(good, w, c, w, c, rows),
        *compiled.linear_backward(good, rows, w, c),
        *compiled.linear_backward(good, rows, w, c, None, "", (c, c), c),
        compiled.linear_backward(good, good, w, c, rows, 1e-5)[0],
        compiled.linear_tokens(rows[None], eye, np.ones(50, dtype), good[None], "", (c, c), c),
        *compiled.linear_tokens_backward(good[None], rows[None], eye, np.ones(50, dtype)),
        *compiled.channel_moments(rows),
        compiled.normalize(rows, c, c, c, c),
        compiled.normalize_relu(np.abs(rows), c, c, c, c, np.abs(rows)),
        compiled.batch_norm_sums(good, rows, c, c)[1],
        *compiled.relu_norm_sums(good, good, rows, c, c)[::2],
        *compiled.relu_norm_sums(good, good, good, c, c, rows)[::2],
        compiled.batch_norm_dx(good, rows, (c,) * 5),
        compiled.conv2d(image[:, :, :, None], conv, 1, 1, (1, 1, 1, 1)),
        compiled.conv2d_relu(np.abs(image), conv[:, :, :, 0], 1, 1, (c, c, c, c), np.abs(image)),
        compiled.conv2d_dx(image[:, :, :, None], conv, (5, 5), 1, 1, (1, 1, 1, 1)),
        compiled.conv2d_dw(
            np.ones_like(image)[:, :, :, None], image[:, :, :, None], (3, 3), 1, 1, (1, 1, 1, 1)
        ),
        compiled.depthwise_conv2d(image, k3),
        compiled.depthwise_conv2d_dw(image, np.ones_like(image), 3),
        compiled.act_layer_norm(np.abs(image), (c, c, c), 1e-5),
        *compiled.act_layer_norm_backward(np.ones_like(image), image, (c, c, c), 1e-5),
        *compiled.mix_layer_norm(
            np.ones_like(image), (c, c, c), 1e-5, w, (c, c, c), 1e-5, np.abs(image)
        ),
        *compiled.mix_layer_norm_backward(
            np.ones_like(image), image, (c, c, c), 1e-5, np.ones_like(image), (c, c, c), 1e-5, w
        ),
        *compiled.mix_places(image, k3, c)[:moments],
        *compiled.embed(rows, w, c)[:moments],
        compiled.mix_places_backward(
            np.ones_like(image), image, (c, c, c, c, c), np.ones_like(image), k3
        )[0],
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("width", [3, 20, 33])
def test_softmax_and_relu_of_what_is_not_finite(width, dtype):
    for bad in (np.nan, np.inf):
        y = compiled.softmax(spoiled((3, width), bad, dtype))
        assert np.isnan(y[1]).all()
        assert np.isfinite(y[::2]).all()
    x = np.zeros((3, width), dtype)
    x[1, width // 2] = -np.inf
    x[2, 1:] = -np.inf
    y = compiled.softmax(x)
    assert y[1, width // 2] == 0
    assert y[2].tolist() == [1] + [0] * (width - 1)
    assert np.isnan(compiled.softmax(np.full((1, width), -np.inf, dtype))).all()
    assert np.isnan(compiled.relu(np.full(width, np.nan, dtype))).all()
    assert not compiled.relu(np.full(width, -np.inf, dtype)).any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gelu_of_what_is_not_finite(dtype):
    x = np.array([np.nan, np.inf] * 9, dtype)
    for y in (compiled.gelu(x), compiled.gelu_tanh(x)):
        assert np.isnan(y[::2]).all()
        assert (y[1::2] == np.inf).all()
    one = np.ones_like(x)
    assert np.isnan(compiled.gelu_backward(x, one)[::2]).all()
    assert np.isnan(compiled.gelu_tanh_backward(x, one)[::2]).all()
    assert np.isnan(compiled.gelu_backward(one, x * 1)[::2]).all()


def test_adamw_keeps_nan():
    p, g, m, v = np.ones((4, 20), np.float32)
    g[3] = np.nan
    compiled.adamw_update([(p, g, m, v, 1)], 0.1, 0.9, 0.9, 1e-8, 0.1)
    assert np.isnan(p[3])
    assert np.isfinite(p[4:]).all()


def convolutions(x, w, g, padding=(1, 1, 1, 1)):
    """The three kernels of conv2d by both back ends, each as (compiled, reference)."""
    for name, arguments in (
        ("conv2d", (x, w, 1, 1, padding, g[0, 0, 0])),
        ("conv2d_dx", (g, w, x.shape[1:3], 1, 1, padding)),
        ("conv2d_dw", (x, g, (3, 3), 1, 1, padding)),
    ):
        yield getattr(compiled, name)(*arguments), KERNELS[name].reference(*arguments)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("bad", [*BAD, "large"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_convolution_by_3x3_is_not_finite_only_where_its_definition_is_not(bad, dtype):
    """Also where the tiles of Winograd's filtering would sum what no result sums."""
    large = bad == "large"
    rng = np.random.default_rng(0)
    for spoiled_one in (0, 1, 2) if large else (0, 2):  # a weight spoils whatever it may reach
        x, g = rng.uniform(0.1, 0.9, (2, 2, 8, 9, 1, 10)).astype(dtype)
        w = rng.uniform(0.001, 0.01, (3, 3, 10, 1, 10)).astype(dtype)
        one = (x, w, g)[spoiled_one].reshape(-1)
        value = np.finfo(dtype).max / 1.5 if large else bad
        one[[3, 23]] = value, -value  # two pixels, or weights, of which a tile has the difference
        for mine, truth in convolutions(x, w, g):
            np.testing.assert_array_equal(np.isfinite(mine), np.isfinite(truth))
            largest = np.abs(truth, where=np.isfinite(truth), out=np.zeros_like(truth)).max()
            np.testing.assert_allclose(mine, truth, rtol=1e-4, atol=1e-6 * largest)
