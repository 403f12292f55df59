"""Where the time goes. A kernel's name leads to `reference/`, which says what it means.

    reference/    what each kernel means, in NumPy
    compiled/     the same names in Numba, fast
    dispatch.py   how a name finds the one or the other: `@kernel`, `backend`
    simd/         the language that the compiled ones are written in

Nothing is imported from Numba, or compiled, before a kernel is first called. Then, on Linux, the C
library is asked to reuse the memory of large arrays instead of giving it back to the system, and
the system for large pages, which speeds up training and makes a process keep its peak of memory;
MINIMIX_MALLOPT=0 in the environment leaves both as they are. `set_num_threads` sets the threads of
NumPy's OpenBLAS, too.
"""

from .dispatch import BACKENDS as BACKENDS
from .dispatch import backend as backend
from .dispatch import backend_name as backend_name
from .reference.activation import gelu as gelu
from .reference.activation import gelu_backward as gelu_backward
from .reference.activation import gelu_tanh as gelu_tanh
from .reference.activation import gelu_tanh_backward as gelu_tanh_backward
from .reference.activation import relu as relu
from .reference.activation import relu_backward as relu_backward
from .reference.adamw import adamw_update as adamw_update
from .reference.attention import attention as attention
from .reference.attention import attention_backward as attention_backward
from .reference.conv import conv2d as conv2d
from .reference.conv import conv2d_dw as conv2d_dw
from .reference.conv import conv2d_dx as conv2d_dx
from .reference.conv import conv2d_relu as conv2d_relu
from .reference.depthwise import depthwise_conv2d as depthwise_conv2d
from .reference.depthwise import depthwise_conv2d_dw as depthwise_conv2d_dw
from .reference.depthwise import depthwise_conv2d_dx as depthwise_conv2d_dx
from .reference.fused import act_affine as act_affine
from .reference.fused import act_layer_norm as act_layer_norm
from .reference.fused import act_layer_norm_backward as act_layer_norm_backward
from .reference.fused import act_norm_backward as act_norm_backward
from .reference.fused import act_norm_sums as act_norm_sums
from .reference.fused import embed as embed
from .reference.fused import infer_convmixer as infer_convmixer
from .reference.fused import mix_channels as mix_channels
from .reference.fused import mix_channels_backward as mix_channels_backward
from .reference.fused import mix_layer_norm as mix_layer_norm
from .reference.fused import mix_layer_norm_backward as mix_layer_norm_backward
from .reference.fused import mix_places as mix_places
from .reference.fused import mix_places_backward as mix_places_backward
from .reference.matmul import matmul as matmul
from .reference.matmul import product as product
from .reference.norm import batch_norm_dx as batch_norm_dx
from .reference.norm import batch_norm_sums as batch_norm_sums
from .reference.norm import channel_moments as channel_moments
from .reference.norm import channel_sum as channel_sum
from .reference.norm import normalize as normalize
from .reference.norm import normalize_relu as normalize_relu
from .reference.norm import relu_norm_sums as relu_norm_sums
from .reference.patches import cut_patches as cut_patches
from .reference.patches import join_patches as join_patches
from .reference.pool import avg_pool2d as avg_pool2d
from .reference.pool import avg_pool2d_dx as avg_pool2d_dx
from .reference.pool import max_pool2d as max_pool2d
from .reference.pool import max_pool2d_dx as max_pool2d_dx
from .reference.rowwise import layer_norm as layer_norm
from .reference.rowwise import layer_norm_backward as layer_norm_backward
from .reference.rowwise import softmax as softmax
from .reference.rowwise import softmax_backward as softmax_backward
from .reference.stack import matmul_stack as matmul_stack
from .reference.tokens import linear as linear
from .reference.tokens import linear_backward as linear_backward
from .reference.tokens import linear_tokens as linear_tokens
from .reference.tokens import linear_tokens_backward as linear_tokens_backward
from .reference.tokens import mlp as mlp
from .simd import threads as threads
from .simd.threads import get_num_threads as get_num_threads
from .simd.threads import set_num_threads as set_num_threads
from .simd.threads import using_threads as using_threads
