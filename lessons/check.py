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

An exercise is one `Exercise`; those of lesson NN are the list EXERCISES in NN_…/checks.py.
"""

from __future__ import annotations

import builtins
import copy
import functools
import html
import importlib
import inspect
import math
import os
import re
import signal
import textwrap
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import minimix
from minimix import Tensor

from . import ROOT, folders

Answer = Callable[..., Any]
Case = tuple[str, tuple[Any, ...]]


def call(answer: Answer, *args: Any) -> Any:
    return answer(*args)


@dataclass(frozen=True, eq=False)
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
    mend       whether to look for a small change that makes a wrong answer right
    """

    name: str
    reference: Answer
    cases: Callable[[np.random.Generator], Iterable[Case]]
    mistakes: Mapping[str, Answer]
    outputs: tuple[str, ...] = ()
    run: Callable[..., Any] = call
    rtol: float | None = None
    form: Callable[[Answer], str | None] | None = None
    mend: bool = True

    @functools.cached_property
    def trials(self) -> list[Case]:
        """The cases, always the same."""
        return list(self.cases(np.random.default_rng(0)))

    @functools.cached_property
    def wants(self) -> list[Outcome]:
        """What the reference makes of each case."""
        return [Outcome(self, self.reference, args) for _, args in self.trials]

    @functools.cached_property
    def known(self) -> dict[str, list[Outcome]]:
        """What each mistake makes of each case."""
        return {
            message: [Outcome(self, mistake, args) for _, args in self.trials]
            for message, mistake in self.mistakes.items()
        }


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


class Trials(NamedTuple):
    """An answer on all cases of an exercise.

    first  which of them is the first that failed
    """

    exercise: Exercise
    cases: Sequence[Case]
    got: Sequence[Outcome]
    wants: Sequence[Outcome]
    first: int

    def failing(self) -> list[int]:
        return [i for i, (g, w) in enumerate(zip(self.got, self.wants, strict=True)) if g.fault(w)]


def causes(trials: Trials, answer: Answer) -> list[str]:
    """What probably went wrong, in sentences; none where nothing is known."""
    from . import hints, repair

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


class Outcome:
    """The result of calling an answer on one case: a value or an error, and changed arguments.

    guard   for an answer of which nothing is known: `input()` does not wait for anybody, and what
            is compiled is tried uncompiled first, where it can be interrupted and says its errors
    """

    def __init__(
        self, exercise: Exercise, answer: Answer, args: tuple[Any, ...], guard: bool = False
    ) -> None:
        self.exercise = exercise
        self.value: Any = None
        self.error: BaseException | None = None
        given = copy.deepcopy(args)
        try:
            with np.errstate(all="ignore"), unanswered():
                if guard and (plain := getattr(answer, "py_func", None)):
                    exercise.run(plain, *copy.deepcopy(args))
                self.value = exercise.run(answer, *given)
                if isinstance(self.value, Iterator):
                    self.value = list(self.value)
        except (Exception, SystemExit, TooLong) as error:
            self.error = error
        self.changed = [
            i
            for i, (before, after) in enumerate(zip(args, given, strict=True), 1)
            if isinstance(before, np.ndarray) and not np.array_equal(before, after, equal_nan=True)
        ]

    def shown(self) -> Any:
        """What `check.case()` shows: the outputs by their names, or the error."""
        if self.error:
            return self.error
        names = self.exercise.outputs
        if names and isinstance(self.value, (tuple, list)) and len(self.value) == len(names):
            return {n: _copied(v) for n, v in zip(names, self.value, strict=True)}
        return _copied(self.value)

    def part(self, i: int) -> Any:
        names = self.exercise.outputs
        if not names:
            return self.value
        whole = isinstance(self.value, (tuple, list)) and len(self.value) == len(names)
        return self.value[i] if whole else _Missing

    def agrees(self, other: Outcome, part: int) -> bool:
        """Whether one output is the same in both, apart from its precision.

        Errors are the same if they have the same words, and so come from the same kind of place.
        """
        if self.error or other.error:
            return _words(self.error) == _words(other.error)
        rtol = self.exercise.rtol or 1e-4
        return difference(self.part(part), other.part(part), rtol) is None

    def tells(self, part: int) -> bool:
        """Whether no two mistakes have this output by chance, as with words and small numbers."""
        if self.error:
            return True
        try:
            array = np.asarray(plain(self.part(part)))
        except ValueError:  # lists of several lengths
            return False
        return array.dtype.kind in "iuf" and len(np.unique(array[array != 0])) > 2

    def notes(self, want: Outcome) -> list[str]:
        """What is worth saying of a right result: where its precision is another."""
        found = []
        for i, name in enumerate(self.exercise.outputs or ("the result",)):
            got, expected = self.part(i), want.part(i)
            if isinstance(expected, np.ndarray) and expected.ndim:
                mine = np.asarray(got.array if isinstance(got, Tensor) else got).dtype
                if mine != expected.dtype:
                    found.append(f"{name} is {mine}; {expected.dtype} was expected")
        return found

    def differs(self, want: Outcome) -> str | None:
        """The first thing that is wrong with the value, in words; None if nothing is."""
        names = self.exercise.outputs
        if self.error and type(self.error) is not type(want.error):
            return described(self.error)
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
        return None

    def fault(self, want: Outcome) -> str | None:
        """As `differs`; arguments that were changed are wrong as well."""
        if wrong := self.differs(want):
            return wrong
        if self.changed and not want.changed:
            return f"the result is right, but argument {self.changed[0]} has changed"
        return None


