"""Where NumPy would take the numbers of a tensor and leave its gradient behind: right, or refused.

"Right" is always the gradient of the same thing written with operations of minimix.functional.
"""

import numpy as np
import pytest

from minimix import Parameter, Tensor, no_grad, op
from minimix import functional as F

LOST = "would lose it as part of a NumPy array; use minimix.functional .concatenate.* .detach()"


def leaf(*values):
    return Tensor(np.array(values, float), requires_grad=True)


def number(value=2.0):
    return Tensor(np.float64(value), requires_grad=True)


# ---- tensors inside lists and arrays


@pytest.mark.parametrize(
    "call",
    [
        lambda x, w: x * [w, w],
        lambda x, w: [w, w] * x,
        lambda x, w: x @ [[w, 1.0], [1.0, w]],
        lambda x, w: x ** (w, 2.0),
        lambda x, w: x + np.array([w, w]),
        lambda x, w: F.linear(x, [[w, w], [w, w]]),
        lambda x, w: F.linear(x, np.eye(2), b=[w, w]),
        lambda x, w: F.concatenate([[w, w], x]),
        lambda x, w: Tensor([w, w]),
        lambda x, w: Tensor([[1.0, w], [w, 2.0]], requires_grad=True),
        lambda x, w: Parameter([w, w]),
        lambda x, w: np.array([w, w]),
        lambda x, w: np.asarray(x),
        lambda x, w: np.array(x, np.float32),
        lambda x, w: x.backward([w, w]),
        lambda x, w: x.backward(x),
    ],
)
def test_a_tensor_inside_a_list_is_refused_while_recording(call):
    for x in (leaf(1, 2), leaf(1, 2) * 1):
        with pytest.raises(TypeError, match=LOST):
            call(x, number())
        assert x.grad is None


def test_an_array_of_objects_is_refused():
    w = number()
    holder = np.empty(2, object)
    holder[0], holder[1] = [w], [w]
    for bad in (holder, np.array([{}, None]), np.array(["1", "2"]), np.array([1j, 2j])):
        with pytest.raises(TypeError, match="a Tensor holds float32 or float64, not "):
            leaf(1, 2) * bad
        with pytest.raises(TypeError, match="a Tensor holds float32 or float64, not "):
            Tensor(bad)
    for bad in ([None, 1.0], "2", [1j, 2]):
        with pytest.raises(TypeError, match="multiply: a Tensor holds float32 or float64, not "):
            leaf(1, 2) * bad


def test_what_requires_no_gradient_may_be_put_into_lists_and_arrays():
    c, x = Tensor(np.float64(3)), leaf(1, 2)
    y = x * [c, c]
    y.backward(np.ones(2))
    assert x.grad.tolist() == [3, 3]
    assert Tensor([c, c]).array.tolist() == [3, 3]
    assert np.array([c, c]).tolist() == [3, 3]
    with no_grad():
        assert Tensor([number(), number()]).array.tolist() == [2, 2]
        assert np.asarray(x) is x.array
    with pytest.raises(TypeError, match=LOST):
        np.asarray(x)


# ---- NumPy's functions


