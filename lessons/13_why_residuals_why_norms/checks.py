"""Lesson 13, why residuals, why norms."""

from __future__ import annotations

import itertools
import math

import numpy as np

from minimix import Tensor, nn

from ..exercise import Exercise, edited

# ---- signal_sizes


def layers_of(widths, rng):
    """Linear maps and GELUs with random weights, in float64."""
    layers = []
    for k, c in itertools.pairwise(widths):
        linear = nn.Linear(k, c, rng=0).astype(np.float64)
        for parameter in linear.parameters():
            parameter.array = rng.normal(size=parameter.shape)
        layers.append(nn.Sequential(linear, nn.GELU()))
    return layers


def signal_sizes(layers, x):
    sizes, x = [], Tensor(x)
    for layer in layers:
        x = layer(x)
        sizes.append(float(x.array.std()))
    return sizes


def sizes_of_each_alone(layers, x):
    return [float(layer(Tensor(x)).array.std()) for layer in layers]


signals = Exercise(
    "13.signal_sizes",
    reference=signal_sizes,
    cases=lambda rng: [
        ("three layers of 5, 5 and 5", (layers_of((5, 5, 5, 5), rng), rng.normal(size=(7, 5)))),
        ("two layers of 4 and 4", (layers_of((4, 4, 4), rng), rng.normal(2.0, 3.0, size=(6, 4)))),
        ("one layer", (layers_of((3, 3), rng), rng.normal(size=(5, 3)))),
    ],
    mistakes={
        "every layer gets the first input: what one layer returns goes into the next": (
            sizes_of_each_alone
        ),
        **edited(
            signal_sizes,
            {
                "this is the size of each layer's input; the exercise asks for its output's": (
                    "        x = layer(x)\n        sizes.append(float(x.array.std()))",
                    "        sizes.append(float(x.array.std()))\n        x = layer(x)",
                ),
                "this is the variance; the standard deviation is its root": (".std()", ".var()"),
                "this is the mean; return the standard deviation": (".std()", ".mean()"),
                "this is the largest number; return the standard deviation": (
                    "x.array.std()",
                    "np.abs(x.array).max()",
                ),
                "this is the size of the last output only; return a list with one for each layer": (
                    "return sizes",
                    "return sizes[-1]",
                ),
                "take the standard deviation of the whole output, one number per layer: no axis": (
                    "float(x.array.std())",
                    "x.array.std(axis=0)",
                ),
                "the root of the mean square is the standard deviation only where the mean is "
                "0; use .std()": ("x.array.std()", "np.sqrt((x.array**2).mean())"),
                "the input's own size stands in front; the list has one number for each layer": (
                    "sizes, x = [], Tensor(x)",
                    "sizes, x = [float(x.std())], Tensor(x)",
                ),
            },
        ),
    },
)


# ---- he_normal


def he_normal(fan_in, fan_out, rng):
    weights = rng.standard_normal((fan_in, fan_out)) * np.sqrt(2 / fan_in)
    return weights.astype(np.float32)


def drawn_from(answer, fan_in, fan_out, seed):
    weights = answer(fan_in, fan_out, np.random.default_rng(seed))
    return weights, str(getattr(weights, "dtype", type(weights).__name__))


initialization = Exercise(
    "13.he_normal",
    reference=he_normal,
    run=drawn_from,
    outputs=("the weights", "their type"),
    cases=lambda rng: [
        ("64 inputs, 32 outputs, seed 0", (64, 32, 0)),
        ("3 inputs, 5 outputs, seed 1", (3, 5, 1)),
    ],
    mistakes=edited(
        he_normal,
        {
            "2 / fan_in is the variance; the factor is its root": (
                "np.sqrt(2 / fan_in)",
                "(2 / fan_in)",
            ),
            "the 2 is missing: an activation such as ReLU lets half of E[x²] through": (
                "2 / fan_in",
                "1 / fan_in",
            ),
            "this divides by fan_out; a sum has as many terms as there are inputs": (
                "2 / fan_in",
                "2 / fan_out",
            ),
            "this is Glorot's variance 2 / (fan_in + fan_out); He's is 2 / fan_in": (
                "2 / fan_in",
                "2 / (fan_in + fan_out)",
            ),
            "the shape is (fan_in, fan_out), inputs first": (
                "(fan_in, fan_out)) *",
                "(fan_out, fan_in)) *",
            ),
            "these are float64; end with .astype(np.float32)": (
                "weights.astype(np.float32)",
                "weights",
            ),
            "these are uniform numbers; draw normal ones, with rng.standard_normal": (
                "rng.standard_normal((fan_in, fan_out)) * np.sqrt(2 / fan_in)",
                "rng.uniform(-1, 1, (fan_in, fan_out)) * np.sqrt(6 / fan_in)",
            ),
            "draw from the rng that is given, so that a seed gives the same weights again": (
                "rng.standard_normal",
                "np.random.default_rng(7).standard_normal",
            ),
        },
    ),
)


