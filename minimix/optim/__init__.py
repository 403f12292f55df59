"""Optimisers, learning-rate schedules and gradient clipping."""

from . import schedules
from .adamw import AdamW
from .clip import clip_grad_norm
from .optimizer import Optimizer
from .sgd import SGD

__all__ = ["SGD", "AdamW", "Optimizer", "clip_grad_norm", "schedules"]
