"""The same bits for any number of threads: operations, kernels, and a whole step of training."""

import hashlib

import numpy as np
import pytest

import minimix as mx
from minimix import functional as F
from minimix import kernels
from minimix.train.whitening import whitening_filters

THREADS = (1, 2, 3, 8)


@pytest.fixture(autouse=True)
def as_many_threads_as_before():
    before = kernels.get_num_threads()
    yield
    kernels.set_num_threads(before)


def bits(arrays):
    digest = hashlib.sha256()
    for a in arrays:
        digest.update(np.ascontiguousarray(a).tobytes())
    return digest.hexdigest()


def draw(*shape, dtype=np.float32):
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


def with_gradients(f, *arrays):
    tensors = [mx.Tensor(a, requires_grad=True) for a in arrays]
    y = f(*tensors)
    y.backward(draw(*y.shape, dtype=y.dtype))
    return [y.array, *(t.grad for t in tensors)]


def a_step_of_training():
    model = mx.ConvMixer(40, 2, 5, 2, 10, rng=0)
    fused = mx.fuse(model)
    optimizer = mx.AdamW(model.parameters(), lr=0.01)
    x, labels = mx.Tensor(draw(33, 16, 16, 3)), np.arange(33) % 10
    for net in (model, fused):
        optimizer.zero_grad()
        F.cross_entropy(net(x), labels).backward()
        optimizer.step()
    return [p.array for p in model.parameters()]


def gradients_of_tokens(make):
    model = mx.fuse(make())
    F.cross_entropy(model(mx.Tensor(draw(19, 16, 16, 3))), np.arange(19) % 10).backward()
    return [p.grad for p in model.parameters()]


def moved_by_muon():
    w = mx.Parameter(draw(300, 200))
    w.grad = draw(300, 200)
    optimizer = mx.optim.Muon([{"params": [w], "orthogonal": True}], lr=0.1)
    optimizer.step()
    return [w.array]


CASES = {
    "matmul": lambda: with_gradients(F.matmul, draw(48, 5000), draw(5000, 48)),
    "matmul, float64": lambda: with_gradients(
        F.matmul, draw(300, 300, dtype=np.float64), draw(300, 300, dtype=np.float64)
    ),
    "matrix and vector": lambda: with_gradients(F.matmul, draw(17, 3000), draw(3000)),
    "linear": lambda: with_gradients(F.linear, draw(1000, 700), draw(700, 10), draw(10)),
    "conv2d": lambda: with_gradients(F.conv2d, draw(9, 17, 16, 20), draw(3, 3, 20, 33), draw(33)),
    "conv2d, strided": lambda: with_gradients(
        lambda x, w: F.conv2d(x, w, stride=2, padding=1), draw(33, 8, 9, 20), draw(3, 3, 20, 33)
    ),
    "conv2d, a group a channel": lambda: with_gradients(
        lambda x, w: F.conv2d(x, w, stride=2, padding=1, groups=40),
        draw(33, 8, 9, 40),
        draw(3, 3, 1, 40),
    ),
    "conv2d, a group a channel, in place": lambda: with_gradients(
        lambda x, w: F.conv2d(x, w, stride=2, padding=1, groups=32),
        draw(33, 8, 16, 32),
        draw(3, 3, 1, 32),
    ),
    "conv2d of few channels": lambda: with_gradients(
        lambda x, w: F.conv2d(x, w, stride=4, padding=3), draw(33, 19, 20, 3), draw(7, 7, 3, 40)
    ),
    "conv2d of few channels, long rows": lambda: with_gradients(
        lambda x, w: F.conv2d(x, w, padding=1), draw(5, 9, 30, 3), draw(3, 3, 3, 20)
    ),
    "max pooling": lambda: with_gradients(
        lambda x: F.max_pool2d(x, size=3, stride=2, padding=1), draw(9, 17, 16, 40)
    ),
    "average pooling": lambda: with_gradients(
        lambda x: F.avg_pool2d(x, size=3, stride=2, padding=1), draw(9, 17, 16, 40)
    ),
    "depthwise": lambda: with_gradients(F.depthwise_conv2d, draw(9, 17, 16, 40), draw(5, 5, 40)),
    "batch norm": lambda: with_gradients(F.batch_norm, draw(9, 17, 16, 40), draw(40), draw(40)),
    "stacks of matrices": lambda: with_gradients(F.matmul, draw(6, 120, 70), draw(6, 70, 33)),
    "attention": lambda: with_gradients(
        F.attention, draw(2, 3, 120, 20), draw(2, 3, 70, 20), draw(2, 3, 70, 33)
    ),
    "layer norm": lambda: with_gradients(F.layer_norm, draw(1000, 70), draw(70), draw(70)),
    "softmax": lambda: with_gradients(F.softmax, draw(1000, 70)),
    "relu": lambda: with_gradients(F.relu, draw(1000, 70)),
    "whitening": lambda: [whitening_filters(draw(500, 16, 16, 3), 4, 96, np.random.default_rng(0))],
    "a step of training": a_step_of_training,
    "ResMLP": lambda: gradients_of_tokens(
        lambda: mx.models.ResMLP(40, 1, 2, 10, image_size=16, rng=0)
    ),
    "MLP-Mixer": lambda: gradients_of_tokens(
        lambda: mx.models.MLPMixer(40, 1, 2, 10, image_size=16, rng=0)
    ),
    "ViT": lambda: gradients_of_tokens(
        lambda: mx.models.ViT(40, 1, 4, 2, 10, image_size=16, rng=0)
    ),
    "Muon": moved_by_muon,
}


@pytest.mark.parametrize("case", CASES)
def test_the_same_bits(case):
    found = set()
    for threads in THREADS:
        kernels.set_num_threads(threads)
        found.add(bits(CASES[case]()))
    assert len(found) == 1
