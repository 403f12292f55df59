"""minimix.fuse of nets of tokens: the numbers, errors and memory of the plain net."""

import contextlib
import importlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minimix as mx
from minimix import nn
from minimix.fuse import fused_attention, fused_mlp, fused_token_map, fused_token_mlp
from minimix.gradcheck import gradcheck

TOKENS = importlib.import_module("minimix.fuse.tokens")  # mx.fuse is the function
NETS = {
    "ViT": lambda: mx.models.ViT(8, 2, 2, 2, 3, image_size=(4, 6), rng=0),
    "DeiT": lambda: mx.models.ViT(8, 2, 4, 2, 3, image_size=(4, 6), pool="distilled", rng=0),
    "ResMLP": lambda: mx.models.ResMLP(6, 2, 2, 3, image_size=(4, 6), rng=0),
    "MLP-Mixer": lambda: mx.models.MLPMixer(6, 2, 2, 3, image_size=(4, 6), rng=0),
}
EACH = pytest.mark.parametrize("name", NETS)


def twins(name, dtype=np.float64):
    """A plain net and a fused one with the same parameters, none of them as they begin."""
    models = [NETS[name]().astype(dtype) for _ in range(2)]
    for model in models:
        rng = np.random.default_rng(1)
        for p in model.parameters():
            p.array = (p.array + 0.3 * rng.standard_normal(p.shape)).astype(dtype)
    return models[0], mx.fuse(models[1])


