"""Whether an exercise is solved, and if not, what probably went wrong.

    check("01.multiply", multiply)

runs the student's function and a reference on a handful of cases. A wrong result is compared with
the results of typical mistakes, each of which is written as a function itself: the student reads
"dx and dy are swapped", not just two numbers.

An exercise is one `Exercise`; those of lesson NN are the list EXERCISES in NN_…/checks.py.
"""

from __future__ import annotations

import copy
import html
import importlib
import inspect
import math
import os
import signal
import textwrap
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
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
               (arrays, numbers, strings, lists of them) is compared
    rtol       largest error allowed, relative to the largest number expected; by default 1e-4 for
               float32 and 1e-9 for float64
    form       what is wrong with how a right answer is written; None where nothing is
    """

    name: str
    reference: Answer
    cases: Callable[[np.random.Generator], Iterable[Case]]
    mistakes: Mapping[str, Answer]
    outputs: tuple[str, ...] = ()
    run: Callable[..., Any] = call
    rtol: float | None = None
    form: Callable[[Answer], str | None] | None = None


def edited(right: Answer, changes: Mapping[str, Answer | tuple[str, ...]]) -> dict[str, Answer]:
    """Mistakes as edits of a right answer: message -> (old, new, …) in its source, or a function.

    Each `old` must occur exactly once in what the edits before it have made of the source.
    """
    mistakes: dict[str, Answer] = {}
    for message, change in changes.items():
        if callable(change):
            mistakes[message] = change
            continue
        source = textwrap.dedent(inspect.getsource(right))
        for old, new in zip(change[::2], change[1::2], strict=True):
            if source.count(old) != 1:
                raise ValueError(f"{right.__name__}: {old!r} occurs {source.count(old)} times")
            source = source.replace(old, new)
        space = dict(right.__globals__)
        exec(source, space)
        mistakes[message] = space[right.__name__]
    return mistakes


class Wrong(Exception):
    """An answer is wrong in a way that a sentence of its own describes."""


@dataclass(frozen=True)
class Report:
    """What a check found. A notebook displays it as HTML; `str` of it is plain text."""

    name: str
    passed: bool
    lines: tuple[str, ...]

    def __repr__(self) -> str:
        return "\n    ".join([f"{'✓' if self.passed else '✗'} {self.name}", *self.lines])

    def _repr_html_(self) -> str:
        color = "#009E73" if self.passed else "#D55E00"
        first, *rest = (html.escape(line.strip()) for line in repr(self).split("\n"))
        return (
            f'<div style="border-left: 5px solid {color}; padding: 4px 12px">'
            f"<b>{first}</b>{''.join(f'<br>{line}' for line in rest)}</div>"
        )


def exercises(lesson: str) -> list[Exercise]:
    """The exercises of lesson "NN", in order; none if there is no such lesson."""
    return [
        exercise
        for folder in folders()
        if folder.name.startswith(f"{lesson}_")
        for exercise in importlib.import_module(f".{folder.name}.checks", __package__).EXERCISES
    ]


def check(name: str, answer: Answer) -> Report:
    """Check an answer to the exercise of that name. Nothing that the answer does makes this fail.

    Errors: ValueError if there is no such exercise.
    """
    known = {e.name: e for e in exercises(name[:2])}
    if name not in known:
        raise ValueError(f"check: there is no exercise {name!r}; there is {', '.join(known)}")
    return examine(known[name], answer)


def examine(exercise: Exercise, answer: Answer) -> Report:
    """`check`, given the exercise itself."""

    def failed(*lines: str) -> Report:
        return Report(exercise.name, False, lines)

    if not callable(answer):
        kind = type(answer).__name__
        return failed(f"check needs the function itself, without parentheses, and got a {kind}")
    cases = list(exercise.cases(np.random.default_rng(0)))
    got: list[Outcome] = []
    notes: list[str] = []
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
        notes += got[-1].notes(want)
    with time_limit(LIMIT):
        again = Outcome(exercise, answer, cases[0][1])
    if fault := again.fault(got[0]):
        return failed(f"right, but when called again with {cases[0][0]}: {fault}")
    if exercise.form and (fault := exercise.form(answer)):
        return failed(f"the result is right, but {fault}")
    n = len(cases)
    right = "right" if n == 1 else f"right in all {n} cases"
    return Report(exercise.name, True, (right, *notes[:1]))


def causes(exercise: Exercise, cases: list[Case], got: list[Outcome]) -> list[str]:
    """The messages of the mistakes that give, in every case, the results that the answer gave.

    Output by output: one mistake in dx and another in dw are both named.
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
    """The result of calling an answer on one case: a value or an error, and changed arguments."""

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
        """Whether one output is the same in both, apart from its precision."""
        if self.error or other.error:
            words = isinstance(self.error, Wrong) and str(self.error) != str(other.error)
            return type(self.error) is type(other.error) and not words
        rtol = self.exercise.rtol or 1e-4
        return difference(self.part(part), other.part(part), rtol) is None

    def notes(self, want: Outcome) -> list[str]:
        """What is worth saying of a right result: where its precision is another."""
        found = []
        for i, name in enumerate(self.exercise.outputs or ("the result",)):
            got, expected = self.part(i), want.part(i)
            if isinstance(expected, np.ndarray) and expected.ndim:
                mine = np.asarray(got.array if isinstance(got, Tensor) else got).dtype
                if mine != expected.dtype:
                    found.append(f"{name} is {mine}, and the arguments are {expected.dtype}")
        return found

    def fault(self, want: Outcome) -> str | None:
        """The first thing that is wrong, in words; None if nothing is."""
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
                f"right, but argument {self.changed[0]} was changed in place: "
                "leave the arguments unchanged"
            )
        return None


