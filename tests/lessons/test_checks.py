"""The checkers: references pass, known mistakes are recognized, and nothing upsets them."""

import importlib
import os
import signal
import time
from fractions import Fraction

import numpy as np
import pytest

import minimix as mx
from lessons import check as check_module
from lessons import folders
from lessons.check import check, examine, exercises
from lessons.differences import difference
from lessons.exercise import Exercise

# The time limit may strike where Python swallows it, as in what follows a garbage collection;
# it strikes again.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

EXERCISES = [e for folder in folders() for e in exercises(folder.name[:2])]
MISTAKES = [(e, message) for e in EXERCISES for message in e.mistakes]


def named(e: Exercise) -> str:
    return e.name


def short(message: str) -> str:
    return message[:30] if isinstance(message, str) else message.name


@pytest.mark.parametrize("exercise", EXERCISES, ids=named)
def test_the_reference_passes_and_three_mistakes_are_known(exercise):
    assert examine(exercise, exercise.reference).passed
    assert len(exercise.mistakes) >= 3


@pytest.mark.parametrize(("exercise", "message"), MISTAKES, ids=short)
def test_every_mistake_fails_with_its_own_message(exercise, message):
    report = examine(exercise, exercise.mistakes[message])
    assert not report.passed
    assert len(report.causes) == 1
    either = report.causes[0].startswith("either ")  # where two mistakes cannot be told apart
    assert report.causes[0] == message or (either and message in report.causes[0])


def nothing(*args):
    return None


def words(*args):
    return "seven"


def many(*args):
    return [1, "two", None, np.zeros((3, 1, 4)), {}]


def crash(*args):
    raise KeyError("a mistake of the student's")


def leave(*args):
    raise SystemExit


def nan(*args):
    return np.full(3, np.nan)


@pytest.mark.parametrize("answer", [nothing, words, many, crash, leave, nan, 7, None, object])
@pytest.mark.parametrize("exercise", EXERCISES, ids=named)
def test_a_checker_survives_anything(exercise, answer):
    report = examine(exercise, answer)
    assert not report.passed
    assert all(isinstance(line, str) and len(line) < 400 for line in report.lines)
    assert str(report)
    assert report._repr_html_()


# ---- what a checker says


DOUBLE = Exercise(
    "99.double",
    reference=lambda x: (2 * x, x.sum()),
    outputs=("y", "total"),
    cases=lambda rng: [("2×3 numbers", (np.arange(1, 7, dtype=np.float32).reshape(2, 3),))],
    mistakes={"halved": lambda x: (x / 2, x.sum()), "no sum": lambda x: (2 * x, x.mean())},
)


def wrong_in_place(x):
    x *= 2
    return x, x.sum() / 2


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda x: None, ("2×3 numbers: the result is None; is there a `return`?",)),
        (lambda x: 2 * x, ("2×3 numbers: should return 2 things (y, total), not an array",)),
        (lambda x: (2 * x[0], 1), ("2×3 numbers: y has shape (3,), expected (2, 3)",)),
        (lambda x: (-2 * x, 21), ("2×3 numbers: y at [0, 0] is -2, expected 2", "sign is")),
        (lambda x: (6 * x, 21), ("2×3 numbers: y at [0, 0] is 6, expected 2", "3 times")),
        (lambda x: (x * np.nan, 21), ("2×3 numbers: y contains nan",)),
        (lambda x: (x / 2, x.mean()), ("2×3 numbers: y at", "halved", "no sum")),
        (lambda x: 1 / 0, ("2×3 numbers: ZeroDivisionError: division by zero",)),
        (wrong_in_place, ("argument 1 was changed in place: compute a new array",)),
    ],
)
def test_a_checker_says_what_is_wrong(answer, said):
    text = str(examine(DOUBLE, answer))
    for words in said:
        assert words in text


def test_the_cause_comes_first_and_bold_then_the_numbers_then_the_case():
    report = examine(DOUBLE, lambda x: (x / 2, x.sum()))
    said = ("halved", "2×3 numbers: y at [0, 0] is 0.5, expected 2", "check.case()")
    places = [str(report).index(words) for words in said]
    assert places == sorted(places)
    assert "<b>halved</b>" in report._repr_html_()


