"""The families: sizes and names as published, what they begin with, what they refuse."""

import hashlib
import re
from math import pi

import numpy as np
import pytest

from minimix import AdamW, Tensor, models, nn, summary
from minimix import functional as F
from minimix.models import MLPMixer, ResMLP, ResNet, ViT
from minimix.nn import init

PUBLISHED = {  # by timm
    "convmixer_768_32": 21_110_248,
    "convmixer_1024_20_ks9_p14": 24_383_464,
    "convmixer_1536_20": 51_625_960,
    "deit_tiny_patch16_224": 5_717_416,
    "deit_small_patch16_224": 22_050_664,
    "deit_base_patch16_224": 86_567_656,
    "deit_tiny_distilled_patch16_224": 5_910_800,
    "deit_small_distilled_patch16_224": 22_436_432,
    "deit_base_distilled_patch16_224": 87_338_192,
    "resmlp_12_224": 15_350_872,
    "resmlp_24_224": 30_020_680,
    "resmlp_big_24_224": 129_138_280,
    "mixer_b16_224": 59_880_472,
    "resnet18": 11_689_512,
    "resnet50": 25_557_032,
    "resnet152": 60_192_808,
}
SMALL = [  # at 32×32, ten classes; those of ResNets are in He et al. and akamaster's table
    (lambda: ViT(64, 3, 4, 4, 10, image_size=32), 158_090),
    (lambda: ViT(128, 3, 4, 4, 10, image_size=32), 611_082),
    (lambda: ResMLP(64, 4, 4, 10, image_size=32), 154_442),
    (lambda: MLPMixer(64, 4, 4, 10, image_size=32), 154_058),
    (lambda: ResNet(14), 172_506),
    (lambda: ResNet(20), 269_722),
    (lambda: ResNet(56), 853_018),
    (lambda: ResNet(18, 64, shortcut="B"), 11_173_962),
]
TINY = {
    "ViT": lambda **kw: ViT(12, 2, 3, 2, 5, image_size=8, **kw),
    "ViT, average": lambda **kw: ViT(12, 2, 3, 2, 5, image_size=8, pool="average", **kw),
    "ViT, distilled": lambda **kw: ViT(12, 2, 3, 2, 5, image_size=8, pool="distilled", **kw),
    "ResMLP": lambda **kw: ResMLP(6, 2, 2, 5, image_size=8, **kw),
    "MLPMixer": lambda **kw: MLPMixer(6, 2, 2, 5, image_size=8, **kw),
    "ResNet, A": lambda **kw: ResNet(8, 4, n_classes=5, **kw),
    "ResNet, bottlenecks": lambda **kw: ResNet(50, 2, "7x7", "B", 5, **kw),
}


def images(*shape, dtype=np.float32):
    return Tensor(np.random.default_rng(0).standard_normal(shape).astype(dtype))


@pytest.fixture
def undrawn(monkeypatch):
    """Weights begin at zero, which takes no time where they are many."""

    def zeros(shape, *options):
        return np.zeros(shape, np.float32)

    monkeypatch.setattr("minimix.nn.layers.uniform_fan_in", zeros)
    monkeypatch.setattr("minimix.models.vit.trunc_normal", zeros)
    for draw in ("models.vit.redraw", "models.resnet.redraw", "nn.init.redraw"):
        monkeypatch.setattr(f"minimix.{draw}", lambda *arguments: None)


def test_parameters_as_published(undrawn):
    assert {name: models.create(name).n_parameters() for name in models.sizes()} == PUBLISHED
    assert {size.family for size in models.sizes().values()} == set(models.FAMILIES)


@pytest.mark.parametrize(("make", "parameters"), SMALL)
def test_parameters_of_the_small(make, parameters):
    assert make().n_parameters() == parameters


