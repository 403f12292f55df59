"""What a study asks for, and the one line about each mistake in it."""

import pytest

from minimix.compare import presets
from minimix.compare.study import read_study
from minimix.errors import MinimixError

GRID = """
title = "A grid"
about = "Of everything."
seeds = [3, 1]
[settings]
epochs = 2
lr = 0.1
[models.a]
hidden_dim = 8
lr = 0.2
[models."b, the other"]
hidden_dim = 16
[variants.plain]
[variants.shuffled]
shuffle_patches = 4
[grid]
weight_decay = [0.0, 0.5]
"""


def study(tmp_path, text, **options):
    path = tmp_path / "s.toml"
    path.write_text(text)
    return read_study(str(path), **options)


def test_a_grid(tmp_path):
    found = study(tmp_path, GRID)
    assert (found.name, found.title, found.about) == ("s", "A grid", "Of everything.")
    assert (found.seeds, found.data) == ((3, 1), "auto")
    assert found.factors == {
        "model": ("a", "b, the other"),
        "variant": ("plain", "shuffled"),
        "weight_decay": ("weight_decay 0.0", "weight_decay 0.5"),
    }
    assert len(found.rows) == 8
    first, last = found.rows[0], found.rows[-1]
    assert first.name == "a, plain, weight_decay 0.0"
    assert first.settings == {"epochs": 2, "lr": 0.2, "hidden_dim": 8, "weight_decay": 0.0}
    assert last.settings["shuffle_patches"] == 4  # its own settings come before those of all
    assert (last.config(7).lr, last.config(7).seed) == (0.1, 7)
    assert last.folder == "b-the-other-shuffled-weight_decay-0.5"
    assert study(tmp_path, GRID, seeds=2).seeds == (0, 1)


def test_every_row_is_compared_with_the_one_that_differs_in_one_thing(tmp_path):
    found = list(study(tmp_path, GRID).contrasts())
    assert len(found) == 3 * 4
    for factor, row, against in found:
        differing = [
            i for i, (a, b) in enumerate(zip(row.levels, against.levels, strict=True)) if a != b
        ]
        assert differing == [["model", "variant", "weight_decay"].index(factor)]
        assert against.levels[differing[0]] in ("a", "plain", "weight_decay 0.0")


def test_the_smallest(tmp_path):
    found = study(tmp_path, "")
    assert [row.name for row in found.rows] == ["default"]
    assert found.seeds == (0,)
    assert list(found.contrasts()) == []


def test_a_row_may_be_named_after_its_family(tmp_path):
    found = study(tmp_path, "[models.vit]\ndepth = 2\n[models.resnet]\n[models.x]\nmodel = 'vit'")
    assert [row.config().model for row in found.rows] == ["vit", "resnet", "vit"]
    found = study(tmp_path, "[settings]\nmodel = 'resmlp'\n[models.vit]\n[models.x]")
    assert [row.config().model for row in found.rows] == ["resmlp", "resmlp"]


