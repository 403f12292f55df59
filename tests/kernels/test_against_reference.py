"""Every compiled kernel against its twin in NumPy, over awkward shapes."""

import inspect

import numpy as np
import pytest
from back_ends import KERNELS, compiled
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from minimix import kernels
from minimix.kernels.reference.conv import result_size

DTYPES = [np.float32, np.float64]
TOLERANCE = {np.float32: 1e-5, np.float64: 1e-12}


def draw(shape, dtype, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def positive(shape, dtype, seed=0):
    return np.abs(draw(shape, dtype, seed)) + dtype(0.5)


def close(mine, truth, dtype, slack=1):
    """Largest difference, as a share of the largest value."""
    assert mine.dtype == dtype
    assert mine.shape == truth.shape
    if truth.size:
        error = np.abs(mine - truth).max() / max(np.abs(truth).max(), 1)
        assert error < slack * TOLERANCE[dtype], error


def agree(name, *arrays_and_options, dtype, slack=1, **how):
    """The compiled kernel against the reference, which computes in float64."""
    mine = getattr(compiled, name)(*arrays_and_options, **how)
    truth = reference(name, *_in_float64(arrays_and_options), **how)
    for a, b in zip(_tuple(mine), _tuple(truth), strict=True):
        close(a, b, dtype, slack)


def reference(name, *arguments, **how):
    with kernels.backend("numpy"):
        return KERNELS[name](*arguments, **how)


def _in_float64(values):
    return tuple(
        v.astype(np.float64)
        if isinstance(v, np.ndarray)
        else _in_float64(v)
        if isinstance(v, tuple)
        else v
        for v in values
    )


def _tuple(value):
    return value if isinstance(value, tuple) else (value,)


@pytest.mark.parametrize("name", KERNELS)
def test_both_back_ends_have_the_same_arguments(name):
    mine = inspect.signature(getattr(compiled, name)).parameters
    assert list(mine) == list(inspect.signature(KERNELS[name]).parameters)


# ---- elementwise

SIZES = [(), (0,), (1,), (7,), (8,), (33,), (3, 5, 7), (20_000,)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SIZES, ids=str)
def test_activations(shape, dtype):
    x = 3 * draw(shape, dtype)
    g = draw(shape, dtype, 1)
    agree("relu", x, dtype=dtype)
    agree("relu_backward", x, g, dtype=dtype)
    agree("gelu", x, dtype=dtype)
    agree("gelu_tanh", x, dtype=dtype)
    agree("gelu_backward", x, g, dtype=dtype)
    agree("gelu_tanh_backward", x, g, dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_adamw_update(dtype):
    mine = [[positive((size,), dtype, seed) for seed in range(4)] for size in (1, 9, 70_000, 40)]
    truth = [[a.astype(np.float64) for a in arrays] for arrays in mine]
    for step in (1, 2):  # the last tensor joined later
        for f, tensors in ((compiled.adamw_update, mine), (kernels.adamw_update.reference, truth)):
            times = (step + 4, step + 4, step + 4, step)
            moved = [(*arrays, t) for arrays, t in zip(tensors, times, strict=True)]
            f(moved, 1e-2, 0.9, 0.99, 1e-8, 0.1)
    for arrays, true in zip(mine, truth, strict=True):
        for a, b in zip(arrays, true, strict=True):
            close(a, b, dtype)


def test_adamw_update_writes_into_arrays_that_are_not_contiguous():
    p, g, m, v = (positive((6, 10), np.float32, seed) for seed in range(4))
    straight = [a[:, ::2].copy() for a in (p, g, m, v)]
    every_other = [a[:, ::2] for a in (p, g, m, v)]
    for arrays in (every_other, straight):
        compiled.adamw_update([(*arrays, 1)], 0.1, 0.9, 0.9, 1e-8, 0.0)
    for a, b in zip((p, m, v), (straight[0], straight[2], straight[3]), strict=True):
        np.testing.assert_allclose(a[:, ::2], b, rtol=1e-6)


def test_adamw_update_of_unlike_tensors():
    """Both dtypes at once, an empty one, and gradients that may not be written."""
    mine = [
        [positive(shape, dtype, seed) for seed in range(4)]
        for shape, dtype in (((3, 5), np.float32), ((0, 2), np.float32), ((4,), np.float64))
    ]
    truth = [[a.astype(np.float64) for a in arrays] for arrays in mine]
    for _, g, *_ in mine:
        g.flags.writeable = False
    for f, tensors in ((compiled.adamw_update, mine), (kernels.adamw_update.reference, truth)):
        f([(*arrays, 3) for arrays in tensors], 1e-2, 0.9, 0.99, 1e-8, 0.1)
    for arrays, true in zip(mine, truth, strict=True):
        for a, b in zip(arrays, true, strict=True):
            close(a, b, arrays[0].dtype.type)


# ---- rows

ROWS = [(1, 1), (2, 3), (95, 8), (96, 17), (97, 33), (300, 16)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("m", "c"), ROWS)
def test_rows(m, c, dtype):
    x, g = draw((m, c), dtype), draw((m, c), dtype, 1)
    mean, rstd, gamma, beta = (positive((c,), dtype, seed) for seed in range(4))
    agree("channel_sum", x, dtype=dtype)
    agree("channel_moments", x, dtype=dtype)
    agree("normalize", x, mean, rstd, gamma, beta, dtype=dtype)
    agree("normalize_relu", x, mean, rstd, gamma, beta, dtype=dtype)
    agree("normalize_relu", x, mean, rstd, gamma, beta, g, dtype=dtype)
    agree("batch_norm_sums", x, g, mean, rstd, dtype=dtype)
    agree("batch_norm_dx", x, g, (mean, rstd, gamma, *draw((2, c), dtype, 7)), dtype=dtype)
    y, added = reference("relu", draw((m, c), dtype, 5)), draw((m, c), dtype, 6)
    agree("relu_norm_sums", x, y, g, mean, rstd, dtype=dtype)
    agree("relu_norm_sums", x, y, g, mean, rstd, added, dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("m", "c"), [*ROWS, (5, 700)])
def test_over_each_row(m, c, dtype):
    x, g = 3 * draw((m, c), dtype), draw((m, c), dtype, 1)
    gamma, beta = draw((c,), dtype, 2), draw((c,), dtype, 3)
    y = reference("softmax", x)
    agree("softmax", x, dtype=dtype)
    agree("softmax_backward", y, g, dtype=dtype)
    agree("layer_norm", x + 5, gamma, beta, 1e-5, dtype=dtype)
    agree("layer_norm_backward", x + 5, g, gamma, 1e-5, dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shift", [1e3, -1e6])
def test_rows_far_from_zero(shift, dtype):
    """Numbers that scatter little around a large one; softmax where exp would overflow."""
    x = (np.arange(37 * 9) % 8 + shift).reshape(9, 37).astype(dtype)
    ones = np.ones(37, dtype)
    agree("softmax", x, dtype=dtype)
    agree("layer_norm", x, ones, ones, 1e-5, dtype=dtype)
    agree("layer_norm_backward", x, draw(x.shape, dtype), ones, 1e-5, dtype=dtype)


@pytest.mark.parametrize("backend", kernels.BACKENDS)
@pytest.mark.parametrize("mean", [0, 10, 1000, 1e5])
@pytest.mark.parametrize("outlier", [None, 0, 5, 96 * 3, 499])  # 0, 288: the first row of a chunk
def test_moments_lose_no_digits(mean, outlier, backend):
    x = (mean + draw((500, 20), np.float64)).astype(np.float32)
    if outlier is not None:
        x[outlier] = 1e6
    exact = x.astype(np.float64)
    with kernels.backend(backend):
        mine, var = kernels.channel_moments(x)
    np.testing.assert_allclose(mine, exact.mean(axis=0), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(var, exact.var(axis=0), rtol=1e-6)


@pytest.mark.parametrize("backend", kernels.BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [3.3, 0.1, -12345.678, 1e-30, 1e30, 0.0])
def test_a_constant_channel_has_no_variance(value, dtype, backend):
    x = np.full((1001, 3), value, dtype)
    with kernels.backend(backend):
        mean, var = kernels.channel_moments(x)
    np.testing.assert_array_equal(mean, x[0])
    np.testing.assert_array_equal(var, np.zeros(3))


@pytest.mark.parametrize("backend", kernels.BACKENDS)
@pytest.mark.parametrize("outlier", [None, 0, 37])
def test_moments_of_fused_layers_lose_few_digits(outlier, backend):
    x = draw((3, 16, 16, 20), np.float32)
    if outlier is not None:
        x.reshape(-1, 20)[outlier] = 1e6
    exact = reference("gelu", x.astype(np.float64)).reshape(-1, 20)
    as_it_is, none = np.zeros((3, 3, 20), np.float32), np.zeros(20, np.float32)
    as_it_is[1, 1] = 1
    with kernels.backend(backend):
        for _, mean, var in (
            kernels.mix_places(x, as_it_is, none),
            kernels.embed(x.reshape(-1, 20), np.eye(20, dtype=np.float32), none),
        ):
            np.testing.assert_allclose(mean, exact.mean(axis=0), rtol=3e-5)
            np.testing.assert_allclose(var, exact.var(axis=0), rtol=1e-5)


@pytest.mark.parametrize("backend", kernels.BACKENDS)
def test_sums_of_many_numbers_lose_no_digits(backend):
    x = draw((100_000, 3), np.float64).astype(np.float32) + np.float32(3)
    with kernels.backend(backend):
        np.testing.assert_allclose(
            kernels.channel_sum(x), x.sum(axis=0, dtype=np.float64), rtol=5e-7
        )


# ---- stacks of matrices


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("leading", "m", "k", "n"),
    [((1,), 1, 1, 1), ((3,), 5, 7, 3), ((2, 3), 65, 32, 65), ((2, 1, 2), 200, 33, 19),
     ((2,), 3, 2049, 4)],
)  # fmt: skip
def test_matmul_stack(leading, m, k, n, dtype):
    a, b = draw((*leading, m, k), dtype), draw((*leading, k, n), dtype, 1)
    agree("matmul_stack", a, b, dtype=dtype)
    plain = compiled.matmul_stack(a, b)
    for x in layouts(a):
        for y in layouts(b):
            assert compiled.matmul_stack(x, y).tobytes() == plain.tobytes()
            agree("matmul_stack", x, y, dtype=dtype)


def layouts(x):
    """The same numbers: rows before columns, tokens before heads, backwards, with gaps."""
    yield x.swapaxes(-1, -2).copy().swapaxes(-1, -2)
    yield x.swapaxes(0, -2).copy().swapaxes(0, -2)
    yield x[..., ::-1, ::-1].copy()[..., ::-1, ::-1]
    yield np.repeat(x, 2, axis=-1)[..., ::2]


# ---- attention


def heads(x):
    """The same numbers (N, heads, T, D) as a net has them, tokens before heads in memory."""
    return np.ascontiguousarray(x.swapaxes(1, 2)).swapaxes(1, 2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("leading", "t", "s", "d", "e"),
    [
        ((), 1, 1, 1, 1),
        ((3,), 5, 7, 3, 2),
        ((2, 3), 17, 17, 16, 16),
        ((2, 1, 2), 97, 33, 40, 9),
        ((1, 2), 200, 300, 20, 33),
        ((1,), 7, 11_000, 4, 3),  # more keys than leave room for a block of scores
    ],
)
def test_attention(leading, t, s, d, e, dtype):
    shapes = (*leading, t, d), (*leading, s, d), (*leading, s, e), (*leading, t, e)
    q, k, v, g = (draw(shape, dtype, seed) for seed, shape in enumerate(shapes))
    agree("attention", q, k, v, dtype=dtype)
    agree("attention_backward", q, k, v, g, dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_attention_reads_and_writes_in_any_layout(dtype):
    q, k, v, g = (draw((2, 3, 9, 20), dtype, seed) for seed in range(4))
    plain = compiled.attention(q, k, v), *compiled.attention_backward(q, k, v, g)
    turned = [heads(a) for a in (q, k, v, g)]
    others = compiled.attention(*turned[:3]), *compiled.attention_backward(*turned)
    for one, other in zip(plain, others, strict=True):
        assert one.tobytes() == other.tobytes()
        assert other.swapaxes(1, 2).flags.c_contiguous  # to be put together without a copy
    for awkward in (
        lambda a: a[..., ::-1].copy()[..., ::-1],
        lambda a: np.asfortranarray(a),
        lambda a: a[:, ::-1].copy()[:, ::-1],
        lambda a: np.broadcast_to(a[:1], a.shape),
    ):
        given = [awkward(a) for a in (q, k, v, g)]
        agree("attention", *given[:3], dtype=dtype)
        agree("attention_backward", *given, dtype=dtype)


# ---- matrix product

PRODUCTS = [(1, 1, 1), (5, 3, 2), (97, 257, 33), (200, 48, 64), (300, 300, 10), (3, 700, 40)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("m", "k", "n"), PRODUCTS)
def test_matmul(m, k, n, dtype):
    a, b = draw((m, k), dtype), draw((k, n), dtype, 1)
    bias = draw((n,), dtype, 2)
    truth = a.astype(np.float64) @ b.astype(np.float64)
    forms = (np.ascontiguousarray, np.asfortranarray, lambda x: np.repeat(x, 2, 1)[:, ::2])
    for left in forms:
        for right in forms:
            close(compiled.matmul(left(a), right(b)), truth, dtype)
            close(compiled.matmul(left(a), right(b), bias), truth + bias, dtype)


@pytest.mark.parametrize(("m", "k", "n"), [(0, 3, 4), (3, 0, 4), (3, 4, 0)])
def test_matmul_of_nothing(m, k, n):
    product = kernels.matmul(np.ones((m, k), np.float32), np.ones((k, n), np.float32))
    np.testing.assert_array_equal(product, np.zeros((m, n), np.float32))
    b, bias = np.ones((k, n), np.float32), np.arange(n, dtype=np.float32)
    biased = kernels.matmul(np.ones((m, k), np.float32), b, bias)
    np.testing.assert_array_equal(biased, np.broadcast_to(bias, (m, n)))


@pytest.mark.parametrize("k", [256, 4096, 65536])
def test_a_long_product_is_summed_in_parts(k):
    a, b = draw((16, k), np.float32), draw((k, 40), np.float32, 1)
    truth = a.astype(np.float64) @ b.astype(np.float64)
    for left in (a, np.asfortranarray(a)):
        error = np.abs(compiled.matmul(left, b) - truth).max() / np.abs(truth).max()
        assert error < 1e-6  # one sum of 4096 is off by 2e-6, one of 65536 by 8e-6


def test_matmul_of_whole_numbers_is_exact():
    rng = np.random.default_rng(0)
    a, b = rng.integers(-9, 9, (123, 77)), rng.integers(-9, 9, (77, 45))
    product = compiled.matmul(a.astype(np.float32), b.astype(np.float32))
    np.testing.assert_array_equal(product, a @ b)


# ---- convolution

PLACES = [
    # x, kernel, results a group; stride, dilation, zeros above, below, left, right
    ((1, 1, 1, 1, 1), (1, 1), 1, 1, 1, (0, 0, 0, 0)),
    ((3, 9, 10, 1, 3), (3, 3), 5, 1, 1, (1, 1, 1, 1)),
    ((2, 9, 11, 1, 20), (3, 3), 48, 2, 1, (1, 1, 1, 1)),
    ((2, 7, 6, 1, 140), (2, 3), 33, 1, 1, (0, 1, 2, 3)),
    ((2, 13, 12, 1, 16), (3, 2), 16, 3, 2, (4, 0, 1, 2)),
    ((5, 5, 4, 1, 40), (1, 1), 17, 1, 1, (0, 0, 0, 0)),
    ((5, 8, 8, 1, 40), (1, 1), 17, 2, 1, (0, 0, 0, 0)),
    ((3, 16, 16, 1, 3), (7, 7), 24, 4, 1, (3, 3, 3, 3)),
    ((2, 8, 7, 3, 4), (3, 3), 6, 2, 1, (1, 1, 1, 1)),
    ((2, 8, 7, 19, 1), (3, 3), 1, 2, 1, (1, 1, 1, 1)),
    ((2, 8, 7, 19, 1), (3, 3), 1, 1, 1, (1, 1, 1, 1)),
    ((2, 8, 7, 35, 1), (2, 5), 1, 1, 2, (1, 0, 3, 1)),
    ((2, 8, 7, 9, 1), (3, 3), 2, 1, 1, (1, 1, 1, 1)),
    ((2, 8, 7, 9, 1), (3, 3), 4, 3, 1, (1, 1, 1, 1)),
    ((2, 2, 3, 1, 5), (1, 1), 4, 5, 1, (3, 0, 0, 4)),  # a result that sees only zeros
    # few channels, more places than a thread multiplies at a time, none of some pixels
    ((3, 24, 22, 2, 3), (3, 2), 17, 2, 3, (1, 2, 3, 0)),
    ((2, 21, 23, 1, 3), (2, 2), 16, 4, 1, (1, 1, 1, 1)),
    # few channels, one of them alone, in rows of places long enough for strips
    ((2, 5, 25, 1, 3), (3, 3), 16, 1, 1, (1, 1, 1, 1)),
    ((3, 4, 53, 1, 5), (2, 5), 37, 2, 1, (0, 1, 2, 3)),
    ((1, 6, 28, 1, 1), (5, 5), 3, 1, 1, (0, 0, 0, 0)),
    # a group a channel: kernels higher than wide, dilation and stride with a common divisor and
    # without, neighbors that see alike from one to many, larger than the image
    ((2, 13, 12, 19, 1), (5, 2), 1, 4, 6, (8, 9, 3, 5)),
    ((1, 31, 40, 16, 1), (3, 5), 1, 2, 3, (2, 4, 6, 5)),
    ((2, 3, 2, 35, 1), (5, 7), 1, 2, 1, (2, 2, 3, 3)),
    # the same where x is read in place: one tile, both edges, none, tiles between; bias or not
    ((3, 9, 16, 32, 1), (3, 3), 1, 2, 1, (1, 1, 1, 1)),
    ((1, 8, 17, 32, 1), (3, 3), 1, 2, 1, (0, 0, 0, 0)),
    ((2, 7, 47, 64, 1), (5, 5), 1, 2, 1, (2, 2, 2, 2)),
    ((1, 5, 26, 32, 1), (4, 4), 1, 3, 1, (1, 2, 1, 2)),
    ((1, 4, 10, 32, 1), (3, 3), 1, 1, 1, (0, 0, 0, 0)),
    # by Winograd's filtering: whole tiles of 4×4 results, and images that they do not fill
    ((9, 4, 4, 1, 8), (3, 3), 16, 1, 1, (1, 1, 1, 1)),
    ((13, 3, 3, 1, 9), (3, 3), 8, 1, 1, (1, 1, 1, 1)),
    ((70, 4, 4, 1, 8), (3, 3), 9, 1, 1, (1, 1, 1, 1)),
    ((3, 9, 10, 1, 16), (3, 3), 16, 1, 1, (1, 1, 1, 1)),
    ((2, 11, 9, 1, 140), (3, 3), 33, 1, 1, (0, 1, 2, 3)),
    ((2, 9, 13, 1, 33), (3, 3), 129, 1, 1, (5, 3, 4, 0)),
    ((5, 8, 8, 1, 20), (3, 3), 40, 1, 1, (0, 0, 0, 0)),
    ((5, 9, 10, 1, 70), (3, 3), 40, 1, 1, (1, 1, 1, 1)),  # more than few rows, in all panels
    ((9, 8, 7, 1, 33), (3, 3), 129, 1, 1, (1, 2, 0, 1)),
    ((5, 19, 21, 1, 24), (5, 3), 40, 2, 1, (2, 2, 1, 1)),
    ((5, 9, 9, 1, 40), (1, 1), 40, 1, 1, (0, 0, 0, 0)),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "size", "d", "stride", "dilation", "padding"), PLACES)
def test_convolution(shape, size, d, stride, dilation, padding, dtype):
    """Whole numbers, whose products and sums are exact, or where they are evaluated at other
    points (Winograd), rounded so little that nearest whole numbers are."""
    rng, options = np.random.default_rng(0), (stride, dilation, padding)

    def whole(*shape):
        return rng.integers(-5, 6, shape).astype(dtype)

    n, height, width, groups, c = shape
    x, w, bias = whole(*shape), whole(*size, c, groups, d), whole(groups, d)
    g = whole(n, *result_size((height, width), size, *options), groups, d)
    for name, *arguments in (
        ("conv2d", x, w, *options),
        ("conv2d", x, w, *options, bias),
        ("conv2d_dx", g, w, (height, width), *options),
        ("conv2d_dw", x, g, size, *options),
    ):
        mine, truth = getattr(compiled, name)(*arguments), reference(name, *arguments)
        assert mine.dtype == dtype
        if size == (3, 3) and stride == dilation == groups == 1:
            close(mine, truth, dtype)
            mine = np.rint(mine)
        np.testing.assert_array_equal(mine, truth)


RELU = [  # x, kernel, channels of the result, stride, padding
    ((2, 5, 4, 3), (3, 3), 7, 1, 1),  # gathered
    ((2, 7, 6, 20), (3, 2), 40, 2, 1),  # few rows
    ((2, 7, 7, 110), (1, 1), 40, 1, 0),
    ((5, 9, 9, 40), (1, 1), 33, 1, 0),  # many
    ((5, 20, 21, 24), (5, 3), 40, 2, 2),
    ((2, 12, 30, 3), (3, 3), 17, 1, 1),  # few channels
    ((9, 8, 8, 9), (3, 3), 20, 1, 1),  # Winograd
    ((3, 6, 5, 1), (3, 3), 4, 1, 1),  # one channel
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "size", "d", "stride", "padding"), RELU)
def test_convolution_with_norm_and_relu(shape, size, d, stride, padding, dtype):
    x, w = draw(shape, dtype), draw((*size, shape[3], d), dtype, 1)
    mean, gamma, beta = draw((3, d), dtype, 2)
    norm = mean, np.abs(draw((d,), dtype, 3)), gamma, beta
    agree("conv2d_relu", x, w, stride, padding, norm, dtype=dtype, slack=4)
    places = compiled.conv2d_relu(x, w, stride, padding, norm).shape
    residual = draw(places, dtype, 4)
    agree("conv2d_relu", x, w, stride, padding, norm, residual, dtype=dtype, slack=4)
    for wrong in (residual[:, 1:], residual[:, :, :-1], residual[:, :1]):
        if wrong.shape != residual.shape and wrong.size:
            with pytest.raises(ValueError, match="residual"):
                compiled.conv2d_relu(x, w, stride, padding, norm, wrong)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("k", "n"), [(3, 40), (130, 33), (300, 64), (1024, 47)])
def test_rows_give_the_same_bits_whether_few_or_many(k, n, dtype):
    x, w, b, added = (draw(s, dtype, i) for i, s in enumerate([(700, k), (k, n), (n,), (700, n)]))
    affine, scale = (draw((k,), dtype, 4), draw((k,), dtype, 5)), draw((n,), dtype, 6)
    hows = ("gelu",), (1e-5, affine, scale)
    product, *both = kernels.matmul(x, w, b), *(kernels.linear(x, w, b, added, *h) for h in hows)
    for m in (1, 7, 12, 97, 384, 385):
        np.testing.assert_array_equal(kernels.matmul(x[:m], w, b), product[:m])
        np.testing.assert_array_equal(kernels.matmul(x[:m], w.T.copy().T, b), product[:m])
        for how, many in zip(hows, both, strict=True):
            few = kernels.linear(x[:m], w, b, added[:m], *how)
            np.testing.assert_array_equal(few, many[:m])


def test_fewer_multiplications_lose_less_than_a_digit():
    x, g = draw((4, 16, 16, 1, 64), np.float32), draw((4, 16, 16, 1, 64), np.float32, 1)
    w, options = draw((3, 3, 64, 1, 64), np.float32, 2), (1, 1, (1, 1, 1, 1))
    for name, *arguments in (
        ("conv2d", x, w, *options),
        ("conv2d_dx", g, w, (16, 16), *options),
        ("conv2d_dw", x, g, (3, 3), *options),
    ):
        truth = reference(name, *_in_float64(arguments))
        error = np.abs(getattr(compiled, name)(*arguments) - truth).max() / np.abs(truth).max()
        assert error < 3e-6  # 5e-7 one product after the other


def test_places_that_do_not_fit_are_refused():
    x, w, g = (np.ones(s, np.float32) for s in ((1, 4, 4, 1, 2), (3, 3, 2, 1, 3), (1, 3, 2, 1, 3)))
    options = 1, 1, (0, 0, 0, 0)
    with pytest.raises(ValueError, match="3×3 is larger than the padded image"):
        compiled.conv2d(x[:, :2], w, *options)
    with pytest.raises(ValueError, match=r"g is of \(3, 2\) places; expected \(2, 2\)"):
        compiled.conv2d_dx(g, w, (4, 4), *options)
    with pytest.raises(ValueError, match=r"g is of \(3, 2\) places; expected \(2, 2\)"):
        compiled.conv2d_dw(x, g, (3, 3), *options)


# ---- patches


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("n", "rows", "columns", "p", "c"),
    [(1, 1, 1, 1, 1), (2, 5, 3, 1, 7), (2, 5, 3, 2, 3), (3, 2, 9, 3, 33), (1, 16, 16, 4, 16)],
)
def test_patches(n, rows, columns, p, c, dtype):
    x = draw((n, rows * p, columns * p, c), dtype)
    patches = reference("cut_patches", x, p)
    np.testing.assert_array_equal(compiled.cut_patches(x, p), patches)
    np.testing.assert_array_equal(compiled.join_patches(patches, p), x)
    np.testing.assert_array_equal(reference("join_patches", patches, p), x)
    turned = x.transpose(3, 2, 1, 0).copy().transpose(3, 2, 1, 0)
    np.testing.assert_array_equal(compiled.cut_patches(turned, p), patches)


