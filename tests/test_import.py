"""`import minimix` is light, and everything works where Numba cannot be imported."""

import importlib.metadata
import importlib.util
import json
import os
import statistics
import subprocess
import sys

import pytest

import minimix

HEAVY = ["numba", "llvmlite", "matplotlib", "tqdm", "safetensors", "PIL", "torch"]


def python(code, **environment):
    """What a fresh interpreter prints when it runs `code`, as JSON."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_importing_imports_nothing_heavy():
    loaded = python("import json, sys, minimix; print(json.dumps(list(sys.modules)))")
    assert "minimix.functional" in loaded
    assert "numpy" in loaded
    assert not set(HEAVY) & set(loaded)
    assert "minimix.kernels.compiled" not in loaded


def test_the_rooms_that_need_more_are_there_when_asked_for():
    code = """
import json, sys
import minimix as mx
before = "minimix.train" in sys.modules
print(json.dumps([before, mx.data.load.__name__, mx.train.__name__, mx.__version__, dir(mx)]))
"""
    before, load, train, version, names = python(code)
    assert (before, load, train) == (False, "load", "minimix.train")
    assert version == importlib.metadata.version("minimix")
    assert {"data", "train", "load_model", "ConvMixer"} <= set(names)
    assert minimix.load_model is minimix.train.load_model
    with pytest.raises(AttributeError, match="module 'minimix' has no attribute 'attic'"):
        _ = minimix.attic


def test_importing_takes_little_more_than_importing_numpy(tmp_path):
    code = """
import time
start = time.process_time()
import numpy
middle = time.process_time()
import minimix
print((time.process_time() - middle) / (middle - start))
"""
    # Compiled to bytecode once, as an installation is, whatever this environment says about that.
    bytecode = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path)}
    python(code, **bytecode)
    # About 0.4, of processor time, which other processes disturb least; with Numba it would be 2.
    assert statistics.median(python(code, **bytecode) for _ in range(5)) < 1


WITHOUT_NUMBA = """
import json, sys
for name in ("numba", "llvmlite"):
    sys.modules[name] = None  # importing it raises ImportError
import numpy as np
import minimix as mx
rng = np.random.default_rng(0)
model = mx.ConvMixer(8, 1, 3, 2, 4, rng=0)
optimizer = mx.AdamW(model.parameters(), lr=0.02)
x, labels = mx.Tensor(rng.standard_normal((16, 8, 8, 3)).astype(np.float32)), np.arange(16) % 4
losses = []
for _ in range(30):
    optimizer.zero_grad()
    loss = mx.functional.cross_entropy(model(x), labels)
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
print(json.dumps([losses[0], losses[-1], mx.kernels.backend_name()]))
"""


def test_a_back_end_that_is_not_there_is_named(monkeypatch):
    from minimix import kernels

    before = kernels.backend_name()
    with pytest.raises(ValueError, match="the back end is 'fortran'; it can be 'numba' or 'numpy'"):
        kernels.backend("fortran").__enter__()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="is 'numba', which is not installed; use 'numpy'"):
        kernels.backend("numba").__enter__()
    assert kernels.backend_name() == before


@pytest.mark.parametrize("wanted", ["numpy", ""])
def test_it_trains_where_numba_cannot_be_imported(wanted):
    first, last, backend = python(WITHOUT_NUMBA, MINIMIX_BACKEND=wanted)
    assert backend == "numpy"
    assert last < first / 3