def test_a_name_s_settings_can_be_others():
    model = models.create(
        "deit_tiny_patch16_224.fb_in1k", depth=1, n_classes=7, image_size=(32, 48)
    )
    assert model(images(1, 32, 48, 3)).shape == (1, 7)
    relu = models.create("convmixer_768_32", depth=1, hidden_dim=4)
    assert {type(m) for _, m in relu.named_modules()} & {nn.ReLU, nn.GELU} == {nn.ReLU}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "convmixer_768",
            "there is no model 'convmixer_768'; the nearest names are convmixer_768_",
        ),
        ("resnet51", "there is no model 'resnet51'; the nearest names are resnet50, "),
        ("DeiT-tiny", "'DeiT-tiny'; the nearest names are deit_tiny_"),
        ("?", "there is no model '?'; the nearest names are convmixer_768_32, convmixer_1024"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        models.create(name)


def test_a_setting_that_a_family_has_not():
    with pytest.raises(TypeError, match="n_heads"):
        models.create("resnet18", n_heads=3)


def names(model):
    return set(model.state_dict())


def test_names_are_timm_s():
    vit = names(TINY["ViT, distilled"]())
    block = {"norm1", "attn.qkv", "attn.proj", "norm2", "mlp.fc1", "mlp.fc2"}
    layers = {f"blocks.{i}.{name}" for i in range(2) for name in block}
    layers |= {"patch_embed.proj", "norm", "head", "head_dist"}
    tokens = {"cls_token", "dist_token", "pos_embed"}
    assert vit == tokens | {f"{name}.{kind}" for name in layers for kind in ("weight", "bias")}
    average = names(TINY["ViT, average"]())
    assert {"fc_norm.weight", "norm.weight", "cls_token", "dist_token"} & average == {
        "fc_norm.weight"
    }
    resmlp = names(TINY["ResMLP"]())
    assert {name for name in resmlp if name.startswith("blocks.1")} == {
        *(f"blocks.1.norm{i}.{name}" for i in (1, 2) for name in ("alpha", "beta")),
        *(f"blocks.1.{name}.weight" for name in ("linear_tokens", "mlp_channels.fc1")),
        *(f"blocks.1.{name}.bias" for name in ("linear_tokens", "mlp_channels.fc1")),
        "blocks.1.mlp_channels.fc2.weight",
        "blocks.1.mlp_channels.fc2.bias",
        "blocks.1.ls1",
        "blocks.1.ls2",
    }
    assert {"stem.proj.weight", "norm.alpha", "norm.beta", "head.bias"} <= resmlp
    mixer = names(TINY["MLPMixer"]())
    assert {"stem.proj.bias", "blocks.0.mlp_tokens.fc1.weight", "norm.weight"} <= mixer
    resnet = names(TINY["ResNet, bottlenecks"]())
    assert {"conv1.weight", "bn1.running_var", "layer1.0.downsample.0.weight"} <= resnet
    assert {"layer3.5.conv3.weight", "layer3.5.bn3.bias", "fc.weight"} <= resnet
    assert not any("layer3.1.downsample" in name for name in resnet)


@pytest.mark.parametrize("make", TINY.values(), ids=TINY)
def test_the_same_seed_gives_the_same_weights(make):
    one, same, other = (make(rng=seed).state_dict() for seed in (0, 0, 1))
    assert all(np.array_equal(one[name], same[name]) for name in one)
    assert all(array.dtype == np.float32 for array in one.values())
    drawn = [name for name in one if one[name].ndim > 1]
    assert drawn
    assert not any(np.array_equal(one[name], other[name]) for name in drawn)


@pytest.mark.parametrize("make", TINY.values(), ids=TINY)
def test_images_of_a_batch_do_not_mix_in_evaluation(make):
    model = make(rng=0, in_channels=2).eval()
    x = images(4, 8, 8, 2)
    y = model(x)
    assert y.shape == (4, 5)
    np.testing.assert_allclose(y.array[2:3], model(x[2:3]).array, rtol=1e-4, atol=1e-6)
    assert model(x[:0]).shape == (0, 5)


@pytest.mark.parametrize("make", TINY.values(), ids=TINY)
def test_every_parameter_has_a_part_in_the_result(make):
    model = make(rng=0).astype(np.float64)
    rng = np.random.default_rng(0)
    (model(images(4, 8, 8, 3, dtype=float)) * rng.standard_normal((4, 5))).sum().backward()
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert np.abs(p.grad).max() > 0, name


def test_the_weights_a_convmixer_begins_with_are_what_they_were():
    state = models.ConvMixer(8, 2, 3, 2, 5, rng=7).state_dict()
    digest = hashlib.sha256(b"".join(array.tobytes() for array in state.values()))
    assert digest.hexdigest()[:16] == "b49dfd76867d2679"


# ---- what else a ConvMixer can be


def small(**settings):
    return models.ConvMixer(6, 2, 5, 2, 4, rng=0, **settings)


def test_other_filters_leave_the_rest_as_it_is():
    trained = small().state_dict()
    filters = [name for name in trained if name.endswith("fn.0.weight")]
    assert len(filters) == 2
    for kind in ("random", "smooth", "delta"):
        state = small(filters=kind).state_dict()
        same = {name for name in trained if np.array_equal(trained[name], state[name])}
        assert set(trained) - same == (set() if kind == "random" else set(filters))


@pytest.mark.parametrize("kind", ["random", "smooth", "delta"])
def test_frozen_filters_stay_as_they_begin_and_the_rest_is_trained(kind):
    model = small(filters=kind)
    before = {name: array.copy() for name, array in model.state_dict().items()}
    optimizer = AdamW(model.parameters(), lr=0.1, weight_decay=0.5)
    for _ in range(2):
        (model(images(3, 8, 8, 3)) ** 2).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    after = model.state_dict()
    same = {name for name in before if np.array_equal(before[name], after[name])}
    assert same == {"blocks.0.0.fn.0.weight", "blocks.1.0.fn.0.weight"}


def test_the_summary_says_what_is_frozen():
    assert "frozen" not in summary(small(), (1, 8, 8, 3))
    lines = summary(small(filters="random"), (1, 8, 8, 3)).splitlines()
    assert lines[-1] == "frozen: 300 of the parameters"  # 2 blocks of 6 filters of 5×5


class OwnGenerator(np.random.Generator):
    """One that cannot be made without arguments of its own."""

    def __init__(self, seed, _other):
        super().__init__(np.random.PCG64(seed))


def test_any_generator_draws_filters_and_the_same_each_time():
    one, same = (
        models.ConvMixer(4, 2, 3, 2, 5, filters="smooth", rng=rng).state_dict()
        for rng in (OwnGenerator(3, None), 3)
    )
    assert all(np.array_equal(one[name], same[name]) for name in one)
    w = [one[f"blocks.{i}.0.fn.0.weight"] for i in (0, 1)]
    assert not np.array_equal(*w)


def test_delta_filters_mix_nothing():
    w = small(filters="delta").blocks[0][0].fn[0].weight
    x = images(2, 7, 6, 6)
    np.testing.assert_array_equal(F.depthwise_conv2d(x, w).array, x.array)
    even = init.delta((4, 4, 6))
    np.testing.assert_array_equal(F.depthwise_conv2d(x, even).array, x.array)


@pytest.mark.parametrize("k", [2, 3, 9])
def test_smooth_filters_have_the_covariance_that_they_promise(k):
    w = init.smooth_normal((k, k, 40_000), np.random.default_rng(0)).reshape(k * k, -1)
    places = np.stack(np.mgrid[:k, :k], -1).reshape(-1, 2)
    squares = np.square(places[:, None] - places).sum(-1)
    expected = np.exp(-squares / (2 * (k / 4) ** 2)) / (3 * k * k)
    np.testing.assert_allclose(3 * k * k * np.cov(w), 3 * k * k * expected, atol=0.04)


def test_norms_and_residuals_by_their_formulas():
    """By hand: with delta filters, no bias and no norm a block is two GELUs and a matrix."""
    x = images(2, 4, 4, 3, dtype=float)
    for residual, upper, lower in (("none", 0, 0), ("depthwise", 1, 0), ("both", 1, 1)):
        model = models.ConvMixer(
            5, 1, 3, 2, 4, residual=residual, filters="delta", norm="none", activation="relu", rng=0
        ).astype(np.float64)
        state = model.state_dict()
        for name in state:
            if name.startswith("blocks") and name.endswith("bias"):
                state[name][...] = 0
        stem = model.stem(x).array
        assert (stem >= 0).all()
        w = next(a for name, a in state.items() if a.shape == (5, 5) and name.startswith("blocks"))
        u = stem + upper * stem
        y = np.maximum(u @ w, 0) + lower * u
        np.testing.assert_allclose(model.blocks(Tensor(stem)).array, y, rtol=1e-12)


def test_layer_norm_looks_at_each_pixel_alone():
    model = small(norm="layer")
    assert not any(isinstance(m, nn.BatchNorm) for _, m in model.named_modules())
    assert names(model) == {name for name in names(small()) if "running" not in name}
    y = model.stem(images(2, 4, 4, 3)).array
    np.testing.assert_allclose(y.mean(axis=-1), 0, atol=1e-5)


def test_another_stem():
    model = small()
    model.stem = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1, rng=0), nn.GELU())
    assert model(images(2, 9, 9, 3)).shape == (2, 4)


