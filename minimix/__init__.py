"""minimix: a tiny deep-learning framework in NumPy and Numba, small enough to read end to end.

    import minimix as mx

    model = mx.ConvMixer(hidden_dim=128, depth=4, kernel_size=5, patch_size=2, n_classes=10)
    optimizer = mx.AdamW(model.parameters(), lr=0.01)
    loss = mx.functional.cross_entropy(model(mx.Tensor(images)), labels)
    loss.backward()
    optimizer.step()

Importing it imports NumPy and nothing else; kernels are compiled when one is first called, and
`mx.data`, `mx.train`, `mx.load` and `mx.load_model` are imported when they are first asked for.

Your process stays as it is: signal handlers, warnings, matplotlib's settings, NumPy's random
numbers and its treatment of errors are the same after each call. Two things are not: the compiled
kernels ask the C library of Linux to keep freed memory, and Linux for large pages
(MINIMIX_MALLOPT=0 stops that), and `mx.kernels.set_num_threads`, if you call it, sets the threads
of NumPy's OpenBLAS as well.
"""

import importlib
from typing import TYPE_CHECKING, Any

from . import functional, kernels, models, nn, optim
from .autograd import Tensor, no_grad, op
from .cost import summary
from .fuse import fuse
from .gradcheck import gradcheck
from .interop import from_torch, load_weights, save_weights, to_torch
from .kernels import backend
from .models import ConvMixer
from .nn import Module, Parameter
from .optim import SGD, AdamW
from .version import __version__

if TYPE_CHECKING:
    from . import data, train
    from .train import load, load_model

__all__ = [
    "SGD",
    "AdamW",
    "ConvMixer",
    "Module",
    "Parameter",
    "Tensor",
    "__version__",
    "backend",
    "data",
    "from_torch",
    "functional",
    "fuse",
    "gradcheck",
    "kernels",
    "load",
    "load_model",
    "load_weights",
    "models",
    "nn",
    "no_grad",
    "op",
    "optim",
    "save_weights",
    "summary",
    "to_torch",
    "train",
]


def __getattr__(name: str) -> Any:
    """`data`, `train`, `load` and `load_model`, which need more than NumPy."""
    if name in ("data", "train"):
        return importlib.import_module(f"{__name__}.{name}")
    if name in ("load", "load_model"):
        return getattr(importlib.import_module(f"{__name__}.train"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
