"""Training: the settings, the loop, the test, and trained models."""

from .config import PRESETS, Config
from .evaluation import Evaluation, evaluate
from .loop import train
from .state import TrainingState
from .trained import load_model

__all__ = ["PRESETS", "Config", "Evaluation", "TrainingState", "evaluate", "load_model", "train"]