# ---- what weights begin with


def test_truncated_normal():
    z = init.trunc_normal((300, 400), np.random.default_rng(0), std=0.5)
    assert z.dtype == np.float32
    assert 0.999 < np.abs(z).max() <= 1
    # The variance of a normal variable that is cut at ±2: 1 − 2·2φ(2)/(Φ(2) − Φ(−2)).
    variance = 1 - 4 * np.exp(-2) / np.sqrt(2 * pi) / 0.9544997361
    assert np.std(z) == pytest.approx(0.5 * np.sqrt(variance), rel=0.01)
    assert abs(z.mean()) < 0.005


def test_he_and_xavier():
    rng = np.random.default_rng(0)
    assert np.std(init.he_normal((3, 3, 20, 300), rng)) == pytest.approx(np.sqrt(2 / 180), rel=0.02)
    w = init.xavier_uniform((100, 500), rng)
    assert np.abs(w).max() == pytest.approx(0.1, rel=0.001)
    assert abs(w.mean()) < 0.001
    assert w.dtype == np.float32


def test_where_they_are_used():
    vit = ViT(64, 1, 4, 4, 10, image_size=32, pool="distilled", rng=0).state_dict()
    linear = [name for name in vit if re.search(r"qkv|attn.proj|fc|head", name)]
    for name in linear:
        if name.endswith("bias"):
            assert not vit[name].any(), name
        else:
            assert 0.03 < np.abs(vit[name]).max() <= 0.04, name
    assert 0 < np.abs(vit["cls_token"]).max() < 3e-6
    assert 0.03 < np.abs(vit["pos_embed"]).max() <= 0.04
    for depth, scale in ((18, 0.1), (19, 1e-5), (24, 1e-5), (25, 1e-6)):
        state = ResMLP(2, depth, 4, 10, image_size=8).state_dict()
        assert state["blocks.0.ls1"] == pytest.approx([scale] * 2)
        assert state["blocks.0.ls2"] == pytest.approx([scale] * 2)
    state = MLPMixer(64, 1, 4, 10, image_size=32, rng=0).state_dict()
    assert np.abs(state["blocks.0.mlp_channels.fc1.weight"]).max() == pytest.approx(
        np.sqrt(6 / (64 + 256)), rel=0.01
    )
    state = ResNet(20, rng=0).state_dict()
    assert np.std(state["layer3.1.conv1.weight"]) == pytest.approx(np.sqrt(2 / 576), rel=0.02)


