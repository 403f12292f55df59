"""Optimizers step by step, against the formulas in plain Python."""

import importlib.util
import math
import re

import numpy as np
import pytest

from minimix import SGD, AdamW, Parameter, Tensor, kernels, nn
from minimix.optim import Muon, muon

GRADIENTS = [[0.5, -2.0], [1.5, 0.25], [-1.0, 0.0], [0.125, 4.0]]
DTYPES = [np.float32, np.float64]


@pytest.fixture(params=["numpy", "numba"])
def backend(request):
    if request.param == "numba" and importlib.util.find_spec("numba") is None:
        pytest.skip("numba is not installed")
    with kernels.backend(request.param):
        yield


def parameter(dtype=np.float64):
    return Parameter(np.array([1.0, -3.0], dtype))


def run(optimizer, p, gradients=GRADIENTS):
    for g in gradients:
        p.grad = np.array(g, p.dtype)
        optimizer.step()
    return p.array


def close(array, expected):
    rtol = 1e-5 if array.dtype == np.float32 else 1e-13
    np.testing.assert_allclose(array, expected, rtol=rtol)


# ---- the formulas


@pytest.mark.parametrize("dtype", DTYPES)
def test_adamw(dtype, backend):
    p = parameter(dtype)
    lr, beta1, beta2, eps, decay = 0.1, 0.8, 0.9, 1e-3, 0.05
    got = run(AdamW([p], lr, (beta1, beta2), eps, decay), p)
    expected = []
    for theta, gradients in zip([1.0, -3.0], zip(*GRADIENTS, strict=True), strict=True):
        m = v = 0.0
        for t, g in enumerate(gradients, start=1):
            theta *= 1 - lr * decay
            m = beta1 * m + (1 - beta1) * g
            v = beta2 * v + (1 - beta2) * g * g
            theta -= lr * (m / (1 - beta1**t)) / (math.sqrt(v / (1 - beta2**t)) + eps)
        expected.append(theta)
    assert got.dtype == dtype
    close(got, expected)


def test_adamw_s_first_step_is_lr_whatever_the_gradient(backend):
    p = Parameter(np.zeros(3))
    p.grad = np.array([1e-3, 5.0, -1e3])
    AdamW([p], lr=0.1, weight_decay=0).step()
    np.testing.assert_allclose(p.array, [-0.1, -0.1, 0.1], rtol=1e-4)


def test_adamw_decays_apart_from_the_gradient(backend):
    p = parameter()
    p.grad = np.zeros(2)
    AdamW([p], lr=0.1, weight_decay=0.5).step()
    np.testing.assert_allclose(p.array, [0.95, -2.85])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("momentum", "decay", "nesterov"),
    [(0.0, 0.0, False), (0.0, 0.05, False), (0.9, 0.05, False), (0.9, 0.05, True)],
)
def test_sgd(dtype, momentum, decay, nesterov):
    p = parameter(dtype)
    got = run(SGD([p], 0.1, momentum, decay, nesterov), p)
    expected = []
    for theta, gradients in zip([1.0, -3.0], zip(*GRADIENTS, strict=True), strict=True):
        u = 0.0
        for g in gradients:
            h = g + decay * theta
            u = momentum * u + h
            theta -= 0.1 * (h + momentum * u if nesterov else u)
        expected.append(theta)
    assert got.dtype == dtype
    close(got, expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_muon_moves_a_matrix_along_its_directions_alike(dtype, backend):
    rng = np.random.default_rng(0)
    lr, momentum, decay = 0.1, 0.8, 0.05
    p = Parameter(rng.standard_normal((6, 4)).astype(dtype))
    expected, m = p.array.astype(np.float64), np.zeros((6, 4))
    optimizer = Muon([p], lr, momentum, weight_decay=decay, orthogonal=True)
    for _ in range(3):
        p.grad = rng.standard_normal((6, 4)).astype(dtype)
        m = momentum * m + (1 - momentum) * p.grad
        u, s, v = np.linalg.svd((1 - momentum) * p.grad + momentum * m, full_matrices=False)
        s = s / np.linalg.norm(s)
        for _ in range(5):
            s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
        expected = expected * (1 - lr * decay) - 0.2 * math.sqrt(6) * lr * (u * s) @ v
        optimizer.step()
    assert p.array.dtype == dtype
    np.testing.assert_allclose(p.array, expected, rtol=1e-4 if dtype == np.float32 else 1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (2, 9), (20, 7), (64, 64)])
