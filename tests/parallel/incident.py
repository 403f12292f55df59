"""mpiexec -n N python incident.py WHAT RANK STEP ARGUMENTS…: the command line, and what befalls it.

At the STEP-th step of rank RANK, WHAT happens: signal, death, error, or a weight that changes. The
RANK "all" is every one; WHAT may also be "nothing".
"""

import os
import signal
import sys

from minimix import optim, parallel
from minimix.cli import main
from minimix.errors import MinimixError

what, rank, step, *arguments = sys.argv[1:]
if rank in ("all", str(parallel.world().rank)):
    steps = 0
    take = optim.AdamW.step

    def incident(optimizer):
        """A step, and after it what was asked for."""
        global steps
        steps += 1
        take(optimizer)
        if steps != int(step):
            return
        if what == "signal":
            signal.raise_signal(signal.SIGINT)
        if what == "death":
            os.kill(os.getpid(), signal.SIGKILL)
        if what == "error":
            raise MinimixError("something is wrong here")
        if what == "weight":
            optimizer.parameters()[0].array[...] += 1e-6

    optim.AdamW.step = incident
    if what == "seed":
        arguments.append("--seed=7")
sys.exit(main(arguments))
