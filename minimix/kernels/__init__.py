"""Where the time goes: one name per kernel, compiled or reference.

`minimix.kernels.reference` says in NumPy what each kernel means; `minimix.kernels.compiled` has
the same names in Numba. The compiled ones are used where Numba can be imported, unless the
environment says MINIMIX_BACKEND=numpy (or `backend("numpy")` is in force). Nothing is imported or
compiled before the first kernel is called.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, TypeVar

from . import reference
from .retouching import Retouch
from .threads import get_num_threads, set_num_threads

__all__ = [
    "Retouch", "adamw_update", "backend", "backend_name", "batch_norm_backward", "channel_moments",
    "channel_sum", "depthwise_conv2d", "depthwise_conv2d_dw", "depthwise_conv2d_dx", "embed",
    "gelu", "gelu_affine", "gelu_backward", "gelu_norm_backward", "gelu_norm_sums", "gelu_tanh",
    "gelu_tanh_backward", "get_num_threads", "infer_channels", "infer_places", "matmul",
    "mix_channels", "mix_channels_backward", "mix_places", "mix_places_backward", "normalize",
    "pad_crop", "retouch", "set_num_threads",
]  # fmt: skip

BACKENDS = ("numba", "numpy")
_chosen: str | None = None


def backend_name() -> str:
    """The back end in force: "numba" or "numpy".

    ValueError where MINIMIX_BACKEND names another, or asks for a Numba that is not installed.
    """
    global _chosen
    if _chosen is None:
        wanted = os.environ.get("MINIMIX_BACKEND", "")
        fastest = "numba" if importlib.util.find_spec("numba") else "numpy"
        _chosen = _checked(wanted, "MINIMIX_BACKEND") if wanted else fastest
    return _chosen


def _checked(name: str, who: str) -> str:
    if name not in BACKENDS:
        raise ValueError(f"{who} is {name!r}; it can be 'numba' or 'numpy'")
    if name == "numba" and importlib.util.find_spec("numba") is None:
        raise ValueError(f"{who} is 'numba', which is not installed; use 'numpy'")
    return name


@contextmanager
def backend(name: str) -> Iterator[None]:
    """Inside this block kernels run in `name`, "numba" or "numpy" (for the whole process).

    ValueError for another name, and for a Numba that is not installed.
    """
    global _chosen
    before, _chosen = _chosen, _checked(name, "the back end")
    try:
        yield
    finally:
        _chosen = before


def _module() -> ModuleType:
    if backend_name() == "numpy":
        return reference
    return importlib.import_module("minimix.kernels.compiled")


F = TypeVar("F", bound=Callable[..., Any])


def _kernel(meaning: F) -> F:
    """The kernel of that name in whichever back end is in force when it is called."""
    name = meaning.__name__

    @functools.wraps(meaning)
    def call(*args: Any) -> Any:
        return getattr(_module(), name)(*args)

    return call  # type: ignore[return-value]


gelu = _kernel(reference.gelu)
gelu_backward = _kernel(reference.gelu_backward)
gelu_tanh = _kernel(reference.gelu_tanh)
gelu_tanh_backward = _kernel(reference.gelu_tanh_backward)
depthwise_conv2d = _kernel(reference.depthwise_conv2d)
depthwise_conv2d_dx = _kernel(reference.depthwise_conv2d_dx)
depthwise_conv2d_dw = _kernel(reference.depthwise_conv2d_dw)
channel_sum = _kernel(reference.channel_sum)
channel_moments = _kernel(reference.channel_moments)
normalize = _kernel(reference.normalize)
batch_norm_backward = _kernel(reference.batch_norm_backward)
matmul = _kernel(reference.matmul)
adamw_update = _kernel(reference.adamw_update)

# What a fused ConvMixer is made of (functional/fused.py).
embed = _kernel(reference.embed)
mix_places = _kernel(reference.mix_places)
mix_channels = _kernel(reference.mix_channels)
gelu_affine = _kernel(reference.gelu_affine)
infer_places = _kernel(reference.infer_places)
infer_channels = _kernel(reference.infer_channels)
gelu_norm_sums = _kernel(reference.gelu_norm_sums)
gelu_norm_backward = _kernel(reference.gelu_norm_backward)
mix_channels_backward = _kernel(reference.mix_channels_backward)
mix_places_backward = _kernel(reference.mix_places_backward)

# What pictures go through before they are learned from.
pad_crop = _kernel(reference.pad_crop)
retouch = _kernel(reference.retouch)
