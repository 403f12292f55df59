"""What is compiled of a kernel, and of the functions that only kernels call: no code twice.

Around each function Numba makes two more, which Python and C call, and may put all of its code into
them again. And it would make machine code of a helper by itself, which nobody calls: a kernel needs
LLVM's instructions for it, which are linked into the kernel, optimized, and made machine code as a
whole.
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


class _Whole(JITCodeLibrary):
    """A kernel, which Python calls by a function that stays another one."""

    def add_ir_module(self, ir_module: Any) -> None:
        for function in ir_module.functions:
            if not function.is_declaration:
                function.attributes.add("noinline")
        super().add_ir_module(ir_module)


class _Part(JITCodeLibrary):
    """LLVM's instructions for a helper and all that it calls, and no machine code."""

    def finalize(self) -> None:
        for library in dict.fromkeys(self._linking_libraries):
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._optimize_final_module()
        self._finalized = True


@register_pass(mutates_CFG=True, analysis_only=False)
class _LowerKernel(NativeLowering):
    """From typed code to a `_Whole`."""

    def run_pass(self, state: Any) -> bool:
        state.library = _Whole(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        return super().run_pass(state)


@register_pass(mutates_CFG=True, analysis_only=False)
class _LowerHelper(NativeLowering):
    """From typed code to a `_Part`, under a name by which Numba finds it."""

    def run_pass(self, state: Any) -> bool:
        state.library = _Part(state.targetctx.codegen(), state.func_id.func_qualname)
        state.flags.no_compile = True
        super().run_pass(state)
        name = object()
        state.targetctx.insert_user_function(name, state.cr.fndesc, [state.library])
        state["cr"] = state.cr._replace(cfunc=name)
        return True


class KernelCompiler(CompilerBase):
    """Numba's own passes but the one that makes code."""

    lowering: type = _LowerKernel

    def define_pipelines(self) -> list[Any]:
        pipeline = DefaultPassBuilder.define_nopython_pipeline(self.state)
        pipeline.passes = [
            (self.lowering if step is NativeLowering else step, why)
            for step, why in pipeline.passes
        ]
        pipeline.finalize()
        return [pipeline]


class _HelperCompiler(KernelCompiler):
    lowering = _LowerHelper


class Helper(CPUDispatcher):
    """A function that kernels may call."""

    def __init__(self, function: Any, targetoptions: dict[str, Any]) -> None:
        only_a_part = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
        super().__init__(
            function, targetoptions=targetoptions | only_a_part, pipeline_class=_HelperCompiler
        )

    def add_overload(self, cres: Any) -> None:
        self.overloads[tuple(cres.signature.args)] = cres

    def __call__(self, *arguments: Any) -> Any:
        raise TypeError(f"{self.py_func.__name__} is a helper, which only kernels can call")
