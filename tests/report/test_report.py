"""The page about a run: what is in it, and what cannot get into it."""

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import reader

from minimix import Tensor, cli
from minimix.data import normalize, shapes10
from minimix.errors import CheckpointError
from minimix.report import report
from minimix.report.mistakes import worst_mistakes
from minimix.train.trained import load_model


def page_of(*folders, say=lambda line: None):
    out = report(folders, folders[0].parent / "page.html", say)
    return reader.read(out.read_text("utf-8"))


@pytest.fixture(scope="module")
def page(trained, few, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shapes10, "load", lambda: few)
        out = report([trained], tmp_path_factory.mktemp("page") / "page.html", lambda line: None)
    return reader.read(out.read_text("utf-8"))


def rows_of(table):
    return [[c.text for c in row if c.tag in ("th", "td")] for row in table.all("tr")]


def metrics_of(folder, kind):
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [line for line in lines if line["kind"] == kind]


# ------------------------------------------------------------------ what the page is made of


def test_it_is_one_page_that_loads_nothing(page):
    assert len(page.all("h1")) == 1
    ids = [e["id"] for e in page if e["id"]]
    assert len(ids) == len(set(ids))
    for e in page:
        for name in ("src", "href", "action", "data"):
            if e[name] is not None:
                assert e[name].startswith(("#", "data:")), (e.tag, e[name])
        assert "url(" not in (e["style"] or "")
    for link in page.one("nav").all("a"):
        page.id(link["href"][1:])
    style = page.one("style").text
    for word in ("url(", "@import", "http"):
        assert word not in style


def test_its_policy_allows_its_own_script_and_no_other(page):
    script = "".join(page.one("script").inside)
    (policy,) = (m["content"] for m in page.all("meta") if m["http-equiv"])
    sha256 = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{sha256}'" in policy
    assert policy.startswith("default-src 'none';")


def test_every_figure_can_be_read_without_seeing_it(page):
    drawn = [e for e in page if e["role"] == "img"]
    assert len(drawn) == 5 + 2  # line charts; heat maps of norms
    assert all(len(e["aria-label"]) > 40 for e in drawn)
    for svg in page.all("svg"):
        assert svg["role"] == "img"
        assert svg["aria-label"].replace("\u00a0", " ") == (
            f"{svg.one('title').text}: {svg.one('desc').text}"
        )
    pictures = page.all("img")
    assert len(pictures) > 2
    assert all(e["alt"] for e in pictures)
    for summary in page.all("summary"):
        assert summary.text
    for name in ("curves", "layers"):
        assert page.id(name).one("details", "").all("table")


# ------------------------------------------------------------------ whether it is true


def test_the_numbers_are_those_of_the_run(page, trained):
    last = metrics_of(trained, "epoch")[-1]
    header = page.one("header").text
    assert f"{100 * last['test_accuracy']:.2f} %" in header
    assert "Training finished: 2 epochs, 6 steps." in header
    assert "ConvMixer, hidden dim 8, depth 1, kernel size 3, patch size 8 on shapes10" in header
    assert f"{load_model(trained)[0].n_parameters():,}" in header

    head, *rows = rows_of(page.id("curves").one("table"))
    assert head[:3] == ["epoch", "step", "training loss"]
    assert [row[:2] for row in rows] == [["1", "3"], ["2", "6"]]
    assert rows[1][5] == f"{100 * last['test_accuracy']:.2f} %"
    rates = [step["lr"] for step in metrics_of(trained, "step")]
    assert float(rows[0][6]) == pytest.approx(rates[2], rel=0.01)

    head, *rows = rows_of(page.id("classes").one("table", "confusion"))
    assert head == ["", *shapes10.CLASS_NAMES]
    assert [row[0] for row in rows] == list(shapes10.CLASS_NAMES)
    counts = [[int(n) if n != "·" else 0 for n in row[1:]] for row in rows]
    assert counts == last["confusion"]

    bars = rows_of(page.id("classes").one("table", "bars"))
    expected = [f"{100 * accuracy:.2f} %" for accuracy in last["per_class"]]
    assert [row[2] for row in bars] == expected

    weights, gradients = page.id("layers").all("table")
    for table, key in ((weights, "weight_norms"), (gradients, "gradient_norms")):
        found = {row[0]: float(row[-1]) for row in rows_of(table)[1:]}
        assert found["block 1 depthwise"] == pytest.approx(last[key]["blocks.0.0.fn.0"], rel=0.01)
        assert len(found) == len(last[key])


