"""How threads share the work of one kernel: the part that is compiled, and needs no interpreter.

The work is a table of 64-bit words with a row for each thread, its share; the caller's is the
first. After the last row there is room for a call: the address of the kernel, and the arguments
that the caller was given. A helper, a thread that waits for work (team.py), makes the same call
when it finds a share on its desk, with that share instead of the caller's. For that it needs
neither Python nor Python's lock, and begins at once. (A kernel that takes 10 µs alone took 15 on
two threads when helpers called it from Python. Now it takes 8.)

The first word of a desk says what its helper does:

    0            nothing: any caller may put a share there
    a share      it has been asked: either the helper begins, or the caller takes the share back
    a share + 1  it is at work, and only the helper itself ends that

Each of these changes is a single step of the processor, so two callers, or a caller and the helper,
never both succeed. A caller that finds a helper at work for somebody else does without it. When a
caller has run out of work, it takes back what nobody has begun, and waits for those who are at
work: when `work` ends in the caller, nobody else is inside its kernel any more.
"""

from __future__ import annotations

import platform
from typing import Any

from llvmlite import ir
from numba import extending, types

from .jit import helper, kernel
from .private import get_or_insert_function
from .vectors import address

intrinsic: Any = extending.intrinsic  # untyped, as in vectors.py

I32, I64 = ir.IntType(32), ir.IntType(64)
BYTES = ir.IntType(8).as_pointer()

# The words of a share:
#
#   NEXT     the next piece of it that nobody has taken
#   END      the piece after its last
#   BOTH     the sum of its first piece and its last
#   TO_NEXT  the distance in bytes to the next share; from the last, back to the first
#   THREADS  how many there are
#   DESK     the address of the helper's desk; 0 if no helper has this share
#   TO_CALL  the distance in bytes to the call; 0 if there is only one thread
#   SPINS    how often to look before sleeping
#   FAILED   whether it failed; in the caller's, whether any did, or the work has not ended
#
# and of a desk:
#
#   DOES      what the helper does, as told above
#   PATIENCE  how often it looks for more before it sleeps
#   ASLEEP    whether it sleeps
#   BELL      a lock that wakes it when it is released
#   TAKEN     a lock that nobody releases: to try to acquire it for 50 µs is how to sleep here
NEXT, END, BOTH, TO_NEXT, THREADS, DESK, TO_CALL, SPINS, FAILED = range(9)
DOES, PATIENCE, ASLEEP, BELL, TAKEN = range(5)
APART = 16  # words from a share to the next: no cache line of 64 bytes holds parts of two
CALL = 256  # words: room for a call

# To look once takes 25 ns (where the processor can pause), waking up 50 µs. A caller whose helpers
# are at work looks for 200 µs. A helper without work does so for 50 to 500, since between two
# kernels of a net Python may take as long. But where another process wants the core, a helper that
# was looking has had its turn by the time there is work. So one that came too late looks less, and
# more again with each time that it comes in time.
WAIT = 8000
LEAST, MORE, MOST = 2000, 400, 20000
NAP = 50  # µs


# ---- words that other threads may change


def _word(builder: Any, place: Any, i: Any) -> Any:
    return builder.gep(builder.inttoptr(place, I64.as_pointer()), [i])


@intrinsic
def peek(typingctx: Any, place: Any, i: Any) -> Any:
    """Word i from this address on."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load_atomic(_word(builder, *args), "seq_cst", 8)

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def poke(typingctx: Any, place: Any, i: Any, value: Any) -> Any:
    """This value to word i from this address on, after all that was written before."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store_atomic(args[2], _word(builder, *args[:2]), "seq_cst", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


