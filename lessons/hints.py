"""What an error usually means, and how wrong numbers are related to the right ones.

For wrong answers that no exercise foresees. A relation is said only where it holds in every case
that failed.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minimix import Tensor

from .exercise import Outcome, Trials

# ---- errors

ERRORS: tuple[tuple[str, str], ...] = (
    (
        r"matmul: Input operand|shapes .* not aligned|matmul: .*(shape|size)",
        "the shapes of this matrix product do not fit: the last axis of the left factor must be "
        "as long as the first axis of the right one. Should a factor be transposed, or "
        "the order changed?",
    ),
    (
        r"operands could not be broadcast together|could not broadcast input array",
        "these shapes do not broadcast: compared from the last axis on, two lengths must be equal "
        "or one of them 1. Which axis is summed, or should be kept?",
    ),
    (
        r"cannot reshape array of size",
        "reshape keeps all numbers: the product of the new lengths must be the old size",
    ),
    (
        r"'float' object cannot be interpreted as an integer",
        "lengths, indices and counts are whole numbers: divide them with `//`, not with `/`",
    ),
    (
        r"No implementation of function Function\(<built-in function (max|min)",
        "a function of one number is called with a whole array: give it one number, x[i]",
    ),
    (
        r"Sequential: item .* is <class",
        "a class is not a layer yet: call it to make one, as in norm(h)",
    ),
    (
        r"normalize: images are float",
        "pictures are uint8, whole numbers from 0 to 255: draw them with rng.integers(0, 256, …, "
        "dtype=np.uint8)",
    ),
    (
        r"axes don't match array|axis .* out of bounds for array",
        "the array has a different number of axes",
    ),
    (
        r"index .* is out of bounds|list index out of range",
        "an index is too large: the last one is the length minus 1. Do the indices belong to "
        "these axes?",
    ),
    (
        r"unsupported operand type\(s\) for \S+: 'list' and",
        "Python's lists do no arithmetic: make arrays of them first, np.array(…)",
    ),
    (
        r"can only concatenate list",
        "`+` joins Python's lists: make arrays of them first, np.array(…)",
    ),
    (
        r"(list|tuple) indices must be integers",
        "this is a list or tuple, not an array: make an array of it first, np.array(…)",
    ),
    (
        r"only (length-1|0-dimensional|integer scalar) arrays can be converted",
        "here a single number is needed, and this is an array: functions of `math` take single "
        "numbers, those of NumPy take arrays",
    ),
    (
        r"setting an array element with a sequence",
        "one place of an array takes one number, and this is a whole array: is an index missing?",
    ),
    (
        r"'(\w+)' object is not callable",
        r"a {0} is called like a function: was a value returned where a function belongs?",
    ),
    (
        r"'NoneType' object is not (subscriptable|iterable)|unsupported operand .*'NoneType'"
        r"|cannot unpack non-iterable NoneType",
        "something is None here: was it never set, or is a `return` missing?",
    ),
    (
        r"not enough values to unpack|too many values to unpack|cannot unpack",
        "the number of names on the left differs from the number of values on the right",
    ),
    (
        r"cannot access local variable '(\w+)'|local variable '(\w+)' referenced before",
        "`{0}` is assigned somewhere in this function, so it is a local name, and here it has no "
        "value yet",
    ),
    (r"name '(\w+)' is not defined", "`{0}` has no value: is it misspelled, or made elsewhere?"),
    (
        r"has no attribute '(\w+)'",
        "there is no `{0}` here: is it misspelled, or is the object not what you think it is?",
    ),
    (
        r"takes (.*) positional arguments? but (\d+) (was|were) given|missing \d+ required"
        r"|unexpected keyword argument",
        "the arguments differ from those that the function takes: compare with its first line",
    ),
    (
        r"Sequential: item .* is \[",
        "nn.Sequential takes the layers themselves, not a list of them: nn.Sequential(*layers)",
    ),
    (
        r"backward from a tensor that depends on nothing",
        "the tape recorded nothing: the result was computed inside no_grad, or from .array",
    ),
    (
        r"backward has already passed through",
        "backward was called twice on one tape, and the first call freed it: call it once, "
        "after the loop",
    ),
    (
        r"unsupported operand type\(s\) for \+: '\w*Path' and|concatenate str .*Path",
        "a Path is joined by `/`, not by `+`: Path(folder) / name",
    ),
    (
        r"unknown file extension",
        'the ending of the name says in which format a picture is saved: ".png"',
    ),
    (
        r"Cannot handle this data type",
        "Pillow takes pictures as uint8, whole numbers from 0 to 255: no division by 255 here",
    ),
    (r"maximum recursion depth", "the recursion is too deep, or has no end: use a loop"),
    (r"^ZeroDivisionError|division by zero", "something is divided by 0"),
    (r"math domain error", "a root or logarithm of a negative number, or the logarithm of 0"),
    (
        r"Cannot cast ufunc",
        "`+=` and the like keep the type of the array: make a new one of floats",
    ),
)


def of_error(error: BaseException) -> str | None:
    """What an error usually means, if it is a usual one."""
    text = re.sub(r"\x1b\[[\d;]*m", "", f"{type(error).__name__}: {error}")  # without colors
    for pattern, hint in ERRORS:
        if match := re.search(pattern, text):
            return hint.format(*(group for group in match.groups() if group))
    return None


# ---- values


def before_all(trials: Trials) -> list[str]:
    """What other causes are easily mistaken for: said first where it holds."""
    pairs = [(trials.got[i], trials.wants[i]) for i in trials.failing()]
    if all(g.value is None and not g.error for g, _ in pairs) and any(
        g.value is not None for g in trials.got
    ):
        return ["in some cases no `return` is reached: does every branch end with one?"]
    if any(g.error or w.error for g, w in pairs):
        return []
    order = _order(pairs, trials.exercise.outputs)
    return [order] if order and "come in the order" in order else []


def of_values(trials: Trials) -> str | None:
    """How the first wrong output is related to the right one, in every case that failed."""
    names = trials.exercise.outputs
    pairs = [(trials.got[i], trials.wants[i]) for i in trials.failing()]
    if any(g.error or w.error for g, w in pairs):
        return None
    if names and (order := _order(pairs, names)):
        return order
    if names and pairs[0][0].part(0) is type(pairs[0][0]):
        return None
    for i, name in enumerate(names or ("the result",)):
        types = [(g.part(i), w.part(i)) for g, w in pairs if not g.agrees(w, i)]
        if types and all(isinstance(t, str) and t in TYPES for pair in types for t in pair):
            return f"{name} is {types[0][0]}: .astype(np.{types[0][1]}) makes it {types[0][1]}"
        both = [(_array(g.part(i)), _array(w.part(i))) for g, w in pairs if not g.agrees(w, i)]
        if both and all(a is not None and b is not None for a, b in both):
            for words, holds in _relations():
                if all(_holds(holds, a, b) for a, b in both):
                    return f"{name} {words}"
    return None


TYPES = ("bool", "int32", "int64", "uint8", "float16", "float32", "float64")


def _array(value: Any) -> np.ndarray | None:
    try:
        array = np.asarray(value.array if isinstance(value, Tensor) else value)
    except Exception:
        return None
    return array if array.dtype.kind in "biuf" else None


def _order(pairs: list[tuple[Outcome, Outcome]], names: tuple[str, ...]) -> str | None:
    """Two outputs that are in each other's place, or more of them."""
    for order in itertools.permutations(range(len(names))) if 2 < len(names) < 5 else ():
        moved = [i for i, j in enumerate(order) if i != j]
        if len(moved) > 2 and all(
            all(_near(_array(g.part(i)), _array(w.part(j))) for g, w in pairs)
            and not (i != j and all(_near(_array(w.part(i)), _array(w.part(j))) for _, w in pairs))
            for i, j in enumerate(order)
        ):
            given = ", ".join(names[j] for j in order)
            return f"the results come in the order {given}; return {', '.join(names)}"
    for i in range(len(names)):
        for j in range(i):
            crossed = all(
                _near(_array(g.part(j)), _array(w.part(i)))
                and _near(_array(g.part(i)), _array(w.part(j)))
                and not _near(_array(w.part(i)), _array(w.part(j)))
                for g, w in pairs
            )
            if crossed:
                return f"{names[j]} and {names[i]} are swapped: return them in the order asked for"
    return None


