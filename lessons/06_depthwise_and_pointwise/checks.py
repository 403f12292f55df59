"""Lesson 06, depthwise and pointwise convolution."""

from __future__ import annotations

import numpy as np

from minimix import kernels

from ..check import Exercise
from ..operations import forward_and_backward

# ---- depthwise


def convolution(
    kernel=lambda w: w, before=lambda k: (k - 1) // 2, border="constant", form=lambda y: y
):
    """A convolution of which one step can be replaced by a wrong one."""

    def depthwise(x, w):
        w, k, (_, h, v, _) = kernel(w), len(w), x.shape
        a = before(k)
        padded = np.pad(x, ((0, 0), (a, k - 1 - a), (a, k - 1 - a), (0, 0)), border)
        y = np.zeros_like(x)
        for i, j in np.ndindex(k, k):
            y += padded[:, i : i + h, j : j + v] * w[i, j]
        return form(y)

    return depthwise


def without_border(x, w):
    k, (n, h, v, c) = len(w), x.shape
    if min(h, v) < k:
        raise ValueError("the kernel is larger than the image")
    y = np.zeros((n, h - k + 1, v - k + 1, c), x.dtype)
    for i, j in np.ndindex(k, k):
        y += x[:, i : i + h - k + 1, j : j + v - k + 1] * w[i, j]
    return y


def turned(w):
    return w[::-1, ::-1]


def arrays(rng, *shapes, dtype=np.float64):
    return tuple(rng.normal(size=shape).astype(dtype) for shape in shapes)


def image_cases(*shapes_and_k):
    """x or g, and w."""

    def cases(rng):
        for shape, k, dtype in shapes_and_k:
            kind = ", float32" if dtype == np.float32 else ""
            x, w = arrays(rng, shape, (k, k, shape[-1]), dtype=dtype)
            yield f"{shape}, k={k}{kind}", (x, w)

    return cases


SIZES = (
    ((1, 4, 5, 1), 1, np.float64),
    ((1, 5, 5, 1), 3, np.float64),
    ((2, 6, 8, 3), 3, np.float64),
    ((2, 7, 5, 2), 4, np.float64),
    ((1, 6, 7, 4), 5, np.float32),
)

