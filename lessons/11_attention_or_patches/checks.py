"""Lesson 11, is it attention, or is it patches?"""

from __future__ import annotations

import numpy as np

from minimix import nn

from ..exercise import Exercise, edited
from ..networks import OUTPUTS, tried

# ---- block


def block_of(
    half=lambda convolution, activation, norm: [convolution, activation, norm],
    around_places=lambda residual: residual != "none",
    around_channels=lambda residual: residual == "both",
    around_all=lambda residual: False,
    use=lambda norm, activation: (norm, activation),
    use_first=lambda norm, activation: (norm, activation),
    use_second=lambda norm, activation: (norm, activation),
):
    """A `block` of which one step can be wrong."""

    def block(h, k, rng=None, residual="places", norm=nn.BatchNorm, activation=nn.GELU):
        norm, activation = use(norm, activation)
        norm_1, activation_1 = use_first(norm, activation)
        norm_2, activation_2 = use_second(norm, activation)
        first = half(nn.DepthwiseConv2d(h, k, rng=rng), activation_1(), norm_1(h))
        second = half(nn.PointwiseConv2d(h, h, rng=rng), activation_2(), norm_2(h))
        places, channels = nn.Sequential(*first), nn.Sequential(*second)
        first = nn.Residual(places) if around_places(residual) else places
        second = nn.Residual(channels) if around_channels(residual) else channels
        both = nn.Sequential(first, second)
        return nn.Residual(both) if around_all(residual) else both

    return block


def with_options(answer, x, h, k, options):
    return tried(lambda h, k, rng: answer(h, k, rng=rng, **options), x, h, k)


block = Exercise(
    "11.block",
    reference=block_of(),
    outputs=OUTPUTS,
    run=with_options,
    cases=lambda rng: [
        (words, (rng.normal(size=(2, 5, 6, 4)), 4, 3, options))
        for words, options in {
            "as in the paper": {},
            'residual="none"': {"residual": "none"},
            'residual="both"': {"residual": "both"},
            "norm=nn.LayerNorm": {"norm": nn.LayerNorm},
            "norm=lambda h: nn.Identity()": {"norm": lambda h: nn.Identity()},
            "activation=nn.ReLU": {"activation": nn.ReLU},
        }.items()
    ],
    mistakes={
        'there is a residual where residual="none"': block_of(around_places=lambda residual: True),
        'residual="both" is as "places" here: it should wrap the second half, too': block_of(
            around_channels=lambda residual: False
        ),
        'with residual="both" the first half has lost its own': block_of(
            around_places=lambda residual: residual == "places"
        ),
        'residual="both" is a residual around each half, not one around the whole': block_of(
            around_places=lambda residual: residual == "places",
            around_channels=lambda residual: False,
            around_all=lambda residual: residual == "both",
        ),
        "rng is not passed on: give rng=rng to both convolutions": (
            lambda h, k, rng=None, **options: block_of()(h, k, **options)
        ),
        "there is no residual at all": block_of(
            around_places=lambda residual: False, around_channels=lambda residual: False
        ),
        "norm is ignored: it is always BatchNorm": block_of(
            use=lambda norm, activation: (nn.BatchNorm, activation)
        ),
        "activation is ignored: it is always GELU": block_of(
            use=lambda norm, activation: (norm, nn.GELU)
        ),
        "norm is ignored in the second half: it is always BatchNorm there": block_of(
            use_second=lambda norm, activation: (nn.BatchNorm, activation)
        ),
        "norm is ignored in the first half: it is always BatchNorm there": block_of(
            use_first=lambda norm, activation: (nn.BatchNorm, activation)
        ),
        "activation is ignored in the second half: it is always GELU there": block_of(
            use_second=lambda norm, activation: (norm, nn.GELU)
        ),
        "activation is ignored in the first half: it is always GELU there": block_of(
            use_first=lambda norm, activation: (norm, nn.GELU)
        ),
        'with residual="both" there is one around the whole block, and one in it; it should be '
        "one around each half": block_of(
            around_places=lambda residual: residual != "none",
            around_channels=lambda residual: False,
            around_all=lambda residual: residual == "both",
        ),
        "norm comes before the activation here; the order is convolution, activation, "
        "norm": block_of(
            half=lambda convolution, activation, norm: [convolution, norm, activation]
        ),
    },
)


# ---- interval

T = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36, 9: 2.31, 10: 2.26}


def interval_with(t=lambda n: T[n], ddof=1, root=np.sqrt, spread=np.std, times=1.0, center=np.mean):
    """An `interval` of which one step can be wrong."""

    def interval(accuracies):
        n = len(accuracies)
        half = times * t(n) * spread(accuracies, ddof=ddof) / root(n)
        return float(center(accuracies)), float(half)

    return interval


right_interval = interval_with()

