"""What minimix uses of Numba that is not documented, so that a release without it is named here."""

import numba
import pytest

ASKED = [
    ("numba.core.caching", "NullCache"),
    ("numba.core.compiler", "CompileResult"),
    ("numba.core.compiler", "CompileResult._reduce"),
    ("numba.core.compiler", "CompileResult._rebuild"),
    ("numba.core.serialize", "dumps"),
    ("numba.core.cgutils", "get_or_insert_function"),
    ("numba.core.cgutils", "create_struct_proxy"),
    ("numba.core.datamodel.models", "PrimitiveModel"),
    ("numba.core.typeconv", "Conversion.unsafe"),
    ("numba.core.typing.templates", "AbstractTemplate"),
    ("numba.core.typing.templates", "infer_global"),
    ("numba.core.typing.templates", "signature"),
]


@pytest.mark.parametrize(("module", "name"), ASKED)
def test_numba_still_has(module, name):
    found = __import__(module, fromlist=["_"])
    for part in name.split("."):
        assert hasattr(found, part), f"Numba {numba.__version__} has no {module}.{name}"
        found = getattr(found, part)