def _copied(value: Any) -> Any:
    """A value that may be changed without harm, a Tensor as an array."""
    return np.array(value.array) if isinstance(value, Tensor) else copy.deepcopy(value)


def _words(error: BaseException | None) -> tuple[type | None, str]:
    """The kind and the text of an error, without addresses in memory."""
    return type(error), re.sub(r"0x[0-9a-f]+", "", str(error))


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
    text = " ".join(re.sub(r"\x1b\[[\d;]*m", "", str(error)).split())
    text = re.sub(r"(Failed in nopython mode pipeline \(step: [^)]*\) ?)+", "", text)
    return f"{type(error).__name__}: {text[:200]}".rstrip(": ")


def not_written(error: NotImplementedError) -> str:
    """What is said of a stub."""
    return f"not written yet: {str(error).removeprefix('your turn: ')}"


# ---- what never ends

LIMIT = 10.0  # seconds that an answer may take, in all cases together


class TooLong(BaseException):
    """Raised in what runs longer than it may. No `except Exception` of a student's stops it."""


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TooLong in what computes longer than that, or waits longer, and so does not end.

    Time in which other programs have the processor does not count: what waits is what has not
    computed for a twentieth of the time. Does nothing on Windows and outside of the main thread:
    there are no such signals there.
    """
    if not hasattr(signal, "SIGPROF") or threading.current_thread() is not threading.main_thread():
        yield
        return
    began, computed = time.monotonic(), time.process_time()

    def stop(*_: Any) -> None:
        raise TooLong(f"still running after {seconds:.2g} s; is there a loop that never ends?")

    def look(*_: Any) -> None:
        if time.monotonic() - began < seconds:
            return
        if time.process_time() - computed < seconds / 20:
            raise TooLong(f"still waiting after {seconds:.2g} s; what does it wait for?")

    clocks = (signal.SIGPROF, signal.ITIMER_PROF, stop), (signal.SIGALRM, signal.ITIMER_REAL, look)
    before = [(signal.signal(name, f), *signal.getitimer(timer)) for name, timer, f in clocks]
    around = before[0][1]  # what is left of a limit around this one
    seconds = min(seconds, around or seconds)
    signal.setitimer(signal.ITIMER_PROF, seconds, 1.0)
    signal.setitimer(signal.ITIMER_REAL, seconds, 0.5)
    try:
        yield
    finally:
        for (name, timer, _), (handler, left, every) in zip(clocks, before, strict=True):
            signal.setitimer(timer, left, every)
            signal.signal(name, handler)


@contextmanager
def unanswered() -> Iterator[None]:
    """`input()` raises an error instead of waiting for somebody."""

    def refuse(prompt: object = "") -> str:
        raise RuntimeError("input() gets no answer while exercises are checked")

    asked, builtins.input = builtins.input, refuse
    try:
        yield
    finally:
        builtins.input = asked


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
