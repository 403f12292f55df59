"""Module: names and their order, saving and loading, modes, and what is read of it."""

import copy
import re

import numpy as np
import pytest

from minimix import Module, Parameter, Tensor, nn, no_grad
from minimix.autograd import is_recording


class Two(Module):
    def __init__(self):
        super().__init__()
        self.second = nn.Linear(2, 3, rng=0)
        self.scale = Parameter(np.ones(3, np.float32))
        self.first = nn.BatchNorm(3)
        self.bias = None

    def forward(self, x):
        return self.first(self.second(x)) * self.scale


# ---- names


def test_names_come_in_the_order_of_assignment():
    model = Two()
    assert [name for name, _ in model.named_modules()] == ["", "second", "first"]
    assert list(dict(model.named_parameters())) == [
        "scale",
        "second.weight",
        "second.bias",
        "first.weight",
        "first.bias",
    ]
    assert list(dict(model.named_buffers())) == ["first.running_mean", "first.running_var"]
    assert list(model.state_dict()) == [
        "scale",
        "second.weight",
        "second.bias",
        "first.weight",
        "first.bias",
        "first.running_mean",
        "first.running_var",
    ]
    assert model.n_parameters() == 3 + 6 + 3 + 3 + 3
    assert all(p.requires_grad for p in model.parameters())


def test_a_name_means_one_thing_at_a_time():
    model = Two()
    model.scale = Parameter(np.zeros(3, np.float32))
    assert next(iter(model.state_dict())) == "scale"
    assert model.state_dict()["scale"].tolist() == [0, 0, 0]
    model.scale = None
    assert "scale" not in model.state_dict()
    model.second = nn.Identity()
    assert "second.weight" not in model.state_dict()
    model.first = Parameter(np.ones(2, np.float32))
    assert list(model.state_dict()) == ["first"]


def test_a_parameter_is_not_replaced_by_a_bare_tensor():
    layer = nn.Linear(2, 2)
    with pytest.raises(TypeError, match="'weight' is a parameter; assign a Parameter"):
        layer.weight = Tensor(np.ones((2, 2)))


def test_a_buffer_that_is_assigned_is_the_buffer_that_is_saved():
    norm = nn.BatchNorm(2)
    norm.running_mean = np.array([3.0, 4.0], np.float32)
    assert norm.state_dict()["running_mean"].tolist() == [3, 4]
    norm.register_buffer("running_mean", np.array([5.0, 6.0], np.float32))
    assert norm.running_mean.tolist() == [5, 6]


def test_a_module_that_forgets_its_beginning():
    class Forgetful(Module):
        def __init__(self):
            self.layer = nn.Linear(2, 2)

    with pytest.raises(RuntimeError, match=r"call super\(\).__init__\(\) before assigning 'layer'"):
        Forgetful()


def test_a_module_without_forward():
    with pytest.raises(NotImplementedError, match="Module has no forward"):
        Module()(1)


def test_a_shared_parameter_is_given_once_and_saved_under_both_names():
    model = nn.Sequential(nn.Linear(3, 3, rng=0), nn.Linear(3, 3, rng=1))
    model[1].weight = model[0].weight
    assert list(dict(model.named_parameters())) == ["0.weight", "0.bias", "1.bias"]
    assert model.n_parameters() == 9 + 3 + 3
    assert list(model.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    model.astype(np.float64)
    assert model[0].weight is model[1].weight
    assert model[1].weight.dtype == np.float64


# ---- saving and loading


def test_state_dicts_go_round():
    one, other = Two(), Two()
    for array in one.state_dict().values():
        array += np.random.default_rng(0).standard_normal(array.shape).astype(np.float32)
    other.load_state_dict({name: array.copy() for name, array in one.state_dict().items()})
    for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.shares_memory(a, b)


def test_a_state_dict_is_converted_to_the_precision_of_the_model():
    model = Two()
    model.load_state_dict({n: a.astype(np.float64) for n, a in model.state_dict().items()})
    assert {a.dtype for a in model.state_dict().values()} == {np.dtype(np.float32)}


def test_a_state_dict_may_be_the_model_s_own_arrays():
    model = nn.Sequential(nn.LayerNorm(2), nn.LayerNorm(2))
    model[0].weight.array[...] = [3, 4]
    state = model.state_dict()
    state["0.weight"], state["1.weight"] = state["1.weight"], state["0.weight"]
    model.load_state_dict(state)
    assert model[0].weight.array.tolist() == [1, 1]
    assert model[1].weight.array.tolist() == [3, 4]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("second.bias"), "'second.bias' is missing (6 keys given)"),
        (lambda s: s.update(extra=np.ones(1)), "'extra' is not in this Two"),
        (
            lambda s: s.update({"first.running_var": np.ones(4)}),
            "'first.running_var' has shape (4,), this Two needs (3,)",
        ),
        (lambda s: s.update({"first.running_var": np.array(["a", "b", "c"])}), "'a'"),
    ],
)
def test_loading_is_all_or_nothing(change, message):
    model = Two()
    before = {name: array.copy() for name, array in model.state_dict().items()}
    state = {name: array + 1 for name, array in before.items()}
    change(state)
    with pytest.raises(ValueError, match=re.escape(message)):
        model.load_state_dict(state)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_loading_between_forward_and_backward_is_noticed():
    model = nn.Linear(2, 2)
    y = model(Tensor(np.ones((1, 2), np.float32)))
    model.load_state_dict({name: array + 1 for name, array in model.state_dict().items()})
    with pytest.raises(RuntimeError, match="changed in place"):
        y.backward(np.ones((1, 2)))


