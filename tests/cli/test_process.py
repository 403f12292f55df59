"""The process around a command: closed and full streams, signals, strange names, errors of ours."""

import os
import signal
import subprocess
import sys
import time

import pytest

from minimix import cli
from minimix.cli import evaluate

posix = pytest.mark.skipif(os.name != "posix", reason="is about POSIX streams and signals")
SMALL = [
    *("train", "--data=shapes10", "--preset=plain"),
    *("--hidden-dim=2", "--depth=1", "--kernel-size=1"),
    *("--patch-size=16", "--batch-size=50", "--epochs=1", "--limit-train=100", "--limit-test=20"),
    *("--threads=1", "--quiet"),
]
LONG = [*SMALL, "--epochs=5000"]


def shell(command, *arguments, **options):
    """Run a shell command in which "$@" is minimix with these arguments."""
    program = ["bash", "-c", f"set -o pipefail; {command}", "-", sys.executable, "-m", "minimix"]
    options = {"capture_output": True, "text": True, "timeout": 120, **options}
    done = subprocess.run([*program, *arguments], **options)
    assert "Traceback" not in (done.stderr or "")
    assert "Exception ignored" not in (done.stderr or "")
    return done


# ------------------------------------------------------------------ streams


@posix
@pytest.mark.parametrize("arguments", [["--version"], ["train", "--help"], [], SMALL])
@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams(tmp_path, arguments, closed):
    done = shell(f'"$@" {closed}', *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    if arguments == SMALL:
        (folder,) = tmp_path.glob("runs/*")
        assert (folder / "model.safetensors").exists()
        for log in folder.glob("*.jsonl"):  # nothing meant for a stream got into a file
            assert all(line.startswith("{") for line in log.read_text().splitlines())


@posix
def test_a_closed_stderr_and_a_mistake():
    assert shell('"$@" 2>&-', "train", "--epochs=0").returncode == 2
    assert shell('"$@" 2>&-', "evaluate", "nowhere").returncode == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("arguments", [["--version"], ["train", "--help"], ["evaluate", "run"]])
def test_a_full_stdout(minimix, arguments):
    minimix(*SMALL, "--out=run")
    for unbuffered in ("", "1"):
        options = {"env": {**os.environ, "PYTHONUNBUFFERED": unbuffered}}
        done = shell('"$@" > /dev/full', *arguments, **options)
        assert done.returncode == 1
        assert done.stderr == "minimix: cannot write the output: No space left on device\n"
    assert shell('"$@" > /dev/full 2>&1', *arguments).returncode == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
def test_a_full_stderr():
    assert shell('"$@" 2> /dev/full', "train", "--epochs=0").returncode == 2
    assert shell('"$@" 2> /dev/full', "evaluate", "nowhere").returncode == 1
    assert shell('"$@" 2> /dev/full', "--version").returncode == 0


@posix
@pytest.mark.parametrize("reader", ["true", "head -1"])
def test_a_reader_that_leaves_early(reader):
    done = shell(f'"$@" | {reader}', "train", "--help")
    assert done.stderr == ""
    assert done.returncode in (0, 1)


# ------------------------------------------------------------------ signals


def begin(*arguments, before=None, **options):
    program = [sys.executable, "-m", "minimix", *LONG, "--out=run", *arguments]
    pipe = subprocess.PIPE
    process = subprocess.Popen(program, stdout=pipe, stderr=pipe, preexec_fn=before, **options)
    deadline = time.monotonic() + 60
    while not list_dir("run", "metrics.jsonl"):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return process


def list_dir(folder, name):
    path = os.path.join(folder, name)
    return os.path.exists(path) and os.path.getsize(path) > 2000


def ended(process):
    out, err = process.communicate(timeout=60)
    assert b"Traceback" not in err
    return process.returncode, out.decode(), err.decode()


@posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_stops_training_after_saving(name):
    process = begin()
    number = getattr(signal, name)
    process.send_signal(number)
    if name != "SIGINT":  # a closing terminal sends more than one
        process.send_signal(number)
    code, out, err = ended(process)
    assert code == 128 + number
    assert err.strip() == "finishing this step, then saving; Ctrl-C again stops at once"
    assert out == "stopped, and saved; continue with: minimix train --resume run\n"


@posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP"])
def test_a_signal_that_the_parent_ignored_stays_ignored(name):
    """As nohup does with SIGHUP, and a shell script with SIGINT for what it runs behind `&`."""
    number = getattr(signal, name)
    process = begin(before=lambda: signal.signal(number, signal.SIG_IGN))
    size = os.path.getsize("run/metrics.jsonl")
    for _ in range(2):
        process.send_signal(number)
    deadline = time.monotonic() + 60
    while os.path.getsize("run/metrics.jsonl") < size + 5000:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.terminate()
    code, _, err = ended(process)
    assert code == 128 + signal.SIGTERM
    assert err.count("\n") == 2


@posix
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_a_signal_before_training_leaves_nothing(monkeypatch, tmp_path, name):
    def load(*_arguments, **_options):
        assert (tmp_path / "run").exists()
        signal.raise_signal(getattr(signal, name))

    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP)
    monkeypatch.setattr("minimix.data.load", load)
    assert cli.main([*SMALL, "--out=run"]) == 128 + getattr(signal, name)
    assert list(tmp_path.iterdir()) == []
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGHUP)) == before


