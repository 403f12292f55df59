"""minimix.fuse: the same parameters, the same numbers, the same errors."""

import contextlib
import copy
import importlib
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minimix as mx
from minimix import nn
from minimix.functional import cross_entropy
from minimix.fuse import fused_blocks, fused_embedding, fused_layer_embedding, fused_mlp
from minimix.gradcheck import gradcheck

# mx.fuse is the function
CONVMIXER, RESNET = (importlib.import_module(f"minimix.fuse.{m}") for m in ("convmixer", "resnet"))
NETS = [(24, 2, 5, 2, 16, 6), (40, 1, 3, 4, 20, 3), (16, 2, 4, 1, 9, 2)]
LAYER_NETS = [(40, 1, 3, 4, 20, 3), (16, 2, 3, 1, 9, 2)]
ids = "{0[0]}/{0[1]} k{0[2]} p{0[3]}".format


def pair(hidden_dim, depth, kernel_size, patch_size, dtype, **more):
    """A plain and a fused model with equal weights, none of them as they begin."""
    rng = np.random.default_rng(1)
    sizes = hidden_dim, depth, kernel_size, patch_size, 10
    plain, twin = (mx.ConvMixer(*sizes, rng=0, **more).astype(dtype) for _ in range(2))
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
@pytest.mark.parametrize(
    ("net", "norm"),
    [*((net, "batch") for net in NETS), *((net, "layer") for net in LAYER_NETS)],
    ids=lambda v: v if isinstance(v, str) else ids(v),
)
def test_the_same_numbers(net, norm, dtype, tolerance):
    *settings, size, n = net
    plain, _, fused = pair(*settings, dtype, norm=norm)
    results = []
    for model in (plain, fused):
        x, labels = batch(size, n, dtype)
        logits = model(x)
        cross_entropy(logits, labels).backward()
        gradients = together(p.grad for p in model.parameters())
        buffers = together([np.ones(1), *(b for _, b in model.named_buffers())])
        model.eval()
        recorded = model(x).array
        with mx.no_grad():
            results.append((logits.array, x.grad, gradients, buffers, recorded, model(x).array))
    for a, b in zip(*results, strict=True):
        assert difference(a, b) < tolerance
    assert difference(results[1][4], results[1][5]) < tolerance


@pytest.mark.parametrize("images", [0, 1, 4, 37])
@pytest.mark.parametrize("size", [8, 36])
def test_inference_of_any_number_of_images(images, size):
    plain, _, fused = pair(8, 2, 3, 2, np.float64)
    x, _ = batch(size, images, np.float64)
    with mx.no_grad(), mx.kernels.using_threads(2):
        expected, got = plain.eval()(x).array, fused.eval()(x).array
    assert got.shape == (images, 10)
    np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)


def test_inference_knows_what_has_changed_since_the_last_one():
    plain, twin, fused = pair(8, 2, 3, 2, np.float64)
    x, _ = batch(8, 3, np.float64)
    results = []
    with mx.no_grad():
        for i, (old, new) in enumerate(zip(plain.parameters(), twin.parameters(), strict=True)):
            if i % 2:
                old.array, new.array = old.array + 0.1, new.array + 0.1
            else:
                for p in (old, new):
                    p.array[...] *= 1.1
            expected, got = plain.eval()(x).array, fused.eval()(x).array
            np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)
            results.append(got.tobytes())
        for model in (plain, twin):
            for _, b in model.named_buffers():
                b += 0.1
        np.testing.assert_allclose(fused(x).array, plain(x).array, rtol=1e-10, atol=1e-12)
    assert len(set(results)) == len(results)


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


@pytest.mark.parametrize(
    ("norm", "kernels"),
    [("batch", ["mix_places", "mix_channels"]), ("layer", ["depthwise_conv2d", "mix_layer_norm"])],
)
def test_the_fused_kernels_really_run(norm, kernels, monkeypatch):
    called = []
    for name in (*kernels, "infer_convmixer"):
        kernel = getattr(mx.kernels, name)

        def call(*a, kernel=kernel, name=name, **how):
            called.append(name)
            return kernel(*a, **how)

        monkeypatch.setattr(mx.kernels, name, call)
    _, _, fused = pair(8, 2, 3, 2, np.float32, norm=norm)
    x, _ = batch(8, 2, np.float32)
    fused(x)
    with mx.no_grad():
        fused.eval()(x)
    assert called == [*kernels * 2, "infer_convmixer"]


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


