"""Zeros, infinities, numbers that are none, and arrays that are empty."""

import itertools
import re

import numpy as np
import pytest

from minimix import Tensor
from minimix import functional as F

FLOATS = [np.float32, np.float64]


def pulled(f, *arrays, g=1.0, dtype=np.float64):
    """f's result, and the gradient of each array where g arrives at every number of it."""
    tensors = [Tensor(np.array(a, dtype), requires_grad=True) for a in arrays]
    y = f(*tensors)
    y.backward(np.full(y.shape, g, dtype))
    assert y.dtype == dtype
    return [y.array, *(t.grad for t in tensors)]


# ---- the table of what is undefined


ROWS = [
    row
    for row in (re.split(r"\s{2,}", line.strip()) for line in F.__doc__.splitlines())
    if len(row) == 4 and "(" in row[0]
]


def test_the_table_is_found():
    assert len(ROWS) >= 20
    assert {"relu", "max", "sqrt", "log", "divide", "power", "cross_entropy"} <= {
        row[0].split("(")[0] for row in ROWS
    }


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, of 1/0 and the like
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(("expression", "at", "y", "gradient"), ROWS)
def test_what_is_undefined_is_as_the_table_says(expression, at, y, gradient, dtype):
    numbers = [eval(text, {"nan": np.nan, "inf": np.inf}) for text in (at, y, gradient)]
    f = eval(f"lambda x: {expression}", dict(vars(F)))
    got = pulled(f, numbers[0], dtype=dtype)
    for mine, expected in zip(got, numbers[1:], strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-5)
        assert mine.shape == np.shape(expected)


# ---- corners of single operations, without a warning


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("f", "x", "g", "y", "dx"),
    [
        (F.relu, [-1.0, 0, 2], np.inf, [0, 0, 2], [0, 0, np.inf]),
        (F.relu, [np.nan, np.inf, -np.inf], 1, [np.nan, np.inf, 0], [1, 1, 0]),
        (lambda x: x**0, [0, -1, np.inf], np.inf, [1, 1, 1], [0, 0, 0]),
        (lambda x: 0.0**x, [0, 1, 2.5], np.inf, [1, 0, 0], [0, 0, 0]),
        (lambda x: 2.0**x, [-np.inf, 0, 3], 1, [0, 1, 8], [0, np.log(2), 8 * np.log(2)]),
        (F.sigmoid, [-np.inf, np.inf, 0], 1, [0, 1, 0.5], [0, 0, 0.25]),
        (F.tanh, [-np.inf, np.inf, 0], 1, [-1, 1, 0], [0, 0, 1]),
        (F.exp, [-np.inf, 0, -1e9], 1, [0, 1, 0], [0, 1, 0]),
        (F.log, [np.inf, 1], 1, [np.inf, 0], [0, 1]),
        (F.sqrt, [np.inf, 4], 1, [np.inf, 2], [0, 0.25]),
        (lambda x: 1 / x, [np.inf, -np.inf, 2], 1, [0, 0, 0.5], [0, 0, -0.25]),
        (F.softmax, [[0, -np.inf, 0]], 1, [[0.5, 0, 0.5]], [[0, 0, 0]]),
        (F.log_softmax, [[0, -np.inf]], 1, [[0, -np.inf]], [[-1, 1]]),
        (F.max, [-np.inf, -np.inf], 1, -np.inf, [0.5, 0.5]),
        (F.min, [np.nan, 1, np.nan], 1, np.nan, [0.5, 0, 0.5]),
        (abs, [-np.inf, 0, 2], np.inf, [np.inf, 0, 2], [-np.inf, 0, np.inf]),
        (lambda x: F.maximum(x, 0), [-1, 0, 2], np.inf, [0, 0, 2], [0, np.inf, np.inf]),
        (lambda x: F.clip(x, low=0, high=2), [-1, 0, 9], np.inf, [0, 0, 2], [0, np.inf, 0]),
        (lambda x: F.clip(x, low=2, high=0), [-1, 1, 9], 1, [0, 0, 0], [0, 0, 0]),
        (lambda x: F.where([1, 0], x, 7), [3, np.nan], np.inf, [3, 7], [np.inf, 0]),
        (lambda x: F.attention(x, x, x), [[-300, 0], [0, 300]], 0, [[-300, 0], [0, 300]], 0),
        (
            lambda x: F.max_pool2d(F.reshape(x, shape=(1, 2, 2, 1)), size=2),
            [1, np.nan, 5, np.nan],
            1,
            np.nan,
            [0, 1, 0, 0],
        ),
        (
            lambda x: F.max_pool2d(F.reshape(x, shape=(1, 2, 1, 1)), size=3, padding=1),
            [-np.inf, -np.inf],
            1,
            -np.inf,
            [0, 0],
        ),
        (F.max, [np.nan, 1, np.nan], 1, np.nan, [0.5, 0, 0.5]),
        (lambda x: F.max(x, axis=0), [[np.nan, 1], [0, 2]], 1, [np.nan, 2], [[1, 0], [0, 1]]),
    ],
)
def test_corners(f, x, g, y, dx, dtype):
    got = pulled(f, x, g=g, dtype=dtype)
    np.testing.assert_allclose(got[0], y, rtol=1e-6)
    np.testing.assert_allclose(got[1], dx, rtol=1e-6)