def test_what_is_not_divisible_into_patches():
    for cut, join in (
        (compiled.cut_patches, compiled.join_patches),
        (KERNELS["cut_patches"].reference, KERNELS["join_patches"].reference),
    ):
        for shape in ((2, 4, 5, 3), (2, 5, 4, 3), (1, 3, 3, 8)):
            with pytest.raises(ValueError, match="cannot reshape"):
                cut(np.zeros(shape), 2)
        with pytest.raises(ValueError, match="cannot reshape"):
            join(np.zeros((2, 2, 2, 6)), 2)


# ---- pooling

WINDOWS = [
    ((2, 5, 7, 3), 2, 2, 0),
    ((3, 8, 6, 33), 3, 2, 1),
    ((1, 4, 4, 16), 4, 1, 2),
    ((2, 9, 5, 1), 2, 3, 1),
    ((1, 7, 7, 5), 1, 2, 0),
    ((2, 19, 23, 21), 3, 2, 1),  # neighbors that see alike: more than four, and not so many
    ((3, 20, 26, 16), 2, 2, 0),
    ((1, 3, 4, 2), 5, 1, 2),  # windows that see all of the image
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "size", "stride", "padding"), WINDOWS)
def test_pooling(shape, size, stride, padding, dtype):
    rng, how = np.random.default_rng(0), (size, stride, padding)
    x = rng.integers(-2, 3, shape).astype(dtype)  # many are equally large
    x.reshape(-1)[::17] = np.nan
    x.reshape(-1)[::11] = -np.inf
    expected = reference("max_pool2d", x, *how)
    for mine, truth in zip(compiled.max_pool2d(x, *how), expected, strict=True):
        assert mine.dtype == truth.dtype == dtype
        np.testing.assert_array_equal(mine, truth)
    g = rng.integers(-9, 10, expected[0].shape).astype(dtype)
    arguments = g, expected[1], shape[1:3], *how
    np.testing.assert_array_equal(
        compiled.max_pool2d_dx(*arguments), reference("max_pool2d_dx", *arguments)
    )
    agree("avg_pool2d", draw(shape, dtype), *how, dtype=dtype)
    agree("avg_pool2d_dx", g, shape[1:3], *how, dtype=dtype)


