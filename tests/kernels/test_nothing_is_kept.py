"""A kernel lets go of its arrays: Numba keeps for good what it believes to be in use."""

import sys
import tracemalloc

import numpy as np
from back_ends import compiled


def test_a_kernel_lets_go_of_its_queue():
    x = np.ones(2, np.float32)
    compiled.gelu(x)
    tracemalloc.start()  # which knows of the queue: NumPy made it
    try:
        for _ in range(50):
            compiled.gelu(x)
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(1000):
            compiled.gelu(x)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 500 * np.zeros(2, np.int64).nbytes


def test_depthwise_kernels_let_go_of_their_arrays():
    x, w, c = np.ones((2, 3, 5, 7), np.float32), np.ones((3, 3, 7), np.float32), np.ones(7, "f")
    calls = [
        lambda: compiled.depthwise_conv2d(x, w),
        lambda: compiled.depthwise_conv2d_dx(x, w),
        lambda: compiled.depthwise_conv2d_dw(x, x, 3),
        lambda: compiled.mix_places(x, w, c),
        lambda: compiled.infer_convmixer(x, (w,), (np.ones((7, 7), "f"),), np.ones((2, 3, 7), "f")),
        lambda: compiled.mix_layer_norm(x, (c,) * 3, 1e-5, np.ones((7, 7), "f"), (c,) * 3, 1e-5, x),
        lambda: compiled.mix_places_backward(x, x, (c,) * 5, x, w),
    ]
    for call in calls:
        before = sys.getrefcount(x)
        call()
        assert sys.getrefcount(x) == before
