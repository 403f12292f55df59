"""Training gives the same bits for any number of threads."""

import hashlib
from functools import partial

import numpy as np
import pytest

from minimix import SGD, AdamW, Parameter, Tensor, kernels, models
from minimix.functional import cross_entropy
from minimix.optim import Muon, clip_grad_norm, norm
from minimix.train.averaging import WeightAverage
from minimix.train.config import PRESETS

THREADS = (1, 2, 3, 8)


@pytest.fixture(autouse=True)
def same_number_of_threads_afterwards():
    before = kernels.get_num_threads()
    yield
    kernels.set_num_threads(before)


def digest(arrays):
    return hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()


def same_for_any_number(compute):
    results = {}
    for n in THREADS:
        kernels.set_num_threads(n)
        results[n] = digest(compute())
    assert len(set(results.values())) == 1, results


OPTIMIZERS = {
    "SGD": lambda model: SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True),
    "AdamW": lambda model: AdamW(model.parameters(), lr=0.01),
    **{
        f"that of {name}": partial(config.optimizer_of, n_classes=5)
        for name, config in PRESETS.items()
    },
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_short_training(make, dtype):
    pytest.importorskip("numba")

    def train():
        rng = np.random.default_rng(0)
        model = models.ConvMixer(136, 1, kernel_size=3, patch_size=2, n_classes=5, rng=0)
        optimizer, average = make(model.astype(dtype)), WeightAverage(model, decay=0.9)
        norms = []
        for _ in range(3):
            images = Tensor(rng.standard_normal((24, 8, 8, 3)).astype(dtype))
            optimizer.zero_grad()
            cross_entropy(model(images), rng.integers(0, 5, 24)).backward()
            norms.append(np.float64(clip_grad_norm(model.parameters(), 0.5)))
            optimizer.step()
            average.update()
        return [*model.state_dict().values(), *average.mean.values(), *norms]

    same_for_any_number(train)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(256, 256), (128, 600), (600, 128)])
def test_muon_on_large_matrices(shape, dtype):
    pytest.importorskip("numba")

    def train():
        rng = np.random.default_rng(0)
        p = Parameter(rng.standard_normal(shape).astype(dtype))
        optimizer = Muon([p], lr=0.01, orthogonal=True)
        for _ in range(2):
            p.grad = rng.standard_normal(shape).astype(dtype)
            optimizer.step()
        return [p.array]

    same_for_any_number(train)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_norm_in_the_numpy_back_end_as_well(dtype):
    x = np.random.default_rng(0).standard_normal(500_000).astype(dtype)
    same_for_any_number(lambda: [np.float64(norm([x]))])
