"""Normalization: statistics by hand, running statistics as PyTorch keeps them, messages."""

import re

import numpy as np
import pytest

from minimix import Tensor, no_grad
from minimix import functional as F

ONE, ZERO = np.ones(2), np.zeros(2)


def test_batch_norm_by_hand(backend):
    x = np.array([[1.0, 10.0], [3.0, 10.0], [5.0, 40.0], [7.0, 40.0]])  # means 4, 25; var 5, 225
    y = F.batch_norm(x, np.array([2.0, 3.0]), np.array([100.0, 200.0]), eps=0).array
    np.testing.assert_allclose(y[:, 0], 100 + 2 * np.array([-3, -1, 1, 3]) / np.sqrt(5))
    np.testing.assert_allclose(y[:, 1], [197, 197, 203, 203])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kept", [np.float32, np.float64])
def test_running_statistics_move_towards_the_batch_s(dtype, kept, backend):
    x = np.array([[1, 10], [3, 10], [5, 40], [7, 40]], dtype).reshape(2, 1, 2, 2)
    mean, var = np.array([10.0, 20.0], kept), np.array([30.0, 40.0], kept)
    before = mean, var
    F.batch_norm(
        Tensor(x),
        ONE.astype(dtype),
        ZERO.astype(dtype),
        running_mean=mean,
        running_var=var,
        momentum=0.25,
    )
    assert before[0] is mean
    assert mean.dtype == var.dtype == kept
    np.testing.assert_allclose(mean, [0.75 * 10 + 0.25 * 4, 0.75 * 20 + 0.25 * 25], rtol=1e-6)
    np.testing.assert_allclose(var, [0.75 * 30 + 0.25 * 20 / 3, 0.75 * 40 + 0.25 * 300], rtol=1e-6)


def test_running_statistics_move_without_recording_too():
    mean, var = np.zeros(2), np.ones(2)
    with no_grad():
        F.batch_norm(np.ones((4, 2)), ONE, ZERO, running_mean=mean, running_var=var)
    assert mean.tolist() == [0.1, 0.1]
    assert var.tolist() == [0.9, 0.9]


def test_evaluation_uses_running_statistics_and_leaves_them_alone(backend):
    mean, var = np.array([1.0, 2.0]), np.array([4.0, 9.0])
    x = Tensor(np.array([[3.0, 8.0]]), requires_grad=True)
    y = F.batch_norm(
        x, np.array([1.0, 10.0]), ZERO, running_mean=mean, running_var=var, training=False, eps=0
    )
    assert y.array.tolist() == [[1, 20]]
    assert mean.tolist() == [1, 2]
    assert var.tolist() == [4, 9]
    mean[:], var[:] = 0, 1  # a later training step must not reach back into this tape
    y.backward(np.array([[1.0, 1.0]]))
    np.testing.assert_allclose(x.grad, [[1 / 2, 10 / 3]])


def test_a_large_mean_does_not_drown_the_variance(backend):
    x = 1e4 + np.random.default_rng(0).standard_normal((4096, 3)).astype(np.float32)
    y = F.batch_norm(Tensor(x), np.ones(3), np.zeros(3)).array
    np.testing.assert_allclose(y.std(axis=0), 1, rtol=1e-3)


def test_an_empty_batch_in_evaluation(backend):
    x = Tensor(np.zeros((0, 3, 3, 2)), requires_grad=True)
    gamma = Tensor(ONE, requires_grad=True)
    y = F.batch_norm(
        x, gamma, ZERO, running_mean=np.zeros(2), running_var=np.ones(2), training=False
    )
    y.backward(np.zeros(y.shape))
    assert x.grad.shape == (0, 3, 3, 2)
    assert gamma.grad.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        ((4, 3), {}, "batch_norm: gamma has shape (2,); expected (3,)"),
        ((), {}, "batch_norm: x has shape (); expected (…, C)"),
        (
            (1, 2),
            {},
            "batch_norm: 1 value a channel in x of shape (1, 2); training needs at least 2",
        ),
        ((0, 2), {}, "batch_norm: 0 value a channel in x of shape (0, 2); training needs"),
        ((4, 2), {"training": False}, "batch_norm: evaluation needs running_mean and running_var"),
        ((4, 2), {"running_var": ONE}, "batch_norm: running_mean and running_var go together"),
        (
            (4, 2),
            {"running_mean": np.ones(1), "running_var": ONE, "training": False},
            "batch_norm: running_mean has shape (1,); expected (2,)",
        ),
    ],
)
def test_batch_norm_s_messages(x, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        F.batch_norm(np.ones(x), ONE, ZERO, **options)


def test_layer_norm_by_hand():
    y = F.layer_norm(np.array([[1.0, 3.0], [10.0, 40.0]]), np.array([2.0, 3.0]), ZERO + 5, eps=0)
    assert y.array.tolist() == [[3, 8], [3, 8]]


def test_layer_norm_s_messages():
    message = re.escape("layer_norm: gamma has shape (2,); expected (3,)")
    with pytest.raises(ValueError, match=message):
        F.layer_norm(np.ones((4, 3)), ONE, ZERO)
    with pytest.raises(ValueError, match=r"layer_norm: x has shape \(\); .*c ≥ 1"):
        F.layer_norm(1.0, ONE, ZERO)