# ---- what is refused


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ViT(12, 1, 5), "SelfAttention: 12 features do not divide into 5 heads"),
        (lambda: ViT(12, 0, 3), "ViT: depth is 0; expected a whole number of at least 1"),
        (lambda: ViT(12, 1, 3, pool="max"), "ViT: pool is 'max'; it can be 'token', 'average' or"),
        (lambda: ViT(12, 1, 3, 5), "PatchEmbed: an image of 224×224 is not divisible into patches"),
        (lambda: ResMLP(4, 1, image_size=(32, 30)), "an image of 32×30 is not divisible into"),
        (lambda: ResMLP(4, 1.5), "ResMLP: depth is 1.5; expected a whole number"),
        (lambda: MLPMixer(4, 1, n_classes=0), "MLPMixer: n_classes is 0; expected a whole number"),
        (lambda: MLPMixer(4, 1, image_size=0), "PatchEmbed: height is 0; expected a whole number"),
        (lambda: ResNet(21), "ResNet: depth is 21; it can be 18, 34, 50, 152, or 6n + 2"),
        (lambda: ResNet(2), "ResNet: depth is 2; it can be"),
        (lambda: ResNet(20, stem="5x5"), "ResNet: stem is '5x5'; it can be '3x3' or '7x7'"),
        (lambda: ResNet(20, shortcut="C"), "ResNet: shortcut is 'C'; it can be 'A' or 'B'"),
        (lambda: small(norm="group"), "norm is 'group'; it can be 'batch', 'layer' or 'none'"),
        (lambda: small(residual=True), "residual is True; it can be 'none', 'depthwise' or 'both'"),
        (lambda: small(filters="fixed"), "filters is 'fixed'; it can be 'trained', 'random', "),
    ],
)
def test_settings_that_make_no_sense(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


@pytest.mark.parametrize("name", ["ViT", "ResMLP", "MLPMixer"])
def test_images_of_another_size(name):
    with pytest.raises(ValueError, match="an image of 8×10; this model was made for 8×8"):
        TINY[name]()(images(1, 8, 10, 3))
    with pytest.raises(
        ValueError, match=r"patchify: x has shape \(8, 8, 3\); expected \(N, H, W, C\)"
    ):
        TINY[name]()(images(8, 8, 3))
