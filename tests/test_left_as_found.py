"""What minimix does in a process leaves the process as it was, but for what its docstrings say."""

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# Everything in a process that several libraries share, before and after all that minimix can do.
EVERYTHING = """
import ctypes, faulthandler, gc, json, locale, logging, os, random, signal, sys, warnings
from pathlib import Path
import matplotlib, numpy as np
from PIL import Image, ImageFile
import minimix as mx

def blas():
    library = ctypes.CDLL(np.linalg._umath_linalg.__file__)
    return getattr(library, "scipy_openblas_get_num_threads64_", lambda: None)()

def shared():
    found = {
        "signals": {s.name: repr(signal.getsignal(s)) for s in signal.Signals},
        "timers": [signal.getitimer(t) for t in (signal.ITIMER_REAL, signal.ITIMER_PROF)],
        "environment": dict(os.environ),
        "working directory": os.getcwd(),
        "umask": os.umask(0o022),
        "errors of NumPy": np.geterr(),
        "printing of NumPy": np.get_printoptions(),
        "random numbers": [repr(np.random.get_state()), repr(random.getstate())],
        "warnings": repr(warnings.filters),
        "paths": sys.path,
        "hooks": [repr(h) for h in (sys.excepthook, sys.displayhook, sys.gettrace())],
        "streams": [(id(s), s.errors, s.encoding) for s in (sys.stdout, sys.stderr, sys.stdin)],
        "recursion limit": sys.getrecursionlimit(),
        "switch interval": sys.getswitchinterval(),
        "garbage collector": [gc.isenabled(), gc.get_threshold(), gc.get_freeze_count()],
        "faulthandler": faulthandler.is_enabled(),
        "locale": locale.setlocale(locale.LC_ALL),
        "logging": [logging.root.level, repr(logging.root.handlers), logging.root.manager.disable],
        "matplotlib": [repr(dict(matplotlib.rcParams)), matplotlib.get_backend()],
        "Pillow": [Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES],
        "threads": [mx.kernels.get_num_threads(), blas()],
        "affinity": sorted(os.sched_getaffinity(0)),
        "denormal numbers": float(np.float64(5e-324) * np.ones(9)[3]),
    }
    os.umask(found["umask"])
    return json.loads(json.dumps(found))

# A process in which nothing is as usual.
matplotlib.use("svg")
os.umask(0o027)
np.seterr(over="raise", under="warn")
warnings.filterwarnings("error", category=FutureWarning)
signal.signal(signal.SIGINT, lambda *_: None)
signal.signal(signal.SIGUSR1, lambda *_: None)
random.seed(1), np.random.seed(2)
mx.kernels.set_num_threads(2)
rng = np.random.default_rng(0)
for name in ("a", "b"):
    Path("photos", name).mkdir(parents=True)
    for i in range(90):
        pixels = rng.integers(256, size=(9, 9), dtype=np.uint8)
        image = Image.fromarray(pixels).convert("P")
        # Pillow warns of palettes with transparency of this kind.
        image.save(f"photos/{name}/{i}.png", transparency=b"\\x00\\x80")

before = shared()
data = mx.data.load("photos", image_size=8)
mx.train.fit("convmixer", data, out="run", epochs=1, batch_size=32, quiet=True,
             hidden_dim=4, depth=1, patch_size=4, kernel_size=3, threads=3, validation=20)
mx.load("run").predict(data.test_images)
mx.gradcheck(lambda x: (x * x).sum(), rng.standard_normal((2, 2)))
from minimix.report import report
report([Path("run")], say=lambda line: None)
after = shared()
print(json.dumps({what: [before[what], after[what]] for what in before
                  if before[what] != after[what]}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks at what Linux has")
def test_a_process_is_as_it_was_found(tmp_path):
    environment = {**os.environ, "MINIMIX_BACKEND": "numpy", "MINIMIX_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", EVERYTHING],
        env=environment, cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout[done.stdout.index("{") :]) == {}


ALLOCATOR = """
import ctypes
import numpy as np
from minimix.kernels.simd.memory import keep_freed_memory

class Counts(ctypes.Structure):  # mallinfo2's; hblks: arrays that are mapped by themselves
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks rest".split()]
    _fields_ += [(f"more{i}", ctypes.c_size_t) for i in range(5)]

def has_large_pages(x):  # whether they are asked for where the middle of x lies
    inside = False
    for line in open("/proc/self/smaps"):
        words = line.split()
        if "-" in words[0]:
            first, last = (int(end, 16) for end in words[0].split("-"))
            inside = first <= x.ctypes.data + x.nbytes // 2 < last
        elif inside and words[0] == "VmFlags:":
            return "hg" in words

mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Counts
keep_freed_memory()  # as the first compiled kernel does
asked = has_large_pages(np.empty(1 << 20, np.uint8))  # NumPy asks where an array has 4 MiB
before = mallinfo().hblks
large = np.empty(1 << 26, np.uint8)
print(mallinfo().hblks - before, asked)
"""


@pytest.mark.parametrize(
    ("settings", "mapped"),
    [
        ({}, 0),
        ({"MINIMIX_MALLOPT": "0"}, 1),
        ({"MALLOC_TRIM_THRESHOLD_": "1000000"}, 1),
        ({"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=1000000"}, 1),
    ],
)
def test_the_allocator_is_left_alone_where_that_is_asked_for(settings, mapped):
    if not hasattr(ctypes.CDLL(None), "mallinfo2"):
        pytest.skip("a C library without mallinfo2")
    asked = not mapped and Path("/sys/kernel/mm/transparent_hugepage").exists()  # Linux has them
    mine = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES" and "MALLO" not in k}
    done = subprocess.run(
        [sys.executable, "-c", ALLOCATOR],
        env=mine | settings, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, f"{mapped} {asked}\n"), done.stderr
