"""Layers: what they compute, how they begin, what they refuse."""

import re

import numpy as np
import pytest

from minimix import ConvMixer, Tensor, fuse, nn
from minimix import functional as F


def image(*shape):
    return Tensor(np.random.default_rng(0).standard_normal(shape).astype(np.float32))


# ---- what they compute


@pytest.mark.parametrize(
    ("layer", "operation", "x"),
    [
        (nn.Linear(4, 3, rng=0), F.linear, image(2, 4)),
        (nn.PointwiseConv2d(4, 3, rng=0), F.pointwise_conv2d, image(2, 3, 3, 4)),
        (nn.DepthwiseConv2d(4, 3, rng=0), F.depthwise_conv2d, image(2, 3, 3, 4)),
        (nn.Patchify(3, 5, 2, rng=0), F.patchify, image(2, 4, 6, 3)),
        (nn.Conv2d(4, 6, 3, rng=0), F.conv2d, image(2, 5, 5, 4)),
    ],
)
def test_a_layer_is_its_operation_with_its_parameters(layer, operation, x):
    expected = operation(x, layer.weight, layer.bias)
    assert np.array_equal(layer(x).array, expected.array)
    layer.bias = None
    assert np.array_equal(layer(x).array, operation(x, layer.weight).array)
    assert list(layer.state_dict()) == ["weight"]


def test_conv2d_passes_its_options_on():
    layer = nn.Conv2d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2, rng=0)
    x = image(1, 7, 7, 4)
    options = {"stride": 2, "padding": 1, "dilation": 2, "groups": 2}
    assert np.array_equal(layer(x).array, F.conv2d(x, layer.weight, layer.bias, **options).array)


def test_activations_are_their_operations():
    x = image(3, 4)
    for layer, expected in (
        (nn.GELU(), F.gelu(x)),
        (nn.GELU("tanh"), F.gelu(x, approximate="tanh")),
        (nn.ReLU(), F.relu(x)),
        (nn.Sigmoid(), F.sigmoid(x)),
        (nn.Identity(), x),
    ):
        assert np.array_equal(layer(x).array, expected.array)


def test_batch_norm_keeps_running_statistics_in_training_only():
    norm = nn.BatchNorm(2, momentum=0.5)
    x = Tensor(np.array([[1.0, 2.0], [3.0, 6.0]], np.float32))
    norm(x)
    assert norm.running_mean.tolist() == [1, 2]
    assert norm.running_var.tolist() == [1.5, 4.5]
    y = norm.eval()(x)
    assert norm.running_mean.tolist() == [1, 2]
    np.testing.assert_allclose(y.array[:, 0], [0, 2 / np.sqrt(1.5)], rtol=1e-4)


def test_dropout_in_training_only():
    layer = nn.Dropout(0.5, rng=0)
    x = Tensor(np.ones(1000, np.float32))
    once, again = layer(x).array, layer(x).array
    assert not np.array_equal(once, again)
    assert np.array_equal(nn.Dropout(0.5, rng=0)(x).array, once)
    assert layer.eval()(x) is x


def test_sequential_and_residual():
    a, b, c = nn.Linear(2, 2, rng=0), nn.GELU(), nn.Linear(2, 2, rng=1)
    seq = nn.Sequential(a, b, c)
    x = image(3, 2)
    assert np.array_equal(seq(x).array, c(b(a(x))).array)
    assert (seq[0], seq[-1], len(seq), list(seq)) == (a, c, 3, [a, b, c])
    assert list(seq[1:]) == [b, c]
    assert list(seq[1:].state_dict()) == ["1.weight", "1.bias"]
    assert np.array_equal(nn.Residual(a)(x).array, (a(x) + x).array)
    assert nn.Sequential()(x) is x


def test_a_mean_over_no_pixels_is_refused():
    for shape in ((2, 0, 3, 4), (2, 3, 0, 4)):
        with pytest.raises(ValueError, match=r"global_avg_pool: .*; .*[hw] ≥ 1"):
            nn.GlobalAvgPool()(image(*shape))
    assert nn.GlobalAvgPool()(image(0, 3, 3, 4)).shape == (0, 4)


def test_what_layers_do_unless_told_otherwise():
    norm = nn.BatchNorm(1)
    x = Tensor(np.array([[1.0], [3.0]], np.float32))
    norm(x)
    assert norm.running_mean[0] == pytest.approx(0.1 * 2, rel=1e-6)
    assert norm.running_var[0] == pytest.approx(0.9 * 1 + 0.1 * 2, rel=1e-6)
    norm.running_mean[:], norm.running_var[:] = 0, 0
    # 1/√ε, with ε = 10⁻⁵
    np.testing.assert_allclose(norm.eval()(x).array[0], 316.22777, rtol=1e-6)
    small = np.float32(1e-5**0.5)  # whose square is ε
    y = nn.LayerNorm(2)(Tensor(np.array([small, -small])))
    np.testing.assert_allclose(y.array, [0.5**0.5, -(0.5**0.5)], rtol=1e-6)
    ones = Tensor(np.ones(1000, np.float32))
    assert set(nn.Dropout(rng=0)(ones).array) == {0, 2}
    assert nn.Conv2d(2, 4, 3, rng=0)(image(1, 5, 6, 2)).shape == (1, 3, 4, 4)
    assert nn.Conv2d(2, 4, 3).weight.shape == (3, 3, 2, 4)
    for layer in (
        nn.Linear(2, 2),
        nn.PointwiseConv2d(2, 2),
        nn.DepthwiseConv2d(2, 3),
        nn.Patchify(2, 2, 2),
        nn.Conv2d(2, 2, 2),
    ):
        assert list(layer.state_dict()) == ["weight", "bias"]