def _near(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    return (
        a is not None
        and b is not None
        and a.shape == b.shape
        and bool(np.allclose(a, b, rtol=1e-4, atol=1e-6 * max(1e-3, np.abs(b).max(initial=0))))
    )


def _holds(relation: Callable[[np.ndarray, np.ndarray], bool], a: Any, b: Any) -> bool:
    try:
        with np.errstate(all="ignore"):
            return bool(relation(a, b))
    except Exception:
        return False


def _relations() -> Iterator[tuple[str, Any]]:
    """Words that follow the output's name, and whether they are true of (got, expected)."""
    for how, words in (("sum", "summed"), ("mean", "averaged")):
        for axes in ((0,), (1,), (-1,), (0, 1), (0, 1, 2)):
            for keep in (False, True):
                yield (
                    f"is not {words} yet, over {_axes(axes)}",
                    lambda a, b, how=how, axes=axes, keep=keep: (
                        a.ndim > max(axes)
                        and a.shape != b.shape
                        and _near(getattr(a, how)(axis=axes, keepdims=keep), b)
                    ),
                )
        yield (
            f"is not {words} yet",
            lambda a, b, how=how: a.ndim > 0 and b.ndim == 0 and _near(getattr(a, how)(), b),
        )
    yield (
        "has the right numbers, but an axis of length 1 too many: sum without keepdims, or reshape",
        lambda a, b: a.ndim > b.ndim and _near(a.reshape(b.shape), b) and 1 in a.shape,
    )
    yield (
        "has the right numbers, but an axis of length 1 is missing: keepdims=True keeps it",
        lambda a, b: a.ndim < b.ndim and _near(a.reshape(b.shape), b) and 1 in b.shape,
    )
    yield "is transposed", lambda a, b: b.ndim > 1 and not _near(b.T, b) and _near(a.T, b)
    yield (
        "has the right numbers in another shape: reshape it",
        lambda a, b: a.shape != b.shape and _near(a.reshape(b.shape), b),
    )
    yield "has the wrong sign", lambda a, b: np.any(b != 0) and _near(-a, b)
    yield (
        "is 0 everywhere: is it filled in at all, or is it overwritten?",
        lambda a, b: a.shape == b.shape and a.size > 1 and not a.any(),
    )
    for axis in range(4):
        yield (
            f"is reversed along axis {axis}",
            lambda a, b, axis=axis: b.ndim > axis and _near(np.flip(a, axis), b),
        )
        for places, words in ((1, "too early"), (-1, "too late")):
            yield (
                f"is one place {words} along axis {axis}",
                lambda a, b, axis=axis, places=places: (
                    a.shape == b.shape
                    and b.ndim > axis
                    and b.shape[axis] > 2
                    and _near(
                        np.delete(np.roll(a, places, axis), 0 if places > 0 else -1, axis),
                        np.delete(b, 0 if places > 0 else -1, axis),
                    )
                ),
            )
    for factor, words in ((2, "twice"), (0.5, "half"), (3, "three times"), (4, "four times")):
        yield (
            f"is {words} what it should be, everywhere",
            lambda a, b, factor=factor: bool(np.any(b != 0)) and _near(a, factor * b),
        )
    for how, words in (("mean", "mean"), ("sum", "sum"), ("max", "largest")):
        yield (
            f"is a single number, the {words} of all that is to be returned",
            lambda a, b, how=how: a.ndim == 0 and b.ndim > 0 and _near(a, getattr(b, how)()),
        )
    yield (
        "is rounded down: should `//` be `/`?",
        lambda a, b: a.shape == b.shape and not _near(b, np.floor(b)) and _near(a, np.floor(b)),
    )
    yield (
        "is the square of what it should be: is a root missing?",
        lambda a, b: not _near(b, b * b) and _near(a, b * b),
    )
    yield (
        "is the root of what it should be: is a square missing?",
        lambda a, b: not _near(b, b * b) and _near(a * a, b),
    )
    yield "is 1 divided by what it should be", lambda a, b: not _near(b, 1 / b) and _near(1 / a, b)
    yield "is the logarithm of what it should be", lambda a, b: _near(np.exp(a), b)
    yield "is the exponential of what it should be", lambda a, b: _near(np.log(a), b)
    yield (
        "is off by the same number everywhere",
        lambda a, b: a.shape == b.shape and a.size > 1 and _near(a - (a - b).flat[0], b),
    )
    yield (
        "has the right numbers in another order: are axes swapped, or is it not sorted?",
        lambda a, b: (
            a.size == b.size and a.size > 1 and _near(np.sort(a, axis=None), np.sort(b, axis=None))
        ),
    )
    yield (
        "is not finite: exp of a large number overflows, x / 0 and log 0 are infinite",
        lambda a, b: not np.isfinite(a).all() and bool(np.isfinite(b).all()),
    )


def _axes(axes: tuple[int, ...]) -> str:
    return f"axis {axes[0]}" if len(axes) == 1 else f"axes {', '.join(map(str, axes))}"
