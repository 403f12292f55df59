"""Module: names and their order, saving and loading, modes, and what is read of it."""

import contextlib
import copy
import pickle
import re
from collections import UserDict, UserList, deque
from types import MappingProxyType

import numpy as np
import pytest

from minimix import Module, Parameter, Tensor, nn, no_grad
from minimix import functional as F


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
    with pytest.raises(TypeError, match="'weight' takes a Parameter or None"):
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


# ---- what a name takes


def test_a_list_of_modules_is_refused_at_once_or_when_it_is_looked_for():
    class Net(Module):
        pass

    net = Net()
    layer = nn.Linear(2, 2)
    containers = [[layer], (1, (layer,)), {"a": [layer]}, {layer}, {layer: 1}]
    containers += [deque([layer]), UserList([layer]), UserDict(a=layer), {"a": layer}.values()]
    containers += [MappingProxyType({"a": layer}), np.array([layer, None]), [np.array([layer])]]
    for value in containers:
        with pytest.raises(TypeError, match="holds a Linear, which would not be trained or saved"):
            net.layers = value
    with pytest.raises(TypeError, match=r"'ws' is a list that holds a Parameter.*ParameterList"):
        net.ws = [layer.weight]
    with pytest.raises(TypeError, match="'layers' is a list that holds a Linear"):
        type("OfTheClass", (Module,), {"layers": [layer]})
    assert list(net.parameters()) == []
    net.sizes = [1, (2, 3), {"four": [5]}]
    net.sizes.append(net.sizes)  # holds itself
    assert net.sizes[0] == 1
    net.later = []
    net.later.append(layer)
    for use in (net.state_dict, net.n_parameters, net.eval, net.zero_grad):
        with pytest.raises(TypeError, match=r"'later' is a list that holds a Linear.*ModuleList"):
            use()


def test_what_is_deleted_is_gone():
    model = Two()
    del model.second, model.scale, model.first.running_mean
    assert list(dict(model.named_parameters())) == ["first.weight", "first.bias"]
    assert list(dict(model.named_buffers())) == ["first.running_var"]
    assert [name for name, _ in model.named_modules()] == ["", "first"]
    model.first.running_mean = None  # no buffer any longer
    with pytest.raises(AttributeError):
        del model.second
    model.second = nn.Linear(2, 3)
    assert "second.weight" in model.state_dict()


def test_none_takes_the_place_of_a_parameter_or_a_module_and_gives_it_back():
    model = Two()
    second = model.second
    model.second = model.scale = None
    assert next(iter(model.state_dict())) == "first.weight"
    model.second, model.scale = second, Parameter(np.ones(3, np.float32))
    assert list(model.state_dict()) == list(Two().state_dict())


@pytest.mark.parametrize("value", [np.ones(3), 1.0, [1, 2], "x", F.relu, Tensor([1.0])])
def test_a_parameter_or_a_module_is_not_replaced_by_something_else(value):
    model = Two()
    with pytest.raises(TypeError, match="'scale' takes a Parameter or None"):
        model.scale = value
    with pytest.raises(TypeError, match="'second' takes a Module or None"):
        model.second = value
    assert list(model.state_dict()) == list(Two().state_dict())


def test_a_buffer_takes_arrays_of_its_shape_in_its_dtype():
    norm = nn.BatchNorm(2)
    norm.register_buffer("seen", np.array(0))
    norm.seen = norm.seen + 1  # a NumPy number, no array
    norm.running_mean = np.array([1.0, 2.0])  # float64
    norm.running_var = [3, 4]
    state = norm.state_dict()
    assert [state[n].dtype for n in state] == [np.float32] * 4 + [np.int64]
    assert [state[n].tolist() for n in list(state)[2:]] == [[1, 2], [3, 4], 1]
    assert state["running_mean"] is norm.running_mean
    for value, error, message in (
        (np.ones(3), ValueError, "'running_mean' is a buffer of shape (2,), and was assigned (3,)"),
        (1.0, ValueError, "'running_mean' is a buffer of shape (2,), and was assigned ()"),
        (None, TypeError, "'running_mean' is a buffer of float32 and takes such arrays, not a Non"),
        (Tensor([1.0, 2.0]), TypeError, "takes such arrays, not a Tensor; register_buffer"),
        (np.array(["a", "b"]), TypeError, "takes such arrays, not a <U1 array"),
        (np.ones(2) * 1j, TypeError, "takes such arrays, not a complex128 array"),
    ):
        with pytest.raises(error, match=re.escape(message)):
            norm.running_mean = value
    with pytest.raises(TypeError, match="'seen' is a buffer of int64"):
        norm.seen = 1.5
    assert norm.running_mean.tolist() == [1, 2]
    norm.register_buffer("running_mean", np.zeros(3))
    assert norm.state_dict()["running_mean"].shape == (3,)
    assert list(norm.state_dict()) == ["weight", "bias", "running_mean", "running_var", "seen"]
    norm.running_mean = Parameter(np.ones(3))
    assert list(norm.state_dict()) == ["weight", "bias", "running_mean", "running_var", "seen"]
    assert "running_mean" not in dict(norm.named_buffers())
    assert "running_mean" in dict(norm.named_parameters())
    norm.register_buffer("weight", np.zeros(2))  # and back: a name means one thing at a time
    assert "weight" not in dict(norm.named_parameters())


