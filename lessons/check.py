"""Whether an exercise is solved, and if not, what probably went wrong.

    check("01.multiply", multiply)

runs the student's function beside a reference on a handful of cases. A wrong result is compared
with the results of typical mistakes, each of which is itself written down as a function: what the
student reads is "this is what comes out when the two gradients are swapped", not a number.

An exercise is one `Exercise`; those of lesson NN are the list EXERCISES in NN_…/checks.py.
"""

from __future__ import annotations

import copy
import html
import importlib
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import minimix
from minimix import Tensor

from . import ROOT, folders

Answer = Callable[..., Any]
Case = tuple[str, tuple[Any, ...]]


def call(answer: Answer, *args: Any) -> Any:
    return answer(*args)


@dataclass(frozen=True)
class Exercise:
    """One exercise.

    name       "NN.function"
    reference  a right answer
    cases      from a random generator: pairs of words that describe a case, and its arguments
    mistakes   what to tell the student -> the wrong answer that deserves it
    outputs    names of the outputs, where there are several: ("dx", "dw")
    run        how an answer is called on a case, where it is not `answer(*args)`: what it returns
               (arrays, numbers, strings, lists of them) is what is compared
    rtol       how far a result may be off, relative to the largest number expected; left out,
               1e-4 for float32 and 1e-9 for float64
    """

    name: str
    reference: Answer
    cases: Callable[[np.random.Generator], Iterable[Case]]
    mistakes: Mapping[str, Answer]
    outputs: tuple[str, ...] = ()
    run: Callable[..., Any] = call
    rtol: float | None = None


@dataclass(frozen=True)
class Report:
    """What a check found. It shows itself in a notebook; `str` of it is plain text."""

    name: str
    passed: bool
    lines: tuple[str, ...]

    def __repr__(self) -> str:
        return "\n    ".join([f"{'✓' if self.passed else '✗'} {self.name}", *self.lines])

    def _repr_html_(self) -> str:
        colour = "#009E73" if self.passed else "#D55E00"
        first, *rest = (html.escape(line.strip()) for line in repr(self).split("\n"))
        return (
            f'<div style="border-left: 5px solid {colour}; padding: 4px 12px">'
            f"<b>{first}</b>{''.join(f'<br>{line}' for line in rest)}</div>"
        )


def exercises(lesson: str) -> list[Exercise]:
    """The exercises of lesson "NN", in order; none where there is no such lesson."""
    return [
        exercise
        for folder in folders()
        if folder.name.startswith(f"{lesson}_")
        for exercise in importlib.import_module(f".{folder.name}.checks", __package__).EXERCISES
    ]


def check(name: str, answer: Answer) -> Report:
    """Hold an answer against the exercise of that name. Never fails on what the answer does.

    Errors: ValueError where there is no such exercise.
    """
    known = {e.name: e for e in exercises(name[:2])}
    if name not in known:
        raise ValueError(f"check: there is no exercise {name!r}; there is {', '.join(known)}")
    return examine(known[name], answer)


def examine(exercise: Exercise, answer: Answer) -> Report:
    """`check`, of an exercise that is at hand."""

    def failed(*lines: str) -> Report:
        return Report(exercise.name, False, lines)

    if not callable(answer):
        kind = type(answer).__name__
        return failed(f"check needs the function itself, without parentheses, and got a {kind}")
    cases = list(exercise.cases(np.random.default_rng(0)))
    got: list[Outcome] = []
    for i, (label, args) in enumerate(cases):
        want = Outcome(exercise, exercise.reference, args)  # first: it may have kernels to compile
        with time_limit(LIMIT):
            got.append(Outcome(exercise, answer, args))
        if isinstance(got[-1].error, NotImplementedError):
            return failed(not_written(got[-1].error))
        if isinstance(got[-1].error, TooLong):
            return failed(f"{label}: {got[-1].error}{_where(got[-1].error)}")
        fault = got[-1].fault(want)
        if fault:
            got += [Outcome(exercise, answer, args) for _, args in cases[i + 1 :]]
            return failed(f"{label}: {fault}", *causes(exercise, cases, got))
    n = len(cases)
    return Report(exercise.name, True, ("right" if n == 1 else f"right in all {n} cases",))