RIGHT = [  # NumPy's function, and the same in minimix
    (lambda x, a: np.exp(x), lambda x, a: x.exp()),
    (lambda x, a: np.log(x), lambda x, a: x.log()),
    (lambda x, a: np.sqrt(x), lambda x, a: x.sqrt()),
    (lambda x, a: np.tanh(x), lambda x, a: x.tanh()),
    (lambda x, a: np.negative(x), lambda x, a: -x),
    (lambda x, a: np.add(x, a), lambda x, a: x + a),
    (lambda x, a: np.subtract(a, x), lambda x, a: a - x),
    (lambda x, a: np.divide(a, x), lambda x, a: F.divide(a, x)),
    (lambda x, a: np.true_divide(a, x), lambda x, a: F.divide(a, x)),
    (lambda x, a: np.power(x, a), lambda x, a: F.power(x, a)),
    (lambda x, a: np.matmul(a, x), lambda x, a: F.matmul(a, x)),
    (lambda x, a: a + x, lambda x, a: F.add(a, x)),
    (lambda x, a: a - x, lambda x, a: F.subtract(a, x)),
    (lambda x, a: a * x, lambda x, a: F.multiply(a, x)),
    (lambda x, a: a / x, lambda x, a: F.divide(a, x)),
    (lambda x, a: a**x, lambda x, a: F.power(a, x)),
    (lambda x, a: a @ x, lambda x, a: F.matmul(a, x)),
    (lambda x, a: a[0] * x, lambda x, a: F.multiply(a[0], x)),  # a NumPy number
    (lambda x, a: np.float32(0.5) / x, lambda x, a: F.divide(0.5, x)),
    (lambda x, a: np.sum(x), lambda x, a: x.sum()),
    (lambda x, a: np.sum(x, axis=0, keepdims=True), lambda x, a: x.sum(axis=0, keepdims=True)),
    (lambda x, a: np.mean(x, axis=0), lambda x, a: x.mean(axis=0)),
    (lambda x, a: np.max(x), lambda x, a: x.max()),
    (lambda x, a: np.concatenate([x, a]), lambda x, a: F.concatenate([x, a])),
    (lambda x, a: np.concatenate((a, x), axis=-1), lambda x, a: F.concatenate([a, x], axis=-1)),
    (lambda x, a: np.concatenate([x[None], x[None]], 1), lambda x, a: F.concatenate([x, x])[None]),
    (lambda x, a: np.sum(x[None], 0, keepdims=True), lambda x, a: x[None]),
    (lambda x, a: np.mean(x, 0), lambda x, a: x.mean()),
    (lambda x, a: np.max(x, -1), lambda x, a: x.max()),
    (lambda x, a: np.transpose(x), lambda x, a: x.transpose()),
    (lambda x, a: np.transpose(x[None], (1, 0)), lambda x, a: x.reshape(2, 1)),
    (lambda x, a: np.reshape(x, (2, 1)), lambda x, a: x.reshape(2, 1)),
    (lambda x, a: np.abs(x - 3.5), lambda x, a: abs(x - 3.5)),
    (lambda x, a: np.maximum(a, x), lambda x, a: F.maximum(a, x)),
    (lambda x, a: np.minimum(a, x), lambda x, a: F.minimum(a, x)),
    (lambda x, a: np.clip(x, 0, 3.5), lambda x, a: F.clip(x, low=0, high=3.5)),
    (lambda x, a: np.clip(x, 3.5, None), lambda x, a: x.clip(3.5)),
    (lambda x, a: np.clip(x, None, a_max=a), lambda x, a: x.clip(high=a)),
    (lambda x, a: np.where([True, False], x, a), lambda x, a: F.where([1, 0], x, a)),
    (lambda x, a: np.where(x > 3, x, 1), lambda x, a: F.where(x > 3, x, 1)),
    (lambda x, a: np.stack([a, x]), lambda x, a: F.stack([a, x])),
    (lambda x, a: np.stack([a, x], axis=1), lambda x, a: F.stack([a, x], 1)),
    (lambda x, a: np.einsum("i,j", x, a), lambda x, a: F.einsum("i,j->ij", x, a)),
    (lambda x, a: np.var(x, ddof=1), lambda x, a: x.var(correction=1)),
    (lambda x, a: np.std(x, axis=0, keepdims=True), lambda x, a: x.std(0, 0, True)),
    (lambda x, a: np.min(x), lambda x, a: x.min()),
    (lambda x, a: np.amax(x), lambda x, a: x.max()),
    (lambda x, a: np.flip(x, 0), lambda x, a: x[::-1]),
    (lambda x, a: np.swapaxes(x[None], 0, -1), lambda x, a: x.unsqueeze(1)),
    (lambda x, a: np.expand_dims(x, (0, 2)), lambda x, a: x[None, :, None]),
    (lambda x, a: np.squeeze(x[None], axis=0), lambda x, a: x),
    (lambda x, a: np.broadcast_to(x, (3, 2)), lambda x, a: x.expand(3, -1)),
    (lambda x, a: np.ravel(x[None]), lambda x, a: x),
    (lambda x, a: np.pad(x, [(1, 0)]), lambda x, a: F.pad(x, width=[(1, 0)])),
    (lambda x, a: np.split(x, 2)[1], lambda x, a: x[1:]),
    (lambda x, a: np.split(x.expand(3, 2), [1, 1])[2], lambda x, a: x.expand(3, 2)[1:]),
    (lambda x, a: sum([x, x, a]), lambda x, a: x + x + a),
]
if np.lib.NumpyVersion(np.__version__) >= "2.1.0":  # which took the names of the array API
    RIGHT.append((lambda x, a: np.clip(x, min=3.5), lambda x, a: x.clip(3.5)))


