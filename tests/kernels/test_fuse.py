"""minimix.fuse: the same parameters, the same numbers, the same errors."""

import importlib
import tracemalloc

import numpy as np
import pytest

import minimix as mx
from minimix import nn
from minimix.functional import cross_entropy
from minimix.fuse import fused_blocks, fused_embedding
from minimix.gradcheck import gradcheck

FUSE = importlib.import_module("minimix.fuse")  # mx.fuse is the function
NETS = [(24, 2, 5, 2, 16, 6), (40, 1, 3, 4, 20, 3), (16, 2, 4, 1, 9, 2)]
ids = "{0[0]}/{0[1]} k{0[2]} p{0[3]}".format


def pair(hidden_dim, depth, kernel_size, patch_size, dtype):
    """A plain and a fused model with equal weights, none of them as they begin."""
    rng = np.random.default_rng(1)
    plain, twin = (
        mx.ConvMixer(hidden_dim, depth, kernel_size, patch_size, 10, rng=0).astype(dtype)
        for _ in range(2)
    )
    for p, q in zip(plain.parameters(), twin.parameters(), strict=True):
        p.array = q.array = (p.array + 0.1 * rng.standard_normal(p.shape)).astype(dtype)
        q.array = p.array.copy()
    return plain, twin, mx.fuse(twin)


def batch(size, n, dtype):
    rng = np.random.default_rng(2)
    x = rng.standard_normal((n, size, size, 3)).astype(dtype)
    return mx.Tensor(x, requires_grad=True), rng.integers(0, 10, n)


def together(arrays):
    return np.concatenate([a.ravel() for a in arrays])


def difference(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(a)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-6), (np.float64, 1e-12)])
@pytest.mark.parametrize("net", NETS, ids=ids)
def test_the_same_numbers(net, dtype, tolerance):
    *settings, size, n = net
    plain, _, fused = pair(*settings, dtype)
    results = []
    for model in (plain, fused):
        x, labels = batch(size, n, dtype)
        logits = model(x)
        cross_entropy(logits, labels).backward()
        gradients = together(p.grad for p in model.parameters())
        buffers = together(b for _, b in model.named_buffers())
        model.eval()
        recorded = model(x).array
        with mx.no_grad():
            results.append((logits.array, x.grad, gradients, buffers, recorded, model(x).array))
    for a, b in zip(*results, strict=True):
        assert difference(a, b) < tolerance
    assert difference(results[1][4], results[1][5]) < tolerance


@pytest.mark.parametrize(("images", "parts"), [(0, []), (1, [1]), (4, [3, 1]), (7, [3, 3, 1])])
def test_inference_a_few_images_at_a_time(images, parts, monkeypatch):
    plain, _, fused = pair(8, 2, 3, 2, np.float64)
    seen = []
    infer = FUSE._infer
    monkeypatch.setattr(FUSE, "_infer", lambda x, stages: seen.append(len(x)) or infer(x, stages))
    one_image = 8 * 4 * 4 * 8  # bytes of a layer's output
    monkeypatch.setattr(FUSE, "CACHED", 3 * one_image + 5)
    x, _ = batch(8, images, np.float64)
    with mx.no_grad():
        expected, got = plain.eval()(x).array, fused.eval()(x).array
    assert seen == parts
    assert got.shape == (images, 10)
    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)


def test_gradients_in_evaluation():
    plain, _, fused = pair(16, 1, 3, 2, np.float64)
    gradients = []
    for model in (plain.eval(), fused.eval()):
        x, labels = batch(8, 2, np.float64)
        cross_entropy(model(x), labels).backward()
        gradients.append(together([x.grad, *(p.grad for p in model.parameters())]))
    np.testing.assert_array_equal(*gradients)


def test_it_is_the_same_model():
    model = mx.ConvMixer(8, 2, 3, 2, 10, rng=0)
    fused = mx.fuse(model)
    assert list(model.state_dict()) == list(fused.state_dict())
    assert all(a is b for a, b in zip(model.parameters(), fused.parameters(), strict=True))
    fused.load_state_dict(mx.ConvMixer(8, 2, 3, 2, 10, rng=1).state_dict())
    np.testing.assert_array_equal(
        model.head.weight.array, mx.ConvMixer(8, 2, 3, 2, 10, rng=1).head.weight.array
    )
    fused.astype(np.float64)
    assert model(mx.Tensor(np.ones((2, 4, 4, 3)))).dtype == np.float64