# ---- depthwise convolution: 1-pixel images, kernels larger than the image, odd and even, bands

IMAGES = [
    (1, 1, 1, 3, 5), (2, 5, 6, 7, 3), (3, 16, 16, 40, 5), (9, 8, 8, 17, 3), (2, 3, 9, 16, 2),
    (1, 40, 70, 18, 2), (2, 3, 4, 5, 13), (1, 90, 60, 5, 3),
    # read in place: both edges in one tile, a tile each, tiles between; odd and even, and the
    # last k and the widest pixel for which that is done
    (2, 17, 8, 32, 3), (1, 9, 8, 32, 5), (3, 2, 24, 32, 4), (2, 16, 16, 64, 5), (1, 3, 32, 32, 1),
    (1, 8, 16, 256, 5), (1, 8, 16, 288, 5), (1, 8, 16, 288, 3),
    (1, 1, 8, 32, 2), (1, 8, 8, 32, 6),
    (17, 3, 5, 40, 7),  # so many images that a thread takes all of one
]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "h", "v", "c", "k"), IMAGES)
def test_depthwise(n, h, v, c, k, dtype):
    x, g = draw((n, h, v, c), dtype), draw((n, h, v, c), dtype, 1)
    w = draw((k, k, c), dtype, 2)
    agree("depthwise_conv2d", x, w, dtype=dtype)
    agree("depthwise_conv2d_dx", g, w, dtype=dtype)
    agree("depthwise_conv2d_dw", x, g, k, dtype=dtype)