@pytest.mark.parametrize(("numpy", "ours"), RIGHT)
def test_numpy_s_function_is_the_operation_of_the_same_name(numpy, ours):
    a, results = np.array([2.0, 5.0]), []
    for f in (numpy, ours):
        x = leaf(3, 4)
        y = f(x, a)
        assert isinstance(y, Tensor)
        y.backward(np.arange(1.0, 1 + y.size).reshape(y.shape))
        results.append((y.array.tolist(), y.node, x.grad.tolist()))
    assert results[0][0] == results[1][0]
    assert results[0][2] == results[1][2]


REFUSED = [
    lambda x, a: np.sin(x),
    lambda x, a: np.hypot(a, x),
    lambda x, a: a // x,
    lambda x, a: np.add.reduce(x),
    lambda x, a: np.add.outer(x, a),
    lambda x, a: np.add(a, x, out=a),
    lambda x, a: np.exp(x, where=a > 3, out=a),
    lambda x, a: np.vstack([x, x]),
    lambda x, a: np.tile(x, 2),
    lambda x, a: np.dot(x, a),
    lambda x, a: np.median(x),
    lambda x, a: np.linalg.norm(x),
    lambda x, a: np.cumsum(x),
    lambda x, a: np.copyto(a, x),
    lambda x, a: np.fill_diagonal(a.reshape(1, 2), x),
]


@pytest.mark.parametrize("call", REFUSED)
def test_numpy_s_other_functions_are_refused(call):
    for x in (leaf(3, 4), leaf(3, 4) * 1):
        a = np.array([2.0, 5.0])
        with pytest.raises(TypeError, match=LOST):
            call(x, a)
        assert a.tolist() == [2, 5]


@pytest.mark.parametrize("call", REFUSED)
def test_and_work_where_no_gradient_is_required(call):
    results = []
    for x in (Tensor(np.array([3.0, 4.0])), np.array([3.0, 4.0])):
        a = np.array([2.0, 5.0])
        y = call(x, a)
        assert not isinstance(y, Tensor)
        results.append((np.asarray(y).tolist(), a.tolist()))
    assert results[0] == results[1]


def test_a_numpy_function_with_options_that_the_operation_has_not():
    with pytest.raises(TypeError, match=r"sum.*'dtype'"):
        np.sum(leaf(1, 2), dtype=np.float32)
    with pytest.raises(TypeError, match=r"np\.exp cannot write into a Tensor"):
        np.exp(np.ones(2), out=leaf(1, 2))


def test_numpy_may_ask_what_has_no_gradient():
    x = leaf(1, np.inf)
    assert np.isfinite(x).tolist() == [True, False]
    assert np.less(x, 2).tolist() == [True, False]
    assert (np.array([1.0, 2.0]) == x).tolist() == [True, False]
    assert np.array_equal(x, x)
    assert np.array_equal(x * 1, x.array)
    assert not np.array_equal(x, [1, 2])
    assert np.array_equiv(x, x[None])
    assert np.allclose(x, [1, np.inf])
    assert np.isclose(x, 1).tolist() == [True, False]
    assert np.argmax(x) == 1
    assert np.argsort(x).tolist() == [0, 1]
    assert np.shape(x) == (2,)
    assert np.ndim(x) == 1
    assert not np.may_share_memory(np.ones(2), x.array)


# ---- numbers written into arrays and tensors


