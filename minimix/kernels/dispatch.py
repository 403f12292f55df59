"""One name for two kernels: what it means, in NumPy, and the same in compiled code.

`@kernel` stands on the reference, in a module of a package called `reference`. The compiled kernel
has the same name and signature and lives in the module of the same name beside it, in `compiled`:

    minimix/kernels/reference/depthwise.py          minimix/kernels/compiled/depthwise.py

        @kernel(x="N H W C", w="k k C")                 def depthwise_conv2d(x, w):
        def depthwise_conv2d(x, w):                         ...
            ...

Callers import the reference's name. Called, it runs the compiled kernel where Numba can be
imported, unless the environment says MINIMIX_BACKEND=numpy (or `backend("numpy")` is in force).
Nothing is imported or compiled before the first call.

Compiled code has no bounds checks. So it is reached through this door alone, and only by arguments
like those it was written for, which the keywords of `@kernel` describe. Anything else (another
dtype, shapes that do not fit together, an empty array) goes to the reference, which computes what
NumPy makes of it or raises NumPy's error.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, ParamSpec, Protocol, TypeVar, cast

import numpy as np

Array = np.ndarray
Arrays = tuple[Array, ...]
Maybe = Array | None

BACKENDS = ("numba", "numpy")
FLOATS = (np.dtype(np.float32), np.dtype(np.float64))

_chosen: str | None = None


def backend_name() -> str:
    """The back end in force: "numba" or "numpy".

    ValueError if MINIMIX_BACKEND is neither, or asks for a Numba that is not installed.
    """
    global _chosen
    if _chosen is None:
        wanted = os.environ.get("MINIMIX_BACKEND", "")
        fastest = "numba" if importlib.util.find_spec("numba") else "numpy"
        _chosen = _checked(wanted, "MINIMIX_BACKEND") if wanted else fastest
    return _chosen


def _checked(name: str, who: str) -> str:
    if name not in BACKENDS:
        raise ValueError(f"{who} is {name!r}; it can be 'numba' or 'numpy'")
    if name == "numba" and importlib.util.find_spec("numba") is None:
        raise ValueError(f"{who} is 'numba', which is not installed; use 'numpy'")
    return name


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Run kernels in `name`, "numba" or "numpy", inside this block (for the whole process).

    ValueError for another name, and for a Numba that is not installed.
    """
    global _chosen
    before, _chosen = _chosen, _checked(name, "the back end")
    try:
        yield
    finally:
        _chosen = before


P = ParamSpec("P")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Kernel(Protocol[P, R_co]):
    """A function that runs in whichever back end is in force; `reference` is the NumPy one."""

    @property
    def reference(self) -> Callable[P, R_co]: ...

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...


def kernel(**arguments: str | type[int] | int) -> Callable[[Callable[P, R]], Kernel[P, R]]:
    """Decorate a reference kernel. `arguments`: what the compiled one takes, by parameter.

        "N H W C"       an array with these axes; a letter is the same length wherever it stands
        "... C"         with any axes before the last, the same wherever "..." stands
        "uint8: n 3"    of this dtype. Without one: float32 or float64, the same throughout
        int             a whole number of at least 1
        0               a whole number of at least 0

    An argument may also be a tuple of such arrays, or None where that is the default. Parameters
    that are not named here are not checked.
    """

    def decorate(reference: Callable[P, R]) -> Kernel[P, R]:
        module, name = sibling(reference.__module__), reference.__name__
        signature = inspect.signature(reference)
        unknown = set(arguments) - set(signature.parameters)
        if unknown:
            raise TypeError(f"kernel: {name} has no parameters {sorted(unknown)}")
        defaults = {p.name: p.default for p in signature.parameters.values()}
        expected = {parameter: _expected(what) for parameter, what in arguments.items()}

        # A network calls with the same few forms over and over: each is looked at once.
        @functools.lru_cache(maxsize=256)
        def fit(*forms: Any, **named: Any) -> bool:
            lengths: dict[str, Any] = {}
            return all(
                parameter not in expected
                or form is defaults[parameter] is None
                or _fits(form, expected[parameter], lengths)
                for parameter, form in signature.bind(*forms, **named).arguments.items()
            )

        def in_numpy(*args: P.args, **kwargs: P.kwargs) -> R:
            # NaN comes without a warning, as from compiled code. NumPy has also warned of a matrix
            # product of finite numbers: BLAS may read past the ends of rows.
            with np.errstate(invalid="ignore"):
                return reference(*args, **kwargs)

        @functools.wraps(reference)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            if backend_name() == "numpy":
                return in_numpy(*args, **kwargs)
            if not fit(*map(_form, args), **{name: _form(v) for name, v in kwargs.items()}):
                return in_numpy(*args, **kwargs)
            return getattr(_imported(module), name)(*args, **kwargs)

        call.reference = reference  # type: ignore[attr-defined]
        return cast(Kernel[P, R], call)

    return decorate


_imported = functools.cache(importlib.import_module)


def sibling(module: str) -> str:
    """The module of compiled kernels beside a module of references."""
    before, found, after = f".{module}.".rpartition(".reference.")
    if not found:
        raise TypeError(f"kernel: {module} is not in a package called `reference`")
    return f"{before}.compiled.{after}".strip(".")


class _Array(NamedTuple):
    """What an array must be: None stands for one of FLOATS."""

    dtype: np.dtype | None
    leading: bool  # whether any axes may come before those named
    axes: tuple[str, ...]


def _expected(argument: str | type[int] | int) -> _Array | int:
    if not isinstance(argument, str):
        return 1 if isinstance(argument, type) else argument
    dtype, _, axes = argument.rpartition(":")
    leading, *rest = axes.split()
    any_before = leading == "..."
    names = tuple(rest) if any_before else (leading, *rest)
    return _Array(np.dtype(dtype) if dtype else None, any_before, names)


def _form(value: Any) -> Any:
    """All that `_fits` asks of a value: (dtype, shape) of an array; (tuple, form, form, …); whole
    numbers and None as they are; of anything else its type."""
    kind = type(value)
    if kind is Array:
        return value.dtype, value.shape
    if kind is tuple:
        return tuple, *map(_form, value)
    return value if kind is int or value is None else kind


def _fits(form: Any, what: _Array | int, lengths: dict[str, Any]) -> bool:
    """Whether a value of this form is what it must be, given the axes of those before it."""
    if type(form) is tuple and form[0] is tuple:
        return all(_fits(each, what, lengths) for each in form[1:])
    if not isinstance(what, _Array):
        return type(form) is int and form >= what
    if type(form) is not tuple or 0 in form[1]:
        return False
    dtype, shape = form
    if dtype != (what.dtype or lengths.setdefault("dtype", dtype)):
        return False
    if what.dtype is None and dtype not in FLOATS:
        return False
    named = len(what.axes)
    if what.leading:
        before = len(shape) - named
        if before < 0 or lengths.setdefault("...", shape[:before]) != shape[:before]:
            return False
        shape = shape[before:]
    if len(shape) != named:
        return False
    for axis, length in zip(what.axes, shape, strict=True):
        if (axis.isdigit() and int(axis) != length) or lengths.setdefault(axis, length) != length:
            return False
    return True