# ---- gradient_sizes


def gradient_sizes(layers, x, g):
    outputs, y = [], Tensor(x)
    for layer in layers:
        y = layer(y)
        y.retain_grad()
        outputs.append(y)
    y.backward(g)
    return [float(y.grad.std()) for y in outputs]


gradients = Exercise(
    "13.gradient_sizes",
    reference=gradient_sizes,
    cases=lambda rng: [
        (
            words,
            (layers_of(widths, rng), rng.normal(size=(6, widths[0])), rng.normal(size=(6, last))),
        )
        for words, widths, last in (
            ("three layers of 4", (4, 4, 4, 4), 4),
            ("two layers, from 3 to 5 to 2", (3, 5, 2), 2),
        )
    ],
    mistakes=edited(
        gradient_sizes,
        {
            "the backward pass starts with g: y.backward(g)": (
                "y.backward(g)",
                "y.backward(np.ones_like(g))",
            ),
            "the list goes backward here; the first number is for the first layer": (
                "for y in outputs]",
                "for y in outputs[::-1]]",
            ),
            "these are the sizes of the outputs; their gradients are in y.grad": (
                "y.grad.std()",
                "y.array.std()",
            ),
            "this is the mean of the gradient; return its standard deviation": (
                "y.grad.std()",
                "y.grad.mean()",
            ),
            "this is the variance; the standard deviation is its root": (
                "y.grad.std()",
                "y.grad.var()",
            ),
            "these are the gradients of the layers' inputs; return those of their outputs": (
                "    outputs, y = [], Tensor(x)\n",
                "    outputs, y = [], Tensor(x, requires_grad=True)\n",
                "        y = layer(y)\n        y.retain_grad()\n        outputs.append(y)\n",
                "        y.retain_grad()\n        outputs.append(y)\n        y = layer(y)\n",
            ),
            "this is the gradient of the input x, again and again; return one for each output": (
                "    outputs, y = [], Tensor(x)\n",
                "    outputs, y = [], Tensor(x, requires_grad=True)\n    first = y\n",
                "[float(y.grad.std()) for y in outputs]",
                "[float(first.grad.std()) for _ in outputs]",
            ),
            "y.grad is None: call y.retain_grad() on each output before the backward pass": (
                "        y.retain_grad()\n",
                "",
            ),
            "these are the gradients of the weights; return those of the outputs": (
                "[float(y.grad.std()) for y in outputs]",
                "[float(layer[0].weight.grad.std()) for layer in layers]",
            ),
        },
    ),
)


# ---- paths


def paths(n):
    counts = [1]
    for _ in range(n):
        counts = [skip + go for skip, go in zip([*counts, 0], [0, *counts], strict=True)]
    return counts


counting = Exercise(
    "13.paths",
    reference=paths,
    cases=lambda rng: [(f"{n} block{'' if n == 1 else 's'}", (n,)) for n in (3, 1, 0, 6, 10)],
    mistakes={
        "this counts all paths together, 2ⁿ; return how many have 0, 1, …, n layers": (
            lambda n: 2**n
        ),
        "there are n + 1 lengths: from 0, where every block is skipped, to n": (
            lambda n: paths(n)[:-1]
        ),
        "the path that skips every block is missing: it has 0 layers": lambda n: paths(n)[1:],
        "this is one path for each length; most lengths have several": lambda n: [1] * (n + 1),
        "one block too many": lambda n: paths(n + 1),
        "one block too few: begin with [1], for no block at all, and go on n times": (
            lambda n: paths(n - 1) if n else [1]
        ),
        "the order of the blocks does not matter: a path is a choice of blocks to go "
        "through, so there are n! / (k! (n − k)!) of k layers": (
            lambda n: [math.perm(n, k) for k in range(n + 1)]
        ),
        "these are powers of 2; each number is the sum of two of the row before": (
            lambda n: [2**k for k in range(n + 1)]
        ),
        "a row that is changed in place, from left to right, adds numbers that are new already: "
        "go from right to left, or make a new list": (
            lambda n: [math.comb(n + k - 1, k) if n else 1 for k in range(n + 1)]
        ),
        "these are fractions of the paths; return how many there are": (
            lambda n: [count / 2**n for count in paths(n)]
        ),
    },
)


EXERCISES = [signals, initialization, gradients, counting]