def test_settings_for_all(tmp_path):
    found = study(tmp_path, GRID).with_settings(epochs=1, limit_train=50)
    assert {row.settings["epochs"] for row in found.rows} == {1}
    with pytest.raises(MinimixError, match="lr differs from row to row"):
        study(tmp_path, GRID).with_settings(lr=0.5)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a = [1,\n}", r"s.toml is not TOML: .*line 2"),
        ("[models.x]\npreset = 'official'", "x: preset is not a setting of ConvMixer"),
        ("[settings]\nlr = 0.1\nlr = 0.2\n", r"is not TOML: .*\(at line 3"),
        ("[modells.a]", "modells is not a part of a study; did you mean models"),
        ("titel = 'x'", "titel is not a part of a study; did you mean title"),
        ("title = 3", "title is 3; expected a text"),
        ("settings = 3", r"settings is 3; expected a table, \[settings\]"),
        ("models.a = 3", r"a is 3; expected a table"),
        ("[models]", r"\[models\] has nothing in it, so there is nothing to train"),
        ("[variants]", r"\[variants\] has nothing in it"),
        ("[grid]\nlr = []", r"\[grid\]: lr is \[\]; expected a list of values"),
        ("[grid]\nlr = 0.1", r"\[grid\]: lr is 0.1; expected a list of values"),
        ("[grid]\nlr = [0.1, 0.1]", "lr has a value twice"),
        ("seeds = 0", "seeds is 0; expected how many"),
        ("seeds = [1, 1]", r"seeds is \[1, 1\]; expected how many"),
        ("seeds = true", "seeds is True"),
        ("seeds = 20000", "asks for 20,000 trainings; expected 1 to 10,000"),
        ("[models.x]\nlearning_rate = 1", "x: .*learning_rate.* is not a setting"),
        ("[models.x]\nepoch = 1", "x: .*epoch.* did you mean epochs"),
        ("[models.x]\nmodel = 'convmixr'", "x: .*convmixr.* did you mean convmixer"),
        ("[models.x]\nmodel = 3", "x: model is 3; expected the name"),
        ("[models.x]\nlr = 'a'", "x: lr is 'a'; expected a value of type float"),
        ("[models.x]\nseed = 1", "x: seed is not a row's own setting; give seeds"),
        ("[models.x]\ndata = 'shapes10'", "x: data is not a row's own setting; give --data"),
        ("[grid]\nflip = ['none', 'no']", "flip no: flip is 'no'; expected none, random"),
        (
            "[grid]\nimage_size = [32, 64]",
            "image_size 64: image_size is 64, but 32 in image_size 32; all rows see the same",
        ),
        ("[models.a]\n[models.b]\ntest_fraction = 0.5", "b: test_fraction is 0.5, but 0.1 in a"),
        ("[models.a]\n[grid]\nmodel = ['vit']", r"model is a factor already: the table \[models\]"),
        ('[models."a b"]\n[models."a-b"]', "a-b: its name is too much like that of a b"),
        ('[models."a\\nb"]', r"'a\\nb' in \[models\] is not fit for a name"),
        ("[models.A]\n[models.a]", "a: its name is too much like that of A"),
    ],
)
def test_one_line_for_each_mistake(tmp_path, text, complaint):
    with pytest.raises(MinimixError, match=complaint) as caught:
        study(tmp_path, text)
    assert "\n" not in str(caught.value)
    assert "`" not in str(caught.value)


def test_a_study_that_is_not_there(tmp_path):
    with pytest.raises(MinimixError, match=r"there is no study 'quik'; did you mean quick\?"):
        read_study("quik")
    with pytest.raises(MinimixError, match=f"there are {', '.join(presets.NAMES)}"):
        read_study("zzz")
    with pytest.raises(MinimixError, match=r"cannot read nowhere\.toml: No such file"):
        read_study("nowhere.toml")
    (tmp_path / "s.toml").write_bytes(b"a = 1\nb = '\xff'")
    with pytest.raises(MinimixError, match="line 2 is not UTF-8"):
        read_study(str(tmp_path / "s.toml"))


@pytest.mark.parametrize("name", presets.NAMES)
def test_presets_are_studies(name):
    found = read_study(name)
    assert len(found.seeds) == 3
    assert found.about
    assert len(found.rows) > 1


def test_the_question_of_the_title():
    found = read_study("attention-or-patches")
    assert found.factors["variant"] == ("plain", "shuffled")
    assert len(found.factors["model"]) == 5
    sizes = {}
    for row in found.rows:
        config = row.config().complete()
        sizes[row.name] = config.build(10, (32, 32)).n_parameters()
        assert config.shuffle_patches == (4 if row.levels[1] == "shuffled" else 0)
        assert config.epochs == 10
    assert max(sizes.values()) < 1.15 * min(sizes.values())