interval = Exercise(
    "11.interval",
    reference=right_interval,
    outputs=("mean", "half"),
    run=lambda answer, accuracies: answer(accuracies),
    cases=lambda rng: [
        ("0.70 0.72 0.68 0.74", ([0.70, 0.72, 0.68, 0.74],)),
        ("two runs, 0.5 and 0.6", ([0.5, 0.6],)),
        ("ten random runs", (rng.uniform(0.6, 0.8, 10).tolist(),)),
    ],
    mistakes={
        "the spread should divide by n − 1: np.std(…, ddof=1)": interval_with(ddof=0),
        "this is for very many runs: t is T[n], not 1.96": interval_with(t=lambda n: 1.96),
        "t is missing: T[n] times s / √n": interval_with(t=lambda n: 1.0),
        "√n is missing: the mean of n runs varies less than one run": interval_with(
            root=lambda n: 1.0
        ),
        "this divides by n; it should be √n": interval_with(root=lambda n: n),
        "this is the variance; the spread is its root, np.std": interval_with(spread=np.var),
        "these are the two ends of the interval; return the mean and half the "
        "width": lambda accuracies: (
            right_interval(accuracies)[0] - right_interval(accuracies)[1],
            sum(right_interval(accuracies)),
        ),
        "this is the whole width; half of it is on either side": interval_with(times=2.0),
        "this is the median; the interval is that of the mean": interval_with(center=np.median),
    },
)


# ---- verdict


def by_interval(mean, half):
    return "cannot tell" if abs(mean) <= half else "better" if mean > 0 else "worse"


def paired(variant, baseline, interval=right_interval, sign=1):
    return by_interval(*interval(sign * (np.array(variant) - np.array(baseline))))


def overlap(variant, baseline):
    (a, half_a), (b, half_b) = right_interval(variant), right_interval(baseline)
    return by_interval(a - b, half_a + half_b)


def unpaired(variant, baseline):
    (a, half_a), (b, half_b) = right_interval(variant), right_interval(baseline)
    return by_interval(a - b, np.hypot(half_a, half_b))


LUCK = np.array([0.70, 0.66, 0.72, 0.69])  # what seeds do to every network
WOBBLE = np.array([0.001, -0.001, 0.002, -0.002])
HALF = right_interval(LUCK)[1]

verdict = Exercise(
    "11.verdict",
    reference=paired,
    cases=lambda rng: [
        (words, (variant.tolist(), baseline.tolist()))
        for words, variant, baseline in (
            ("far better", LUCK + 0.2 + WOBBLE, LUCK),
            ("far worse", LUCK - 0.2 + WOBBLE, LUCK),
            ("a little better with every seed", LUCK + 0.01 + WOBBLE, LUCK),
            ("better with every seed, intervals overlap", LUCK + 1.6 * HALF + WOBBLE, LUCK),
            ("better with three seeds, worse with one", LUCK + 10 * WOBBLE + 0.008, LUCK),
            (
                "better by about three standard errors, three runs",
                np.array([0.72, 0.73, 0.76]),
                np.array([0.70, 0.70, 0.70]),
            ),
            ("better with every seed, but unevenly", LUCK + np.array([2, 10, 30, 100]) / 1e3, LUCK),
            ("the same", LUCK, LUCK),
        )
    ],
    mistakes={
        "only the means are compared: when does the interval of the differences contain "
        "zero?": lambda variant, baseline: by_interval(np.mean(variant) - np.mean(baseline), 0.0),
        "two intervals may overlap although every seed agrees: take the differences seed by seed "
        "first": overlap,
        "the runs are not paired: take the differences seed by seed, and the interval of "
        "those": unpaired,
        "only the means are compared, and cannot tell is never said: when does the interval of "
        "the differences contain zero?": lambda variant, baseline: (
            "better" if np.mean(variant) > np.mean(baseline) else "worse"
        ),
        "this asks whether the mean lies in the interval of the baseline: take the differences "
        "seed by seed, and the interval of those": lambda variant, baseline: by_interval(
            np.mean(variant) - right_interval(baseline)[0], right_interval(baseline)[1]
        ),
        "a negative mean is never beyond the interval here: compare abs(mean) with "
        "half": lambda variant, baseline: (
            "cannot tell" if paired(variant, baseline) == "worse" else paired(variant, baseline)
        ),
        "lists do not subtract: make arrays of them first, np.array(variant) − "
        "np.array(baseline)": lambda variant, baseline: variant - baseline,
        "better and worse are swapped: variant − baseline": lambda v, b: paired(v, b, sign=-1),
        'the condition is reversed: "cannot tell" is the answer '
        "when zero is inside": lambda variant, baseline: (
            "cannot tell" if paired(variant, baseline) != "cannot tell" else "better"
        ),
        "with few runs 1.96 is too confident: use your interval, which has T[n]": (
            lambda v, b: paired(v, b, interval_with(t=lambda n: 1.96))
        ),
        "this checks whether all seeds agree, not by how much: use the interval": lambda v, b: (
            "better"
            if min(np.subtract(v, b)) > 0
            else "worse"
            if max(np.subtract(v, b)) < 0
            else "cannot tell"
        ),
    },
)


