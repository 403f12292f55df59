"""State dicts of the PyTorch world, in arrays: shapes turned, names told apart, errors named."""

import re

import numpy as np
import pytest

from minimix import ConvMixer, Parameter, Tensor, from_torch, nn, to_torch
from minimix.interop import RELU_SIZES
from minimix.models import ResNet


def authors_names(state):
    """timm's names as the authors' code has them, for a model of two blocks."""
    renamed = {}
    for name, value in state.items():
        part, _, rest = name.partition(".")
        if part == "stem":
            renamed[rest] = value
        elif part == "blocks":
            i, _, rest = rest.partition(".")
            renamed[f"{3 + int(i)}.{rest}"] = value
        else:
            renamed[f"7.{rest}"] = value
    return renamed


def ours():
    """A state dict in which every number is another."""
    state = ConvMixer(4, 2, 3, 2, 5, rng=0).state_dict()
    ends = np.cumsum([array.size for array in state.values()])
    return {
        name: np.arange(end - array.size, end, dtype=np.float32).reshape(array.shape)
        for (name, array), end in zip(state.items(), ends, strict=True)
    }


def test_shapes_and_places():
    mine, theirs = ours(), to_torch(ours())
    w = mine["stem.0.weight"]
    assert theirs["stem.0.weight"].shape == (4, 3, 2, 2)
    assert theirs["stem.0.weight"][3, 2, 1, 0] == w[1, 0, 2, 3]
    w = mine["blocks.1.0.fn.0.weight"]
    assert theirs["blocks.1.0.fn.0.weight"].shape == (4, 1, 3, 3)
    assert theirs["blocks.1.0.fn.0.weight"][3, 0, 2, 1] == w[2, 1, 3]
    w = mine["blocks.0.1.weight"]
    assert theirs["blocks.0.1.weight"].shape == (4, 4, 1, 1)
    assert theirs["blocks.0.1.weight"][3, 1, 0, 0] == w[1, 3]
    assert theirs["head.weight"].shape == (5, 4)
    assert theirs["head.weight"][2, 3] == mine["head.weight"][3, 2]
    counts = [name for name in theirs if name.endswith("num_batches_tracked")]
    assert len(theirs) == 9 + 14 * 2
    assert [name.rpartition(".")[2] for name in list(theirs)[2:7]] == [
        "weight",
        "bias",
        "running_mean",
        "running_var",
        "num_batches_tracked",
    ]
    assert len(counts) == 5
    assert all(theirs[name].dtype == np.int64 and theirs[name].shape == () for name in counts)
    assert all(array.flags.c_contiguous for array in theirs.values())


@pytest.mark.parametrize("spelling", [dict, authors_names])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_there_and_back(spelling, prefix):
    theirs = {prefix + name: value for name, value in spelling(to_torch(ours())).items()}
    again = from_torch(theirs)
    assert list(again) == list(ours())
    for name, array in ours().items():
        np.testing.assert_array_equal(again[name], array)
        assert again[name].dtype == array.dtype
        assert again[name].flags.c_contiguous


def test_a_model_without_blocks():
    state = to_torch(ConvMixer(4, 0, 3, 2, 5, rng=0).state_dict())
    renamed = {name.replace("stem.", "").replace("head", "5"): a for name, a in state.items()}
    assert list(from_torch(renamed)) == list(ConvMixer(4, 0, 3, 2, 5).state_dict())


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": s, "epoch": 3}])
@pytest.mark.parametrize("prefix", ["_orig_mod.", "model.", "model._orig_mod.module."])
def test_what_stands_around_the_names(prefix, wrap):
    theirs = {prefix + name: value for name, value in to_torch(ours()).items()}
    theirs["n_averaged"] = np.array(7)
    again = from_torch(wrap(theirs))
    assert list(again) == list(ours())
    assert all(np.array_equal(again[name], array) for name, array in ours().items())


