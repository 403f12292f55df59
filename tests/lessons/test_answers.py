"""Answers that students gave, right and wrong ones: what the checkers make of them.

They are data: right.json and wrong.json in the folder answers/ here and, where they exist, in
$MINIMIX_ANSWERS or in ../shared/answers beside the checkout. Run as a program, this file lists what
is said of each.
"""

import ast
import functools
import json
import linecache
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from lessons import ROOT, folders, progress
from lessons.check import TooLong, check, time_limit

HERE = Path(__file__)
MORE = os.environ.get("MINIMIX_ANSWERS") or HERE.parents[3] / "shared" / "answers"
FOLDERS = [HERE.parent / "answers", Path(MORE)]


# Answers that the checkers rightly judge otherwise than the data say.
DISPUTED = {
    "01.tanh: backward returns plain number (minitorch habit)": "the exercise asks for a tuple, "
    "and without one its own `backward` fails",
    "07.batch_norm: np.sqrt on Tensor": "NumPy's functions are recorded on the tape by now",
}


@dataclass(frozen=True)
class Answer:
    """A student's answer: code that is run after the lesson's own definitions."""

    exercise: str
    what: str
    code: str
    cause: str = ""

    def __str__(self):
        return f"{self.exercise}: {self.what}"


def answers(kind):
    paths = [folder / f"{kind}.json" for folder in FOLDERS]
    return [Answer(**a) for p in paths if p.exists() for a in json.loads(p.read_text("utf-8"))]


@functools.cache
def lesson(number):
    """What a solved notebook defines, and the answers in its check cells: name -> expression."""
    (folder,) = (f for f in folders() if f.name.startswith(number))
    space, checked = {"__name__": "__main__", "check": lambda name, answer: None}, {}
    cells = progress.code_cells(ROOT / "solved" / f"{folder.name}.ipynb")
    found = [progress.Statement(n, "", "<lesson>") for cell in cells for n in ast.parse(cell).body]
    needed = progress.needed(found)
    for statement in found:
        if statement not in needed and not isinstance(statement.node, ast.Import | ast.ImportFrom):
            continue
        if statement.checks:
            exercise, expression = statement.node.value.args
            checked[exercise.value] = ast.unparse(expression)
        else:
            exec(statement.code(), space)
    return space, checked


def report(answer):
    """What the checker says of an answer, run as its notebook would run it."""
    space, checked = lesson(answer.exercise[:2])
    space = dict(space)
    try:
        file = f"<{answer}>"
        linecache.cache[file] = len(answer.code), None, answer.code.splitlines(True), file
        with time_limit(20):
            exec(compile(answer.code, file, "exec"), space)
        return check(answer.exercise, eval(checked[answer.exercise], space))
    except (Exception, TooLong) as error:
        return error


def accepted(found):
    return getattr(found, "passed", False)


@pytest.mark.parametrize("answer", answers("right"), ids=str)
def test_right_answers_are_accepted(answer):
    found = report(answer)
    assert accepted(found) or str(answer) in DISPUTED, found


@pytest.mark.parametrize("answer", answers("wrong"), ids=str)
def test_wrong_answers_are_rejected(answer):
    found = report(answer)
    assert not accepted(found) or str(answer) in DISPUTED, answer.cause
    assert hasattr(found, "lines"), found


if __name__ == "__main__":
    for kind in sys.argv[1:] or ("right", "wrong"):
        said = [(a, report(a)) for a in answers(kind)]
        for answer, found in said:
            print(answer, f"\n    [{answer.cause}]" if answer.cause else "")
            print(answer.code)
            print(f"    {found}\n")
        passed = sum(accepted(found) for _, found in said)
        named = sum(len(getattr(found, "lines", ())) > 1 for _, found in said)
        print(f"{kind}: {len(said)} answers, {passed} accepted, {named} with a cause named")
