"""mpiexec -n N python equal.py: twenty steps in float64, alone and together, against each other."""

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import tiny_training

from minimix import models
from minimix.data import Loader
from minimix.parallel import ALONE, world
from minimix.runs import read_weights
from minimix.runs.elsewhere import Elsewhere
from minimix.train import TrainingState, fit, train

RANKS = world()
BATCH = Loader._batch


def in_float64(loader, indices):
    """A batch in the precision of the model."""
    x, targets = BATCH(loader, indices)
    return x.astype(np.float64), targets


def trained(config, ranks):
    """Every array of a training: weights, statistics, the optimizer's state."""
    state = TrainingState.build(config, tiny_training.dataset())
    state.model.astype(np.float64)
    state.average.mean = {name: a.astype(np.float64) for name, a in state.average.mean.items()}
    test = train(state, Elsewhere(Path("none"), None), quiet=True, ranks=ranks)
    return state, test


def check(config):
    (state, test), (other, other_test) = trained(config, ALONE), trained(config, RANKS)
    assert state.step == other.step == 20
    arrays, others = state.arrays(), other.arrays()
    assert arrays.keys() == others.keys()
    for name, a in arrays.items():
        assert a.dtype == np.float64 or a.dtype.kind == "i", name
        np.testing.assert_allclose(others[name], a, rtol=1e-10, atol=1e-10, err_msg=name)
    np.testing.assert_array_equal(test.confusion, other_test.confusion)
    assert abs(test.loss - other_test.loss) < 1e-10


Loader._batch = in_float64
CONFIG = replace(tiny_training.CONFIG, epochs=4, cutmix=0.3, clip_norm=0.1)  # 20 images, at last 10
check(CONFIG)
check(replace(CONFIG, batch_size=22, optimizer="muon"))  # the last one of 2, which all look at
if RANKS.size == 2:  # the rest is no other for three
    RESNET = {"depth": 8, "width": 4}
    check(replace(CONFIG, model="resnet", model_settings=RESNET, optimizer="sgd"))

    # Batch norms that see their own images only: other numbers, but the same in all processes.
    apart, _ = trained(replace(CONFIG, sync_batch_norm=False), RANKS)
    RANKS.check_alike(apart.arrays(), "in the end")
    together, _ = trained(CONFIG, RANKS)
    for name in ("model.stem.2.running_mean", "model.stem.0.weight"):
        assert not np.allclose(apart.arrays()[name], together.arrays()[name], rtol=1e-4), name

    Loader._batch = BATCH
    model = models.ViT(
        hidden_dim=8, depth=1, patch_size=4, image_size=8, n_heads=2, n_classes=4, rng=0
    )
    folder = RANKS.broadcast(tempfile.mkdtemp() if RANKS.first else "")
    test = fit(model, tiny_training.dataset(), out=Path(folder, "run"), epochs=1, quiet=True)
    same = [b"".join(a.tobytes() for a in model.state_dict().values()), test.confusion.tolist()]
    assert all(one == same for one in RANKS.gather(same))
    assert not model.training
    if RANKS.first:
        assert read_weights(Path(folder, "run")).weights.keys() == model.state_dict().keys()
        shutil.rmtree(folder)

if RANKS.first:
    print("the same weights")
