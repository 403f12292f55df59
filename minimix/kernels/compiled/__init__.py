"""The kernels in Numba: the names, modules and signatures of `minimix.kernels.reference`.

They are written in the language that `minimix.kernels.simd` explains, and called through
`minimix.kernels.dispatch` alone, which lets nothing pass that they do not take: arrays of one
dtype, float32 or float64, none of them empty, whose shapes fit together. Arrays of any layout are
taken; those that are not contiguous are copied first. Results have the same bits for any number of
threads.
"""

from ..simd.memory import keep_freed_memory

keep_freed_memory()
