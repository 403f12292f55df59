"""gradcheck itself: what it accepts, what it refuses and what it says."""

import re

import numpy as np
import pytest

import minimix as mx
from minimix import Tensor, gradcheck, nn, op
from minimix import functional as F
from minimix.gradcheck import GradcheckError, Report


def random(*shape, seed=0):
    return Tensor(np.random.default_rng(seed).standard_normal(shape), requires_grad=True)


@op
def double(x):
    return 2 * x, lambda g: 2 * g


@op
def wrong_product(x, y):
    return x * y, lambda g: (g * y, g * x * 1.001)


# ---- what is right passes, with how nearly


def test_a_right_gradient_gives_a_report():
    report = gradcheck(F.tanh, random(3, 4))
    assert isinstance(report, Report)
    assert report
    assert report.ok
    assert 0 < report.error < 1e-8
    assert re.fullmatch(r"tanh: largest relative error [\d.e-]+, tolerance 1e-07", str(report))


@pytest.mark.parametrize("whole", [True, False])
def test_both_ways_agree_on_what_is_right_and_on_what_is_wrong(whole):
    assert gradcheck(F.multiply, [random(5), random(5, seed=1)], whole=whole)
    with pytest.raises(GradcheckError, match="gradient of 'y'"):
        gradcheck(wrong_product, [random(5), random(5, seed=1)], whole=whole)


def test_it_is_exported():
    assert mx.gradcheck is gradcheck


@pytest.mark.parametrize(
    "inputs",
    [
        lambda x, y: [x, y],
        lambda x, y: (x, y),
        lambda x, y: {"x": x, "y": y},
        lambda x, y: [x.array, y.array],  # arrays are taken to require a gradient
        lambda x, y: [x, y.detach()],  # and this one is held constant
    ],
)
def test_inputs_may_come_in_several_forms(inputs):
    x, y = random(3), random(3, seed=1)
    assert gradcheck(F.multiply, inputs(x, y))


def test_one_tensor_needs_no_list_and_may_come_twice():
    x = random(3)
    assert gradcheck(double, x)
    assert gradcheck(F.multiply, [x, x])


def test_0d_inputs_and_results():
    assert gradcheck(F.exp, random())
    assert gradcheck(F.sum, random(3))


def test_a_module_is_checked_with_its_parameters_and_left_as_it_was():
    norm = nn.BatchNorm(3).astype(np.float64)
    state = {name: array.copy() for name, array in norm.state_dict().items()}
    assert gradcheck(norm, random(4, 3))
    assert all(np.array_equal(state[name], array) for name, array in norm.state_dict().items())
    assert norm.weight.grad is None

    class Wrong(nn.Linear):
        def forward(self, x):
            return wrong_product(x, self.weight)

    with pytest.raises(GradcheckError, match="Wrong: gradient of 'weight' at"):
        gradcheck(Wrong(3, 2).astype(np.float64), random(3, 2))


def test_inputs_are_left_as_they_were():
    x, y = random(3), random(3, seed=1)
    array, values = x.array, x.array.copy()
    x.grad = grad = np.ones(3)
    for whole in (True, False):
        gradcheck(wrong_product, [x, y], raise_on_failure=False, whole=whole, linear=["x"])
        assert x.array is array
        assert np.array_equal(x.array, values)
        assert x.grad is grad
        assert y.grad is None


# ---- what is wrong is told


def test_the_message_says_where_and_how_much():
    x, y = Tensor(np.array([1.0, 2.0])), Tensor(np.array([3.0, 4.0]), requires_grad=True)
    with pytest.raises(GradcheckError) as caught:
        gradcheck(wrong_product, [x, y])
    report = caught.value.report
    assert report.argument == "y"
    assert report.index == report.output
    i = report.index[0]
    assert report.backward == pytest.approx(x.array[i] * 1.001)
    assert report.forward == pytest.approx(x.array[i])
    assert report.error == pytest.approx(1e-3, rel=1e-2)
    assert f"gradient of 'y' at [{i}] from output [{i}]: backward says " in str(caught.value)
    assert isinstance(caught.value, AssertionError)
    assert "\n" not in str(caught.value)


def test_a_report_instead_of_an_error():
    report = gradcheck(wrong_product, [random(3), random(3)], raise_on_failure=False)
    assert not report
    assert report.argument == "y"


@pytest.mark.parametrize("factor", [1 + 2e-7, 1 - 2e-7])
def test_the_tolerance_is_kept(factor):
    @op
    def nearly(x):
        return 2 * x, lambda g: 2 * g * factor

    for whole in (True, False):
        assert not gradcheck(nearly, random(4), raise_on_failure=False, whole=whole)
        assert gradcheck(nearly, random(4), rtol=1e-6, whole=whole)


def test_the_adjoint_is_held_to_more_digits():
    @op
    def nearly(x):
        return 2 * x, lambda g: 2 * g * (1 + 1e-9)

    assert gradcheck(nearly, random(4))
    with pytest.raises(GradcheckError, match="adjoint identity"):
        gradcheck(nearly, random(4), linear=["x"])


