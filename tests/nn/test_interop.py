"""State dicts from the PyTorch world, in arrays: shapes turned, names told apart, errors named."""

import re

import numpy as np
import pytest

from minimix import ConvMixer
from minimix.models import from_torch, to_torch


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


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("stem.0.weight", (4, 3)),
        ("blocks.0.0.fn.0.weight", (4, 2, 3, 3)),
        ("blocks.0.1.weight", (4, 4, 3, 3)),
        ("head.weight", (4,) * 4),
        ("fc.weight", (4, 4)),
        ("fc.bias", (4,)),
        ("", (4,)),
        ("stem.0.bias", ()),
    ],
)
def test_what_is_not_part_of_a_convmixer(name, shape):
    message = re.escape(f"from_torch: {name!r} of shape {shape} is not part of a ConvMixer")
    with pytest.raises(ValueError, match=message):
        from_torch({**to_torch(ours()), name: np.zeros(shape)})
