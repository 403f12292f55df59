"""Attention: known answers, its plain form, and einsum beside NumPy's."""

import itertools
import re

import numpy as np
import pytest

from minimix import Tensor
from minimix import functional as F


def plain(q, k, v):
    return F.softmax(q @ k.mT / np.sqrt(max(q.shape[-1], 1))) @ v


def gradients(f, *arrays, g=None):
    tensors = [Tensor(a, requires_grad=True) for a in arrays]
    y = f(*tensors)
    y.backward(np.cos(np.arange(y.size)).reshape(y.shape).astype(y.dtype) if g is None else g)
    return [y.array, *(t.grad for t in tensors)]


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-12), (np.float32, 2e-5)])
@pytest.mark.parametrize(
    ("lead", "t", "s", "d", "e"),
    [
        ((), 1, 1, 1, 1),
        ((), 5, 7, 3, 2),
        ((3,), 17, 17, 16, 16),
        ((2, 3), 65, 65, 32, 32),
        ((2, 1, 2), 9, 33, 40, 8),
        ((1,), 200, 130, 64, 64),
    ],
)
def test_attention_is_its_plain_form(lead, t, s, d, e, dtype, rtol, backend):
    rng = np.random.default_rng(0)
    shapes = (*lead, t, d), (*lead, s, d), (*lead, s, e)
    arrays = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    for one, other in zip(gradients(F.attention, *arrays), gradients(plain, *arrays), strict=True):
        assert one.dtype == dtype
        np.testing.assert_allclose(one, other, rtol=rtol, atol=rtol * np.abs(other).max())


def test_a_token_takes_all_from_the_one_that_it_asks_for(backend):
    q, k = 2000 * np.eye(3)[[2, 0]], np.eye(3)
    v = np.array([[1.0, 2], [3, 4], [5, 6]])
    y, dq, dk, dv = gradients(F.attention, q, k, v, g=np.array([[1.0, 10], [100, 1000]]))
    assert y.tolist() == [[5, 6], [1, 2]]
    assert dv.tolist() == [[100, 1000], [0, 0], [1, 10]]
    assert not dq.any()
    assert not dk.any()


def test_a_token_takes_the_mean_of_those_that_it_cannot_tell_apart(backend):
    q, k, v = np.zeros((1, 4)), np.ones((2, 4)), np.array([[1.0], [5]])
    y, dq, dk, dv = gradients(F.attention, q, k, v, g=np.array([[8.0]]))
    assert y.tolist() == [[3]]
    assert dv.tolist() == [[4], [4]]
    assert dq.tolist() == [[0, 0, 0, 0]]  # the keys are the same: to turn q changes nothing
    assert dk.tolist() == [[0, 0, 0, 0]] * 2  # q is 0
    k[1] = 0
    y, dq, dk, dv = gradients(F.attention, q, k, v, g=np.array([[8.0]]))
    # z = q kᵀ/2 are equal still; dz = p (g v − g y) = ½ (8 − 24), ½ (40 − 24)
    assert dq.tolist() == [[-4, -4, -4, -4]]


@pytest.mark.parametrize("backend_dtype", [np.float32, np.float64])
def test_attention_of_huge_and_of_equal_scores(backend_dtype, backend):
    q = np.full((2, 4), 1e18, backend_dtype)
    y, *_ = gradients(F.attention, q, q, q)
    np.testing.assert_allclose(y, q, rtol=1e-6)


@pytest.mark.parametrize(("n", "t", "s", "d", "e"), list(itertools.product([0, 2], repeat=5)))
def test_attention_of_nothing(n, t, s, d, e, backend):
    arrays = np.ones((n, t, d)), np.ones((n, s, d)), np.full((n, s, e), 5.0)
    y, *grads = gradients(F.attention, *arrays)
    assert y.shape == (n, t, e)
    assert (y == (5 if s else 0)).all()
    for array, gradient in zip(arrays, grads, strict=True):
        assert gradient.shape == array.shape
        assert np.isfinite(gradient).all()


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(4,), (4,), (4,)], "q has shape (4,); expected (…, T, D)"),
        ([(3, 4), (3, 5), (3, 4)], "k has shape (3, 5); expected (…, 3, 4)"),
        ([(3, 4), (5, 4), (3, 4)], "v has shape (3, 4); expected (…, 5, E)"),
        ([(2, 3, 4), (3, 4), (3, 4)], "k has shape (3, 4); expected (…, S, 4)"),
        ([(2, 3, 4), (2, 3, 4), (1, 3, 4)], "v has shape (1, 3, 4); expected (…, 3, E)"),
    ],
)
def test_shapes_that_do_not_fit(shapes, message):
    q, k, v = shapes
    message = f"attention: {message} (given q {q}, k {k}, v {v})"
    with pytest.raises(ValueError, match="^" + re.escape(message)):
        F.attention(*map(np.ones, shapes))


# ---- einsum


@pytest.mark.parametrize(
    ("subscripts", "shapes"),
    [
        ("ij, jk -> ik", [(2, 3), (3, 4)]),
        ("ij,jk", [(2, 3), (3, 4)]),
        ("ba", [(2, 3)]),
        ("i,i", [(3,), (3,)]),
        ("ii", [(3, 3)]),
        ("ii->i", [(3, 3)]),
        ("i,j->", [(2,), (3,)]),
        ("i,i,i->i", [(3,), (3,), (3,)]),
        ("...ij,...jk", [(2, 1, 2, 3), (4, 3, 2)]),
        ("i...,...i->...", [(3, 2, 4), (1, 3)]),
        ("i...i->...i", [(3, 2, 3)]),
        ("ij,jk->ik", [(2, 0), (0, 4)]),
        ("nij,njk->nik", [(0, 2, 3), (0, 3, 2)]),
        ("->", [()]),
    ],
)
def test_einsum_is_numpy_s_and_its_gradient_is_that_of_a_linear_map(subscripts, shapes):
    rng = np.random.default_rng(0)
    arrays = [rng.integers(-4, 5, shape).astype(float) for shape in shapes]
    expected = np.einsum(subscripts, *arrays)
    g = rng.integers(-4, 5, np.shape(expected)).astype(float)
    y, *grads = gradients(lambda *xs: F.einsum(subscripts, *xs), *arrays, g=g)
    assert y.tolist() == expected.tolist()
    for i, (array, gradient) in enumerate(zip(arrays, grads, strict=True)):
        assert gradient.shape == array.shape
        u = rng.integers(-4, 5, array.shape).astype(float)
        moved = np.einsum(subscripts, *arrays[:i], u, *arrays[i + 1 :])
        assert np.vdot(g, moved) == np.vdot(gradient, u)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: F.einsum("ij,jk", x), "einsum: .*operands.*"),
        (lambda x: F.einsum("ijk", x), r"einsum: .*argument 0 \(2, 3\)"),
        (lambda x: F.einsum("ij,ij->k", x, x), "einsum: .*character k"),
        (lambda x: F.einsum("ij,jk", x, x), r"einsum: .*argument 0 \(2, 3\), argument 1 \(2, 3\)"),
    ],
)
def test_letters_that_do_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.ones((2, 3)))
