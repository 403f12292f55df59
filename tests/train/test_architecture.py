"""Which network is trained: families, their settings, and what is said where one does not fit."""

import inspect
from dataclasses import replace

import numpy as np
import pytest
from families import SMALL
from tiny_training import CONFIG, dataset, results, run_to_end

from minimix import nn
from minimix.models import FAMILIES
from minimix.train import Config, TrainingState, load_model
from minimix.train.architecture import DEFAULTS, FILLED_IN, build, completed, settings_of
from minimix.train.config import PRESETS, RECIPES, SETTINGS, recipe
from minimix.train.probe import Metered

FAMILY = pytest.mark.parametrize("family", FAMILIES)


def config_of(family, **settings):
    """A training of 15 steps."""
    plain = replace(CONFIG, early_epochs=0, model=family, model_settings=SMALL[family])
    return replace(plain, **settings)


# ------------------------------------------------------------------ every family


@FAMILY
def test_it_trains_stops_resumes_and_is_loaded(tmp_path, family):
    config = config_of(family)
    run_to_end(tmp_path / "whole", config)
    data = dataset()
    model, facts = load_model(tmp_path / "whole")
    assert type(model) is FAMILIES[family]
    assert facts["config"]["model_settings"].items() >= SMALL[family].items()
    (tmp_path / "whole" / "model.safetensors").rename(tmp_path / "x.safetensors")
    again, _ = load_model(tmp_path / "x.safetensors")
    x = np.float32(np.random.default_rng(0).normal(size=(2, 8, 8, 3)))
    np.testing.assert_array_equal(model(x).array, again(x).array)
    for checkpoint in sorted((tmp_path / "whole").glob("check*"))[1:]:
        checkpoint.unlink()
    expected = (tmp_path / "x.safetensors").read_bytes()
    run_to_end(tmp_path / "whole", config, data=data)
    assert results(tmp_path / "whole")["model.safetensors"] == expected


@pytest.mark.parametrize(
    "settings",
    [
        *({"filters": filters} for filters in ("random", "smooth", "delta")),
        *({"norm": norm} for norm in ("layer", "none")),
        *({"residual": residual} for residual in ("none", "both")),
    ],
)
def test_what_an_ablation_takes_away_is_trained_too(tmp_path, settings):
    config = config_of("convmixer", epochs=1, ema=0.5)
    config = replace(config, model_settings={**config.model_settings, **settings})
    before = config.build(4, (8, 8)).state_dict()
    run_to_end(tmp_path, config)
    after = load_model(tmp_path)[0].state_dict()
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert "head.weight" in moved
    kernels = {name for name in before if before[name].ndim == 3}
    assert bool(moved & kernels) == (settings.get("filters", "trained") == "trained")


@FAMILY
def test_without_settings_it_is_of_the_size_that_is_compared(family):
    model = recipe(family).build(10, (32, 32))
    assert 150_000 < model.n_parameters() < 180_000
    assert DEFAULTS[family].keys() <= settings_of(family).keys()
    assert family in RECIPES


@FAMILY
def test_no_setting_of_a_network_is_called_as_one_of_training(family):
    assert not settings_of(family).keys() & SETTINGS.keys()
    assert not settings_of(family).keys() & set(FILLED_IN)
    for setting in settings_of(family).values():
        assert setting.help, setting.name  # the docstring explains each


@FAMILY
def test_muon_takes_the_matrices_inside(family):
    config = config_of(family, optimizer="muon")
    model = config.build(4, (8, 8))
    if family == "resnet":
        with pytest.raises(ValueError, match=r"`optimizer` is muon, but ResNet.* no linear or"):
            config.optimizer_of(model, 4)
        return
    optimizer = config.optimizer_of(model, 4)
    names = {id(p): name for name, p in model.named_parameters()}
    (group,) = [group for group in optimizer.groups if group["orthogonal"]]
    inside = {names[id(p)] for p in group["params"]}
    assert inside
    assert all(".weight" in name for name in inside)
    assert not any(word in name for name in inside for word in ("head", "stem", "embed"))
    assert len(optimizer.parameters()) == len(names)


@FAMILY
def test_only_weights_decay_where_that_is_asked_for(family):
    config = config_of(family, decay="weights", weight_decay=0.25)
    model = config.build(4, (8, 8))
    decay = {
        id(p): group["weight_decay"]
        for group in config.optimizer_of(model, 4).groups
        for p in group["params"]
    }
    matrices = [m.weight for _, m in model.named_modules() if hasattr(m, "weight")]
    matrices = {id(w) for w in matrices if w.ndim > 1}
    assert {i for i, d in decay.items() if d == 0.25} == matrices
    assert {i for i, d in decay.items() if d == 0} == decay.keys() - matrices


# ------------------------------------------------------------------ recipes


def test_a_recipe_is_what_is_given_over_what_the_family_has():
    assert recipe() == PRESETS["plain"] == Config()
    config = recipe("convmixer", depth=3, epochs=2)
    assert (config.epochs, config.lr) == (2, Config().lr)
    assert config.model_settings.items() >= {**DEFAULTS["convmixer"], "depth": 3}.items()
    fast = recipe(preset="fast90", kernel_size=7)
    assert fast.model_settings["hidden_dim"] == 192
    assert fast.model_settings["kernel_size"] == 7
    assert fast.optimizer == "muon"


