"""Lesson 14, mixing tokens."""

from __future__ import annotations

import numpy as np

from ..exercise import Exercise, edited

# ---- one_hot


def one_hot(ids, n):
    rows = np.zeros((len(ids), n), np.float32)
    rows[np.arange(len(ids)), ids] = 1
    return rows


def with_dtype(answer, *args):
    rows = answer(*args)
    return rows, str(getattr(rows, "dtype", type(rows).__name__))


tokens = Exercise(
    "14.one_hot",
    reference=one_hot,
    run=with_dtype,
    outputs=("the rows", "their type"),
    cases=lambda rng: [
        ("ids 2 0 2 1, n = 3", (np.array([2, 0, 2, 1]), 3)),
        ("ids 4 1, n = 6", (np.array([4, 1]), 6)),
        ("ids 0 0 0, n = 2", (np.array([0, 0, 0]), 2)),
    ],
    mistakes=edited(
        one_hot,
        {
            "rows[:, ids] sets whole columns; one place in each row needs two arrays of indices": (
                "rows[np.arange(len(ids)), ids]",
                "rows[:, ids]",
            ),
            "rows[ids] sets whole rows; one place in each row needs two arrays of indices": (
                "rows[np.arange(len(ids)), ids]",
                "rows[ids[ids < len(ids)]]",
            ),
            "rows and columns are swapped: the shape is (T, n), a row for each token": (
                "return rows",
                "return rows.T",
            ),
            "ids count from 0: no ids - 1": ("ids] = 1", "ids - 1] = 1"),
            "the number that is set is a 1, not the id itself": ("ids] = 1", "ids] = ids"),
            "these are float64; give np.float32": (", np.float32)", ")"),
            "these are integers; give np.float32": ("np.float32", "np.int64"),
            "a row has n numbers, also where no id is as large as n − 1": (
                "len(ids), n)",
                "len(ids), ids.max() + 1)",
            ),
        },
    ),
)


# ---- mixing_matrix


def mixing_matrix(mix, n):
    return mix(np.eye(n))


def mixers(rng):
    """Linear mixers of n tokens whose matrices are not symmetric."""
    matrix = rng.normal(size=(5, 5))
    return [
        ("a matrix of random numbers, n = 5", (lambda x: matrix @ x, 5)),
        ("each token reads the one before it, n = 4", (lambda x: np.roll(x, 1, axis=0), 4)),
        ("running sums, n = 3", (lambda x: np.cumsum(x, axis=0), 3)),
    ]


matrix = Exercise(
    "14.mixing_matrix",
    reference=mixing_matrix,
    cases=mixers,
    mistakes={
        "this is the transpose: column s of A is what becomes of a 1 at token s": (
            lambda mix, n: mix(np.eye(n)).T
        ),
        "with ones everywhere you see the sum of each row of A, not its entries": (
            lambda mix, n: mix(np.ones((n, n)))
        ),
        "this is one column of A; ask for each token": lambda mix, n: mix(np.eye(n)[:, :1]),
        "this reads the diagonal only: token s may read from others": (
            lambda mix, n: np.diag(np.diag(mix(np.eye(n))))
        ),
        "this returns a function's input, not what mix makes of it": lambda mix, n: np.eye(n),
    },
)


# ---- attention


def attention(q, k, v):
    scale = 1 / np.sqrt(q.shape[1]).astype(q.dtype)
    s = q @ k.T * scale
    e = np.exp(s - s.max(axis=1, keepdims=True))
    a = e / e.sum(axis=1, keepdims=True)

    def backward(g):
        da = g @ v.T
        ds = a * (da - (da * a).sum(axis=1, keepdims=True))
        return ds @ k * scale, ds.T @ q * scale, a.T @ g

    return a @ v, backward


def both_ways(answer, q, k, v, g):
    y, backward = answer(q, k, v)
    return (y, *backward(g))


def tokens_of(rng, t, d, dtype=np.float64, size=1.0):
    return tuple((size * rng.normal(size=(t, d))).astype(dtype) for _ in range(4))


