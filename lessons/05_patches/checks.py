"""Lesson 05, patches."""

from __future__ import annotations

import numpy as np

from ..exercise import Exercise
from ..operations import forward_and_backward

# ---- cut and join


def cutter(order=(0, 1, 3, 2, 4, 5)):
    """A `cut` with these axes in its transpose."""

    def cut(x, p):
        n, h, w, c = x.shape
        x = x.reshape(n, h // p, p, w // p, p, c).transpose(order)
        return x.reshape(n, h // p, w // p, p * p * c)

    return cut


def cut_at_once(x, p):
    n, h, w, c = x.shape
    return x.reshape(n, h // p, w // p, p * p * c)


def joiner(order=(0, 1, 3, 2, 4, 5)):
    def join(patches, p):
        n, h, w, k = patches.shape
        x = patches.reshape(n, h, w, p, p, k // (p * p)).transpose(order)
        return x.reshape(n, h * p, w * p, k // (p * p))

    return join


def join_at_once(patches, p):
    n, h, w, k = patches.shape
    return patches.reshape(n, h * p, w * p, k // (p * p))


def join_channels_first(patches, p):
    n, h, w, k = patches.shape
    x = patches.reshape(n, h, w, k // (p * p), p, p).transpose(0, 1, 4, 2, 5, 3)
    return x.reshape(n, h * p, w * p, k // (p * p))


def join_wide_and_high(patches, p):
    n, h, w, k = patches.shape
    x = patches.reshape(n, h, w, p, p, k // (p * p)).transpose(0, 2, 4, 1, 3, 5)
    return x.reshape(n, w * p, h * p, k // (p * p))


def counting(*shape, dtype=np.float64):
    return np.arange(np.prod(shape), dtype=dtype).reshape(shape)


def cut_the_other_way(x, p):
    """H and W split into (p, H/p) instead of (H/p, p)."""
    n, h, w, c = x.shape
    x = x.reshape(n, p, h // p, p, w // p, c).transpose(0, 2, 4, 1, 3, 5)
    return x.reshape(n, h // p, w // p, p * p * c)


right_cut, right_join = cutter(), joiner()

cut = Exercise(
    "05.cut",
    reference=right_cut,
    cases=lambda rng: [
        ("x (1, 4, 6, 1), p=2", (counting(1, 4, 6, 1), 2)),
        ("x (2, 4, 6, 3), p=2", (counting(2, 4, 6, 3), 2)),
        ("x (1, 9, 3, 2), p=3", (counting(1, 9, 3, 2), 3)),
        ("x (2, 3, 4, 2), p=1", (counting(2, 3, 4, 2), 1)),
        ("x (2, 8, 12, 3) of float32, p=4", (counting(2, 8, 12, 3, dtype=np.float32), 4)),
    ],
    mistakes={
        "these are stripes of a row, not squares: split H and W into two axes each, and "
        "transpose before the last reshape": cut_at_once,
        "the patches are right but in the wrong order: go along a row of patches first, then to "
        "the next row": cutter((0, 3, 1, 2, 4, 5)),
        "H was split into (p, H/p): the pixels of a patch are neighbors, so split it into "
        "(H/p, p), and W into (W/p, p)": cut_the_other_way,
        "inside a patch the numbers go column by column instead of row by row": cutter(
            (0, 1, 3, 4, 2, 5)
        ),
        "inside a patch the channels come one after the other; channels are "
        "last, pixel by pixel": cutter((0, 1, 3, 5, 2, 4)),
    },
)
join = Exercise(
    "05.join",
    reference=right_join,
    cases=lambda rng: [
        ("patches (1, 2, 3, 4), p=2", (right_cut(counting(1, 4, 6, 1), 2), 2)),
        ("patches (2, 2, 3, 12), p=2", (right_cut(counting(2, 4, 6, 3), 2), 2)),
        ("patches (1, 3, 1, 18), p=3", (right_cut(counting(1, 9, 3, 2), 3), 3)),
        ("patches (2, 3, 4, 2), p=1", (right_cut(counting(2, 3, 4, 2), 1), 1)),
        ("patches of float32, p=4", (right_cut(counting(2, 8, 12, 3, dtype=np.float32), 4), 4)),
    ],
    mistakes={
        "the patches were put one after the other, not side by side: transpose before the last "
        "reshape": join_at_once,
        "each patch is transposed: its rows have become columns": joiner((0, 1, 4, 2, 3, 5)),
        "this reads a patch channel by channel; channels are last, so split K into (p, p, C)": (
            join_channels_first
        ),
        "height and width are swapped: rows of patches belong to H": join_wide_and_high,
    },
)


# ---- patchify


def embedding(
    forward=lambda rows, matrix, b: rows @ matrix + b,
    matrix=lambda w: w.reshape(-1, w.shape[-1]),
    dx=lambda g, matrix, p: right_join(g @ matrix.T, p),
    dw=lambda rows, g, w: (rows.T @ g).reshape(w.shape),
    db=lambda g: g.sum(axis=(0, 1, 2)),
):
    """A `patchify` of which one formula can be replaced by a wrong one."""

    def patchify(x, w, b):
        p, flat = len(w), matrix(w)
        patches = right_cut(x, p)

        def backward(g):
            rows = patches.reshape(-1, len(flat))
            return dx(g, flat, p), dw(rows, g.reshape(-1, w.shape[-1]), w), db(g)

        return forward(patches, flat, b), backward

    return patchify


def embedding_case(rng, shape, p, d, dtype=np.float64):
    n, h, w, c = shape
    arrays = [shape, (p, p, c, d), (d,), (n, h // p, w // p, d)]
    kind = " of float32" if dtype == np.float32 else ""
    label = f"x {shape}, w ({p}, {p}, {c}, {d}){kind}"
    return label, tuple(rng.normal(size=s).astype(dtype) for s in arrays)


patchify = Exercise(
    "05.patchify",
    reference=embedding(),
    outputs=("y", "dx", "dw", "db"),
    run=forward_and_backward,
    cases=lambda rng: [
        embedding_case(rng, (1, 2, 2, 1), 2, 1),
        embedding_case(rng, (3, 4, 6, 3), 2, 5),
        embedding_case(rng, (2, 6, 3, 2), 3, 4),
        embedding_case(rng, (2, 4, 8, 3), 4, 6, np.float32),
    ],
    mistakes={
        "y has no bias: + b": embedding(forward=lambda rows, matrix, b: rows @ matrix),
        "w was made a matrix in the wrong order: reshape it to (K, h); do not reshape to (h, K) "
        "and transpose": embedding(matrix=lambda w: w.reshape(w.shape[-1], -1).T),
        "db is not summed: b was added to every patch of every image": embedding(db=lambda g: g),
        "db is a mean; the gradients of all uses of b add up, so sum": embedding(
            db=lambda g: g.mean(axis=(0, 1, 2))
        ),
        "db is summed over the images only: b was added at every patch of each of them": embedding(
            db=lambda g: g.sum(axis=0)
        ),
        "dw is right, but still a matrix: reshape it to the shape of w": embedding(
            dw=lambda rows, g, w: rows.T @ g
        ),
        "dw is divided by the number of patches; their gradients add up": embedding(
            dw=lambda rows, g, w: (rows.T @ g).reshape(w.shape) / len(rows)
        ),
        "dw is g times x instead of x times g: (K, M) @ (M, h)": embedding(
            dw=lambda rows, g, w: (g.T @ rows).reshape(w.shape)
        ),
        "dx is still cut into patches: join it": embedding(dx=lambda g, matrix, p: g @ matrix.T),
        "dx was put together with reshape alone: use join": embedding(
            dx=lambda g, matrix, p: join_at_once(g @ matrix.T, p)
        ),
    },
)


# ---- costs


def shares_nothing(H, W, C, p, h):
    n, parameters, work = costs()(H, W, C, p, h)
    return n, n * parameters, work


def costs(
    patches=lambda H, W, p: (H // p) * (W // p),
    parameters=lambda C, p, h: p * p * C * h + h,
    work=lambda n, C, p, h: n * p * p * C * h,
):
    def patch_costs(H, W, C, p, h):
        n = patches(H, W, p)
        return n, parameters(C, p, h), work(n, C, p, h)

    return patch_costs


patch_costs = Exercise(
    "05.patch_costs",
    reference=costs(),
    outputs=("the number of patches", "the number of parameters", "the number of multiply-adds"),
    cases=lambda rng: [
        ("H=W=32, C=3, p=2, h=256", (32, 32, 3, 2, 256)),
        ("H=32, W=48, C=3, p=4, h=128", (32, 48, 3, 4, 128)),
        ("H=W=224, C=1, p=7, h=1536", (224, 224, 1, 7, 1536)),
    ],
    mistakes={
        "the pixels were divided by p; a patch is p pixels wide and p high: H/p times W/p": costs(
            patches=lambda H, W, p: H * W // p
        ),
        "patches do not overlap: there are H/p times W/p of them, not one at every pixel": costs(
            patches=lambda H, W, p: (H - p + 1) * (W - p + 1)
        ),
        "all patches share one set of weights: do not multiply by their number": shares_nothing,
        "the h biases are parameters too": costs(parameters=lambda C, p, h: p * p * C * h),
        "w has p·p·C·h numbers; you forgot the channels": costs(
            parameters=lambda C, p, h: p * p * h + h
        ),
        "in the multiply-adds you forgot the channels: a patch is p·p·C numbers": costs(
            work=lambda n, C, p, h: n * p * p * h
        ),
        "these are the multiply-adds of one patch: every patch takes as many": costs(
            work=lambda n, C, p, h: p * p * C * h
        ),
        "the bias is added, not multiplied: it costs no multiply-add": costs(
            work=lambda n, C, p, h: n * (p * p * C * h + h)
        ),
    },
)


# ---- whitening


def outputs_of(answer, rows, eps):
    """What does not depend on the signs that eigenvectors happen to have."""
    filters = answer(rows, eps)
    if filters is None:
        return None
    filters, k = np.asarray(filters), rows.shape[1]
    if filters.shape != (k, k):
        raise ValueError(f"the filters have shape {filters.shape}, expected ({k}, {k})")
    outputs = (rows - rows.mean(axis=0)) @ filters
    covariance = outputs.T @ outputs / len(rows)
    return (np.vstack([covariance, np.linalg.norm(filters, axis=0)]),)


def whitener(
    scale=lambda values, eps: 1 / np.sqrt(values + eps),
    mean=lambda rows: rows.mean(axis=0),
    form=lambda filters: filters[:, ::-1],
    count=len,
):
    def whitening(rows, eps):
        centered = rows - mean(rows)
        values, vectors = np.linalg.eigh(centered.T @ centered / count(rows))
        return form(vectors * scale(values, eps))

    return whitening


def zca(rows, eps):
    values, vectors = np.linalg.eigh(np.cov(rows, rowvar=False))
    return vectors / np.sqrt(values + eps) @ vectors.T


def half_reversed(rows, eps):
    values, vectors = np.linalg.eigh(np.cov(rows, rowvar=False))
    return vectors / np.sqrt(values[::-1] + eps)


def patches_of_noise(rng, m, k):
    """Correlated rows with a mean that is not 0."""
    return rng.normal(size=(m, k)) @ rng.normal(size=(k, k)) + rng.uniform(1, 3, k)


whitening = Exercise(
    "05.whitening",
    reference=whitener(),
    outputs=("the covariance of rows @ filters, with the filters' lengths as a last row,",),
    run=outputs_of,
    rtol=0.01,
    cases=lambda rng: [
        ("500 rows of 3, eps=0.1", (patches_of_noise(rng, 500, 3), 0.1)),
        ("800 rows of 6, eps=0.3", (patches_of_noise(rng, 800, 6), 0.3)),
        ("500 rows of 4, eps=0.02", (patches_of_noise(rng, 500, 4), 0.02)),
    ],
    mistakes={
        "this rotates the outputs back to pixels (E Λ^-½ Eᵀ, called ZCA); leave out the last "
        "rotation, so that each column is one pattern": zca,
        "the filters are rows here; eigh returns eigenvectors as columns, and the filters should"
        " be columns": whitener(form=lambda filters: filters[:, ::-1].T),
        "the smallest eigenvalue comes first: reverse the eigenvalues and the columns": whitener(
            form=lambda filters: filters
        ),
        "the eigenvectors were not scaled: divide each by the square root "
        "of its eigenvalue": whitener(scale=lambda values, eps: np.ones_like(values)),
        "you multiplied by the square root; patterns that vary strongly "
        "should become smaller": whitener(scale=lambda values, eps: np.sqrt(values + eps)),
        "the square root is taken twice: divide by √(λ + ε), once": whitener(
            scale=lambda values, eps: 1 / np.sqrt(np.sqrt(values) + eps)
        ),
        "you divided by the eigenvalue; its square root is the size of the pattern": whitener(
            scale=lambda values, eps: 1 / (values + eps)
        ),
        "eps is missing: √(λ + ε)": whitener(scale=lambda values, eps: 1 / np.sqrt(values)),
        "eps belongs inside the square root: √(λ + ε), not √λ + ε": whitener(
            scale=lambda values, eps: 1 / (np.sqrt(values) + eps)
        ),
        "the eigenvalues are reversed, but their columns are not: each pattern belongs to its "
        "own": half_reversed,
        "the covariance is that of the rows; it should be K×K, between the columns: np.cov(rows, "
        "rowvar=False), or centered.T @ centered": lambda rows, eps: np.zeros((len(rows),) * 2),
        "subtract the mean of the rows before computing the covariance": whitener(
            mean=lambda rows: 0.0
        ),
        "the covariance is a sum here: divide it by the number of rows": whitener(
            count=lambda rows: 1
        ),
    },
)

EXERCISES = [cut, join, patchify, patch_costs, whitening]
