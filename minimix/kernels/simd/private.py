"""What is used of Numba that it does not document, in one place, and why.

A release of Numba may take any of it away; tests/kernels/test_numba_private.py says which.

- A cache of our own (jit.py says why). `NullCache` is the class from which it inherits whatever
  else a cache is asked; a dispatcher keeps its cache as `_cache`. What is compiled, a
  `CompileResult`, is saved by its `_reduce` and `dumps`, and loaded by its `_rebuild`.
- Helpers without machine code (parts.py). A function goes through a pipeline of passes
  (`CompilerBase`, `DefaultPassBuilder`, `register_pass`). The last that counts, `NativeLowering`,
  writes LLVM's instructions into a library of code (`JITCodeLibrary`), optimizes it, and makes
  machine code of it for a dispatcher (`CPUDispatcher`).
- Vectors, a type of our own (vectors.py). `numba.extending` defines types and functions. It has no
  way to say that a value is kept in a register as it is (`PrimitiveModel`), what an operator makes
  of new types (`infer_global`, `AbstractTemplate`, `signature`), or that a number counts as a
  vector of equal numbers (`Conversion`).
- How compiled functions are called (work.py). The first two arguments are where to put the result
  and an error, and what is returned says whether there is one. Arrays arrive as their parts, of
  which the first counts references, unless it is null.
- LLVM's own instructions: where the numbers of an array are (`create_struct_proxy`), and functions
  of LLVM by their names (`get_or_insert_function`).
"""

from __future__ import annotations

from numba.core.caching import NullCache
from numba.core.cgutils import create_struct_proxy, get_or_insert_function
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, CompileResult, DefaultPassBuilder
from numba.core.compiler_machinery import register_pass
from numba.core.datamodel.models import PrimitiveModel
from numba.core.registry import CPUDispatcher
from numba.core.serialize import dumps
from numba.core.typeconv import Conversion
from numba.core.typed_passes import NativeLowering
from numba.core.typing.templates import AbstractTemplate, infer_global, signature

__all__ = [
    "AbstractTemplate",
    "CPUDispatcher",
    "CompileResult",
    "CompilerBase",
    "Conversion",
    "DefaultPassBuilder",
    "JITCodeLibrary",
    "NativeLowering",
    "NullCache",
    "PrimitiveModel",
    "create_struct_proxy",
    "dumps",
    "get_or_insert_function",
    "infer_global",
    "register_pass",
    "signature",
]
