"""Lesson 01, a tape for scalars."""

from __future__ import annotations

import itertools
import math
from typing import Any

from ..exercise import Exercise, Wrong
from ..operations import forward_and_backward, operation

serials = itertools.count()


class Value:
    """The Value of the lesson."""

    def __init__(self, data, inputs=(), op="", backward=None):
        self.data = data
        self.grad = None
        self.inputs = inputs
        self.op = op
        self.backward = backward
        self.serial = next(serials)


# ---- multiply, tanh: an operation is tried on numbers x, y and a g: result, then gradients


def tried(op, *numbers):
    *inputs, g = numbers
    found = forward_and_backward(op, *numbers)
    if not isinstance(op(*inputs)[1](g), (tuple, list)):
        raise Wrong("backward(g) should return a tuple, even with one element: (dx,)")
    return found


def product(x, y):
    return x * y


multiply = Exercise(
    "01.multiply",
    reference=operation(product, lambda g, x, y: g * y, lambda g, x, y: g * x),
    outputs=("x·y", "dx", "dy"),
    run=tried,
    cases=lambda rng: [
        ("x=2, y=-3, g=1", (2.0, -3.0, 1.0)),
        ("x=2, y=-3, g=10", (2.0, -3.0, 10.0)),
        ("x=0, y=5, g=-1", (0.0, 5.0, -1.0)),
        ("three random numbers", tuple(rng.normal(size=3).tolist())),
    ],
    mistakes={
        "dx and dy are swapped: when x moves, the product moves y times as far": operation(
            product, lambda g, x, y: g * x, lambda g, x, y: g * y
        ),
        "g is missing: the derivatives y and x are right, but each is multiplied by g": operation(
            product, lambda g, x, y: y, lambda g, x, y: x
        ),
        "this passes g on unchanged, which is right for a sum": operation(
            product, lambda g, x, y: g, lambda g, x, y: g
        ),
        "g was added; the chain rule multiplies: g · derivative": operation(
            product, lambda g, x, y: g + y, lambda g, x, y: g + x
        ),
        "both gradients have both factors: the derivative of x·y by x is y alone": operation(
            product, lambda g, x, y: g * x * y, lambda g, x, y: g * x * y
        ),
        "the forward pass adds: the result should be x · y": operation(
            lambda x, y: x + y, lambda g, x, y: g * y, lambda g, x, y: g * x
        ),
    },
)

tanh = Exercise(
    "01.tanh",
    reference=operation(math.tanh, lambda g, x: g * (1 - math.tanh(x) ** 2)),
    outputs=("tanh x", "dx"),
    run=tried,
    cases=lambda rng: [
        ("x=0, g=1", (0.0, 1.0)),
        ("x=1.5, g=2", (1.5, 2.0)),
        ("x=-0.7, g=-1", (-0.7, -1.0)),
        ("x=30, g=1", (30.0, 1.0)),
    ],
    mistakes={
        "you used x instead of t = tanh x: the derivative is 1 − t², not 1 − x²": operation(
            math.tanh, lambda g, x: g * (1 - x**2)
        ),
        "g is missing: dx = g (1 − t²)": operation(math.tanh, lambda g, x: 1 - math.tanh(x) ** 2),
        "the square is missing: the derivative is 1 − t², not 1 − t": operation(
            math.tanh, lambda g, x: g * (1 - math.tanh(x))
        ),
        "the derivative of tanh is 1 − t², not 1 + t²: it approaches 0 at both ends": operation(
            math.tanh, lambda g, x: g * (1 + math.tanh(x) ** 2)
        ),
    },
)


# ---- record


def recorder(numbers=lambda v: v.data, wrap=Value, keep=tuple, name=lambda op: op.__name__):
    """A `record` of which one step can be replaced by a wrong one."""

    def record(op, *given):
        inputs = [v if hasattr(v, "data") else wrap(v) for v in given]
        result, backward = op(*(numbers(v) for v in inputs))
        return Value(result, keep(inputs), name(op), backward)

    return record