def test_what_comes_out_is_a_copy():
    model = ConvMixer(4, 2, 3, 2, 5, rng=0)
    theirs = to_torch(model.state_dict())
    again = from_torch(theirs)
    for array in (*theirs.values(), *again.values()):
        array += 1
    for name, array in model.state_dict().items():
        assert not any(np.shares_memory(array, other) for other in theirs.values())
        assert not np.shares_memory(again[name], theirs[name])
    assert np.array_equal(model.head.bias.array, ConvMixer(4, 2, 3, 2, 5, rng=0).head.bias.array)


class Own(nn.Module):
    """One of each layer, a name that looks like a prefix, vectors of its own."""

    def __init__(self):
        super().__init__()
        self.model = nn.Sequential(nn.Patchify(3, 4, 2, rng=0), nn.DepthwiseConv2d(4, 3, rng=0))
        self.convolution = nn.Conv2d(4, 6, 3, groups=2, rng=0)
        self.heads = nn.ModuleList([nn.Linear(4, 4, rng=0), nn.PointwiseConv2d(4, 4, rng=0)])
        self.norm = nn.LayerNorm(4)
        self.batch_norm = nn.BatchNorm(4)
        self.scale = Parameter(np.arange(4.0))


def test_every_layer_is_turned_by_what_it_is():
    model = Own()
    theirs = to_torch(model.state_dict(), model)
    assert {name: array.shape for name, array in theirs.items() if array.ndim > 1} == {
        "model.0.weight": (4, 3, 2, 2),
        "model.1.weight": (4, 1, 3, 3),
        "convolution.weight": (6, 2, 3, 3),
        "heads.0.weight": (4, 4),
        "heads.1.weight": (4, 4, 1, 1),
    }
    assert theirs["convolution.weight"][5, 1, 0, 2] == model.convolution.weight.array[0, 2, 1, 5]
    assert theirs["heads.0.weight"][3, 1] == model.heads[0].weight.array[1, 3]
    assert theirs["heads.1.weight"][3, 1, 0, 0] == model.heads[1].weight.array[1, 3]
    assert theirs["scale"].tolist() == [0, 1, 2, 3]
    assert [n for n in theirs if n.endswith("tracked")] == ["batch_norm.num_batches_tracked"]
    again = from_torch({f"module.{name}": array for name, array in theirs.items()}, model)
    assert list(again) == list(model.state_dict())
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(again[name], array)


@pytest.mark.parametrize(("convert", "name"), [(to_torch, "to_torch"), (from_torch, "from_torch")])
def test_another_model_has_to_be_given(convert, name):
    model = nn.Sequential(nn.Linear(3, 3))
    message = re.escape(
        f"not the weights of a ConvMixer; for another model, give it as well: {name}"
    )
    with pytest.raises(ValueError, match=message):
        convert(model.state_dict())
    with pytest.raises(ValueError, match=f"{name}: 'x' of shape .* is not part of this Sequential"):
        convert({"x": np.ones(2)}, model)
    with pytest.raises(ValueError, match=r"'0.bias' has shape \(2,\); this Sequential has \(3,\)"):
        convert({"0.bias": np.ones(2)}, model)
    own = nn.ParameterList([Parameter(np.ones((2, 3)))])
    message = r"'0' of shape \(2, 3\) is part of a ParameterList, whose layout in PyTorch is not"
    with pytest.raises(ValueError, match=message):
        convert(own.state_dict(), own)


def test_an_activation_that_a_state_dict_does_not_say():
    """timm's convmixer_768_32 has ReLU; a small stand-in for its sizes."""
    sizes = 8, 2, 3, 2, 5
    gelu, relu = ConvMixer(*sizes, rng=0), ConvMixer(*sizes, activation="relu", rng=0)
    state = to_torch(gelu.state_dict())
    for activation in ("gelu", "relu", None):
        from_torch(state, activation=activation)
    for model, activation in ((gelu, "relu"), (relu, "gelu")):
        message = f"trained with '{activation}', but this ConvMixer was not made with activation="
        with pytest.raises(ValueError, match=message):
            from_torch(state, model, activation=activation)
    with pytest.raises(ValueError, match="activation is 'tanh'; it can be 'gelu' or 'relu'"):
        from_torch(state, activation="tanh")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("minimix.interop.RELU_SIZES", {sizes[:4]})
        for model in (None, gelu):
            with pytest.raises(
                ValueError, match="released weights of ConvMixer-768/32 were trained"
            ):
                from_torch(state, model)
        for model, activation in ((None, "gelu"), (None, "relu"), (gelu, "gelu"), (relu, None)):
            from_torch(state, model, activation=activation)
    assert (768, 32, 7, 7) in RELU_SIZES


