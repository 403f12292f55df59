"""A class in a file of the user's is trained, resumed, loaded; each mistake in it is one line."""

import textwrap

import pytest
from tiny_training import CONFIG, dataset, run_to_end

from minimix.errors import CheckpointError, MinimixError
from minimix.runs import RunFolder
from minimix.train import Config, TrainingState, load_model, recipe
from minimix.train.architecture import class_of, settings_of
from minimix.train.config import changed

NET = """\
from dataclasses import dataclass
import minimix as mx
from minimix import nn

@dataclass
class Sizes:  # dataclasses look for their module by its name
    width: int = 3

class Net(mx.Module):
    def __init__(self, width: int = 6, drop: float = 0.5, n_classes: int = 10, rng=None):
        super().__init__()
        self.first = nn.Linear(3, width, rng=rng)
        self.drop = nn.Dropout(drop, rng=rng)
        self.head = nn.Linear(width, n_classes, rng=rng)

    def forward(self, x):
        x = mx.functional.relu(self.first(x)).mean(axis=(1, 2))
        return self.head(self.drop(x))
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "my_net.py"
    path.write_text(NET)
    return path


def own(file, **settings):
    plain = changed(CONFIG, early_epochs=0, epochs=2)
    return changed(
        Config(**{**vars(plain), "model": f"{file}:Net", "model_settings": {}}), **settings
    )


def test_it_goes_through_the_loop_and_is_made_again(tmp_path, file):
    config = own(file, width=4)
    run_to_end(tmp_path / "run", config)
    model, facts = load_model(tmp_path / "run")
    assert type(model).__name__ == "Net"
    assert model.first.weight.shape == (3, 4)
    assert model.head.weight.shape == (4, 4)  # of four classes: filled in
    assert facts["config"]["model"] == f"{file}:Net"
    assert facts["config"]["model_settings"] == {"width": 4, "drop": 0.5}
    assert not (tmp_path / "__pycache__").exists()


@pytest.mark.parametrize("settings", [{}, {"widths": (3, 4)}])
def test_a_resumed_run_has_the_tuples_that_it_was_begun_with(tmp_path, file, monkeypatch, settings):
    from test_resume import begin_and_stop

    several = NET.replace("width: int = 6", "widths: tuple[int, ...] = (6, 5)")
    for place in ("Linear(3, width", "Linear(width"):
        several = several.replace(place, f"{place}s[1]")
    file.write_text(several)
    config = own(file, **settings)
    begin_and_stop(tmp_path / "run", monkeypatch, step=7, config=config)
    run_to_end(tmp_path / "run", config)
    model, _ = load_model(tmp_path / "run")
    assert model.first.weight.shape == (3, settings.get("widths", (6, 5))[1])
    with pytest.raises(CheckpointError, match=r"`widths` is \(1, 2\), but .* with \("):
        run_to_end(tmp_path / "run", own(file, widths=(1, 2)))


def test_where_it_draws_random_numbers_a_resumed_run_goes_on_with_them(tmp_path, file, monkeypatch):
    from test_resume import begin_and_stop

    config = own(file)
    run_to_end(tmp_path / "whole", config)
    begin_and_stop(tmp_path / "stopped", monkeypatch, step=7, config=config)
    run_to_end(tmp_path / "stopped", config)
    for name in ("metrics.jsonl", "model.safetensors"):
        assert (tmp_path / "stopped" / name).read_bytes() == (
            tmp_path / "whole" / name
        ).read_bytes()


def test_a_path_from_another_folder_is_the_same(tmp_path, file, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert own("my_net.py").complete() == own(file).complete()


def test_changed_code_is_noticed_and_the_old_is_kept(tmp_path, file, monkeypatch):
    from test_resume import begin_and_stop

    config, run = own(file), tmp_path / "run"
    begin_and_stop(run, monkeypatch, step=7, config=config)
    with RunFolder(run) as folder:
        folder.keep_code(NET)
    file.write_text(NET.replace("relu", "gelu"))
    with pytest.raises(CheckpointError, match=r"my_net\.py has changed since this run was begun"):
        run_to_end(run, config)
    with pytest.raises(
        CheckpointError, match=r"changed since Net .* such as .*model\.py, .*`code`"
    ):
        load_model(run)
    assert load_model(run, code=run / "model.py")[0].head.weight.shape == (6, 4)
    file.unlink()
    with pytest.raises(CheckpointError, match=r"cannot read .*my_net\.py: No such file .*`code`"):
        load_model(run)
    file.write_text(NET)
    load_model(run)
    run_to_end(run, config)
    assert results_are_those_of(tmp_path, run, config)


def results_are_those_of(tmp_path, run, config):
    run_to_end(tmp_path / "again", config)
    name = "model.safetensors"
    return (tmp_path / "again" / name).read_bytes() == (run / name).read_bytes()


def test_it_may_import_what_lies_beside_it(tmp_path):
    (tmp_path / "beside_my_net.py").write_text("WIDTH = 7\n")
    (tmp_path / "net.py").write_text(
        "from beside_my_net import WIDTH\nfrom minimix.nn import Linear\n"
        "class Net(Linear):\n"
        "    def __init__(self, width: int = WIDTH): super().__init__(3, width)\n"
    )
    assert settings_of(f"{tmp_path}/net.py:Net")["width"].default == 7


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        (
            "import nowhere_at_all\n",
            "Net",
            r"line 1: ModuleNotFoundError: No module named 'nowhere",
        ),
        ("x = 1\nclass Net(:\n", "Net", r"line 2: SyntaxError: "),
        ("x = 1\ny = 1 / 0\n", "Net", r"line 2: ZeroDivisionError: division by zero"),
        (
            "import minimix as mx\nclass Not(mx.Module): pass\n",
            "Net",
            r"has no class Net; did you me",
        ),
        ("x = 1\n", "Net", r"has no class Net \(its Modules: none\)"),
        (
            "x = 1\nclass Net: pass\n",
            "Net",
            r"line 2: Net is a plain class; expected a subclass of",
        ),
        ("Net = 3\n", "Net", r"Net is no class; expected a subclass"),
        ("import minimix as mx\nclass Net(mx.Module): pass\n", "", r"name a class .*net\.py:Net"),
        (
            "import minimix as mx\nclass Net(mx.Module):\n  def __init__(self, a): pass\n",
            "Net",
            r"line 2: Net's argument 'a' needs an annotation or a default: int, float",
        ),
    ],
)
def test_what_is_wrong_with_the_file(tmp_path, content, name, words):
    path = tmp_path / "net.py"
    path.write_text(content)
    with pytest.raises(MinimixError, match=words) as error:
        settings_of(f"{path}:{name}" if name else str(path))
    assert "\n" not in str(error.value)
    assert "net.py" in str(error.value)


def test_what_is_no_file_of_python(tmp_path):
    (tmp_path / "a.py").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MinimixError, match=r"a\.py is not a Python file"):
        class_of(f"{tmp_path}/a.py:Net")
    with pytest.raises(MinimixError, match=r"cannot read .*b\.py: No such file"):
        class_of(f"{tmp_path}/b.py:Net")


def net(body, init=""):
    return "import minimix as mx\n\nclass Net(mx.Module):\n" + textwrap.indent(
        f"def __init__(self, width: int = 3):\n    super().__init__()\n{init}\n{body}\n", "    "
    )


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (net("def forward(self, x):\n    return x.men()"), r"net\.py, line 8: AttributeError: "),
        (net("def forward(self, x):\n    return x + 'a'"), r"net\.py, line 8: TypeError: "),
        (net("def forward(self, x):\n    return x.mean()"), r"gave \(\) for one image; .*\(1, 4\)"),
        (net("def forward(self, x):\n    return 3"), r"gave int for one image; expected logits"),
        (net(""), r"Net has no forward"),
        (
            net("", init="    self.w = mx.nn.Linear(0, 3)"),
            r"net\.py, line 6: ValueError: Linear: in_features is 0",
        ),
        (net("").replace("super().__init__()", "self.w = mx.nn.ReLU()"), r"line 5: RuntimeError"),
    ],
)
def test_what_is_wrong_with_the_network(tmp_path, content, words):
    path = tmp_path / "net.py"
    path.write_text(content)
    with pytest.raises((MinimixError, ValueError), match=words) as error:
        TrainingState.build(own(path), dataset())
    assert "\n" not in str(error.value)


def test_its_recipe_is_the_plain_one(file):
    config = recipe(f"{file}:Net", width=9)
    assert config.lr == Config().lr
    assert config.complete().model_settings == {"width": 9, "drop": 0.5}
    with pytest.raises(ValueError, match=r"`wdth` is not a setting of Net \(my_net\.py\).*`width`"):
        recipe(f"{file}:Net", wdth=9).complete()
    with pytest.raises(ValueError, match=r"`epoch` is not a setting; did you mean `epochs`"):
        recipe(f"{file}:Net", epoch=9)


@pytest.mark.parametrize("name", ["run.json", "model.py"])
def test_a_file_of_the_user_s_is_not_replaced(tmp_path, file, name):
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / name).write_text("my work")
    with RunFolder(folder) as run:
        state = TrainingState.build(own(file), dataset())

        def begin():
            run.describe({"settings": {}})
            run.keep_code(state.code)

        with pytest.raises(CheckpointError, match=f"{name} is there already, and is not a run's"):
            begin()
    assert [path.name for path in folder.iterdir()] == [name]
    assert (folder / name).read_text() == "my work"


def test_what_a_run_left_that_was_killed_at_once_is_replaced(tmp_path, file):
    (tmp_path / "run.json").write_text('{"settings": {}}')
    (tmp_path / "model.py").write_text("before it was edited")
    with RunFolder(tmp_path) as run:
        run.describe({"settings": {"a": 1}})
        run.keep_code("x = 1")
    assert (tmp_path / "model.py").read_text() == "x = 1"