def test_one_pixel_cannot_be_normalized():
    _, _, fused = pair(8, 1, 3, 2, np.float32)
    with pytest.raises(ValueError, match="training needs at least 2"):
        fused(mx.Tensor(np.ones((1, 2, 2, 3), np.float32)))


def test_what_is_no_module_is_refused():
    with pytest.raises(TypeError, match="fuse: model is a function; expected a Module"):
        mx.fuse(lambda x: x)


def test_any_other_model_is_returned_as_it_is():
    for model in (nn.Linear(2, 3), nn.SelfAttention(4, 2), Own(8, 1, 3, 2, 10)):
        assert mx.fuse(model) is model


def extended(model):
    model.blocks[0].append(nn.Dropout())
    return model


def own_forward(model):
    model.stem[1].forward = lambda x: x
    return model


def other_block(model):
    model.blocks[0] = nn.Identity()
    return model


class Own(mx.ConvMixer):
    def forward(self, x):
        return self.head(self.pool(self.stem(x)))


def without_residual(model):
    setattr(model.blocks[0], "0", model.blocks[0][0].fn)
    return model


def approximate(model):
    model.blocks[0][2].approximate = "tanh"
    return model


def other_norm(model):
    model.blocks[0][0].fn[2] = nn.LayerNorm(8)
    return model


def mixed(model):
    setattr(model.blocks[0], "2", nn.ReLU())
    return model


@pytest.mark.parametrize(
    "change",
    [
        extended,
        own_forward,
        other_block,
        without_residual,
        approximate,
        mixed,
        other_norm,
        lambda _: mx.ConvMixer(8, 1, 3, 2, 10, norm="none", rng=0),
        lambda _: mx.ConvMixer(8, 1, 3, 2, 10, norm="layer", residual="both", rng=0),
        lambda _: mx.ConvMixer(8, 1, 3, 2, 10, residual="both", rng=0),
    ],
)
def test_what_else_a_convmixer_may_be_runs_layer_by_layer(change):
    plain = change(mx.ConvMixer(8, 1, 3, 2, 10, rng=0)).eval()
    x, _ = batch(8, 3, np.float32)
    with mx.no_grad():
        np.testing.assert_allclose(mx.fuse(plain)(x).array, plain(x).array, rtol=1e-5, atol=1e-6)


def partly_residual(model):
    first = model.blocks[0]
    model.blocks[0] = nn.Sequential(*first[0].fn, *list(first)[1:])
    return model


def wide_stem(model):
    convolution = nn.Conv2d(3, 8, 3, 2, padding=1, rng=0)
    model.stem = nn.Sequential(convolution, nn.GELU(), nn.BatchNorm(8))
    return model


