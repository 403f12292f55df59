"""mpiexec -n N python study.py STOP ARGUMENTS…: minimix compare, whose networks are not measured.

Where STOP is "stop", every process is sent SIGINT as soon as all of the trainings have begun.
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path

from minimix.cli import main
from minimix.compare import costs

stop, *arguments = sys.argv[1:]
costs.measure = lambda request: {"error": "not measured"}


def wait_and_stop():
    while len({file.parent for file in Path("studies").glob("*/runs/*/*/checkpoint-*")}) < 2:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)


if stop == "stop":
    threading.Thread(target=wait_and_stop, daemon=True).start()
sys.exit(main(["compare", *arguments]))
