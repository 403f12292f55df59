"""No compiled kernel reads or writes beside its arrays.

Every kernel gets arrays that end, or begin, at a page which must not be touched, and puts its
results into such arrays. It runs in a process of its own: a touch ends that process by a signal.
"""

import functools
import importlib
import mmap
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minimix
from minimix.kernels import set_num_threads
from minimix.kernels.dispatch import sibling
from minimix.kernels.reference.conv import result_size

PAGE = mmap.PAGESIZE


def found():
    """Every function under `@kernel` in the package, by name."""
    names = [m.name for m in pkgutil.walk_packages(minimix.__path__, "minimix.")]
    modules = [importlib.import_module(name) for name in names if ".reference." in name]
    return {
        name: thing
        for module in modules
        for name, thing in vars(module).items()
        if hasattr(thing, "reference") and thing.__module__ == module.__name__
    }


# ---- what they are called with: axes of each array, or a whole number, or several in a tuple

AXES = {
    "gelu": ["M C"],
    "gelu_backward": ["M C", "M C"],
    "gelu_tanh": ["M C"],
    "gelu_tanh_backward": ["M C", "M C"],
    "relu": ["M C"],
    "relu_backward": ["M C", "M C"],
    "softmax": ["M C"],
    "softmax_backward": ["M C", "M C"],
    "layer_norm": ["M C", "C", "C", "eps"],
    "layer_norm_backward": ["M C", "M C", "C", "eps"],
    "matmul_stack": ["N M K", "N K C"],
    "attention": ["N H K", "N M K", "N M C"],
    "attention_backward": ["N H K", "N M K", "N M C", "N H C"],
    "depthwise_conv2d": ["N H W C", "k k C"],
    "depthwise_conv2d_dx": ["N H W C", "k k C"],
    "depthwise_conv2d_dw": ["N H W C", "N H W C", "k"],
    "channel_sum": ["M C"],
    "channel_moments": ["M C"],
    "normalize": ["M C", "C", "C", "C", "C"],
    "normalize_relu": ["M C", "C", "C", "C", "C", "M C"],
    "batch_norm_sums": ["M C", "M C", "C", "C"],
    "relu_norm_sums": ["M C", "M C", "M C", "C", "C", "M C"],
    "batch_norm_dx": ["M C", "M C", ("C",) * 5],
    "matmul": ["M K", "K C", "C"],
    "linear": ["M K", "K C", "C", "M C"],
    "linear_backward": ["M K", "M C", "K C", "C", "M K"],
    "mlp": ["M K", "K C", "C", "C K", "K", "M K"],
    "linear_tokens": ["N K C", "K H", "H", "N H C"],
    "linear_tokens_backward": ["N K C", "N H C", "K H", "H", "N K C"],
    "embed": ["M K", "K C", "C"],
    "mix_places": ["N H W C", "k k C", "C"],
    "mix_channels": ["N H W K", "N H W K", "K", "K", "K C", "C"],
    "act_affine": ["N H W C", "C", "C"],
    "act_layer_norm": ["N H W C", ("C",) * 3, "eps", "N H W C"],
    "act_layer_norm_backward": ["N H W C", "N H W C", ("C",) * 3, "eps"],
    "mix_layer_norm": ["N H W K", ("K",) * 3, "eps", "K C", ("C",) * 3, "eps", "N H W K"],
    "mix_layer_norm_backward": [
        "N H W C",
        "N H W C",
        ("C",) * 3,
        "eps",
        "N H W K",
        ("K",) * 3,
        "eps",
        "K C",
        "N H W K",
    ],
    "infer_convmixer": ["N H W C", ("k k C",) * 2, ("C C",) * 2, "4 3 C"],
    "act_norm_sums": ["N H W C", "N H W C", "C", "C"],
    "act_norm_backward": ["N H W C", "N H W C", ("C",) * 5],
    "mix_channels_backward": [
        "N H W C",
        "N H W C",
        ("C",) * 5,
        "N H W K",
        "N H W K",
        ("K",) * 4,
        "K C",
    ],
    "mix_places_backward": ["N H W C", "N H W C", ("C",) * 5, "N H W C", "k k C"],
}