@intrinsic
def replace(typingctx: Any, place: Any, i: Any, old: Any, new: Any) -> Any:
    """Whether the word was `old`; then it is `new`. In one step."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        word = _word(builder, *args[:2])
        found = builder.cmpxchg(word, args[2], args[3], "seq_cst", "seq_cst")
        return builder.extract_value(found, 1)

    return types.boolean(types.int64, types.int64, types.int64, types.int64), codegen


@intrinsic
def _take(typingctx: Any, share: Any) -> Any:
    """The next piece of a share that no thread has taken yet, or −1 when there is none."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        mine = builder.atomic_rmw("add", _word(builder, args[0], I64(NEXT)), I64(1), "monotonic")
        there = builder.icmp_signed("<", mine, builder.load(_word(builder, args[0], I64(END))))
        return builder.select(there, mine, I64(-1))

    return types.int64(types.int64), codegen


# ---- waiting


@intrinsic
def _pause(typingctx: Any) -> Any:
    """Tell the processor that this is a loop that waits."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        if platform.machine().lower() in ("x86_64", "amd64"):
            nothing = ir.FunctionType(ir.VoidType(), [])
            builder.call(get_or_insert_function(builder.module, nothing, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def _acquire(typingctx: Any, lock: Any, forever: Any) -> Any:
    """Wait for one of Python's locks until it is released; or for NAP, if not `forever`."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        what = ir.FunctionType(I32, [BYTES, I64, I32])
        acquire = get_or_insert_function(builder.module, what, "PyThread_acquire_lock_timed")
        timeout = builder.select(args[1], I64(-1), I64(NAP))
        builder.call(acquire, [builder.inttoptr(args[0], BYTES), timeout, I32(0)])
        return context.get_dummy_value()

    return types.void(types.int64, types.boolean), codegen


@intrinsic
def _release(typingctx: Any, lock: Any) -> Any:
    """Release one of Python's locks."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        what = ir.FunctionType(ir.VoidType(), [BYTES])
        release = get_or_insert_function(builder.module, what, "PyThread_release_lock")
        builder.call(release, [builder.inttoptr(args[0], BYTES)])
        return context.get_dummy_value()

    return types.void(types.int64), codegen


# ---- the call, and who makes it


@intrinsic
def shared(typingctx: Any, queue: Any) -> Any:
    """The address of this thread's share, for `work`.

    It stands in the kernel itself, once, and is given the kernel's first argument. A caller that is
    not alone also writes down the call that helpers make.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kernel = builder.function
        given = kernel.args[2:]  # after where to put what it returns, and what it raises
        call = ir.LiteralStructType([I64, *[a.type for a in given]])
        if context.get_abi_sizeof(call) > CALL * 8:
            raise NotImplementedError(f"{kernel.name}: too many arguments to share")
        start = context.data_model_manager[sig.args[0]].get_field_position("data")
        share = builder.ptrtoint(builder.extract_value(args[0], start), I64)
        desk, to_call = (builder.load(_word(builder, share, I64(i))) for i in (DESK, TO_CALL))
        helped = builder.icmp_unsigned("!=", to_call, I64(0))
        is_caller = builder.icmp_unsigned("==", desk, I64(0))
        with builder.if_then(builder.and_(helped, is_caller)):
            place = builder.inttoptr(builder.add(share, to_call), call.as_pointer())
            function = builder.ptrtoint(_repeat(kernel, call, start), I64)
            for i, value in enumerate((function, *given)):
                builder.store(value, builder.gep(place, [I32(0), I32(i)]))
        return share

    return types.int64(queue), codegen


def _repeat(kernel: Any, call: Any, start: int) -> Any:
    """A function of a call and a share: it makes the call, with that share; whether it failed.

    call   the type of what is written down
    start  which of the arguments is the address of the share
    """
    kind = ir.FunctionType(I64, [call.as_pointer(), I64])
    function = ir.Function(kernel.module, kind, f"{kernel.name}.repeat")
    function.linkage = "internal"
    builder = ir.IRBuilder(function.append_basic_block())
    place, share = function.args
    results = [builder.alloca(a.type.pointee) for a in kernel.args[:2]]
    parts = range(1, len(call.elements))
    given = [builder.load(builder.gep(place, [I32(0), I32(i)])) for i in parts]
    kinds = [value.type for value in given]
    for i in range(len(kinds)):
        if kinds[i : i + 4] == [BYTES, BYTES, I64, I64]:  # so an array begins
            given[i] = BYTES(None)  # nobody owns it; else two threads would count its references
    given[start] = builder.inttoptr(share, given[start].type)
    status = builder.call(kernel, [*results, *given], attrs=["noinline"])  # its code is long
    builder.ret(builder.zext(builder.icmp_signed("!=", status, I32(0)), I64))
    return function


