"""Exported models, run by ONNX Runtime: the same logits, for any number of images."""

import importlib
import inspect
import json
import pkgutil
import sys

import numpy as np
import pytest

import minimix as mx
from minimix import cli, functional, kernels, nn
from minimix import functional as F
from minimix.errors import MinimixError
from minimix.export import onnx as translations
from minimix.export import to_onnx
from minimix.models import FAMILIES
from minimix.train import architecture

onnx = pytest.importorskip("onnx", reason="needs onnx, of the extra export")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime, of the extra export")


@pytest.fixture(autouse=True)
def _in_numpy():
    with kernels.backend("numpy"):
        yield


def run(content, images):
    """The logits that ONNX Runtime gives."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"images": images})
    return logits


def agree(model, shape, batches=(1, 5)):
    content = to_onnx(model, shape)
    rng = np.random.default_rng(7)
    for n in batches:
        images = rng.normal(size=(n, *shape)).astype(np.float32)
        with mx.no_grad(), nn.evaluating(model):
            expected = model(mx.Tensor(images)).array
        found = run(content, images)
        assert found.shape == expected.shape
        largest = max(abs(expected).max(), 1e-3)
        np.testing.assert_allclose(found / largest, expected / largest, rtol=0, atol=1e-5)


def randomized(model):
    """Norms and statistics that are not what they begin as."""
    rng = np.random.default_rng(3)
    for module in (m for _, m in model.named_modules()):
        if isinstance(module, nn.BatchNorm):
            module.running_mean[...] = rng.normal(size=module.running_mean.shape)
            module.running_var[...] = rng.uniform(0.5, 2, module.running_var.shape)
    for p in model.parameters():
        if p.ndim == 1:
            p.array = p.array + rng.normal(size=p.shape, scale=0.2)
    return model


SMALL = {
    "convmixer": [
        {"hidden_dim": 12, "depth": 2, "kernel_size": 4},
        {"hidden_dim": 8, "depth": 1, "activation": "relu"},
    ],
    "vit": [{"hidden_dim": 16, "depth": 2, "n_heads": 2}],
    "resmlp": [{"hidden_dim": 12, "depth": 2}],
    "mlp_mixer": [{"hidden_dim": 12, "depth": 2}],
    "resnet": [{"depth": 8}],
}


@pytest.mark.parametrize(
    ("family", "settings"), [(name, s) for name in FAMILIES for s in SMALL[name]]
)
@pytest.mark.parametrize("channels", [3, 1])
def test_every_family(family, settings, channels):
    model = architecture.build(
        *(family, settings), n_classes=7, image_size=(16, 16), in_channels=channels, rng=1
    )
    agree(randomized(model), (16, 16, channels))


def test_the_normalization_inside():
    model = mx.ConvMixer(8, 1, 3, 4, 5, rng=0)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    content = to_onnx(model, (8, 8, 3), normalize=(mean, std))
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    x = mx.Tensor(mx.data.normalize(images, mean, std))
    with mx.no_grad():
        expected = model.eval()(x).array
    np.testing.assert_allclose(run(content, images), expected, rtol=0, atol=1e-5)


# ------------------------------------------------------------------ every operation


class Net(mx.Module):
    """A network of one function of images (N, 4, 4, 6)."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        y = self.function(x)
        return y.reshape((len(x), -1)) if y.ndim != 2 else y


RNG = np.random.default_rng(0)


def draw(*shape):
    return RNG.normal(size=shape).astype(np.float32)