def test_curves_are_those_of_the_run(page, trained):
    plots = {f.one("h3").text: f for f in page.id("curves").all("figure")}
    assert list(plots) == [
        "Loss",
        "Accuracy",
        "Learning rate",
        "Gradient norm",
        "Images per second",
    ]
    values = json.loads(plots["Loss"].one("div", "plot")["data-curves"])
    training, test = values["curves"]
    steps, epochs = metrics_of(trained, "step"), metrics_of(trained, "epoch")
    assert values["end"] == 2
    assert training["x"] == pytest.approx([n / 3 for n in range(1, 7)], rel=1e-4)
    assert training["y"] == pytest.approx([step["loss"] for step in steps], rel=1e-3)
    assert test["x"] == [1, 2]
    assert test["y"] == pytest.approx([epoch["test_loss"] for epoch in epochs], rel=1e-3)

    # and so they are drawn: one scale for all points of both curves
    drawn = []
    for curve in plots["Loss"].all("g", "curve"):
        points = curve.all("path")[0]["d"][1:].split("L")
        drawn += [[float(n) for n in point.split()] for point in points]
    losses = [step["loss"] for step in steps] + [epoch["test_loss"] for epoch in epochs]
    for axis, values in enumerate((training["x"] + test["x"], losses)):
        slope, start = np.polyfit(values, np.transpose(drawn)[axis], 1)
        assert np.allclose(np.multiply(slope, values) + start, np.transpose(drawn)[axis], atol=0.05)
        assert slope * (1, -1)[axis] > 0  # y is measured from the top


def test_norms_are_those_of_the_run(page):
    figures, tables = page.id("layers").all("figure"), page.id("layers").all("table")
    for figure, table in zip(figures, tables, strict=True):
        texts = [t.text for t in figure.all("text")]
        for name, *values in rows_of(table)[1:]:
            assert name in texts
            assert values[-1] in texts


def test_it_says_how_to_do_it_again(page, trained):
    settings = page.id("settings").text
    about = json.loads((trained / "run.json").read_text())
    assert about["command"] in settings
    assert about["versions"]["numpy"] in settings
    assert about["machine"] in settings
    assert load_model(trained)[1]["data"]["sha256"] in settings
    unlike = [pair.text for pair in page.id("settings").one("div", "grid").all("div")]
    assert unlike.count("--hidden-dim 8 (laptop: 128)") == 1
    assert unlike.count("--depth 1 (laptop: 5)") == 1
    assert "label_smoothing" not in settings
    assert "--label-smoothing 0.1" in settings


def test_mistakes_are_mistakes_and_the_most_confident_first(page, trained, few):
    cards = page.id("mistakes").all("li")
    assert 0 < len(cards) <= 24
    sure = [float(card.text.split()[1]) for card in cards]
    assert sure == sorted(sure, reverse=True)

    model, _ = load_model(trained)
    mistakes = worst_mistakes(model, few, count=10_000)
    logits = model(Tensor(normalize(few.test_images, few.mean, few.std))).array.astype(float)
    wrong = logits.argmax(axis=1) != few.test_labels
    assert len(mistakes) == wrong.sum()
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    first = np.flatnonzero(wrong)[shares[wrong].max(axis=1).argmax()]
    assert (mistakes[0].image == few.test_images[first]).all()
    assert mistakes[0].label == few.class_names[few.test_labels[first]]
    assert mistakes[0].predicted == few.class_names[logits[first].argmax()]
    assert mistakes[0].confidence == pytest.approx(shares[first].max(), rel=1e-4)


# ------------------------------------------------------------------ several


def test_runs_are_compared(run, lines, tmp_path):
    other = shutil.copytree(run, tmp_path / "other")
    about = json.loads((run / "run.json").read_text())
    about["settings"]["lr"] = 0.5
    (run / "run.json").write_text(json.dumps(about))
    lines[-1]["test_accuracy"] = 0.875
    lines.write()

    page = page_of(run, other)
    assert page.one("h1").text == "2 runs compared"
    rows = rows_of(page.id("results").one("table"))[1:]
    was = metrics_of(other, "epoch")[-1]["test_accuracy"]
    assert [row[:2] for row in rows] == [["run", "87.50 %"], ["other", f"{100 * was:.2f} %"]]
    assert rows_of(page.id("differences").one("table")) == [
        ["setting", "run", "other"],
        ["--lr", "0.5", "0.01"],
    ]
    for figure in page.id("curves").all("figure"):
        assert [li.text for li in figure.one("ul").all("li")] == ["run", "other"]
        first, second = figure.all("g", "curve")
        assert "var(--c0)" in first.all("path")[0]["style"]
        assert "var(--c1)" in second.all("path")[0]["style"]
    assert len(page.id("classes").all("tr")) == 1 + 10
    each = page.id("each-run")
    assert [s.text.split()[0] for s in each.all("summary") if len(s.all("span")) == 2] == [
        "run",
        "other",
    ]


