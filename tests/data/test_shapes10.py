import numpy as np
import pytest

from minimix.data import shapes10


@pytest.fixture(scope="module")
def dataset():
    return shapes10.load()


def test_what_it_holds(dataset):
    assert dataset.name == "shapes10"
    assert dataset.train_images.shape == (10_000, 32, 32, 3)
    assert dataset.test_images.shape == (2_000, 32, 32, 3)
    assert dataset.train_images.dtype == np.uint8
    assert dataset.train_labels.dtype == np.int64
    np.testing.assert_array_equal(np.bincount(dataset.train_labels), [1000] * 10)
    np.testing.assert_array_equal(np.bincount(dataset.test_labels), [200] * 10)
    assert dataset.class_names == shapes10.CLASS_NAMES
    assert len(set(dataset.class_names)) == 10


def test_a_function_of_its_seed(dataset):
    small = shapes10.load(300, 15)
    np.testing.assert_array_equal(small.train_images, dataset.train_images[:300])
    np.testing.assert_array_equal(small.test_images, dataset.test_images[:15])
    assert small.fingerprint == shapes10.load(300, 15).fingerprint
    assert small.fingerprint != shapes10.load(300, 15, seed=1).fingerprint
    # No image is in both splits, nor twice in one.
    both = np.concatenate([dataset.train_images, dataset.test_images])
    assert len({image.tobytes() for image in both}) == len(both)


def test_known_pixels():
    data = shapes10.load(60, 20, seed=3)
    down = [[56, 48, 168], [51, 86, 203], [105, 127, 208], [13, 75, 135]]
    across = [[0, 105, 92], [182, 46, 0], [154, 0, 0], [31, 187, 176]]
    # Another machine's cosine may round a number to the next.
    np.testing.assert_allclose(data.train_images[57, 4:32:8, 10], down, atol=1)
    np.testing.assert_allclose(data.test_images[19, 16, 1:32:8], across, atol=1)


def test_a_linear_model_stays_near_guessing(dataset):
    """Ridge regression on the pixels: far under 60 %."""

    def features(images):
        pixels = images.reshape(len(images), -1).astype(np.float32) / 255 - 0.5
        return np.concatenate([pixels, np.ones((len(images), 1), np.float32)], axis=1)

    x, test = features(dataset.train_images), features(dataset.test_images)
    targets = np.eye(10, dtype=np.float32)[dataset.train_labels]
    gram, moment = x.T @ x, x.T @ targets
    gram.flat[:: len(gram) + 1] += 1000.0  # of the strengths 1 to 10,000 about the best
    weights = np.linalg.solve(gram, moment)
    assert (np.argmax(test @ weights, 1) == dataset.test_labels).mean() < 0.3


def test_the_shapes_are_what_tells_the_classes_apart(dataset):
    """Neither color nor brightness does: their means over a class are all alike."""
    means = [dataset.train_images[dataset.train_labels == c].mean((0, 1, 2)) for c in range(10)]
    assert np.ptp(means, axis=0).max() < 12  # σ is about 2


@pytest.mark.parametrize("shape", shapes10.SHAPES)
def test_each_shape_fits_the_unit_disc(shape):
    v, u = np.mgrid[-2:2:201j, -2:2:201j]
    inside = shape(u, v) > 0
    assert not inside[np.hypot(u, v) > 1.2].any()
    assert 0.06 < inside[np.hypot(u, v) < 1].mean() < 0.95
    for other in shapes10.SHAPES:
        if other is not shape:
            assert (inside != (other(u, v) > 0)).sum() > 0.05 * inside.sum()


@pytest.mark.parametrize(("n_train", "n_test"), [(0, 10), (10, -1)])
def test_sizes(n_train, n_test):
    with pytest.raises(ValueError, match=r"`n_t.*` is (0|-1); expected at least 1"):
        shapes10.load(n_train, n_test)
