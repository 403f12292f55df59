import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minimix.data import Dataset, Loader, epoch_order, normalize
from minimix.data.cifar10 import MEAN, STD
from minimix.data.dataset import moments, sample


def some(n=50, size=4):
    """Images whose first byte is their index."""
    images = np.random.default_rng(0).integers(0, 256, (n, size, size, 3), np.uint8)
    images[:, 0, 0, 0] = np.arange(n)
    return images, np.arange(n) % 10


def indices_of(batches):
    """The image indices of batches made with this transform."""
    return [list(x) for x, _ in batches]


def keep(images, labels, indices, seed, epoch):
    return indices, labels


def threads():
    return [t for t in threading.enumerate() if t.name.startswith("minimix-loader")]


# ------------------------------------------------------------------ order


@given(st.integers(1, 300), st.integers(0, 2**63), st.integers(0, 1000))
def test_an_order_is_a_permutation_and_a_function(n, seed, epoch):
    order = epoch_order(n, seed, epoch)
    np.testing.assert_array_equal(np.sort(order), np.arange(n))
    np.testing.assert_array_equal(order, epoch_order(n, seed, epoch))


def test_orders_differ_between_epochs_and_seeds():
    orders = [epoch_order(1000, seed, epoch) for seed in range(5) for epoch in range(5)]
    for i, a in enumerate(orders):
        for b in orders[:i]:
            assert (a == b).sum() < 12  # one place in a thousand agrees by chance
            assert abs(np.corrcoef(a, b)[0, 1]) < 0.16


# ------------------------------------------------------------------ batches


@given(st.integers(1, 60), st.integers(1, 70), st.integers(0, 3))
@settings(max_examples=40, deadline=None)  # threads are started
def test_every_image_once(n, batch_size, skip):
    images, labels = some(n)
    arguments = {"seed": 1, "epoch": 2, "transform": keep}
    loader = Loader(images, labels, batch_size, **arguments)
    batches = indices_of(loader)
    assert len(batches) == len(loader)
    assert [i for batch in batches for i in batch] == list(epoch_order(n, 1, 2))
    assert all(len(batch) == batch_size for batch in batches[:-1])
    resumed = Loader(images, labels, batch_size, **arguments, skip=skip)
    assert indices_of(resumed) == batches[skip:]


def test_in_order_and_normalized():
    images, labels = some()
    batches = list(Loader(images, labels, 20, shuffle=False))
    assert [len(y) for _, y in batches] == [20, 20, 10]
    x = np.concatenate([x for x, _ in batches])
    assert x.dtype == np.float32
    np.testing.assert_allclose(x, (images / 255 - np.array(MEAN)) / STD, atol=1e-6)
    np.testing.assert_array_equal(np.concatenate([y for _, y in batches]), labels)


def test_normalize_keeps_shape():
    image = some(1)[0][0]
    np.testing.assert_array_equal(normalize(image), normalize(image[None])[0])
    np.testing.assert_array_equal(normalize(image[:, ::-1]), normalize(image)[:, ::-1])


def test_timing_changes_nothing():
    images, labels = some()

    def dawdle(images, labels, indices, seed, epoch):
        time.sleep(0.003 * (indices[0] % 3))
        return indices, labels

    fast = indices_of(Loader(images, labels, 7, transform=keep))
    slow = []
    for x, _ in Loader(images, labels, 7, transform=dawdle):
        time.sleep(0.003 * (x[0] % 2))
        slow.append(list(x))
    assert slow == fast


def test_works_ahead_but_not_far():
    images, labels = some()
    made = []

    def note(images, labels, indices, seed, epoch):
        made.append(threading.current_thread().name)
        return indices, labels

    batches = iter(Loader(images, labels, 5, transform=note))
    next(batches)
    deadline = time.monotonic() + 10
    while len(made) < 3 and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(0.05)
    assert len(made) == 3  # the one handed over and the two after it
    assert all(name.startswith("minimix-loader") for name in made)
    batches.close()


# ------------------------------------------------------------------ the thread ends


def test_when_the_epoch_does():
    for _ in Loader(*some(), 10):
        assert len(threads()) == 1
    assert not threads()


def test_when_the_consumer_stops_or_raises():
    for _ in Loader(*some(), 10):
        break
    assert not threads()

    def consume():
        for _ in Loader(*some(), 10):
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        consume()
    assert not threads()


def test_when_the_transform_raises():
    def fail(images, labels, indices, seed, epoch):
        raise RuntimeError("in the background")

    with pytest.raises(RuntimeError, match="in the background"):
        list(Loader(*some(), 10, transform=fail))
    assert not threads()


# ------------------------------------------------------------------ what is wrong