ROW, SQUARE, PLACES = draw(6), draw(6, 6), np.array([4, 0, 4])
STATISTICS = {"running_mean": draw(6), "running_var": abs(draw(6)) + 0.5}
OPERATIONS = {
    "add": lambda x: x + ROW,
    "subtract": lambda x: 1.5 - x,
    "multiply": lambda x: x * x,
    "divide": lambda x: x / (x * x + 1),
    "power": lambda x: (x * x + 1) ** 1.5,
    "negative": lambda x: -x,
    "exp": lambda x: F.exp(x),
    "log": lambda x: F.log(x * x + 1),
    "sqrt": lambda x: F.sqrt(x * x + 1),
    "tanh": lambda x: F.tanh(x),
    "abs": lambda x: F.abs(x),
    "maximum": lambda x: F.maximum(x, ROW),
    "minimum": lambda x: F.minimum(x, -x),
    "clip": lambda x: F.clip(x, low=-0.5, high=0.7) + F.clip(x, low=0.1),
    "where": lambda x: F.where(ROW > 0, x, -x * 2),
    "matmul": lambda x: F.matmul(x, SQUARE),
    "einsum": lambda x: F.einsum("nhwc,nhvc->nwv", x, x),
    "attention": lambda x: F.attention(x, x * 2, x[..., :3]),
    "gelu": lambda x: F.gelu(x) + F.gelu(x * 0.7, approximate="tanh"),
    "relu": lambda x: F.relu(x),
    "sigmoid": lambda x: F.sigmoid(x),
    "softmax": lambda x: F.softmax(x, axis=1),
    "log_softmax": lambda x: F.log_softmax(x),
    "linear": lambda x: F.linear(x, SQUARE, ROW),
    "pointwise_conv2d": lambda x: F.pointwise_conv2d(x, SQUARE),
    "depthwise_conv2d": lambda x: F.depthwise_conv2d(x, WIDE, ROW),
    "patchify": lambda x: F.patchify(x, PATCH, draw(5) * 0),
    "conv2d": lambda x: (
        F.conv2d(x, GROUPED, stride=2, padding=1, groups=2).mean(axis=(1, 2))
        + F.conv2d(x, GROUPED, padding="same", dilation=2, groups=2).mean(axis=(1, 2))
    ),
    "batch_norm": lambda x: F.batch_norm(x, ROW, ROW, **STATISTICS, training=False),
    "layer_norm": lambda x: F.layer_norm(x, ROW, ROW, eps=1e-3),
    "max_pool2d": lambda x: F.max_pool2d(x, size=3, stride=2, padding=1),
    "avg_pool2d": lambda x: F.avg_pool2d(x, size=2, stride=1, padding=1),
    "sum": lambda x: F.sum(x, axis=(1, -1)),
    "mean": lambda x: F.mean(x, axis=2, keepdims=True) - x,
    "var": lambda x: F.var(x, axis=3, correction=1, keepdims=True) * x,
    "std": lambda x: F.std(x, axis=(1, 2)),
    "max": lambda x: F.max(x, axis=1),
    "min": lambda x: F.min(x, axis=(2, 3), keepdims=True) + x,
    "reshape": lambda x: x.reshape((len(x) * 2, 8, 6)) * 2,
    "transpose": lambda x: F.transpose(x, axes=(0, 3, 1, 2)),
    "broadcast_to": lambda x: F.concatenate(
        [F.broadcast_to(mx.Tensor(ROW), shape=(len(x), 1, 6)), x.reshape((len(x), 16, 6))], 1
    ),
    "flip": lambda x: F.flip(x, axis=(1, 3)),
    "index": lambda x: (
        F.sum(x[:, 1], axis=1)
        + F.sum(x[:, ::-2, -1], axis=1)
        + F.sum(x[:, None, 1:3, 0][..., PLACES.repeat(2)], axis=(1, 2))
        + F.sum(x[:, 3:0:-1, ..., :], axis=(1, 2))
        + x[:, -1, 2, None][:, 0]
    ),
    "concatenate": lambda x: F.concatenate([x, x * 2], axis=-1),
    "stack": lambda x: F.stack([x, x * 2, x * 3], axis=-2),
    "pad": lambda x: F.pad(x, width=((0, 0), (1, 2), (0, 1), (0, 0))),
}
WIDE, PATCH, GROUPED = draw(4, 4, 6), draw(2, 2, 6, 5), draw(3, 2, 3, 8)


@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation(name):
    agree(Net(OPERATIONS[name]), (4, 4, 6))


def test_no_operation_is_left_out():
    """All have a translation, but those that only training has, and each is tried."""
    pages = pkgutil.iter_modules(functional.__path__, "minimix.functional.")
    found = {
        name.strip("_")
        for page in pages
        for name, f in vars(importlib.import_module(page.name)).items()
        if inspect.isfunction(f) and hasattr(f, "array")
    }
    assert len(found) > 40
    assert found - {"dropout", "cross_entropy"} == set(translations.TABLE) == set(OPERATIONS)


class Odd(mx.Module):
    """Masks, sums over no axes, and parameters with the names of a graph's values."""

    def __init__(self):
        super().__init__()
        rng = np.random.default_rng(0)
        for name in ("images", "logits", "mul_1", "constant_0", "scale"):
            setattr(self, name, mx.Parameter(rng.normal(size=3).astype(np.float32)))
        self.scalar = mx.Parameter(np.array(1.5, np.float32))

    def forward(self, x):
        x = x * np.array([True, False, True]) * self.images + self.logits * True
        x = x * self.mul_1 + self.constant_0 * self.scale
        x = x.sum(axis=()) + x.mean(axis=()) + x.max(axis=()) + x.var(axis=())
        return x.mean(axis=(1, 2)) * self.scalar.mean()


def test_masks_no_axes_and_names_of_the_graph_s_own():
    agree(Odd(), (4, 4, 3))


# ------------------------------------------------------------------ what a file cannot say


