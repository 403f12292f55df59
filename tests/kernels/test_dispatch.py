"""The door: a kernel's name finds the right back end, and nothing unfit reaches compiled code."""

import inspect
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from back_ends import KERNELS

from minimix import kernels
from minimix.kernels import dispatch


@pytest.fixture
def doubled(monkeypatch):
    """A kernel in a package of its own: doubled in NumPy, and "compiled" into a string."""
    compiled = SimpleNamespace(double=lambda x, times=1, names=None: "compiled")
    monkeypatch.setitem(sys.modules, "attic.compiled.twice", compiled)

    def make(**arguments):
        def double(x, times=1, names=None):
            """Twice x."""
            return 2 * np.asarray(x)

        double.__module__ = "attic.reference.twice"
        return dispatch.kernel(**arguments)(double)

    return make


def test_a_name_leads_to_the_reference():
    for name, kernel in KERNELS.items():
        assert kernel.__module__.startswith("minimix.kernels.reference."), name
        assert inspect.unwrap(kernel) is kernel.reference
        assert kernel.__doc__, name


def test_the_back_end_in_force_is_called(doubled):
    double = doubled(x="N")
    x = np.ones(3)
    with kernels.backend("numpy"):
        assert double(x)[0] == 2
    assert double(x) == "compiled"
    assert double(x=x) == "compiled"
    assert double.reference(x)[0] == 2


@pytest.mark.parametrize(
    ("module", "beside"),
    [
        ("minimix.kernels.reference.norm", "minimix.kernels.compiled.norm"),
        ("minimix.data.augment.reference", "minimix.data.augment.compiled"),
        ("reference.reference.x", "reference.compiled.x"),
    ],
)
def test_compiled_modules_stand_beside_their_references(module, beside):
    assert dispatch.sibling(module) == beside


def test_a_kernel_that_is_in_no_reference_package_or_names_no_parameter():
    with pytest.raises(TypeError, match="not in a package called `reference`"):
        dispatch.sibling("minimix.kernels.references.norm")

    def double(x):
        return x

    double.__module__ = "attic.reference.twice"
    with pytest.raises(TypeError, match=r"double has no parameters \['y'\]"):
        dispatch.kernel(y="N")(double)


f32, f64 = np.float32, np.float64
FIT = [
    ("N C", np.ones((2, 3), f32)),
    ("N C", np.ones((2, 3), f64)),
    ("N C", np.ones((3, 2), f64).T),
    ("N N", np.ones((2, 2), f32)),
    ("N 3", np.ones((2, 3), f32)),
    ("...", np.ones((), f32)),
    ("...", np.ones((2, 3), f32)),
    ("... C", np.ones(3, f32)),
    ("uint8: N 3", np.ones((2, 3), np.uint8)),
    ("N", (np.ones(2, f32), np.ones(2, f32))),
    (int, 4),
    (0, 0),
    (0, (1, 0)),
]
UNFIT = [
    ("N C", np.ones((2, 3), np.int64)),
    ("N C", np.ones((2, 3), np.float16)),
    ("N C", np.ones((2, 3), ">f4")),
    ("N C", np.ones((2, 3), np.complex64)),
    ("N C", np.ones((2, 3, 1), f32)),
    ("N C", np.ones(2, f32)),
    ("N C", np.ones((2, 0), f32)),
    ("N C", np.ma.ones((2, 3), f32)),
    ("N C", [[1.0]]),
    ("N C", 1.0),
    ("N C", None),
    ("N N", np.ones((2, 3), f32)),
    ("N 3", np.ones((3, 2), f32)),
    ("... C", np.ones((), f32)),
    ("uint8: N 3", np.ones((2, 3), f32)),
    ("N", (np.ones(2, f32), np.ones(3, f32))),
    ("N", (np.ones(2, f32), np.ones(2, f64))),
    (int, 0),
    (int, True),
    (int, 2.0),
    (0, -1),
    (int, (1, 0)),
]


@pytest.mark.parametrize(("spec", "value"), FIT, ids=str)
def test_what_fits_is_let_through(spec, value, doubled):
    assert dispatch._fits(dispatch._form(value), dispatch._expected(spec), {})


@pytest.mark.parametrize(("spec", "value"), UNFIT, ids=str)
def test_what_does_not_fit_is_not(spec, value):
    assert not dispatch._fits(dispatch._form(value), dispatch._expected(spec), {})


def test_unfit_arguments_go_to_the_reference(doubled):
    double = doubled(x="N C", times="C", names=int)
    x, times = np.ones((2, 3)), np.ones(3)
    assert double(x, times, 3) == "compiled"
    assert double(x, times, None) == "compiled"  # as it is by default
    for unfit in ((x, times[:2]), (x, times.astype(f32)), (x, times, 0), (x, 7), (x, None)):
        np.testing.assert_array_equal(double(*unfit), 2 * x)


