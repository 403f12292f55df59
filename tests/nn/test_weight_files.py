"""Weight files in timm's layout: written, read back in every precision, and refused where wrong."""

import json
import re

import numpy as np
import pytest
from safetensors.numpy import load, save

from minimix import ConvMixer, load_weights, models, save_weights, to_torch
from minimix.errors import CheckpointError
from minimix.interop import read_safetensors

TINY = {
    "ConvMixer": lambda rng: ConvMixer(4, 2, 3, 2, 5, rng=rng),
    "ViT": lambda rng: models.ViT(4, 1, 2, 2, 5, image_size=4, pool="distilled", rng=rng),
    "ResMLP": lambda rng: models.ResMLP(4, 1, 2, 5, image_size=4, rng=rng),
    "MLPMixer": lambda rng: models.MLPMixer(4, 1, 2, 5, image_size=4, rng=rng),
    "ResNet": lambda rng: models.ResNet(50, 1, "7x7", "B", 5, rng=rng),
}


def randomized(model, seed=0):
    rng = np.random.default_rng(seed)
    for array in model.state_dict().values():
        array[...] = rng.uniform(0.5, 1.5, array.shape)
    return model


def same(one, other):
    one, other = one.state_dict(), other.state_dict()
    return list(one) == list(other) and all(np.array_equal(one[k], other[k]) for k in one)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "weights.safetensors"


@pytest.mark.parametrize("make", TINY.values(), ids=TINY)
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "model.", "module.model."])
def test_there_and_back(make, prefix, path):
    model, again = randomized(make(0)), make(1)
    save_weights(model, path)
    state = load(path.read_bytes())
    path.write_bytes(save({prefix + name: array for name, array in state.items()}))
    load_weights(again, path)
    assert same(again, model)


def test_shapes_as_pytorch_has_them(path):
    model = randomized(TINY["ResMLP"](0))
    save_weights(model, path)
    state = load(path.read_bytes())
    assert state["norm.alpha"].shape == state["blocks.0.norm1.beta"].shape == (1, 1, 4)
    assert state["blocks.0.ls1"].shape == (4,)
    assert state["blocks.0.mlp_channels.fc1.weight"].shape == (16, 4)
    save_weights(randomized(TINY["ViT"](0)), path)
    state = load(path.read_bytes())
    assert state["pos_embed"].shape == (1, 6, 4)
    assert state["cls_token"].shape == state["dist_token"].shape == (1, 1, 4)
    assert state["blocks.0.attn.qkv.weight"].shape == (12, 4)


def test_the_names_of_resnets_for_cifar(path):
    model = randomized(models.ResNet(8, 2, shortcut="B", rng=0))
    state = to_torch(model.state_dict(), model)
    renamed = {
        re.sub("^fc", "linear", name).replace("downsample", "shortcut"): array
        for name, array in state.items()
    }
    assert {"linear.bias", "layer2.0.shortcut.0.weight"} <= set(renamed)
    path.write_bytes(save(renamed))
    again = models.ResNet(8, 2, shortcut="B", rng=1)
    load_weights(again, path)
    assert same(again, model)


def packed(state, dtype, bits):
    """A safetensors file by hand, of a type that NumPy may not have."""
    header, content = {}, b""
    for name, array in state.items():
        data = bits(array).tobytes()
        offsets = [len(content), len(content) + len(data)]
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": offsets}
        content += data
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content


PRECISIONS = {
    "float16": ("F16", lambda a: a.astype(np.float16)),
    "bfloat16": ("BF16", lambda a: (a.view(np.uint32) >> 16).astype(np.uint16)),
    "float64": ("F64", lambda a: a.astype(np.float64)),
}


@pytest.mark.parametrize(("dtype", "bits"), PRECISIONS.values(), ids=PRECISIONS)
def test_precisions(dtype, bits, path):
    """Eighths have few digits: they are the same in all of them."""
    model, again = TINY["ViT"](0), TINY["ViT"](1)
    for array in model.state_dict().values():
        array[...] = np.arange(array.size).reshape(array.shape) % 37 / 8 - 2
    state = {
        name: np.ascontiguousarray(a) for name, a in to_torch(model.state_dict(), model).items()
    }
    path.write_bytes(packed(state, dtype, bits))
    load_weights(again, path)
    assert same(again, model)
    assert {array.dtype for array in again.state_dict().values()} == {np.dtype(np.float32)}


