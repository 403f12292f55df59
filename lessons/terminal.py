"""Commands in a lesson: a cell runs them as a terminal would, and shows what they print."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys

from minimix import kernels
from minimix.errors import MinimixError


def terminal(command: str) -> None:
    """Run a command such as "minimix train --epochs 3", and print its output line by line.

    It runs in the folder of the notebook, which its output does not name, in the same Python, with
    the notebook's back end.
    Errors: MinimixError where the command fails, after what it has printed.
    """
    print(f"$ {command}", flush=True)
    environment = {"MINIMIX_BACKEND": kernels.backend_name(), "PYTHONIOENCODING": "utf-8"}
    with subprocess.Popen(
        [sys.executable, "-u", "-m", *shlex.split(command)],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    ) as process:
        assert process.stdout
        for line in process.stdout:
            print(line.replace(os.getcwd() + os.sep, ""), end="", flush=True)
    if process.returncode:
        raise MinimixError(f"`{command}` failed: the lines above say why")
