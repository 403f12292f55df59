import numpy as np
import pytest

from minimix.data.draws import Draws, mix

N = 100_000


def test_the_hash_is_splitmix64():
    """The first numbers that its authors' generator gives when seeded with 0."""
    states = np.arange(1, 4, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    np.testing.assert_array_equal(mix(states), np.array(expected, np.uint64))


def test_a_number_depends_on_its_own_image_only():
    draws = Draws(3, 5, np.arange(N))
    some = np.array([99, 0, 12_345])
    alone = Draws(3, 5, some)
    for draw in ("bits", "uniforms", "normals"):
        np.testing.assert_array_equal(
            getattr(draws, draw)("x", 5)[some], getattr(alone, draw)("x", 5)
        )
    np.testing.assert_array_equal(draws.of(some).uniform("x"), alone.uniform("x"))
    np.testing.assert_array_equal(draws.integers("x", 9)[some], alone.integers("x", 9))


def test_every_part_of_the_key_matters():
    index = np.arange(N)
    columns = [
        Draws(seed, epoch, index).uniform(name)
        for seed, epoch in ((0, 0), (0, 1), (1, 0), (1, 1), (2**40, 0), (-1, 0))
        for name in ("a", "b")
    ]
    columns += list(Draws(0, 0, index).uniforms("c", 3).T)
    columns.append(np.roll(columns[0], 1))  # the neighbor's
    correlation = np.corrcoef(columns) - np.eye(len(columns))
    assert abs(correlation).max() < 5 / np.sqrt(N)


def test_distributions():
    draws = Draws(7, 0, np.arange(N))
    u = draws.uniform("u", -2, 3)
    assert u.min() >= -2
    assert u.max() < 3
    counts = np.histogram(u, 50, (-2, 3))[0]
    assert ((counts - N / 50) ** 2 / (N / 50)).sum() < 100  # chi-square, 49 degrees of freedom
    whole = draws.integers("i", 7)
    assert set(whole) == set(range(7))
    assert abs(np.bincount(whole) / N - 1 / 7).max() < 0.005
    high = np.arange(N) % 5 + 1
    assert (draws.integers("i", high) < high).all()
    z = draws.normals("z", 3)
    assert z.shape == (N, 3)
    np.testing.assert_allclose(z.mean(0), 0, atol=0.02)
    np.testing.assert_allclose(np.cov(z.T), np.eye(3), atol=0.02)
    assert (abs(z) > 3).mean() == pytest.approx(0.0027, abs=0.0005)
