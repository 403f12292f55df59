"""Arrays that are not what they were: another dtype, layout or shape, or set by hand.

Compiled AdamW is given addresses, which say nothing about what lies there.
"""

import importlib.util
import re
import subprocess
import sys

import numpy as np
import pytest

from minimix import SGD, AdamW, Parameter, Tensor, kernels, nn
from minimix.optim import Muon
from minimix.train.averaging import WeightAverage

MAKE = {
    "AdamW": lambda ps: AdamW(ps, lr=0.1),
    "SGD": lambda ps: SGD(ps, lr=0.1, momentum=0.9),
    "Muon": lambda ps: Muon(ps, lr=0.1, orthogonal=True),
}
DTYPES = [np.float32, np.float64]


@pytest.fixture(params=["numpy", "numba"])
def backend(request):
    if request.param == "numba" and importlib.util.find_spec("numba") is None:
        pytest.skip("numba is not installed")
    with kernels.backend(request.param):
        yield


def draw(shape, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def steps(optimizer, p, n=3, seed=5):
    for i in range(n):
        p.grad = draw(p.shape, seed + i, p.dtype)
        optimizer.step()
    return p.array


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
@pytest.mark.parametrize(("before", "after"), [DTYPES, DTYPES[::-1]])
def test_the_state_follows_a_model_to_another_dtype(make, before, after, backend):
    """As if the model had been of that dtype from the start, but for the rounding on the way."""
    layer = nn.Linear(7, 5, bias=False, rng=0).astype(before)
    truth = Parameter(layer.weight.array.astype(np.float64))
    optimizer, right = make([layer.weight]), make([truth])
    steps(optimizer, layer.weight)
    steps(right, truth)
    layer.astype(after)
    got, expected = steps(optimizer, layer.weight, seed=9), steps(right, truth, seed=9)
    assert got.dtype == after
    assert all(a.dtype == after for name, a in optimizer.state[0].items() if name != "t")
    np.testing.assert_allclose(got, expected, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_a_state_is_loaded_in_the_dtype_that_the_parameter_has_by_now(make, backend):
    one, other = Parameter(draw((4, 6))), Parameter(draw((4, 6), dtype=np.float32))
    first, second = make([one]), make([other])
    steps(first, one)
    other._array = one.array.copy()  # as Module.astype does
    second.load_state_dict(first.state_dict())
    np.testing.assert_array_equal(steps(first, one), steps(second, other))


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
@pytest.mark.parametrize(
    "layout",
    [
        lambda a: np.array(a, order="F"),
        lambda a: np.repeat(a, 2, axis=1)[:, ::2],
        lambda a: a[::-1].copy()[::-1],
        lambda a: np.frombuffer(b"x" + a.tobytes(), a.dtype, offset=1).reshape(a.shape),
        lambda a: a.astype(a.dtype.newbyteorder()),
    ],
    ids=["columns first", "every other", "upside down", "misaligned, read-only", "bytes swapped"],
)
@pytest.mark.parametrize("which", ["p", "g", "state"])
def test_arrays_of_any_layout_give_the_same_numbers(make, layout, which, backend):
    plain, odd = Parameter(draw((6, 4))), Parameter(draw((6, 4)))
    right, optimizer = make([plain]), make([odd])
    steps(right, plain, 1)
    steps(optimizer, odd, 1)
    if which == "p":
        value = layout(odd.array)
        if not value.flags.writeable:
            value = np.frombuffer(bytearray(b"x" + odd.array.tobytes()), offset=1).reshape(6, 4)
        odd.array = value
    elif which == "state":
        optimizer.state[0].update(
            {name: layout(a) for name, a in optimizer.state[0].items() if name != "t"}
        )
        if not all(a.flags.writeable for name, a in optimizer.state[0].items() if name != "t"):
            odd.grad = draw((6, 4))
            with pytest.raises(ValueError, match="read-only"):
                optimizer.step()
            return
    g = draw((6, 4), 3)
    for p, o, gradient in ((plain, right, g), (odd, optimizer, layout(g) if which == "g" else g)):
        p.grad = gradient
        o.step()
    np.testing.assert_allclose(odd.array, plain.array, rtol=1e-12)


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_a_gradient_of_another_dtype_is_converted_and_of_another_shape_refused(make, backend):
    p, q = Parameter(draw((3, 4))), Parameter(draw((3, 4)))
    optimizer, other = make([p]), make([q])
    p.grad, q.grad = np.ones((3, 4), np.float32), np.ones((3, 4))
    optimizer.step()
    other.step()
    np.testing.assert_array_equal(p.array, q.array)
    before, state = p.array.copy(), {k: a.copy() for k, a in optimizer.state_dict().items()}
    for wrong in (np.ones((4, 3)), np.ones(4), np.ones((1, 4)), 1.0):
        p.grad = wrong
        with pytest.raises(ValueError, match=r"gradient of parameter 0 has shape .* \(3, 4\)"):
            optimizer.step()
    np.testing.assert_array_equal(p.array, before)
    for key, a in optimizer.state_dict().items():
        np.testing.assert_array_equal(a, state[key])


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_a_read_only_parameter_is_refused_before_anything_changes(make, backend):
    p, q = Parameter(draw((3, 4))), Parameter(np.broadcast_to(np.float64(1), (3, 4)))
    optimizer = make([p, q])
    before = p.array.copy()
    p.grad = q.grad = np.ones((3, 4))
    with pytest.raises(ValueError, match="parameter 1 is read-only"):
        optimizer.step()
    np.testing.assert_array_equal(p.array, before)
    assert optimizer.steps == 0


@pytest.mark.parametrize("name", ["m", "v"])
@pytest.mark.parametrize("shape", [(2,), (4, 3), (3, 5), (1, 4), ()])
def test_a_moment_of_another_shape_is_refused(name, shape, backend):
    p = Parameter(draw((3, 4)))
    optimizer = AdamW([p])
    steps(optimizer, p, 1)
    optimizer.state[0][name] = np.ones(shape)
    with pytest.raises(ValueError, match=re.escape(str(shape))):
        steps(optimizer, p, 1)


def test_a_parameter_given_as_two_tensors_is_refused():
    memory = np.zeros(10)
    for a, b in ((memory, memory), (memory, memory[5:]), (memory[:6], memory[5:])):
        with pytest.raises(ValueError, match="two share memory"):
            AdamW([Parameter(a), Parameter(b)])
    AdamW([Parameter(memory[:5]), Parameter(memory[5:]), Parameter(np.zeros(0))])
    AdamW([Parameter(memory[::2]), Parameter(memory[1::2])])


def test_the_result_of_an_operation_is_no_parameter():
    with pytest.raises(ValueError, match="parameter 1 is the result of an operation"):
        AdamW([Parameter(np.ones(2)), Tensor(np.ones(2), requires_grad=True) * 2.0])


# ---- the kernel itself


def update(moved):
    kernels.adamw_update(moved, 0.1, 0.9, 0.99, 1e-8, 0.1)


def four(dtype=np.float32, size=40):
    p, g, m, v = (np.abs(draw(size, seed, dtype)) for seed in range(4))
    return [p, g, m, v, 3]


def mixed(i, change):
    arrays = four()
    arrays[i] = change(arrays[i])
    return [four(), arrays, four()]


def overlapping(*, shift=0, which=(0, 2)):
    """Two of the four arrays in one piece of memory."""
    memory = np.linspace(0.5, 2, 41 + shift).astype(np.float32)
    arrays = four()
    arrays[which[0]], arrays[which[1]] = memory[:40], memory[shift : 40 + shift]
    return [four(), arrays]


def neighbors():
    memory = np.linspace(0.5, 2, 60).astype(np.float32)
    one, other = four(), four()
    one[0], other[0] = memory[:40], memory[20:]
    return [one, other]


CASES = {
    **{
        f"{name}, {what}": lambda i=i, change=change: mixed(i, change)
        for i, name in enumerate("pgmv")
        for what, change in {
            "double": lambda a: a.astype(np.float64),
            "half": lambda a: a.astype(np.float16),
            "swapped": lambda a: a.astype(">f4"),
            "strided": lambda a: np.repeat(a, 2)[::2],
            "misaligned": lambda a: np.frombuffer(bytearray(b"x" + a.tobytes()), a.dtype, offset=1),
            "longer": lambda a: np.ones(41, a.dtype),
            "shorter": lambda a: a[:-1],
            "two axes": lambda a: a.reshape(5, 8),
            "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype),
        }.items()
    },
    "p is m": lambda: overlapping(),
    "p before m": lambda: overlapping(shift=7),
    "p is g": lambda: overlapping(which=(0, 1)),
    "g before v": lambda: overlapping(shift=3, which=(1, 3)),
    "two parameters": neighbors,
    "empty": lambda: [four(size=0), four()],
    "nothing": list,
    "another dtype": lambda: [four(np.float64), four(), four(np.float64)],
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_whatever_the_kernel_is_given_both_back_ends_do_the_same(case):
    pytest.importorskip("numba")
    results = []
    for name in ("numpy", "numba"):
        moved = [tuple(each) for each in CASES[case]()]
        try:
            with kernels.backend(name):
                update(moved)
        except Exception as error:
            results.append(type(error))
        else:
            results.append([a for each in moved for a in each[:4]])
    truth, mine = results
    if isinstance(truth, type):
        assert mine is truth
        return
    for a, b in zip(mine, truth, strict=True):
        assert a.dtype == b.dtype
        tolerance = 2e-3 if a.dtype == np.float16 else 1e-5
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("first", "then"), [DTYPES, DTYPES[::-1]])
def test_nothing_is_written_beside_the_arrays(first, then):
    """In a process of its own: what would be damaged is the memory of the process."""
    pytest.importorskip("numba")
    code = (
        "import numpy as np, minimix as mx\n"
        f"layer = mx.nn.Linear(999, 1, rng=0).astype(np.{first.__name__})\n"
        "optimizer = mx.AdamW(layer.parameters())\n"
        f"layer.astype(np.{then.__name__})\n"
        "for _ in range(20):\n"
        "    for p in layer.parameters(): p.grad = np.ones_like(p.array)\n"
        "    optimizer.step()\n"
        "assert all(np.isfinite(p.array).all() for p in layer.parameters())\n"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


# ---- gradients whose squares overflow


@pytest.mark.parametrize(
    ("dtype", "large"),
    [
        (np.float32, 1.85e19),
        (np.float32, 1e20),
        (np.float32, 3.4e38),
        (np.float64, 1e155),
        (np.float64, 1.7e308),
    ],
)
@pytest.mark.parametrize("sign", [1, -1])
def test_adamw_survives_a_gradient_whose_square_overflows(dtype, large, sign, backend):
    p = Parameter(np.ones(19, dtype))
    optimizer = AdamW([p], lr=0.1, weight_decay=0)
    got = []
    for g in (large, 1, 1):
        p.grad = np.full(19, sign * g, dtype)
        optimizer.step()
        got.append(p.array.copy())
    m, v, theta, expected = 0.1, 0.001, 1.0, []
    for t in (1, 2, 3):  # the ones are nothing beside it
        theta -= sign * 0.1 * (m / (1 - 0.9**t)) / np.sqrt(v / (1 - 0.999**t))
        m, v = 0.9 * m, 0.999 * v
        expected.append(np.full(19, theta))
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    np.testing.assert_allclose(got[0], 1 - sign * 0.1, rtol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_what_is_not_finite_is_not_hidden(bad, backend):
    p = Parameter(np.ones(19, np.float32))
    p.grad = np.full(19, 1e20, np.float32)
    p.grad[7] = bad
    AdamW([p], lr=0.1).step()
    assert np.isnan(p.array[7])
    assert np.isfinite(np.delete(p.array, 7)).all()


def test_the_largest_gradient_that_can_be_squared():
    from minimix.kernels.reference.adamw import _squarable

    for dtype in DTYPES:
        most = _squarable(np.full(1, np.finfo(dtype).max), np.dtype(dtype))
        with np.errstate(over="raise"):
            assert np.isfinite(most * most).all()
            with pytest.raises(FloatingPointError):
                np.square(most * dtype(1.0001))


# ---- averages


@pytest.mark.parametrize(("before", "after"), [DTYPES, DTYPES[::-1]])
def test_an_average_follows_its_model_to_another_dtype(before, after):
    model = nn.Linear(3, 2, rng=0).astype(before)
    average = WeightAverage(model, decay=0.5)
    model.astype(after)
    average.update()
    assert {a.dtype for a in average.mean.values()} == {np.dtype(after)}
    with average.applied():
        assert model.weight.dtype == after


@pytest.mark.parametrize(("dtype", "large"), [(np.float32, 3e37), (np.float64, 1e300)])
def test_muon_survives_a_gradient_whose_norm_overflows(dtype, large, backend):
    results = []
    for scale in (1, large):
        p = Parameter(np.zeros((3, 4), dtype))
        p.grad = draw((3, 4), 0, dtype) * dtype(scale)
        Muon([p], lr=0.1, orthogonal=True).step()
        results.append(p.array)
    np.testing.assert_allclose(*results, rtol=1e-4)
