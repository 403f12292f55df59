"""Schedules at their corners, and clipping."""

import math
import re

import numpy as np
import pytest

from minimix import Parameter
from minimix.optim import clip_grad_norm, norm, schedules


def rates(schedule, *steps):
    return pytest.approx([schedule(step) for step in steps], abs=1e-12)


def test_constant():
    assert rates(schedules.constant(0.3), 0, 5, 1e6) == [0.3, 0.3, 0.3]


def test_piecewise():
    schedule = schedules.piecewise([2, 4, 8], [0.0, 1.0, 0.5])
    assert rates(schedule, 0, 2, 3, 3.5, 4, 6, 8, 9) == [0, 0, 0.5, 0.75, 1, 0.75, 0.5, 0.5]
    assert rates(schedules.piecewise([5], [0.1]), 0, 5, 9) == [0.1, 0.1, 0.1]
    jump = schedules.piecewise([0, 4, 4, 8], [1.0, 1.0, 0.1, 0.1])
    assert rates(jump, 0, 3.999, 4, 8) == [1, 1, 0.1, 0.1]


def test_official_is_the_authors_interpolation():
    schedule = schedules.official(0.05, total=25)
    steps = np.linspace(0, 26, 105)
    expected = np.interp(steps + 1, [0, 2 * 25 // 5, 4 * 25 // 5, 25], [0, 0.05, 0.05 / 20, 0])
    assert rates(schedule, *steps) == expected.tolist()
    assert rates(schedule, 0, 9, 19, 24) == [0.005, 0.05, 0.0025, 0]


@pytest.mark.parametrize("epochs", [2, 3, 7, 11])
def test_officials_corners_are_whole_epochs(epochs):
    schedule = schedules.official(0.05, total=10 * epochs, epochs=epochs)
    t = np.linspace(0, epochs, 8 * epochs + 1)[1:]
    expected = np.interp(t, [0, 2 * epochs // 5, 4 * epochs // 5, epochs], [0, 0.05, 0.0025, 0])
    np.testing.assert_allclose([schedule(10 * s - 1) for s in t], expected, rtol=1e-12, atol=1e-15)


def test_one_cycle():
    schedule = schedules.one_cycle(0.8, total=100, peak_at=0.25, start=0.1, final=0.01)
    assert rates(schedule, 0, 12.5, 25, 62.5, 100, 200) == [0.08, 0.44, 0.8, 0.404, 0.008, 0.008]


def test_warmup_cosine():
    schedule = schedules.warmup_cosine(0.8, total=104, warmup=4)
    assert rates(schedule, 0, 1, 2, 3, 4, 54, 104) == [0.16, 0.32, 0.48, 0.64, 0.8, 0.4, 0]
    assert rates(schedules.warmup_cosine(0.8, 100), 0, 50, 100) == [0.8, 0.4, 0]
    schedule = schedules.warmup_cosine(0.8, total=100, final=0.2)
    assert rates(schedule, 0, 50, 100, 150) == [0.8, 0.5, 0.2, 0.2]
    assert schedule(25) == pytest.approx(0.2 + 0.6 * (1 + math.sqrt(0.5)) / 2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: schedules.piecewise([0, 1], [1]), "piecewise: 2 steps but 1 rates"),
        (lambda: schedules.piecewise([], []), "piecewise: 0 steps but 0 rates"),
        (lambda: schedules.piecewise([0, 2, 1], [1, 1, 1]), "steps [0, 2, 1] do not increase"),
        (lambda: schedules.one_cycle(0, 10), "one_cycle: lr is 0; expected > 0"),
        (lambda: schedules.one_cycle(1, 0), "one_cycle: total is 0; expected > 0"),
        (lambda: schedules.one_cycle(1, 10, peak_at=1), "one_cycle: peak_at is 1; expected 0 <"),
        (lambda: schedules.official(1, -1), "official: total is -1; expected > 0"),
        (
            lambda: schedules.warmup_cosine(1, 10, 10),
            "warmup is 10; expected 0 ≤ warmup < total, 10",
        ),
        (lambda: schedules.warmup_cosine(math.nan, 10), "lr is nan; expected > 0"),
        (lambda: schedules.warmup_cosine(1, math.inf), "total is inf; expected > 0"),
        (lambda: schedules.warmup_cosine(1, 10, final=-1), "final is -1; expected ≥ 0"),
        (lambda: schedules.warmup_cosine("1", 10), "warmup_cosine: lr is '1'; expected > 0"),
        (lambda: schedules.one_cycle(1, 10, start=-0.1), "one_cycle: start is -0.1; expected ≥ 0"),
        (
            lambda: schedules.one_cycle(1, 10, peak_at=math.nan),
            "peak_at is nan; expected 0 < peak_at < 1",
        ),
        (lambda: schedules.official(1, 10, 0), "official: epochs is 0; expected > 0"),
        (lambda: schedules.constant(-1), "constant: lr is -1; expected ≥ 0"),
        (lambda: schedules.constant(None), "constant: lr is None; expected ≥ 0"),
        (
            lambda: schedules.piecewise([0, math.nan], [1, 1]),
            "piecewise: steps[1] is nan; expected",
        ),
        (lambda: schedules.piecewise([0, 1], [1, -1]), "piecewise: rates[1] is -1; expected ≥ 0"),
    ],
)
def test_schedules_that_make_no_sense(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


# ---- clipping


def parameters(*gradients, dtype=np.float64):
    ps = [Parameter(np.zeros(np.shape(g) or 1, dtype)) for g in gradients]
    for p, g in zip(ps, gradients, strict=True):
        p.grad = None if g is None else np.array(g, dtype)
    return ps


def test_gradients_are_scaled_together():
    a, b, none = parameters([3.0], [[0.0, 4.0]], None)
    assert clip_grad_norm([a, b, none], 1.0) == 5
    np.testing.assert_allclose(a.grad, [0.6], rtol=1e-6)
    np.testing.assert_allclose(b.grad, [[0, 0.8]], rtol=1e-6)
    assert none.grad is None


def test_a_small_gradient_is_left_alone():
    (a,) = parameters([3.0, 4.0])
    before = a.grad
    assert clip_grad_norm(iter([a]), 6) == 5
    assert a.grad is before
    assert a.grad.tolist() == [3, 4]
    assert clip_grad_norm([], 1) == 0


def test_clipping_keeps_the_dtype():
    (a,) = parameters([3.0, 4.0], dtype=np.float32)
    clip_grad_norm([a], 1)
    assert a.grad.dtype == np.float32


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_told_and_left_alone(bad):
    a, b = parameters([3.0], [bad])
    told = clip_grad_norm([a, b], 1.0)
    assert math.isnan(told) if math.isnan(bad) else told == math.inf
    assert a.grad.tolist() == [3]


@pytest.mark.parametrize("max_norm", [0, -1, math.nan])
def test_a_norm_that_makes_no_sense(max_norm):
    with pytest.raises(ValueError, match=f"clip_grad_norm: max_norm is {max_norm}; expected more"):
        clip_grad_norm(parameters([1.0]), max_norm)


def test_the_small_number_beside_the_norm():
    (a,) = parameters([3e-6, 4e-6])
    assert clip_grad_norm([a], 1e-6) == pytest.approx(5e-6, rel=1e-15)
    np.testing.assert_allclose(a.grad, [0.5e-6, 4e-6 / 6], rtol=1e-14)  # times 1 / (5 + 1)


@pytest.mark.parametrize(
    ("dtype", "number", "count"),
    [(np.float32, 3e19, 128), (np.float32, 1e20, 4), (np.float32, 3e38, 1000),
     (np.float32, 1e-30, 16), (np.float64, 1e200, 4), (np.float64, 1.5e308, 1),
     (np.float64, 1e-200, 4), (np.float64, 5e-324, 9)],
)  # fmt: skip
def test_norms_whose_squares_do_not_fit(dtype, number, count):
    number = dtype(number)
    (a,) = parameters(np.full(count, number), dtype=dtype)
    expected = float(number) * math.sqrt(count)
    max_norm = expected / 10 if expected > 1e-300 else 1.0
    assert clip_grad_norm([a], max_norm) == pytest.approx(expected, rel=1e-6)
    if number > 1:
        np.testing.assert_allclose(a.grad, number / 10, rtol=1e-6)


def test_a_very_large_gradient_is_clipped_to_one():
    a, b = parameters([3e38] * 500, [3e38] * 500, dtype=np.float32)
    assert clip_grad_norm([a, b], 1.0) == pytest.approx(3e38 * math.sqrt(1000))
    np.testing.assert_allclose(np.concatenate([a.grad, b.grad]), 1000**-0.5, rtol=1e-6)


def test_norms_over_several_arrays_are_exact():
    rng = np.random.default_rng(0)
    arrays = [
        rng.standard_normal(shape).astype(np.float32) for shape in ((), (0,), (7,), (300, 400))
    ]
    expected = math.sqrt(math.fsum(float(x) ** 2 for a in arrays for x in a.ravel()))
    assert norm(arrays) == pytest.approx(expected, rel=1e-13)
    assert norm([]) == norm([np.zeros(3)]) == 0


def test_one_tensor_is_clipped_too():
    (w,) = parameters(np.full((3, 2), 100.0))
    assert clip_grad_norm(w, 1.0) == pytest.approx(100 * 6**0.5)
    assert norm([w.grad]) == pytest.approx(1, rel=1e-6)