self_attention = Exercise(
    "14.attention",
    reference=attention,
    run=both_ways,
    outputs=("y", "dq", "dk", "dv"),
    cases=lambda rng: [
        ("5 tokens of 3 channels", tokens_of(rng, 5, 3)),
        ("4 tokens of 4 channels, float32", tokens_of(rng, 4, 4, np.float32)),
        ("3 tokens of 6 channels, with scores near ±3000", tokens_of(rng, 3, 6, size=40.0)),
    ],
    mistakes=edited(
        attention,
        {
            "the scores are not divided by √D": (
                "1 / np.sqrt(q.shape[1]).astype(q.dtype)",
                "q.dtype.type(1)",
            ),
            "the scores are divided by D; divide by √D": (
                "1 / np.sqrt(q.shape[1]).astype(q.dtype)",
                "q.dtype.type(1 / q.shape[1])",
            ),
            "D is the number of channels, q.shape[1]; this is the number of tokens": (
                "q.shape[1]",
                "q.shape[0]",
            ),
            "softmax goes along each row, axis=1; here each column sums to 1": (
                "a = e / e.sum(axis=1, keepdims=True)",
                "a = e / e.sum(axis=0, keepdims=True)",
                "np.exp(s - s.max(axis=1, keepdims=True))",
                "np.exp(s - s.max(axis=0, keepdims=True))",
            ),
            "softmax goes over the whole matrix here; it should go over each row": (
                "e.sum(axis=1, keepdims=True)",
                "e.sum()",
            ),
            "softmax is missing in the forward pass": (
                "a = e / e.sum(axis=1, keepdims=True)",
                "a = s",
            ),
            "exponentials overflow for large scores: subtract the largest of each row first": (
                "np.exp(s - s.max(axis=1, keepdims=True))",
                "np.exp(s)",
            ),
            "queries and keys are swapped: S = Q Kᵀ": ("q @ k.T", "k @ q.T"),
            "the gradient of softmax lacks the sum: dS = A ∘ (dA − Σ dA∘A)": (
                "a * (da - (da * a).sum(axis=1, keepdims=True))",
                "a * da",
            ),
            "in dS the sum goes along each row, axis=1": (
                "(da * a).sum(axis=1, keepdims=True)",
                "(da * a).sum(axis=0, keepdims=True)",
            ),
            "in dS the sum is of dA∘A, not of dA alone": (
                "(da * a).sum(axis=1, keepdims=True)",
                "da.sum(axis=1, keepdims=True)",
            ),
            "dS passes through softmax as if it were sigmoid: A ∘ (1 − A) ∘ dA": (
                "a * (da - (da * a).sum(axis=1, keepdims=True))",
                "a * (1 - a) * da",
            ),
            "dQ and dK lack the factor 1/√D": (
                "ds @ k * scale, ds.T @ q * scale",
                "ds @ k, ds.T @ q",
            ),
            "dQ and dK are divided by D; divide by √D": (
                "ds @ k * scale, ds.T @ q * scale",
                "ds @ k * scale * scale, ds.T @ q * scale * scale",
            ),
            "dV is G itself here; it is weighted by A: dV = Aᵀ G": ("a.T @ g", "g"),
            "dq and dk are swapped": (
                "ds @ k * scale, ds.T @ q * scale",
                "ds.T @ q * scale, ds @ k * scale",
            ),
            "dK needs dS transposed: dK = dSᵀ Q / √D": ("ds.T @ q", "ds @ q"),
            "dV needs A transposed: dV = Aᵀ G": ("a.T @ g", "a @ g"),
            "y is A V; this is the matrix A alone": (
                "return a @ v, backward",
                "return a, backward",
            ),
        },
    ),
)


# ---- split_heads


def split_heads(x, n):
    return x.reshape(len(x), n, x.shape[1] // n).transpose(1, 0, 2)


def strided(x, n):
    return x.reshape(len(x), x.shape[1] // n, n).transpose(2, 0, 1)


heads = Exercise(
    "14.split_heads",
    reference=split_heads,
    cases=lambda rng: [
        ("5 tokens of 6 channels, 2 heads", (rng.normal(size=(5, 6)), 2)),
        ("4 tokens of 6 channels, 3 heads", (rng.normal(size=(4, 6)), 3)),
    ],
    mistakes={
        "a reshape alone mixes tokens into heads: first (T, n, D/n), then swap the first two "
        "axes": lambda x, n: x.reshape(n, len(x), -1),
        "the heads are the second axis here, (T, n, D/n); they come first": (
            lambda x, n: x.reshape(len(x), n, -1)
        ),
        "head i has every n-th channel here; it has D/n neighboring ones": strided,
        "the last two axes are swapped: (n, T, D/n)": (
            lambda x, n: split_heads(x, n).transpose(0, 2, 1)
        ),
        "these are D/n heads of n channels; there should be n heads of D/n": (
            lambda x, n: split_heads(x, x.shape[1] // n)
        ),
        "the tokens are cut into groups here; cut the channels instead": (
            lambda x, n: np.stack(np.split(x[: len(x) // n * n], n))
        ),
    },
)


# ---- multiply_adds


def multiply_adds(kind, t, d, k=9):
    if kind == "attention":
        return 4 * t * d * d + 2 * t * t * d
    return t * t * d if kind == "mixer" else t * d * k * k


def counted(attention=None, mixer=None, convolution=None):
    """A `multiply_adds` with another count of some kinds."""
    others = {"attention": attention, "mixer": mixer, "convolution": convolution}

    def answer(kind, t, d, k=9):
        return (others[kind] or (lambda t, d, k: multiply_adds(kind, t, d, k)))(t, d, k)

    return answer


cost = Exercise(
    "14.multiply_adds",
    reference=multiply_adds,
    cases=lambda rng: [
        (f'"{kind}", t = {t}, d = {d}, k = {k}', (kind, t, d, k))
        for t, d, k in ((7, 4, 3), (10, 3, 5))
        for kind in ("attention", "mixer", "convolution")
    ],
    mistakes={
        "attention has two products with the T×T matrix: Q with Kᵀ, and A with V": counted(
            attention=lambda t, d, k: 4 * t * d * d + t * t * d
        ),
        "attention has four linear maps of D to D; one is for the result": counted(
            attention=lambda t, d, k: 3 * t * d * d + 2 * t * t * d
        ),
        "attention has four linear maps, one for the result, and two products with the T×T "
        "matrix": counted(attention=lambda t, d, k: 3 * t * d * d + t * t * d),
        "attention's four linear maps are missing": counted(
            attention=lambda t, d, k: 2 * t * t * d
        ),
        "attention's two products with the T×T matrix are missing": counted(
            attention=lambda t, d, k: 4 * t * d * d
        ),
        "the mixer's map goes from T tokens to T tokens, for each of D channels: T²D": counted(
            mixer=lambda t, d, k: t * d * d
        ),
        "the mixer's map is for each channel: times D": counted(mixer=lambda t, d, k: t * t),
        "a depthwise convolution reads k×k tokens for each number: TDk²": counted(
            convolution=lambda t, d, k: t * d * k
        ),
        "depthwise: each channel is convolved by itself, so D appears once": counted(
            convolution=lambda t, d, k: t * d * d * k * k
        ),
        "the depthwise convolution is for each channel: times D": counted(
            convolution=lambda t, d, k: t * k * k
        ),
    },
)


EXERCISES = [tokens, matrix, self_attention, heads, cost]
