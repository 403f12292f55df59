"""What is used of Numba that it does not document, in one place, and why.

A release of Numba may take any of it away; tests/kernels/test_numba_private.py says which.

- A cache of our own (jit.py says why). `NullCache` is the class from which it inherits whatever
  else a cache is asked; a dispatcher keeps its cache as `_cache`. What is compiled, a
  `CompileResult`, is saved by its `_reduce` and `dumps`, and loaded by its `_rebuild`.
- Vectors, a type of our own (vectors.py). `numba.extending` defines types and functions. It has no
  way to say that a value is kept in a register as it is (`PrimitiveModel`), what an operator makes
  of new types (`infer_global`, `AbstractTemplate`, `signature`), or that a number counts as a
  vector of equal numbers (`Conversion`).
- LLVM's own instructions: where the numbers of an array are (`create_struct_proxy`), and functions
  of LLVM by their names (`get_or_insert_function`).
"""

from __future__ import annotations

from numba.core.caching import NullCache
from numba.core.cgutils import create_struct_proxy, get_or_insert_function
from numba.core.compiler import CompileResult
from numba.core.datamodel.models import PrimitiveModel
from numba.core.serialize import dumps
from numba.core.typeconv import Conversion
from numba.core.typing.templates import AbstractTemplate, infer_global, signature

__all__ = [
    "AbstractTemplate",
    "CompileResult",
    "Conversion",
    "NullCache",
    "PrimitiveModel",
    "create_struct_proxy",
    "dumps",
    "get_or_insert_function",
    "infer_global",
    "signature",
]