def causes(exercise: Exercise, cases: list[Case], got: list[Outcome]) -> list[str]:
    """What those mistakes have to say that would have brought out, in every case, what was got.

    Output by output: who made one mistake in dx and another in dw is told of both.
    """
    wanted = [Outcome(exercise, exercise.reference, args) for _, args in cases]
    trials = list(zip(cases, got, wanted, strict=True))
    parts = range(max(1, len(exercise.outputs)))
    right = {i for i in parts if all(g.agrees(w, i) for _, g, w in trials if not g.error)}
    wrong = set(parts) - right or set(parts)
    said: list[str] = []
    for message, mistake in exercise.mistakes.items():
        same, telling = set(wrong), set()
        for (_, args), g, w in trials:
            theirs = Outcome(exercise, mistake, args)
            same = {i for i in same if g.agrees(theirs, i)}
            telling |= {i for i in same if not theirs.agrees(w, i)}
            if not same:
                break
        if same & telling:
            said.append(message)
            wrong -= same & telling
    return said


class Outcome:
    """What came of calling an answer on one case: a value or an error, and arguments changed."""

    def __init__(self, exercise: Exercise, answer: Answer, args: tuple[Any, ...]) -> None:
        self.exercise = exercise
        self.value: Any = None
        self.error: BaseException | None = None
        given = copy.deepcopy(args)
        try:
            with np.errstate(all="ignore"):
                self.value = exercise.run(answer, *given)
        except (Exception, SystemExit, TooLong) as error:
            self.error = error
        self.changed = [
            i
            for i, (before, after) in enumerate(zip(args, given, strict=True), 1)
            if isinstance(before, np.ndarray) and not np.array_equal(before, after, equal_nan=True)
        ]

    def part(self, i: int) -> Any:
        names = self.exercise.outputs
        if not names:
            return self.value
        whole = isinstance(self.value, (tuple, list)) and len(self.value) == len(names)
        return self.value[i] if whole else _Missing

    def agrees(self, other: Outcome, part: int) -> bool:
        """Whether one output is the same in both, whatever its precision."""
        if self.error or other.error:
            return type(self.error) is type(other.error)
        rtol = self.exercise.rtol or 1e-4
        return difference(self.part(part), other.part(part), rtol, exact=False) is None

    def fault(self, want: Outcome) -> str | None:
        """In words, the first thing that is wrong; None where nothing is."""
        names = self.exercise.outputs
        if self.error and type(self.error) is not type(want.error):
            return f"{described(self.error)}{_where(self.error)}"
        if want.error:
            kind = type(want.error).__name__
            return None if self.error else f"should raise {kind}, and returned a value"
        if self.value is None and want.value is not None:
            return "the result is None; is there a `return`?"
        if names and self.part(0) is _Missing:
            return (
                f"should return {len(names)} things ({', '.join(names)}), not {_form(self.value)}"
            )
        for i, name in enumerate(names or ("the result",)):
            wrong = difference(self.part(i), want.part(i), self.exercise.rtol)
            if wrong:
                return f"{name} {wrong}"
        if self.changed:
            return (
                f"right, but argument {self.changed[0]} was changed in place; "
                "somebody else may still need it"
            )
        return None


class _Missing:
    """Stands for an output where the answer returned the wrong number of them."""