class Remembering(mx.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("m", np.zeros(6, np.float32))

    def forward(self, x):
        self.m[...] = x.array.mean(axis=(0, 1, 2))
        return x - self.m


def changed_in_place(x):
    y = x * 2
    y += x
    return y


class Beside(mx.Module):
    def forward(self, x):
        return mx.Tensor(x.array[:, 0, 0] * 2) * 3


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (Net(lambda x: F.dropout(x, p=0.5, rng=np.random.default_rng(0))), "dropout has no transl"),
        (Net(lambda x: x[: len(x) - 1]), "index: its options follow from the images"),
        (Beside(), "multiply: an argument follows from the images, but not by operations"),
        (Net(lambda x: F.where(x.array > 0, x, 0)), "where: an argument follows from the images"),
        (Net(lambda x: x * len(x)), "multiply: an argument follows from the images"),
        (Net(lambda x: x if len(x) == 2 else x * 2), "does not do the same for every number"),
        (Net(Remembering()), "its argument was changed in place before"),
        (Net(changed_in_place), "changed in place before; a file cannot say that"),
        (Net(lambda x: x[:, [True, False, False, True]]), "index: .* has no translation"),
        (Net(lambda x: F.batch_norm(x, ROW, ROW)), "batch_norm: it looks at the batch"),
        (nn.Linear(6, 3).astype(np.float64), r"weight is float64, and .*: \.astype\(np.float32\)"),
    ],
)
def test_what_cannot_be_exported_is_named(model, words):
    with pytest.raises(MinimixError, match=words) as caught:
        to_onnx(model, (4, 4, 6))
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------ the command


@pytest.fixture
def trained(tmp_path, monkeypatch):
    few = mx.data.shapes10.load(60, 20)
    monkeypatch.setattr(mx.data.shapes10, "load", lambda: few)
    monkeypatch.chdir(tmp_path)
    small = ["--preset=plain", "--hidden-dim=8", "--depth=1", "--kernel-size=3", "--patch-size=8"]
    rest = ["--data=shapes10", "--epochs=1", "--out=run", "--quiet"]
    assert cli.main(["train", *small, *rest]) == 0
    return tmp_path / "run"


def test_the_command(trained, capsys):
    few = mx.data.shapes10.load()
    expected, _ = mx.load(trained).predict(few.test_images)
    capsys.readouterr()
    assert cli.main(["export", str(trained), "--to=onnx", "--normalize", "--out=a.onnx"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == "input  images (N, 32, 32, 3), uint8"
    assert out[1] == "output logits (N, 10); opset 17"
    assert out[-1] == "wrote  a.onnx"
    logits = run((trained.parent / "a.onnx").read_bytes(), few.test_images)
    np.testing.assert_allclose(F.softmax(logits).array, expected, atol=1e-5)
    kept = {p.key: json.loads(p.value) for p in onnx.load("a.onnx").metadata_props}
    assert kept["class_names"] == list(few.class_names)
    assert kept["mean"] == list(few.mean)

    assert cli.main(["export", str(trained), "--to=timm"]) == 0
    model = mx.ConvMixer(8, 1, 3, 8, 10)
    mx.interop.load_weights(model, trained.parent / "run.safetensors")
    x = mx.Tensor(mx.data.normalize(few.test_images, few.mean, few.std))
    with mx.no_grad():
        found = F.softmax(model.eval()(x)).array
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)

    assert cli.main(["export", str(trained), "--to=npz", "--out=b.npz"]) == 0
    with np.load("b.npz") as file:
        facts = json.loads(str(file["facts"]))
        model.load_state_dict({name: file[name] for name in file.files if name != "facts"})
    assert facts["settings"]["model_settings"]["hidden_dim"] == 8
    with mx.no_grad():
        np.testing.assert_array_equal(F.softmax(model(x)).array, found)


def test_the_command_refuses(trained, capsys, monkeypatch):
    assert cli.main(["export", str(trained), "--to=npz", "--normalize"]) == 2
    assert "--normalize is for --to onnx" in capsys.readouterr().err
    assert cli.main(["export", "nowhere", "--to=npz"]) == 1
    before = (trained / "model.safetensors").read_bytes()
    monkeypatch.chdir(trained)
    assert cli.main(["export", "model.safetensors", "--to=timm"]) == 1
    assert "model.safetensors is the model itself; give another --out" in capsys.readouterr().err
    assert (trained / "model.safetensors").read_bytes() == before


def test_files_are_named_after_the_whole_folder(trained, capsys):
    trained.rename(trained.parent / "lr-0.01")
    assert cli.main(["export", "lr-0.01", "--to=npz"]) == 0
    assert capsys.readouterr().out.endswith("wrote  lr-0.01.npz\n")


def test_without_onnx_it_says_how_to_get_it(trained, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert cli.main(["export", str(trained), "--to=onnx"]) == 1
    assert "python -m pip install 'minimix[export]'" in capsys.readouterr().err
    assert not list(trained.parent.glob("*.onnx"))