def test_the_gradient_of_an_exponent():
    x, y = [0.0, 0.0, 0.0, 2.0, 1.0], [0.0, 2.0, 0.5, 3.0, -2.0]
    _, dy = pulled(lambda y: F.power(x, y), y)
    np.testing.assert_allclose(dy, [0, 0, 0, 8 * np.log(2), 0])
    _, _, dy = pulled(F.power, [[0.0], [np.e]], [1.0, 2.0])
    np.testing.assert_allclose(dy, [np.e, np.e**2])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("logits", "targets", "loss", "gradient"),
    [
        ([[1, -np.inf, 2]], [2], np.log1p(np.exp(-1)), [[0.26894142, 0, -0.26894142]]),
        ([[-np.inf, 0, -np.inf]], [1], 0, [[0, 0, 0]]),
        ([["big", "-big"]], [0], 0, [[0, 0]]),
        ([["big", "big"]], [0], np.log(2), [[-0.5, 0.5]]),
        ([["-big", "-big"]], [1], np.log(2), [[0.5, -0.5]]),
        ([[0, "-big"]], [[1.0, 0.0]], 0, [[0, 0]]),
        ([[0, -np.inf, 0]], [[0.5, 0, 0.5]], np.log(2), [[0, 0, 0]]),
    ],
)
def test_logits_that_are_masked_or_huge(logits, targets, loss, gradient, dtype):
    most = np.finfo(dtype).max
    logits = [[{"big": most, "-big": -most}.get(z, z) for z in row] for row in logits]
    got = pulled(lambda x: F.cross_entropy(x, targets), logits, dtype=dtype)
    np.testing.assert_allclose(got[0], loss, atol=1e-7)
    np.testing.assert_allclose(got[1], gradient, atol=1e-7)


@pytest.mark.parametrize("dtype", FLOATS)
def test_huge_rows_of_a_softmax(dtype):
    most = np.finfo(dtype).max
    y, dx = pulled(F.softmax, [[most, -most]], dtype=dtype)
    assert y.tolist() == [[1, 0]]
    assert dx.tolist() == [[0, 0]]
    y, dx = pulled(F.log_softmax, [[most, -most]], dtype=dtype)
    assert y.tolist() == [[0, -np.inf]]
    assert dx.tolist() == [[-1, 1]]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("value", [3.3, -0.1, 1e6 + 0.1, 1e-3])
@pytest.mark.parametrize("channels", [2, 5, 192, 1000])
def test_layer_norm_of_equal_numbers(value, channels, dtype):
    y, dx, dgamma, dbeta = pulled(
        F.layer_norm,
        np.full((3, channels), value),
        np.ones(channels),
        np.zeros(channels),
        dtype=dtype,
    )
    np.testing.assert_allclose(y, 0, atol=1e-7 * abs(value))
    np.testing.assert_allclose(dgamma, 0, atol=3e-7 * abs(value))
    np.testing.assert_allclose(dx, 0, atol=1e-3)
    assert (dbeta == 3).all()


# ---- a single number along axis 0 or −1, as NumPy and PyTorch take it


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [None, 0, -1, ()])
@pytest.mark.parametrize("f", [F.sum, F.mean, F.max])
def test_a_single_number_is_its_own_reduction(f, axis, keepdims):
    y, dx = pulled(lambda x: f(x, axis=axis, keepdims=keepdims), 3.0, g=2.0)
    assert y.tolist() == 3
    assert dx.tolist() == 2


@pytest.mark.parametrize("f", [F.sum, F.mean, F.max])
@pytest.mark.parametrize(("shape", "axis"), [((), 1), ((), (0,)), ((2,), 1), ((2, 3), (0, -3))])
def test_an_axis_that_is_not_there(f, shape, axis):
    with pytest.raises(ValueError, match=f"{f.__name__}: axis .* is out of bounds"):
        f(np.ones(shape), axis=axis)