IMAGES, LABELS = some()


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (IMAGES, LABELS[:-1], "`labels` are 49; expected 50, one for each image"),
        (IMAGES, LABELS - 1, "`labels` go from -1 to 8; expected 0 to 9"),
        (IMAGES, LABELS + 1, "`labels` go from 1 to 10; expected 0 to 9"),
        (IMAGES, LABELS.astype(np.uint64) + 2**63, "`labels` go from 9223372036854775808 to"),
        (IMAGES, LABELS / 2, r"`labels` are float64 \(50,\); expected whole numbers \(N,\)"),
        (IMAGES, LABELS > 3, r"`labels` are bool \(50,\); expected whole numbers \(N,\)"),
        (IMAGES, LABELS[:, None], r"`labels` are int64 \(50, 1\); expected whole numbers \(N,\)"),
        (IMAGES / 255, LABELS, r"float64 \(50, 4, 4, 3\); .* pass \(255 \* images\).round\(\)"),
        (IMAGES / 1, LABELS, r"are float64 .*; expected uint8 .*; pass images.round\(\).astype"),
        (IMAGES.astype(int), LABELS, r"are int64 .*; expected uint8 .*; pass images.round\(\)"),
        (normalize(IMAGES), LABELS, r"are float32 .*; expected uint8 .*, from 0 to 255; these go"),
        (IMAGES * np.nan, LABELS, r"are float64 .*; expected uint8 .*; these go from nan to nan"),
        (IMAGES[..., 0], LABELS, r"uint8 \(50, 4, 4\); .*; for gray ones pass images\[..., None"),
        (IMAGES[..., [0] * 5], LABELS, r"\(50, 4, 4, 5\); expected .*, C from 1 to 4$"),
        (IMAGES.transpose(0, 3, 1, 2), LABELS, r"these are \(N, C, H, W\): pass images.transpose"),
        (np.zeros((50, 1, 8, 8), np.uint8), LABELS, r"these are \(N, C, H, W\): pass images.tra"),
        (np.zeros((50, 3, 8, 9)), LABELS, r"float64 .*; these are \(N, C, H, W\): pass images.tra"),
        (IMAGES.reshape(50, -1), LABELS, r"uint8 \(50, 48\); expected uint8 \(N, H, W, C\)"),
        (IMAGES[:0], LABELS[:0], r"`images` are uint8 \(0, 4, 4, 3\); expected .*, at least one"),
        (IMAGES[:, :0], LABELS, r"`images` are uint8 \(50, 0, 4, 3\); expected .*, at least one"),
    ],
)
def test_images_and_labels_are_checked(images, labels, message):
    with pytest.raises(ValueError, match=message) as caught:
        Loader(images, labels, 10, n_classes=10)
    assert "\n" not in str(caught.value)


def test_what_the_messages_say_to_do_is_right():
    channels_first = IMAGES.transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(channels_first.transpose(0, 2, 3, 1), IMAGES)
    for images in (IMAGES / 255, (IMAGES / 255).astype(np.float32)):
        np.testing.assert_array_equal((255 * images).round().astype(np.uint8), IMAGES)
    Loader(IMAGES[..., 0][..., None], LABELS, 10)


@pytest.mark.parametrize("batch_size", [0, -1, 2.5, np.nan, "32", None])
def test_a_batch_size_of_nothing(batch_size):
    message = f"`batch_size` is {batch_size}; expected a whole number from 1 up"
    with pytest.raises(ValueError, match=message):
        Loader(IMAGES, LABELS, batch_size)


def test_batches_before_the_first():
    with pytest.raises(ValueError, match="`skip` is -1; expected a whole number from 0 up"):
        Loader(IMAGES, LABELS, 10, skip=-1)


@pytest.mark.parametrize("images", [IMAGES / 255, IMAGES[..., :1], np.zeros(3, np.uint8)])
def test_normalize_takes_bytes_of_as_many_channels_as_it_has_means(images):
    with pytest.raises(ValueError, match=r"normalize: images are .*; expected uint8 \(…, W, 3\)"):
        normalize(images)