def test_a_model_can_be_copied():
    model = Two()
    other = copy.deepcopy(model)
    other.scale.array = np.zeros(3)
    other.first.running_mean += 1
    assert model.scale.array.tolist() == [1, 1, 1]
    assert model.first.running_mean.tolist() == [0, 0, 0]
    assert list(other.state_dict()) == list(model.state_dict())
    assert other.state_dict()["first.running_mean"].tolist() == [1, 1, 1]


# ---- modes


def test_train_and_eval_reach_everything():
    model = nn.Sequential(nn.Residual(nn.Sequential(nn.BatchNorm(2))), nn.Dropout())
    assert model.eval() is model
    assert not any(module.training for _, module in model.named_modules())
    assert model.train() is model
    assert all(module.training for _, module in model.named_modules())


def test_zero_grad():
    model = nn.Linear(2, 2)
    model(Tensor(np.ones((1, 2), np.float32))).backward(np.ones((1, 2)))
    assert model.weight.grad is not None
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters())


def test_astype_converts_what_is_a_float():
    model = Two()
    model.first.register_buffer("seen", np.zeros(1, np.int64))
    model.scale.grad = np.ones(3, np.float32)
    assert model.astype(np.float64) is model
    state = model.state_dict()
    assert state.pop("first.seen").dtype == np.int64
    assert {array.dtype for array in state.values()} == {np.dtype(np.float64)}
    assert model.scale.grad is None
    assert model(Tensor(np.ones((4, 2)))).dtype == np.float64
    with pytest.raises(ValueError, match="astype: dtype is float16; expected float32 or float64"):
        model.astype(np.float16)


# ---- observing


def test_observers_see_every_call_and_leave():
    model, seen = Two(), []
    with nn.observe(lambda module, inputs, output: seen.append((module, inputs[0], output))):
        y = model(Tensor(np.ones((4, 2), np.float32)))
    assert [module for module, _, _ in seen] == [model.second, model.first, model]
    assert seen[-1][2] is y
    model(Tensor(np.ones((4, 2), np.float32)))
    assert len(seen) == 3


# ---- reading


def test_summary_counts_and_leaves_the_model_as_it_was():
    model = Two()
    model.first.eval()
    text = model.summary((5, 2))
    lines = text.splitlines()
    assert lines[0] == "Two, input (5, 2)"
    assert re.match(r"second +Linear\(2 → 3\) +\(5, 3\) +9 +30$", lines[4])
    assert re.match(r"first +BatchNorm\(3\) +\(5, 3\) +6 +0$", lines[5])
    assert lines[6].split("Two()")[0].strip() == ""
    assert lines[-1].split() == ["18", "30"]
    assert model.training
    assert not model.first.training
    assert model.first.running_mean.tolist() == [0, 0, 0]
    assert is_recording()


def test_repr_shows_what_is_inside():
    model = nn.Sequential(nn.Residual(nn.Linear(2, 2)), nn.Conv2d(2, 4, 3, groups=2, padding=1))
    assert repr(model) == (
        "Sequential(\n"
        "  (0): Residual(\n"
        "    (fn): Linear(2 → 2)\n"
        "  )\n"
        "  (1): Conv2d(2 → 4, kernel 3, stride 1, padding 1, dilation 1, groups 2)\n"
        ")"
    )


def test_no_grad_gives_nothing_to_go_back_through():
    with no_grad():
        assert Two()(Tensor(np.ones((4, 2), np.float32))).is_leaf
