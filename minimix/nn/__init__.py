"""Layers: operations with parameters, and the Module that holds them."""

from .containers import *
from .layers import *
from .module import *
from .tokens import *
