"""Training: the settings, the loop, the test, and trained models."""

from .config import PRESETS, Config, recipe
from .evaluation import Evaluation, evaluate
from .fit import fit
from .loop import train
from .state import TrainingState
from .trained import Trained, load, load_model

__all__ = [
    "PRESETS",
    "Config",
    "Evaluation",
    "Trained",
    "TrainingState",
    "evaluate",
    "fit",
    "load",
    "load_model",
    "recipe",
    "train",
]
