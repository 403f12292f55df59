"""Arithmetic, reductions and shapes: known answers, corners and messages."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minimix import Tensor
from minimix import functional as F


def leaf(values):
    return Tensor(np.array(values, float), requires_grad=True)


def pulled(y, g, *leaves):
    y.backward(np.array(g, float))
    return [t.grad.tolist() for t in leaves]


def test_known_answers():
    x, y = leaf([1, 2, 4]), leaf([3, -5, 2])
    g = [1, 10, 100]
    assert pulled(x + y, g, x, y) == [g, g]
    x, y = leaf([1, 2, 4]), leaf([3, -5, 2])
    assert pulled(x - y, g, x, y) == [g, [-1, -10, -100]]
    x, y = leaf([1, 2, 4]), leaf([3, -5, 2])
    assert pulled(x * y, g, x, y) == [[3, -50, 200], [1, 20, 400]]
    x, y = leaf([1, 2, 4]), leaf([1, -2, 2])
    assert pulled(x / y, g, x, y) == [[1, -5, 50], [-1, -5, -100]]
    x = leaf([1, 2, 4])
    assert pulled(x**3, g, x) == [[3, 120, 4800]]
    x = leaf([1, 4, 16])
    assert pulled(x.sqrt(), g, x) == [[0.5, 2.5, 12.5]]


def test_a_power_at_zero():
    x = leaf([0, 0, 0, 2])
    y = x ** np.array([0.0, 1.0, 2.0, 0.0])
    assert y.array.tolist() == [1, 0, 0, 1]
    assert pulled(y, [1, 1, 1, 1], x) == [[0, 1, 0, 0]]


def test_a_negative_number_to_a_whole_power():
    x = leaf([-2, -3])
    assert pulled(x**2, [1, 1], x) == [[-4, -6]]


@given(
    st.lists(st.integers(1, 3), max_size=2),
    st.lists(st.integers(1, 3), max_size=2),
    *[st.integers(0, 3)] * 3,
    st.booleans(),
    st.booleans(),
)
def test_matmul_multiplies_and_has_gradients_of_its_arguments_shapes(a, b, m, k, n, row, column):
    """Against one sum of products an entry; leading axes of length 1 or equal."""
    lead = [max(p, q) for p, q in zip(reversed(a), reversed(b), strict=False)]
    a = [p if i >= len(lead) or p == lead[i] else 1 for i, p in enumerate(reversed(a))][::-1]
    b = [p if i >= len(lead) or p == lead[i] else 1 for i, p in enumerate(reversed(b))][::-1]
    rng = np.random.default_rng(0)
    x = leaf(rng.integers(-4, 5, (k,) if row else (*a, m, k)))
    y = leaf(rng.integers(-4, 5, (k,) if column else (*b, k, n)))
    z = x @ y
    assert np.array_equal(z.array, x.array @ y.array)
    g = rng.integers(-4, 5, z.shape).astype(float)
    z.backward(g)
    # ⟨g, dx y⟩ = ⟨gradient of x, dx⟩ for every dx, and so for y
    dx, dy = rng.integers(-4, 5, x.shape), rng.integers(-4, 5, y.shape)
    assert np.vdot(g, dx @ y.array) == np.vdot(x.grad, dx)
    assert np.vdot(g, x.array @ dy) == np.vdot(y.grad, dy)


@pytest.mark.parametrize(
    ("left", "right"), [((2, 3), (2, 3)), ((2, 3), (4,)), ((), (3,)), ((3,), ()), ((4,), (3, 2))]
)
def test_matmul_of_shapes_that_do_not_fit(left, right):
    message = "^" + re.escape(f"matmul: inner lengths of shapes {left} and {right} differ") + "$"
    with pytest.raises(ValueError, match=message):
        F.matmul(np.ones(left), np.ones(right))


# ---- reductions


def test_reductions_by_hand():
    values = [[1, 5, 2], [7, 3, 3]]
    x = leaf(values)
    assert pulled(x.sum(axis=0), [1, 10, 100], x) == [[[1, 10, 100], [1, 10, 100]]]
    x = leaf(values)
    assert pulled(x.mean(axis=-1), [3, 30], x) == [[[1, 1, 1], [10, 10, 10]]]
    x = leaf(values)
    assert pulled(x.max(axis=1, keepdims=True), [[1], [10]], x) == [[[0, 1, 0], [10, 0, 0]]]
    x = leaf(values)
    assert pulled(x.max(), 6, x) == [[[0, 0, 0], [6, 0, 0]]]


def test_max_shares_among_equals():
    x = leaf([2, 5, 5, 1, 5])
    assert pulled(x.max(), 6, x) == [[0, 2, 2, 0, 2]]


@pytest.mark.parametrize("name", ["sum", "mean", "max"])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", [None, 0, -1, (0, 2), (-1, -3), (0, 1, 2), ()])
def test_reductions_reduce_as_numpy_does(name, axis, keepdims):
    values = np.random.default_rng(0).integers(-9, 9, (2, 4, 3)).astype(float)
    x = leaf(values)
    y = getattr(F, name)(x, axis=axis, keepdims=keepdims)
    expected = getattr(values, name)(axis=axis, keepdims=keepdims)
    assert y.shape == np.shape(expected)
    assert np.array_equal(y.array, expected)
    y.backward(np.ones(y.shape))
    reduced = values.size // y.size
    assert x.grad.sum() == pytest.approx(y.size * (reduced if name == "sum" else 1))


def test_reductions_of_a_single_number():
    for name in ("sum", "mean", "max"):
        x = leaf(3)
        assert pulled(getattr(F, name)(x), 2, x) == [2]


def test_an_empty_sum():
    x = leaf(np.zeros((0, 3)))
    y = x.sum(axis=0)
    assert y.array.tolist() == [0, 0, 0]
    y.backward(np.ones(3))
    assert x.grad.shape == (0, 3)


# ---- shape


def test_shapes_by_hand():
    x = leaf([[1, 2, 3], [4, 5, 6]])
    assert pulled(x.reshape(3, -1), [[1, 2], [3, 4], [5, 6]], x) == [[[1, 2, 3], [4, 5, 6]]]
    x = leaf([[1, 2, 3], [4, 5, 6]])
    assert pulled(x.transpose(), [[1, 2], [3, 4], [5, 6]], x) == [[[1, 3, 5], [2, 4, 6]]]
    x = leaf([1, 2])
    y = F.pad(x, width=[(1, 2)])
    assert y.array.tolist() == [0, 1, 2, 0, 0]
    assert pulled(y, [1, 2, 3, 4, 5], x) == [[2, 3]]


@pytest.mark.parametrize(
    "at",
    [
        0,
        -1,
        np.int64(1),
        slice(None, None, -1),
        slice(2, 1),
        (slice(None), 0),
        (..., None, 1),
        (0, -1),
        [2, 0, 2],
        np.array([[0, 1], [2, 2]]),
        ([0, 0, 1], [1, 1, 0]),
        ([[0], [2]], [0, 1]),
        (slice(None), [0, 0]),
        np.array([True, False, True]),
        np.eye(3, 2, dtype=bool),
        True,
        (),
    ],
)
def test_indexing_reads_and_adds_back(at):
    values = np.arange(6.0).reshape(3, 2)
    x = leaf(values)
    y = x[at]
    assert np.array_equal(y.array, values[at])
    g = np.arange(1.0, y.size + 1).reshape(y.shape)
    y.backward(g)
    expected = np.zeros(6)
    places = np.arange(6).reshape(3, 2)[at]
    for place, share in zip(np.ravel(places), g.ravel(), strict=True):
        expected[place] += share
    assert np.array_equal(x.grad, expected.reshape(3, 2))


@pytest.mark.parametrize("wrap", [lambda at: at, lambda at: (at,), lambda at: (at, slice(None))])
def test_an_index_that_is_changed_before_backward(wrap):
    for at in (np.array([2, 0]), [2, 0], np.array([True, False, True])):
        x = leaf(np.arange(6).reshape(3, 2))
        y = x[wrap(at)]
        at[0], at[1] = at[1], at[0]
        y.backward(np.array([[1.0, 2.0], [3.0, 4.0]]))
        first, last = (0, 1) if np.asarray(at).dtype == bool else (1, 0)
        assert x.grad[[0, 2]][[first, last]].tolist() == [[1, 2], [3, 4]]
        assert x.grad[1].tolist() == [0, 0]


def test_transpose_takes_axes_counted_from_the_end():
    x, g = leaf(np.zeros((2, 3, 4))), np.arange(24.0).reshape(4, 2, 3)
    F.transpose(x, axes=(-1, 0, -2)).backward(g)
    assert np.array_equal(x.grad, g.transpose(1, 2, 0))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_concatenate_cuts_where_it_joined(axis):
    shapes = [(2, 3), (1, 3), (2, 3)] if axis == 0 else [(2, 3), (2, 1), (2, 0)]
    xs = [leaf(np.full(shape, i)) for i, shape in enumerate(shapes)]
    y = F.concatenate(xs, axis=axis)
    assert np.array_equal(y.array, np.concatenate([x.array for x in xs], axis=axis))
    y.backward(y.array * 10)
    for i, x in enumerate(xs):
        assert np.array_equal(x.grad, np.full(x.shape, 10.0 * i))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: F.concatenate([np.ones(2)], axis=None), r"concatenate: axis is None; expected an"),
        (lambda: F.pad(np.ones((2, 3)), width=[(1, 1)]), r"pad: 1 pairs of widths .* of 2 axes"),
        (lambda: F.pad(np.ones(2), width=[(-1, 0)]), r"pad: .*negative.* x \(2,\)"),
        (lambda: F.transpose(np.ones((2, 3)), axes=(0, 0)), r"transpose: repeated axis"),
        (lambda: F.dropout(np.ones(2), p=1, rng=None), "dropout: p is 1; expected 0 ≤ p < 1"),
        (lambda: F.gelu(np.ones(2), approximate="fast"), "gelu: approximate is 'fast'; .*'tanh'"),
    ],
)
def test_what_makes_no_sense(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ---- choosing


def test_choices_by_hand():
    x, y = leaf([1, 5, 2]), leaf([3, 4, 2])
    assert F.maximum(x, y).array.tolist() == [3, 5, 2]
    assert pulled(F.maximum(x, y), [2, 20, 200], x, y) == [[0, 20, 100], [2, 0, 100]]
    x, y = leaf([1, 5, 2]), leaf([3, 4, 2])
    assert F.minimum(x, y).array.tolist() == [1, 4, 2]
    assert pulled(F.minimum(x, y), [2, 20, 200], x, y) == [[2, 0, 100], [0, 20, 100]]
    x, y = leaf([np.nan, np.nan]), leaf([1, np.nan])
    assert pulled(F.maximum(x, y), [2, 20], x, y) == [[2, 10], [0, 10]]
    x = leaf([-3, 0, 2])
    assert abs(x).array.tolist() == [3, 0, 2]
    assert pulled(abs(x), [1, 10, 100], x) == [[-1, 0, 100]]
    x = leaf([-3, 0, 2])
    assert x.clip(-1, 1).array.tolist() == [-1, 0, 1]
    assert pulled(x.clip(high=1), [1, 10, 100], x) == [[1, 10, 0]]
    x = leaf([[1, 2], [3, 4]])
    assert pulled(x.clip(low=np.array([2, 2])), [[1, 10], [100, 1000]], x) == [
        [[0, 10], [100, 1000]]
    ]
    x, y = leaf([1, 2]), leaf(7)
    z = F.where(np.array([[True, False], [False, False]]), x, y)
    assert z.array.tolist() == [[1, 7], [7, 7]]
    assert pulled(z, [[1, 10], [100, 1000]], x, y) == [[1, 0], 1110]


def test_a_condition_has_no_gradient():
    x = leaf([1, 2])
    with pytest.raises(RuntimeError, match="where has no gradient for its argument 'condition'"):
        F.where(x, x, 0).sum().backward()


def test_spreads_by_hand():
    x = leaf([1, 3, 5, 7])
    assert x.var().item() == 5
    assert pulled(x.var(), 2, x) == [[-3, -1, 1, 3]]
    x = leaf([[1, 3], [5, 5]])
    assert x.std(axis=1, correction=1).array.tolist() == [np.sqrt(2), 0]
    x = leaf([2, 10])
    assert pulled(x.std(), 2, x) == [[-1, 1]]
    for name in ("var", "std"):
        message = (
            r"x of shape \(2, 1\) has 1 numbers to a variance; with correction 1 it takes more"
        )
        with pytest.raises(ValueError, match=message):
            getattr(F, name)(np.ones((2, 1)), axis=1, correction=1)
        with pytest.raises(ValueError, match=r"has 0 numbers"):
            getattr(F, name)(np.ones((3, 0)), axis=1)
        assert getattr(F, name)(np.ones((0, 3)), axis=1).shape == (0,)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_numbers_have_no_spread(dtype):
    x = Tensor(np.full((3, 1000), 3.3, dtype), requires_grad=True)
    y = x.std(axis=1)
    y.backward(np.ones(3, dtype))
    np.testing.assert_allclose(y.array, 0, atol=1e-6)


def test_the_smallest_by_hand():
    x = leaf([[4, 1, 1], [3, 5, 9]])
    assert x.min(axis=1).array.tolist() == [1, 3]
    assert pulled(x.min(axis=1), [2, 7], x) == [[[0, 1, 1], [7, 0, 0]]]


# ---- more shapes


def test_more_shapes_by_hand():
    values = np.arange(24.0).reshape(2, 3, 4)
    x = leaf(values)
    for y, expected in (
        (x.T, values.T),
        (x.mT, values.swapaxes(1, 2)),
        (x.swapaxes(0, -1), values.swapaxes(0, 2)),
        (x.flatten(), values.ravel()),
        (x.flatten(1), values.reshape(2, 12)),
        (x.flatten(0, -2), values.reshape(6, 4)),
        (x.unsqueeze(-1), values[..., None]),
        (x.unsqueeze((0, -1)), values[None, ..., None]),
        (x.unsqueeze(1).squeeze(1), values),
        (x[:, None, :1].squeeze(), values[:, 0]),
        (x[:1].expand(5, -1, 4), np.repeat(values[:1], 5, axis=0)),
        (x.expand(2, -1, -1, -1), np.stack([values, values])),
        (x.flip(), values[::-1, ::-1, ::-1]),
        (x.flip((0, -1)), values[::-1, :, ::-1]),
        (F.stack(list(x), axis=-1), np.stack(list(values), axis=-1)),
        (F.concatenate(x.split((1, 0, 2), axis=1), axis=1), values),
        (F.stack(x.unbind(-1), axis=-1), values),
    ):
        assert np.array_equal(y.array, expected)
        x.grad = None
        y.backward(y.array * 10)
        counts = np.bincount(y.array.astype(int).ravel(), minlength=24).reshape(x.shape)
        assert np.array_equal(x.grad, counts * values * 10)
    assert np.array_equal(x.split(3, axis=1)[1].array, values[:, 1:2])
    assert [part.shape for part in x.split([2, 0, 2], -1)] == [(2, 3, 2), (2, 3, 0), (2, 3, 2)]
    assert [part.shape for part in np.split(x, [1, 1], -1)] == [(2, 3, 1), (2, 3, 0), (2, 3, 3)]
    assert leaf(7).flatten().shape == (1,)
    assert leaf(7).squeeze().shape == leaf(7).T.shape == ()
    assert leaf(7).unsqueeze(0).shape == (1,)
    assert leaf(np.ones((0, 3))).flatten().shape == (0,)
    assert leaf(np.ones((2, 0))).split(2, axis=1)[1].shape == (2, 0)
    assert leaf(np.ones((0, 2))).unbind() == ()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: x.split(2), r"split: axis 0 of shape \(3, 1\) cannot be cut into 2 equal parts"),
        (lambda x: x.split(0), r"split: axis 0 of shape \(3, 1\) cannot be cut into 0 equal parts"),
        (lambda x: x.split([2, 2]), r"split: axis 0 .* cannot be cut into parts of \[2, 2\]"),
        (lambda x: x.split([4, -1]), r"split: axis 0 .* cannot be cut into parts of \[4, -1\]"),
        (lambda x: np.split(x, [2, 1]), r"split: axis 0 .* into parts of \[2, -1, 2\]"),
        (lambda x: x.split(1, axis=2), "split: axis 2 is out of bounds"),
        (lambda x: x.unbind(2), "unbind: axis 2 is out of bounds"),
        (lambda x: x.squeeze(0), r"squeeze: axis 0 of shape \(3, 1\) is not of length 1"),
        (lambda x: x.squeeze(2), "squeeze: axis 2 is out of bounds"),
        (lambda x: x.unsqueeze(3), "unsqueeze: axis 3 is out of bounds"),
        (lambda x: x.flatten(2), "flatten: axis 2 is out of bounds"),
        (lambda x: x.swapaxes(0, 2), "swapaxes: axis 2 is out of bounds"),
        (lambda x: x[:, 0].mT, "swapaxes: axis -2 is out of bounds"),
        (lambda x: x.flip(2), "flip: axis 2 is out of bounds"),
        (lambda x: x.expand(2, 4), r"broadcast_to: .*x \(3, 1\)"),
        (lambda x: x.expand(-1, 3, 1), r"broadcast_to: .*x \(3, 1\)"),
        (lambda x: F.stack([x, x[:2]]), r"stack: .*argument 0 \(3, 1\), argument 1 \(2, 1\)"),
        (lambda x: F.stack([]), "stack: need at least one array"),
        (lambda x: x.clip(low=np.ones(2)[:, None]), r"clip: .*x \(3, 1\)"),
        (lambda x: F.maximum(x, np.ones((2, 1))), r"maximum: .*x \(3, 1\), y \(2, 1\)"),
    ],
)
def test_shapes_that_make_no_sense(call, message):
    with pytest.raises(ValueError, match=message):
        call(leaf(np.ones((3, 1))))
