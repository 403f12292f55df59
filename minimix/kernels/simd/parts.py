"""Helpers: functions that are compiled only as part of the kernels that call them.

Numba would make machine code of each of them, and two functions around it which Python and C can
call. A kernel needs only LLVM's instructions: they are linked into it, optimized as a whole, and
made machine code then.
"""

from __future__ import annotations

from typing import Any

from .private import (
    CompilerBase,
    CPUDispatcher,
    DefaultPassBuilder,
    JITCodeLibrary,
    NativeLowering,
    register_pass,
)


class _Part(JITCodeLibrary):
    """LLVM's instructions for a helper and all that it calls, and no machine code."""

    def finalize(self) -> None:
        for library in dict.fromkeys(self._linking_libraries):
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._optimize_final_module()
        self._finalized = True


@register_pass(mutates_CFG=True, analysis_only=False)
class _Lowering(NativeLowering):
    """From typed code to a `_Part`, under a name by which Numba finds it."""

    def run_pass(self, state: Any) -> bool:
        state.library = _Part(state.targetctx.codegen(), state.func_id.func_qualname)
        state.flags.no_compile = True
        super().run_pass(state)
        name = object()
        state.targetctx.insert_user_function(name, state.cr.fndesc, [state.library])
        state["cr"] = state.cr._replace(cfunc=name)
        return True


class _Compiler(CompilerBase):
    """Numba's own passes but the one that makes code."""

    def define_pipelines(self) -> list[Any]:
        pipeline = DefaultPassBuilder.define_nopython_pipeline(self.state)
        pipeline.passes = [
            (_Lowering if step is NativeLowering else step, why) for step, why in pipeline.passes
        ]
        pipeline.finalize()
        return [pipeline]


class Helper(CPUDispatcher):
    """A function that kernels may call. Errors: TypeError where Python calls it."""

    def __init__(self, function: Any, targetoptions: dict[str, Any]) -> None:
        only_a_part = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
        super().__init__(
            function, targetoptions=targetoptions | only_a_part, pipeline_class=_Compiler
        )

    def add_overload(self, cres: Any) -> None:
        self.overloads[tuple(cres.signature.args)] = cres

    def __call__(self, *arguments: Any) -> Any:
        raise TypeError(f"{self.py_func.__name__} is a helper, which only kernels can call")