def test_what_is_not_linear_fails_the_adjoint_identity():
    with pytest.raises(GradcheckError, match="adjoint identity"):
        gradcheck(F.exp, random(4), linear=["x"])


def test_a_backward_that_is_not_linear_in_what_it_is_sent():
    @op
    def signs(x):
        return x.copy(), lambda g: np.abs(g)

    with pytest.raises(GradcheckError):
        gradcheck(signs, random(4))


def test_a_result_that_does_not_depend_on_an_input():
    def normalized_sum(x):  # each column of x̂ sums to 0, so the sum says nothing about dx
        return F.sum(F.batch_norm(x, np.ones(3), np.ones(3)))

    x = random(4, 3)
    with pytest.raises(GradcheckError, match="does not depend on 'x'"):
        gradcheck(normalized_sum, x)
    assert gradcheck(normalized_sum, x, zero=["x"])
    with pytest.raises(GradcheckError, match="does not depend on 'y'"):
        gradcheck(lambda x, y: double(x), [x, random(2)], whole=False)


def test_zero_is_compared_too():
    @op
    def constant(x):
        return 0 * x, lambda g: g

    with pytest.raises(GradcheckError, match="backward says 1, forward 0"):
        gradcheck(constant, random(3), zero=["x"])


def test_a_gradient_that_never_arrives():
    with pytest.raises(GradcheckError, match=r"gradient of 'x'.*backward says 0, forward"):
        gradcheck(lambda x, y: double(x.detach()) + y, [random(3), random(3)])


def test_two_calls_that_differ():
    rng = np.random.default_rng(0)
    with pytest.raises(GradcheckError, match="two calls with the same inputs differ"):
        gradcheck(lambda x: F.dropout(x, p=0.5, rng=rng), random(30))


@pytest.mark.parametrize("whole", [True, False])
def test_changes_in_place(whole):
    @op
    def takes_the_gradient(x):
        def backward(g):
            g *= 2
            return g

        return 2 * x, backward

    @op
    def takes_the_result(x):
        y = np.exp(x)

        def backward(g):
            np.multiply(y, g, out=y)
            return y.copy()

        return y, backward

    @op
    def takes_the_input(x):
        x -= x.max()
        y = np.exp(x)
        return y, lambda g: y * g

    for f, what in (
        (takes_the_gradient, "the gradient it was sent"),
        (takes_the_result, "its own result"),
        (takes_the_input, "its input 'x'"),
    ):
        x = random(4)
        with pytest.raises(GradcheckError, match=f"changed {what} in place"):
            gradcheck(f, x, whole=whole)
        assert np.array_equal(x.array, random(4).array)


def test_a_backward_that_raises_is_a_failure_with_its_reason():
    @op
    def wrong_shape(x):
        return x.sum(axis=0), lambda g: g

    message = r"wrong_shape: backward raised RuntimeError: wrong_shape: the gradient of 'x' is"
    with pytest.raises(GradcheckError, match=message) as caught:
        gradcheck(wrong_shape, random(3, 2))
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert not gradcheck(wrong_shape, random(3, 2), raise_on_failure=False)


def test_what_is_not_a_number_is_wrong():
    @op
    def unsure(x):
        return x * 1, lambda g: g * np.nan

    for whole in (True, False):
        report = gradcheck(unsure, random(3), raise_on_failure=False, whole=whole)
        assert report.error == np.inf
    with pytest.raises(GradcheckError, match="its result is not finite: inf"):
        gradcheck(lambda x: double(x) + np.inf, random(3))


def test_a_kink_is_suspected():
    x = Tensor(np.array([1e-8, 1.0]), requires_grad=True)  # within the shortest step of relu's kink
    with pytest.raises(GradcheckError, match=r"at \[0\].*changes by .*is there a kink or noise"):
        gradcheck(F.relu, x)
    for near in (1e-5, 3e-4, 6e-4):  # a shorter step stays on this side of it
        assert gradcheck(F.relu, Tensor(np.array([near, -near, 1.0]), requires_grad=True))


@pytest.mark.parametrize("whole", [True, False])
def test_noise_is_suspected(whole):
    @op
    def rough(x):
        return x + 1e-6 * np.sin(1e12 * x), lambda g: g

    with pytest.raises(GradcheckError, match="is there a kink or noise"):
        gradcheck(rough, random(3), whole=whole)