@pytest.mark.parametrize("shape", [(0, 8, 8, 32), (2, 0, 8, 32), (2, 8, 0, 32), (2, 8, 8, 0)])
def test_depthwise_of_nothing(shape):
    """The dispatch leaves it to the reference; compiled kernels are never given empty arrays."""
    x, w = np.ones(shape, np.float32), np.ones((3, 3, shape[3]), np.float32)
    assert kernels.depthwise_conv2d(x, w).shape == shape
    assert kernels.depthwise_conv2d_dx(x, w).shape == shape
    np.testing.assert_array_equal(kernels.depthwise_conv2d_dw(x, x, 3), np.zeros_like(w))


# ---- a fused ConvMixer

MIXERS = [
    (1, 1, 1, 3, 5, 2),
    (2, 5, 6, 7, 3, 9),
    (9, 8, 8, 33, 3, 33),
    (1, 70, 60, 18, 2, 5),
    (17, 4, 5, 40, 3, 6),
]


def norms(c, dtype):
    forward = tuple(positive((c,), dtype, seed) for seed in range(4))
    return forward, (*forward[:3], draw((c,), dtype, 5), draw((c,), dtype, 6))


@pytest.mark.parametrize("relu", [False, True], ids=["GELU", "ReLU"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "h", "v", "c", "k", "d"), MIXERS)
def test_mixer_forward(n, h, v, c, k, d, dtype, relu):
    x, z = draw((n, h, v, c), dtype), draw((n, h, v, c), dtype, 1)
    places, channels = draw((k, k, c), dtype, 2), draw((c, d), dtype, 3)
    scale, shift, b = (draw((c,), dtype, seed) for seed in (4, 5, 6))
    b_d = draw((d,), dtype, 9)
    agree("embed", x.reshape(-1, c), channels, b_d, dtype=dtype, relu=relu)
    agree("mix_places", x, places, b, dtype=dtype, relu=relu, slack=2)  # of 4200 pixels: one sum
    agree("mix_channels", z, x, scale, shift, channels, b_d, dtype=dtype, relu=relu)
    agree("act_affine", z, scale, shift, dtype=dtype, relu=relu)


