"""What a picture goes through before it is learned from."""

from minimix.data.augment.pipeline import Augment

__all__ = ["Augment"]