def test_the_figure_with_mirrored_images_stands_beside_the_other(run, lines, tmp_path):
    other = shutil.copytree(run, tmp_path / "other")
    lines[-1] |= {"test_accuracy": 0.75, "mirrored_accuracy": 0.8125}
    lines.write()
    facts = page_of(run).one("dl", "facts")
    assert [d.text for d in facts.all("dt")[:2]] == ["test accuracy", "with mirrored images"]
    assert [d.text for d in facts.all("dd")[:2]] == ["75.00 %", "81.25 %"]
    assert "mirrored" not in page_of(other).one("header").text

    head, *rows = rows_of(page_of(other, run).id("results").one("table"))
    assert head[2] == "with mirrored images"
    assert [row[2] for row in rows] == ["–", "81.25 %"]


def test_runs_of_one_name_are_told_apart(run, tmp_path):
    (tmp_path / "b").mkdir()
    twin = shutil.copytree(run, tmp_path / "b" / "run")
    page = page_of(run, twin)
    names = [row[0] for row in rows_of(page.id("results").one("table"))[1:]]
    assert names == [str(run), str(twin)]
    assert "All runs have the same settings." in page.id("differences").text


def test_runs_of_other_classes_are_not_compared_class_by_class(run, lines, tmp_path):
    other = shutil.copytree(run, tmp_path / "other")
    for line in lines:
        if line["kind"] == "epoch":
            line["confusion"] = [[3, 1], [0, 0]]
    lines.write()
    page = page_of(run, other)
    assert "have different classes" in page.id("classes").text
    ours = page.id("each-run").all("table", "bars")[0]
    assert rows_of(ours) == [["0", "", "75.00 %"], ["1", "", "–"]]  # no image, no accuracy


# ------------------------------------------------------------------ what is not there yet, or gone


def test_a_run_that_still_goes_on(run):
    text = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text(text[: text.rindex('"kind": "epoch"')])  # amid a line
    (run / "model.safetensors").unlink()
    page = page_of(run)
    assert "Training not finished: 1 of 2 epochs, 6 steps so far." in page.one("header").text
    assert len(rows_of(page.id("curves").one("table"))) == 1 + 1
    assert page.id("filters").all("img")


def test_a_run_in_its_first_epoch(run, lines):
    del lines[2:]
    lines.write()
    (run / "model.safetensors").unlink()
    page = page_of(run)
    assert "Training not finished: 0 of 2 epochs, 2 steps so far." in page.one("header").text
    values = json.loads(page.id("curves").all("div", "plot")[0]["data-curves"])
    assert (values["name"], values["end"]) == ("step", 2)
    assert "the first is not complete yet" in page.id("classes").text
    assert "the first is not complete yet" in page_of(run, run).id("classes").text


def test_a_run_before_its_first_step(run):
    (run / "metrics.jsonl").write_text("")
    (run / "timing.jsonl").unlink()
    for weights in run.glob("*.safetensors"):
        weights.unlink()
    page = page_of(run)
    assert "No training step has been taken yet." in page.one("header").text
    assert "No training step has been taken yet." in page.id("curves").text
    for name in ("mistakes", "filters", "model"):
        assert "No weights have been saved in this run folder yet." in page.id(name).text
    page_of(run, run)


def test_without_a_clock_there_are_no_speeds(run):
    (run / "timing.jsonl").unlink()
    page = page_of(run)
    assert "Images per second" not in page.id("curves").text
    assert [d.text for d in page.one("dl", "facts").all("dd")[3:]] == ["–", "–"]


