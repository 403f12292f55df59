"""Lesson 03, gradients you can trust."""

from __future__ import annotations

import numpy as np

from .. import suspects as lineup
from ..exercise import Exercise

# ---- slope


def cube(x):
    return x**3


def central(f, x, h):
    return (f(x + h) - f(x - h)) / (2 * h)


def as_good_as_central(answer, f, x, h, true):
    """The slope that is found; that of the central difference where it is at least as near."""
    found, expected = answer(f, x, h), central(f, x, h)
    return expected if abs(found - true) <= abs(expected - true) * (1 + 1e-6) else found


slope = Exercise(
    "03.slope",
    reference=central,
    rtol=1e-6,
    run=as_good_as_central,
    cases=lambda rng: [
        ("f = sin, x = 1, h = 0.1", (np.sin, 1.0, 0.1, np.cos(1.0))),
        ("f = x³, x = 2, h = 0.5", (cube, 2.0, 0.5, 12.0)),
        ("f = exp, x = -1, h = 0.01", (np.exp, -1.0, 0.01, np.exp(-1.0))),
    ],
    mistakes={
        "this steps to one side only: from x − h to x + h": lambda f, x, h: (f(x + h) - f(x)) / h,
        "this steps to one side only, from x − h to x: go on to x + h": lambda f, x, h: (
            (f(x) - f(x - h)) / h
        ),
        "this steps to one side only, by half a step": lambda f, x, h: (
            (f(x + h / 2) - f(x)) / (h / 2)
        ),
        "the steps are 2h long, but the rise was divided by 2h in all": lambda f, x, h: (
            (f(x + 2 * h) - f(x - 2 * h)) / (2 * h)
        ),
        "the run is 2h long, not h": lambda f, x, h: (f(x + h) - f(x - h)) / h,
        "`/ 2 * h` divides by 2 and multiplies by h: write `/ (2 * h)`": lambda f, x, h: (
            (f(x + h) - f(x - h)) / 2 * h
        ),
        "the sign is wrong: the rise is f(x + h) − f(x − h)": lambda f, x, h: (
            (f(x - h) - f(x + h)) / (2 * h)
        ),
        "this is the rise alone; divide by the run, 2h": lambda f, x, h: f(x + h) - f(x - h),
    },
)


# ---- numerical_gradient


def number_by_number(one_sided=False, divisor=2.0, step_everywhere=False, keep=False, flat=False):
    """A `numerical_gradient` of which one step can be wrong."""

    def numerical_gradient(f, x, h=1e-5):
        gradient = np.zeros_like(x)
        step = np.zeros_like(x)
        for i in np.ndindex(x.shape):
            if not keep:
                step = np.zeros_like(x)
            step[i] = h
            if step_everywhere:
                step[...] = h
            back = 0 * step if one_sided else step
            gradient[i] = (f(x + step) - f(x - back)) / (divisor * h)
        return gradient.ravel() if flat else gradient

    return numerical_gradient


def weighted_cubes(x):
    return float((x**3 * np.arange(1, x.size + 1).reshape(x.shape)).sum())


def product_of_all(x):
    return float(np.prod(x))


numerical_gradient = Exercise(
    "03.numerical_gradient",
    reference=number_by_number(),
    rtol=1e-7,
    run=lambda answer, f, x, h: answer(f, x, h=h),
    cases=lambda rng: [
        ("f = Σ i·xᵢ³, x (2, 3)", (weighted_cubes, rng.normal(size=(2, 3)), 1e-3)),
        ("f = product of all, x (4,)", (product_of_all, rng.uniform(1, 2, 4), 1e-3)),
    ],
    mistakes={
        "all numbers of x were moved at once: put h only at index i": number_by_number(
            step_everywhere=True
        ),
        "the numbers moved before are still moved: undo each step, or start from a new array of "
        "zeros": number_by_number(keep=True),
        "this steps to one side only: use (f(x + step) − f(x − step)) / 2h": number_by_number(
            one_sided=True, divisor=1.0
        ),
        "the run is 2h long, not h": number_by_number(divisor=1.0),
        "nothing moves: `a = x` is no copy, so both names are the same array. "
        "Use x.copy()": lambda f, x, h=1e-5: np.zeros_like(x),
        "the run is fixed; it should follow from the argument h": lambda f, x, h=1e-5: (
            number_by_number(divisor=2.0 * 1e-5 / h)(f, x, h)
        ),
        "the gradient should have the shape of x": number_by_number(flat=True),
    },
)


# ---- compare: tried on right and wrong operations; what counts is who passes


def square(x):
    return x * x, lambda g: (2 * x * g,)


def doubled_square(x):
    return x * x, lambda g: (4 * x * g,)


def negated_square(x):
    return x * x, lambda g: (-2 * x * g,)


def lying_softmax(x):
    return lineup.softmax(x)[0], lambda g: (np.zeros_like(x),)


def product(x, y):
    return x * y, lambda g: (g * y, g * x)


def half_wrong(x, y):
    return x * y, lambda g: (g * y, g)


