"""The checkers: references pass, known mistakes are recognized, and nothing upsets them."""

import signal

import numpy as np
import pytest

from lessons import check as check_module
from lessons import folders
from lessons.check import Exercise, check, examine, exercises

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
    assert report.lines[1:] == (message,)


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
        (lambda x: (2.0 * x.astype(float), 1), ("2×3 numbers: y is float64, expected float32",)),
        (lambda x: (-2 * x, 21), ("2×3 numbers: y at [0, 0] is -2, expected 2", "sign")),
        (lambda x: (6 * x, 21), ("2×3 numbers: y at [0, 0] is 6, expected 2", "3 times")),
        (lambda x: (x * np.nan, 21), ("2×3 numbers: y contains nan",)),
        (lambda x: (x / 2, x.mean()), ("2×3 numbers: y at", "halved", "no sum")),
        (lambda x: 1 / 0, ("2×3 numbers: ZeroDivisionError: division by zero",)),
        (wrong_in_place, ("2×3 numbers: right, but argument 1 was changed in place",)),
    ],
)  # fmt: skip
def test_a_checker_says_what_is_wrong(answer, said):
    text = str(examine(DOUBLE, answer))
    for words in said:
        assert words in text


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
