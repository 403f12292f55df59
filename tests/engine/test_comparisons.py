"""Truth, comparison, membership and identity: as NumPy and PyTorch have them."""

import operator

import numpy as np
import pytest

from minimix import Parameter, Tensor
from minimix.autograd import is_recording

VALUES = np.array([[1.0, np.nan], [3.0, -0.0]])


@pytest.mark.parametrize(
    "compare",
    [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge],
)
@pytest.mark.parametrize(
    "other", [1, 3.0, np.float64(0), np.array([1.0, 0.0]), [[3.0], [0.0]], VALUES, VALUES + 1]
)
@pytest.mark.parametrize("requires_grad", [False, True])
def test_comparisons_are_numpy_s(compare, other, requires_grad):
    t = Tensor(VALUES, requires_grad=requires_grad)
    others = [other, Tensor(np.asarray(other, float), requires_grad=True)]
    for one in others:
        for got, expected in (
            (compare(t, one), compare(VALUES, np.asarray(other))),
            (compare(one, t), compare(np.asarray(other), VALUES)),
        ):
            assert isinstance(got, np.ndarray)
            assert got.dtype == bool
            assert np.array_equal(got, expected)
    assert is_recording()


def test_one_number_can_be_asked():
    t = Tensor(3.0)
    assert t == 3
    assert bool(t != 3) is False
    assert t > 2
    assert 2 < t <= 3
    assert sorted([Tensor(2.0), Tensor(1.0)])[0] == 1
    assert max(Tensor(2.0), Tensor(5.0)) == 5


def test_other_shapes_and_other_things():
    with pytest.raises(ValueError, match="broadcast"):
        operator.eq(Tensor([1.0, 2.0]), Tensor([1.0, 2.0, 3.0]))
    for thing in (None, "one", {}):
        assert bool(Tensor(1.0) == thing) is False
        assert (Tensor([1.0]) != thing).all()
    with pytest.raises(TypeError):
        operator.lt(Tensor(1.0), "one")


@pytest.mark.parametrize(
    ("value", "truth"),
    [(0, False), (-0.0, False), (2, True), (np.nan, True), ([0.0], False), ([[1.0]], True)],
)
def test_the_truth_of_one_number(value, truth):
    assert bool(Tensor(value)) is truth
    assert bool(Tensor(value, requires_grad=True)) is truth


@pytest.mark.parametrize("shape", [(2,), (0,), (1, 2), (3, 0)])
def test_many_numbers_are_neither_true_nor_false(shape):
    with pytest.raises(ValueError, match="neither true nor false; compare it and use"):
        bool(Tensor(np.ones(shape)))


def test_membership():
    for t in (Tensor(VALUES), Tensor(VALUES, requires_grad=True), Tensor(VALUES) * 1):
        assert 3 in t
        assert Tensor(3.0) in t
        assert 4 not in t
        assert np.nan not in t
    assert 1 not in Tensor(np.ones(0))
    assert 1 in Tensor(1.0)


def test_identity_is_what_is_hashed():
    """Sets and dicts ask == only of equal hashes, and no two living objects share an identity."""
    tensors = [Tensor(np.ones(2)) for _ in range(1000)]
    parameters = [Parameter(np.ones(2)) for _ in range(1000)]
    every = tensors + parameters
    assert len({hash(t) for t in every}) == len(every)
    assert len(set(every)) == len(every)
    assert {t: i for i, t in enumerate(every)}[every[700]] == 700
    assert Tensor(np.ones(2)) not in set(every)


def test_length_and_iteration_of_one_number():
    t = Tensor(3.0)
    with pytest.raises(TypeError, match="unsized"):
        len(t)
    with pytest.raises(TypeError, match="unsized"):
        iter(t)
    with pytest.raises(IndexError, match="index: too many indices"):
        t[0]
    with pytest.raises(TypeError):
        [10, 20][Tensor(1.0)]
    assert list(Tensor(np.ones((0, 3)))) == []


def test_python_numbers():
    assert int(Tensor([2.9])) == 2
    assert float(Tensor([[2.5]])) == 2.5
    with pytest.raises(ValueError, match="size 1"):
        float(Tensor([1.0, 2.0]))
    with pytest.raises(ValueError, match="size 1"):
        int(Tensor([1.0, 2.0]))