SIZES = [
    {"M": 1, "K": 1, "C": 1, "N": 1, "H": 1, "W": 1, "k": 1},
    {"M": 97, "K": 3, "C": 5, "N": 3, "H": 5, "W": 7, "k": 3},
    {"M": 301, "K": 133, "C": 37, "N": 5, "H": 9, "W": 11, "k": 5},
    {"M": 100, "K": 257, "C": 16, "N": 17, "H": 3, "W": 4, "k": 2},
    {"M": 193, "K": 17, "C": 64, "N": 2, "H": 17, "W": 16, "k": 3},  # read where they lie
    {"M": 95, "K": 63, "C": 32, "N": 3, "H": 9, "W": 8, "k": 5},
    {"M": 5, "K": 11, "C": 19, "N": 2, "H": 6, "W": 13, "k": 14},
    {"M": 397, "K": 37, "C": 41, "N": 3, "H": 3, "W": 3, "k": 3},
]


def arrays(axes, sizes, dtype, rng):
    if isinstance(axes, tuple):
        return tuple(arrays(a, sizes, dtype, rng) for a in axes)
    if axes in ("k", "eps"):
        return sizes["k"] if axes == "k" else 1e-5
    shape = [int(a) if a.isdigit() else sizes[a] for a in axes.split()]
    return rng.uniform(0.5, 1.5, shape).astype(dtype)


def calls_of_networks(name, dtype, rng):
    for sizes in SIZES:
        given = [arrays(axes, sizes, dtype, rng) for axes in AXES[name]]
        yield given
        if name.startswith("linear"):
            yield [*given, "gelu"]
            affine = arrays(("C" if "tokens" in name else "K",) * 2, sizes, dtype, rng)
            yield [*given, "", affine]
            yield [*given[:-1], None, 1e-5, affine, arrays("C", sizes, dtype, rng)]
        if name == "mlp":
            affine, scale = arrays(("K",) * 2, sizes, dtype, rng), arrays("K", sizes, dtype, rng)
            yield [*given, 1e-5, affine]
            yield [*given[:-1], None, "", affine, scale, True]
    if name == "infer_convmixer":
        for p, sizes in ((1, SIZES[0]), (2, SIZES[1]), (3, SIZES[2]), (4, SIZES[4]), (7, SIZES[5])):
            n, h, w, c = (sizes[a] for a in "NHWC")
            shapes = (
                (n, h * p, w * p, 3),
                (sizes["k"], sizes["k"], c),
                (c, c),
                (3, 3, c),
                (p, p, 3, c),
            )
            x, *each = (rng.uniform(0.5, 1.5, shape).astype(dtype) for shape in shapes)
            yield [x, (each[0],), (each[1],), *each[2:]]
            yield [x, (each[0],), (each[1],), *each[2:], np.ones(3, dtype)]
    if name == "matmul_stack":
        for m, k, c in ((3, 1, 2), (65, 19, 33), (7, 1040, 9)):
            a, b = (rng.uniform(0.5, 1.5, (2, n, 3, k)).astype(dtype) for n in (m, c))
            yield [a.swapaxes(1, 2), b.transpose(0, 2, 3, 1)]  # heads of queries and of keys
    if name.startswith("attention"):
        for m, k, c in ((3, 1, 2), (65, 19, 33)):
            shapes = (k, k, c, c) if name == "attention_backward" else (k, k, c)
            yield [rng.uniform(0.5, 1.5, (2, m, 3, n)).astype(dtype).swapaxes(1, 2) for n in shapes]
    if name == "attention_backward":
        for m, k in ((3, 1), (65, 19)):
            qkvg, to = rng.uniform(0.5, 1.5, (2, 4, 2, 3, m, k)).astype(dtype)
            yield [*qkvg, tuple(to[:3])]
    if name == "matmul":
        for m, k, c in ((7, 1031, 9), (13, 200, 31), (40, 3000, 48)):
            a = rng.uniform(0.5, 1.5, (k, m)).astype(dtype)
            yield [a.T, rng.uniform(0.5, 1.5, (k, c)).astype(dtype)]
            yield [
                rng.uniform(-1, 1, (m, k)).astype(dtype),
                rng.uniform(-1, 1, (c, k)).astype(dtype).T,
            ]


def calls_of_adamw(dtype, rng):
    for sizes in ((1,), (3, 17, 70_001, 8), (32_768, 65_537)):
        moved = tuple((*rng.uniform(0.5, 1.5, (4, n)).astype(dtype), 3) for n in sizes)
        yield [moved, 0.1, 0.9, 0.99, 1e-8, 0.1]