@pytest.mark.parametrize("relu", [False, True], ids=["GELU", "ReLU"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "h", "v", "c", "k", "p"), [*MIXERS, (1, 20, 16, 16, 9, 4)])
def test_mixer_inference(n, h, v, c, k, p, dtype, relu):
    """Whole images at a time or, in more threads, bands of one: the same bits."""
    depth, before = 2, kernels.get_num_threads()
    places = tuple(draw((k, k, c), dtype, i) / k for i in range(depth))
    channels = tuple(draw((c, c), dtype, i) / np.sqrt(dtype(c)) for i in range(depth))
    affine = draw((2 * depth + 1, 3, c), dtype, 1)
    x, stem = draw((n, h * p, v * p, 2), dtype, 2), draw((p, p, 2, c), dtype, 3) / dtype(p)
    inside, eps = draw((n, h, v, c), dtype, 4), positive((2 * depth + 1,), dtype)
    cases = [
        ((x, places, channels, affine, stem), {}),
        ((inside, places, channels, affine[1:]), {}),
        ((inside, places, channels, affine[1:]), {"pool": False}),
        ((x, (), (), affine[:1], stem), {"pool": False}),
        ((x, (), (), affine[:1], stem), {}),
        ((inside, places, channels, affine[1:]), {"residual": False}),
    ]
    if k == 3:  # each k is a kernel to compile, with ε and without
        cases += [
            ((x, places, channels, affine, stem, eps), {}),
            ((inside, places, channels, affine[1:], None, eps[1:]), {"pool": False}),
            ((inside, places, channels, affine[1:], None, eps[1:]), {"residual": False}),
        ]
    found = []
    for threads in (1, 2, 5):
        with kernels.using_threads(threads):
            mine = [compiled.infer_convmixer(*a, relu=relu, **how) for a, how in cases]
        found.append([y.tobytes() for y in mine])
    for y, (a, how) in zip(mine, cases, strict=True):
        truth = reference("infer_convmixer", *_in_float64(a), relu=relu, **how)
        close(y, truth, dtype, slack=4)  # of 4200 pixels: one sum
    assert found[0] == found[1] == found[2]
    assert kernels.get_num_threads() == before


