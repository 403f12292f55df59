"""State dicts go through the door and back: the same numbers on both sides."""

import numpy as np
import pytest

torch = pytest.importorskip(
    "torch", reason="parity needs PyTorch: python -m pip install -e '.[parity]'"
)

from torch_convmixer import Timm, authors, images  # noqa: E402

import minimix as mx  # noqa: E402
from minimix import (  # noqa: E402
    from_torch,
    nn,
    to_torch,
)

pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")


def batch():
    return np.random.default_rng(0).standard_normal((12, 6, 6, 3))


def with_statistics(theirs):
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 1.5)
    return theirs


@pytest.mark.parametrize("kernel_size", [5, 4])
@pytest.mark.parametrize("make", [authors, Timm])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_their_weights_in_ours(make, prefix, kernel_size, backend, agree):
    torch.manual_seed(0)
    theirs = make(8, 12, kernel_size, 2, 6)  # twelve blocks: 10 and 11 come before 3 in an alphabet
    with_statistics(theirs)
    state = {prefix + name: value for name, value in theirs.state_dict().items()}
    ours = mx.ConvMixer(8, 12, kernel_size, 2, 6).astype(np.float64)
    ours.load_state_dict(from_torch(state))
    x = batch()
    agree(ours.eval()(mx.Tensor(x)).array, theirs.eval()(images(x)), 1e-10)
    agree(ours.train()(mx.Tensor(x)).array, theirs.train()(images(x)), 1e-10)


def test_our_weights_in_theirs_and_back(backend, agree):
    ours = mx.ConvMixer(8, 12, 5, 2, 6, rng=0).astype(np.float64)
    x = batch()
    ours(mx.Tensor(x))  # moves the running statistics
    state = to_torch(ours.state_dict())
    theirs = Timm(8, 12, 5, 2, 6)
    theirs.load_state_dict({name: torch.from_numpy(a) for name, a in state.items()}, strict=True)
    agree(ours.eval()(mx.Tensor(x)).array, theirs.eval()(images(x)), 1e-10)
    again = from_torch(theirs.state_dict())
    assert list(again) == list(ours.state_dict())
    for name, array in ours.state_dict().items():
        np.testing.assert_array_equal(again[name], array)


def test_relu(backend, agree):
    torch.manual_seed(0)
    theirs = with_statistics(Timm(8, 2, 5, 2, 6, torch.nn.ReLU)).eval()
    ours = mx.ConvMixer(8, 2, 5, 2, 6, activation="relu").astype(np.float64).eval()
    ours.load_state_dict(from_torch(theirs.state_dict(), ours, activation="relu"))
    x = batch()
    agree(ours(mx.Tensor(x)).array, theirs(images(x)), 1e-10)


WRAPPED = {
    "DataParallel": lambda model: torch.nn.ModuleDict({"module": model}).state_dict(),
    "compiled": lambda model: torch.compile(model, backend="eager").state_dict(),
    "Lightning": lambda model: {"state_dict": torch.nn.ModuleDict({"model": model}).state_dict()},
    "averaged": lambda model: torch.optim.swa_utils.AveragedModel(
        model, use_buffers=True
    ).state_dict(),
    "with gradients": lambda model: dict(model.named_parameters()) | dict(model.named_buffers()),
}


@pytest.mark.parametrize("wrapped", WRAPPED.values(), ids=WRAPPED)
@pytest.mark.parametrize("model", [None, mx.ConvMixer(8, 2, 5, 2, 6)], ids=["by sizes", "given"])
def test_what_is_wrapped_around_a_model(wrapped, model):
    theirs = Timm(8, 2, 5, 2, 6)
    state, plain = from_torch(wrapped(theirs), model), from_torch(theirs.state_dict())
    assert list(state) == list(plain)
    assert all(np.array_equal(state[name], plain[name]) for name in plain)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_precisions(dtype):
    theirs = Timm(8, 1, 5, 2, 6).to(dtype)
    state = from_torch(theirs.state_dict())
    expected = np.float64 if dtype is torch.float64 else np.float32
    assert {array.dtype for array in state.values()} == {np.dtype(expected)}
    w = theirs.head.weight.detach().double().numpy()
    assert np.array_equal(state["head.weight"].astype(np.float64), w.T)


def test_what_is_kept_does_not_change():
    theirs, ours = Timm(8, 1, 5, 2, 6), mx.ConvMixer(8, 1, 5, 2, 6, rng=0)
    kept = [to_torch(ours.state_dict()), from_torch(theirs.state_dict())]
    before = [{name: array.copy() for name, array in state.items()} for state in kept]
    for parameter in ours.parameters():
        parameter.array[...] += 1
    for tensor in theirs.state_dict().values():
        tensor += 1
    for state, copies in zip(kept, before, strict=True):
        assert all(np.array_equal(state[name], copies[name]) for name in copies)


class Ours(mx.Module):
    """One of each layer."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Patchify(3, 4, 2, rng=0)
        self.depthwise = nn.DepthwiseConv2d(4, 3, rng=1)
        self.convolution = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, rng=2)
        self.pointwise = nn.PointwiseConv2d(6, 5, rng=3)
        self.norm = nn.BatchNorm(5)
        self.head = nn.Sequential(nn.LayerNorm(5), nn.Linear(5, 7, rng=4))

    def forward(self, x):
        x = self.convolution(self.depthwise(self.patches(x)))
        return self.head(self.norm(self.pointwise(x)))


class Theirs(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.patches = torch.nn.Conv2d(3, 4, 2, stride=2)
        self.depthwise = torch.nn.Conv2d(4, 4, 3, padding="same", groups=4)
        self.convolution = torch.nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2)
        self.pointwise = torch.nn.Conv2d(6, 5, 1)
        self.norm = torch.nn.BatchNorm2d(5)
        self.head = torch.nn.Sequential(torch.nn.LayerNorm(5), torch.nn.Linear(5, 7))

    def forward(self, x):
        x = self.convolution(self.depthwise(self.patches(x)))
        return self.head(self.norm(self.pointwise(x)).permute(0, 2, 3, 1))


def test_one_of_each_layer(backend, agree):
    ours, theirs = Ours().astype(np.float64), Theirs().double()
    x = batch()
    state = {n: torch.from_numpy(a) for n, a in to_torch(ours.state_dict(), ours).items()}
    theirs.load_state_dict(state, strict=True)
    agree(ours(mx.Tensor(x)).array, theirs(images(x)), 1e-10)
    fresh = Ours().astype(np.float64)
    fresh.load_state_dict(from_torch(theirs.state_dict(), fresh))
    agree(fresh.eval()(mx.Tensor(x)).array, theirs.eval()(images(x)), 1e-10)
