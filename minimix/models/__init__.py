"""Models."""

from .convmixer import ConvMixer as ConvMixer

FAMILIES = {"convmixer": ConvMixer}  # by the names of the command line
