"""Tensors: what they hold, how they broadcast, and what can be asked of them."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from minimix import Tensor
from minimix import functional as F
from minimix.autograd import unbroadcast

# ---- what a tensor holds


@pytest.mark.parametrize(
    ("given", "dtype"),
    [
        (1.5, np.float32),
        (2, np.float32),
        (True, np.float32),
        ([1.5, 2.5], np.float32),
        ([[1, 2], [3, 4]], np.float32),
        (np.arange(3), np.float32),
        (np.ones(3, np.float16), np.float32),
        (np.ones(3, np.float32), np.float32),
        (np.ones(3, np.float64), np.float64),
        (np.ones(3, np.dtype(np.float32).newbyteorder()), np.float32),
        (np.full(3, 0.1, np.dtype(np.float64).newbyteorder()), np.float64),
        (np.float64(3), np.float64),
        (np.float32(3), np.float32),
    ],
)
def test_float32_unless_it_is_float64(given, dtype):
    t = Tensor(given)
    assert t.dtype == dtype
    assert isinstance(t.array, np.ndarray)
    assert t.dtype.isnative
    assert np.array_equal(t.array, given)


def test_float_arrays_are_kept_without_a_copy():
    for dtype in (np.float32, np.float64):
        array = np.ones(3, dtype)
        assert Tensor(array).array is array


@pytest.mark.parametrize("given", [1j, "one", [None], [{}]])
def test_what_is_no_number_is_refused(given):
    with pytest.raises(TypeError, match="a Tensor holds float32 or float64"):
        Tensor(given)
    with pytest.raises(TypeError, match="x is a Tensor already"):
        Tensor(Tensor(1.0))


def test_it_looks_like_what_it_is():
    assert repr(Tensor([1.0, 2.0])) == "Tensor([1. 2.], float32)"
    x = Tensor(np.ones(1), requires_grad=True)
    assert repr(x) == "Tensor([1.], float64, requires_grad=True)"
    assert repr(x * 2) == "Tensor([2.], float64, op=multiply)"


def test_it_is_printed_with_four_digits_and_not_endlessly():
    assert repr(Tensor([1 / 3, 2e5 / 3])) == "Tensor([3.3333e-01 6.6667e+04], float32)"
    assert repr(Tensor(np.float64(2 / 3))) == "Tensor(0.6667, float64)"
    assert repr(Tensor([[1.25, -2.0], [0.0, 10.0]])) == (
        "Tensor([[ 1.25 -2.  ]\n        [ 0.   10.  ]], float32)"
    )
    assert "..." not in repr(Tensor(np.arange(60.0)))
    assert "0.  1.  2. ... 58. 59. 60." in repr(Tensor(np.arange(61.0)))
    assert repr(Tensor([])) == "Tensor([], float32)"


def test_it_is_an_array_to_numpy():
    t = Tensor([[1.0, 2.0]])
    assert np.array_equal(np.asarray(t), t.array)
    assert np.asarray(t) is t.array
    assert np.asarray(t, np.float64).dtype == np.float64
    assert np.array(t) is not t.array
    np.testing.assert_allclose(t, [[1, 2]])
    assert t.numpy() is t.array


def test_numbers_length_and_iteration():
    t = Tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    assert len(t) == 2
    assert [row.array.tolist() for row in t] == [[1, 2], [3, 4]]
    assert float(t[1, 0]) == t[1, 0].item() == 3
    sum(t, Tensor([0.0, 0.0])).backward(np.array([1.0, 2.0]))
    assert t.grad.tolist() == [[1, 2], [1, 2]]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))])
def test_a_leaf_can_be_copied(copied):
    t = Tensor([1.0, 2.0], requires_grad=True)
    other = copied(t)
    assert other.requires_grad
    assert np.array_equal(other.array, t.array)
    assert not np.shares_memory(other.array, t.array)
    other.array = np.zeros(2)
    assert other.version == 1
    assert t.version == 0


def test_astype():
    t = Tensor([1.0], requires_grad=True)
    double = t.astype(np.float64)
    assert double.dtype == np.float64
    assert double.requires_grad
    assert double.is_leaf
    with pytest.raises(RuntimeError, match="result of multiply; astype would cut the tape"):
        (t * 2).astype(np.float64)
    assert (t * 2).detach().astype(np.float64).dtype == np.float64


# ---- operators


def test_operators_are_the_operations():
    a, b = np.array([4.0, 9.0]), np.array([2.0, 3.0])
    x, y = Tensor(a), Tensor(b)
    for got, expected in (
        (x + y, a + b),
        (x - y, a - b),
        (x * y, a * b),
        (x / y, a / b),
        (x**y, a**b),
        (-x, -a),
        (x @ y, a @ b),
        (2 + x, 2 + a),
        (2 - x, 2 - a),
        (2 * x, 2 * a),
        (2 / x, 2 / a),
        (2**x, 2**a),
        (b + x, b + a),
        (b - x, b - a),
        (b @ x, b @ a),
        (x.exp(), np.exp(a)),
        (x.log(), np.log(a)),
        (x.sqrt(), np.sqrt(a)),
        (x.tanh(), np.tanh(a)),
        (x.sum(), a.sum()),
        (x.mean(axis=0), a.mean()),
        (x.max(axis=-1, keepdims=True), [9]),
        (x.reshape(2, 1), a[:, None]),
        (x.reshape((1, -1)), a[None]),
        (x.reshape([2, 1]).transpose(), a[None]),
        (x.reshape(2, 1).transpose(1, 0), a[None]),
        (x.reshape(2, 1).transpose((1, 0)), a[None]),
        (x[::-1], a[::-1]),
    ):
        assert isinstance(got, Tensor)
        assert got.dtype == np.float64
        np.testing.assert_array_equal(got.array, expected)


# ---- dtypes


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_no_tensor_takes_the_tensor_s_dtype(dtype):
    x = Tensor(np.ones(2, dtype), requires_grad=True)
    for other in (2, 2.5, np.float64(2.5), np.arange(2), np.ones(2), [1.0, 2.0], np.ones(2, "f")):
        y = x * other
        assert y.dtype == dtype
        y.backward(np.ones(2))
        assert x.grad.dtype == dtype


def test_arrays_alone_keep_their_dtype():
    assert F.exp(np.ones(2)).dtype == np.float64
    assert F.exp(np.ones(2, np.float32)).dtype == np.float32
    assert F.exp([1.0, 2.0]).dtype == np.float32
    assert F.add(1, np.ones(2)).dtype == np.float64


def test_float32_and_float64_do_not_mix():
    x, y = Tensor(np.ones(2, np.float32)), Tensor(np.ones(2))
    with pytest.raises(TypeError, match=r"add: arguments of float32 and float64; convert one"):
        x + y


def test_the_array_function_stays_reachable():
    y, backward = F.exp.array(np.array([0.0, 1.0]))
    assert isinstance(y, np.ndarray)
    assert np.array_equal(backward(np.array([1.0, 2.0])), [1, 2 * np.exp(1)])


# ---- broadcasting


@given(npst.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=3))
def test_gradients_are_summed_over_what_was_broadcast(shapes):
    (left, right), out = shapes.input_shapes, shapes.result_shape
    rng = np.random.default_rng(0)
    x = Tensor(rng.integers(-5, 5, left).astype(float), requires_grad=True)
    y = Tensor(rng.integers(-5, 5, right).astype(float), requires_grad=True)
    g = rng.integers(-5, 5, out).astype(float)
    (x * y).backward(g)
    for mine, other in ((x, y), (y, x)):
        full = g * np.broadcast_to(other.array, out)
        expected = np.zeros(mine.shape)
        for place in np.ndindex(out):
            own = place[len(out) - mine.ndim :]
            expected[tuple(0 if n == 1 else i for i, n in zip(own, mine.shape, strict=True))] += (
                full[place]
            )
        assert mine.grad.shape == mine.shape
        assert np.array_equal(mine.grad, expected)


@given(st.data())
def test_unbroadcast_is_the_adjoint_of_broadcasting(data):
    shape = data.draw(npst.array_shapes(min_dims=0, max_dims=3, max_side=3))
    out = data.draw(npst.broadcastable_shapes(shape, max_dims=4, max_side=3))
    out = np.broadcast_shapes(shape, out)
    x = np.arange(np.prod(shape), dtype=float).reshape(shape) - 2
    g = np.arange(np.prod(out), dtype=float).reshape(out) - 3
    assert np.vdot(np.broadcast_to(x, out), g) == np.vdot(x, unbroadcast(g, shape))


# ---- changing values


def test_an_assigned_array_takes_its_place_and_keeps_the_dtype():
    t = Tensor(np.ones(2, np.float32))
    t.array = np.array([3.0, 4.0])
    assert t.dtype == np.float32
    assert t.array.tolist() == [3, 4]
    t.array = [5, 6]
    t.array += 1
    assert t.array.tolist() == [6, 7]
    assert t.dtype == np.float32
    assert t.version == 3


def test_a_part_is_assigned_from_numbers_arrays_and_tensors():
    t = Tensor(np.zeros((2, 2)))
    t[0] = [1, 2]
    t[1, 0] = np.float64(3)
    t[1, 1:] = Tensor([4.0])
    assert t.array.tolist() == [[1, 2], [3, 4]]
    assert t.version == 3


def test_a_gradient_may_be_sent_as_a_tensor_or_a_list():
    for gradient in (Tensor([1.0, 2.0]), [1, 2], np.array([1, 2])):
        x = Tensor(np.ones(2), requires_grad=True)
        (x * 3).backward(gradient)
        assert x.grad.tolist() == [3, 6]
        assert x.grad.dtype == np.float64
