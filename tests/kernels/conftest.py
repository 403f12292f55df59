import pytest

pytest.importorskip("numba", reason="numba is not installed")
