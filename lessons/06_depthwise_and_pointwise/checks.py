"""Lesson 06, depthwise and pointwise convolution."""

from __future__ import annotations

import numpy as np

from ..exercise import Exercise, edited
from ..operations import drawn, forward_and_backward

# ---- right answers; each mistake below is an edit of one of them


def depthwise(x, w):
    k, (_, H, W, _) = len(w), x.shape
    a = (k - 1) // 2
    padded = np.pad(x, ((0, 0), (a, k - 1 - a), (a, k - 1 - a), (0, 0)))
    y = np.zeros_like(x)
    for i, j in np.ndindex(k, k):
        y += padded[:, i : i + H, j : j + W] * w[i, j]
    return y


def depthwise_dx(g, w):
    k, (N, H, W, C) = len(w), g.shape
    a = (k - 1) // 2
    dpadded = np.zeros((N, H + k - 1, W + k - 1, C), g.dtype)
    for i, j in np.ndindex(k, k):
        dpadded[:, i : i + H, j : j + W] += g * w[i, j]
    return dpadded[:, a : a + H, a : a + W]


def wraps_around(g, w):
    """dx whose padding is the opposite side of the image."""
    k, dx = len(w), np.zeros_like(g)
    for i, j in np.ndindex(k, k):
        dx += np.roll(g, (i - (k - 1) // 2, j - (k - 1) // 2), (1, 2)) * w[i, j]
    return dx


def depthwise_dw(x, g, k):
    a, (_, H, W, C) = (k - 1) // 2, x.shape
    padded = np.pad(x, ((0, 0), (a, k - 1 - a), (a, k - 1 - a), (0, 0)))
    dw = np.zeros((k, k, C), x.dtype)
    for i, j in np.ndindex(k, k):
        dw[i, j] = (padded[:, i : i + H, j : j + W] * g).sum(axis=(0, 1, 2))
    return dw


def pointwise(x, w, b):
    def backward(g):
        rows, g_rows = x.reshape(-1, len(w)), g.reshape(-1, w.shape[1])
        return g @ w.T, rows.T @ g_rows, g.sum(axis=(0, 1, 2))

    return x @ w + b, backward


def receptive_field(k, depth, p):
    return p * (1 + depth * (k - 1))


# ---- cases


SIZES = (
    ((1, 4, 5, 1), 1, np.float64),
    ((1, 5, 5, 1), 3, np.float64),
    ((2, 6, 8, 3), 3, np.float64),
    ((2, 7, 5, 2), 4, np.float64),
    ((1, 6, 7, 4), 5, np.float32),
)


def image_and_kernel(rng):
    """x or g, and w."""
    return [
        (f"{shape}, k={k}, {dtype.__name__}", drawn(rng, shape, (k, k, shape[-1]), dtype=dtype))
        for shape, k, dtype in SIZES
    ]


def two_images(rng):
    """x, g and k."""
    return [
        (f"x and g {shape}, k={k}, {dtype.__name__}", (*drawn(rng, shape, shape, dtype=dtype), k))
        for shape, k, dtype in SIZES
    ]


def pixels(rng):
    """x, w, b and g."""
    for (*places, k), c, dtype in (
        ((1, 2, 2, 3), 3, np.float64),
        ((2, 3, 4, 3), 3, np.float64),
        ((2, 5, 3, 4), 4, np.float32),
    ):
        given = drawn(rng, (*places, k), (k, c), (c,), (*places, c), dtype=dtype)
        yield f"x {(*places, k)}, w ({k}, {c}), {dtype.__name__}", given


EXERCISES = [
    Exercise(
        "06.depthwise",
        reference=depthwise,
        cases=image_and_kernel,
        mistakes=edited(
            depthwise,
            {
                "the kernel is flipped, as in the mathematical convolution; here w[0, 0] "
                "multiplies the pixel up and to the left": ("w[i, j]", "w[-1 - i, -1 - j]"),
                "rows and columns of the kernel are swapped: i goes with H, j with W": (
                    *("w[i, j]", "w[j, i]"),
                ),
                "with an even k there is one zero too many before the image and one too few "
                "after: (k − 1)//2 before": ("(k - 1) // 2", "k // 2"),
                "pixels come back in on the opposite side (np.roll does this): there should be "
                "zeros outside": ("(0, 0)))", '(0, 0)), "wrap")'),
                "the padding repeats the outermost pixels; it should be zeros": (
                    *("(0, 0)))", '(0, 0)), "edge")'),
                ),
                "every channel uses the kernel of channel 0": ("w[i, j]", "w[i, j, :1]"),
                "the channels were added up: a depthwise convolution keeps them separate": (
                    *("return y", "return y.sum(axis=-1, keepdims=True)"),
                ),
                "each channel has the sum over all channels: a depthwise convolution keeps them "
                "separate": ("return y", "return y.sum(axis=-1, keepdims=True) + 0 * y"),
                "only the last term of the sum is left: add them up with +=": ("+=", "="),
                "the image is not padded, and so the window is too small at the border: np.pad": (
                    *("np.pad(x, ((0, 0), (a, k - 1 - a), (a, k - 1 - a), (0, 0)))", "x"),
                ),
                "without padding the image shrinks by k − 1: pad it with zeros first": (
                    *(
                        "    y = np.zeros_like(x)",
                        "    H, W, padded = H - k + 1, W - k + 1, x\n    y = 0",
                    ),
                    *("y +=", "y = y +"),
                ),
            },
        ),
    ),
    Exercise(
        "06.depthwise_dx",
        reference=depthwise_dx,
        cases=image_and_kernel,
        mistakes=edited(
            depthwise_dx,
            {
                "your result equals convolution with an unflipped kernel: rotate it by 180°, or "
                "add to dpadded instead of reading from it": depthwise,
                "your result equals convolution with an unflipped kernel, with the padding of the "
                "backward pass: rotate the kernel by 180°": ("w[i, j]", "w[-1 - i, -1 - j]"),
                "this is convolution with the transposed kernel; it should be rotated by 180°: "
                "w[::-1, ::-1]": lambda g, w: depthwise(g, w.transpose(1, 0, 2)),
                "the kernel is flipped along its rows only: flip the columns, too": (
                    *("w[i, j]", "w[i, -1 - j]"),
                ),
                "the kernel is flipped along its columns only: flip the rows, too": (
                    *("w[i, j]", "w[-1 - i, j]"),
                ),
                "the kernel is transposed: i goes with H, j with W": ("w[i, j]", "w[j, i]"),
                "right for odd k; for even k the padding changes sides in the backward pass: k//2 "
                "zeros before, (k − 1)//2 after": ("(k - 1) // 2", "k // 2"),
                "the padding is still there: remove it, a before and k − 1 − a after": (
                    *("[:, a : a + H, a : a + W]", ""),
                ),
                "the padding was removed at the end only: the image starts at a": (
                    *("[:, a : a + H, a : a + W]", "[:, :H, :W]"),
                ),
                "gradients come back in on the opposite side; what falls on the padding should be "
                "dropped": wraps_around,
                "overlapping gradients were overwritten: add them up with +=": ("+=", "="),
                "the channels were added up: a depthwise convolution keeps them separate": (
                    *("a : a + W]", "a : a + W].sum(axis=-1, keepdims=True)"),
                ),
            },
        ),
    ),
    Exercise(
        "06.depthwise_dw",
        reference=depthwise_dw,
        cases=two_images,
        mistakes=edited(
            depthwise_dw,
            {
                "the images were averaged; their gradients add up, so sum over N": (
                    *("(0, 1, 2))", "(0, 1, 2)) / len(x)"),
                ),
                "only the first image counts here: sum over N too": (
                    *("* g).sum(axis=(0, 1, 2))", "* g)[0].sum(axis=(0, 1))"),
                ),
                "this is the mean over all pixels; it should be the sum": (".sum(", ".mean("),
                "the channels were added up too: there is one kernel for each": (
                    *(".sum(axis=(0, 1, 2))", ".sum()"),
                ),
                "x and g are swapped: x is padded and shifted": (
                    *("np.pad(x", "np.pad(g", "* g)", "* x)"),
                ),
                "dw is rotated by 180°; only dx needs the flip": ("dw[i, j]", "dw[-1 - i, -1 - j]"),
                "rows and columns of dw are swapped: i goes with H, j with W": (
                    *("dw[i, j]", "dw[j, i]"),
                ),
                "for even k the padding differs from that of the forward pass: (k − 1)//2 zeros "
                "before": ("(k - 1) // 2", "k // 2"),
                "only the last place of the kernel has a gradient: is the assignment inside both "
                "loops?": ("        dw[i, j]", "        pass\n    dw[i, j]"),
            },
        ),
    ),
    Exercise(
        "06.pointwise",
        reference=pointwise,
        outputs=("y", "dx", "dw", "db"),
        run=forward_and_backward,
        cases=pixels,
        mistakes=edited(
            pointwise,
            {
                "y has no bias: + b": (" + b", ""),
                "y is x wᵀ; w is (K, C), so x @ w": ("x @ w", "x @ w.T"),
                "dx is g w; it should be g wᵀ, summed over C": ("g @ w.T", "g @ w"),
                "dw is transposed: (K, C) is xᵀ g, not gᵀ x": (
                    "rows.T @ g_rows",
                    "g_rows.T @ rows",
                ),
                "dw is divided by the number of pixels; their gradients add up": (
                    *("rows.T @ g_rows", "rows.T @ g_rows / len(rows)"),
                ),
                "db is not summed over the batch and the pixels: it has shape (C,)": (
                    *("g.sum(axis=(0, 1, 2))", "g"),
                ),
                "db is summed over the batch only: b was added at every pixel too": (
                    *("(0, 1, 2)", "0"),
                ),
                "db is a mean; the gradients of all uses of b add up, so sum": (".sum(", ".mean("),
                "x.T of four axes reverses all of them: make rows first, x.reshape(-1, K)": (
                    *("rows.T @ g_rows", "x.T @ g"),
                ),
            },
        ),
    ),
    Exercise(
        "06.receptive_field",
        reference=receptive_field,
        cases=lambda rng: [
            (f"k={k}, depth={depth}, p={p}", (k, depth, p))
            for k, depth, p in ((3, 1, 1), (5, 4, 2), (9, 8, 7), (4, 3, 1), (5, 0, 4))
        ],
        mistakes=edited(
            receptive_field,
            {
                "this counts k for each block; neighboring windows overlap, so a block adds only "
                "k − 1": ("(1 + depth * (k - 1))", "depth * k"),
                "a block adds k − 1, not k: the middle of its window was there already": (
                    *("k - 1", "k"),
                ),
                "this counts places, not pixels: each place is p pixels wide": ("p * (", "("),
                "the windows do not multiply: they overlap in all but k − 1": (
                    *("(1 + depth * (k - 1))", "k**depth"),
                ),
                "without any block an output still sees its own place: + 1": ("1 + depth", "depth"),
                "the steps of the blocks are p pixels wide too, not only the first place": (
                    *("p * (1", "(p"),
                ),
                "this is the range to one side; count both sides": ("(k - 1)", "(k // 2)"),
                "this is an area; return the width": (
                    "(k - 1))",
                    "(k - 1)) * p * (1 + depth * (k - 1))",
                ),
            },
        ),
    ),
]
