"""Answers that students gave, right and wrong ones: what the checkers make of them.

The answers are data that do not come with the repository: right.json and wrong.json in the folder
$MINIMIX_ANSWERS, or in ../shared/answers beside the checkout. Run as a program, this file lists
what is said of each.
"""

import ast
import functools
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from lessons import ROOT, folders, progress
from lessons.check import TooLong, check, time_limit

FOLDER = Path(os.environ.get("MINIMIX_ANSWERS") or Path(__file__).parents[3] / "shared" / "answers")


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
    path = FOLDER / f"{kind}.json"
    return [Answer(**a) for a in json.loads(path.read_text("utf-8"))] if path.exists() else []


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
        with time_limit(20):
            exec(compile(answer.code, f"<{answer}>", "exec"), space)
        return check(answer.exercise, eval(checked[answer.exercise], space))
    except (Exception, TooLong) as error:
        return error


def accepted(found):
    return getattr(found, "passed", False)


def test_right_answers_are_accepted():
    found = {str(a): report(a) for a in answers("right")}
    if not found:
        pytest.skip(f"no answers in {FOLDER}")
    refused = {what: str(said) for what, said in found.items() if not accepted(said)}
    assert refused == {}


def test_wrong_answers_are_rejected_and_most_causes_named():
    found = {str(a): report(a) for a in answers("wrong")}
    if not found:
        pytest.skip(f"no answers in {FOLDER}")
    assert [what for what, said in found.items() if accepted(said)] == []
    named = [what for what, said in found.items() if len(said.lines) > 1]
    assert len(named) >= 0.8 * len(found), sorted(set(found) - set(named))


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
