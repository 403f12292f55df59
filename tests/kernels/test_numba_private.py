"""What minimix uses of Numba that is not documented, so that a release without it is named here."""

import ast
import importlib
from pathlib import Path

import numba
import pytest

import minimix

ASKED = [
    ("numba.core.caching", "NullCache"),
    ("numba.core.compiler", "CompileResult"),
    ("numba.core.compiler", "CompileResult._reduce"),
    ("numba.core.compiler", "CompileResult._rebuild"),
    ("numba.core.codegen", "JITCodeLibrary"),
    ("numba.core.codegen", "JITCodeLibrary._get_module_for_linking"),
    ("numba.core.codegen", "JITCodeLibrary._optimize_final_module"),
    ("numba.core.compiler", "CompilerBase"),
    ("numba.core.compiler", "DefaultPassBuilder"),
    ("numba.core.compiler", "DefaultPassBuilder.define_nopython_pipeline"),
    ("numba.core.compiler_machinery", "register_pass"),
    ("numba.core.registry", "CPUDispatcher"),
    ("numba.core.registry", "CPUDispatcher.add_overload"),
    ("numba.core.typed_passes", "NativeLowering"),
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
    found = importlib.import_module(module)
    for part in name.split("."):
        assert hasattr(found, part), f"Numba {numba.__version__} has no {module}.{name}"
        found = getattr(found, part)


def test_a_dispatcher_still_keeps_its_cache():
    what = f"Numba {numba.__version__}: a dispatcher has no _cache"
    assert hasattr(numba.njit(lambda: None), "_cache"), what


def test_one_module_imports_them_and_all_that_it_imports_is_asked():
    package = Path(minimix.__file__).parent
    imports = {}
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = {(alias.name, "") for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = {(node.module, alias.name) for alias in node.names}
            else:
                continue
            private = {name for name in names if ".".join(name).startswith("numba.core")}
            if private:
                imports.setdefault(path.relative_to(package).as_posix(), set()).update(private)
    assert list(imports) == ["kernels/simd/private.py"]
    asked = {(module, name.partition(".")[0]) for module, name in ASKED}
    assert imports["kernels/simd/private.py"] == asked
