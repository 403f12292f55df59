"""Cross-entropy and pooling: by hand, at the edges, and what is refused."""

import math
import re

import numpy as np
import pytest

from minimix import Tensor
from minimix import functional as F

LOGITS = np.log([[1.0, 2.0, 5.0], [4.0, 4.0, 8.0]])  # softmax: eighths, and ¼ ¼ ½


def loss_and_gradient(logits, targets, **options):
    x = Tensor(logits, requires_grad=True)
    loss = F.cross_entropy(x, targets, **options)
    assert loss.shape == ()
    loss.backward()
    return loss.item(), x.grad


def test_by_hand():
    loss, gradient = loss_and_gradient(LOGITS, np.array([2, 0]))
    assert loss == pytest.approx(-(math.log(5 / 8) + math.log(1 / 4)) / 2)
    np.testing.assert_allclose(gradient, [[1 / 16, 2 / 16, -3 / 16], [-3 / 8, 1 / 8, 2 / 8]])


@pytest.mark.parametrize("kind", [np.int64, np.uint8, np.int32, list])
def test_labels_of_any_integer_kind(kind):
    labels = [2, 0] if kind is list else np.array([2, 0], kind)
    assert loss_and_gradient(LOGITS, labels)[0] == loss_and_gradient(LOGITS, np.array([2, 0]))[0]


def test_integers_are_one_hot_rows():
    rows = np.array([[0, 0, 1], [1, 0, 0]])
    for targets in (rows, rows.astype(float), Tensor(rows.astype(float))):
        for options in ({}, {"label_smoothing": 0.3}):
            loss, gradient = loss_and_gradient(LOGITS, targets, **options)
            expected, slope = loss_and_gradient(LOGITS, np.array([2, 0]), **options)
            assert loss == pytest.approx(expected, rel=1e-14)
            np.testing.assert_allclose(gradient, slope, rtol=1e-12)


def test_label_smoothing_by_hand():
    loss, _ = loss_and_gradient(LOGITS[:1], np.array([2]), label_smoothing=0.3)
    logs = [math.log(1 / 8), math.log(2 / 8), math.log(5 / 8)]
    assert loss == pytest.approx(-(0.1 * logs[0] + 0.1 * logs[1] + 0.8 * logs[2]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_logits_of_ten_thousand(dtype, label_smoothing):
    logits = np.array([[1e4, -1e4, 0], [-1e4, 1e4, 1e4]], dtype)
    loss, gradient = loss_and_gradient(logits, np.array([1, 1]), label_smoothing=label_smoothing)
    e = label_smoothing / 3
    first = (1 - 2 * e) * 2e4 + e * 1e4
    second = math.log(2) + e * 2e4
    assert loss == pytest.approx((first + second) / 2, rel=1e-6)
    assert gradient.dtype == dtype
    expected = [[1 - e, -1 + 2 * e, -e], [-e, 0.5 - 1 + 2 * e, 0.5 - e]]
    np.testing.assert_allclose(gradient, np.array(expected) / 2, atol=1e-6)


def test_what_is_not_a_number_is_not_hidden():
    with np.errstate(invalid="ignore"):
        assert math.isnan(F.cross_entropy(np.array([[1.0, np.nan]]), np.array([0])).item())


@pytest.mark.parametrize(
    ("logits", "targets", "options", "message"),
    [
        ((2, 3), [0, 3], {}, "cross_entropy: label 3 is out of range for 3 classes"),
        ((2, 3), [-1, 0], {}, "cross_entropy: label -1 is out of range for 3 classes"),
        ((2, 3), [0, 1, 2], {}, "2 logits of 3 classes, targets int64 (3,)"),
        ((2, 3), [0.0, 1.0], {}, "targets float64 (2,); expected (2,) integers or (2, 3) prob"),
        ((2, 3), np.ones((3, 2)), {}, "2 logits of 3 classes, targets float64 (3, 2)"),
        ((3,), [0], {}, "cross_entropy: logits has shape (3,); expected (n, k)"),
        ((2, 3), [0, 1], {"label_smoothing": 1.5}, "label_smoothing is 1.5; expected 0 ≤"),
        (
            (0, 3),
            np.zeros(0, int),
            {},
            "cross_entropy: logits has shape (0, 3); expected (n, k), n ≥ 1, k ≥ 1",
        ),
    ],
)
def test_what_is_refused(logits, targets, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        F.cross_entropy(Tensor(np.ones(logits)), targets, **options)


def test_global_average_pool():
    x = Tensor(np.arange(12.0).reshape(1, 2, 3, 2), requires_grad=True)
    y = F.global_avg_pool(x)
    assert y.array.tolist() == [[5, 6]]
    y.backward(np.array([[6.0, 12.0]]))
    np.testing.assert_allclose(x.grad, np.tile([1.0, 2.0], (1, 2, 3, 1)))
    message = re.escape("global_avg_pool: x has shape (2, 3); expected (N, h, w, C)")
    with pytest.raises(ValueError, match=message):
        F.global_avg_pool(Tensor(np.ones((2, 3))))
