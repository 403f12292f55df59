"""Compiled code is kept per user, is never stale, and survives damage; and it is vector code."""

import os
import platform
import re
import subprocess
import sys

import numba
import numpy as np
import pytest

from minimix.data.augment.compiled import retouch
from minimix.kernels.compiled import activation, adamw, depthwise, matmul, norm, rowwise
from minimix.kernels.simd import jit
from minimix.kernels.simd.private import NullCache

CODE = (
    "import numpy as np\n"
    "from minimix import kernels\n"
    "print(round(float(kernels.gelu(np.ones(3, np.float32))[0]), 5))\n"
)


def run(cache, code=CODE):
    environment = {**os.environ, "MINIMIX_CACHE_DIR": str(cache), "MINIMIX_BACKEND": "numba"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "0.84134\n"
    return done.stderr.splitlines()


def test_compiled_once_then_kept(tmp_path):
    first = run(tmp_path)
    assert len(first) == 1
    assert first[0].startswith(f"minimix: compiling kernels (once; kept in {tmp_path}")
    assert run(tmp_path) == []


@pytest.mark.parametrize(
    "damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b[:-9] + bytes(9)]
)
def test_a_damaged_file_is_rebuilt(tmp_path, damage):
    run(tmp_path)
    kept = [p for p in tmp_path.rglob("*") if p.is_file()]
    assert kept
    for path in kept:
        path.write_bytes(damage(path.read_bytes()))
    assert len(run(tmp_path)) == 1
    assert run(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_one_line_and_no_obstacle(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    lines = run(blocked / "cache")
    assert [line for line in lines if "cannot keep compiled kernels" in line] == lines[1:]
    assert len(lines) == 2


def test_nothing_is_half_written(tmp_path):
    run(tmp_path)
    assert not list(tmp_path.rglob("tmp*"))


def test_another_source_is_another_folder(monkeypatch, tmp_path):
    before = jit._fingerprint()
    assert before == jit._fingerprint()
    (tmp_path / "kernel.py").write_text("x = 1")
    monkeypatch.setattr(jit, "__file__", str(tmp_path / "simd" / "jit.py"))
    changed = jit._fingerprint()
    (tmp_path / "kernel.py").write_text("x = 2")
    assert len({before, changed, jit._fingerprint()}) == 3


def test_importing_minimix_compiles_nothing():
    code = "import minimix, sys; raise SystemExit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


# ---- packed instructions: several numbers at once, multiplied or fused

PACKED = {
    "x86_64": {
        4: r"\bv?(mul|fmadd\d+|fmsub\d+|fnmadd\d+)ps\b",
        8: r"\bv?(mul|fmadd\d+|fmsub\d+|fnmadd\d+)pd\b",
    },
    "aarch64": {4: r"\bf(mul|mla)(\.4s|\tv\d+\.4s)", 8: r"\bf(mul|mla)(\.2d|\tv\d+\.2d)"},
}
PACKED |= {"AMD64": PACKED["x86_64"], "arm64": PACKED["aarch64"]}
ARRAY = {4: numba.float32[::1], 8: numba.float64[::1]}
QUEUE = numba.int64[::1]

KERNELS = [
    (activation._gelu, "qaa"),
    (activation._gelu_tanh, "qaa"),
    (rowwise._softmax, "qaiia"),
    (rowwise._layer_norm(relu=False), "qaiinaafaa"),
    (norm._normalize, "qaiiaaaa"),
    (norm._channel_moments, "qaiiMMa"),
    (adamw._adamw, "qaIIFffff"),
    (matmul._matmul, "qaiiaiaaaaaaf"),
    (depthwise._forward_in_place(5, 1, 2, 2, 1), "qiiaaiiiiia"),
    (depthwise._forward_in_place(3, 2, 1, 0, 2), "qiiaaiiiiia"),
]


def not_kept(function, **options):
    """A kernel without a cache: what comes from there has no listing."""
    fresh = jit.kernel(function, **options)
    fresh._cache = NullCache()
    return fresh


@pytest.mark.skipif(platform.machine() not in PACKED, reason="an unknown instruction set")
@pytest.mark.parametrize("size", [4, 8])
@pytest.mark.parametrize(("kernel", "kinds"), KERNELS, ids=lambda x: getattr(x, "__name__", ""))
def test_packed_instructions(kernel, kinds, size):
    kind = {
        "q": QUEUE,
        "a": ARRAY[size],
        "i": numba.int64,
        "f": numba.float64,
        "n": numba.none,
        "I": numba.int64[:, ::1],
        "F": numba.float64[:, ::1],
        "M": ARRAY[8],
    }
    signature = tuple(kind[letter] for letter in kinds)
    fresh = not_kept(kernel.py_func)
    fresh.compile(signature)
    listing = fresh.inspect_asm(fresh.signatures[0])
    assert re.search(PACKED[platform.machine()][size], listing)


@pytest.mark.skipif(platform.machine() not in PACKED, reason="an unknown instruction set")
@pytest.mark.parametrize("kernel", [retouch._saturate, retouch._sharpen], ids=lambda x: x.__name__)
def test_pictures_packed_and_nothing_fused(kernel):
    images, fill = numba.uint8[:, :, :, ::1], numba.uint8[::1]
    fresh = not_kept(kernel.py_func, **{name: kernel.targetoptions[name] for name in jit.OPTIONS})
    fresh.compile((images, numba.int64[::1], numba.int64, numba.float64[:, ::1], fill))
    listing = fresh.inspect_asm(fresh.signatures[0])
    assert re.search(PACKED[platform.machine()][4], listing)
    assert not re.search(r"\bv?fn?m(add|sub)\d+|\bfmla", listing)


def test_code_is_there_once():
    """In the kernel: a helper has no machine code, and the kernel is not there once more for C."""

    @jit.helper
    def thrice(v):
        return v * 3.25

    @not_kept
    def kernel(x):
        for i in range(x.size):
            x[i] = thrice(x[i])

    x = np.array([1.0, -2.0])
    kernel(x)
    np.testing.assert_array_equal(x, [3.25, -6.5])
    (listing,) = kernel.inspect_llvm().values()
    functions = [text.partition("\n}")[0] for text in listing.split("\ndefine ")[1:]]
    assert len([text for text in functions if "fmul" in text]) == 1
    assert not [text for text in functions if "cfunc." in text.partition("(")[0]]
    (helper,) = thrice.overloads.values()
    assert not helper.library.get_pointer_to_function(helper.fndesc.llvm_func_name)
    with pytest.raises(TypeError, match="thrice is a helper, which only kernels can call"):
        thrice(2.0)


def test_scalar_code_is_told_from_packed():
    @numba.njit
    def scalar(x):
        s = 0.0
        for i in range(x.size):
            s = s * 1.1 + x[i]
        return s

    scalar.compile((ARRAY[8],))
    listing = scalar.inspect_asm(scalar.signatures[0])
    if platform.machine() in PACKED:
        assert not re.search(PACKED[platform.machine()][8], listing)


def test_page_faults_stay_away():
    resource = pytest.importorskip("resource", reason="page faults are not counted here")
    if not sys.platform.startswith("linux") or platform.libc_ver()[0] != "glibc":
        pytest.skip("only glibc can be told to keep memory")
    from minimix import kernels

    x = np.ones((4096, 512), np.float32)  # 8 MiB, which would be mapped afresh for every result
    for _ in range(3):
        kernels.gelu(x)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        kernels.gelu(x)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 200


def test_the_cache_knows_a_kernel_by_its_module_and_that_modules_text(tmp_path):
    def kept(text, module):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.py"
        path.write_text(text)
        space = {"__name__": module}
        exec(compile(text, str(path), "exec"), space)
        return jit._Cache(space["f"])._file(tmp_path, "signature")

    first = kept("def f(x): return g(x)\ndef g(x): return x", "a")
    assert kept("def f(x): return g(x)\ndef g(x): return x", "a") == first
    assert kept("def f(x): return g(x)\ndef g(x): return 2 * x", "a") != first
    assert kept("def f(x): return g(x)\ndef g(x): return x", "b") != first