STEEP = {
    "1/x": (lambda x: 1 / x, lambda x: -1 / x**2),
    "log": (np.log, lambda x: 1 / x),
    "sqrt": (np.sqrt, lambda x: 0.5 / np.sqrt(x)),
    "x**-3": (lambda x: x**-3.0, lambda x: -3 * x**-4.0),
    "sin 100x": (lambda x: np.sin(100 * x), lambda x: 100 * np.cos(100 * x)),
    "exp(1/x)": (lambda x: np.exp(0.1 / x), lambda x: -0.1 / x**2 * np.exp(0.1 / x)),
}


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("x", [[0.01], [0.02, -0.05, 1.0], [0.003, 0.01, 3.0], [1e-3] * 4])
@pytest.mark.parametrize("name", STEEP)
def test_where_f_bends_within_a_step(name, x, whole):
    """No false alarm, and no mistake is let through either."""
    f, slope = STEEP[name]
    x = np.abs(x) if name in ("log", "sqrt", "exp(1/x)") else np.array(x)
    x = np.maximum(x, 0.02) if name == "exp(1/x)" else x

    def operation(factor):
        return op(lambda x: (f(x), lambda g: g * slope(x) * factor))

    assert gradcheck(operation(1), x, whole=whole)
    for factor in (1 + 1e-6, 1 - 1e-6, 1.1):
        assert not gradcheck(operation(factor), x, whole=whole, raise_on_failure=False)


@pytest.mark.parametrize("whole", [True, False])
def test_one_wrong_number_among_many_that_bend(whole):
    x = np.linspace(0.004, 0.02, 12)
    wrong = np.where(np.arange(12) == 7, 1 + 1e-5, 1)

    @op
    def inverse(x):
        return 1 / x, lambda g: -g * wrong / x**2

    report = gradcheck(inverse, x, whole=whole, raise_on_failure=False)
    assert not report
    assert report.index == ((7,) if whole else None)


# ---- in whatever layout the gradient arrives


def in_memory_order(g):
    """The numbers of g as they lie in memory, taken for contiguous."""
    return g.ravel(order="K").reshape(g.shape)


def turned_round(g):
    return g if g.flags.c_contiguous else g[::-1]


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(
    ("taken", "shape"),
    [(in_memory_order, (3, 4)), (in_memory_order, (2, 3, 2)), (turned_round, (4,))],
)
def test_a_gradient_that_is_right_only_where_it_arrives_contiguous(taken, shape, whole):
    @op
    def double(x):
        return 2 * x, lambda g: 2 * taken(g)

    message = r"double: backward depends on the layout of what arrives: with .* of 'x' at \[.*conti"
    with pytest.raises(GradcheckError, match=message):
        gradcheck(double, random(*shape), whole=whole)


@pytest.mark.parametrize("copies", [lambda g: 0 in g.strides, lambda g: min(g.strides) == 0])
def test_repeated_numbers(copies):
    @op
    def double(x):
        return 2 * x, lambda g: 2 * g if not copies(g) else 2 * g / max(g.size, 1)

    with pytest.raises(GradcheckError, match="with one row repeated"):
        gradcheck(double, random(3, 4))
    with pytest.raises(GradcheckError, match="with one number repeated"):
        gradcheck(double, random(4))


def test_what_arrives_in_another_layout_is_not_changed_either():
    @op
    def takes_the_gradient(x):
        def backward(g):
            if not g.flags.c_contiguous:
                g *= 2
                return g / 1
            return 2 * g

        return 2 * x, backward

    with pytest.raises(GradcheckError, match="changed the gradient it was sent in place"):
        gradcheck(takes_the_gradient, random(3, 4))


def test_a_smooth_mistake_is_not_taken_for_a_kink():
    report = gradcheck(wrong_product, [random(3), random(3)], raise_on_failure=False)
    assert "kink" not in str(report)


# ---- what cannot be checked


@pytest.mark.parametrize(
    ("f", "inputs", "error", "message"),
    [
        (double, Tensor(np.ones(3, np.float32)), TypeError, "'x' is float32; expected float64"),
        (nn.Linear(2, 2), random(2), TypeError, "'weight' is float32"),
        (double, np.ones(3, np.int64), TypeError, "'x' is int64"),
        (double, [[1.0, 2.0]], TypeError, "'x' is a list; expected a tensor"),
        (double, Tensor(np.ones(3)), ValueError, r"none of the inputs \(x\) requires a gradient"),
        (double, random(0, 3), ValueError, r"'x' of shape \(0, 3\) is empty"),
        (double, double(random(3)), ValueError, "'x' is the result of double; expected a leaf"),
        (double, np.array([1, np.nan]), ValueError, r"'x' is not finite at \[1\]"),
        (lambda x: x.array, random(3), TypeError, "f returned a ndarray; expected a Tensor"),
        (lambda x: Tensor(x.array), random(3), GradcheckError, "does not remember its inputs"),
        (lambda x: x[:0], random(3), ValueError, r"f's result of shape \(0,\) is empty"),
    ],
)
def test_what_cannot_be_checked(f, inputs, error, message):
    with pytest.raises(error, match=message):
        gradcheck(f, inputs)


def test_names_that_are_not_inputs():
    with pytest.raises(ValueError, match="no input 'w' requires a gradient; there are x, y"):
        gradcheck(F.multiply, [random(3), random(3)], linear=["w"])


def test_a_parameter_that_is_called_like_an_input():
    @op
    def square(x):
        return x * x, lambda g: g * x  # the 2 is missing

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.x = mx.Parameter(np.ones(3))

        def forward(self, x):
            return square(x) + self.x

    with pytest.raises(GradcheckError, match="input x"):
        gradcheck(Net(), np.arange(1.0, 4.0))