def outcome(model, recording=True, shape=(3, 4, 6, 3), dtype=np.float64):
    """All that a forward and a backward pass leave, or the error."""
    rng = np.random.default_rng(2)
    x = mx.Tensor(rng.standard_normal(shape).astype(dtype), requires_grad=True)
    with contextlib.nullcontext() if recording else mx.no_grad():
        try:
            y = model(x)
        except (TypeError, ValueError) as error:
            return f"{type(error).__name__}: {error}", {}
    if not recording:
        return "", {"logits": y.array}
    y.backward(rng.standard_normal(y.shape).astype(dtype))
    found = {"logits": y.array} | ({} if x.grad is None else {"x": x.grad})
    return "", found | {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


def same(plain, fused, *how, tolerance=1e-11):
    (error, expected), (other, got) = outcome(plain, *how), outcome(fused, *how)
    assert other == error
    assert list(got) == list(expected)
    largest = max((np.abs(a).max() for a in expected.values() if a.size), default=0)
    for name, array in expected.items():
        assert got[name].dtype == array.dtype
        np.testing.assert_allclose(got[name], array, rtol=0, atol=tolerance * largest, err_msg=name)


WIDE = {  # more channels than one image has tokens: norms go into the rows, not into the weights
    "ViT": lambda: mx.models.ViT(16, 2, 2, 2, 3, image_size=(4, 6), rng=0),
    "ResMLP": lambda: mx.models.ResMLP(16, 2, 2, 3, image_size=(4, 6), rng=0),
    "MLP-Mixer": lambda: mx.models.MLPMixer(16, 2, 2, 3, image_size=(4, 6), rng=0),
}


@pytest.mark.parametrize("recording", [True, False])
@pytest.mark.parametrize("name", WIDE)
def test_one_image_of_a_wide_net(name, recording, monkeypatch):
    monkeypatch.setitem(NETS, name, WIDE[name])
    same(*twins(name), recording, (1, 4, 6, 3))


@pytest.fixture
def ran(monkeypatch):
    """The names of the operations that branches have run."""
    names, run = [], TOKENS.Branch.run
    monkeypatch.setattr(
        TOKENS.Branch, "run", lambda b, x: names.append(b.operation.__name__) or run(b, x)
    )
    return names


RUNS = {
    "ViT": ["fused_attention", "fused_mlp"] * 2,
    "DeiT": ["fused_attention", "fused_mlp"] * 2,
    "ResMLP": ["fused_token_map", "fused_mlp"] * 2,
    "MLP-Mixer": ["fused_token_mlp", "fused_mlp"] * 2,
}


@EACH
@pytest.mark.parametrize("backend", mx.kernels.BACKENDS)
def test_the_same_numbers(name, backend, ran):
    with mx.backend(backend):
        same(*twins(name))
        same(*(model.eval() for model in twins(name)))
        same(*twins(name), False)
        same(*twins(name, np.float32), True, (3, 4, 6, 3), np.float32, tolerance=3e-6)
    assert ran == RUNS[name] * 4


@EACH
def test_it_is_the_same_net(name):
    model = NETS[name]()
    fused = mx.fuse(model)
    assert type(fused) is not type(model)
    assert isinstance(fused, type(model))
    assert list(model.state_dict()) == list(fused.state_dict())
    assert mx.fuse(fused).blocks is model.blocks
    assert all(a is b for a, b in zip(model.parameters(), fused.parameters(), strict=True))
    fused.eval()
    assert not model.training
    model.head = nn.Linear(6, 2)
    assert fused.head is model.head


@EACH
def test_what_is_observed_runs_layer_by_layer(name, ran):
    fused, seen = mx.fuse(NETS[name]()), []
    with mx.no_grad(), nn.observe(lambda module, inputs, output: seen.append(module)):
        fused(mx.Tensor(np.ones((1, 4, 6, 3), np.float32)))
    inside = {module for _, module in fused.blocks.named_modules()}
    assert {fused, *inside} <= set(seen)
    assert not ran


# ---- whatever is done to a net, the numbers are the plain net's


class AnArray(nn.Identity):
    def forward(self, x):
        return np.ones((2, 6, 8))


class Twice(nn.Linear):
    def forward(self, x):
        return super().forward(x) * 2.0


def layers(model, kind):
    return [m for _, m in model.blocks.named_modules() if type(m) is kind]


def one_of(found, i):
    return found[i % len(found)] if found else nn.Linear(1, 1)


def frozen_parameters(model, i):
    for j, p in enumerate(model.parameters()):
        p.requires_grad = bool((i >> j % 5) & 1)


def no_bias(model, i):
    one_of(layers(model, nn.Linear), i).bias = None


def own_forward(model, i):
    layer = one_of(layers(model, (nn.Linear, nn.GELU, nn.LayerNorm, nn.Affine)[i % 4]), i)
    layer.forward = lambda x, forward=layer.forward: forward(x) * 2.0


def own_class(model, i):
    one_of(layers(model, nn.Linear), i).__class__ = Twice


def own_block(model, i):
    block = model.blocks[i % len(model.blocks)]
    block.forward = lambda x, forward=block.forward: forward(x) * 2.0


def tanh(model, i):
    one_of(layers(model, nn.GELU), i).approximate = "tanh"


def another_activation(model, i):
    one_of(layers(model, nn.MLP), i).act = nn.ReLU()


def eps(model, i):
    one_of(layers(model, nn.LayerNorm), i).eps = (0.5, 0.0, np.float32(0.1), 1)[i % 4]


def other_precision(model, i):
    p = list(model.blocks.parameters())[i]
    p._array = p.array.astype(np.float32)


def turned_parameters(model, i):
    for p in model.parameters():
        p.array = np.array(p.array.T, order="C").T if p.ndim > 1 else np.repeat(p.array, 3)[::3]


def one_number(model, i):
    """Which NumPy would broadcast."""
    for name in ("ls1", "ls2"):
        if hasattr(model.blocks[0], name):
            setattr(model.blocks[0], name, mx.Parameter(np.ones(1)))
    if affine := layers(model, nn.Affine):
        affine[0].beta = mx.Parameter(np.ones(1))


def other_width(model, i):
    model.blocks[i % 2].norm2 = nn.LayerNorm(5, eps=1e-6).astype(np.float64)


def shared(model, i):
    model.blocks[1] = model.blocks[0]


def shared_weight(model, i):
    found = layers(model, nn.Linear)
    for layer in found:
        if layer.weight.shape == found[i % len(found)].weight.shape:
            layer.weight = found[i % len(found)].weight


def another_norm(model, i):
    width = model.head.weight.shape[0]
    kind = nn.Affine if i % 2 else nn.LayerNorm
    model.blocks[i % len(model.blocks)].norm1 = kind(width).astype(np.float64)


def another_layer(model, i):
    model.blocks.insert(i % 3, (nn.Identity(), nn.Dropout(0.5, rng=i))[i % 2])


def fewer_blocks(model, i):
    del model.blocks[0]


def own_sequential(model, i):
    blocks = model.blocks
    blocks.forward = lambda x: blocks[1](blocks[0](x))


def own_embedding(model, i):
    name = "stem" if hasattr(model, "stem") else "patch_embed"
    setattr(model, name, (AnArray(), nn.Identity())[i % 2])


def heads(model, i):
    if hasattr(model.blocks[0], "attn"):
        model.blocks[i % len(model.blocks)].attn.n_heads = (1, 8, np.int64(2), 3)[i % 4]


CHANGES = [
    another_activation, another_layer, another_norm, eps, fewer_blocks, frozen_parameters, heads,
    no_bias, one_number, other_precision, other_width, own_block, own_class,
    own_embedding, own_forward, own_sequential, shared, shared_weight, tanh, turned_parameters,
]  # fmt: skip
SHAPES = [(3, 4, 6, 3), (1, 4, 6, 3), (0, 4, 6, 3), (2, 6, 4, 3), (2, 4, 6, 1), (4, 6, 3)]


def changed(name, changes):
    for model in twins(name):
        for change, i in changes:
            with contextlib.suppress(IndexError):  # as far as it goes, after the others
                change(model, i)
        yield model


@EACH
@pytest.mark.parametrize("change", CHANGES)
def test_one_change(name, change):
    with mx.backend("numpy"):
        for i in range(4):
            same(*changed(name, [(change, i)]))


CHANGE = st.tuples(st.sampled_from(CHANGES), st.integers(0, 15))


@given(
    st.sampled_from(sorted(NETS)),
    st.sampled_from(mx.kernels.BACKENDS),
    st.lists(CHANGE, max_size=3),
    st.sampled_from(SHAPES),
    st.booleans(),
    st.sampled_from([np.float64, np.float64, np.float32]),
)
@settings(max_examples=150)
def test_several_changes_and_images(name, backend, changes, shape, recording, dtype):
    with mx.backend(backend):
        same(*changed(name, changes), recording, shape, dtype)


# ---- the operations by themselves, against finite differences


@pytest.mark.parametrize("backend", mx.kernels.BACKENDS)
@pytest.mark.parametrize("before", ["", 1e-3], ids=["affine", "normalized"])
def test_gradients_of_the_fused_operations(backend, before):
    rng = np.random.default_rng(3)

    def draw(*shape):
        return mx.Tensor(rng.standard_normal(shape), requires_grad=True)

    t, d, h = 3, 4, 5
    norm, mlp = [draw(d), draw(d)], [draw(d, h), draw(h), draw(h, d), draw(d)]
    tokens = [draw(t, h), draw(h), draw(h, t), draw(t)]
    cases = [
        (fused_mlp, [*mlp], {}),
        (fused_mlp, [*mlp, draw(d)], {}),
        (fused_attention, [draw(d, 3 * d), draw(3 * d), draw(d, d), draw(d)], {"n_heads": 2}),
        (fused_token_map, [draw(t, t), draw(t), draw(d)], {}),
        (fused_token_mlp, tokens, {}),
    ]
    with mx.backend(backend):
        for operation, maps, options in cases:

            def f(*inputs, operation=operation, options=options):
                return operation(*inputs, before=before, **options)

            report = gradcheck(f, (draw(2, t, d), *norm, *maps))
            assert report.ok, (operation.__name__, str(report))