def describe(record, op, *inputs):
    """What a recorded value remembers; Values are those of the notebook that wrote `record`."""
    own = record.__globals__.get("Value", Value)
    given = [own(v.data) if isinstance(v, Value) else v for v in inputs]
    value = record(op, *given)
    if not isinstance(value, own):
        raise Wrong(f"record should return a Value, and returned a {type(value).__name__}")
    if value.backward is None:
        raise Wrong("backward was not stored: it is the fourth argument of Value")
    sources = [
        f"a copy of Value({v.data})"
        if isinstance(x, Value) and not any(v is one for one in given)
        else v.data
        if hasattr(v, "data")
        else f"the plain number {v!r}"
        for x, v in zip(inputs, value.inputs, strict=False)
    ]
    return value.data, sources, value.op, list(value.backward(2.0)), type(value.inputs).__name__


record_multiply = multiply.reference
record_multiply.__name__ = "multiply"
x, y = Value(2.0), Value(-3.0)


record = Exercise(
    "01.record",
    reference=recorder(),
    outputs=("data", "inputs", "op", "backward(2)", "the type of inputs"),
    run=describe,
    cases=lambda rng: [
        ("record(multiply, Value(2), Value(-3))", (record_multiply, x, y)),
        ("record(multiply, Value(2), 4.0)", (record_multiply, x, 4.0)),
    ],
    mistakes={
        "keep the inputs themselves, in a tuple, in the order in which they were given": recorder(
            keep=lambda inputs: tuple(inputs[::-1])
        ),
        "inputs should be a tuple: tuple(…)": recorder(keep=list),
        "the inputs are copies: keep the Values themselves, so that gradients reach them": recorder(
            keep=lambda inputs: tuple(Value(v.data) for v in inputs)
        ),
        "op should be the operation's name, op.__name__, not the operation": recorder(
            name=lambda op: op
        ),
        "op should be the operation's name, op.__name__; str(op) includes its address": recorder(
            name=str
        ),
        "op should be the operation's name, op.__name__; this is a fixed word": recorder(
            name=lambda op: "op"
        ),
        "a plain number has no .data: wrap it in a Value first": recorder(
            wrap=lambda number: number, numbers=lambda v: v.data
        ),
        "the inputs were not stored: the backward pass needs them": recorder(
            keep=lambda inputs: ()
        ),
        "a plain number among the inputs must be wrapped in a Value first": recorder(
            wrap=lambda number: number, numbers=lambda v: getattr(v, "data", v)
        ),
        "op computes with numbers: call it on the inputs' .data, not on the Values": recorder(
            numbers=lambda v: v
        ),
    },
)


# ---- newest_first and backward, tried on tapes built with the Value above

add = operation(lambda x, y: x + y, lambda g, x, y: g, lambda g, x, y: g)
add.__name__ = "add"
remember = recorder()


def two_uses():
    """d = a·b + a"""
    a, b = Value(2.0), Value(-3.0)
    return remember(add, remember(record_multiply, a, b), a)


def square():
    """x·x"""
    x = Value(3.0)
    return remember(record_multiply, x, x)


def uneven():
    """y = ((x·x)·x)·x + x: short ways and long ones back to the same x."""
    x = Value(1.5)
    y = x
    for _ in range(3):
        y = remember(record_multiply, y, x)
    return remember(add, y, x)


def doublings(n=24):
    """y = y + y, n times"""
    y = Value(1.0)
    for _ in range(n):
        y = remember(add, y, y)
    return y


def chain(n=3000):
    """1 + 1 + … + 1"""
    y = Value(1.0)
    for _ in range(n):
        y = remember(add, y, 1.0)
    return y


def leaf():
    """x alone"""
    return Value(5.0)


def tapes(*builders):
    return lambda rng: [(builder.__doc__, (builder,)) for builder in builders]


def behind(result):
    """Reference order, independent of `newest_first` as the student may write it."""
    found: dict[int, Any] = {}
    rest = [result]
    while rest:
        value = rest.pop()
        if value.serial not in found:
            found[value.serial] = value
            rest.extend(value.inputs)
    return [found[serial] for serial in sorted(found, reverse=True)]


def by_recursion(result):
    seen = set()

    def visit(value):
        if value not in seen:
            seen.add(value)
            for source in value.inputs:
                visit(source)

    visit(result)
    return sorted(seen, key=lambda v: -v.serial)


def as_found(result):
    order, waiting = {}, [result]
    while waiting:
        value = waiting.pop()
        if value not in order:
            order[value] = True
            waiting.extend(value.inputs)
    return list(order)