def comparer(
    cotangent=lambda rng, shape: rng.normal(size=shape),
    signed=False,
    per_h=2.0,
    all_inputs=True,
    absolute=False,
    with_v=True,
    with_u=True,
    two_sided=True,
    size=lambda says, does: abs(says) + abs(does) + 1e-300,
):
    """A `compare` of which one step can be wrong."""

    def compare(op, inputs, rng, h=1e-5):
        y, backward = op(*inputs)
        v = cotangent(rng, y.shape)
        errors = []
        for i, dx in enumerate(backward(v)):
            u = rng.normal(size=inputs[i].shape)
            steps = (h, -h) if two_sided else (h, 0.0)
            there, back = (op(*inputs[:i], inputs[i] + s * u, *inputs[i + 1 :])[0] for s in steps)
            does = ((v if with_v else 1.0) * (there - back)).sum() / (per_h * h)
            says = (dx * u if with_u else dx).sum()
            error = (says - does) if signed else abs(says - does)
            of = 1.0 if absolute else size(says, does)
            errors.append(error / of if all_inputs or i == 0 else 0.0)
        return errors

    return compare


def verdict(compare, op, inputs):
    """What a comparison says of each input: "right", "wrong", or the number between."""
    errors = compare(op, inputs, np.random.default_rng(0))
    return [
        "right" if abs(e) < 1e-6 else "wrong" if 1e-3 < e <= 1.001 else f"{e:.2g}" for e in errors
    ]


compare = Exercise(
    "03.compare",
    reference=comparer(),
    run=verdict,
    cases=lambda rng: [
        ("x², whose backward is right", (square, (rng.normal(size=(3, 4)),))),
        ("x·y, right for both", (product, (rng.normal(size=(3, 4)), rng.normal(size=(3, 4))))),
        ("x², whose backward says 4x", (doubled_square, (rng.normal(size=(3, 4)),))),
        ("x², whose backward says −2x", (negated_square, (rng.normal(size=(3, 4)),))),
        ("x·y, wrong for y", (half_wrong, (rng.normal(size=(3, 4)), rng.normal(size=(3, 4))))),
        ("softmax, which is right", (lineup.softmax, (rng.normal(size=(3, 4)),))),
        ("softmax, whose backward says 0", (lying_softmax, (rng.normal(size=(3, 4)),))),
        ("x² of large numbers", (square, (1e4 * rng.normal(size=(3, 4)),))),
    ],
    mistakes={
        "the rise was divided by h; the run is 2h": comparer(per_h=1.0),
        "the measured change is not weighted with v: backward was given v, so the forward "
        "difference must be multiplied by v, too": comparer(with_v=False),
        "take the absolute value of the difference: a gradient that is too "
        "small is wrong, too": comparer(signed=True),
        "the difference is not divided by |claimed| + |measured|: whether it is small depends on"
        " their size": comparer(absolute=True),
        "the claimed change is not weighted with u: the gradient times the step, (dx * u)": (
            comparer(with_u=False)
        ),
        "this steps to one side only, which is less exact: moved(h) − moved(−h), by 2h": comparer(
            two_sided=False, per_h=1.0
        ),
        "the denominator adds the two with their signs, and so may be near 0: |claimed| + "
        "|measured|": comparer(size=lambda says, does: abs(says + does) + 1e-300),
        "only the first input is compared: append an error for each": comparer(all_inputs=False),
        "a cotangent of ones does not notice a softmax that returns zeros: "
        "draw v at random": comparer(cotangent=lambda rng, shape: np.ones(shape)),
    },
)


# ---- guilty


def judge(line=1e-6, which=max, **wrong):
    """A `guilty` that draws the line elsewhere, or looks at the wrong thing."""

    def guilty(suspects):
        rng = np.random.default_rng(0)
        errors = {n: comparer(**wrong)(op, list(xs), rng) for n, (op, xs) in suspects.items()}
        return {name for name, e in errors.items() if which(e) > line}

    return guilty


def more_suspects():
    """A few more, so that names cannot be written down."""
    x = np.random.default_rng(5).normal(size=(3, 4))
    return {
        "square": (square, (x,)),
        "lying softmax": (lying_softmax, (x,)),
        "half wrong": (half_wrong, (x, x + 1)),
        "product": (product, (x, x - 1)),
    }


guilty = Exercise(
    "03.guilty",
    reference=judge(),
    run=lambda guilty, which: sorted(guilty(which())),
    cases=lambda rng: [
        ("suspects()", (lineup.suspects,)),
        ("other inputs", (lambda: lineup.suspects(seed=1),)),
        ("four other operations", (more_suspects,)),
    ],
    mistakes={
        "the threshold is so high that small errors pass: how large is the error of a correct "
        "gradient?": judge(line=0.2),
        "the threshold is so low that rounding errors count as wrong": judge(line=1e-14),
        "only the first input was checked; max(…) checks all": judge(which=lambda e: e[0]),
        "these are the correct ones: return those whose error is large": lambda suspects: (
            suspects.keys() - judge()(suspects)
        ),
        "these names were written down; compare the operations that are given": (
            lambda suspects: {"gelu", "layer_norm", "smooth"}
        ),
        "the errors were averaged, which hides one that is wrong: take the largest": judge(
            line=2e-2, which=np.mean
        ),
        "this returns only those that are wrong for every input: one wrong "
        "gradient is enough": judge(which=min),
    },
)

EXERCISES = [slope, numerical_gradient, compare, guilty]