@pytest.mark.parametrize(
    "what",
    ["height", "width", "channels", "affine", "pointwise weights", "stem", "no stem", "eps"],
)
def test_mixer_inference_of_what_does_not_fit(what):
    """The door looks at each argument's axes; how many there are of each is left to the kernel."""
    arguments = {
        "x": draw((2, 4, 6, 3), np.float32),
        "places": (draw((3, 3, 5), np.float32),) * 2,
        "channels": (draw((5, 5), np.float32),) * 2,
        "affine": draw((5, 3, 5), np.float32),
        "stem": draw((2, 2, 3, 5), np.float32),
    }
    wrong = {
        "height": {"x": draw((2, 5, 6, 3), np.float32)},
        "width": {"x": draw((2, 4, 7, 3), np.float32)},
        "channels": {"x": draw((2, 4, 6, 4), np.float32)},
        "affine": {"affine": arguments["affine"][1:]},
        "pointwise weights": {"channels": arguments["channels"][:1]},
        "stem": {"x": draw((2, 4, 6, 5), np.float32), "affine": arguments["affine"][1:]},
        "no stem": {"stem": None, "affine": arguments["affine"][1:]},
        "eps": {"eps": np.ones(4, np.float32)},
    }
    for backend in kernels.BACKENDS:
        with kernels.backend(backend):
            assert kernels.infer_convmixer(**arguments).shape == (2, 5)
            with pytest.raises(ValueError, match=r"infer_convmixer|shape|zip|matmul|broadcast"):
                kernels.infer_convmixer(**arguments | wrong[what])


