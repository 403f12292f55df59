"""What each kernel means, in NumPy: the oracle of the compiled ones, and what runs without Numba.

    network.py   what a network is made of: activations, convolutions, norms, AdamW
    pictures.py  what pictures go through before they are learned from
    geometry.py  colour.py   the single operations of pictures.py

Arrays in, arrays out. Short and obvious comes before fast.
"""

from .geometry import pad_crop
from .network import (
    adamw_update,
    batch_norm_backward,
    channel_moments,
    channel_sum,
    depthwise_conv2d,
    depthwise_conv2d_dw,
    depthwise_conv2d_dx,
    embed,
    erf,
    gelu,
    gelu_affine,
    gelu_backward,
    gelu_norm_backward,
    gelu_norm_sums,
    gelu_tanh,
    gelu_tanh_backward,
    infer_channels,
    infer_places,
    matmul,
    mix_channels,
    mix_channels_backward,
    mix_places,
    mix_places_backward,
    normalize,
)
from .pictures import retouch

__all__ = [
    "adamw_update", "batch_norm_backward", "channel_moments", "channel_sum", "depthwise_conv2d",
    "depthwise_conv2d_dw", "depthwise_conv2d_dx", "embed", "erf", "gelu", "gelu_affine",
    "gelu_backward", "gelu_norm_backward", "gelu_norm_sums", "gelu_tanh", "gelu_tanh_backward",
    "infer_channels", "infer_places", "matmul", "mix_channels", "mix_channels_backward",
    "mix_places", "mix_places_backward", "normalize", "pad_crop", "retouch",
]  # fmt: skip
