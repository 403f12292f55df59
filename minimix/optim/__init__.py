"""Optimizers, learning-rate schedules, gradient clipping and averaged weights."""

from . import schedules
from .adamw import AdamW
from .averaging import WeightAverage
from .clip import clip_grad_norm, norm
from .muon import Muon
from .optimizer import Optimizer
from .sgd import SGD

__all__ = [
    "SGD",
    "AdamW",
    "Muon",
    "Optimizer",
    "WeightAverage",
    "clip_grad_norm",
    "norm",
    "schedules",
]
