"""The kernels in Numba: the same names and signatures as `minimix.kernels.reference`.

    simd.py        vectors as values: what the kernels are written in
    gemm.py        matrix products
    depthwise.py   depthwise convolution and its gradients
    activation.py  norm.py  adamw.py   passes over memory
    mixer.py       a ConvMixer's layers in as few passes as possible
    pictures.py    what pictures go through before they are learned from
    rows.py        chunks of rows, and sums over them in a fixed order
    _jit.py        compiling and keeping;  memory.py  where results are put

Results have the same bits for any number of threads. Arrays of any layout are taken; those that
are not contiguous are copied first.
"""

from .activation import gelu, gelu_backward, gelu_tanh, gelu_tanh_backward
from .adamw import adamw_update
from .depthwise import depthwise_conv2d, depthwise_conv2d_dw, depthwise_conv2d_dx
from .gemm import matmul
from .memory import keep_freed_memory
from .mixer import (
    embed,
    gelu_affine,
    gelu_norm_backward,
    gelu_norm_sums,
    infer_channels,
    infer_places,
    mix_channels,
    mix_channels_backward,
    mix_places,
    mix_places_backward,
)
from .norm import batch_norm_backward, channel_moments, channel_sum, normalize
from .pictures import pad_crop, retouch

__all__ = [
    "adamw_update", "batch_norm_backward", "channel_moments", "channel_sum", "depthwise_conv2d",
    "depthwise_conv2d_dw", "depthwise_conv2d_dx", "embed", "gelu", "gelu_affine",
    "gelu_backward", "gelu_norm_backward", "gelu_norm_sums", "gelu_tanh", "gelu_tanh_backward",
    "infer_channels", "infer_places", "matmul", "mix_channels", "mix_channels_backward",
    "mix_places", "mix_places_backward", "normalize", "pad_crop", "retouch",
]  # fmt: skip

keep_freed_memory()
