"""What would corrupt a gradient is refused, and the message says what, where and why."""

import re

import numpy as np
import pytest

from minimix import AdamW, Parameter, Tensor, no_grad, op
from minimix import functional as F


def leaf(*values, dtype=np.float64):
    return Tensor(np.array(values, dtype), requires_grad=True)


def raises(kind, *parts):
    return pytest.raises(kind, match=".*".join(map(re.escape, parts)))


# ---- backward


def test_a_second_backward():
    x = leaf(1, 2)
    y = F.exp(x)
    y.backward(np.ones(2))
    with raises(RuntimeError, "backward has already passed through this exp", "forward pass again"):
        y.backward(np.ones(2))
    assert x.grad.tolist() == np.exp([1.0, 2.0]).tolist()


def test_a_second_backward_through_a_shared_part():
    x = leaf(1)
    shared = F.exp(x)
    a, b = shared * 2, shared * 3
    a.backward()
    before = x.grad.copy()
    with raises(RuntimeError, "already passed through this exp"):
        b.backward()
    assert np.array_equal(x.grad, before)


def test_backward_needs_a_gradient_of_the_same_shape():
    y = leaf(1, 2) * 2
    with raises(RuntimeError, "backward from shape (2,) needs a gradient"):
        y.backward()
    with raises(ValueError, "gradient has shape (3,), the tensor (2,)"):
        y.backward(np.ones(3))
    with raises(RuntimeError, "depends on nothing that requires_grad"):
        Tensor(np.ones(1)).backward()


# ---- changes in place


def test_assigning_an_array_between_forward_and_backward():
    x, y = leaf(1, 2), leaf(3, 4)
    z = x * y
    x.array = np.array([5.0, 6.0])
    with raises(RuntimeError, "multiply: argument 'x' was changed in place after the forward pass"):
        z.backward(np.ones(2))
    assert y.grad is None


def test_an_operator_in_place_on_the_array():
    x = leaf(1, 2)
    z = x * x
    x.array -= 1
    with raises(RuntimeError, "multiply: argument 'x' was changed in place"):
        z.backward(np.ones(2))


def test_an_optimizer_s_step_between_forward_and_backward():
    w = Parameter(np.ones((2, 2)))
    optimizer = AdamW([w])
    first, second = F.sum(F.linear(np.ones((1, 2)), w)), F.sum(F.linear(np.ones((1, 2)), w))
    first.backward()
    optimizer.step()
    with raises(RuntimeError, "linear: argument 'w' was changed in place"):
        second.backward()


def test_assigning_to_a_part():
    x = Tensor(np.array([1.0, 2.0]))
    y = leaf(3, 4)
    z = x * y
    x[0] = 9  # x is no leaf that wants a gradient, but y's gradient needs it
    with raises(RuntimeError, "multiply: argument 'x' was changed in place"):
        z.backward(np.ones(2))


def test_assigning_to_a_part_of_what_is_on_the_tape():
    x = leaf(1, 2)
    for t in (x, x * 2):
        with raises(RuntimeError, "would corrupt its gradients", "no_grad"):
            t[0] = 9
    with no_grad():
        x[0] = 9
    assert x.array.tolist() == [9, 2]
    x.backward(np.ones(2))  # a change before the forward pass is nobody's business


def test_changing_a_result_that_backward_needs():
    x = leaf(1, 2)
    y = F.exp(x)
    with no_grad():
        y[0] = 9
    with raises(RuntimeError, "exp: the result was changed in place"):
        y.backward(np.ones(2))


@pytest.mark.parametrize(
    "view",
    [
        lambda x: x.detach(),
        lambda x: x.reshape(2, 1),
        lambda x: x.transpose(),
        lambda x: x[:1],
        lambda x: x.detach()[:1].reshape(1, 1),
    ],
)
def test_changing_what_shares_memory(view):
    x = leaf(1, 2)
    z = x * x
    with no_grad():
        view(x)[...] = 9
    assert x.array[0] == 9
    with raises(RuntimeError, "argument 'x' was changed in place"):
        z.backward(np.ones(2))


def test_changing_a_copy_is_fine():
    x = leaf(1, 2)
    z = x * x
    with no_grad():
        (x * 1)[...] = 9
        x[[0]][...] = 9  # fancy indexing copies
        x.astype(np.float64)[...] = 9
    z.backward(np.ones(2))
    assert x.grad.tolist() == [2, 4]


def test_assigning_to_the_result_of_an_operation():
    y = leaf(1, 2) * 2
    with raises(RuntimeError, "the result of multiply; assigning to it would cut the tape"):
        y.array = np.zeros(2)


def test_assigning_another_shape():
    with raises(ValueError, "shape (3,)", "shape (2,)"):
        leaf(1, 2).array = np.zeros(3)


# ---- what an operation may return