def with_repeats(result):
    found: list[Any] = []
    waiting = [result]
    while waiting and len(found) < 10_000:
        value = waiting.pop()
        found.append(value)
        waiting.extend(value.inputs)
    return sorted(found, key=lambda v: -v.serial)


def serials_relative_to_the_oldest(newest_first, build):
    """The order as numbers that do not depend on how many Values were made before."""
    result = build()
    oldest = behind(result)[-1].serial
    found = newest_first(result)
    if isinstance(found, (set, frozenset)):
        raise Wrong("a set has no order: return a list, sorted by serial")
    return [value.serial - oldest for value in found]


newest_first = Exercise(
    "01.newest_first",
    reference=behind,
    run=serials_relative_to_the_oldest,
    cases=tapes(leaf, two_uses, square, uneven, chain),
    mistakes={
        "this is oldest first: add reverse=True": lambda result: behind(result)[::-1],
        "a value that is used twice is in your list twice: keep a set of "
        "those already seen": with_repeats,
        "these are the right values in the order in which they were found: "
        "sort them by serial": as_found,
        "a long chain is too deep for recursion: use a loop and a list": by_recursion,
        "these are sorted by their numbers, .data; sort them by serial": lambda result: sorted(
            behind(result), key=lambda v: v.data, reverse=True
        ),
        "the inputs are looked at, but never added to the list": lambda result: [result],
        "result itself is missing from the list": lambda result: behind(result)[1:],
        "only result and its direct inputs are here: continue with their inputs": lambda result: (
            sorted({result, *result.inputs}, key=lambda v: -v.serial)
        ),
    },
)


def without_end():
    """`return` in the loop: only the result's own inputs get a gradient."""

    def stops(result):
        for value in behind(result):
            value.grad = 0.0
        result.grad = 1.0
        if result.backward:
            for source, gradient in zip(result.inputs, result.backward(1.0), strict=True):
                source.grad += gradient

    return stops


def goes_back(order=behind, seed=1.0, share=lambda old, new: old + new, g=lambda v: v.grad):
    """A `backward` of which one step can be replaced by a wrong one."""

    def backward(result):
        values = order(result)
        for value in values:
            value.grad = 0.0
        result.grad = seed
        for value in values:
            if value.backward:
                for source, gradient in zip(value.inputs, value.backward(g(value)), strict=True):
                    source.grad = share(source.grad, gradient)

    return backward


def all_gradients(backward, build):
    """Every gradient, newest first."""
    result = build()
    backward(result)
    return [value.grad for value in behind(result)]


def twice(backward, build):
    result = build()
    backward(result)
    backward(result)
    return [value.grad for value in behind(result)]


def without_reset(result):
    values = behind(result)
    for value in values:
        value.grad = value.grad or 0.0
    result.grad = 1.0
    for value in values:
        if value.backward:
            for source, gradient in zip(value.inputs, value.backward(value.grad), strict=True):
                source.grad += gradient


backward = Exercise(
    "01.backward",
    reference=goes_back(),
    run=lambda backward, build, how=all_gradients: how(backward, build),
    cases=lambda rng: [
        *tapes(leaf, two_uses, square, uneven, doublings, chain)(rng),
        ("backward called twice on d = a·b + a", (two_uses, twice)),
    ],
    mistakes={
        "a value that is used twice keeps only the last gradient: add them up with +=": goes_back(
            share=lambda old, new: new
        ),
        "everything is 0: the gradient of the result itself must start at 1": goes_back(seed=0.0),
        "every value passed on 1: pass on its own grad, value.backward(value.grad)": goes_back(
            g=lambda v: 1.0
        ),
        "backward takes the gradient of the result, value.grad, not its number, "
        "value.data": goes_back(g=lambda v: v.data),
        "only the inputs of the result itself get a gradient: is a `return` inside the "
        "loop?": without_end(),
        "oldest first passes gradients on before all of them have arrived; use the order of "
        "newest_first(result)": goes_back(order=lambda result: behind(result)[::-1]),
        "the second call still had the gradients of the first: set all of "
        "them to 0.0 first": without_reset,
    },
)

EXERCISES = [multiply, tanh, record, newest_first, backward]