def test_orthogonal_leaves_directions_and_evens_sizes(shape, backend):
    rng = np.random.default_rng(0)
    u, _, v = np.linalg.svd(rng.standard_normal(shape), full_matrices=False)
    sizes = np.geomspace(0.1, 1, len(v))  # a tenth of the largest, at least
    got = u.T @ muon.orthogonal(1000 * (u * sizes) @ v) @ v.T
    assert ((np.diag(got) > 0.68) & (np.diag(got) < 1.21)).all()
    np.testing.assert_allclose(got, np.diag(np.diag(got)), atol=1e-12)
    assert not muon.orthogonal(np.zeros(shape)).any()


@pytest.mark.parametrize("shape", [(5, 4), (3, 130)])
def test_matrices_in_a_stack_do_not_know_of_one_another(shape, backend):
    rng = np.random.default_rng(0)
    stack = rng.standard_normal((2, 3, *shape)) * np.geomspace(1e-3, 1e3, 6).reshape(2, 3, 1, 1)
    got = muon.orthogonal(stack)
    together, alone = ([Parameter(a.copy()) for a in stack[0]] for _ in range(2))
    for p, q, g in zip(together, alone, stack[1], strict=True):
        p.grad, q.grad = g, g
    for group in (together, *([q] for q in alone)):
        Muon(group, 0.1, orthogonal=True).step()
    for i in np.ndindex(2, 3):
        np.testing.assert_allclose(got[i], muon.orthogonal(stack[i]), rtol=1e-9, atol=1e-12)
    for p, q in zip(together, alone, strict=True):
        np.testing.assert_allclose(p.array, q.array, rtol=1e-9, atol=1e-12)


def test_muon_leaves_the_rest_to_adamw(backend):
    ours, theirs, inside = parameter(), parameter(), Parameter(np.eye(3))
    inside.grad = np.ones((3, 3))
    optimizer = Muon([{"params": inside, "orthogonal": True}, {"params": [ours]}], lr=0.1)
    np.testing.assert_array_equal(run(optimizer, ours), run(AdamW([theirs], lr=0.1), theirs))
    assert [sorted(state) for state in optimizer.state] == [["m"], ["m", "t", "v"]]
    assert not np.allclose(inside.array, np.eye(3))


def test_sgd_by_hand():
    p = parameter()
    optimizer = SGD([p], lr=0.5, momentum=0.5)
    assert run(optimizer, p, [[2, 2]]).tolist() == [0, -4]
    assert run(optimizer, p, [[2, 2]]).tolist() == [-1.5, -5.5]


# ---- groups


def test_groups_have_settings_of_their_own(backend):
    a, b, c = parameter(), parameter(), parameter()
    optimizer = AdamW(
        [{"params": [a]}, {"params": b, "lr": 0.2, "weight_decay": 0}, {"params": [c], "lr": 0}],
        lr=0.1,
        weight_decay=0.5,
    )
    for p in (a, b, c):
        p.grad = np.zeros(2)
    optimizer.step()
    close(a.array, [0.95, -2.85])
    assert b.array.tolist() == c.array.tolist() == [1, -3]
    assert optimizer.lr == 0.1
    optimizer.lr = 0.3
    assert [group["lr"] for group in optimizer.groups] == [0.3] * 3
    assert [group["weight_decay"] for group in optimizer.groups] == [0.5, 0, 0.5]


@pytest.mark.parametrize("make", [AdamW, Muon, lambda ps: SGD(ps, momentum=0.9)])
def test_a_parameter_without_a_gradient_is_left_alone(make):
    a, b = parameter(), parameter()
    optimizer = make([a, b])
    a.grad = np.ones(2)
    optimizer.step()
    assert b.array.tolist() == [1, -3]
    assert b.version == 0
    assert a.version == 1


def test_a_parameter_that_joins_later_is_a_beginner(backend):
    early, late, alone = parameter(), parameter(), parameter()
    optimizer = AdamW([early, late], lr=0.1)
    run(optimizer, early)
    early.grad = None
    run(optimizer, late)
    assert optimizer.steps == 8
    np.testing.assert_array_equal(late.array, run(AdamW([alone], lr=0.1), alone))


