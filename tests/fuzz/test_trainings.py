"""Short trainings of random ConvMixers: plain and fused, in both back ends, in any mix of modes."""

import os

import numpy as np
import pytest

import minimix as mx
from minimix import functional as F

TRAININGS = 40 * int(os.environ.get("MINIMIX_FUZZ", "1"))


def trained(seed, backend, fused):
    """What three steps leave of a model that follows from the seed: losses, then its state."""
    rng = np.random.default_rng(seed)
    dtype = (np.float32, np.float64)[rng.integers(2)]
    p, side = int(rng.integers(1, 4)), int(rng.integers(2, 5))
    width, depth, k = int(rng.integers(1, 20)), int(rng.integers(0, 3)), int(rng.integers(1, 6))
    model = mx.ConvMixer(width, depth, k, p, 5, rng=seed).astype(dtype)
    norms = [m for _, m in model.named_modules() if isinstance(m, mx.nn.BatchNorm)]
    for norm in norms:
        norm.running_mean += rng.normal(0, 0.3, width)
        norm.running_var *= rng.uniform(0.5, 2, width)
        norm.momentum = float(rng.choice([0.1, 0.5]))
    if rng.random() < 0.5:  # some of them frozen, as in fine-tuning
        for norm in norms:
            norm.train(bool(rng.random() < 0.5))
    optimizer = [
        lambda: mx.AdamW(model.parameters(), lr=0.01, weight_decay=0.1),
        lambda: mx.SGD(model.parameters(), lr=0.05, momentum=0.9),
        lambda: mx.optim.Muon(
            [
                {"params": [p for p in model.parameters() if p.ndim == 2], "orthogonal": True},
                {"params": [p for p in model.parameters() if p.ndim != 2]},
            ],
            lr=0.01,
        ),
    ][rng.integers(3)]()
    called = mx.fuse(model) if fused else model
    losses = []
    with mx.backend(backend):
        for _ in range(3):
            n = int(rng.integers(2, 5))
            images = mx.Tensor(rng.standard_normal((n, side * p, side * p, 3)).astype(dtype))
            loss = F.cross_entropy(called(images), rng.integers(0, 5, n), label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            mx.optim.clip_grad_norm(model.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.item())
    return dtype, losses, {name: array.copy() for name, array in model.state_dict().items()}


@pytest.mark.parametrize("seed", range(TRAININGS))
def test_plain_and_fused_models_learn_the_same_in_both_back_ends(seed):
    dtype, losses, state = trained(seed, "numpy", fused=False)
    tolerance = 1e-7 if dtype == np.float64 else 2e-2
    for backend, fused in (("numpy", True), ("numba", False), ("numba", True)):
        _, others, other = trained(seed, backend, fused)
        np.testing.assert_allclose(others, losses, rtol=tolerance, atol=tolerance)
        assert list(other) == list(state)
        if dtype == np.float64:  # a step of Adam's on a gradient near 0 is ±lr in float32
            for name, array in state.items():
                np.testing.assert_allclose(other[name], array, rtol=1e-6, atol=1e-7, err_msg=name)