def test_a_gradient_of_another_shape():
    @op
    def total(x, weight):
        return (x * weight).sum(), lambda g: (g * weight, g)

    with raises(
        RuntimeError, "total: the gradient of 'weight' is float64 of shape ()", "shape (2,)"
    ):
        total(leaf(1, 2), leaf(3, 4)).backward()
    with raises(
        RuntimeError, "total: the gradient of 'weight' is float64 of shape ()", "shape (1,)"
    ):
        total(leaf(1), leaf(3)).backward()


def test_a_gradient_of_another_dtype():
    @op
    def single(x):
        return x * 2, lambda g: (2 * g).astype(np.float32)

    with raises(RuntimeError, "single: the gradient of 'x' is float32 of shape (1,), not float64"):
        single(leaf(1)).backward()


def test_too_few_gradients():
    @op
    def add(x, y):
        return x + y, lambda g: g

    with raises(RuntimeError, "add: backward returned 1 gradients for 2 arguments"):
        add(leaf(1), leaf(2)).backward()


def test_a_gradient_that_does_not_exist():
    @op
    def add(x, y):
        return x + y, lambda g: (g, None)

    add(leaf(1), Tensor(np.ones(1))).backward()
    with raises(RuntimeError, "add has no gradient for its argument 'y'"):
        add(leaf(1), leaf(1)).backward()


def test_an_operation_returns_a_pair():
    @op
    def forgetful(x):
        return x * 2

    with raises(TypeError, "forgetful: returned a ndarray; expected (y, backward)", "x (2,)"):
        forgetful(leaf(1, 2))


def test_a_result_of_another_dtype():
    @op
    def half(x):
        return x.astype(np.float32), lambda g: g

    with raises(RuntimeError, "half: arguments of float64 gave a result of float32"):
        half(leaf(1))


# ---- NumPy's own complaints name the operation, the arguments and their shapes


@pytest.mark.parametrize(
    ("call", "kind", "parts"),
    [
        (lambda a, b: a + b, ValueError, ["add: ", "(2,3) (4,)", "x (2, 3), y (4,)"]),
        (lambda a, b: a @ b, ValueError, ["matmul: ", "(2, 3) and (4,) differ"]),
        (lambda a, b: a.reshape(4), ValueError, ["reshape: ", "size 6 into shape (4,)"]),
        (lambda a, b: a.transpose(0, 2), ValueError, ["transpose: axis 2", "x (2, 3)"]),
        (lambda a, b: a[5], IndexError, ["index: index 5", "size 2", "x (2, 3)"]),
        (lambda a, b: a[b], TypeError, ["index: at is a Tensor"]),
        (lambda a, b: a.sum(axis=2), ValueError, ["sum: axis 2", "dimension 2"]),
        (lambda a, b: a.sum(axis=[0]), TypeError, ["sum: ", "x (2, 3)"]),
        (
            lambda a, b: F.concatenate([a, b]),
            ValueError,
            ["concatenate: ", "argument 0 (2, 3), argument 1 (4,)"],
        ),
        (lambda a, b: F.concatenate([]), ValueError, ["concatenate: need at least one"]),
        (lambda a, b: F.add(a), TypeError, ["add: ", "'y'"]),
        (lambda a, b: F.add(a, b, z=1), TypeError, ["add", "'z'"]),
        (lambda a, b: F.linear(a, w=b, c=1), TypeError, ["linear: ", "'c'"]),
        (lambda a, b: F.add(a, "b"), TypeError, ["add: ", "not <U1 (given x (2, 3))"]),
    ],
)
def test_numpy_s_complaints(call, kind, parts):
    with raises(kind, *parts):
        call(Tensor(np.ones((2, 3))), Tensor(np.ones(4)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: F.add(), "add: missing a required argument: 'x' (given ())"),
        (lambda: F.add(np.ones(2)), "add: missing a required argument: 'y' (given x (2,))"),
        (lambda: F.add(y=np.ones(2)), "add: missing a required argument: 'x'"),
        (lambda: F.linear(np.ones(2)), "linear: missing a required argument: 'w' (given x (2,))"),
        (lambda: F.add(1, 2, 3), "add() takes 2 positional arguments but 3 were given"),
        (lambda: F.add(1, 2, x=3), "add() got multiple values for argument 'x'"),
        (lambda: F.reshape(np.ones(2)), "reshape() missing 1 required keyword-only argument"),
        (lambda: F.gelu(np.ones(2), aproximate="tanh"), "unexpected keyword argument 'aproximate'"),
        (lambda: F.linear(np.ones(2), bias=1), "linear: missing a required argument: 'w'"),
    ],
)
def test_arguments_that_are_missing_or_too_many(call, message):
    with pytest.raises(TypeError, match=re.escape(message)):
        call()


def test_the_cause_is_kept():
    with pytest.raises(ValueError, match="add") as caught:
        F.add(np.ones(2), np.ones(3))
    assert isinstance(caught.value.__cause__, ValueError)
