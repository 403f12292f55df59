"""Is a backward right? Ask the forward.

    x = Tensor(rng.standard_normal((3, 4)), requires_grad=True)
    gradcheck(gelu, x)

compares what backward says with what f does when its inputs are moved a little, in float64 and in
up to three ways:

**The whole Jacobian**, where inputs and outputs are few. Every number of every input is moved, and

    ∂f/∂x ≈ (f(x−2h) − 8 f(x−h) + 8 f(x+h) − f(x+2h)) / 12h        h = 2⁻¹²

is off by h⁴/30 times the fifth derivative: about as little as the rounding of f, divided by h,
takes away again. Backward is asked for the same matrix row by row, one output at a time; and once
more for a random mixture of all rows, since a gradient must be linear in what arrives.

**Random directions**, where they are many, or f is a network. With J the Jacobian, v random in the
space of outputs and u random in that of one input, ⟨v, J u⟩ is measured by moving the input along
u, and ⟨Jᵀv, u⟩ is what backward says.

**The adjoint identity**, where f is linear in an input: ⟨L u, v⟩ = ⟨u, Lᵀv⟩ for any u and v, with
no step and so to the last few bits.

Where the two differ, the step may be too long for f (1/x near 0.01 bends within 2⁻¹²): it is
halved down to 2⁻²⁴, and the slope counts that changed least from one step to the next; backward has
no say in that choice. If no two steps agree, there is a kink or noise near these inputs (relu at 0,
max where two are equal) and no derivative to compare with: draw inputs that stay away from it.

What arrives at backward is always random or one output alone, never ones: the sum of a batch norm's
outputs, or of a softmax's, does not depend on x at all, and any backward that returns zeros passes
a check of that sum. For the same reason an input on which nothing depends is a failure. The same
numbers arrive in other layouts too (transposed, with gaps, or one row repeated without a copy),
and must give the same gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..autograd import Array, Tensor, no_grad
from .inputs import name_of, tensors_of, validate
from .report import GradcheckError, Index, Report

HALVINGS = 12  # of the step, where it may be too long
FEW = 512  # numbers, inputs and outputs together, up to which the whole Jacobian is taken
DIRECTIONS = 3  # random ones for each input, where not
ADJOINT_RTOL = 1e-12
ULP = float(np.finfo(np.float64).eps)
Place = tuple[Index | None, Index | None]  # which number of an input, which of the result


def gradcheck(
    f: Callable[..., Tensor],
    inputs: Tensor | Array | Sequence[Tensor | Array] | Mapping[str, Tensor | Array],
    *, rtol: float = 1e-7, atol: float | None = None, eps: float = 2.0**-12,
    linear: Collection[str] = (), zero: Collection[str] = (), whole: bool | None = None,
    seed: int = 0, raise_on_failure: bool = True,
) -> Report:  # fmt: skip
    """Compare f's backward with finite differences of its forward.

    f           called as f(*inputs), returns one Tensor. Where it is a Module, its parameters are
                checked as well, and its buffers are put back afterwards
    inputs      float64: one tensor or array, several, or a dict of them under names. Tensors that
                require no gradient are held constant; arrays are taken to require one
    rtol, atol  backward b and forward n agree where |b − n| ≤ atol + rtol max(|b|, |n|). Left out,
                atol is what 100 roundings of f's largest result amount to, divided by eps
    eps         h, the longest step; a power of two moves a number exactly
    linear      names of the inputs in which f, the others held constant, is linear (or affine)
    zero        names of the inputs whose gradient is rightly 0 everywhere
    whole       True: the whole Jacobian; False: DIRECTIONS random directions an input;
                None: the whole Jacobian where inputs and outputs are 512 numbers or fewer

    Returns a Report. Errors: GradcheckError (an AssertionError), unless raise_on_failure is False,
    where backward and forward differ or there is nothing to compare; TypeError and ValueError
    where the inputs cannot be checked.
    """
    tensors = tensors_of(f, inputs)
    given = list(tensors.values())
    buffers: list[tuple[Array, Array]] = []
    module: Any = f
    if hasattr(module, "named_parameters"):
        tensors |= {name: p for name, p in module.named_parameters() if p.requires_grad}
        buffers = [(buffer, buffer.copy()) for _, buffer in module.named_buffers()]
    validate(tensors, {*linear, *zero})
    before = [(t, t.array, t.grad) for t in tensors.values()]
    checked = {name: t for name, t in tensors.items() if t.requires_grad}
    rng = np.random.default_rng(seed)
    check = _Check(name_of(f), lambda: f(*given), checked, rtol, atol, eps, rng)
    try:
        for t, array, _ in before:
            t.array = array.copy(order="K")  # whatever f does to it, the caller's stays as it is
        return check.run(linear, zero, whole)
    except GradcheckError as error:
        if raise_on_failure:
            raise
        return error.report
    finally:
        for t, array, grad in before:
            t.array, t.grad = array, grad
        for buffer, copy in buffers:
            buffer[...] = copy


# ---- how it is checked


@dataclass
class _Check:
    name: str
    call: Callable[[], Tensor]
    tensors: dict[str, Tensor]
    rtol: float
    atol: float | None
    eps: float
    rng: np.random.Generator
    noise: float = 0.0  # atol, once f's result is known
    worst: Report = field(init=False)

    def run(self, linear: Collection[str], zero: Collection[str], whole: bool | None) -> Report:
        y = self._same_twice()
        rounding = 100 * ULP * float(np.abs(y).max()) / self.eps
        self.noise = rounding if self.atol is None else self.atol
        self.worst = Report(self.name, 0.0, self.rtol)
        if whole is None:
            whole = y.size + sum(t.size for t in self.tensors.values()) <= FEW
        forward = self._jacobian(y) if whole else self._directions(y)
        for name in linear:
            self._adjoint(name, y)
        if not self.worst.ok:
            raise GradcheckError(self.worst)
        self._layouts(y)
        for name in self.tensors:
            if name not in zero and forward[name] <= self.noise:
                advice = f"give other inputs, or say zero=({name!r},) where that is right"
                self._fail(f"its result does not depend on {name!r} here; {advice}")
        return self.worst

    def _fail(self, problem: str, cause: Exception | None = None) -> None:
        raise GradcheckError(Report(self.name, np.inf, self.rtol, problem=problem)) from cause

    # ---- asking f

    def _value(self) -> Array:
        with no_grad():
            return self.call().array

    def _same_twice(self) -> Array:
        """f's result at the inputs, after looking whether it can be checked at all."""
        inputs_unchanged = self._watch(self._inputs())
        y = self.call()
        inputs_unchanged()
        if not isinstance(y, Tensor):
            raise TypeError(f"gradcheck: f returned a {type(y).__name__}; expected a Tensor")
        if y.size == 0:
            raise ValueError(f"gradcheck: f's result of shape {y.shape} is empty")
        if not y.requires_grad:
            self._fail("its result does not remember its inputs (no_grad, or .array on the way?)")
        if not np.isfinite(y.array).all():
            self._fail(f"its result is not finite: {y.array[~np.isfinite(y.array)][0]}")
        again = self._value()
        if again.shape != y.shape or not np.allclose(again, y.array, rtol=1e-12, atol=1e-300):
            advice = "draw from rng=np.random.default_rng(0) inside f"
            self._fail(f"two calls with the same inputs differ; {advice}")
        return y.array

    def _inputs(self) -> dict[str, Array]:
        return {f"its input {name!r}": t.array for name, t in self.tensors.items()}

    def _watch(self, arrays: dict[str, Array]) -> Callable[[], None]:
        """What fails, when it is called, if any of these was written into since."""
        copies = {what: array.copy() for what, array in arrays.items()}

        def unchanged() -> None:
            for what, array in arrays.items():
                if not np.array_equal(array, copies[what], equal_nan=True):
                    self._fail(f"it changed {what} in place")

        return unchanged

    def _slope(self, t: Tensor, u: Array, halvings: int = 0) -> Array:
        """d f(t + s u)/ds at s = 0, by the five-point stencil."""
        x, eps = t.array, self.eps / 2**halvings

        def at(s: float) -> Array:
            moved = x.copy(order="K")
            moved += s * u
            t.array = moved
            return self._value()

        try:
            with np.errstate(all="ignore"):  # a long step may leave what f is defined on
                near, far = at(eps) - at(-eps), at(2 * eps) - at(-2 * eps)
                return (8 * near - far) / (12 * eps)
        finally:
            t.array = x

    def _settled(self, t: Tensor, u: Array) -> tuple[Array, Array]:
        """Each slope where halving the step changes it least, and that change."""
        slopes = np.stack([self._slope(t, u, i) for i in range(HALVINGS + 1)])
        with np.errstate(invalid="ignore"):
            changes = np.nan_to_num(np.abs(np.diff(slopes, axis=0)), nan=np.inf)
        best = np.argmin(changes, axis=0)[None]
        slope, change = (np.take_along_axis(a, best, axis=0)[0] for a in (slopes[1:], changes))
        return slope, change

    def _pull(self, v: Array) -> dict[str, Array]:
        """Jᵀv according to backward, after looking that it changed nothing in place."""
        for t in self.tensors.values():
            t.grad = None
        y = self.call()
        sent = {"the gradient it was sent": v, "its own result": y.array}
        unchanged = self._watch(self._inputs() | sent)
        try:
            y.backward(v)
        except Exception as error:
            self._fail(f"backward raised {type(error).__name__}: {error}", error)
        unchanged()
        grads = {name: t.grad for name, t in self.tensors.items()}
        return {k: np.zeros(self.tensors[k].shape) if g is None else g for k, g in grads.items()}

    # ---- comparing the answers

    def _jacobian(self, y: Array) -> dict[str, float]:
        """The whole Jacobian, and one random mixture of its rows. Largest entry by input."""
        rows = [self._pull(v.reshape(y.shape)) for v in np.eye(y.size)]
        mixture = self._random(y.shape)
        mixed, mixing = self._pull(mixture), mixture.reshape(1, -1)
        largest = {}
        for name, t in self.tensors.items():
            backward = np.stack([row[name].ravel() for row in rows])
            forward, changes = self._columns(t, backward)
            for b, n, change in (
                (backward, forward, changes),
                (mixed[name].reshape(1, -1), mixing @ forward, np.abs(mixing) @ changes),
            ):
                i, j = np.unravel_index(np.argmax(self._error(b, n)), n.shape)
                index = tuple(map(int, np.unravel_index(j, t.shape)))
                output = tuple(map(int, np.unravel_index(i, y.shape))) if b is backward else None
                self._note(name, b[i, j], n[i, j], change[i, j], (index, output))
            largest[name] = float(np.abs(forward).max())
        return largest

    def _columns(self, t: Tensor, backward: Array) -> tuple[Array, Array]:
        """∂f/∂t (numbers of y, numbers of t), and how far from settled each entry is."""
        units = np.eye(t.size).reshape(t.size, *t.shape)
        forward = np.stack([self._slope(t, u).ravel() for u in units], axis=1)
        changes = np.zeros_like(forward)
        for j in np.argsort(-self._error(backward, forward).max(axis=0), kind="stable"):
            if self._agree(backward[:, j], forward[:, j]):
                break
            slope, change = self._settled(t, units[j])
            forward[:, j], changes[:, j] = slope.ravel(), change.ravel()
            if not self._agree(backward[:, j], forward[:, j]):
                break  # wrong, whatever the others are
        return forward, changes

    def _directions(self, y: Array) -> dict[str, float]:
        """⟨v, J u⟩ both ways for random u and v. Largest slope by input."""
        largest = dict.fromkeys(self.tensors, 0.0)
        for _ in range(DIRECTIONS):
            v = self._random(y.shape)
            pulled = self._pull(v)
            for name, t in self.tensors.items():
                u = self._random(t.shape)
                backward = np.vdot(pulled[name], u)
                slope, change = self._slope(t, u), np.zeros(y.shape)
                if not self._agree(backward, np.vdot(v, slope)):
                    slope, change = self._settled(t, u)
                self._note(name, backward, np.vdot(v, slope), np.vdot(np.abs(v), change))
                largest[name] = max(largest[name], float(np.abs(slope).max()))
        return largest

    def _layouts(self, y: Array) -> None:
        """The same numbers in another layout must give the same gradient."""
        v = self._random(y.shape)
        gaps = np.full([2 * n for n in reversed(y.shape)], np.nan).T
        for axis in range(y.ndim):
            gaps = np.moveaxis(np.moveaxis(gaps, axis, 0)[::-2], 0, axis)
        gaps[...] = v
        for layout, sent in (
            ("axes transposed", np.array(v, order="F")),
            ("axes transposed and gaps", gaps),
            ("one row repeated", np.broadcast_to(v[(0,) * (y.ndim - 1)] if y.ndim else v, y.shape)),
            ("one number repeated", np.broadcast_to(v.flat[0], y.shape)),
        ):
            plain, other = self._pull(sent.copy(order="C")), self._pull(sent)
            for name, t in self.tensors.items():
                error = self._error(other[name], plain[name])
                at = tuple(map(int, np.unravel_index(np.argmax(error), t.shape)))
                if error[at] > self.rtol:
                    self._fail(
                        f"backward depends on the layout of what arrives: with {layout} the "
                        f"gradient of {name!r} at {list(at)} is {other[name][at]:.10g}, with the "
                        f"same numbers contiguous {plain[name][at]:.10g}"
                    )

    def _adjoint(self, name: str, y: Array) -> None:
        """⟨L u, v⟩ = ⟨u, Lᵀv⟩ for L u = f(u) − f(0)."""
        t = self.tensors[name]
        x, u, v = t.array, self._random(t.shape), self._random(y.shape)
        pulled = self._pull(v)[name]
        try:
            t.array = u
            image = self._value()
            t.array = np.zeros_like(u)
            image = image - self._value()
        finally:
            t.array = x
        backward, forward = float(np.vdot(u, pulled)), float(np.vdot(v, image))
        error = abs(backward - forward) / float(np.linalg.norm(image) + np.linalg.norm(pulled))
        if not error <= ADJOINT_RTOL:
            problem = "the adjoint identity ⟨L u, v⟩ = ⟨u, Lᵀv⟩ fails: backward is not L transposed"
            numbers = (None, None, backward, forward)
            self.worst = Report(self.name, error, ADJOINT_RTOL, name, *numbers, problem)

    def _random(self, shape: tuple[int, ...]) -> Array:
        """A random direction: of length 1, no direction likelier than another."""
        v = self.rng.standard_normal(shape)
        return np.asarray(v / np.linalg.norm(v))

    def _error(self, backward: Any, forward: Any) -> Array:
        size = np.maximum(np.abs(backward), np.abs(forward)) + self.noise / self.rtol
        error = np.abs(backward - forward) / np.where(size == 0, 1, size)
        return np.where(np.isfinite(backward) & np.isfinite(forward), error, np.inf)

    def _agree(self, backward: Any, forward: Any) -> bool:
        return bool((self._error(backward, forward) <= self.rtol).all())

    def _note(self, name: str, b: Any, n: Any, change: Any, at: Place = (None, None)) -> None:
        """Keep backward b and forward n if they differ most so far. change: how unsettled n is."""
        error = float(self._error(b, n))
        if error <= self.worst.error:
            return
        problem = ""
        if error > self.rtol and not self._agree(n + change, n):
            problem = f"forward changes by {change:.2g} with the step: is there a kink or noise?"
        self.worst = Report(self.name, error, self.rtol, name, *at, float(b), float(n), problem)