class _Missing:
    """In place of an output, if the answer returned the wrong number of them."""


def plain(value: Any) -> Any:
    """A value as Python's own numbers, strings and lists, whatever it is made of."""
    if isinstance(value, Tensor):
        value = value.array
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, Fraction):
        return float(value)
    return [plain(v) for v in value] if isinstance(value, (list, tuple)) else value


def same(got: Any, want: Any, rtol: float = 1e-9) -> bool:
    """Whether two values are equal: numbers up to rounding, tuples and arrays as lists."""
    got, want = plain(got), plain(want)
    if isinstance(want, list):
        return (
            isinstance(got, list)
            and len(got) == len(want)
            and all(same(a, b, rtol) for a, b in zip(got, want, strict=True))
        )
    if isinstance(got, float) or isinstance(want, float):
        numbers = not {type(got), type(want)} - {int, float}
        near = numbers and math.isclose(got, want, rel_tol=rtol, abs_tol=1e-12)
        return near or (got != got and want != want)  # nan
    try:
        return type(got) is type(want) and bool(got == want)
    except Exception:
        return False


def difference(got: Any, want: Any, rtol: float | None = None) -> str | None:
    """How `got` differs from `want`, in words that follow "the result …"; None if it does not.

    Numbers are compared in the lower of the two precisions.
    """
    got, want = (v.array if isinstance(v, Tensor) else v for v in (got, want))
    if not isinstance(want, (np.ndarray, np.number, int, float)) or isinstance(want, bool):
        return None if same(got, want) else f"is {_form(got)}, expected {_form(want)}"
    try:
        array = np.asarray(float(got) if isinstance(got, Fraction) else got)
    except Exception:
        array = np.asarray(None)
    if array.dtype.kind not in "biufc":
        return f"is {_form(got)}, expected {_form(want)}"
    target = np.asarray(want)
    if array.shape != target.shape:
        return f"has shape {array.shape}, expected {target.shape}"
    whole = target.dtype.kind in "biu" and array.dtype.kind in "biu"
    if target.ndim and target.dtype.kind in "biu" and not whole:
        return f"is {array.dtype}, expected {target.dtype}"
    precision = max(_PRECISION.get(v.dtype.type, 0.0) for v in (array, target))
    if whole:
        wrong = array != target
    else:
        scale = np.max(np.abs(target[np.isfinite(target)]), initial=0.0)
        atol = max(rtol or 1e-9, precision) * max(scale, 1e-3)
        wrong = ~np.isclose(array, target, rtol=0, atol=atol, equal_nan=True)
    if not wrong.any():
        return None
    if not np.isfinite(array).all() and np.isfinite(target).all():
        return f"contains {array[~np.isfinite(array)].flat[0]}"
    return _compared(array, target, wrong)


_PRECISION = {np.float32: 1e-4, np.float16: 1e-2}


def _compared(got: np.ndarray, want: np.ndarray, wrong: np.ndarray) -> str:
    """Both numbers, and a simple relation between them if there is one."""
    at = tuple(int(i) for i in np.argwhere(wrong)[0])
    text = _unequal(got[at], want[at])
    if got.ndim:
        n = f"{wrong.sum()} of {wrong.size} numbers are" if wrong.size > 1 else "it is"
        text = f"at [{', '.join(map(str, at))}] {text} ({n} wrong)"
    if got.dtype.kind in "biuf" and (want[wrong] != 0).all():
        ratio = got[wrong].astype(float) / want[wrong]
        first = float(ratio.flat[0])
        everywhere = np.allclose(ratio, first, rtol=1e-4) and wrong.sum() == (want != 0).sum()
        if everywhere and (got.size > 1 or first in (-1, 0.5, 2)):
            text += _times(first)
    return text


def _unequal(got: Any, want: Any) -> str:
    """Two numbers with as many digits as it takes to see that they differ."""
    for digits in range(6, 18):
        a, b = (f"{v}" if isinstance(v, np.integer) else f"{v:.{digits}g}" for v in (got, want))
        if a != b:
            break
    return f"is {a}, expected {b}"


def _times(ratio: float) -> str:
    if abs(ratio + 1) < 1e-4:
        return ": the sign is wrong"
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
    if isinstance(error, (TooLong, Wrong)):
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
    """The last line of the student's own code that led to the error."""
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(_OURS) and "site-packages" not in frame.filename
    ]
    return f", in the line `{own[-1].line}`" if own and own[-1].line else ""