# ---- how they begin


@pytest.mark.parametrize(
    ("layer", "fan_in"),
    [
        (lambda rng: nn.Linear(64, 512, rng=rng), 64),
        (lambda rng: nn.PointwiseConv2d(64, 512, rng=rng), 64),
        (lambda rng: nn.DepthwiseConv2d(512, 5, rng=rng), 25),
        (lambda rng: nn.Patchify(3, 512, 4, rng=rng), 48),
        (lambda rng: nn.Conv2d(8, 512, 3, groups=2, rng=rng), 36),
    ],
)
def test_weights_and_biases_begin_uniform_within_one_over_the_root_of_fan_in(layer, fan_in):
    for p in layer(0).parameters():
        assert p.dtype == np.float32
        assert 0.98 / fan_in**0.5 < np.abs(p.array).max() <= 1 / fan_in**0.5
        assert abs(p.array.mean()) < 0.1 / fan_in**0.5
        assert p.array.std() == pytest.approx((3 * fan_in) ** -0.5, rel=0.1)
    first, same, other = layer(0), layer(0), layer(1)
    assert np.array_equal(first.weight.array, same.weight.array)
    assert not np.array_equal(first.weight.array, other.weight.array)


def test_one_generator_serves_several_layers():
    rng = np.random.default_rng(0)
    a, b = nn.Linear(3, 3, rng=rng), nn.Linear(3, 3, rng=rng)
    assert not np.array_equal(a.weight.array, b.weight.array)
    assert not np.array_equal(nn.Linear(3, 3).weight.array, nn.Linear(3, 3).weight.array)


# ---- what they refuse


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"momentum": None}, "batch_norm: momentum is None; expected 0 ≤ momentum ≤ 1"),
        ({"eps": None}, "batch_norm: eps is None; expected 0 ≤ eps ≤ 1"),
        ({"momentum": 2.0}, "batch_norm: momentum is 2.0; expected 0 ≤ momentum ≤ 1"),
    ],
)
def test_a_batch_norm_that_was_changed_to_nonsense(fused, change, message):
    model = ConvMixer(4, 1, 3, 2, 3, rng=0)
    norm = model.blocks[0][3]
    for name, value in change.items():
        setattr(norm, name, value)
    run = fuse(model) if fused else model
    with pytest.raises(ValueError, match=re.escape(message)):
        run(image(2, 4, 4, 3))
    assert not norm.running_mean.any()


@pytest.mark.parametrize("shape", [(1, 2), (1, 1, 1, 2), (0, 2)])
def test_one_value_a_channel_is_refused_and_changes_nothing(shape):
    norm = nn.BatchNorm(2)
    message = re.escape(f"batch_norm: {shape[0]} value a channel in x of shape {shape}; training")
    with pytest.raises(ValueError, match=message):
        norm(image(*shape))
    assert norm.running_mean.tolist() == [0, 0]
    assert norm.running_var.tolist() == [1, 1]
    assert norm.eval()(image(*shape)).shape == shape


def test_statistics_of_integers_are_refused_and_neither_moves():
    norm = nn.BatchNorm(2)
    norm.register_buffer("running_var", np.array([1, 1]))
    with pytest.raises(ValueError, match="batch_norm: running_var is of int64; training moves it"):
        norm(image(3, 2))
    assert norm.running_mean.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: nn.Linear(0, 3),
            "Linear: in_features is 0; expected a whole number of at least 1",
        ),
        (lambda: nn.Linear(3, 2.0), "Linear: out_features is 2.0; expected a whole number"),
        (lambda: nn.PointwiseConv2d(3, -1), "PointwiseConv2d: out_channels is -1"),
        (lambda: nn.DepthwiseConv2d(3, 0), "DepthwiseConv2d: kernel_size is 0"),
        (lambda: nn.Patchify(3, 8, "2"), "Patchify: patch_size is '2'"),
        (lambda: nn.Conv2d(3, 8, 3, stride=0), "Conv2d: stride is 0"),
        (lambda: nn.Conv2d(3, 8, 3, groups=2), "Conv2d: 3 or 8 channels do not fit into 2 groups"),
        (lambda: nn.Linear(True, 3), "Linear: in_features is True"),
        (lambda: nn.BatchNorm(0), "BatchNorm: channels is 0"),
        (lambda: nn.BatchNorm(2, momentum=None), "BatchNorm: momentum is None; expected 0 ≤"),
        (
            lambda: nn.BatchNorm(2, momentum=1.5),
            "BatchNorm: momentum is 1.5; expected 0 ≤ momentum ≤ 1",
        ),
        (
            lambda: nn.BatchNorm(2, eps=-1e-5),
            "BatchNorm: eps is -1e-05; expected 0 ≤ eps ≤ 1",
        ),
        (
            lambda: nn.LayerNorm(2, eps=float("nan")),
            "LayerNorm: eps is nan; expected 0 ≤ eps ≤ 1",
        ),
        (lambda: nn.LayerNorm(0), "LayerNorm: channels is 0"),
        (lambda: nn.Dropout(1), "Dropout: p is 1; expected 0 ≤ p < 1"),
    ],
)
def test_settings_that_make_no_sense(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


def test_a_function_is_no_layer():
    with pytest.raises(TypeError, match=r"Sequential: item 1 is <function.*expected a Module"):
        nn.Sequential(nn.GELU(), F.relu)


def test_a_wrong_form_of_gelu():
    with pytest.raises(ValueError, match="gelu: approximate is 'fast'"):
        nn.GELU("fast")(image(2))
