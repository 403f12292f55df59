"""x += y and its like: in place where nothing is recorded; on the tape a new tensor, or refused."""

import copy

import numpy as np
import pytest

from minimix import Parameter, Tensor, no_grad
from minimix import functional as F


def leaf(*values):
    return Tensor(np.array(values, float), requires_grad=True)


def add(t, y):
    t += y
    return t


def subtract(t, y):
    t -= y
    return t


def multiply(t, y):
    t *= y
    return t


def divide(t, y):
    t /= y
    return t


def power(t, y):
    t **= y
    return t


EVERY = {
    "+": (add, [5, 8]),
    "-": (subtract, [1, 4]),
    "*": (multiply, [6, 12]),
    "/": (divide, [1.5, 3]),
    "**": (power, [9, 36]),
}
every = pytest.mark.parametrize(("change", "expected"), EVERY.values(), ids=EVERY.keys())


def test_the_first_loop_of_every_tutorial():
    x = np.array([[1.0], [2.0], [3.0]])
    w, b = Parameter(np.zeros((1, 1))), Parameter(np.zeros(1))
    for _ in range(500):
        loss = ((F.linear(x, w, b) - (3 * x + 1)) ** 2).mean()
        loss.backward()
        with no_grad():
            for p in (w, b):
                p -= 0.1 * p.grad
                p.zero_grad()
    assert w.array.item() == pytest.approx(3)
    assert b.array.item() == pytest.approx(1, abs=1e-4)


@every
@pytest.mark.parametrize("other", [2, np.array([2.0, 2.0]), Tensor(np.array([2.0, 2.0])), [2, 2]])
def test_a_leaf_in_no_grad(change, expected, other):
    x = leaf(3, 6)
    array, before = x.array, x.version
    with no_grad():
        assert change(x, other) is x
    assert x.array is array
    assert x.array.tolist() == expected
    assert x.version == before + 1
    assert x.requires_grad
    assert x.is_leaf


@every
def test_a_constant_while_recording(change, expected):
    x = Tensor(np.array([3.0, 6.0]))
    alias = x.detach()
    assert change(x, 2) is x
    assert alias.array.tolist() == expected
    assert alias.version == 1


@every
def test_a_leaf_while_recording(change, expected):
    x = leaf(3, 6)
    operator = next(name for name, (f, _) in EVERY.items() if f is change).replace("*", r"\*")
    operator = operator.replace("+", r"\+")
    for other in (2, leaf(2, 2)):
        with pytest.raises(RuntimeError, match=f"x {operator}= y: x is a leaf .* `with no_grad"):
            change(x, other)
    assert x.array.tolist() == [3, 6]
    assert x.version == 0


@every
def test_a_result_while_recording_is_a_new_tensor(change, expected):
    leaves = leaf(3, 6), leaf(3, 6)
    y = leaves[0] * 1
    z = change(y, 2)
    assert z is not y
    assert y.array.tolist() == [3, 6]
    assert z.array.tolist() == expected
    (y + z).backward(np.array([1.0, 10.0]))
    out_of_place = {add: F.add, subtract: F.subtract, multiply: F.multiply}
    out_of_place |= {divide: F.divide, power: F.power}
    (leaves[1] + out_of_place[change](leaves[1], 2)).backward(np.array([1.0, 10.0]))
    assert leaves[0].grad.tolist() == leaves[1].grad.tolist()


def test_a_sum_that_begins_with_a_constant():
    x, total = leaf(3), Tensor(np.zeros(1))
    begun = total
    for _ in range(3):
        total += x * x
    total.backward()
    assert x.grad.tolist() == [18]
    assert begun.array.tolist() == [0]


def test_what_backward_needs_is_noticed():
    x, w = leaf(3), Tensor(np.array([2.0]))
    y = x * w
    w += 1
    with pytest.raises(RuntimeError, match="multiply: argument 'y' was changed in place"):
        y.backward()
    y = F.exp(x)
    with no_grad():
        y *= 2
    with pytest.raises(RuntimeError, match="exp: the result was changed in place"):
        y.backward()


def test_a_part():
    x = leaf(1, 2, 3)
    with no_grad():
        x[1:] += 10
    assert x.array.tolist() == [1, 12, 13]
    assert x.version > 0
    with pytest.raises(RuntimeError, match="would corrupt its gradients"):
        x[1:] += 10
    assert x.array.tolist() == [1, 12, 13]


def test_a_result_that_does_not_fit():
    x = Tensor(np.ones(2))
    with pytest.raises(ValueError, match=r"x \+= y: x of shape \(2,\) cannot hold .* \(3, 2\)"):
        x += np.ones((3, 2))
    with pytest.raises(ValueError, match=r"x \*= y: .* cannot hold a result of shape \(1, 2\)"):
        x *= np.ones((1, 2))
    assert x.array.tolist() == [1, 1]


def test_the_dtype_stays():
    x = Tensor(np.ones(2, np.float32), requires_grad=True)
    with no_grad():
        x -= np.array([0.5, 0.25])
    assert x.dtype == np.float32
    with no_grad(), pytest.raises(TypeError, match="float32 and float64"):
        x -= Tensor(np.ones(2))


def test_a_matrix_product_in_place():
    x = Tensor(np.eye(2))
    with pytest.raises(TypeError, match="write x = x @ y"):
        x @= np.eye(2)


# ---- copies


def copies():
    import pickle

    return [
        pytest.param(copy.copy, id="copy"),
        pytest.param(copy.deepcopy, id="deepcopy"),
        pytest.param(lambda t: pickle.loads(pickle.dumps(t)), id="pickle"),
    ]


@pytest.mark.parametrize("copied", copies())
def test_a_result_cannot_be_copied(copied):
    y = leaf(3) * 2
    with pytest.raises(RuntimeError, match=r"result of multiply; only leaves can be copied"):
        copied(y)
    with pytest.raises(RuntimeError, match="result of multiply"):
        copied([y]) if copied is not copy.copy else copied(y)
    assert copied(y.detach()).array.tolist() == [6]


def test_a_copied_leaf_has_its_gradient_and_its_relations():
    x = Parameter(np.array([3.0]))
    (x * x).backward()
    same, view = x, x.detach()
    other, again, seen = copy.deepcopy([x, same, view])
    assert type(other) is Parameter
    assert other is again
    assert np.shares_memory(other.array, seen.array)
    assert other.grad.tolist() == [6]
    assert not np.shares_memory(other.grad, x.grad)
    with no_grad():
        seen[...] = 1
    assert other.array.tolist() == [1]
    assert other.version == 1
    assert x.version == 0
    (other * 2).backward()
    assert other.grad.tolist() == [8]
    assert x.grad.tolist() == [6]


def test_a_shallow_copy_of_a_leaf_shares_its_numbers():
    x = leaf(3)
    other = copy.copy(x)
    y = x * x
    with no_grad():
        other += 1
    assert x.array.tolist() == [4]
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward()