def test_check_case_gives_the_failing_case_and_copies():
    with pytest.raises(ValueError, match="no answer has failed a case yet"):
        check_module.Check().case()
    own = check_module.Check()
    assert not own("00.accuracy", lambda logits, labels: 0.5).passed
    assert own("00.accuracy", lambda logits, labels: (logits.argmax(1) == labels).mean()).passed
    (logits, labels), expected, got = own.case()
    assert (logits.argmax(1) == labels).mean() == expected != got == 0.5
    own("01.multiply", lambda x, y: (x * y, lambda g: (g * y, g * y)))
    assert own.case().expected == {"x·y": -6.0, "dx": -3.0, "dy": 2.0}
    own("07.batch_norm", lambda x, gamma, beta, eps: gamma * x + beta)
    own.case().got["y"][...] = 0  # an array, to be tried and changed at will


def deep(x):
    def inner(y):
        return y + {}["no such key"]

    return inner(x), 0


def test_an_error_shows_the_lines_of_the_students_own_code():
    report = examine(DOUBLE, deep)
    first, second = report.trace
    assert "in deep: `return inner(x), 0`" in first
    assert 'in inner: `return y + {}["no such key"]`' in second


def state_between_calls():
    calls = []

    def double(x):
        calls.append(x)
        return (2 * x, x.sum()) if len(calls) == 1 else (3 * x, x.sum())

    return double


def test_an_answer_may_not_remember_its_calls():
    report = examine(DOUBLE, state_between_calls())
    assert not report.passed
    assert report.causes[0].startswith("it remembers something between two calls")
    assert "called again with 2×3 numbers: y at [0, 0] is 3, expected 2" in str(report)


@pytest.mark.parametrize(
    ("answer", "note"),
    [
        (lambda x: (2 * x, x.sum()), ()),
        (lambda x: [2 * x, int(x.sum())], ()),
        (lambda x: (2 * x, Fraction(21)), ()),
        (lambda x: (2 * x, np.array(21)), ()),
        (lambda x: (mx.Tensor(2 * x), np.float32(21.000001)), ()),
        (lambda x: ((2 * x).tolist(), 21.0), ("y is float64; float32 was expected",)),
        (lambda x: (2.0 * x.astype(float), 21), ("y is float64; float32 was expected",)),
    ],
)
def test_a_right_answer_may_have_another_type(answer, note):
    report = examine(DOUBLE, answer)
    assert report.passed, report
    assert report.lines == ("right", *note)


@pytest.mark.parametrize(
    ("got", "want", "said"),
    [
        (np.float32(2 / 3), 2 / 3, None),
        (np.float32(0.666), 2 / 3, "is 0.666, expected 0.666667"),
        (0.6666667, 2 / 3, "is 0.6666667, expected 0.66666667"),
        (np.array([3], np.int32), np.array([3]), None),
        (np.array([3.0]), np.array([3]), None),
        (np.array([3.5]), np.array([3]), "at [0] is 3.5, expected 3 (it is wrong)"),
        (np.int32(1234567), 1234568, "is 1234567, expected 1234568"),
        (np.str_("worse"), "worse", None),
        (np.True_, True, None),
        (1, True, "is 1, expected True"),
        ("1", 1, "is '1', expected 1"),
        ((1, 2.0), [1, 2], None),
        (np.array([1, 2]), [1, 2], None),
        ([1, 2, 3], [1, 2], "is [1, 2, 3], expected [1, 2]"),
        ({1, 2}, [1, 2], "is a set, expected [1, 2]"),
    ],
)
def test_values_are_compared_as_what_they_mean(got, want, said):
    assert difference(got, want) == said


def test_checking_what_is_no_exercise_names_those_there_are():
    with pytest.raises(ValueError, match=r"there is no exercise '01.divide'; there is 01.multiply"):
        check("01.divide", nothing)


@pytest.mark.skipif(not hasattr(signal, "SIGPROF"), reason="Windows has no such signal")
def test_an_answer_that_never_ends_is_stopped_and_quoted(monkeypatch):
    def forever(x):
        while True:
            x = x + 0

    monkeypatch.setattr(check_module, "LIMIT", 0.2)
    report = examine(DOUBLE, forever)
    assert not report.passed
    assert "2×3 numbers: still running after 0.2 s; is there a loop that never ends?" in str(report)
    assert "in forever: `x = x + 0`" in str(report) or "in forever: `while True:`" in str(report)


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="Windows has no such signal")
def test_an_answer_that_waits_is_stopped_and_input_has_no_answer(monkeypatch):
    monkeypatch.setattr(check_module, "LIMIT", 0.2)
    waits = examine(DOUBLE, lambda x: time.sleep(100))
    assert "2×3 numbers: still waiting after 0.2 s; what does it wait for?" in str(waits)
    asks = examine(DOUBLE, lambda x: input("x? "))
    assert "RuntimeError: input() gets no answer" in str(asks)


