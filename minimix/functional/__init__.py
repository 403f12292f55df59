"""The differentiable operations: tensors in, tensors out; forward, mathematics, backward.

Each `op` is also reachable for plain arrays: `gelu.array(x)` returns `(y, backward)`.

Where a derivative does not exist, or what goes in is not finite, this is what comes out. A test
reads the table and holds it.

    y                              at x          y           its gradient
    -----------------------------  ------------  ----------  -------------
    relu(x)                        0             0           0
    relu(x)                        nan           nan         1
    abs(x)                         0             0           0
    abs(x)                         nan           nan         nan
    maximum(x, [1, 2])             [1, nan]      [1, nan]    [0.5, 1]
    minimum(x, [1, 2])             [1, nan]      [1, nan]    [0.5, 1]
    clip(x, low=0, high=2)         [0, 2, 3]     [0, 2, 2]   [1, 1, 0]
    clip(x, low=0, high=2)         [nan, inf]    [nan, 2]    [1, 0]
    where([1, 0], x, 5)            [nan, inf]    [nan, 5]    [1, 0]
    max(x)                         [2, 2, 1]     2           [0.5, 0.5, 0]
    max(x)                         [nan, 1]      nan         [1, 0]
    min(x)                         [2, 2, 3]     2           [0.5, 0.5, 0]
    max_pool2d(x, size=2)          [[[[1], [2]], [[2], [2]]]]  [[[[2]]]]  [[[[0], [1]], [[0], [0]]]]
    std(x)                         [2, 2]        0           [0, 0]
    sqrt(x)                        0             0           inf
    sqrt(x)                        -1            nan         nan
    sqrt(sum(x * x))               [0, 0]        0           [nan, nan]
    log(x)                         0             -inf        inf
    log(x)                         -1            nan         -1
    divide(1, x)                   0             inf         -inf
    power(x, 0)                    0             1           0
    power(x, 1)                    0             0           1
    power(x, 0.5)                  0             0           inf
    power(x, -1)                   0             inf         -inf
    power(0, x)                    0             1           0
    power(0, x)                    2             0           0
    power(0, x)                    -1            inf         -inf
    power(-2, x)                   2             4           nan
    softmax(x)                     [inf, 0]      [nan, nan]  [nan, nan]
    softmax(x)                     [-inf, -inf]  [nan, nan]  [nan, nan]
    log_softmax(x)                 [0, -inf]     [0, -inf]   [-1, 1]
    cross_entropy(x, [0])          [[0, -inf]]   0           [[0, 0]]
    cross_entropy(x, [1])          [[0, -inf]]   inf         [[1, -1]]
    layer_norm(x, [1, 1], [0, 0])  [3.3, 3.3]    [0, 0]      [0, 0]
"""

from ..autograd import numpys, operations
from . import shape
from .activation import dropout as dropout
from .activation import gelu as gelu
from .activation import log_softmax as log_softmax
from .activation import relu as relu
from .activation import sigmoid as sigmoid
from .activation import softmax as softmax
from .arithmetic import abs as abs
from .arithmetic import add as add
from .arithmetic import clip as clip
from .arithmetic import divide as divide
from .arithmetic import einsum as einsum
from .arithmetic import exp as exp
from .arithmetic import log as log
from .arithmetic import matmul as matmul
from .arithmetic import maximum as maximum
from .arithmetic import minimum as minimum
from .arithmetic import multiply as multiply
from .arithmetic import negative as negative
from .arithmetic import power as power
from .arithmetic import sqrt as sqrt
from .arithmetic import subtract as subtract
from .arithmetic import tanh as tanh
from .arithmetic import where as where
from .attention import attention as attention
from .conv import conv2d as conv2d
from .conv import depthwise_conv2d as depthwise_conv2d
from .conv import linear as linear
from .conv import patchify as patchify
from .conv import pointwise_conv2d as pointwise_conv2d
from .loss import cross_entropy as cross_entropy
from .norm import batch_norm as batch_norm
from .norm import layer_norm as layer_norm
from .pool import avg_pool2d as avg_pool2d
from .pool import global_avg_pool as global_avg_pool
from .pool import max_pool2d as max_pool2d
from .reduce import max as max
from .reduce import mean as mean
from .reduce import min as min
from .reduce import std as std
from .reduce import sum as sum
from .reduce import var as var
from .shape import broadcast_to as broadcast_to
from .shape import concatenate as concatenate
from .shape import flatten as flatten
from .shape import flip as flip
from .shape import index as index
from .shape import pad as pad
from .shape import reshape as reshape
from .shape import split as split
from .shape import squeeze as squeeze
from .shape import stack as stack
from .shape import swapaxes as swapaxes
from .shape import transpose as transpose
from .shape import unbind as unbind
from .shape import unsqueeze as unsqueeze

# Whatever is imported above is an operation: that one line exports it.
operations.update({name: f for name, f in globals().items() if callable(f)})
__all__ = list(operations)

# NumPy's functions that are operations of ours by another name.
numpys.update(absolute=abs, amax=max, amin=min, expand_dims=unsqueeze, ravel=flatten)
numpys.update(split=shape.split_at, unstack=unbind)
