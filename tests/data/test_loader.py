import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minimix.data import Loader, epoch_order, normalize
from minimix.data.cifar10 import MEAN, STD


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


@given(st.integers(1, 60), st.integers(1, 70), st.booleans(), st.integers(0, 3))
@settings(max_examples=40, deadline=None)  # threads are started
def test_every_image_once(n, batch_size, drop_last, skip):
    images, labels = some(n)
    arguments = {"seed": 1, "epoch": 2, "transform": keep, "drop_last": drop_last}
    loader = Loader(images, labels, batch_size, **arguments)
    batches = indices_of(loader)
    assert len(batches) == len(loader)
    order = list(epoch_order(n, 1, 2))
    seen = [i for batch in batches for i in batch]
    assert seen == order[: len(seen)]
    assert len(seen) == (n - n % batch_size if drop_last else n)
    assert all(len(batch) == batch_size for batch in batches[:-1])
    resumed = Loader(images, labels, batch_size, **arguments, skip=skip)
    assert indices_of(resumed) == batches[skip:]


def test_in_order_and_normalised():
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
        (IMAGES, LABELS[:-1], "got 49 labels for 50 images"),
        (IMAGES, LABELS - 1, "labels must be between 0 and 9, got -1 to 8"),
        (IMAGES, LABELS + 1, "labels must be between 0 and 9, got 1 to 10"),
        (IMAGES, LABELS / 2, r"labels must be whole numbers \(N,\), got float64 \(50,\)"),
        (IMAGES, LABELS[:, None], r"labels must be whole numbers \(N,\), got int64 \(50, 1\)"),
        (IMAGES / 255, LABELS, r"images must be uint8 \(N, H, W, 3\).*got float64 \(50, 4, 4, 3\)"),
        (IMAGES[..., 0], LABELS, r"images must be uint8 .* got uint8 \(50, 4, 4\)"),
        (IMAGES.transpose(0, 3, 1, 2), LABELS, r"channels last, got uint8 \(50, 3, 4, 4\)"),
        (IMAGES[:0], LABELS[:0], "got 0 images, need at least 1"),
    ],
)
def test_images_and_labels_are_checked(images, labels, message):
    with pytest.raises(ValueError, match=message) as caught:
        Loader(images, labels, 10, n_classes=10)
    assert "\n" not in str(caught.value)


def test_a_batch_size_of_nothing():
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        Loader(IMAGES, LABELS, 0)
