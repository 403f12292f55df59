"""An exercise, and what an answer to it does on each of its cases.

The exercises of lesson NN are the list EXERCISES in NN_…/checks.py.
"""

from __future__ import annotations

import copy
import functools
import inspect
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from minimix import Tensor

from .differences import difference, form, plain
from .limits import TooLong, unanswered

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
            return f"should return {len(names)} things ({', '.join(names)}), not {form(self.value)}"
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


def described(error: BaseException) -> str:
    """An error in one line, of a length that can be read."""
    if isinstance(error, (TooLong, Wrong)):
        return str(error)
    text = " ".join(re.sub(r"\x1b\[[\d;]*m", "", str(error)).split())
    text = re.sub(r"(Failed in nopython mode pipeline \(step: [^)]*\) ?)+", "", text)
    return f"{type(error).__name__}: {text[:200]}".rstrip(": ")