def test_the_array_stays_the_same_array(backend):
    p = parameter()
    array = p.array
    run(AdamW([p]), p)
    run(SGD([p], momentum=0.9), p)
    assert p.array is array


def test_a_parameter_of_any_layout_in_memory_is_moved(backend):
    rng = np.random.default_rng(0)
    values, g = rng.standard_normal((2, 4, 6))
    plain = Parameter(values.copy())
    wide = np.zeros((8, 6))
    for other in (
        Parameter(np.array(values, order="F")),
        Parameter(np.lib.stride_tricks.as_strided(wide, (4, 6), (96, 8))),
    ):
        other.array[...] = values
        plain.array[...] = values
        for p, gradient in ((plain, g), (other, np.array(g, order="F"))):
            p.grad = gradient
            AdamW([p], lr=0.1).step()
        np.testing.assert_allclose(other.array, plain.array, rtol=1e-14)
        assert not np.allclose(other.array, values)


def test_zero_grad():
    p = parameter()
    p.grad = np.ones(2)
    optimizer = SGD([p])
    optimizer.zero_grad()
    assert p.grad is None
    optimizer.step()
    assert p.array.tolist() == [1, -3]


# ---- saving and loading


@pytest.mark.parametrize("make", [AdamW, Muon, lambda ps: SGD(ps, momentum=0.9)])
def test_a_loaded_optimizer_goes_on_where_the_saved_one_was(make, backend):
    one, other = parameter(), parameter()
    first, second = make([one]), make([other])
    run(first, one)
    state = {name: array.copy() for name, array in first.state_dict().items()}
    other.array = one.array.copy()
    second.load_state_dict(state)
    assert second.steps == 4
    np.testing.assert_array_equal(run(first, one), run(second, other))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("0.m"), "load_state_dict: '0.m' is missing"),
        (lambda s: s.update(x=1), "load_state_dict: 'x' is not in this AdamW"),
        (lambda s: s.update({"0.v": np.ones(3)}), "'0.v' has shape (3,), this AdamW needs (2,)"),
        (lambda s: s.update({"0.t": np.array(-1)}), "0.t is -1; expected a whole"),
        (
            lambda s: s.update({"steps": np.array(2.5)}),
            "'steps' is float64, this AdamW needs int64",
        ),
        (lambda s: s.update({"0.m": np.ones(2, complex)}), "'0.m' is complex128, this AdamW"),
        (lambda s: s.update({"0.m": np.array([1, 1e39])}), "'0.m' has values that float32 cannot"),
        (lambda s: s.update({"0.v": np.array(["a", "b"])}), "'0.v' is <U1, this AdamW needs"),
    ],
)
def test_loading_is_all_or_nothing(change, message):
    p = parameter(np.float32)
    optimizer = AdamW([p])
    run(optimizer, p)
    before = {name: array.copy() for name, array in optimizer.state_dict().items()}
    state = {name: array + 1 for name, array in before.items()}
    change(state)
    with pytest.raises(ValueError, match=re.escape(message)):
        optimizer.load_state_dict(state)
    for name, array in optimizer.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


# ---- what is refused

