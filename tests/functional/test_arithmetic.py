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
        (lambda: F.dropout(np.ones(2), p=1, rng=None), "dropout: p is 1; .* less than 1"),
        (lambda: F.gelu(np.ones(2), approximate="fast"), "gelu: approximate is 'fast'; .*'tanh'"),
    ],
)
def test_what_makes_no_sense(call, message):
    with pytest.raises(ValueError, match=message):
        call()