@pytest.mark.parametrize("relu", [False, True], ids=["GELU", "ReLU"])
@pytest.mark.parametrize("pooled", [False, True], ids=["gradient", "gradient of a mean"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "h", "v", "c", "k", "d"), MIXERS)
def test_mixer_backward(n, h, v, c, k, d, dtype, pooled, relu):
    x, z = draw((n, h, v, c), dtype), draw((n, h, v, c), dtype, 1)
    g, z2 = draw((n, h, v, d), dtype, 2), draw((n, h, v, d), dtype, 3)
    if pooled:
        g = np.broadcast_to(g[:, :1, :1], g.shape)
    places, channels = draw((k, k, c), dtype, 4), draw((c, d), dtype, 5)
    (norm, backward_norm), (norm2, backward_norm2) = norms(c, dtype), norms(d, dtype)
    agree("act_norm_sums", z2, g, *norm2[:2], dtype=dtype, relu=relu)
    agree("act_norm_backward", z2, g, backward_norm2, dtype=dtype, relu=relu)
    agree(
        "mix_channels_backward", z2, g, backward_norm2, z, x, norm, channels, dtype=dtype, relu=relu
    )
    agree(
        "mix_places_backward",
        z,
        draw(z.shape, dtype, 6),
        backward_norm,
        x,
        places,
        dtype=dtype,
        relu=relu,
    )