def difference(got: Any, want: Any, rtol: float | None = None, exact: bool = True) -> str | None:
    """How `got` differs from `want`, in words that follow "the result …"; None where it does not.

    exact  whether precision (float32, float64) counts too
    """
    got, want = (v.array if isinstance(v, Tensor) else v for v in (got, want))
    if not isinstance(want, (np.ndarray, np.number, int, float)) or isinstance(want, bool):
        try:
            same = type(got) is type(want) and bool(got == want)
        except Exception:
            same = False
        return None if same else f"is {_form(got)}, expected {_form(want)}"
    try:
        array = np.asarray(got)
    except Exception:
        array = np.asarray(None)
    if array.dtype.kind not in "biufc":
        return f"is {_form(got)}, expected {_form(want)}"
    target = np.asarray(want)
    if array.shape != target.shape:
        return f"has shape {array.shape}, expected {target.shape}"
    if exact and isinstance(want, np.ndarray) and want.ndim and array.dtype != target.dtype:
        return f"is {array.dtype}, expected {target.dtype}, as what went in"
    if rtol is None:
        rtol = 1e-4 if target.dtype == np.float32 else 1e-9
    if target.dtype.kind in "biu" and array.dtype.kind in "biu":
        wrong = array != target
    else:
        scale = np.max(np.abs(target[np.isfinite(target)]), initial=0.0)
        near = np.isclose(array, target, rtol=0, atol=rtol * max(scale, 1e-3), equal_nan=True)
        wrong = ~near
    if not wrong.any():
        return None
    if not np.isfinite(array).all() and np.isfinite(target).all():
        return f"contains {array[~np.isfinite(array)].flat[0]}"
    return _compared(array, target, wrong)


def _compared(got: np.ndarray, want: np.ndarray, wrong: np.ndarray) -> str:
    """The numbers side by side, and a simple relation between them if there is one."""
    if got.ndim == 0:
        text = f"is {got:.6g}, expected {want:.6g}"
    else:
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        place = ", ".join(map(str, at))
        n = f"{wrong.sum()} of {wrong.size} numbers are" if wrong.size > 1 else "it is"
        text = f"at [{place}] is {got[at]:.6g}, expected {want[at]:.6g} ({n} wrong)"
    if got.dtype.kind in "biuf" and (want[wrong] != 0).all():
        ratio = got[wrong].astype(float) / want[wrong]
        first = float(ratio.flat[0])
        everywhere = np.allclose(ratio, first, rtol=1e-4) and wrong.sum() == (want != 0).sum()
        if everywhere and (got.size > 1 or first in (-1, 0.5, 2)):
            text += _times(first)
    return text


def _times(ratio: float) -> str:
    if abs(ratio + 1) < 1e-4:
        return ": the sign is the wrong way round"
    if abs(ratio) < 1e-4:
        return ": all of it is 0"
    return f": {ratio:.4g} times what it should be"


def _form(value: Any) -> str:
    """A value in a few words."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    if (
        isinstance(value, tuple)
        and len(value) > 1
        and not all(isinstance(v, (int, float, str)) for v in value)
    ):
        return f"a tuple of {len(value)}"
    if value is None or isinstance(value, (bool, int, float, str, tuple, list)):
        text = repr(value)
        return text if len(text) <= 80 else text[:77] + "…"
    return "a function" if callable(value) else f"a {type(value).__name__}"


def described(error: BaseException) -> str:
    """An error in one line, of a length that can be read."""
    if isinstance(error, TooLong):
        return str(error)
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:200]}".rstrip(": ")


def not_written(error: NotImplementedError) -> str:
    """What is said of a stub."""
    return f"not written yet: {str(error).removeprefix('your turn: ')}"


# ---- what never ends

LIMIT = 10.0  # seconds of computing for an answer to one case


class TooLong(BaseException):
    """Raised in what runs longer than it may. No `except Exception` of a student's stops it."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TooLong in what computes longer than that, and so does not end.

    Time that the processor spends elsewhere does not count. Does nothing on Windows and outside of
    the main thread: there is no such signal there.
    """
    if not hasattr(signal, "SIGPROF") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: Any) -> None:
        raise TooLong(f"still running after {seconds:.2g} s; is there a loop that never ends?")

    before = signal.signal(signal.SIGPROF, stop)
    around, _ = signal.getitimer(signal.ITIMER_PROF)  # what is left of a limit around this one
    seconds = min(seconds, around or seconds)
    signal.setitimer(signal.ITIMER_PROF, seconds, 1.0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, around, 1.0)
        signal.signal(signal.SIGPROF, before)


_OURS = tuple(f"{folder}{os.sep}" for folder in (ROOT, Path(*minimix.__path__)))


def _where(error: BaseException) -> str:
    """The last line of the student's own that led to the error."""
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(_OURS) and "site-packages" not in frame.filename
    ]
    return f", in the line `{own[-1].line}`" if own and own[-1].line else ""