def test_a_clock_that_was_wrong(run):
    lines = [
        {"step": 1, "seconds": 2.0, "images_per_s": 25.0},
        {"step": 2, "seconds": 10**400, "images_per_s": -(10**400)},
        {"step": 3, "seconds": float("nan"), "images_per_s": float("nan")},
        {"step": 3, "test_seconds": 60.0},
    ]
    (run / "timing.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    facts = [d.text for d in page_of(run).one("dl", "facts").all("dd")]
    assert facts[3] == "1:02"


def test_a_data_set_that_has_changed_is_not_looked_at(run, monkeypatch):
    changed = shapes10.load()
    changed = type(changed)(**{**vars(changed), "test_images": changed.test_images[::-1]})
    monkeypatch.setattr(shapes10, "load", lambda: changed)
    page = page_of(run)
    assert "is not what this run was trained on" in page.id("mistakes").text
    assert not page.id("mistakes").all("img")
    assert page.id("filters").all("img")
    changed = type(changed)(
        **{
            **vars(changed),
            "test_images": changed.test_images[:9],
            "test_labels": changed.test_labels[:9],
        }
    )
    page = page_of(run)
    assert "trained on more: limit_test is 50" in page.id("mistakes").text


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (shutil.rmtree, "there is no run folder"),
        (lambda run: (run / "run.json").unlink(), "cannot read"),
        (lambda run: (run / "run.json").write_text("[]"), "run.json is damaged"),
        (lambda run: (run / "run.json").write_text("{}"), "it holds no settings"),
        (lambda run: (run / "metrics.jsonl").unlink(), "cannot read"),
        (lambda run: (run / "timing.jsonl").write_text("{}\nno\n"), "timing.jsonl, line 2, is dam"),
        (
            lambda run: [p.write_bytes(p.read_bytes()[:99]) for p in run.glob("*.safetensors")],
            "damaged",
        ),
    ],
)
def test_what_is_damaged_is_said_in_a_line_and_nothing_is_written(
    run, tmp_path, capsys, break_it, words
):
    page = tmp_path / "page.html"
    page.write_text("the report before")
    break_it(run)
    assert cli.main(["report", str(run), f"--out={page}"]) == 1
    out, err = capsys.readouterr()
    assert words in err
    assert len(err.splitlines()) == 1
    assert out == ""
    assert page.read_text() == "the report before"
    assert {path.name for path in tmp_path.iterdir()} <= {"run", "page.html"}


@pytest.mark.parametrize("out", ["/", ".", "no/page.html", "run.json/page.html", "x" * 300])
def test_a_page_that_cannot_be_written(run, capsys, monkeypatch, out):
    monkeypatch.chdir(run)
    before = sorted(run.iterdir())
    assert cli.main(["report", str(run), f"--out={out}"]) == 1
    assert capsys.readouterr().err.startswith(f"minimix: cannot write {out}: ")
    assert sorted(run.iterdir()) == before


@pytest.mark.parametrize("data", [None, {}, [], {"name": "shapes10", "image_size": 32}])
def test_weights_that_do_not_say_what_they_were_trained_on(run, monkeypatch, data):
    model, facts = load_model(run)
    monkeypatch.setattr(
        "minimix.report.run_data.load_model", lambda path: (model, {**facts, "data": data})
    )
    with pytest.raises(CheckpointError, match="do not say what data they were trained on"):
        report([run])


def test_the_same_run_gives_the_same_page(run):
    pages = []
    for seed in ("1", "2"):
        command = [sys.executable, "-m", "minimix", "report", str(run)]
        subprocess.run(
            command,
            check=True,
            stdout=subprocess.DEVNULL,
            env=os.environ | {"PYTHONHASHSEED": seed},
        )
        pages.append((run / "report.html").read_bytes())
    assert pages[0] == pages[1]


def test_it_lies_in_the_run_or_in_the_folder_one_is_in(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["report", "run"]) == 0
    assert cli.main(["report", "run", "run"]) == 0
    assert (run / "report.html").exists()
    assert (tmp_path / "report.html").exists()
    assert f"report {(tmp_path / 'run' / 'report.html').relative_to(tmp_path)}" in (
        capsys.readouterr().out.splitlines()
    )


# ------------------------------------------------------------------ what is meant ill

HOSTILE = [
    "not JSON",
    "[" * 100_000,
    "[1, 2]",
    "\xff\xfe",
    '{"kind": "step"}',
    '{"kind": "step", "step": 1, "epoch": 1, "loss": "2", "accuracy": 0, "lr": 0, "grad_norm": 0}',
    '{"kind": "step", "step": true, "epoch": 1, "loss": 2, "accuracy": 0, "lr": 0, "grad_norm": 0}',
    '{"kind": "step", "step": 0, "epoch": 1, "loss": 2, "accuracy": 0, "lr": 0, "grad_norm": 0}',
    '{"kind": "step", "step": NaN, "epoch": 1, "loss": 2, "accuracy": 0, "lr": 0, "grad_norm": 0}',
    '{"kind": "step", "step": %s, "epoch": 1, "loss": 2, "accuracy": 0, "lr": 0, "grad_norm": 0}'
    % ("9" * 400),
    '{"kind": "step", "step": %s, "epoch": 1}' % ("9" * 5000),
]


