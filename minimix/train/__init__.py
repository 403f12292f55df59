"""Training: the loop, what it writes down, and how it is picked up again."""

from .config import PRESETS, Config
from .evaluation import Evaluation, evaluate
from .loop import train
from .run import Run

__all__ = ["PRESETS", "Config", "Evaluation", "Run", "evaluate", "train"]