@pytest.mark.parametrize("value", [Tensor([1.0]), np.array(["a"]), None, np.array([{}])])
def test_what_is_no_buffer(value):
    with pytest.raises(TypeError, match=r"buffer 'x' is a .*; expected real numbers"):
        Module().register_buffer("x", value)


@pytest.mark.parametrize("name", ["a.b", "", "train", "state_dict", "training"])
@pytest.mark.parametrize("value", [Parameter([1.0]), nn.Identity(), np.ones(2)])
def test_names_that_cannot_be(name, value):
    model = Module()
    assign = model.register_buffer if isinstance(value, np.ndarray) else model.__setattr__
    with pytest.raises(ValueError, match=f"'{name}' (cannot be a name|is part of every Module)"):
        assign(name, value)
    assert model.state_dict() == {}


def test_a_module_cannot_contain_itself():
    outer = nn.Sequential(nn.Sequential(nn.Identity()))
    with pytest.raises(ValueError, match="'parent': this Identity would contain itself"):
        outer[0][0].parent = outer
    for change in (outer.append, lambda module: outer.insert(0, module)):
        with pytest.raises(ValueError, match="would contain itself"):
            change(outer)
        assert len(outer) == 1


def test_what_belongs_to_a_class_is_refused():
    with pytest.raises(TypeError, match=r"Net.head is a Linear of the class.*in __init__"):
        type("Net", (Module,), {"head": nn.Linear(2, 2)})


def test_a_model_can_be_pickled():
    model = nn.Sequential(Two(), nn.ModuleDict({"a": nn.GELU("tanh")}))
    again = pickle.loads(pickle.dumps(model))
    assert list(again.state_dict()) == list(model.state_dict())
    assert again[1]["a"].approximate == "tanh"
    assert np.array_equal(again[0].second.weight.array, model[0].second.weight.array)
    assert [p.requires_grad for p in again.parameters()] == [True] * 5
    again[0].first.running_mean = np.ones(3)
    assert again.state_dict()["0.first.running_mean"].tolist() == [1, 1, 1]


def test_a_shallow_copy_has_names_of_its_own():
    model = Two()
    other = copy.copy(model)
    other.second = nn.Linear(2, 5)
    other.first = None
    assert model.second is not other.second
    assert model.state_dict()["second.weight"].shape == (2, 3)
    assert "first.weight" in model.state_dict()
    assert other.scale is model.scale


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
        (lambda s: s.pop("second.bias"), "'second.bias' is missing (7 keys given)"),
        (lambda s: s.update(extra=np.ones(1)), "'extra' is not in this Two"),
        (
            lambda s: s.update({"first.running_var": np.ones(4)}),
            "'first.running_var' has shape (4,), this Two needs (3,)",
        ),
        (
            lambda s: s.update({"scale": np.array(["1", "2", "3"])}),
            "'scale' is <U1, this Two needs",
        ),
        (lambda s: s.update({"scale": np.array([1, 2, 3], object)}), "'scale' is object, this Two"),
        (lambda s: s.update({"scale": np.ones(3) * 1j}), "'scale' is complex128, this Two needs"),
        (lambda s: s.update({"scale": [1.0, 1e39, 1.0]}), "'scale' has values that float32 cannot"),
        (lambda s: s.update({"first.seen": np.float32(1.5)}), "'first.seen' is float32, this Two"),
    ],
)
def test_loading_is_all_or_nothing(change, message):
    model = Two()
    model.first.register_buffer("seen", np.array(0))
    before = {name: array.copy() for name, array in model.state_dict().items()}
    state = {name: array + 1 for name, array in before.items()}
    change(state)
    with pytest.raises(ValueError, match=re.escape(message)):
        model.load_state_dict(state)
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


def test_what_is_shared_is_loaded_with_one_value():
    model = nn.Sequential(nn.Linear(2, 2, rng=0), nn.Linear(2, 2, rng=1))
    state = {name: array.copy() for name, array in model.state_dict().items()}
    model[1].weight = model[0].weight
    before = model[0].weight.array.copy()
    message = "'0.weight' and '1.weight' are shared in this Sequential, but their values differ"
    with pytest.raises(ValueError, match=re.escape(message)):
        model.load_state_dict(state)
    assert np.array_equal(model[0].weight.array, before)
    state["0.weight"][0, 0] = np.nan
    state["1.weight"] = state["0.weight"]
    model.load_state_dict(state)
    assert np.array_equal(model[1].weight.array, state["0.weight"], equal_nan=True)


