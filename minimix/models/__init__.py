"""Models."""

from .convmixer import ConvMixer
from .interop import from_torch, to_torch

__all__ = ["ConvMixer", "from_torch", "to_torch"]