@pytest.mark.parametrize(
    ("model", "settings", "words"),
    [
        ("convmixr", {}, "`model` is 'convmixr'; did you mean convmixer"),
        ("", {}, "`model` is ''; There are convmixer"),
        (
            "convmixer",
            {"n_heads": 3},
            "`n_heads` is not a setting of ConvMixer .*`hidden_dim`, `de",
        ),
        ("convmixer", {"kernel": 3}, "`kernel` is not a .* did you mean `kernel_size`"),
        ("convmixer", {"depth": "3"}, "`depth` is '3'; expected a value of type int"),
        ("convmixer", {"depth": True}, "`depth` is True; expected a value of type int"),
        ("convmixer", {"depth": 1001}, "`depth` is 1001; expected at most 1,000"),
        ("convmixer", {"activation": "swish"}, "`activation` is 'swish'; expected gelu, relu"),
        ("convmixer", {"n_classes": 3}, "`n_classes` is not a setting"),
    ],
)
def test_what_is_no_network(model, settings, words):
    with pytest.raises(ValueError, match=words):
        recipe(model, **settings)


def test_what_its_constructor_refuses_is_said_of_the_setting():
    with pytest.raises(ValueError, match=r"^`hidden_dim` is 0; expected a whole number"):
        recipe(hidden_dim=0).build(4, (8, 8))


# ------------------------------------------------------------------ a network of any kind


class Net(nn.Module):
    """A net that takes what it is given.

    width   of everything
            between
    scale   a factor
    """

    def __init__(
        self,
        width: int,
        n_classes: int,
        scale: float = 2,
        stages: tuple[int, ...] = (1, 2),
        deep: bool = False,
        pool: str | None = None,
        unknown=len,
        guessed=3,
        *,
        image_size: int | tuple[int, int] = 0,
        rng=None,
    ) -> None:
        super().__init__()
        self.all = (width, n_classes, scale, stages, deep, pool, guessed, image_size)
        self.head = nn.Linear(3, n_classes, rng=rng)

    def forward(self, x):
        return self.head(x.mean(axis=(1, 2)))


@pytest.fixture
def net(monkeypatch):
    monkeypatch.setitem(FAMILIES, "net", Net)


def test_settings_are_those_of_the_constructor(net):
    found = settings_of("net")
    assert {name: (s.kind, s.many, s.optional) for name, s in found.items()} == {
        "width": (int, False, False),
        "scale": (float, False, False),
        "stages": (int, True, False),
        "deep": (bool, False, False),
        "pool": (str, False, True),
        "guessed": (int, False, False),
    }
    assert found["width"].default is inspect.Parameter.empty
    assert found["width"].help == "of everything between"
    assert found["scale"].help == "a factor"
    with pytest.raises(ValueError, match="`width` of Net has no default; give it a value"):
        completed("net", {})
    with pytest.raises(ValueError, match="`stages` is 3; expected several values"):
        completed("net", {"width": 1, "stages": 3})
    with pytest.raises(ValueError, match="`scale` is inf; expected a finite number"):
        completed("net", {"width": 1, "scale": float("inf")})
    model = build("net", {"width": 5, "stages": [3]}, n_classes=7, image_size=(8, 8))
    assert model.all == (5, 7, 2, (3,), False, None, 3, 8)
    assert build("net", {"width": 5}, n_classes=7, image_size=(8, 6)).all[-1] == (8, 6)


def test_lists_come_back_as_the_constructor_takes_them(tmp_path, net):
    """A tuple is a list in the run folder, and the same setting when the run is resumed."""
    config = replace(CONFIG, early_epochs=0, model="net", model_settings={"width": 3})
    run_to_end(tmp_path, config)
    (tmp_path / "model.safetensors").unlink()
    run_to_end(tmp_path, config)
    assert load_model(tmp_path)[0].all[3] == (1, 2)


class Wrong(Net):
    def forward(self, x):
        return x.mean(axis=(1, 2))


def test_what_does_not_apply_is_left_out(net):
    config = replace(CONFIG, early_epochs=0, model="net", model_settings={"width": 3}, whiten=True)
    before = config.build(4, (8, 8)).head.weight.array
    state = TrainingState.build(config, dataset())
    np.testing.assert_array_equal(state.model.head.weight.array, before)


def test_logits_of_another_shape_are_noticed_before_training(monkeypatch):
    monkeypatch.setitem(FAMILIES, "net", Wrong)
    config = replace(CONFIG, model="net", model_settings={"width": 3})
    with pytest.raises(ValueError, match=r"Wrong, .* gave \(1, 3\) for one image; .* \(1, 4\)"):
        TrainingState.build(config, dataset())


def test_a_metered_generator_draws_the_same_until_it_is_used_up():
    plain, metered = np.random.default_rng(5), Metered(np.random.PCG64(5), 40)
    for draw in (
        lambda rng: rng.uniform(-1, 1, (3, 4)),
        lambda rng: rng.normal(size=4),
        lambda rng: rng.standard_normal((2, 3)),
        lambda rng: rng.random(3),
        lambda rng: rng.normal(),
    ):
        np.testing.assert_array_equal(draw(plain), draw(metered))
    (a,), (b,) = plain.spawn(1), metered.spawn(1)
    np.testing.assert_array_equal(a.normal(size=100), b.normal(size=100))
    with pytest.raises(MemoryError):
        metered.uniform(-1, 1, (10**9, 10**9))