P = parameter()


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (lambda: AdamW([]), ValueError, "AdamW: there are no parameters to train"),
        (lambda: AdamW(iter([])), ValueError, "AdamW: there are no parameters to train"),
        (lambda: AdamW([P], lr=-1), ValueError, "AdamW: lr is -1; expected ≥ 0"),
        (lambda: AdamW([P], lr=math.nan), ValueError, "AdamW: lr is nan; expected ≥ 0"),
        (lambda: AdamW([P], weight_decay=-1), ValueError, "AdamW: weight_decay is -1; expected"),
        (
            lambda: AdamW([P], betas=(0.9, 1)),
            ValueError,
            "AdamW: betas are (0.9, 1): β₂ is 1; expec",
        ),
        (lambda: AdamW([P], eps=0), ValueError, "AdamW: eps is 0; expected > 0"),
        (lambda: AdamW([{"params": [P], "lr": -2}]), ValueError, "AdamW: lr is -2; expected ≥ 0"),
        (lambda: AdamW([{"params": [P], "rate": 2}]), ValueError, "unknown setting 'rate' in a gr"),
        (lambda: AdamW([{"lr": 2}]), ValueError, "AdamW: missing setting 'params' in a group"),
        (lambda: AdamW([P, P]), ValueError, "AdamW: a parameter is given twice"),
        (lambda: AdamW([P, np.ones(2)]), TypeError, "parameter 1 is a ndarray; expected a Tensor"),
        (
            lambda: Muon([P], momentum=1),
            ValueError,
            "Muon: momentum is 1; expected 0 ≤ momentum < 1",
        ),
        (
            lambda: Muon([P], orthogonal=True),
            ValueError,
            "orthogonal is for matrices, not for the shape (2,)",
        ),
        (lambda: SGD([P], momentum=1), ValueError, "SGD: momentum is 1; expected 0 ≤ momentum < 1"),
        (lambda: SGD([P], nesterov=True), ValueError, "SGD: nesterov is True but momentum is 0"),
        (lambda: SGD([P], lr="0.1"), ValueError, "SGD: lr is '0.1'; expected ≥ 0"),
        (lambda: SGD([P], lr=None), ValueError, "SGD: lr is None; expected ≥ 0"),
        (lambda: SGD([P], lr=math.inf), ValueError, "SGD: lr is inf; expected ≥ 0"),
        (
            lambda: SGD([P], momentum=math.nan),
            ValueError,
            "SGD: momentum is nan; expected 0 ≤ momentum",
        ),
        (
            lambda: Muon([P], momentum="x"),
            ValueError,
            "Muon: momentum is 'x'; expected 0 ≤ momentum < 1",
        ),
        (lambda: AdamW([P], betas=(math.nan, 0.9)), ValueError, "β₁ is nan; expected 0 ≤ β₁ < 1"),
        (lambda: AdamW([P], betas=0.9), ValueError, "AdamW: betas are 0.9; expected two numbers"),
        (lambda: AdamW([P], betas=(0.9,)), ValueError, "betas are (0.9,); expected two numbers"),
        (lambda: AdamW([P], eps=math.nan), ValueError, "AdamW: eps is nan; expected > 0"),
        (lambda: AdamW([P], weight_decay=math.nan), ValueError, "weight_decay is nan; expected ≥"),
        (lambda: AdamW(None), TypeError, "AdamW: parameters is a NoneType; expected tensors"),
        (lambda: AdamW(nn.Linear(2, 2)), TypeError, "parameters is a Linear; expected tensors, su"),
        (lambda: AdamW({"params": [P]}), TypeError, "parameters is a dict; expected tensors, such"),
        (lambda: AdamW([{"params": [P]}, P]), TypeError, "a Parameter stands among the groups"),
        (
            lambda: AdamW([P, {"params": [P]}]),
            TypeError,
            "parameter 1 is a dict; expected a Tensor",
        ),
        (lambda: AdamW("ab"), TypeError, "AdamW: parameter 0 is a str; expected a Tensor"),
        (lambda: AdamW([{"params": []}]), ValueError, "AdamW: there are no parameters to train"),
        (lambda: setattr(AdamW([P]), "lr", math.nan), ValueError, "AdamW: lr is nan; expected ≥ 0"),
    ],
)
def test_settings_that_make_no_sense(make, kind, message):
    with pytest.raises(kind, match=re.escape(message)):
        make()


# ---- and they train


@pytest.mark.parametrize("make", [lambda ps: AdamW(ps, 0.05), lambda ps: SGD(ps, 0.1, 0.9)])
def test_a_line_is_fitted(make, backend):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((64, 3))
    y = x @ [1.0, -2.0, 3.0] + 0.5
    layer = nn.Linear(3, 1, rng=0).astype(np.float64)
    optimizer = make(layer.parameters())
    for _ in range(500):
        optimizer.zero_grad()
        error = layer(Tensor(x)).reshape(-1) - y
        (error * error).mean().backward()
        optimizer.step()
    np.testing.assert_allclose(layer.weight.array.ravel(), [1, -2, 3], atol=0.05)
    np.testing.assert_allclose(layer.bias.array, [0.5], atol=0.05)