@pytest.mark.parametrize("c", [1, 2, 3, 4])
def test_what_is_measured_normalizes(c):
    images = np.random.default_rng(c).integers(0, 200, (70, 5, 6, c), np.uint8)
    images[..., -1] //= 3
    mean, std = moments(images)
    np.testing.assert_allclose(mean, (images / 255).mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(std, (images / 255).std(axis=(0, 1, 2)), rtol=1e-12)
    x = normalize(images, mean, std)
    np.testing.assert_allclose(x.mean(axis=(0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(x.std(axis=(0, 1, 2)), 1, atol=1e-5)


def test_no_sum_of_many_bright_pixels_overflows():
    images = np.full((70, 600, 2, 1), 255, np.uint8)
    images[0, 0, 0] = 0
    mean, std = moments(images)
    np.testing.assert_allclose(mean[0], (images / 255).mean(), rtol=1e-12)
    np.testing.assert_allclose(std[0], (images / 255).std(), rtol=1e-9)


def test_a_channel_of_one_value_stays_finite():
    images = np.full((9, 2, 2, 2), 255, np.uint8)
    images[::2, ..., 0] = 0
    mean, std = moments(images)
    assert (mean[1], std[1]) == (1, 1)
    np.testing.assert_array_equal(normalize(images, mean, std)[..., 1], 0)


@given(st.integers(1, 60), st.integers(1, 9), st.integers(0, 5), st.data())
def test_a_sample_has_all_classes(n, n_classes, seed, data):
    labels = np.sort(np.random.default_rng(seed).integers(0, n_classes, n))
    size = data.draw(st.integers(1, n))
    chosen = sample(labels, size, seed)
    assert len(np.unique(chosen)) == size
    np.testing.assert_array_equal(chosen, np.sort(chosen))
    np.testing.assert_array_equal(chosen, sample(labels, size, seed))
    present, counts = np.unique(labels, return_counts=True)
    if size >= len(present):
        assert set(labels[chosen]) == set(present)
    for label, count in zip(present, counts, strict=True):
        of_class = (labels[chosen] == label).sum()
        assert abs(of_class - size * count / n) <= len(present)


def test_samples_are_of_the_seed():
    labels = np.arange(1000) % 10
    a, b = sample(labels, 100, 0), sample(labels, 100, 1)
    assert len(np.intersect1d(a, b)) < 30
    np.testing.assert_array_equal(np.bincount(labels[a]), 10)


# ------------------------------------------------------------------ data sets

GOOD = {
    "name": "some",
    "train_images": IMAGES[:40],
    "train_labels": LABELS[:40],
    "test_images": IMAGES[40:],
    "test_labels": LABELS[40:],
    "class_names": tuple("abcdefghij"),
}


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (
            {"train_images": IMAGES[:40].tolist()},
            TypeError,
            "`train_images` are a list; expected",
        ),
        (
            {"test_labels": list(LABELS[40:])},
            TypeError,
            "`test_labels` are a list; expected",
        ),
        ({"test_images": IMAGES[40:] / 255}, ValueError, "`test_images` are float64 .*; expected"),
        (
            {"test_images": IMAGES[40:, :2]},
            ValueError,
            r"`test_images` are .*\(2, 4, 3\)\); exp",
        ),
        ({"train_labels": LABELS[:39]}, ValueError, "`train_labels` are 39; expected 40, one for"),
        (
            {"test_labels": LABELS[40:] + 1},
            ValueError,
            "`test_labels` go from 1 to 10; expected 0 ",
        ),
        ({"mean": (0.5,), "std": (0.5,)}, ValueError, "`mean` is .*; expected 3 numbers"),
        ({"class_names": ("a", "a")}, ValueError, r"`class_names` are .*; expected different ones"),
        ({"test_images": IMAGES[:0], "test_labels": LABELS[:0]}, ValueError, "at least one"),
    ],
)
def test_a_data_set_checks_what_it_is_given(wrong, error, message):
    with pytest.raises(error, match=message):
        Dataset(**GOOD | wrong)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, ">i8", np.uint64])
def test_labels_of_any_whole_numbers(dtype):
    data, same = Dataset(**GOOD), Dataset(**GOOD | {"train_labels": LABELS[:40].astype(dtype)})
    assert same.train_labels.dtype == np.int64
    np.testing.assert_array_equal(same.train_labels, LABELS[:40])
    assert same.fingerprint == data.fingerprint


def test_the_fingerprint_is_of_values_not_of_memory():
    data = Dataset(**GOOD)
    strided = np.repeat(IMAGES, 2, axis=2)[:40, :, ::2]
    reversed_twice = np.asfortranarray(IMAGES[:40][::-1])[::-1]
    frozen = IMAGES[:40].copy()
    frozen.setflags(write=False)
    for images in (strided, reversed_twice, frozen):
        same = Dataset(**GOOD | {"train_images": images})
        assert same.fingerprint == data.fingerprint
        for (x, y), (x2, y2) in zip(
            Loader(images, LABELS[:40], 9), Loader(IMAGES[:40], LABELS[:40], 9), strict=True
        ):
            np.testing.assert_array_equal(x, x2)
            np.testing.assert_array_equal(y, y2)
    changed = IMAGES[:40].copy()
    changed[3, 2, 1, 0] ^= 1
    assert Dataset(**GOOD | {"train_images": changed}).fingerprint != data.fingerprint