def calls_of_pad_crop(dtype, rng):
    for n, h, w, padding, size in ((1, 5, 7, 1, None), (5, 32, 32, 4, None), (3, 9, 8, 3, (5, 11))):
        images = rng.integers(0, 256, (n, h, w, 3), np.uint8)
        cut_h, cut_w = size or (h, w)
        top = rng.integers(0, h + 2 * padding - cut_h + 1, n)
        left = rng.integers(0, w + 2 * padding - cut_w + 1, n)
        for mode in ("zero", "reflect"):
            yield [images, top, left, padding, mode, size]


def calls_of_retouch(dtype, rng):
    from minimix.data.augment.operations import Retouch

    for n, h, w in ((3, 7, 9), (5, 32, 32)):
        images = rng.integers(0, 256, (n, h, w, 3), np.uint8)
        for operation in Retouch:
            parameters = np.zeros((1, 6, n))
            if operation == Retouch.ENLARGE:
                parameters[0, 2:4] = [[h - 2], [w - 1]]
            elif operation in (Retouch.NEAREST, Retouch.BILINEAR, Retouch.BICUBIC):
                parameters[0] = rng.normal([[1], [0], [0], [0], [1], [0]], 0.3 * h, (6, n))
            else:
                parameters[0, 0] = 3
            yield [images, np.full((1, n), int(operation)), parameters, np.ones(3, np.uint8)]


def calls_of_conv2d(name, dtype, rng):
    cases = [
        ((1, 1, 1, 1, 1), (1, 1), 1, 1, 1, (0, 0, 0, 0)),
        ((2, 7, 9, 1, 3), (3, 3), 5, 1, 1, (1, 1, 1, 1)),
        ((3, 6, 5, 2, 17), (2, 3), 19, 2, 1, (0, 1, 3, 0)),
        ((2, 9, 8, 1, 33), (3, 2), 40, 2, 2, (2, 2, 1, 1)),
        ((1, 12, 11, 1, 16), (1, 1), 16, 3, 1, (0, 0, 0, 0)),
        ((2, 8, 8, 1, 130), (3, 3), 32, 1, 1, (1, 1, 1, 1)),
        ((3, 7, 9, 1, 9), (3, 3), 40, 1, 1, (1, 1, 1, 1)),
        ((3, 8, 6, 1, 48), (3, 3), 17, 1, 1, (0, 1, 2, 2)),
        ((2, 9, 13, 1, 33), (3, 3), 70, 1, 1, (5, 3, 4, 0)),  # tiles that see only zeros
        ((2, 4, 3, 1, 5), (2, 1), 3, 5, 2, (3, 0, 0, 4)),
        ((3, 7, 6, 21, 1), (3, 3), 1, 2, 1, (1, 1, 1, 1)),
        ((2, 5, 5, 5, 1), (3, 2), 3, 1, 2, (4, 0, 0, 4)),
        ((2, 5, 5, 16, 1), (3, 3), 1, 1, 1, (1, 1, 1, 1)),
        ((2, 13, 12, 32, 1), (5, 2), 1, 4, 6, (8, 9, 3, 5)),
        ((3, 9, 16, 32, 1), (3, 3), 1, 2, 1, (1, 1, 1, 1)),
        ((1, 5, 47, 64, 1), (5, 5), 1, 2, 1, (2, 2, 2, 2)),
        ((2, 24, 22, 2, 3), (3, 2), 17, 2, 3, (1, 2, 3, 0)),
        ((3, 4, 53, 1, 5), (2, 5), 37, 2, 1, (0, 1, 2, 3)),
        ((1, 6, 28, 1, 1), (5, 5), 16, 1, 1, (0, 0, 0, 0)),
        ((9, 8, 6, 1, 17), (3, 3), 41, 1, 1, (1, 1, 1, 1)),
        ((9, 14, 13, 1, 17), (3, 5), 41, 2, 1, (1, 1, 1, 1)),
        ((9, 8, 6, 1, 17), (1, 1), 41, 1, 1, (0, 0, 0, 0)),
    ]
    for shape, kernel, d, *options in cases:
        size = result_size(shape[1:3], kernel, *options)
        x = rng.uniform(0.5, 1.5, shape).astype(dtype)
        w = rng.uniform(0.5, 1.5, (*kernel, shape[4], shape[3], d)).astype(dtype)
        g = rng.uniform(0.5, 1.5, (shape[0], *size, shape[3], d)).astype(dtype)
        yield {
            "conv2d": [x, w, *options, g[0, 0, 0]],
            "conv2d_dx": [g, w, shape[1:3], *options],
            "conv2d_dw": [x, g, kernel, *options],
        }[name]