@intrinsic
def _call(typingctx: Any, share: Any) -> Any:
    """In a helper: make the call that belongs to this share. Whether it failed."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        place = builder.add(args[0], builder.load(_word(builder, args[0], I64(TO_CALL))))
        what = ir.FunctionType(I64, [I64, I64]).as_pointer()
        function = builder.inttoptr(builder.load(_word(builder, place, I64(0))), what)
        return builder.call(function, [place, args[0]])

    return types.int64(types.int64), codegen


@kernel
def serve(desk):
    """In a helper: do what is put on its desk, for as long as its patience is not negative."""
    spins = 0
    while peek(desk, PATIENCE) >= 0:
        share = peek(desk, DOES)
        if share and replace(desk, DOES, share, share + 1):
            poke(share, FAILED, _call(share))
            poke(desk, DOES, 0)
            spins = 0
        elif spins < peek(desk, PATIENCE):
            spins += 1
            _pause()
        else:
            poke(desk, ASLEEP, 1)
            # A caller who came before may not have seen that; one who did rings the bell.
            if peek(desk, DOES) == 0 or not replace(desk, ASLEEP, 1, 0):
                _acquire(peek(desk, BELL), True)
            spins = 0


@helper
def _ask(share):
    """In the caller: put the others' shares on the helpers' desks."""
    for _ in range(1, peek(share, THREADS)):
        share += peek(share, TO_NEXT)
        desk = peek(share, DESK)
        if desk:
            if not replace(desk, DOES, 0, share):
                poke(share, DESK, 0)  # it works for somebody else
            elif replace(desk, ASLEEP, 1, 0):
                _release(peek(desk, BELL))


@helper
def _leave(caller):
    """In the caller: take back what nobody has begun, and wait for those who are at work."""
    share, failed = caller, 0
    wait = peek(caller, SPINS)
    for _ in range(1, peek(caller, THREADS)):
        share += peek(share, TO_NEXT)
        desk = peek(share, DESK)
        if desk:
            if replace(desk, DOES, share, 0):
                poke(desk, PATIENCE, min(LEAST, wait))
            else:
                spins = 0
                while peek(desk, DOES) == share + 1:
                    if spins < wait:
                        spins += 1
                        _pause()
                    else:
                        _acquire(peek(desk, TAKEN), False)
                poke(desk, PATIENCE, min(peek(desk, PATIENCE) + MORE, MOST) if wait else 0)
            poke(share, DESK, 0)
        failed |= peek(share, FAILED)
    poke(caller, FAILED, failed)


@kernel
def leave(queue):
    """`_leave`, for Python to call after a kernel that failed before it did so itself."""
    _leave(address(queue))


@helper
def is_caller(queue):
    """Whether this is the caller; after `work`, when all that helpers have written is there."""
    return peek(address(queue), DESK) == 0


@helper
def work(share, last_first=False):
    """The pieces of work that no thread has taken yet: `for piece in work(shared(queue))`.

    First those of this thread's own share, then what is left of the others'. With last_first each
    share is taken from its end, which is what the kernel before has left in the cache.
    """
    asks = peek(share, DESK) == 0
    if asks:
        _ask(share)
    own = share
    for _ in range(peek(own, THREADS)):
        turned = peek(share, BOTH) if last_first else 0
        while True:
            piece = _take(share)
            if piece < 0:
                break
            yield turned - piece if last_first else piece
        share += peek(share, TO_NEXT)
    if asks:
        _leave(own)
