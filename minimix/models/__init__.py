"""Models."""

from .convmixer import ConvMixer as ConvMixer