@pytest.mark.parametrize("f", [F.sum, F.mean, F.max])
def test_an_axis_twice(f):
    with pytest.raises(ValueError, match=rf"{f.__name__}: .*x \(2, 3\)"):
        f(np.ones((2, 3)), axis=(0, -2))


@pytest.mark.parametrize("axis", [0, -1, None])
@pytest.mark.parametrize("f", [F.softmax, F.log_softmax])
def test_softmax_of_a_single_number(f, axis):
    if axis is None:
        y, dx = pulled(f, 5.0)
    else:
        y, dx = pulled(lambda x: f(x, axis=axis), 5.0)
    assert y == (1 if f is F.softmax else 0)
    assert dx == 0


# ---- nothing at all


SIZES = list(itertools.product([0, 2], repeat=4))


@pytest.mark.parametrize(("n", "h", "k", "c"), SIZES)
def test_linear_maps_of_nothing(n, h, k, c, backend):
    """A sum of no products is 0, so the bias is left; and no channels are no channels."""
    for f, x, w, shape in (
        (F.linear, (n, k), (k, c), (n, c)),
        (F.linear, (n, h, 3, k), (k, c), (n, h, 3, c)),
        (F.linear, (k,), (k, c), (c,)),
        (F.pointwise_conv2d, (n, h, 3, k), (k, c), (n, h, 3, c)),
        (F.patchify, (n, h, 4, k), (2, 2, k, c), (n, h // 2, 2, c)),
        (F.conv2d, (n, h + 1, 3, k), (1, 1, k, c), (n, h + 1, 3, c)),
    ):
        products = int(np.prod(w[:-1]))
        y, dx, dw, db = pulled(f, np.ones(x), np.ones(w), np.full(c, 5.0))
        assert y.shape == shape
        assert (y == 5 + products).all()
        assert dx.shape == x
        assert (dx == c).all()
        assert dw.shape == w
        assert (dw == int(np.prod(shape[:-1]))).all()
        assert (db == int(np.prod(shape[:-1]))).all()


@pytest.mark.parametrize(("n", "h", "k", "c"), SIZES)
def test_everything_else_of_nothing(n, h, k, c, backend):
    shape = (n, h, k, c)
    for f in (F.gelu, F.relu, F.sigmoid, F.exp, F.tanh, F.softmax, F.log_softmax, F.sum):
        y, dx = pulled(f, np.ones(shape))
        assert y.shape == (shape if f is not F.sum else ())
        assert dx.shape == shape
    for f in (F.softmax, F.log_softmax):
        assert pulled(lambda x, f=f: f(x, axis=0), np.ones(shape))[0].shape == shape
    y, dx, dy = pulled(F.matmul, np.ones((n, h, k)), np.ones((k, c)))
    assert y.shape == (n, h, c)
    assert (y == k).all()
    assert dy.shape == (k, c)
    y, _, dw, db = pulled(
        F.depthwise_conv2d, np.ones((n, h, 3, c)), np.ones((3, 3, c)), np.zeros(c)
    )
    assert y.shape == (n, h, 3, c)
    assert dw.shape == (3, 3, c)
    assert (db == n * h * 3).all()
    if n * h * k > 1:
        arrays = np.ones(shape), np.ones(c), np.full(c, 5.0)
        y, dx, _, db = pulled(F.batch_norm, *arrays)
        assert (y == 5).all()
        assert dx.shape == shape
        assert (db == n * h * k).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: F.max(np.ones((5, 0))), "max: x of shape (5, 0) is empty, and nothing has no max"),
        (lambda: F.max(np.ones((5, 0)), axis=1), "max: x of shape (5, 0) is empty"),
        (lambda: F.max(np.ones((0, 0)), axis=0), "max: x of shape (0, 0) is empty"),
        (lambda: F.mean(np.ones((0, 3)), axis=0), "mean: x of shape (0, 3) is empty"),
        (lambda: F.mean(np.ones((0, 3)), axis=(0, 1)), "mean: x of shape (0, 3) is empty"),
        (lambda: F.mean(np.ones(0)), "mean: x of shape (0,) is empty, and nothing has no mean"),
        (
            lambda: F.global_avg_pool(Tensor(np.ones((2, 0, 3, 4)))),
            "expected (2, h, w, C), h ≥ 1, w ≥ 1",
        ),
        (
            lambda: F.layer_norm(np.ones((2, 0)), np.ones(0), np.ones(0)),
            "layer_norm: x has shape (2, 0); expected (…, c), c ≥ 1",
        ),
        (
            lambda: F.conv2d(np.ones((1, 2, 2, 1)), np.ones((0, 1, 1, 1))),
            "conv2d: w has shape (0, 1, 1, 1); expected (k, l, K, D), k ≥ 1, l ≥ 1",
        ),
        (
            lambda: F.patchify(np.ones((1, 2, 2, 1)), np.ones((0, 0, 1, 1))),
            "patchify: w has shape (0, 0, 1, 1); expected (p, p, 1, D), p ≥ 1",
        ),
        (
            lambda: F.depthwise_conv2d(np.ones((1, 2, 2, 1)), np.ones((0, 0, 1))),
            "depthwise_conv2d: w has shape (0, 0, 1); expected (k, k, 1), k ≥ 1",
        ),
    ],
)
def test_what_nothing_has_not(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


@pytest.mark.parametrize("f", [F.max, F.mean])
def test_reductions_over_something_of_nothing(f):
    y, dx = pulled(lambda x: f(x, axis=1), np.ones((0, 3)))
    assert y.shape == (0,)
    assert dx.shape == (0, 3)
    y, dx = pulled(lambda x: f(x, axis=0, keepdims=True), np.ones((3, 0)))
    assert y.shape == (1, 0)


def test_dropout_at_its_edges():
    x = np.arange(4.0)
    rng = np.random.default_rng(0)
    y, dx = pulled(lambda t: F.dropout(t, p=0, rng=rng), x)
    assert y.tolist() == x.tolist()
    assert dx.tolist() == [1, 1, 1, 1]
    y, dx = pulled(lambda t: F.dropout(t, p=np.nextafter(1, 0), rng=rng), x)
    assert y.tolist() == dx.tolist() == [0, 0, 0, 0]
    assert pulled(lambda t: F.dropout(t, p=0.5, rng=rng), np.ones((0, 2)))[0].shape == (0, 2)


# ---- many numbers


@pytest.mark.parametrize("shape", [(1 << 18, 2), (1 << 10, 1 << 8, 2)])
def test_sums_of_many_lose_no_digits(shape):
    """Added one by one in float32, the numbers of 2¹⁸ rows of 0.1 are wrong in the third digit."""
    x, axes = np.full(shape, 0.1, np.float32), tuple(range(len(shape) - 1))
    n, tenth = 1 << 18, np.float32(0.1).astype(float)
    near = {"rtol": 1e-6}
    np.testing.assert_allclose(F.sum(x, axis=axes).array, n * tenth, **near)
    np.testing.assert_allclose(F.mean(x, axis=axes).array, tenth, **near)
    moved = x + np.float32([0, 1]) * (np.arange(shape[0]) % 2).reshape(-1, *[1] * len(axes))
    np.testing.assert_allclose(F.var(moved, axis=axes).array, [0, 0.25], rtol=1e-5, atol=1e-15)
    bias = Tensor(np.zeros(2, np.float32), requires_grad=True)
    (x + bias).backward(x)
    np.testing.assert_allclose(bias.grad, n * tenth, **near)
    one, zero = np.ones(2, np.float32), np.zeros(2, np.float32)
    gamma = Tensor(one, requires_grad=True)
    y = F.batch_norm(
        np.ones_like(x), gamma, zero, running_mean=zero, running_var=one, training=False, eps=0.0
    )
    y.backward(x)
    np.testing.assert_allclose(gamma.grad, n * tenth, **near)


@pytest.mark.parametrize(
    ("subscripts", "shapes"),
    [
        ("...i->i", [(1, 3)]),
        ("...i->i", [(2, 3)]),
        ("i...->i", [(3, 1)]),
        ("...->", [(1, 3)]),
        ("...i->", [(2, 1)]),
        ("...i,i->i", [(1, 3), (3,)]),
        ("...i,...i->i", [(1, 3), (4, 3)]),
        ("...i,...i->...", [(2, 1, 3), (4, 3)]),
        ("...i,i->i", [(5, 1), (3,)]),  # NumPy repeats letters of length 1
        ("...i,i->", [(5, 2, 1), (3,)]),
        ("...ij,j->ij", [(5, 2, 3), (3,)]),
    ],
)
def test_axes_that_einsum_sums_away_without_a_letter(subscripts, shapes):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape) for shape in shapes]
    y = np.einsum(subscripts, *arrays, optimize=True)
    g = rng.standard_normal(y.shape)
    tensors = [Tensor(a, requires_grad=True) for a in arrays]
    F.einsum(subscripts, *tensors).backward(g)
    for i, t in enumerate(tensors):
        for place in np.ndindex(t.shape):  # the function is linear in each of its arguments
            unit = np.zeros(t.shape)
            unit[place] = 1
            dy = np.einsum(subscripts, *arrays[:i], unit, *arrays[i + 1 :], optimize=True)
            assert t.grad[place] == pytest.approx((g * dy).sum(), abs=1e-12)