def test_ctrl_c_before_training(monkeypatch, tmp_path, minimix):
    def load(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("minimix.data.load", load)
    assert minimix(*SMALL, "--out=run") == (130, "", "minimix: interrupted\n")
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------ names


names = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs names of any bytes")


@names
@pytest.mark.parametrize("name", [b"caf\xe9", b"a b", "π".encode(), b"new\nline"])
def test_a_folder_of_any_name(tmp_path, minimix, name):
    folder = os.fsdecode(name)
    for arguments in (
        [*SMALL, "--out", folder],
        ["evaluate", folder],
        ["report", folder],
        ["train", "--resume", folder],
    ):
        code, _, err = minimix(*arguments)
        assert (code, err) == (0, ""), arguments
    assert os.path.exists(name + b"/report.html")


@names
def test_a_name_that_the_terminal_cannot_show():
    program = [os.fsencode(sys.executable), b"-m", b"minimix", *map(os.fsencode, SMALL)]
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    out = "--out=é".encode("latin-1")
    done = subprocess.run([*program[:-1], out], capture_output=True, env=environment)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"?" in done.stdout


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch, minimix):
    """Bash leaves --out=~/run as it is; a folder named ~ is what nobody wants."""
    (tmp_path / "home").mkdir()
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    assert minimix(*SMALL, "--out=~/run")[0] == 0
    assert (tmp_path / "home" / "run" / "run.json").exists()
    assert minimix("evaluate", "~/run")[0] == 0
    assert [p.name for p in tmp_path.iterdir()] == ["home"]


@posix
@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--data=shapes10", "--out=~nosuchuser/x"],
        ["train", "--data=shapes10", "--out="],
        ["train", "--resume=~nosuchuser/x"],
        ["evaluate", "~nosuchuser/x"],
        ["report", "~nosuchuser/x"],
        ["report", "run", "--out="],
        ["predict", "~nosuchuser/x"],
        ["predict", "x.png", "--model=~nosuchuser/x"],
        ["predict", "x.png", "--explain=~nosuchuser/x"],
        ["lessons", "~nosuchuser/x"],
    ],
)
def test_a_home_that_does_not_exist(tmp_path, minimix, arguments):
    code, _, err = minimix(*arguments)
    assert code == 2
    assert err.count("\n") == 1
    assert "no home folder ~nosuchuser" in err or "expected a path" in err
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(5, "Input/output error", "x"), "cannot use x: Input/output error"),
        (OSError(5, "Input/output error"), "cannot write the output: Input/output error"),
        (MemoryError("of 3 GB"), "not enough memory (of 3 GB); a smaller --batch-size needs less"),
    ],
)
def test_errors_of_the_system_are_one_line(monkeypatch, minimix, error, line):
    def fail(_args):
        raise error

    monkeypatch.setattr(evaluate, "run", fail)
    assert minimix("evaluate", "x") == (1, "", f"minimix: {line}\n")


def test_a_bug_is_one_line_that_says_so(monkeypatch, minimix):
    def fail(_args):
        raise TypeError("None is\nno array")

    monkeypatch.setattr(evaluate, "run", fail)
    code, _, err = minimix("evaluate", "x")
    assert code == 1
    assert err.startswith("minimix: TypeError: None is no array (")
    assert "This is a bug in minimix: please report it, with what MINIMIX_DEBUG=1 prints" in err
    assert err.count("\n") == 1
    monkeypatch.setenv("MINIMIX_DEBUG", "1")
    with pytest.raises(TypeError):
        cli.main(["evaluate", "x"])