# ---- what is refused, before anything has changed


def refused(content, make, path):
    """The message about a file of that content, the path taken off."""
    model, before = make(1), make(1)
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        load_weights(model, path)
    assert same(model, before)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message.replace(str(path), "FILE")


def written(name):
    model = TINY[name](0)
    return to_torch(model.state_dict(), model)


def test_a_permuted_file(path):
    state = written("ViT")
    name = "blocks.0.mlp.fc1.weight"
    message = refused(save({**state, name: state[name].T.copy()}), TINY["ViT"], path)
    assert message == f"FILE does not fit: {name!r} has shape (4, 16); this ViT has (16, 4) there"
    exchanged = {**state, name: state["head.weight"], "head.weight": state[name]}
    message = refused(save(exchanged), TINY["ViT"], path)
    assert message == f"FILE does not fit: {name!r} has shape (5, 4); this ViT has (16, 4) there"


def test_another_number_of_classes_or_another_size(path):
    other = models.ViT(4, 1, 2, 2, 7, image_size=8, pool="distilled")
    message = refused(save(to_torch(other.state_dict(), other)), TINY["ViT"], path)
    assert "'head.bias' has shape (7,); this ViT has (5,) there" in message


@pytest.mark.parametrize("name", TINY)
def test_a_foreign_file(name, path):
    other = next(one for one in TINY if one != name)
    message = refused(save(written(other)), TINY[name], path)
    assert re.match(r"FILE does not fit: '[\w.]+' of shape \(.*\) is not part of this ", message)


def test_a_file_that_lacks_a_tensor(path):
    state = written("ResNet")
    del state["layer1.0.conv2.weight"]
    message = refused(save(state), TINY["ResNet"], path)
    assert message == "FILE does not fit: 'layer1.0.conv2.weight' of shape (1, 1, 3, 3) is missing"


def test_a_truncated_file(path):
    content = save(written("ConvMixer"))
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    for cut in range(1, len(content) - 8 - length, 37):
        message = refused(content[:-cut], TINY["ConvMixer"], path)
        name, shape = re.search(r"it ends before '(.*)' of shape (\(.*?\)) does", message).groups()
        assert f"; {cut:,} bytes are missing" in message
        assert str(tuple(header[name]["shape"])) == shape
        start, end = header[name]["data_offsets"]
        assert start <= len(content) - 8 - length - cut < end or not end - start
    for damaged in (content[: 8 + length // 2], content[:5], b"", b"no weights" * 9):
        message = refused(damaged, TINY["ConvMixer"], path)
        assert message.startswith("FILE is not a whole safetensors file: ")


def test_values_that_float32_cannot_hold(path):
    state = {name: array.astype(np.float64) for name, array in written("ConvMixer").items()}
    state["head.bias"][0] = 1e300
    message = refused(save(state), TINY["ConvMixer"], path)
    assert message == "FILE does not fit: 'head.bias' has values that float32 cannot hold"


def test_types_that_are_no_weights(path):
    content = packed({"head.bias": np.ones(5, np.uint8)}, "F8_E4M3", lambda a: a)
    message = refused(content, TINY["ConvMixer"], path)
    assert message.startswith("FILE: 'head.bias' of shape (5,) is F8_E4M3; it can be F64, F32, F16")


def test_a_missing_file(path):
    with pytest.raises(CheckpointError, match=r"cannot read .*weights.safetensors: No such file"):
        read_safetensors(path)


def test_a_model_that_minimix_has_trained(path):
    content = save(ConvMixer(4, 2, 3, 2, 5).state_dict(), {"minimix": "{}"})
    message = refused(content, TINY["ConvMixer"], path)
    assert message == "FILE is a model that minimix has trained; `load_model` loads it"