def test_writing_into_an_array():
    a, x, w = np.zeros(2), leaf(1, 2), number()
    for value in (x, x * 2, [w, w]):
        with pytest.raises(TypeError, match=LOST):
            a[:] = value
    with pytest.raises(TypeError, match=LOST):
        a += x
    assert a.tolist() == [0, 0]
    a += Tensor(np.array([1.0, 2.0]))
    assert isinstance(a, np.ndarray)
    assert a.tolist() == [1, 2]
    with no_grad():
        a[:] = leaf(5, 6)
    assert a.tolist() == [5, 6]
    a[0] = w  # one number for one place: NumPy asks for float(w), as a list of losses would
    assert a.tolist() == [2, 6]


def test_writing_into_a_tensor():
    t, x, w = Tensor(np.zeros(2)), leaf(1, 2), number()
    for value in (x, x * 2, [w, w]):
        with pytest.raises(TypeError, match=LOST):
            t[...] = value
        with pytest.raises(TypeError, match=LOST):
            t.array = value
    with pytest.raises(TypeError, match=LOST):
        t.array += x
    assert t.array.tolist() == [0, 0]
    assert t.version == 0
    with no_grad():
        t[...] = x
    assert t.array.tolist() == [1, 2]


def test_python_numbers_are_asked_for_by_name():
    w = number(2.7)
    assert float(w) == 2.7
    assert int(w) == 2
    assert w.item() == 2.7
    for ask in (float, int):
        with pytest.raises((TypeError, ValueError)):
            ask(leaf(1, 2))


# ---- options


@pytest.mark.parametrize(
    ("call", "option"),
    [
        (lambda x, w: x[w], "at"),
        (lambda x, w: x.sum(axis=w), "axis"),
        (lambda x, w: F.softmax(x, axis=w), "axis"),
        (lambda x, w: F.dropout(x, p=w, rng=np.random.default_rng(0)), "p"),
        (lambda x, w: F.layer_norm(x, np.ones(2), np.zeros(2), eps=w), "eps"),
        (lambda x, w: F.batch_norm(x, 1, 0, momentum=w), "momentum"),
        (lambda x, w: F.batch_norm(x, 1, 0, running_mean=x), "running_mean"),
        (lambda x, w: F.pad(x, width=w), "width"),
    ],
)
def test_an_option_is_no_tensor(call, option):
    message = f"{option} is a Tensor, but no gradient flows back through an option; give {option}"
    for w in (number(), Tensor(np.float64(1))):
        with pytest.raises(TypeError, match=message):
            call(leaf(1, 2), w)


def test_a_default_is_no_tensor_either():
    w = number(3)
    with pytest.raises(TypeError, match="scaled: by is a Tensor, but no gradient"):

        @op
        def scaled(x, *, by=w):
            return x * by, lambda g: g

    @op
    def product(x, y=w):  # an argument has its gradient, given or not
        return x * y, lambda g: (g * y, g * x)

    x = leaf(5)
    product(x).backward()
    assert w.grad == 5
    assert x.grad.tolist() == [3]


def test_a_tensor_that_an_operation_sees_from_outside():
    w = number()

    @op
    def scaled(x):
        return x * w, lambda g: g * w

    with pytest.raises(TypeError, match="x is a Tensor already"):
        scaled(leaf(1))


def test_arguments_may_be_named():
    x, w, b = leaf(1, 2), Tensor(np.eye(2), requires_grad=True), leaf(5, 6)
    F.linear(w=w, b=b, x=x).sum().backward()
    assert x.grad.tolist() == [1, 1]
    assert w.grad.tolist() == [[1, 1], [2, 2]]
    assert b.grad.tolist() == [1, 1]


def test_rows_of_a_tensor_are_tensors():
    x = Tensor(np.arange(4.0).reshape(2, 2), requires_grad=True)
    F.concatenate(x).backward(np.array([1.0, 2.0, 3.0, 4.0]))
    assert x.grad.tolist() == [[1, 2], [3, 4]]
    first, second = x
    (first * second).sum().backward()
    assert x.grad.tolist() == [[3, 5], [3, 5]]
