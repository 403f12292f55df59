"""Convolutions against plain loops, and against each other."""

import itertools
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minimix import Tensor, kernels
from minimix import functional as F


def integers(*shape, seed=0):
    return np.random.default_rng(seed).integers(-5, 6, shape).astype(float)


def results(f, *arrays):
    """f's result and all gradients, for the same gradient of the result each time."""
    tensors = [Tensor(a, requires_grad=True) for a in arrays]
    y = f(*tensors)
    y.backward(integers(*y.shape, seed=9))
    return [y.array, *(t.grad for t in tensors)]


def assert_same(one, other):
    """Small integers multiply and add without rounding, in any order."""
    for a, b in zip(one, other, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def by_loops(x, w, b, g, *, stride=1, before=(0, 0), after=(0, 0), dilation=1, groups=1):
    """conv2d and its gradients, one product at a time."""
    x = np.pad(x, ((0, 0), (before[0], after[0]), (before[1], after[1]), (0, 0)))
    (n, height, width, _), (k, l, c, d) = x.shape, w.shape
    h, v = ((s - dilation * (m - 1) - 1) // stride + 1 for s, m in ((height, k), (width, l)))
    y, dx, dw = np.zeros((n, h, v, d)), np.zeros_like(x), np.zeros_like(w)
    for m, r, s, o in itertools.product(range(n), range(h), range(v), range(d)):
        y[m, r, s, o] = b[o]
        for i, j, q in itertools.product(range(k), range(l), range(c)):
            at = m, stride * r + dilation * i, stride * s + dilation * j, o // (d // groups) * c + q
            y[m, r, s, o] += x[at] * w[i, j, q, o]
            dx[at] += g(y.shape)[m, r, s, o] * w[i, j, q, o]
            dw[i, j, q, o] += g(y.shape)[m, r, s, o] * x[at]
    inside = (slice(before[i], dx.shape[i + 1] - after[i]) for i in (0, 1))
    return [y, dx[:, *inside], dw, g(y.shape).sum(axis=(0, 1, 2))]


@settings(max_examples=40)
@given(
    k=st.integers(1, 3),
    l=st.integers(1, 3),
    stride=st.integers(1, 3),
    padding=st.one_of(st.integers(0, 2), st.sampled_from(["same", "valid"])),
    dilation=st.integers(1, 2),
    groups=st.integers(1, 2),
    channels=st.integers(1, 2),
    size=st.tuples(st.integers(0, 2), st.integers(0, 2)),
)
def test_conv2d_against_loops(k, l, stride, padding, dilation, groups, channels, size):
    stride = 1 if padding == "same" else stride
    total = [dilation * (m - 1) for m in (k, l)]
    if padding == "same":
        before = [t // 2 for t in total]
        after = [t - t // 2 for t in total]
    else:
        before = after = [0 if padding == "valid" else padding] * 2
    height, width = (
        max(t + s + 1 - p - q, 1) for t, s, p, q in zip(total, size, before, after, strict=True)
    )
    x = integers(2, height, width, groups * channels)
    w, b = integers(k, l, channels, 2 * groups, seed=1), integers(2 * groups, seed=2)
    options = {"stride": stride, "dilation": dilation, "groups": groups}
    memo = {}

    def g(shape):
        return memo.setdefault(shape, integers(*shape, seed=9))

    assert_same(
        results(lambda x, w, b: F.conv2d(x, w, b, padding=padding, **options), x, w, b),
        by_loops(x, w, b, g, before=before, after=after, **options),
    )


@given(
    k=st.integers(1, 5),
    h=st.integers(1, 4),
    v=st.integers(1, 4),
    c=st.integers(1, 3),
    n=st.integers(1, 2),
)
def test_depthwise_is_conv2d_with_a_group_a_channel(k, h, v, c, n):
    x, w, b = integers(n, h, v, c), integers(k, k, c, seed=1), integers(c, seed=2)

    def grouped(x, w, b):
        return F.conv2d(x, w.reshape(k, k, 1, c), b, padding="same", groups=c)

    expected = results(grouped, x, w, b)
    for backend in ("numpy", None):  # None: the one in force
        with kernels.backend(backend or kernels.backend_name()):
            assert_same(results(F.depthwise_conv2d, x, w, b), expected)


@given(
    p=st.integers(1, 4),
    h=st.integers(1, 3),
    v=st.integers(1, 3),
    c=st.integers(1, 3),
    d=st.integers(1, 3),
)
def test_patchify_is_conv2d_that_strides_by_its_kernel(p, h, v, c, d):
    x, w, b = integers(2, h * p, v * p, c), integers(p, p, c, d, seed=1), integers(d, seed=2)

    def strided(x, w, b):
        return F.conv2d(x, w, b, stride=p)

    assert_same(results(F.patchify, x, w, b), results(strided, x, w, b))


@given(h=st.integers(1, 3), v=st.integers(1, 3), c=st.integers(1, 4), d=st.integers(1, 4))
def test_pointwise_is_conv2d_with_a_kernel_of_one_and_linear_at_every_pixel(h, v, c, d):
    x, w, b = integers(2, h, v, c), integers(c, d, seed=1), integers(d, seed=2)

    def conv2d(x, w, b):
        return F.conv2d(x, w.reshape(1, 1, c, d), b)

    got = results(F.pointwise_conv2d, x, w, b)
    assert_same(got, results(conv2d, x, w, b))
    assert_same(got, results(F.linear, x, w, b))


# ---- known answers


def test_an_even_kernel_looks_further_ahead(backend):
    """ "same" with k = 4: one zero before, two after, as PyTorch pads."""
    x = np.array([1.0, 2.0, 3.0]).reshape(1, 1, 3, 1)
    w = np.zeros((4, 4, 1))
    w[1, :, 0] = [1000, 100, 10, 1]
    y = F.depthwise_conv2d(x, w)
    assert y.array.ravel().tolist() == [123, 1230, 2300]


def test_a_convolution_does_not_flip_its_kernel(backend):
    x = np.zeros((1, 3, 3, 1))
    x[0, 1, 1] = 1
    w = np.arange(9.0).reshape(3, 3, 1)
    assert F.depthwise_conv2d(x, w).array[0, :, :, 0].tolist() == w[::-1, ::-1, 0].tolist()


def test_a_patch_is_read_row_by_row():
    x = np.arange(16.0).reshape(1, 4, 4, 1)
    w = np.array([1000.0, 100.0, 10.0, 1.0]).reshape(2, 2, 1, 1)
    y = F.patchify(x, w).array[0, :, :, 0]
    assert y.tolist() == [[0 + 100 + 40 + 5, 2000 + 300 + 60 + 7], [8000 + 900 + 120 + 13, 11255]]


# ---- batches of nothing


@pytest.mark.parametrize(
    ("f", "image", "others"),
    [
        (F.linear, (0, 4), [(4, 3), (3,)]),
        (F.pointwise_conv2d, (0, 2, 2, 4), [(4, 3), (3,)]),
        (F.depthwise_conv2d, (0, 3, 3, 2), [(3, 3, 2), (2,)]),
        (F.patchify, (0, 4, 4, 3), [(2, 2, 3, 5), (5,)]),
        (F.conv2d, (0, 4, 4, 2), [(3, 3, 2, 5), (5,)]),
    ],
)
def test_an_empty_batch_has_zero_gradients(f, image, others, backend):
    y, dx, *parameters = results(f, np.zeros(image), *map(np.ones, others))
    assert len(y) == 0
    assert dx.shape == image
    for gradient, shape in zip(parameters, others, strict=True):
        np.testing.assert_array_equal(gradient, np.zeros(shape))


# ---- messages


@pytest.mark.parametrize(
    ("f", "shapes", "message"),
    [
        (F.linear, [(2, 3), (4, 5)], "linear: w has shape (4, 5); expected (3, C)"),
        (F.linear, [(2, 3), (3, 5), (4,)], "linear: b has shape (4,); expected (5,)"),
        (F.linear, [(), (3, 5)], "linear: x has shape (); expected (…, K)"),
        (
            F.pointwise_conv2d,
            [(2, 3), (3, 5)],
            "pointwise_conv2d: x has shape (2, 3); expected (N, H, W, K)",
        ),
        (
            F.depthwise_conv2d,
            [(1, 4, 4, 3), (3, 3, 4)],
            "depthwise_conv2d: w has shape (3, 3, 4); expected (3, 3, 3)",
        ),
        (
            F.depthwise_conv2d,
            [(1, 4, 4, 3), (3, 2, 3)],
            "depthwise_conv2d: w has shape (3, 2, 3); expected (3, 3, 3)",
        ),
        (F.depthwise_conv2d, [(4, 4, 3), (3, 3, 3)], "depthwise_conv2d: x has shape (4, 4, 3)"),
        (
            F.patchify,
            [(1, 33, 32, 3), (2, 2, 3, 8)],
            "patchify: an image of 33×32 is not divisible into patches of 2×2",
        ),
        (
            F.patchify,
            [(1, 4, 4, 1), (2, 2, 3, 8)],
            "patchify: w has shape (2, 2, 3, 8); expected (2, 2, 1, D)",
        ),
        (F.patchify, [(1, 4, 4, 3), (2, 1, 3, 8)], "patchify: w has shape (2, 1, 3, 8); expected"),
        (F.conv2d, [(1, 4, 4, 3), (3, 3, 4, 8)], "conv2d: x has 3 channels in 1 groups, but w of"),
        (F.conv2d, [(1, 2, 4, 3), (3, 3, 3, 8)], "conv2d: a kernel of 3×3 with dilation 1 is larg"),
    ],
)
def test_shapes_that_do_not_fit(f, shapes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        f(*map(np.ones, shapes))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stride": 0}, "conv2d: stride is 0; expected 1, 2, …"),
        ({"dilation": 1.5}, "conv2d: dilation is 1.5; expected"),
        ({"groups": -1}, "conv2d: groups is -1; expected"),
        ({"padding": -1}, "conv2d: padding is -1; it can be 'same', 'valid' or 0, 1, 2, …"),
        ({"padding": (1, 1)}, "conv2d: padding is (1, 1); it can be"),
        ({"padding": "full"}, "conv2d: padding is 'full'; it can be"),
        ({"padding": "same", "stride": 2}, "conv2d: padding 'same' needs stride 1, not 2"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        F.conv2d(np.ones((1, 4, 4, 1)), np.ones((1, 1, 1, 1)), **options)


CONVOLUTIONS = [
    (F.linear, (2, 3), (3, 4)),
    (F.pointwise_conv2d, (1, 2, 2, 3), (3, 4)),
    (F.depthwise_conv2d, (1, 5, 5, 4), (3, 3, 4)),
    (F.patchify, (1, 4, 4, 3), (2, 2, 3, 4)),
    (F.conv2d, (1, 4, 4, 3), (3, 3, 3, 4)),
]


@pytest.mark.parametrize(("f", "x", "w"), CONVOLUTIONS)
def test_without_a_bias(f, x, w):
    x, w = integers(*x), integers(*w, seed=1)
    assert_same(results(f, x, w), results(f, x, w, np.zeros(4))[:-1])


@pytest.mark.parametrize("shape", [(), (1,), (3,), (1, 4), (4, 1)])
@pytest.mark.parametrize(("f", "x", "w"), CONVOLUTIONS)
def test_a_bias_is_one_number_a_channel_even_if_another_would_broadcast(f, x, w, shape):
    message = re.escape(f"{f.__name__}: b has shape {shape}; expected (4,)")
    with pytest.raises(ValueError, match=message):
        f(np.ones(x), np.ones(w), np.ones(shape))


def test_a_kernel_that_is_too_large_for_an_image_that_is_not_square():
    message = "a kernel of 2×5 with dilation 2 is larger than the padded image of 7×8"
    with pytest.raises(ValueError, match=message):
        F.conv2d(np.ones((1, 5, 6, 1)), np.ones((2, 5, 1, 1)), padding=1, dilation=2)