def test_read_only_arrays_are_taken_but_not_written_to():
    model, state = nn.Linear(2, 2, rng=0), nn.Linear(2, 2, rng=1).state_dict()
    for array in state.values():
        array.flags.writeable = False
    model.load_state_dict(state)
    assert np.array_equal(model.weight.array, state["weight"])
    model.weight.array[...] = 0
    model.bias.array = state["bias"]
    with pytest.raises(ValueError, match="'bias': the array of this Linear is read-only"):
        model.load_state_dict(state)
    assert not model.weight.array.any()


def test_numbers_in_other_forms_are_taken():
    model = nn.BatchNorm(2)
    model.register_buffer("seen", np.array(0))
    values = [Tensor([1.0, 2.0]), [3, 4], np.array([5, 6], np.float16), np.array([True, False]), 7]
    model.load_state_dict(dict(zip(model.state_dict(), values, strict=True)))
    loaded = [array.tolist() for array in model.state_dict().values()]
    assert loaded == [[1, 2], [3, 4], [5, 6], [1, 0], 7]


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
    assert model.scale.grad.dtype == np.float64
    assert model.scale.grad.tolist() == [1, 1, 1]
    assert model(Tensor(np.ones((4, 2)))).dtype == np.float64
    with pytest.raises(ValueError, match="astype: dtype is float16; expected float32 or float64"):
        model.astype(np.float16)


def test_astype_keeps_shared_what_is_shared():
    model = nn.Sequential(nn.BatchNorm(2), nn.BatchNorm(2))
    model[1].weight = model[0].weight
    model[1].register_buffer("running_mean", model[0].running_mean)
    model.astype(np.float64)
    model[0].running_mean += 1
    assert model[1].weight is model[0].weight
    assert model[1].running_mean.tolist() == [1, 1]
    assert list(dict(model.named_buffers())) == ["0.running_mean", "0.running_var", "1.running_var"]
    version, array = model[0].weight.version, model[0].weight.array
    model.astype(np.float64)  # nothing to do
    assert model[0].weight.version == version
    assert model[0].weight.array is array


@pytest.mark.parametrize("error", [None, KeyError, KeyboardInterrupt])
def test_evaluating_restores_each_mode(error):
    model = nn.Sequential(nn.BatchNorm(2), nn.Sequential(nn.Dropout(), nn.BatchNorm(2)))
    model[1][1].eval()
    model[1].training = False
    with contextlib.suppress(error or ()), nn.evaluating(model) as same:
        assert same is model
        assert not any(module.training for _, module in model.named_modules())
        if error:
            raise error
    assert [module.training for _, module in model.named_modules()] == [1, 1, 0, 1, 0]


# ---- observing


def test_observers_see_every_call_and_leave():
    model, seen = Two(), []
    with nn.observe(lambda module, inputs, output: seen.append((module, inputs[0], output))):
        y = model(Tensor(np.ones((4, 2), np.float32)))
    assert [module for module, _, _ in seen] == [model.second, model.first, model]
    assert seen[-1][2] is y
    model(Tensor(np.ones((4, 2), np.float32)))
    assert len(seen) == 3


def test_observers_may_be_told_before_a_call_too():
    model, seen = Two(), []
    with nn.observe(
        lambda module, inputs, output: seen.append(("after", type(module).__name__)),
        entering=lambda module: seen.append(("before", type(module).__name__)),
    ):
        model(Tensor(np.ones((4, 2), np.float32)))
    assert seen == [
        ("before", "Two"),
        *[(when, kind) for kind in ("Linear", "BatchNorm") for when in ("before", "after")],
        ("after", "Two"),
    ]


# ---- reading


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


@pytest.mark.parametrize("dtype", [np.float16, int, bool, "c16"])
def test_other_precisions_are_refused(dtype):
    for one in (Tensor([1.5, 70000.0]), nn.Linear(2, 2)):
        with pytest.raises(ValueError, match=r"astype: dtype is .*; expected float32 or float64"):
            one.astype(dtype)


def test_integers_that_do_not_fit_are_refused():
    class Counting(Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("count", np.zeros((), np.int32))

    with pytest.raises(ValueError, match="'count' is int64, this Counting needs int32"):
        Counting().load_state_dict({"count": np.int64(2**40 + 7)})


def test_shapes_that_would_broadcast_or_be_cut_are_refused():
    with pytest.raises(ValueError, match="Affine: x has shape"):
        nn.Affine(4)(Tensor(np.ones((2, 3, 1))))
    with pytest.raises(ValueError, match="SelfAttention: x has shape"):
        nn.SelfAttention(8, 2)(Tensor(np.ones((4, 8))))
    with pytest.raises(ValueError, match="flatten: start is 2 and end 1; the end comes before"):
        Tensor(np.ones((2, 3, 4))).flatten(2, 1)
