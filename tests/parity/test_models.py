"""Every family against a definition in PyTorch: the same weights give the same logits.

The largest sizes take too long for every change; `python tests/parity/test_models.py NAME…`, or
`all`, prints how far each is from PyTorch's.
"""

import sys

import numpy as np
import pytest

torch = pytest.importorskip(
    "torch", reason="parity needs PyTorch: python -m pip install -e '.[parity]'"
)

from torch_convmixer import images  # noqa: E402
from torch_rivals import (  # noqa: E402
    Basic,
    Bottleneck,
    Mixer,
    ResMLP,
    ResNet,
    ViT,
    full_size,
    randomized,
)

from minimix import Tensor, from_torch, kernels, models, no_grad, to_torch  # noqa: E402

FULL = ["convmixer_768_32", "deit_tiny_distilled_patch16_224", "resmlp_12_224", "resnet18"]
TOLERANCES = {np.float32: 1e-4, np.float64: 1e-9}


@pytest.fixture(autouse=True)
def _one_thread():
    """Several wait for each other where the machine has more to do; these sizes need no more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def error(ours, theirs, shape, dtype):
    """The largest difference of two logits, as a fraction of the largest logit."""
    ours.astype(dtype).load_state_dict(from_torch(theirs.state_dict(), ours))
    x = np.random.default_rng(0).standard_normal(shape).astype(dtype)
    with torch.no_grad(), no_grad():
        expected = theirs.to(torch.float64 if dtype is np.float64 else torch.float32)(images(x))
        y = ours.eval()(Tensor(x)).array
    assert y.dtype == dtype
    expected = expected.numpy()
    assert np.isfinite(expected).all()
    assert expected.std() > 1e-3 * np.abs(expected).max()
    return np.abs(y - expected).max() / np.abs(expected).max()


TINY = {
    "ViT, token": (lambda: models.ViT(12, 2, 3, 4, 5, image_size=8), ViT, (12, 2, 3, 4, 5, 8)),
    "ViT, average": (
        lambda: models.ViT(12, 2, 3, 4, 5, image_size=8, pool="average"),
        ViT,
        (12, 2, 3, 4, 5, 8, "average"),
    ),
    "ViT, distilled": (
        lambda: models.ViT(12, 2, 3, 4, 5, image_size=8, pool="distilled"),
        ViT,
        (12, 2, 3, 4, 5, 8, "distilled"),
    ),
    "ResMLP": (lambda: models.ResMLP(6, 3, 2, 5, image_size=8), ResMLP, (6, 3, 2, 5, 8)),
    "MLPMixer": (lambda: models.MLPMixer(6, 3, 2, 5, image_size=8), Mixer, (6, 3, 2, 5, 8)),
    "ResNet-14, A": (
        lambda: models.ResNet(14, 4, n_classes=5),
        ResNet,
        (Basic, (2, 2, 2), 4, False, "A", 5),
    ),
    "ResNet-18, B": (
        lambda: models.ResNet(18, 4, shortcut="B", n_classes=5),
        ResNet,
        (Basic, (2, 2, 2, 2), 4, False, "B", 5),
    ),
    "ResNet-50, 7x7": (
        lambda: models.ResNet(50, 2, "7x7", "B", 5),
        ResNet,
        (Bottleneck, (3, 4, 6, 3), 2, True, "B", 5),
    ),
}


@pytest.mark.parametrize(("make", "theirs", "sizes"), TINY.values(), ids=TINY)
def test_small_models(make, theirs, sizes, backend):
    torch.manual_seed(0)
    assert error(make(), randomized(theirs(*sizes)).double(), (3, 8, 8, 3), np.float64) < 1e-11


@pytest.mark.parametrize("name", FULL)
def test_full_size(name):
    torch.manual_seed(0)
    theirs, ours = randomized(full_size()[name]()), models.create(name)
    side = {"convmixer_768_32": 28, "resnet18": 64}.get(name, 224)  # these two take any size
    for dtype, tolerance in TOLERANCES.items():
        with kernels.backend("numpy"):  # the small ones run in both
            found = error(ours, theirs.to(torch.float64), (1, side, side, 3), dtype)
        assert found < tolerance


def test_our_weights_in_theirs():
    """Strictly: no name is missing there, and none is new."""
    for make, theirs, sizes in TINY.values():
        ours = make()
        state = to_torch(ours.state_dict(), ours)
        theirs(*sizes).load_state_dict({n: torch.tensor(a) for n, a in state.items()}, strict=True)


if __name__ == "__main__":
    for name in [*models.sizes()] if sys.argv[1:] == ["all"] else sys.argv[1:]:
        torch.manual_seed(0)
        theirs, ours = randomized(full_size()[name]()), models.create(name)
        found = [error(ours, theirs.to(torch.float64), (1, 224, 224, 3), t) for t in TOLERANCES]
        print(f"{name}: float32 {found[0]:.1e}, float64 {found[1]:.1e}", flush=True)
