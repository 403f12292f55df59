"""Every kernel by name, compiled: called directly, past the door that checks arguments."""

import importlib
from types import SimpleNamespace

from minimix import kernels
from minimix.kernels.dispatch import sibling

KERNELS = {name: k for name, k in vars(kernels).items() if hasattr(k, "reference")}


def compiled_form(kernel):
    module = importlib.import_module(sibling(kernel.reference.__module__))
    return getattr(module, kernel.__name__)


compiled = SimpleNamespace(**{name: compiled_form(k) for name, k in KERNELS.items()})
