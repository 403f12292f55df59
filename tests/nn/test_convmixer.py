"""ConvMixer: its shape, its numbers and its names."""

import re

import numpy as np
import pytest

from minimix import ConvMixer, Tensor, nn


def images(*shape):
    return Tensor(np.random.default_rng(0).standard_normal(shape).astype(np.float32))


@pytest.mark.parametrize(
    ("arguments", "parameters"),
    [
        ((256, 8, 5, 2, 10), 594_186),
        ((128, 4, 5, 2, 10), 84_618),
        ((768, 32, 7, 7, 1000), 21_110_248),
    ],
)
def test_how_many_parameters(arguments, parameters):
    h, d, k, p, n = arguments
    assert parameters == h * (d * (k * k + h + 6) + 3 * p * p + n + 3) + n
    assert ConvMixer(*arguments, rng=0).n_parameters() == parameters


def test_how_it_is_made_unless_told_otherwise():
    """kernel_size 9, patch_size 7, 1000 classes, 3 channels, as the paper's ConvMixer-1536/20."""
    shapes = [p.shape for p in ConvMixer(2, 1, rng=0).parameters()]
    assert shapes[0] == (7, 7, 3, 2)
    assert shapes[4] == (9, 9, 2)
    assert shapes[-1] == (1000,)


def test_the_activation_is_the_same_everywhere():
    for activation, kind in (("gelu", nn.GELU), ("relu", nn.ReLU)):
        model = ConvMixer(4, 2, 3, 2, 5, activation=activation, rng=0)
        kinds = [type(m) for _, m in model.named_modules() if isinstance(m, (nn.GELU, nn.ReLU))]
        assert kinds == [kind] * 5
        assert len(model.state_dict()) == 8 + 12 * 2
    x = images(2, 4, 4, 3)
    assert ConvMixer(4, 2, 3, 2, 5, activation="relu", rng=0)(x).shape == (2, 5)


def test_names_are_timm_s():
    names = list(ConvMixer(4, 2, 3, 2, 5, rng=0).state_dict())
    assert len(names) == 8 + 12 * 2  # as many as PyTorch's, less num_batches_tracked
    assert names[:6] == [
        "stem.0.weight",
        "stem.0.bias",
        "stem.2.weight",
        "stem.2.bias",
        "stem.2.running_mean",
        "stem.2.running_var",
    ]
    assert names[6:12] == [
        "blocks.0.0.fn.0.weight",
        "blocks.0.0.fn.0.bias",
        "blocks.0.0.fn.2.weight",
        "blocks.0.0.fn.2.bias",
        "blocks.0.0.fn.2.running_mean",
        "blocks.0.0.fn.2.running_var",
    ]
    assert "blocks.1.1.weight" in names
    assert "blocks.1.3.running_var" in names
    assert names[-2:] == ["head.weight", "head.bias"]


@pytest.mark.parametrize("size", [(2, 2), (6, 4), (32, 32), (14, 2)])
def test_any_image_that_divides_into_patches(size):
    model = ConvMixer(4, 1, 5, 2, 7, rng=0).eval()
    assert model(images(3, *size, 3)).shape == (3, 7)


def test_other_channels_patches_kernels_and_depths():
    assert ConvMixer(4, 0, 3, 3, 5, in_channels=1, rng=0)(images(2, 6, 9, 1)).shape == (2, 5)
    assert ConvMixer(4, 2, 4, 1, 5, rng=0)(images(2, 3, 3, 3)).shape == (2, 5)


def test_an_empty_batch_is_evaluated():
    assert ConvMixer(4, 1, 3, 2, 5, rng=0).eval()(images(0, 4, 4, 3)).shape == (0, 5)


def test_the_same_seed_gives_the_same_weights():
    one, same, other = (ConvMixer(4, 1, 3, 2, 5, rng=seed).state_dict() for seed in (0, 0, 1))
    assert all(np.array_equal(one[name], same[name]) for name in one)
    assert not np.array_equal(one["head.weight"], other["head.weight"])


def test_images_of_a_batch_do_not_mix_in_evaluation():
    model = ConvMixer(4, 2, 3, 2, 5, rng=0).eval()
    x = images(4, 8, 8, 3)
    np.testing.assert_allclose(model(x).array[2:3], model(x[2:3]).array, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ((1, 33, 32, 3), "patchify: an image of 33×32 is not divisible into patches of 2×2"),
        ((1, 32, 32, 1), "patchify: w has shape (2, 2, 3, 4); expected (2, 2, 1, D)"),
        ((32, 32, 3), "patchify: x has shape (32, 32, 3); expected (N, H, W, C)"),
    ],
)
def test_images_that_do_not_fit(x, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        ConvMixer(4, 1, 3, 2, 5)(images(*x))


def test_images_of_another_precision():
    with pytest.raises(TypeError, match="patchify: arguments of float64 and float32; convert one"):
        ConvMixer(4, 1, 3, 2, 5)(Tensor(np.ones((1, 4, 4, 3))))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hidden_dim": 0}, "ConvMixer: hidden_dim is 0; expected a whole number of at least 1"),
        ({"depth": -1}, "ConvMixer: depth is -1; expected a whole number of at least 0"),
        ({"depth": 1.5}, "ConvMixer: depth is 1.5"),
        ({"kernel_size": 0}, "ConvMixer: kernel_size is 0"),
        ({"patch_size": 2.5}, "ConvMixer: patch_size is 2.5"),
        ({"n_classes": None}, "ConvMixer: n_classes is None"),
        ({"in_channels": 0}, "ConvMixer: in_channels is 0"),
        ({"stem_depth": 2}, "stem_dim is 0, stem_depth 2, patch_size 7; expected both 0, or"),
        ({"stem_dim": 8}, "stem_dim is 8, stem_depth 0, patch_size 7; expected both 0, or"),
        ({"activation": "swish"}, "ConvMixer: activation is 'swish'; it can be 'gelu' or 'relu'"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        ConvMixer(**{"hidden_dim": 4, "depth": 1, **settings})