@pytest.mark.parametrize("backend", mx.kernels.BACKENDS)
@pytest.mark.parametrize(
    ("make", "stages"),
    [
        (lambda: mx.ConvMixer(8, 2, 3, 2, 10, activation="relu", rng=0), [5, 5]),
        (lambda: wide_stem(mx.ConvMixer(8, 2, 3, 2, 10, rng=0)), [4, 4]),
        (lambda: mx.ConvMixer(8, 2, 3, 4, 10, stem_dim=5, stem_depth=1, rng=0), [8, 8]),
        (lambda: mx.ConvMixer(8, 0, 3, 4, 10, stem_dim=5, rng=0), [2, 2]),
        (lambda: mixed(mx.ConvMixer(8, 2, 3, 2, 10, rng=0)), []),
        (lambda: mx.ConvMixer(8, 2, 3, 2, 10, norm="layer", residual="none", rng=0), [5, 5]),
        (lambda: mx.ConvMixer(8, 2, 3, 4, 10, norm="layer", stem_dim=5, rng=0), [6, 6]),
        (lambda: wide_stem(mx.ConvMixer(8, 2, 3, 2, 10, norm="layer", rng=0)), [4, 4]),
        (lambda: partly_residual(mx.ConvMixer(8, 2, 3, 2, 10, norm="layer", rng=0)), []),
    ],
    ids=[
        "ReLU",
        "another stem",
        "a finer stem",
        "a finer stem alone",
        "ReLU and GELU",
        "layer norm, no residual",
        "layer norm, a finer stem",
        "layer norm, another stem",
        "layer norm, one residual",
    ],
)
def test_the_same_numbers_of_its_relatives(make, stages, backend, monkeypatch):
    ran = []
    run = CONVMIXER.FusedConvMixer._run
    monkeypatch.setattr(
        CONVMIXER.FusedConvMixer,
        "_run",
        lambda self, x, stages: ran.append(len(stages)) or run(self, x, stages),
    )
    results = []
    with mx.kernels.backend(backend):
        for model in (make().astype(np.float64), mx.fuse(make().astype(np.float64))):
            x, labels = batch(8, 4, np.float64)
            logits = model(x)
            cross_entropy(logits, labels).backward()
            gradients = together([x.grad, *(p.grad for p in model.parameters())])
            buffers = together([np.ones(1), *(b for _, b in model.named_buffers())])
            model.eval()
            with mx.no_grad():
                results.append((logits.array, gradients, buffers, model(x).array))
    for a, b in zip(*results, strict=True):
        assert difference(a, b) < 1e-12
    assert ran == stages


def test_a_fused_model_shares_everything_with_the_plain_one():
    model = mx.ConvMixer(8, 1, 3, 2, 10, rng=0)
    fused = mx.fuse(model)
    assert mx.fuse(fused).stem is model.stem
    model.head = nn.Linear(8, 3)
    assert fused.head is model.head
    fused.eval()
    assert not model.training
    fused.blocks.append(nn.Identity())
    assert len(model.blocks) == 2
    other = copy.deepcopy(fused)
    other.head = None
    assert fused.head is model.head


def test_what_is_observed_runs_layer_by_layer():
    fused, seen = mx.fuse(mx.ConvMixer(8, 1, 3, 2, 10, rng=0)).eval(), []
    x, _ = batch(8, 2, np.float32)
    with mx.no_grad(), nn.observe(lambda module, inputs, output: seen.append(module)):
        fused(x)
    assert set(seen) == {module for _, module in fused.named_modules()}
    plain = mx.summary(mx.ConvMixer(8, 1, 3, 2, 10, rng=0), (1, 4, 4, 3))
    assert mx.summary(fused, (1, 4, 4, 3)) == plain.replace("ConvMixer, ", "FusedConvMixer, ")


# ---- whatever is done to it, the numbers are the plain model's


def norms(model):
    kinds = nn.BatchNorm, nn.LayerNorm
    return [m for _, m in model.named_modules() if isinstance(m, kinds)]


def convolutions(model):
    kinds = nn.Patchify, nn.DepthwiseConv2d, nn.PointwiseConv2d
    return [m for _, m in model.named_modules() if isinstance(m, kinds)]


def freeze(model, i):
    norms(model)[i % 5].eval()


def freeze_all(model, i):
    model.eval()


def freeze_part(model, i):
    (model.stem, model.blocks, model.blocks[1], model.head)[i % 4].eval()