depthwise = Exercise(
    "06.depthwise",
    reference=kernels.depthwise_conv2d.reference,
    cases=image_cases(*SIZES),
    mistakes={
        "the kernel is flipped, as in the mathematical convolution; here w[0, 0] multiplies the "
        "pixel up and to the left": convolution(turned),
        "rows and columns of the kernel are swapped: i goes with H, j with W": convolution(
            lambda w: w.transpose(1, 0, 2)
        ),
        "with an even k there is one zero too many before the image and one too few after: "
        "(k − 1)//2 before": convolution(before=lambda k: k // 2),
        "pixels come back in on the opposite side (np.roll does this): there should be zeros "
        "outside": convolution(border="wrap"),
        "the padding repeats the outermost pixels; it should be zeros": convolution(border="edge"),
        "every channel uses the kernel of channel 0": convolution(
            lambda w: np.repeat(w[:, :, :1], w.shape[2], axis=2)
        ),
        "the channels were added up: a depthwise convolution keeps them separate": convolution(
            form=lambda y: y.sum(axis=-1, keepdims=True)
        ),
        "without padding the image shrinks by k − 1: pad it with zeros first": without_border,
    },
)


def back(kernel=turned, before=lambda k: k // 2, border="constant", form=lambda dx: dx):
    """dx as a convolution of g, of which one step can be replaced by a wrong one."""
    return convolution(kernel, before, border, form)


def uncropped(g, w):
    k, (n, h, v, c) = len(w), g.shape
    dpadded = np.zeros((n, h + k - 1, v + k - 1, c), g.dtype)
    for i, j in np.ndindex(k, k):
        dpadded[:, i : i + h, j : j + v] += g * w[i, j]
    return dpadded


def cropped_in_front(g, w):
    return uncropped(g, w)[:, : g.shape[1], : g.shape[2]]


depthwise_dx = Exercise(
    "06.depthwise_dx",
    reference=kernels.depthwise_conv2d_dx.reference,
    cases=image_cases(*SIZES),
    mistakes={
        "your result equals convolution with an unflipped kernel: rotate it by 180°, or add to "
        "dpadded instead of reading from it": back(lambda w: w, lambda k: (k - 1) // 2),
        "your result equals convolution with an unflipped kernel, with the padding of the "
        "backward pass: rotate the kernel by 180°": back(lambda w: w),
        "the kernel is flipped along its rows only: flip the columns, too": back(lambda w: w[::-1]),
        "the kernel is flipped along its columns only: flip the rows, too": back(
            lambda w: w[:, ::-1]
        ),
        "the kernel is transposed: i goes with H, j with W": back(
            lambda w: turned(w).transpose(1, 0, 2)
        ),
        "right for odd k; for even k the padding changes sides in the backward pass: k//2 zeros "
        "before, (k − 1)//2 after": back(before=lambda k: (k - 1) // 2),
        "the padding is still there: remove it, a before and k − 1 − a after": uncropped,
        "the padding was removed at the end only: the image starts at a": cropped_in_front,
        "gradients come back in on the opposite side; what falls on the padding should be "
        "dropped": back(border="wrap"),
        "the channels were added up: a depthwise convolution keeps them separate": back(
            form=lambda dx: dx.sum(axis=-1, keepdims=True)
        ),
    },
)


# ---- the kernel's gradient


def correlation(
    before=lambda k: (k - 1) // 2,
    combine=lambda seen, g: (seen * g).sum(axis=(0, 1, 2)),
    form=lambda dw: dw,
    exchange=False,
):
    def depthwise_dw(x, g, k):
        if exchange:
            x, g = g, x
        a, (_, h, v, c) = before(k), x.shape
        padded = np.pad(x, ((0, 0), (a, k - 1 - a), (a, k - 1 - a), (0, 0)))
        dw = np.empty((k, k, c), x.dtype)
        for i, j in np.ndindex(k, k):
            dw[i, j] = combine(padded[:, i : i + h, j : j + v], g)
        return form(dw)

    return depthwise_dw


def last_place_only(x, g, k):
    full = kernels.depthwise_conv2d_dw.reference(x, g, k)
    dw = np.zeros_like(full)
    dw[-1, -1] = full[-1, -1]
    return dw


def pairs(rng):
    for shape, k, dtype in SIZES:
        kind = ", float32" if dtype == np.float32 else ""
        x, g = arrays(rng, shape, shape, dtype=dtype)
        yield f"x and g {shape}, k={k}{kind}", (x, g, k)


depthwise_dw = Exercise(
    "06.depthwise_dw",
    reference=kernels.depthwise_conv2d_dw.reference,
    cases=pairs,
    mistakes={
        "the images were averaged; their gradients add up, so sum over N": correlation(
            combine=lambda seen, g: (seen * g).sum(axis=(1, 2)).mean(axis=0)
        ),
        "only the first image counts here: sum over N too": correlation(
            combine=lambda seen, g: (seen * g)[0].sum(axis=(0, 1))
        ),
        "this is the mean over all pixels; it should be the sum": correlation(
            combine=lambda seen, g: (seen * g).mean(axis=(0, 1, 2))
        ),
        "the channels were added up too: there is one kernel for each": correlation(
            combine=lambda seen, g: (seen * g).sum()
        ),
        "x and g are swapped: x is padded and shifted": correlation(exchange=True),
        "dw is rotated by 180°; only dx needs the flip": correlation(form=turned),
        "rows and columns of dw are swapped: i goes with H, j with W": correlation(
            form=lambda dw: dw.transpose(1, 0, 2)
        ),
        "for even k the padding differs from that of the forward pass: (k − "
        "1)//2 zeros before": correlation(before=lambda k: k // 2),
        "only the last place of the kernel has a gradient: is the assignment inside both "
        "loops?": last_place_only,
    },
)


# ---- pointwise


def matrix_everywhere(
    forward=lambda x, w, b: x @ w + b,
    dx=lambda g, w: g @ w.T,
    dw=lambda rows, g: rows.T @ g,
    db=lambda g: g.sum(axis=(0, 1, 2)),
):
    def pointwise(x, w, b):
        def backward(g):
            rows, g_rows = x.reshape(-1, len(w)), g.reshape(-1, w.shape[1])
            return dx(g, w), dw(rows, g_rows), db(g)

        return forward(x, w, b), backward

    return pointwise


def pixel_case(rng, shape, channels, dtype=np.float64):
    k = shape[-1]
    kind = ", float32" if dtype == np.float32 else ""
    given = arrays(rng, shape, (k, channels), (channels,), (*shape[:3], channels), dtype=dtype)
    return f"x {shape}, w ({k}, {channels}){kind}", given


pointwise = Exercise(
    "06.pointwise",
    reference=matrix_everywhere(),
    outputs=("y", "dx", "dw", "db"),
    run=forward_and_backward,
    cases=lambda rng: [
        pixel_case(rng, (1, 2, 2, 3), 3),
        pixel_case(rng, (2, 3, 4, 3), 3),
        pixel_case(rng, (2, 5, 3, 4), 4, np.float32),
    ],
    mistakes={
        "y has no bias: + b": matrix_everywhere(lambda x, w, b: x @ w),
        "y is x wᵀ; w is (K, C), so x @ w": matrix_everywhere(lambda x, w, b: x @ w.T + b),
        "dx is g w; it should be g wᵀ, with C summed away": matrix_everywhere(
            dx=lambda g, w: g @ w
        ),
        "dw is transposed: (K, C) is xᵀ g, not gᵀ x": matrix_everywhere(
            dw=lambda rows, g: g.T @ rows
        ),
        "dw is divided by the number of pixels; their gradients add up": matrix_everywhere(
            dw=lambda rows, g: rows.T @ g / len(rows)
        ),
        "db is not summed over the batch and the pixels: it has shape (C,)": matrix_everywhere(
            db=lambda g: g
        ),
        "db is summed over the batch only: b was added at every pixel too": matrix_everywhere(
            db=lambda g: g.sum(axis=0)
        ),
        "db is a mean; the gradients of all uses of b add up, so sum": matrix_everywhere(
            db=lambda g: g.mean(axis=(0, 1, 2))
        ),
    },
)


# ---- receptive field

receptive_field = Exercise(
    "06.receptive_field",
    reference=lambda k, depth, p: p * (1 + depth * (k - 1)),
    cases=lambda rng: [
        ("k=3, depth=1, p=1", (3, 1, 1)),
        ("k=5, depth=4, p=2", (5, 4, 2)),
        ("k=9, depth=8, p=7", (9, 8, 7)),
        ("k=4, depth=3, p=1", (4, 3, 1)),
        ("k=5, depth=0, p=4", (5, 0, 4)),
    ],
    mistakes={
        "this counts k for each block; neighbouring windows overlap, so a block adds only "
        "k − 1": lambda k, depth, p: p * depth * k,
        "this counts places, not pixels: each place is p pixels wide": lambda k, depth, p: (
            1 + depth * (k - 1)
        ),
        "the windows do not multiply: they overlap in all but k − 1": lambda k, depth, p: (
            p * k**depth
        ),
        "without any block an output still sees its own place: + 1": lambda k, depth, p: (
            p * depth * (k - 1)
        ),
        "the steps of the blocks are p pixels wide too, not only the first place": (
            lambda k, depth, p: p + depth * (k - 1)
        ),
        "this is the range to one side; count both sides": lambda k, depth, p: (
            p * (1 + depth * (k // 2))
        ),
    },
)

EXERCISES = [depthwise, depthwise_dx, depthwise_dw, pointwise, receptive_field]
