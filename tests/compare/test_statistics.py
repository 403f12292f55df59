"""Means, standard errors and intervals against known answers."""

import math
import random
from pathlib import Path

import numpy as np
import pytest

from minimix.compare.results import _training_seconds
from minimix.compare.statistics import mean, paired_difference, probability, quantile
from minimix.runs import RunLog

# The 97.5 % points of Student's distribution, from published tables.
TABLE = {
    1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262,
    10: 2.228, 15: 2.131, 20: 2.086, 29: 2.045, 30: 2.042, 60: 2.000, 120: 1.980, 1000: 1.962,
}  # fmt: skip


@pytest.mark.parametrize("degrees", TABLE)
def test_quantiles_as_in_the_tables(degrees):
    assert quantile(degrees) == pytest.approx(TABLE[degrees], abs=5e-4)
    assert probability(quantile(degrees, 0.9), degrees) == pytest.approx(0.9, abs=1e-12)


def test_probabilities_in_closed_form():
    for t in (0.0, 0.3, 1.0, 2.5, 40.0):
        assert probability(t, 1) == pytest.approx(2 / math.pi * math.atan(t))  # Cauchy's
        assert probability(t, 2) == pytest.approx(t / math.sqrt(2 + t * t))
    assert probability(3.355, 8) == pytest.approx(0.99, abs=1e-4)


def test_a_mean_and_its_standard_error():
    found = mean([0.80, 0.82, 0.84])
    assert (found.mean, found.n) == (pytest.approx(0.82), 3)
    assert found.error == pytest.approx(0.02 / math.sqrt(3))
    alone = mean([0.5])
    assert alone.mean == 0.5
    assert math.isnan(alone.error)


def test_equal_values_do_not_prove_that_there_is_no_spread():
    assert mean([0.7, 0.7]).error == 0
    assert mean([0.7, 0.7], resolution=0.02).error == pytest.approx(0.02 / math.sqrt(2))
    assert mean([0.6, 0.8], resolution=0.02).error == pytest.approx(0.1)


def test_differences_are_taken_seed_by_seed():
    """Seeds vary by 10 points, differences by less than one: only pairing can tell."""
    mine, other = {0: 0.70, 1: 0.80, 2: 0.905}, {0: 0.68, 1: 0.785, 2: 0.88, 7: 0.1}
    found = paired_difference(mine, other)
    assert (found.n, found.mean) == (3, pytest.approx(0.02))
    half = 4.3027 * 0.005 / math.sqrt(3)
    assert (found.low, found.high) == (
        pytest.approx(0.02 - half, abs=1e-6),
        pytest.approx(0.02 + half, abs=1e-6),
    )
    assert found.verdict == "better"
    assert paired_difference(other, mine).verdict == "worse"


def test_when_nothing_can_be_told():
    assert paired_difference({0: 0.9}, {0: 0.1}).verdict == "cannot tell"  # one seed
    assert paired_difference({0: 0.9}, {1: 0.1}) is None  # none in common
    assert paired_difference({0: 0.9, 1: 0.7}, {0: 0.8, 1: 0.7}).verdict == "cannot tell"
    same = {0: 0.5, 1: 0.5}
    assert paired_difference(same, same).verdict == "cannot tell"
    # Two differences of exactly one image in fifty are no proof.
    assert paired_difference({0: 0.52, 1: 0.52}, same, resolution=0.02).verdict == "cannot tell"


@pytest.mark.parametrize("n", [2, 3, 5])
def test_intervals_hold_the_truth_as_often_as_they_say(n):
    rng = random.Random(n)
    held = 0
    for _ in range(2000):
        found = paired_difference(
            {i: rng.gauss(0.3, 1) for i in range(n)}, dict.fromkeys(range(n), 0)
        )
        held += found.low <= 0.3 <= found.high
    assert held / 2000 == pytest.approx(0.95, abs=0.015)


@pytest.mark.parametrize(
    ("images", "seconds", "expected"),
    [
        ([64, 64, 64], [1, 1, 1], 3),  # fewer images than a batch
        ([128, 22], [1, 22 / 128], 150 / 128),
        ([10, 10, 10, 10], [1, 1, 9, 1], 4),  # one step was held up
        ([10, 10, 10], [1, math.nan, 1], 3),  # a line of the clock is lost
        ([10, 10], [math.nan, math.nan], math.nan),
    ],
)
def test_the_time_of_a_training(images, seconds, expected):
    images, seconds = np.array(images, float), np.array(seconds)
    steps = {"seconds": seconds, "speed": images / seconds, "epoch": np.ones(len(images))}
    log = RunLog(Path(), {}, steps, [], 0.0, [], True)
    assert _training_seconds(log) == pytest.approx(expected, nan_ok=True)
    for key in steps:
        steps[key] = np.tile(steps[key], 2)
    steps["epoch"] = np.repeat([1.0, 2.0], len(images))
    assert _training_seconds(log) == pytest.approx(2 * expected, nan_ok=True)
