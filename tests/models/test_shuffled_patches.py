"""Is it the patches? Nets that treat them as a set with positions cannot notice that they are
exchanged; nets that know which lie side by side must.
"""

import numpy as np
import pytest

from minimix import ConvMixer, Tensor, models
from minimix.data import shuffle_patches
from minimix.data.shuffle import order

SIDE, PATCH = 15, 3
T = (SIDE // PATCH) ** 2


def batch():
    rng = np.random.default_rng(0)
    return rng.standard_normal((3, SIDE, SIDE, 2)), rng.standard_normal((3, 5))


def randomized(model, seed=0):
    """No two numbers alike, so that nothing is symmetric by accident."""
    model = model.astype(np.float64)
    rng = np.random.default_rng(seed)
    for p in model.parameters():
        p.array = rng.uniform(-0.5, 0.5, p.shape)
    return model


def results(model, x, cotangent):
    """Logits and gradients by name."""
    model.zero_grad()
    y = model(Tensor(x))
    (y * cotangent).sum().backward()
    return y.array, {name: p.grad for name, p in model.named_parameters()}


SETTINGS = {"patch_size": PATCH, "n_classes": 5, "image_size": SIDE, "in_channels": 2}
# What has a place for each token, and along which axes. (Of the positions, a ViT's special tokens
# come first.)
PLACES = {
    "linear_tokens.weight": (0, 1),
    "linear_tokens.bias": (0,),
    "mlp_tokens.fc1.weight": (0,),
    "mlp_tokens.fc2.weight": (1,),
    "mlp_tokens.fc2.bias": (0,),
    "pos_embed": (1,),
}
BLIND = {
    "ViT": lambda: models.ViT(6, 2, 2, **SETTINGS),
    "ViT, average": lambda: models.ViT(6, 2, 2, pool="average", **SETTINGS),
    "ViT, distilled": lambda: models.ViT(6, 2, 2, pool="distilled", **SETTINGS),
    "ResMLP": lambda: models.ResMLP(6, 2, **SETTINGS),
    "MLPMixer": lambda: models.MLPMixer(6, 2, **SETTINGS),
}


def permuted(name, array):
    """A parameter, or its gradient, for images of exchanged patches."""
    for axis in next((axes for end, axes in PLACES.items() if name.endswith(end)), ()):
        special = array.shape[axis] - T
        array = array.take([*range(special), *(special + order(T))], axis)
    return array


@pytest.mark.parametrize("make", BLIND.values(), ids=BLIND)
def test_who_cannot_notice(make):
    x, cotangent = batch()
    plain, other = randomized(make()), make().astype(np.float64)
    for name, p in other.named_parameters():
        p.array = permuted(name, plain.state_dict()[name])
    y, gradients = results(plain, x, cotangent)
    shuffled = shuffle_patches(x, PATCH)
    assert not np.array_equal(shuffled, x)
    again, others = results(other, shuffled, cotangent)
    np.testing.assert_allclose(again, y, rtol=1e-12)
    atol = 1e-13 * max(np.abs(g).max() for g in gradients.values())
    for name, g in gradients.items():
        np.testing.assert_allclose(
            others[name], permuted(name, g), rtol=1e-11, atol=atol, err_msg=name
        )
    # And it is the positions that have to go along: where they stay, it notices.
    assert np.abs(results(plain, shuffled, cotangent)[0] - y).max() > 1e-3 * np.abs(y).max()


SEEING = {
    "ConvMixer": lambda: ConvMixer(6, 2, 3, PATCH, 5, in_channels=2),
    "ResNet": lambda: models.ResNet(8, 4, n_classes=5, in_channels=2),
}


@pytest.mark.parametrize("make", SEEING.values(), ids=SEEING)
def test_who_must_notice(make):
    """No weight of theirs belongs to a place, so none could go along."""
    x, cotangent = batch()
    model = randomized(make())
    assert not any(T in p.shape for p in model.parameters())
    y, gradients = results(model, x, cotangent)
    again, others = results(model, shuffle_patches(x, PATCH), cotangent)
    assert np.abs(again - y).max() > 1e-2 * np.abs(y).max()
    first = next(iter(gradients))
    assert np.abs(others[first] - gradients[first]).max() > 1e-2 * np.abs(gradients[first]).max()


def test_a_convmixer_that_mixes_no_places_cannot_notice_either():
    x, cotangent = batch()
    model = ConvMixer(6, 2, 3, PATCH, 5, in_channels=2, filters="delta", rng=0).astype(np.float64)
    y, gradients = results(model, x, cotangent)
    again, others = results(model, shuffle_patches(x, PATCH), cotangent)
    np.testing.assert_allclose(again, y, rtol=1e-10)
    for name, g in others.items():
        if g is not None:
            atol = 1e-10 * max(np.abs(a).max() for a in gradients.values() if a is not None)
            np.testing.assert_allclose(g, gradients[name], rtol=1e-9, atol=atol, err_msg=name)
