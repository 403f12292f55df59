"""The kernels in Numba: the names, modules and signatures of `minimix.kernels.reference`.

    simd.py        vectors as values: what the kernels are written in
    matmul.py      matrix products
    depthwise.py   depthwise convolution and its gradients
    activation.py  norm.py  adamw.py   passes over memory
    fused.py       a ConvMixer's layers in as few passes as possible
    rows.py        chunks of rows, and sums over them in a fixed order
    _jit.py        compiling and caching;  memory.py  where results are put

They are called through `minimix.kernels.dispatch` alone, which lets nothing pass that they do not
take: arrays of one dtype, float32 or float64, none of them empty, whose shapes fit together. Arrays
of any layout are taken; those that are not contiguous are copied first. Results have the same bits
for any number of threads.
"""

from .memory import keep_freed_memory

keep_freed_memory()