def calls_of_conv2d_relu(dtype, rng):
    for shape, kernel, d, stride, padding in (
        ((2, 5, 4, 3), (3, 3), 7, 1, 1),
        ((2, 7, 6, 17), (3, 2), 41, 2, 1),
        ((3, 4, 5, 113), (1, 1), 37, 1, 0),
        ((9, 7, 7, 33), (1, 1), 37, 1, 0),
        ((9, 8, 6, 17), (3, 3), 41, 1, 1),
        ((9, 14, 13, 17), (5, 3), 41, 2, 1),
        ((1, 5, 29, 3), (3, 3), 19, 1, 1),
        ((2, 5, 5, 1), (3, 3), 3, 1, 1),
    ):
        size = result_size(shape[1:3], kernel, stride, 1, (padding,) * 4)
        x = rng.uniform(0.5, 1.5, shape).astype(dtype)
        w = rng.uniform(0.5, 1.5, (*kernel, shape[3], d)).astype(dtype)
        norm = tuple(rng.uniform(0.5, 1.5, (4, d)).astype(dtype))
        yield [x, w, stride, padding, norm]
        yield [
            x,
            w,
            stride,
            padding,
            norm,
            rng.uniform(0.5, 1.5, (shape[0], *size, d)).astype(dtype),
        ]


