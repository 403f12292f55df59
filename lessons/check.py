"""Whether an exercise is solved, and if not, what probably went wrong.

    check("01.multiply", multiply)

runs the student's function and a reference on a handful of cases. For a wrong result it looks for
the cause in this order, and says it before any numbers:

1. the exercise's own list of typical mistakes, each written as a function whose results are
   compared with the student's ("dx and dy are swapped");
2. one small change to the student's own code that makes it right (`repair`);
3. what Python's or NumPy's error usually means, or how the numbers are related to the right ones
   (`hints`).

`check.case()` gives the failing case: its arguments, what was expected, and what came.
"""

from __future__ import annotations

import html
import importlib
import os
import re
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import minimix

from . import ROOT, folders, hints, repair
from .exercise import Answer, Exercise, Outcome, Trials, Wrong
from .limits import TooLong, time_limit


@dataclass(frozen=True)
class Report:
    """What a check found. A notebook displays it as HTML; `str` of it is plain text.

    causes  what probably went wrong, in sentences
    lines   what was observed: the case, both numbers
    trace   the student's own lines on the way to an error
    """

    name: str
    passed: bool
    lines: tuple[str, ...]
    causes: tuple[str, ...] = ()
    trace: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """The one line that says most."""
        return (*self.causes, *self.lines)[0]

    def _parts(self) -> list[str]:
        return [line.strip() for part in (*self.lines, *self.trace) for line in part.split("\n")]

    def __repr__(self) -> str:
        mark = "✓" if self.passed else "✗"
        return "\n    ".join([f"{mark} {self.name}", *self.causes, *self._parts()])

    def _repr_html_(self) -> str:
        color = "#009E73" if self.passed else "#D55E00"
        mark = "✓" if self.passed else "✗"
        bold = [f"{mark} {self.name}", *self.causes]
        top = "<br>".join(f"<b>{_code(line)}</b>" for line in bold)
        rest = "".join(f"<br>{_code(line)}" for line in self._parts())
        return (
            f'<div style="border-left: 5px solid {color}; padding: 4px 12px">{top}'
            f'<span style="font-size: 95%">{rest}</span></div>'
        )


def _code(line: str) -> str:
    """A line as HTML, what stands in backquotes as code."""
    return re.sub("`([^`]+)`", r"<code>\1</code>", html.escape(line))


def exercises(lesson: str) -> list[Exercise]:
    """The exercises of lesson "NN", in order; none if there is no such lesson."""
    return [
        exercise
        for folder in folders()
        if folder.name.startswith(f"{lesson}_")
        for exercise in importlib.import_module(f".{folder.name}.checks", __package__).EXERCISES
    ]


class FailedCase(NamedTuple):
    """A case on which an answer failed: `arguments, expected, got = check.case()`."""

    arguments: tuple[Any, ...]
    expected: Any
    got: Any


class Check:
    """Check an answer to the exercise of that name. Nothing that the answer does makes this fail.

    Errors: ValueError if there is no such exercise.
    """

    def __init__(self) -> None:
        self._failed: FailedCase | None = None

    def __call__(self, name: str, answer: Answer) -> Report:
        known = {e.name: e for e in exercises(name[:2])}
        if name not in known:
            raise ValueError(f"check: there is no exercise {name!r}; there is {', '.join(known)}")
        report, failed = examined(known[name], answer)
        self._failed = failed or self._failed
        return report

    def case(self) -> FailedCase:
        """The case on which a check failed last.

        Errors: ValueError if none has failed.
        """
        if self._failed is None:
            raise ValueError("check.case: no answer has failed a case yet")
        return self._failed


check = Check()

LIMIT = 10.0  # seconds that an answer may take, in all cases together


def examine(exercise: Exercise, answer: Answer) -> Report:
    """`check`, given the exercise itself."""
    return examined(exercise, answer)[0]


AFRESH = (
    "it remembers something between two calls, or draws random numbers of its own: each call must "
    "start afresh"
)
CASE = "`arguments, expected, got = check.case()` gives this case"