def test_what_is_remembered_of_arguments_is_all_that_counts(doubled):
    """Forms are looked at once; two that are told apart by anything are two."""
    double = doubled(x="N", times=int)
    x = np.ones(3)
    for _ in range(2):
        assert double(x, 1) == double(x, times=1) == "compiled"
        for times in (True, 1.0, np.int64(1), 0):
            np.testing.assert_array_equal(double(x, times), 2 * x)
        for unfit in (x.astype(np.float16), x.astype(">f8"), x[:0], x[None], [1.0]):
            np.testing.assert_array_equal(double(unfit, 1), 2 * np.asarray(unfit))


def test_a_parameter_left_out_hides_none_behind_it(doubled):
    double = doubled(x="N", names="N")
    assert double(np.ones(3), names=np.ones(3)) == "compiled"
    np.testing.assert_array_equal(double(np.ones(3), names=np.ones(4)), 2 * np.ones(3))


def draw(shape, dtype=f32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


ARGUMENTS = {  # of every kernel: valid arguments, to be spoiled one by one
    "gelu": [(2, 5)],
    "gelu_backward": [(2, 5), (2, 5)],
    "gelu_tanh": [(2, 5)],
    "gelu_tanh_backward": [(2, 5), (2, 5)],
    "relu": [(2, 5)],
    "relu_backward": [(2, 5), (2, 5)],
    "softmax": [(2, 5)],
    "softmax_backward": [(2, 5), (2, 5)],
    "layer_norm": [(6, 5), (5,), (5,), 1],
    "layer_norm_backward": [(6, 5), (6, 5), (5,), 1],
    "matmul_stack": [(2, 3, 4, 5), (2, 3, 5, 6)],
    "attention": [(2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 7)],
    "attention_backward": [(2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 6, 7), (2, 3, 4, 7)],
    "depthwise_conv2d": [(2, 4, 4, 5), (3, 3, 5)],
    "depthwise_conv2d_dx": [(2, 4, 4, 5), (3, 3, 5)],
    "depthwise_conv2d_dw": [(2, 4, 4, 5), (2, 4, 4, 5), 3],
    "conv2d": [(2, 5, 6, 2, 3), (3, 2, 3, 2, 4), 2, 1, [1, 1, 1, 0], (2, 4)],
    "conv2d_dx": [(2, 3, 3, 2, 4), (3, 2, 3, 2, 4), [5, 6], 2, 1, [1, 1, 1, 0]],
    "conv2d_dw": [(2, 5, 6, 2, 3), (2, 3, 3, 2, 4), [3, 2], 2, 1, [1, 1, 1, 0]],
    "conv2d_relu": [(2, 5, 6, 3), (3, 2, 3, 4), 2, 1, [(4,)] * 4, (2, 3, 4, 4)],
    "cut_patches": [(2, 6, 9, 4), 3],
    "join_patches": [(2, 2, 3, 36), 3],
    "max_pool2d": [(2, 6, 7, 3), 3, 2, 1],
    "max_pool2d_dx": [(2, 3, 4, 3), (2, 3, 4, 3), [6, 7], 3, 2, 1],
    "avg_pool2d": [(2, 6, 7, 3), 3, 2, 1],
    "avg_pool2d_dx": [(2, 3, 4, 3), [6, 7], 3, 2, 1],
    "channel_sum": [(6, 5)],
    "channel_moments": [(6, 5)],
    "normalize": [(6, 5), (5,), (5,), (5,), (5,)],
    "normalize_relu": [(6, 5), (5,), (5,), (5,), (5,), (6, 5)],
    "batch_norm_sums": [(6, 5), (6, 5), (5,), (5,)],
    "relu_norm_sums": [(6, 5), (6, 5), (6, 5), (5,), (5,), (6, 5)],
    "batch_norm_dx": [(6, 5), (6, 5), [(5,)] * 5],
    "matmul": [(4, 3), (3, 5), (5,)],
    "linear": [(4, 3), (3, 5), (5,), (4, 5), "", [(3,)] * 2, (5,)],
    "linear_backward": [(4, 3), (4, 5), (3, 5), (5,), (4, 3), "", [(3,)] * 2, (5,)],
    "mlp": [(4, 3), (3, 6), (6,), (6, 5), (5,), (4, 5), "", [(3,)] * 2, (5,)],
    "linear_tokens": [(2, 4, 3), (4, 6), (6,), (2, 6, 3), "", [(3,)] * 2, (3,)],
    "linear_tokens_backward": [(2, 4, 3), (2, 6, 3), (4, 6), (6,), (2, 4, 3), "", [(3,)] * 2, (3,)],
    "embed": [(4, 3), (3, 5), (5,)],
    "mix_places": [(2, 4, 4, 5), (3, 3, 5), (5,)],
    "mix_channels": [(2, 4, 4, 3), (2, 4, 4, 3), (3,), (3,), (3, 5), (5,)],
    "act_affine": [(2, 4, 4, 5), (5,), (5,)],
    "act_layer_norm": [(2, 4, 4, 5), [(5,)] * 3, 1, (2, 4, 4, 5)],
    "act_layer_norm_backward": [(2, 4, 4, 5), (2, 4, 4, 5), [(5,)] * 3, 1],
    "mix_layer_norm": [(2, 4, 4, 3), [(3,)] * 3, 1, (3, 5), [(5,)] * 3, 1, (2, 4, 4, 3)],
    "mix_layer_norm_backward": [
        (2, 4, 4, 5),
        (2, 4, 4, 5),
        [(5,)] * 3,
        1,
        (2, 4, 4, 3),
        [(3,)] * 3,
        1,
        (3, 5),
        (2, 4, 4, 3),
    ],
    "infer_convmixer": [
        (2, 4, 6, 3),
        [(3, 3, 5)] * 2,
        [(5, 5)] * 2,
        (5, 3, 5),
        (2, 2, 3, 5),
        (5,),
    ],
    "act_norm_sums": [(2, 4, 4, 5), (2, 4, 4, 5), (5,), (5,)],
    "act_norm_backward": [(2, 4, 4, 5), (2, 4, 4, 5), [(5,)] * 5],
    "mix_channels_backward": [
        (2, 4, 4, 5),
        (2, 4, 4, 5),
        [(5,)] * 5,
        (2, 4, 4, 3),
        (2, 4, 4, 3),
        [(3,)] * 4,
        (3, 5),
    ],
    "mix_places_backward": [(2, 4, 4, 5), (2, 4, 4, 5), [(5,)] * 5, (2, 4, 4, 5), (3, 3, 5)],
}


def arguments(name):
    def made(shape):
        if isinstance(shape, list):
            return tuple(map(made, shape))
        return shape if isinstance(shape, (int, str)) else draw(shape)

    return list(map(made, ARGUMENTS[name]))


def spoiled(a):
    """The same argument in ways that compiled code was not written for."""
    if isinstance(a, tuple):
        for i in range(len(a)):
            for one in spoiled(a[i]):
                yield (*a[:i], one, *a[i + 1 :])
    elif isinstance(a, int):
        yield from (0, -1, 2.5, "3")
    elif not isinstance(a, str):
        yield from (a.astype(f64), a.astype(np.float16), a.astype(">f4"), a.astype(np.int32))
        yield from (a[None], a[..., :-1], a[:-1], a[:0], a.tolist(), None)


def outcome(f, *args):
    """What a call gives, or the kind of error that it raises."""
    try:
        result = f(*args)
    except Exception as error:
        return type(error)
    return result if isinstance(result, tuple) else (result,)


@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_whatever_a_kernel_is_given_both_back_ends_do_the_same(name):
    good = arguments(name)
    for i, a in enumerate(good):
        for bad in spoiled(a):
            given = [*good[:i], bad, *good[i + 1 :]]
            mine = outcome(KERNELS[name], *given)
            with kernels.backend("numpy"):
                truth = outcome(KERNELS[name], *given)
            if isinstance(truth, type):
                assert mine is truth, (i, bad)
                continue
            for x, y in zip(mine, truth, strict=True):
                assert (x.shape, x.dtype) == (y.shape, y.dtype), (i, bad)
                tolerance = 1e-2 if y.dtype == np.float16 else 1e-4
                np.testing.assert_allclose(x, y, tolerance, tolerance)


def test_every_kernel_of_networks_is_tried():
    others = {"adamw_update"}  # whose arrays are checked elsewhere
    assert set(ARGUMENTS) == set(KERNELS) - others


@pytest.mark.parametrize("backend", kernels.BACKENDS)
def test_nan_comes_without_a_warning(backend):
    """In either back end: a warning that one of them gives is not to be relied on."""
    infinite, zeros = np.full((3, 3), np.inf, np.float32), np.zeros((3, 3), np.float32)
    with kernels.backend(backend):
        assert np.isnan(kernels.matmul(infinite, zeros)).all()
        assert np.isnan(kernels.matmul_stack(infinite[None], zeros[None])).all()