def test_the_fused_kernels_really_run(monkeypatch):
    called = []
    for name in ("mix_places", "mix_channels", "infer_places", "infer_channels"):
        kernel = getattr(mx.kernels, name)
        monkeypatch.setattr(
            mx.kernels, name, lambda *a, kernel=kernel, name=name: called.append(name) or kernel(*a)
        )
    _, _, fused = pair(8, 2, 3, 2, np.float32)
    x, _ = batch(8, 2, np.float32)
    fused(x)
    with mx.no_grad():
        fused.eval()(x)
    training, inference = ["mix_places", "mix_channels"], ["infer_places", "infer_channels"]
    assert called == [*training * 2, "infer_channels", *inference * 2]


@pytest.mark.parametrize("shape", [(2, 8, 8, 1), (2, 7, 8, 3), (2, 8, 8)])
@pytest.mark.parametrize("training", [True, False])
def test_the_same_errors(shape, training):
    plain, _, fused = pair(8, 1, 3, 2, np.float32)
    messages = []
    for model in (plain.train(training), fused.train(training)):
        with mx.no_grad(), pytest.raises(ValueError, match="patchify") as caught:
            model(mx.Tensor(np.ones(shape, np.float32)))
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_one_pixel_cannot_be_normalised():
    _, _, fused = pair(8, 1, 3, 2, np.float32)
    with pytest.raises(ValueError, match="training needs at least 2"):
        fused(mx.Tensor(np.ones((1, 2, 2, 3), np.float32)))


def test_only_what_is_a_convmixer_through_and_through():
    with pytest.raises(TypeError, match="Linear; expected a ConvMixer"):
        mx.fuse(nn.Linear(2, 3))
    changed = mx.ConvMixer(8, 1, 3, 2, 10)
    setattr(changed.blocks[0], "2", nn.ReLU())
    with pytest.raises(TypeError, match=r"blocks.0.2 is ReLU.*expected a GELU"):
        mx.fuse(changed)
    approximate = mx.ConvMixer(8, 1, 3, 2, 10)
    approximate.stem[1].approximate = "tanh"
    with pytest.raises(TypeError, match=r"stem.1 is GELU"):
        mx.fuse(approximate)


# ---- the operations by themselves, against finite differences


@pytest.mark.parametrize("backend", mx.kernels.BACKENDS)
def test_gradients_of_the_fused_operations(backend):
    rng = np.random.default_rng(3)

    def draw(*shape):
        return mx.Tensor(rng.standard_normal(shape), requires_grad=True)

    def embedding(x, w, b, gamma, beta):
        return fused_embedding(x, w, b, gamma, beta, eps=1e-5, moments=[])

    def blocks(*inputs):
        return fused_blocks(*inputs, eps=[1e-5] * 4, moments=[])

    c = 3
    with mx.backend(backend):
        for f, inputs in (
            (embedding, (draw(2, 4, 4, 2), draw(2, 2, 2, c), draw(c), draw(c), draw(c))),
            (
                blocks,
                (draw(2, 4, 3, c), *(
                    t for _ in range(2) for t in (
                        draw(3, 3, c), draw(c), draw(c), draw(c),
                        draw(c, c), draw(c), draw(c), draw(c),
                    )
                )),
            ),
        ):  # fmt: skip
            report = gradcheck(f, inputs)
            assert report.ok, str(report)


@pytest.mark.parametrize("backend", mx.kernels.BACKENDS)
def test_two_arrays_a_block_are_kept_for_the_way_back(backend):
    depth, x = 6, mx.Tensor(np.zeros((32, 8, 8, 16), np.float32), requires_grad=True)
    parameters = [
        mx.Tensor(np.ones(shape, np.float32), requires_grad=True)
        for shape in ((3, 3, 16), (16,), (16,), (16,), (16, 16), (16,), (16,), (16,))
    ]
    with mx.backend(backend):
        mx.kernels.gelu(x.array)  # what a back end needs for itself
        tracemalloc.start()
        y = fused_blocks(x, *parameters * depth, eps=[1e-5] * 2 * depth, moments=[])
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    y.backward(np.ones(y.shape))
    assert 2 * depth + 1 <= kept / x.array.nbytes < 2 * depth + 2