@pytest.mark.parametrize("line", HOSTILE, ids=range(len(HOSTILE)))
def test_a_line_of_metrics_that_is_not_one(run, line):
    path = run / "metrics.jsonl"
    path.write_bytes(path.read_bytes() + line.encode("latin-1") + b"\n")
    n = len(path.read_bytes().splitlines())
    with pytest.raises(CheckpointError, match=rf"metrics\.jsonl, line {n}, is damaged"):
        report([run])
    assert not (run / "report.html").exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("confusion", [[1, 2], [3]]),
        ("confusion", []),
        ("confusion", [[-1]]),
        ("confusion", [["<b>"]]),
        ("confusion", [[float("nan")]]),
        ("confusion", "square"),
        ("weight_norms", [1, 2]),
        ("weight_norms", {"head": "heavy"}),
        ("gradient_norms", None),
        ("test_loss", None),
        ("mirrored_accuracy", "high"),
        ("epoch", 0),
        ("step", -3),
    ],
)
def test_an_epoch_that_is_none(run, lines, key, value):
    lines[-1][key] = value
    lines.write()
    with pytest.raises(CheckpointError, match=rf"line {len(lines)}, is damaged"):
        report([run])


def test_numbers_beyond_measure_leave_gaps(run, lines):
    for line, loss in zip(lines, (10**400, float("nan"), -1e300, float("inf")), strict=False):
        line["loss" if line["kind"] == "step" else "test_loss"] = loss
    lines[-1]["weight_norms"]["head"] = float("inf")
    lines[-1]["gradient_norms"] = dict.fromkeys(lines[-1]["gradient_norms"], 0.0)
    lines.write()
    page = page_of(run)
    values = json.loads(page.id("curves").all("div", "plot")[0]["data-curves"])
    assert values["curves"][0]["y"][:3] == [None, None, None]
    for path in page.all("path"):
        assert "nan" not in path["d"]
        assert "inf" not in path["d"]


def test_kinds_of_lines_from_later_versions_are_passed_over(run, lines):
    lines.append({"kind": "weather", "rain": [1, 2]})
    lines.write()
    page_of(run)


NASTY = "</script><script>alert(1)</script><img src=x onerror='alert(2)'>\"&\x00\u2028\ud800"


def test_nothing_that_a_run_says_becomes_part_of_the_page(run, lines, monkeypatch):
    about = json.loads((run / "run.json").read_text())
    about["command"] = about["machine"] = NASTY
    about["versions"] = {NASTY: NASTY}
    about["settings"] |= {NASTY: NASTY, "epochs": NASTY, "label_smoothing": NASTY}
    (run / "run.json").write_text(json.dumps(about))
    for line in lines:
        if line["kind"] == "epoch":
            line["weight_norms"][NASTY] = 1.0
            line["gradient_norms"][NASTY] = 1.0
    lines.write()
    monkeypatch.setattr("minimix.runs.RunLog.name", NASTY)

    model, facts = load_model(run)
    facts["data"] |= {"class_names": [NASTY] * 10}
    monkeypatch.setattr("minimix.report.run_data.load_model", lambda path: (model, facts))

    other = shutil.copytree(run, run.parent / "other")
    (other / "run.json").write_text(json.dumps(about | {"settings": {"epochs": 1}}))
    for page in (page_of(run), page_of(run, other)):
        assert len(page.all("script")) == 1
        assert not [e for e in page for name in e.attributes if name.startswith("on")]
        assert not [img for img in page.all("img") if not img["src"].startswith("data:image/png")]
        assert "<script>alert(1)</script><img src=x onerror='alert(2)'>\"&" in page.one("main").text


def test_a_folder_whose_name_is_no_text(run, tmp_path):
    try:
        odd = run.rename(tmp_path / "run\udcff<b>")
    except (OSError, UnicodeError):
        pytest.skip("this file system wants names that are text, or none of these letters")
    page = page_of(odd)
    assert page.one("h1").text == "run?<b>"
