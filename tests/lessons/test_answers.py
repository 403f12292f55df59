"""Answers that students gave, right and wrong ones: what the checkers make of them.

They are data: right.json and wrong.json in the folder answers/ here and, where they exist, in
$MINIMIX_ANSWERS or in ../shared/answers beside the checkout; answers/says.json has, for those, the
words that name the cause. Run as a program, this file lists what is said of each.
"""

import ast
import functools
import json
import linecache
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from lessons import ROOT, folders, progress
from lessons.check import check
from lessons.limits import TooLong, time_limit

# The time limit may strike where Python swallows it, as in what follows a garbage collection;
# it strikes again.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

HERE = Path(__file__)
MORE = os.environ.get("MINIMIX_ANSWERS") or HERE.parents[3] / "shared" / "answers"
FOLDERS = [HERE.parent / "answers", Path(MORE)]


# Answers that the checkers rightly judge otherwise than the data say.
DISPUTED = {
    "01.tanh: backward returns plain number (minitorch habit)": "the exercise asks for a tuple, "
    "and without one its own `backward` fails",
    "07.batch_norm: np.sqrt on Tensor": "NumPy's functions are recorded on the tape by now",
    "07.batch_norm: x.var(axis) missing method": "a Tensor may have a var, and then this is right",
}


@dataclass(frozen=True)
class Answer:
    """A student's answer: code that is run after the lesson's own definitions.

    code   the answer; or
    edit   old, new, … in the lesson's own solution
    cause  what is wrong with it
    says   words that the checker says where it names the cause
    """

    exercise: str
    what: str
    code: str = ""
    cause: str = ""
    says: str = ""
    edit: tuple[str, ...] = ()

    def __str__(self):
        return f"{self.exercise}: {self.what}"


def answers(kind, folder):
    return [Answer(**a) for a in json.loads((folder / f"{kind}.json").read_text("utf-8"))]


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
    return space, checked, cells


def code(answer):
    """The code of an answer, where it is an edit of the solution too."""
    if not answer.edit:
        return answer.code
    _, checked, cells = lesson(answer.exercise[:2])
    defines = re.compile(rf"(?m)^def {checked[answer.exercise]}\b")
    (source,) = (cell for cell in cells if defines.search(cell))
    for old, new in zip(answer.edit[::2], answer.edit[1::2], strict=True):
        assert source.count(old) == 1, (answer, old, source.count(old))
        source = source.replace(old, new)
    return source


def report(answer):
    """What the checker says of an answer, run as its notebook would run it."""
    space, checked, _ = lesson(answer.exercise[:2])
    space, source = dict(space), code(answer)
    try:
        file = f"<{answer}>"
        linecache.cache[file] = len(source), None, source.splitlines(True), file
        with time_limit(20):
            exec(compile(source, file, "exec"), space)
        return check(answer.exercise, eval(checked[answer.exercise], space))
    except (Exception, TooLong) as error:
        return error


def accepted(found):
    return getattr(found, "passed", False)


SETS = [folder for folder in FOLDERS if (folder / "right.json").exists()]
each_set = pytest.mark.parametrize("folder", SETS, ids=lambda folder: folder.parent.name)


@each_set
def test_right_answers_are_accepted(folder):
    given = answers("right", folder)
    refused = {str(a): str(found) for a in given if not accepted(found := report(a))}
    assert len(refused) <= 0.02 * len(given), refused
    assert refused.keys() <= DISPUTED.keys(), refused


@each_set
def test_wrong_answers_are_rejected_for_the_right_reason(folder):
    """Rejected: all. Misled, which is to say that another cause is named than the true one: none.
    The true cause is named for at least four of five; it is nearly all of them, and should stay.
    """
    known = json.loads((HERE.parent / "answers" / "says.json").read_text("utf-8"))
    given = [a for a in answers("wrong", folder) if str(a) not in DISPUTED]
    named, misled = 0, {}
    for answer in given:
        found = report(answer)
        assert not accepted(found), answer
        assert hasattr(found, "causes"), (answer, found)
        says = answer.says or known.get(str(answer), "")
        if says and says in "; ".join(found.causes):
            named += 1
        elif found.causes:
            misled[str(answer)] = found.causes
    assert not misled
    assert named >= 0.95 * len(given), named / len(given)


if __name__ == "__main__":
    for kind in sys.argv[1:] or ("right", "wrong"):
        said = [(a, report(a)) for folder in SETS for a in answers(kind, folder)]
        for answer, found in said:
            print(answer, f"\n    [{answer.cause}]" if answer.cause else "")
            print(code(answer))
            print(f"    {found}\n")
        passed = sum(accepted(found) for _, found in said)
        named = sum(bool(getattr(found, "causes", ())) for _, found in said)
        print(f"{kind}: {len(said)} answers, {passed} accepted, {named} with a cause named")
