"""Shuffled patches: which goes where, in every image alike, as the last step of all."""

import numpy as np
import pytest

import minimix as mx
from minimix import kernels
from minimix.data import Augment, normalize, shapes10, shuffle_patches
from minimix.data.shuffle import order
from minimix.train import evaluate


def test_known_answers():
    """Patches numbered in reading order; the order of six patches is part of what a run means."""
    assert order(6).tolist() == [4, 1, 5, 0, 3, 2]
    numbers = np.arange(6).reshape(1, 2, 3, 1).repeat(2, 1).repeat(2, 2)
    inside = np.arange(4).reshape(1, 2, 2, 1) * 10
    images = numbers + np.tile(inside, (1, 2, 3, 1))
    expected = np.array([[4, 1, 5], [0, 3, 2]]).reshape(1, 2, 3, 1).repeat(2, 1).repeat(2, 2)
    np.testing.assert_array_equal(
        shuffle_patches(images, 2), expected + np.tile(inside, (1, 2, 3, 1))
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_every_pixel_stays_in_its_patch_and_every_image_is_treated_alike(dtype):
    images = np.random.default_rng(0).integers(0, 256, (3, 12, 8, 3)).astype(dtype)
    before = images.copy()
    shuffled = shuffle_patches(images, 4)
    assert (shuffled.dtype, shuffled.shape) == (images.dtype, images.shape)
    assert shuffled.flags.c_contiguous
    np.testing.assert_array_equal(images, before)

    def cut(image):
        return [image[i : i + 4, j : j + 4] for i in (0, 4, 8) for j in (0, 4)]

    for a, b in zip(images, shuffled, strict=True):
        np.testing.assert_array_equal(cut(b), [cut(a)[i] for i in order(6)])


@pytest.mark.parametrize("n", [1, 4, 16, 64, 196])
def test_the_order_is_one_of_all_patches_and_hardly_any_stays(n):
    assert sorted(order(n)) == list(range(n))
    assert n == 1 or (order(n) == np.arange(n)).mean() <= 0.25


def test_zero_is_off_and_a_whole_image_is_one_patch():
    images = np.zeros((2, 8, 8, 3), np.uint8)
    assert shuffle_patches(images, 0) is images
    some = np.random.default_rng(0).random((2, 8, 8, 3))
    np.testing.assert_array_equal(shuffle_patches(some, 8), some)


def test_what_does_not_divide_is_refused():
    with pytest.raises(ValueError, match=r"`shuffle_patches` is 5, .* an image of 8×10 pixels"):
        shuffle_patches(np.zeros((1, 8, 10, 3)), 5)
    with pytest.raises(ValueError, match="`shuffle_patches` is 3"):
        Augment(shuffle_patches=3).check_size(32, 32)
    with pytest.raises(ValueError, match=r"`shuffle_patches` is 16, .* of 24×24"):
        Augment(size=24, shuffle_patches=16).check_size(32, 32)
    with pytest.raises(ValueError, match="`shuffle_patches` is -1"):
        Augment(shuffle_patches=-1)


def test_it_is_the_last_step():
    """After cropping, flipping, erasing and mixing: the same image, cut up."""
    images = np.random.default_rng(0).integers(0, 256, (20, 16, 16, 3), np.uint8)
    labels, indices = np.arange(20) % 10, np.arange(20)
    everything = {"randaugment": (2, 9), "erasing": 1.0, "mixup": 0.5, "cutmix": 0.5}
    for settings in ({"crop": None, "flip": None}, everything):
        x, targets = Augment(**settings)(images, labels, indices, 3, 2)
        y, same = Augment(**settings, shuffle_patches=4)(images, labels, indices, 3, 2)
        np.testing.assert_array_equal(y, shuffle_patches(x, 4))
        np.testing.assert_array_equal(same, targets)


class Corner(mx.Module):
    """Logits are the colors of the upper left pixel."""

    def forward(self, x):
        return x[:, 0, 0]


def test_a_test_of_shuffled_images():
    """What stands in the corner is the first patch of the order, of the mirror image too."""
    images = np.zeros((3, 4, 4, 3), np.uint8)
    first = order(4)[0]
    rows, columns = divmod(np.array([first, first ^ 1]), 2)
    for i in range(3):
        images[i, 2 * rows[0], 2 * columns[0], i] = 100  # seen as it is
        images[i, 2 * rows[1], 2 * columns[1] + 1, 0] = 200  # seen in the mirror, and stronger
    result = evaluate(Corner(), images, np.arange(3), 3, mirror=True, shuffled=2)
    assert result.accuracy == 1
    assert result.mirrored == 1 / 3
    assert evaluate(Corner(), images, np.arange(3), 3).accuracy == 1 / 3


def test_what_looks_at_one_patch_at_a_time_cannot_notice():
    """A ConvMixer with kernels of one patch; one with larger kernels must."""
    x = normalize(shapes10.load(8, 1).train_images)
    for kernel_size, same in ((1, True), (3, False)):
        model = mx.ConvMixer(16, 2, kernel_size, 4, 10, rng=0).eval()
        with kernels.backend("numpy"):
            plain, shuffled = (model(mx.Tensor(shuffle_patches(x, p))).array for p in (0, 4))
        assert np.allclose(plain, shuffled, atol=1e-5) == same
