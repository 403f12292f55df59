"""The run folder: its files, their formats, its lock. No other module knows the names of its files.

    RUN/run.json                         the command, the settings, the versions; for a reader
    RUN/model.py                         the user's code, where the network is a class of theirs
    RUN/metrics.jsonl                    one line per step and per epoch; the same for the same seed
    RUN/timing.jsonl                     how long each step and each test took
    RUN/checkpoint-00000390.safetensors  everything needed to resume; the last three are kept
    RUN/model.safetensors                the trained weights, once training has ended
    RUN/.lock                            held by the process that trains

It stores arrays, and facts that JSON can express; what they mean is the business of `train`.
"""

from .checkpoint import Checkpoint
from .elsewhere import hold
from .folder import RunFolder, has_begun, in_use, read_weights
from .reading import RunLog, read_log

__all__ = [
    "Checkpoint",
    "RunFolder",
    "RunLog",
    "has_begun",
    "hold",
    "in_use",
    "read_log",
    "read_weights",
]