def halves(x, w):
    return x / 2, 0


def fibonacci_without_end(x):
    return fibonacci_without_end(x) + fibonacci_without_end(x)


def test_recursion_without_end_is_named():
    report = examine(DOUBLE, fibonacci_without_end)
    assert "the recursion is too deep, or has no end" in str(report)


# ---- causes that no exercise foresees

ROWS = Exercise(
    "99.rows",
    reference=lambda x, w: (x @ w).sum(axis=1) - 1,
    cases=lambda rng: [
        ("3×4 @ 4×2", (rng.normal(size=(3, 4)), rng.normal(size=(4, 2)))),
        ("5×2 @ 2×2", (rng.normal(size=(5, 2)), rng.normal(size=(2, 2)))),
    ],
    mistakes={},
)


def wrong_axis(x, w):
    return (x @ w).sum(axis=0) - 1


def wrong_sign(x, w):
    return (x @ w).sum(axis=1) + 1


def transposed(x, w):
    return (x @ w.T).sum(axis=1) - 1


def averaged(x, w):
    return (x @ w).mean(axis=1) - 1


def returns_too_early(x, w):
    total = -np.ones(len(x))
    for row in (x @ w).T:
        total = total + row
        return total


def overwrites(x, w):
    total = -np.ones(len(x))
    for row in (x @ w).T:
        total = row
    return total


def uses_the_wrong_name(x, w):
    total = (x @ w).sum(axis=1)
    result = total - 1
    assert len(result) == len(x)
    return total


def wrong_order(x, w):
    y = x @ w
    y = y - 1
    y = y.sum(axis=1)
    return y


def swaps_arguments(x, w):
    return np.matmul(w, x).sum(axis=1) - 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (wrong_axis, "in the line `return (x @ w).sum(axis=0) - 1` the axis of"),
        (wrong_sign, "the sign in `(x @ w).sum(axis=1) + 1` is wrong"),
        (transposed, "`w` should not be transposed"),
        (averaged, "`mean` is not what is asked for"),
        (returns_too_early, "`return` is inside a loop: it belongs after it"),
        (overwrites, "`=` keeps only the last value: add them up with `+=`"),
        (uses_the_wrong_name, "`total` is not the right variable"),
        (wrong_order, "something comes too early: the next line belongs before it"),
        (swaps_arguments, "two arguments of `np.matmul` are swapped"),
        (lambda x, w: np.linalg.inv(x), None),
    ],
)
def test_one_change_that_makes_an_answer_right_is_found(answer, said):
    (cause,) = examine(ROWS, answer).causes or (None,)
    assert cause is None if said is None else said in cause


def test_an_answer_that_could_do_harm_is_not_changed():
    def asks_the_system(x, w):
        return (x @ w).sum(axis=0) - len(os.sep)

    assert not any("in the line" in cause for cause in examine(ROWS, asks_the_system).causes)


def test_nan_is_not_taken_for_state():
    """An answer that overflows is told so, and not that its backward changes what it uses."""
    (gelu,) = (e for e in EXERCISES if e.name == "07.gelu")
    assert "contains nan" in str(
        examine(gelu, lambda x: (gelu.reference(x)[0], lambda g: g * np.nan))
    )


def test_lesson_04_tells_fast_from_slow():
    """By a ratio with a wide margin: real ones are in the hundreds."""
    numba = pytest.importorskip("numba")
    checks = importlib.import_module("lessons.04_the_speed_ladder.checks")
    report = examine(checks.EXERCISES[1], checks.plain_loops)  # where NumPy should do the loops
    assert "as long as three Python loops" in report.summary
    slow = numba.jit(forceobj=True, looplift=False)(checks.plain_loops)
    assert "as slow as Python" in checks.compiled(
        slow, checks.plain_loops, checks.SQUARE, checks.SQUARE
    )
    assert checks.speedup(np.matmul, checks.plain_loops, checks.SQUARE, checks.SQUARE) > 100