@pytest.mark.parametrize("relu", [False, True], ids=["GELU", "ReLU"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("n", "h", "v", "c", "k", "d"), MIXERS)
def test_mixer_with_layer_norm(n, h, v, c, k, d, dtype, relu):
    x, z = draw((n, h, v, c), dtype), draw((n, h, v, c), dtype, 1)
    g, z2, w = draw((n, h, v, d), dtype, 2), draw((n, h, v, d), dtype, 3), draw((c, d), dtype, 5)
    mean = np.broadcast_to(g[:, :1, :1], g.shape)  # the gradient of a mean over pixels
    norm, norm2 = (tuple(positive((s,), dtype, i) for i in range(3)) for s in (c, d))
    how = {"dtype": dtype, "slack": 4}
    for shortcut, upper in ((x, g), (None, mean)):
        agree("act_layer_norm", z, norm, 1e-3, shortcut, relu, **how)
        agree("act_layer_norm_backward", z2, upper, norm2, 1e-3, relu, **how)
        agree("mix_layer_norm", z, norm, 1e-2, w, norm2, 1e-3, shortcut, relu, **how)
        lower = z2, upper, norm2, 1e-3
        agree("mix_layer_norm_backward", *lower, z, norm, 1e-2, w, shortcut, relu, **how)


# ---- fused nets of tokens


@pytest.mark.parametrize("before", ["", "gelu", 1e-3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_linear_maps_with_what_stands_beside_them(dtype, before):
    for m, k, c in ((1, 1, 1), (97, 3, 5), (301, 33, 37), (100, 257, 16), (2000, 20, 70)):
        x, w, b, g = (draw(s, dtype, i) for i, s in enumerate([(m, k), (k, c), (c,), (m, c)]))
        affine, scale = (draw((k,), dtype, 6), draw((k,), dtype, 7)), draw((c,), dtype, 8)
        for how in (None, None), (affine, None), (None, scale), (affine, scale):
            if before == "gelu" and how[0]:
                continue
            added = draw((m, c), dtype, 4)
            agree("linear", x, w, b, added, before, *how, dtype=dtype, slack=2)
            agree("linear", x, w, b, None, before, *how, dtype=dtype, slack=2)
            added = draw((m, k), dtype, 4)
            agree("linear_backward", x, g, w, b, added, before, *how, dtype=dtype, slack=3)
            agree("linear_backward", x, g, w, b, None, before, *how, dtype=dtype, slack=3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_two_linear_maps_with_gelu_between_them(dtype):
    sizes = (
        (1, 1, 1, 1),
        (97, 3, 5, 2),
        (301, 33, 37, 70),
        (100, 257, 16, 20),
        (500, 20, 1600, 48),
    )
    for m, k, h, c in sizes:
        shapes = (m, k), (k, h), (h,), (h, c), (c,)
        given = [draw(shape, dtype, i) for i, shape in enumerate(shapes)]
        affine, scale = (draw((k,), dtype, 6), draw((k,), dtype, 7)), draw((c,), dtype, 8)
        for how in ("", None, None), (1e-3, affine, None), ("", None, scale), (1e-3, affine, scale):
            for added in (None, draw((m, c), dtype, 5)):
                for keep in (False, True):
                    agree("mlp", *given, added, *how, keep, dtype=dtype, slack=3)


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_mlp_gives_the_bits_of_its_linear_maps(dtype):
    """Whether its hidden numbers stay in cache or are kept, and with any number of rows at once."""
    for m, k, h, c in ((300, 16, 32, 16), (1000, 40, 90, 30), (500, 20, 1600, 48)):
        x, w1, b1, w2, b2, added = (
            draw(shape, dtype, i)
            for i, shape in enumerate([(m, k), (k, h), (h,), (h, c), (c,), (m, c)])
        )
        z = kernels.linear(x, w1, b1, None, 1e-3)
        y = kernels.linear(z, w2, b2, added, "gelu", None, b2)
        for keep in (False, True):
            found = kernels.mlp(x, w1, b1, w2, b2, added, 1e-3, None, b2, keep)
            for one, other in zip(found, (y, z)[: 1 + keep], strict=True):
                np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("before", ["", "gelu", 1e-3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_linear_maps_of_tokens(dtype, before):
    for n, s, t, d in ((1, 1, 1, 1), (3, 5, 7, 3), (17, 64, 31, 48), (2, 97, 100, 33)):
        x, w, b = draw((n, s, d), dtype), draw((s, t), dtype, 1), draw((t,), dtype, 2)
        gamma, beta, scale = draw((3, d), dtype, 3)
        g = draw((n, t, d), dtype, 4)
        for how in (None, None), ((gamma, beta), None), (None, scale), ((gamma, beta), scale):
            if before == "gelu" and how[0]:
                continue
            for added in (None, draw((n, t, d), dtype, 5)):
                agree("linear_tokens", x, w, b, added, before, *how, dtype=dtype, slack=2)
            for added in (None, draw((n, s, d), dtype, 5)):
                given = x, g, w, b, added, before, *how
                agree("linear_tokens_backward", *given, dtype=dtype, slack=3)


def test_equal_tokens_are_normalized_to_zero():
    """Their variance is 0, and what rounding leaves of their mean is taken off."""
    x, w, b = (
        np.full((7, 33), 1000.1, np.float32),
        draw((33, 5), np.float32),
        np.ones(5, np.float32),
    )
    np.testing.assert_array_equal(compiled.linear(x, w, b, None, 1e-6), np.ones((7, 5)))


def test_gradients_of_attention_are_written_where_they_shall_be():
    q, k, v, g = (draw((2, 3, 9, 5), np.float32, seed) for seed in range(4))
    expected = compiled.attention_backward(q, k, v, g)
    together = np.zeros((2, 9, 3, 3, 5), np.float32)
    to = tuple(together.transpose(2, 0, 3, 1, 4))
    assert compiled.attention_backward(q, k, v, g, to) is to
    turned = tuple(np.zeros((5, 9, 2, 3), np.float32).transpose(2, 3, 1, 0) for _ in range(3))
    assert kernels.attention_backward(q, k, v, g, turned) is turned
    for found in (to, turned):
        for mine, truth in zip(found, expected, strict=True):
            np.testing.assert_array_equal(mine, truth)


# ---- any shape, any layout

shapes = st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 11), st.integers(1, 35))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(shape=shapes, k=st.sampled_from([2, 3]), layout=st.sampled_from(["C", "F", "read-only"]))
@example(shape=(1, 1, 1, 1), k=3, layout="F")
def test_any_shape_and_layout(shape, k, layout):
    def laid_out(a):
        a = np.array(a, order="F" if layout == "F" else "C")
        a.setflags(write=layout != "read-only")
        return a

    x, g = laid_out(draw(shape, np.float32)), laid_out(draw(shape, np.float32, 1))
    w = laid_out(draw((k, k, shape[-1]), np.float32, 2))
    agree("depthwise_conv2d", x, w, dtype=np.float32)
    agree("depthwise_conv2d_dw", x, g, k, dtype=np.float32)
    agree("gelu_backward", x, g, dtype=np.float32)
    agree("channel_moments", x.reshape(-1, shape[-1]), dtype=np.float32)
    agree("matmul", x.reshape(-1, shape[-1]).T, g.reshape(-1, shape[-1]), dtype=np.float32)