def calls_of_pooling(name, dtype, rng):
    for (n, h, v, c), *how in (
        ((2, 5, 7, 3), 2, 2, 0),
        ((3, 8, 6, 33), 3, 2, 1),
        ((1, 4, 4, 16), 4, 1, 2),
        ((2, 9, 5, 1), 2, 3, 1),
        ((2, 9, 17, 37), 3, 2, 1),
    ):
        size, stride, padding = how
        x = rng.uniform(0.5, 1.5, (n, h, v, c)).astype(dtype)
        counts = [(length + 2 * padding - size) // stride + 1 for length in (h, v)]
        g = rng.uniform(0.5, 1.5, (n, *counts, c)).astype(dtype)
        chosen = rng.integers(0, size * size, g.shape).astype(dtype)
        yield {
            "max_pool2d": [x, *how],
            "max_pool2d_dx": [g, chosen, (h, v), *how],
            "avg_pool2d": [x, *how],
            "avg_pool2d_dx": [g, (h, v), *how],
        }[name]


def calls_of_patches(name, dtype, rng):
    for n, rows, columns, p, c in (
        (1, 1, 1, 1, 1),
        (3, 5, 7, 2, 3),
        (2, 3, 4, 3, 33),
        (5, 1, 9, 4, 16),
    ):
        image, patches = (n, rows * p, columns * p, c), (n, rows, columns, p * p * c)
        shape = image if name == "cut_patches" else patches
        yield [rng.uniform(0.5, 1.5, shape).astype(dtype), p]


PATCHES = "cut_patches", "join_patches"
POOLING = "max_pool2d", "max_pool2d_dx", "avg_pool2d", "avg_pool2d_dx"

OTHERS = {
    "adamw_update": calls_of_adamw,
    "pad_crop": calls_of_pad_crop,
    "retouch": calls_of_retouch,
    "conv2d_relu": calls_of_conv2d_relu,
    **{name: functools.partial(calls_of_patches, name) for name in PATCHES},
    **{name: functools.partial(calls_of_pooling, name) for name in POOLING},
    **{
        name: functools.partial(calls_of_conv2d, name)
        for name in ("conv2d", "conv2d_dx", "conv2d_dw")
    },
}


def calls(name, dtype, rng):
    return OTHERS[name](dtype, rng) if name in OTHERS else calls_of_networks(name, dtype, rng)


def test_every_kernel_has_a_case():
    assert set(found()) == set(AXES) | set(OTHERS)


# ---- the child: python test_guard_pages.py end|begin float32|float64


def guarded(shape, dtype, side):
    """An empty array that ends, or begins, where the page beside must not be touched."""
    import ctypes

    dtype = np.dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    pages = -(-size // PAGE) * PAGE
    memory = mmap.mmap(-1, pages + 2 * PAGE)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    libc = ctypes.CDLL(None, use_errno=True)
    for at in (start, start + PAGE + pages):
        if libc.mprotect(ctypes.c_void_p(at), ctypes.c_size_t(PAGE), 0):  # PROT_NONE
            raise OSError(ctypes.get_errno(), "mprotect")
    return np.ndarray(shape, dtype, memory, PAGE + (pages - size if side == "end" else 0))


def guard(value, side):
    """The same argument in guarded memory, in the same order of axes."""
    if isinstance(value, tuple):
        return tuple(guard(v, side) for v in value)
    if not isinstance(value, np.ndarray):
        return value
    order = np.argsort([-step for step in value.strides], kind="stable")
    copy = guarded([value.shape[axis] for axis in order], value.dtype, side)
    copy[...] = value.transpose(order)
    return copy.transpose(np.argsort(order))


def in_float64(value):
    if isinstance(value, tuple):
        return tuple(map(in_float64, value))
    floats = isinstance(value, np.ndarray) and value.dtype.kind == "f"
    return value.astype(np.float64) if floats else value


def results(given, value):
    """What a kernel gives: its result or, where there is none, what became of its arguments."""
    if value is None:
        return [a for each in given[0] for a in each[:4]]
    return list(value) if isinstance(value, tuple) else [value]


def put_results_into_guarded_memory(side):
    from minimix.kernels.simd import memory

    empty, empty_like = memory.empty, memory.empty_like
    own = {
        empty: lambda shape, dtype: guarded(shape, dtype, side),
        empty_like: lambda x: guarded(x.shape, x.dtype, side),
    }
    patched = 0
    for module in [m for name, m in sys.modules.items() if ".compiled" in name or ".simd" in name]:
        for name in ("empty", "empty_like"):
            if vars(module).get(name) in own:
                setattr(module, name, own[vars(module)[name]])
                patched += 1
    assert patched > 5


def child(side, dtype):
    every = found()
    compiled = {
        name: getattr(importlib.import_module(sibling(k.reference.__module__)), name)
        for name, k in every.items()
    }
    put_results_into_guarded_memory(side)
    tolerance = 1e-4 if dtype == np.float32 else 1e-10
    for name, kernel in every.items():
        rng = np.random.default_rng(0)
        for i, given in enumerate(calls(name, dtype, rng)):
            for threads in (1, 3, 8) if i % 2 else (2, 5):
                print(f"{name}, call {i}, {threads} threads", flush=True)
                set_num_threads(threads)
                mine = [guard(a, side) for a in given]
                got = results(mine, compiled[name](*mine))
                truth = [in_float64(a) for a in given]
                expected = results(truth, kernel.reference(*truth))
                for a, b in zip(got, expected, strict=True):
                    largest = max(1.0, float(np.abs(b).max()))
                    np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * largest)
    print("all")


@pytest.mark.skipif(
    os.name != "posix", reason="pages are forbidden by mprotect, which this system does not have"
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("side", ["end", "begin"])
def test_no_kernel_touches_what_is_beside_its_arrays(side, dtype):
    pytest.importorskip("numba")
    command = [sys.executable, __file__, side, dtype]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    said = done.stdout.splitlines()
    assert done.returncode == 0, f"{said[-1:]}: exit {done.returncode}; {done.stderr[-2000:]}"
    assert said[-1] == "all"


def test_a_touch_is_noticed():
    """The guard itself: reading one number too far ends the process."""
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import ctypes, numpy as np, test_guard_pages as t\n"
        "a = t.guarded((5,), np.float64, 'SIDE'); a[:] = 1\n"
        "print('before', flush=True)\n"
        "ctypes.c_double.from_address(a.ctypes.data + OFFSET).value\n"
        "print('after')\n"
    )
    for side, offset in (("end", 40), ("begin", -8)):
        text = code.replace("SIDE", side).replace("OFFSET", str(offset))
        done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True)
        assert done.stdout == "before\n", done.stderr
        assert done.returncode < 0


if __name__ == "__main__":
    child(sys.argv[1], np.dtype(sys.argv[2]).type)
