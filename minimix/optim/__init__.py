"""Optimizers, learning-rate schedules and gradient clipping."""

from . import schedules as schedules
from .adamw import AdamW as AdamW
from .clip import clip_grad_norm as clip_grad_norm
from .clip import norm as norm
from .muon import Muon as Muon
from .optimizer import Optimizer as Optimizer
from .sgd import SGD as SGD