def momentum(model, i):
    norms(model)[i % 5].momentum = (0.0, 0.5, 1.0, 1, np.float32(0.3))[i // 5 % 5]


def eps(model, i):
    norms(model)[i % 5].eps = (1e-2, 0.5, np.float64(1e-3), np.float32(0.1))[i // 5 % 4]


def new_statistics(model, i):
    norm = norms(model)[i % 5]
    norm.running_mean = np.linspace(-1, 1, 6)
    norm.running_var = np.linspace(0.5, 2, 12)[::2]


def wide_statistics(model, i):
    norm = norms(model)[i % 5]
    norm.register_buffer("running_var", np.linspace(0.5, 2, 6))
    norm.register_buffer("running_mean", np.linspace(0.5, 2, 6).astype(np.float32))


def no_statistics(model, i):
    norm = norms(model)[i % 5]
    del norm.running_mean, norm.running_var
    norm.running_mean = norm.running_var = None


def read_only_statistics(model, i):
    norms(model)[i % 5].running_var.flags.writeable = False


def frozen_parameters(model, i):
    for j, p in enumerate(model.parameters()):
        p.requires_grad = bool((i >> j % 5) & 1)


def turned_parameters(model, i):
    for p in model.parameters():
        p.array = np.array(p.array.T, order="C").T if p.ndim > 1 else np.repeat(p.array, 3)[::3]


def other_precision(model, i):
    parameter = list(model.parameters())[i % 22]
    parameter._array = parameter.array.astype(np.float32)


def shared_weight(model, i):
    layers = convolutions(model)
    layers[3].weight, layers[2].bias = layers[1].weight, layers[0].bias


def shared_norm(model, i):
    setattr(model.blocks[i % 2], "3", model.stem[2])


def shared_block(model, i):
    model.blocks[1] = model.blocks[0]


def no_bias(model, i):
    convolutions(model)[i % 5].bias = None


def tanh(model, i):
    model.blocks[i % 2][2].approximate = "tanh"


def relu(model, i):
    setattr(model.blocks[i % 2], "2", nn.ReLU())


def dropout(model, i):
    model.blocks[i % 2].insert(i % 5, nn.Dropout(0.5, rng=i))


def no_residual(model, i):
    setattr(model.blocks[i % 2], "0", model.blocks[i % 2][0].fn)


def fewer_blocks(model, i):
    del model.blocks[i % 2]


def head(model, i):
    model.head = nn.Sequential(nn.Dropout(0.3, rng=i), nn.Linear(6, 3, rng=i).astype(np.float64))


class CenteredPool(mx.Module):
    """Looks at the whole batch."""

    def forward(self, x):
        return x.mean(axis=(1, 2)) - x.mean(axis=(0, 1, 2))


def pool(model, i):
    model.pool = CenteredPool()


def own_convolution(model, i):
    layer = convolutions(model)[i % 5]
    layer.forward = lambda x, forward=layer.forward: forward(x) * 2.0


def wider(model, i):
    model.blocks[1][1] = nn.PointwiseConv2d(6, 4, rng=0).astype(np.float64)
    model.blocks[1][3] = nn.BatchNorm(4).astype(np.float64)
    model.head = nn.Linear(4, 3, rng=0).astype(np.float64)


def one_number(model, i):
    """Which NumPy would broadcast."""
    if i < 5:
        convolutions(model)[i % 5].bias = mx.Parameter(np.ones(1))
    else:
        norms(model)[i % 5].register_buffer(("running_mean", "running_var")[i % 2], np.ones(1))


class Backwards(nn.Sequential):
    def forward(self, x):
        for layer in reversed(self):
            x = layer(x)
        return x


def own_sequential(model, i):
    if i % 2:
        model.blocks = Backwards(*model.blocks)
    else:
        model.blocks[i % 3] = Backwards(*model.blocks[i % 3])


def nonsense(model, i):
    norms(model)[i % 5].__dict__.update([(("momentum", None), ("eps", -1.0))[i // 5 % 2]])


CHANGES = [
    dropout, eps, fewer_blocks, freeze, freeze_all, freeze_part, frozen_parameters, head, momentum,
    new_statistics, no_bias, no_residual, no_statistics, nonsense, one_number, other_precision,
    own_convolution, own_sequential, pool, read_only_statistics, relu, shared_block, shared_norm,
    shared_weight, tanh, turned_parameters, wide_statistics, wider,
]  # fmt: skip

IMAGES = {
    "as they are": lambda x: x,
    "turned": lambda x: np.array(x.transpose(3, 2, 1, 0), order="C").transpose(3, 2, 1, 0),
    "backwards": lambda x: x[::-1, :, ::-1],
    "float32": lambda x: x.astype(np.float32),
    "none": lambda x: x[:0],
    "one pixel": lambda x: x[:1, :2, :2],
    "two pixels": lambda x: x[:1, :2, :4],
    "empty": lambda x: x[:, :0],
    "odd": lambda x: x[:, :3],
    "gray": lambda x: x[..., :1],
    "an array": lambda x: x,
}


def outcome(model, x, recording):
    """All that a forward and a backward pass leave, or the error."""
    with contextlib.nullcontext() if recording else mx.no_grad(), np.errstate(all="ignore"):
        try:
            y = model(x)
        except (TypeError, ValueError, RuntimeError) as error:
            return f"{type(error).__name__}: {error}", {}
    found = {"logits": y.array, **{n: b.copy() for n, b in model.named_buffers()}}
    if y.requires_grad:
        y.backward(np.random.default_rng(5).standard_normal(y.shape))
        found |= {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
        if isinstance(x, mx.Tensor) and x.grad is not None:
            found["x"] = x.grad
    return "", found


def same_as_plain(backend, changes, images, recording, wants_x, norm="batch"):
    results = []
    for fused in (False, True):
        model, _, _ = pair(6, 2, 3, 2, np.float64, norm=norm)
        run = mx.fuse(model) if fused else model  # and changed afterwards
        for each in norms(model) if norm == "batch" else ():
            each.running_mean += 0.3
            each.running_var *= 2
        for change, i in changes:
            with contextlib.suppress(AttributeError, IndexError, TypeError, ValueError):
                change(model, i)  # as far as it goes, after the others
        x = IMAGES[images](np.random.default_rng(2).standard_normal((3, 4, 6, 3)))
        with mx.backend(backend):
            x = x if images == "an array" else mx.Tensor(x, requires_grad=wants_x)
            results.append(outcome(run, x, recording))
    (error, expected), (fused_error, got) = results
    assert fused_error.replace("FusedConvMixer", "ConvMixer") == error
    assert list(got) == list(expected)
    for name, array in expected.items():
        assert got[name].dtype == array.dtype
        np.testing.assert_allclose(got[name], array, rtol=1e-7, atol=1e-10, err_msg=name)


@pytest.mark.parametrize("backend", mx.kernels.BACKENDS)
@pytest.mark.parametrize("change", CHANGES)
def test_one_change(backend, change):
    for i in (0, 6, 12, 18, 24):
        same_as_plain(backend, [(change, i)], "as they are", True, i > 12)
        same_as_plain(backend, [(change, i), (freeze_all, 0)], "as they are", False, False)


def batch_norm(model, i):
    norm = nn.BatchNorm(6).astype(np.float64)
    setattr(model.blocks[i % 2], "3", norm)


LAYER_CHANGES = [
    batch_norm, eps, freeze_part, frozen_parameters, no_bias, no_residual, other_precision,
    own_convolution, pool, shared_block, shared_norm, shared_weight, turned_parameters, wider,
]  # fmt: skip


@pytest.mark.parametrize("backend", mx.kernels.BACKENDS)
@pytest.mark.parametrize("change", LAYER_CHANGES)
def test_one_change_of_a_model_with_layer_norm(backend, change):
    for i in (0, 6, 13):
        same_as_plain(backend, [(change, i)], "as they are", True, i > 6, "layer")
        frozen = [(change, i), (freeze_all, 0)]
        same_as_plain(backend, frozen, "as they are", False, False, "layer")


CHANGE = st.tuples(st.sampled_from(CHANGES), st.integers(0, 24))


@pytest.mark.parametrize("backend", mx.kernels.BACKENDS)
@given(
    st.lists(CHANGE, max_size=3), st.sampled_from(sorted(IMAGES)), st.booleans(), st.booleans(),
    st.sampled_from(["batch", "layer"]),
)  # fmt: skip
@settings(max_examples=120)
def test_several_changes_and_images(backend, changes, images, recording, wants_x, norm):
    same_as_plain(backend, changes, images, recording, wants_x, norm)


def test_statistics_move_together_or_not_at_all():
    model = mx.ConvMixer(6, 1, 3, 2, 3, rng=0)
    broken = norms(model)[1]
    broken.running_var.flags.writeable = False
    x, _ = batch(4, 2, np.float32)
    for run in (model, mx.fuse(model)):
        before = broken.running_mean.copy()
        with pytest.raises(ValueError, match="batch_norm: running_var is read-only; training"):
            run(x)
        assert np.array_equal(broken.running_mean, before)
    fused, before = mx.fuse(mx.ConvMixer(6, 2, 3, 2, 3, rng=0)), 5 * [[0.0] * 6]

    def fail(*arguments, **how):
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mx.kernels, "mix_channels", fail)
        with pytest.raises(KeyboardInterrupt):
            fused(x)
    assert [norm.running_mean.tolist() for norm in norms(fused)] == before


@pytest.mark.parametrize("recording", [True, False])
def test_layer_norm_after_relu(recording, monkeypatch):
    ran, run = [], CONVMIXER.FusedConvMixer._run
    monkeypatch.setattr(
        CONVMIXER.FusedConvMixer, "_run", lambda *how: ran.append(len(how[2])) or run(*how)
    )
    plain, _, fused = pair(6, 2, 3, 2, np.float64, norm="layer", activation="relu")
    x = mx.Tensor(np.random.default_rng(2).standard_normal((3, 4, 6, 3)))
    with mx.backend("numpy"):
        (_, expected), (_, got) = (outcome(model, x, recording) for model in (plain, fused))
    assert ran == [5]
    assert list(got) == list(expected)
    for name, array in expected.items():
        np.testing.assert_allclose(got[name], array, rtol=1e-9, atol=1e-12, err_msg=name)


# ---- the operations by themselves, against finite differences


@pytest.mark.parametrize("backend", mx.kernels.BACKENDS)
def test_gradients_of_the_fused_operations(backend):
    rng = np.random.default_rng(3)

    def draw(*shape):
        return mx.Tensor(rng.standard_normal(shape), requires_grad=True)

    def embedding(x, w, b, gamma, beta):
        return fused_embedding(x, w, b, gamma, beta, eps=1e-5, moments=[])

    def layer_embedding(*inputs):
        return fused_layer_embedding(*inputs, eps=1e-2)

    def blocks(*inputs):
        return fused_blocks(*inputs, eps=[1e-5] * 4, moments=[])

    def layer_blocks(*inputs):
        return fused_blocks(*inputs, eps=[1e-2, 1e-3] * 2, moments=None)

    def unconnected(*inputs):
        return fused_blocks(*inputs, eps=[1e-2] * 4, moments=None, residual=False)

    c = 3
    patches = draw(2, 4, 4, 2), draw(2, 2, 2, c), draw(c), draw(c), draw(c)
    image = draw(2, 4, 3, c), *(
        t for _ in range(2) for t in (
            draw(3, 3, c), draw(c), draw(c), draw(c), draw(c, c), draw(c), draw(c), draw(c),
        )
    )  # fmt: skip
    with mx.backend(backend):
        for f, inputs in (
            (embedding, patches), (layer_embedding, patches), (blocks, image),
            (layer_blocks, image), (unconnected, image),
        ):  # fmt: skip
            report = gradcheck(f, inputs)
            assert report.ok, str(report)


@pytest.mark.parametrize("norm", ["batch", "layer"])
@pytest.mark.parametrize("backend", mx.kernels.BACKENDS)
def test_two_or_three_arrays_a_block_are_kept_for_the_way_back(backend, norm):
    depth, x = 6, mx.Tensor(np.zeros((32, 8, 8, 16), np.float32), requires_grad=True)
    parameters = [
        mx.Tensor(np.ones(shape, np.float32), requires_grad=True)
        for shape in ((3, 3, 16), (16,), (16,), (16,), (16, 16), (16,), (16,), (16,))
    ]
    with mx.backend(backend):
        how = {"eps": [1e-5] * 2 * depth, "moments": [] if norm == "batch" else None}
        fused_blocks(x, *parameters * depth, **how)  # what a back end needs for itself
        tracemalloc.start()
        y = fused_blocks(x, *parameters * depth, **how)
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    y.backward(np.ones(y.shape))
    arrays = 2 * depth + 1 if norm == "batch" else 3 * depth  # the result among them
    assert arrays <= kept / x.array.nbytes < arrays + 1


def test_inference_of_an_mlp_keeps_nothing_of_what_lies_between_its_maps():
    d, inner = 16, 64
    shapes = (1000, 8, d), (d,), (d,), (d, inner), (inner,), (inner, d), (d,)
    x, *parameters = (mx.Tensor(np.ones(s, np.float32), requires_grad=True) for s in shapes)
    between = x.array.nbytes // d * inner

    def most():
        fused_mlp(x, *parameters)  # what a back end needs for itself
        tracemalloc.start()
        fused_mlp(x, *parameters)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return peak

    with mx.backend("numba"):
        assert most() > between  # training needs it on the way back
        with mx.no_grad():
            assert most() < between


# ---- ResNets: the same operations in the same order, so the same bits


def resnet(depth, *settings):
    """A ResNet and its fused twin, none of whose parameters are as they begin."""
    twins = [mx.models.ResNet(depth, *settings, n_classes=3, rng=0) for _ in range(2)]
    for model in twins:
        rng = np.random.default_rng(1)
        for p in model.parameters():
            p.array = (p.array + 0.1 * rng.standard_normal(p.shape)).astype(np.float32)
    return twins[0], mx.fuse(twins[1])


def all_that_it_gives(model, size, recording=True):
    rng = np.random.default_rng(2)
    x = mx.Tensor(rng.standard_normal((3, size, size, 3)).astype(np.float32), requires_grad=True)
    found = {}
    with contextlib.nullcontext() if recording else mx.no_grad():
        y = model(x)
    if recording:
        y.backward(rng.standard_normal(y.shape).astype(np.float32))
        found = {n: p.grad for n, p in model.named_parameters()} | {"x": x.grad}
    return found | {n: b.copy() for n, b in model.named_buffers()} | {"logits": y.array}


def same_bits(plain, fused, *how):
    a, b = all_that_it_gives(plain, *how), all_that_it_gives(fused, *how)
    assert a.keys() == b.keys()
    for name, array in a.items():
        np.testing.assert_array_equal(b[name], array, err_msg=name)


@pytest.fixture
def fused_runs(monkeypatch):
    """How many blocks, and of how many convolutions, each call of the fused operations had."""
    ran, run = [], RESNET._run
    monkeypatch.setattr(
        RESNET, "_run", lambda x, s, b, *own: ran.append([*map(len, b)]) or run(x, s, b, *own)
    )
    return ran


RESNETS = [
    ((14, 8), 12, [[1], [2, 2], [2], [2], [2], [2]]),
    ((18, 4, "7x7", "B"), 24, [[1], [2, 2], [2], [2], [2], [2], [2], [2]]),
    ((50, 2, "3x3", "B"), 8, [[1], *([[3], [3] * n] for n in (2, 3, 5, 2))]),
]


@pytest.mark.parametrize("backend", mx.kernels.BACKENDS)
@pytest.mark.parametrize(("settings", "size", "runs"), RESNETS, ids=["14", "18", "50"])
def test_a_resnet_has_the_same_bits(settings, size, runs, backend, fused_runs):
    plain, fused = resnet(*settings)
    runs = [r for run in runs for r in (run if isinstance(run[0], list) else [run])]
    with mx.backend(backend):
        same_bits(plain, fused, size)
        assert fused_runs == runs
        same_bits(plain.eval(), fused.eval(), size)  # recorded: as it is
        assert fused_runs == runs
        same_bits(plain, fused, size, False)
        assert fused_runs == runs * 2


def test_an_odd_number_of_channels_is_missing_in_a_shortcut():
    plain, fused = resnet(8, 3)
    same_bits(plain, fused, 9)
    same_bits(plain.eval(), fused.eval(), 9, False)


def one_block_in_evaluation(model):
    model.layer1[1].eval()


def one_norm_in_evaluation(model):
    model.layer1[0].bn2.eval()


def a_bias(model):
    model.layer1[0].conv1.bias = mx.Parameter(np.ones(8, np.float32))


def a_dilation(model):
    model.layer1[1].conv2 = nn.Conv2d(8, 8, 3, padding=2, dilation=2, bias=False, rng=0)


def own_shortcut(model):
    zeros = [(0, 0)] * 3 + [(8, 0)]
    shortcut = model.layer2[0].downsample
    shortcut.forward = lambda x: mx.functional.pad(x[:, ::2, ::2], width=zeros)


def own_activation(model):
    model.act1 = nn.GELU()


def another_stage(model):
    model.layer1.append(nn.Identity())
    model.layer1.append(nn.ReLU())


def a_shared_block(model):
    setattr(model.layer3, "1", model.layer3[1])
    model.layer3.append(model.layer3[1])


def a_shared_norm(model):
    model.layer1[1].bn2 = model.layer1[0].bn2


def frozen(model):
    for p in list(model.parameters())[::2]:
        p.requires_grad = False


@pytest.mark.parametrize(
    "change",
    [
        one_block_in_evaluation, one_norm_in_evaluation, a_bias, a_dilation, own_shortcut,
        own_activation, another_stage, a_shared_block, a_shared_norm, frozen,
    ],
)  # fmt: skip
def test_a_resnet_that_was_changed_has_the_same_bits(change):
    plain, fused = resnet(14, 8)
    for model in (plain, fused):
        change(model)
    with mx.backend("numpy"):
        for how in ((12,), (12, False)):
            a, b = (all_that_it_gives(model, *how) for model in (plain, fused))
            for name, array in a.items():
                if array is None:
                    assert b[name] is None
                else:
                    np.testing.assert_allclose(b[name], array, rtol=1e-4, atol=1e-5, err_msg=name)


def test_a_resnet_has_the_same_errors():
    plain, fused = resnet(8, 4)
    for images in (np.ones((2, 8, 8, 1)), np.ones((2, 8, 8)), np.ones((1, 1, 1, 3))):
        messages = []
        for model in (plain, fused):
            with pytest.raises(ValueError, match=r"conv2d|batch_norm") as caught:
                model(mx.Tensor(images.astype(np.float32)))
            messages.append(str(caught.value))
        assert messages[0] == messages[1]


@pytest.mark.parametrize("backend", mx.kernels.BACKENDS)
def test_gradients_of_residual_blocks(backend):
    rng, moments = np.random.default_rng(3), []

    def draw(*shape):
        return mx.Tensor(rng.standard_normal(shape), requires_grad=True)

    how = RESNET.How(1, 1, 1e-5)
    two = [t for _ in range(2) for t in (draw(3, 3, 3, 3), draw(3), draw(3))]
    strided = [draw(3, 3, 3, 4), draw(4), draw(4), draw(4, 4), draw(4), draw(4)]

    def own(x, *parameters):
        return RESNET.fused_residuals(
            x, None, *parameters, how=[[how], [how]], own=RESNET.Pad(1, 0), moments=moments
        )

    hows = [[RESNET.How(2, 1, 1e-5), RESNET.How(1, 0, 1e-5)]]

    def other(x, shortcut, *parameters):
        return RESNET.fused_residuals(x, shortcut, *parameters, how=hows, own=None, moments=moments)

    def padded(x, *parameters):
        pad = RESNET.Pad(2, 1)
        return RESNET.fused_residuals(x, None, *parameters, how=hows, own=pad, moments=moments)

    with mx.backend(backend):
        for f, inputs in (
            (own, (draw(2, 4, 3, 3), *two)),
            (other, (draw(2, 4, 4, 3), draw(2, 2, 2, 4), *strided)),
            (padded, (draw(2, 3, 4, 3), *strided)),
        ):
            report = gradcheck(f, inputs)
            assert report.ok, str(report)


def test_one_array_a_convolution_is_kept_for_the_way_back():
    blocks, x = 4, mx.Tensor(np.zeros((16, 8, 8, 16), np.float32), requires_grad=True)
    shapes = [(3, 3, 16, 16), (16,), (16,)] * 2 * blocks
    parameters = [mx.Tensor(np.ones(s, np.float32), requires_grad=True) for s in shapes]
    how = [[RESNET.How(1, 1, 1e-5)] * 2] * blocks
    with mx.backend("numpy"):
        tracemalloc.start()
        y = RESNET.fused_residuals(x, None, *parameters, how=how, own=RESNET.Pad(1, 0), moments=[])
        kept, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    y.backward(np.ones(y.shape))
    assert 2 * blocks + 1 <= kept / x.array.nbytes < 2 * blocks + 2
