"""Waiting for a moment without going to sleep, from which to wake takes longer than many a kernel.

A desk is two whole numbers that a helper and its callers share: whether a kernel has begun since
the helper looked last, and how many places it has looked at. They tell when to look up, and nothing
else depends on them: locks decide who works on what.
"""

from __future__ import annotations

import platform
from typing import Any

from llvmlite import ir
from numba import extending, types

from .jit import kernel
from .private import get_or_insert_function

intrinsic: Any = extending.intrinsic  # untyped, as in vectors.py

WORD = ir.IntType(64)
BEGUN, DONE = 0, 8  # bytes from where a desk lies
SPINS = 2000  # for which a caller waits: 50 µs where a pause takes 25 ns


@intrinsic
def peek(typingctx: Any, place: Any) -> Any:
    """The whole number at this address, which another thread may change."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load_atomic(builder.inttoptr(args[0], WORD.as_pointer()), "acquire", 8)

    return types.int64(types.int64), codegen


@intrinsic
def poke(typingctx: Any, place: Any, value: Any) -> Any:
    """This whole number to this address, where another thread may look."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        place = builder.inttoptr(args[0], WORD.as_pointer())
        builder.store_atomic(args[1], place, "release", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def _pause(typingctx: Any) -> Any:
    """Tell the processor that this is a loop that waits."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if platform.machine().lower() in ("x86_64", "amd64"):
            nothing = ir.FunctionType(ir.VoidType(), [])
            builder.call(get_or_insert_function(builder.module, nothing, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), codegen


@kernel
def linger(desk, done, spins):
    """In a helper that has looked at `done` places: say so, and wait a moment for a kernel."""
    poke(desk + DONE, done)
    for _ in range(spins):
        if peek(desk + BEGUN):
            break
        _pause()


@kernel
def settle(desk, done):
    """In a caller: wait a moment for a helper to have looked at `done` places."""
    for _ in range(SPINS):
        if peek(desk + DONE) >= done:
            break
        _pause()
