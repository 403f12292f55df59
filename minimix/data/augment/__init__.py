"""Augmentation: images changed at random, so that each epoch shows new ones."""

from .pipeline import Augment

__all__ = ["Augment"]
