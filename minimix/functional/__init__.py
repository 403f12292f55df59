"""The differentiable operations: tensors in, tensors out; forward, mathematics, backward.

Each `op` is also reachable for plain arrays: `gelu.array(x)` returns `(y, backward)`.

Where a derivative does not exist, or what goes in is not finite, this is what comes out. A test
reads the table and holds it.

    y                              at x          y           its gradient
    -----------------------------  ------------  ----------  -------------
    relu(x)                        0             0           0
    relu(x)                        nan           nan         1
    max(x)                         [2, 2, 1]     2           [0.5, 0.5, 0]
    max(x)                         [nan, 1]      nan         [1, 0]
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

from ..autograd import operations
from .activation import dropout as dropout
from .activation import gelu as gelu
from .activation import log_softmax as log_softmax
from .activation import relu as relu
from .activation import sigmoid as sigmoid
from .activation import softmax as softmax
from .arithmetic import add as add
from .arithmetic import divide as divide
from .arithmetic import exp as exp
from .arithmetic import log as log
from .arithmetic import matmul as matmul
from .arithmetic import multiply as multiply
from .arithmetic import negative as negative
from .arithmetic import power as power
from .arithmetic import sqrt as sqrt
from .arithmetic import subtract as subtract
from .arithmetic import tanh as tanh
from .conv import conv2d as conv2d
from .conv import depthwise_conv2d as depthwise_conv2d
from .conv import linear as linear
from .conv import patchify as patchify
from .conv import pointwise_conv2d as pointwise_conv2d
from .loss import cross_entropy as cross_entropy
from .loss import global_avg_pool as global_avg_pool
from .norm import batch_norm as batch_norm
from .norm import layer_norm as layer_norm
from .reduce import max as max
from .reduce import mean as mean
from .reduce import sum as sum
from .shape import concatenate as concatenate
from .shape import index as index
from .shape import pad as pad
from .shape import reshape as reshape
from .shape import transpose as transpose

# Whatever is imported above is an operation: that one line exports it.
operations.update({name: f for name, f in globals().items() if callable(f)})
__all__ = list(operations)