class Half:
    """A bfloat16 tensor on a GPU that requires a gradient, as far as from_torch sees it."""

    def __init__(self, array, steps=()):
        self.array, self.steps = array, steps

    def detach(self):
        return Half(self.array, (*self.steps, "detach"))

    def cpu(self):
        return Half(self.array, (*self.steps, "cpu"))

    def is_floating_point(self):
        return True

    def element_size(self):
        return 2

    def float(self):
        return Half(self.array, (*self.steps, "float"))

    def numpy(self):
        assert self.steps == ("detach", "cpu", "float")
        return self.array


def test_tensors_of_other_kinds():
    model = nn.Linear(2, 3, rng=0)
    w = np.arange(6, dtype=np.float32).reshape(3, 2)
    for value in (Half(w), Tensor(w), w.tolist(), w.astype(np.float16), w.astype(np.int64)):
        again = from_torch({"weight": value}, model)["weight"]
        assert again.tolist() == w.T.tolist()
    assert from_torch({"weight": w.astype(np.float16)}, model)["weight"].dtype == np.float32
    assert from_torch({"weight": w.astype(np.float64)}, model)["weight"].dtype == np.float64


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        (nn.Linear(2, 2), TypeError, "state is a Linear; expected a state dict"),
        ({"model": {"weight": np.ones((2, 2))}}, ValueError, "'model' is a dict; if it holds the"),
        ({"weight": np.ones((2, 2)), "epoch": "3"}, ValueError, "'epoch' is <U1; expected real"),
        ({"weight": np.ones((2, 2)) * 1j}, ValueError, "'weight' is complex128; expected real"),
        ({"weight": None}, ValueError, "'weight' is object; expected real numbers"),
        ({"bias": np.ones(2), "module.bias": np.ones(2)}, ValueError, "'bias' appears twice"),
        ({7: np.ones(2)}, ValueError, "'7' of shape (2,) is not part of this Linear"),
    ],
)
def test_what_is_no_state_dict(state, error, message):
    with pytest.raises(error, match=re.escape(message)):
        from_torch(state, nn.Linear(2, 2))
    if error is TypeError:
        with pytest.raises(error, match=re.escape(f"to_torch: {message}")):
            to_torch(state, nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("stem.0.weight", (4, 3, 2, 3), "(4, 3, 2, 2)"),
        ("blocks.0.0.fn.0.weight", (4, 2, 3, 3), "(4, 1, 3, 3)"),
        ("blocks.0.1.weight", (4, 4, 3, 3), "(4, 4, 1, 1)"),
        ("head.weight", (5, 3), "(5, 4)"),
        ("stem.0.bias", (), "(4,)"),
        ("fc.weight", (4, 4), None),
        ("fc.bias", (4,), None),
        ("", (4,), None),
    ],
)
def test_what_is_not_part_of_a_convmixer(name, shape, expected):
    message = f"from_torch: {name!r} has shape {shape}; this ConvMixer has {expected} there"
    if expected is None:
        message = f"from_torch: {name!r} of shape {shape} is not part of this ConvMixer"
    with pytest.raises(ValueError, match=re.escape(message)):
        from_torch({**to_torch(ours()), name: np.zeros(shape)})


@pytest.mark.parametrize(
    ("model", "one", "other"),
    [
        (ResNet(8, n_classes=4), "fc.bias", "linear.bias"),
        (ConvMixer(4, 1, 3, 4, 2), "stem.0.bias", "0.bias"),
    ],
)
def test_two_names_of_one_array(model, one, other):
    state = to_torch(model.state_dict(), model)
    state[other] = state[one] + 1
    with pytest.raises(ValueError, match="appears twice, once as"):
        from_torch(state, model)
