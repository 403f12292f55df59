"""What all tests share."""

import gc
import signal

import hypothesis
import pytest

from minimix import cli, kernels

# Chosen now, by the environment that the tests were started in: not by the first test that happens
# to call a kernel while it has changed that environment for the processes it starts.
kernels.backend_name()

# Whoever starts the tests may ignore signals (nohup, a job in the background), and what is tested
# would inherit that, as it should elsewhere.
for ignored in ("SIGINT", "SIGTERM", "SIGHUP"):
    number = getattr(signal, ignored, None)
    if number is not None and signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if ignored == "SIGINT" else signal.SIG_DFL)

# Compiling leaves many objects behind that stay. Looking through them for garbage less often saves
# 6 % of the time.
gc.set_threshold(100_000, 50, 100)

# The same examples each time, however slow the machine: a red test is never a matter of luck.
hypothesis.settings.register_profile("minimix", derandomize=True, deadline=None)
hypothesis.settings.load_profile("minimix")


def pytest_addoption(parser):
    parser.addoption(
        "--no-skips",
        action="store_true",
        help="a skipped test is a failure: for CI, where everything the tests need is installed",
    )


def _held_to_run(report, config):
    if report.skipped and config.getoption("--no-skips"):
        report.outcome = "failed"
        report.longrepr = f"{report.nodeid} was skipped: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    return _held_to_run((yield), item.config)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    return _held_to_run((yield), collector.config)


@pytest.fixture
def minimix(capsys):
    """A function that runs a command in this process: (code, stdout, stderr)."""

    def run(*arguments):
        try:
            code = cli.main([str(a) for a in arguments])
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run