def examined(exercise: Exercise, answer: Answer) -> tuple[Report, FailedCase | None]:
    """What `check` says, and the case that failed, if one did."""

    def failed(line: str, causes: Iterable[str] = ()) -> tuple[Report, None]:
        return Report(exercise.name, False, (line,), tuple(causes)), None

    if not callable(answer):
        kind = type(answer).__name__
        return failed(f"check needs the function itself, without parentheses, and got a {kind}")
    cases, wants = exercise.trials, exercise.wants  # before the clock runs: kernels may compile
    got: list[Outcome] = []
    notes: list[str] = []
    try:
        with time_limit(LIMIT):
            for (label, args), want in zip(cases, wants, strict=True):
                got.append(Outcome(exercise, answer, args, guard=True))
                error = got[-1].error
                if isinstance(error, NotImplementedError):
                    return failed(not_written(error))
                if isinstance(error, TooLong):
                    return failed(f"{label}: {error}", [where(error)] if where(error) else ())
                if fault := got[-1].fault(want):
                    break
                notes += got[-1].notes(want)
            else:
                again = Outcome(exercise, answer, cases[0][1], guard=True)
                if fault := again.fault(got[0]):
                    return failed(f"right, but called again with {cases[0][0]}: {fault}", [AFRESH])
                if exercise.form and (fault := exercise.form(answer)):
                    return failed("the result is right in all cases", [fault])
                n = len(cases)
                right = "right" if n == 1 else f"right in all {n} cases"
                return Report(exercise.name, True, (right, *notes[:1])), None
            got += [Outcome(exercise, answer, a, guard=True) for _, a in cases[len(got) :]]
    except TooLong as error:
        return failed(str(error))
    first = next(i for i, (g, w) in enumerate(zip(got, wants, strict=True)) if g.fault(w))
    trials = Trials(exercise, cases, got, wants, first)
    outcome, want = got[first], wants[first]
    report = Report(
        exercise.name,
        False,
        (f"{cases[first][0]}: {fault}", CASE),
        tuple(causes(trials, answer)),
        tuple(own_lines(outcome.error)) if outcome.error else (),
    )
    return report, FailedCase(cases[first][1], want.shown(), outcome.shown())


# ---- why it is wrong


def causes(trials: Trials, answer: Answer) -> list[str]:
    """What probably went wrong, in sentences; none where nothing is known."""
    got, want = trials.got[trials.first], trials.wants[trials.first]
    if isinstance(got.error, Wrong):
        return [str(got.error)]
    if not got.error and got.differs(want) is None and got.changed:
        return [
            f"argument {got.changed[0]} was changed in place: compute a new array, or copy it first"
        ]
    if said := hints.before_all(trials) or known(trials):
        return said
    if _remembers(trials, answer):
        return [AFRESH]
    if trials.exercise.mend and (change := repair.found(trials, answer)):
        return [change]
    if got.error and (hint := hints.of_error(got.error)):
        return [hint]
    hint = hints.of_values(trials)
    return [hint] if hint else []


def _remembers(trials: Trials, answer: Answer) -> bool:
    """Whether the first case has another result when it is tried once more."""
    again = Outcome(trials.exercise, answer, trials.cases[0][1], guard=True)
    parts = range(max(1, len(trials.exercise.outputs)))
    return not all(again.agrees(trials.got[0], i) for i in parts)


def known(trials: Trials) -> list[str]:
    """The messages of the mistakes that give the results which the answer gave.

    Output by output: one mistake in dx and another in dw are both named. First those are sought
    that agree with the answer in every case; if there are none, in every case that failed; then in
    the first that failed. Where several fit equally well, all of them are named.
    """
    exercise = trials.exercise
    parts = range(max(1, len(exercise.outputs)))
    both = list(zip(trials.got, trials.wants, strict=True))
    right = {i for i in parts if all(g.agrees(w, i) for g, w in both if not g.error)}
    wrong = set(parts) - right or set(parts)
    for which in (range(len(both)), trials.failing(), [trials.first]):
        found: dict[str, set[int]] = {}
        for message, outcomes in exercise.known.items():
            same = {i for i in wrong if all(both[n][0].agrees(outcomes[n], i) for n in which)}
            if len(which) < len(both):
                same = {i for i in same if any(both[n][0].tells(i) for n in which)}
            telling = {i for i in same if any(not outcomes[n].agrees(both[n][1], i) for n in which)}
            if telling:
                found[message] = telling
        said, left = [], set(wrong)
        while best := max((len(p & left) for p in found.values()), default=0):
            part = next(p & left for p in found.values() if len(p & left) == best)
            fit = [m for m, p in found.items() if p & left == part]
            whole = [
                m
                for m in fit
                if all(both[n][0].agrees(exercise.known[m][n], i) for n in which for i in parts)
            ]
            fit = whole or fit
            if len(fit) <= 3:
                said.append(fit[0] if len(fit) == 1 else "either " + ", or ".join(fit))
            left -= part
        if said:
            return said
    return []


def not_written(error: NotImplementedError) -> str:
    """What is said of a stub."""
    return f"not written yet: {str(error).removeprefix('your turn: ')}"


# ---- the student's own lines

_OURS = tuple(f"{folder}{os.sep}" for folder in (ROOT, Path(*minimix.__path__)))


def _own(error: BaseException) -> list[traceback.FrameSummary]:
    return [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((*_OURS, "<frozen"))
        and "site-packages" not in frame.filename
    ]


def own_lines(error: BaseException) -> list[str]:
    """The lines of the student's own code that led to the error, the last one last."""
    return [
        f"line {frame.lineno}, in {frame.name}: `{frame.line}`"
        for frame in _own(error)[-4:]
        if frame.line
    ]


def where(error: BaseException) -> str:
    """Which line of the student's own code was running when the time was up."""
    lines = own_lines(error)
    return f"still running in {lines[-1]}" if lines else ""