# ---- shuffle_patches


def shuffle_patches(images, order, p):
    n, height, width, c = images.shape
    grid = images.reshape(n, height // p, p, width // p, p, c).swapaxes(2, 3)
    patches = grid.reshape(n, -1, p, p, c)[:, order].reshape(grid.shape)
    return patches.swapaxes(2, 3).reshape(images.shape)


def image_case(rng, n, rows, columns, p):
    order = rng.permutation(rows * columns)
    while np.array_equal(order, np.argsort(order)):  # so that a permutation is not its inverse
        order = rng.permutation(rows * columns)
    return rng.normal(size=(n, rows * p, columns * p, 3)), order, p


shuffling = Exercise(
    "11.shuffle_patches",
    reference=shuffle_patches,
    cases=lambda rng: [
        ("2 images of 4×6, p = 2", image_case(rng, 2, 2, 3, 2)),
        ("1 image of 9×6, p = 3", image_case(rng, 1, 3, 2, 3)),
    ],
    mistakes={
        "this is the inverse: patch order[i] goes where patch i was, not the other way round": (
            lambda images, order, p: shuffle_patches(images, np.argsort(order), p)
        ),
        **edited(
            shuffle_patches,
            {
                "the two axes are not swapped before the grid becomes one axis, so that rows of "
                "pixels are shuffled, not patches": (
                    "p, width // p, p, c).swapaxes(2, 3)",
                    "p, width // p, p, c)",
                    "patches.swapaxes(2, 3).reshape",
                    "patches.reshape",
                ),
                "the two axes are not swapped back at the end": (
                    "patches.swapaxes(2, 3).reshape",
                    "patches.reshape",
                ),
                "the patches are in the order in which they were: index them with order": (
                    "[:, order]",
                    "",
                ),
                "the first axis is that of the images; the patches are the second: [:, order]": (
                    "[:, order]",
                    "[order]",
                ),
                "these are patches in their new order; put them back together into images": (
                    "[:, order].reshape(grid.shape)",
                    "[:, order]",
                    "patches.swapaxes(2, 3).reshape(images.shape)",
                    "patches",
                ),
                "height and width are exchanged: cut rows into height // p pieces, and columns "
                "into width // p": ("height // p, p, width // p", "width // p, p, height // p"),
                "the patches are counted column by column; they should be counted row by row": (
                    "reshape(n, -1, p, p, c)[:, order].reshape(grid.shape)",
                    "swapaxes(1, 2).reshape(n, -1, p, p, c)[:, order]"
                    ".reshape(grid.swapaxes(1, 2).shape).swapaxes(1, 2)",
                ),
            },
        ),
    },
)


# ---- affordable


def multiply_adds(h, p, k=5, d=3, n=5, size=32):
    places = (size // p) ** 2
    return places * h * 3 * p * p + d * places * h * (k * k + h) + h * n


def largest(budget_of=lambda budget: budget, cost=multiply_adds, more=0):
    """An `affordable` that goes wrong by a little."""

    def affordable(p, budget):
        h = 1
        while cost(h + 1, p) <= budget_of(budget):
            h += 1
        return h + more

    return affordable


def nearest(p, budget):
    h = largest()(p, budget)
    return h + (multiply_adds(h + 1, p) - budget < budget - multiply_adds(h, p))


affordable = Exercise(
    "11.affordable",
    reference=largest(),
    cases=lambda rng: [
        ("p=4, exactly the cost of h=32", (4, multiply_adds(32, 4))),
        ("p=2, budget 450,000", (2, 450_000)),
        ("p=8, budget 450,000", (8, 450_000)),
        ("p=4, one less than the cost of h=20", (4, multiply_adds(20, 4) - 1)),
    ],
    mistakes={
        "one too wide: this is the first that costs more than the budget": largest(more=1),
        "one too narrow: the next wider one is affordable, too": largest(more=-1),
        "the width grows in steps of 2, so that odd ones are never tried": (
            lambda p, budget: 2 * (largest()(p, budget) // 2)
        ),
        "the width nearest to the budget may cost more than the budget, "
        "which is a maximum": nearest,
        "exactly the budget is affordable, too: <=, not <": largest(
            budget_of=lambda budget: budget - 1
        ),
        "the cost is always that of p = 4: pass p to multiply_adds": largest(
            cost=lambda h, p: multiply_adds(h, 4)
        ),
    },
)

EXERCISES = [block, interval, verdict, shuffling, affordable]
