"""Vectors of the machine's own width as values in compiled kernels: how each word is lowered.

`minimix.kernels.simd` says what the words mean. There is no bounds check.
"""

from __future__ import annotations

import math
import operator
from typing import Any

import llvmlite.binding
import numpy as np
from llvmlite import ir
from numba import extending, types
from numba.extending import lower_builtin, lower_cast, register_model

from ..reference.activation import INV_SQRT_2PI
from .jit import helper
from .memory import LINE
from .private import (
    AbstractTemplate,
    Conversion,
    PrimitiveModel,
    create_struct_proxy,
    get_or_insert_function,
    infer_global,
    signature,
)

intrinsic: Any = extending.intrinsic  # untyped, since what it makes is called with other arguments

FLAGS = ("contract",)
I32, I64 = ir.IntType(32), ir.IntType(64)
FLOAT, DOUBLE = ir.FloatType(), ir.DoubleType()


def _vector_bytes() -> int:
    features = llvmlite.binding.get_host_cpu_features()
    return 64 if features.get("avx512f") else 32 if features.get("avx") else 16


VECTOR_BYTES = _vector_bytes()
LANES = {np.dtype(np.float32): VECTOR_BYTES // 4, np.dtype(np.float64): VECTOR_BYTES // 8}


class Vector(types.Type):
    """Numba's type of LANES neighboring numbers in one register."""

    def __init__(self, dtype: types.Float, lanes: int = 0) -> None:
        self.dtype = dtype
        self.lanes = lanes or VECTOR_BYTES * 8 // dtype.bitwidth
        super().__init__(f"Vector({dtype}, {self.lanes})")

    def can_convert_from(self, _: Any, other: types.Type) -> Any:
        return Conversion.unsafe if isinstance(other, types.Number) else None


@register_model(Vector)
class _VectorModel(PrimitiveModel):
    def __init__(self, manager: Any, kind: Vector) -> None:
        super().__init__(manager, kind, vector_type(kind))


def vector_type(kind: Vector) -> ir.VectorType:
    return ir.VectorType(DOUBLE if kind.dtype == types.float64 else FLOAT, kind.lanes)


def constant(kind: ir.Type, value: float) -> ir.Constant:
    """`value` in a register, or in every lane of a vector."""
    return ir.Constant(kind, [value] * kind.count if isinstance(kind, ir.VectorType) else value)


def call(builder: Any, name: str, *args: Any) -> Any:
    """An intrinsic function of LLVM, such as "sqrt", on vectors: they are chosen by type."""
    kind = args[0].type
    letter = "f64" if kind.element == DOUBLE else "f32"
    what = ir.FunctionType(kind, [a.type for a in args])
    name = f"llvm.{name}.v{kind.count}{letter}"
    return builder.call(get_or_insert_function(builder.module, what, name), args)


def splat(builder: Any, scalar: Any, lanes: int) -> Any:
    """A vector of `lanes` copies of one number."""
    kind = ir.VectorType(scalar.type, lanes)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, I32(0))
    mask = ir.Constant(ir.VectorType(I32, lanes), [0] * lanes)
    return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), mask)


def pointer(context: Any, builder: Any, kind: types.Array, array: Any, index: Any) -> Any:
    """Where array[index] lives."""
    data = create_struct_proxy(kind)(context, builder, array).data
    return builder.gep(data, [index])


@intrinsic
def pointer_to(typingctx: Any, like: Any, address: Any) -> Any:
    """A pointer to numbers of the kind that `like` holds, for `numba.carray`."""
    kind = types.CPointer(like.dtype)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.inttoptr(args[1], context.get_value_type(kind))

    return kind(like, types.int64), codegen


# ---- arithmetic operators


@lower_cast(types.Number, Vector)
def _spread_number(context: Any, builder: Any, fromty: Any, toty: Vector, value: Any) -> Any:
    return splat(builder, context.cast(builder, value, fromty, toty.dtype), toty.lanes)


def _define(operation: Any, name: str) -> None:
    @infer_global(operation)
    class Typing(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            kinds = [a for a in args if isinstance(a, Vector)]
            numbers = all(isinstance(a, Vector | types.Number) for a in args)
            if kinds and numbers and all(k == kinds[0] for k in kinds):
                return signature(kinds[0], *[kinds[0]] * len(args))
            return None

    @lower_builtin(operation, *[Vector] * (1 if name == "fneg" else 2))
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return getattr(builder, name)(*args, flags=FLAGS)


_define(operator.add, "fadd")
_define(operator.sub, "fsub")
_define(operator.mul, "fmul")
_define(operator.truediv, "fdiv")
_define(operator.neg, "fneg")


# ---- memory


def _masked(builder: Any, n: Any, lanes: int) -> Any:
    """Which lanes lie before n."""
    ramp = ir.Constant(ir.VectorType(I64, lanes), list(range(lanes)))
    return builder.icmp_signed("<", ramp, splat(builder, n, lanes))


@intrinsic
def load(typingctx: Any, array: Any, i: Any, n: Any) -> Any:
    """array[i : i+LANES] as a vector. Lanes from n on are not touched and are zero."""
    return _load(Vector(array.dtype), array)


@intrinsic
def load_or_least(typingctx: Any, array: Any, i: Any, n: Any) -> Any:
    """As `load`, but lanes from n on are −∞: for maxima."""
    return _load(Vector(array.dtype), array, missing=-np.inf)


@intrinsic
def load_wide(typingctx: Any, array: Any, i: Any, n: Any, like: Any) -> Any:
    """As `load`, from a float64 array, as many numbers as a vector of `like` has: see `widen`."""
    kind = Vector(array.dtype, Vector(like.dtype).lanes)
    _, codegen = _load(kind, array)
    return kind(array, types.int64, types.int64, like), codegen


def _load(kind: Any, array: Any, missing: float = 0.0) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector = vector_type(kind)
        size = array.dtype.bitwidth // 8
        p = builder.bitcast(
            pointer(context, builder, sig.args[0], args[0], args[1]), vector.as_pointer()
        )
        whole = builder.icmp_signed(">=", args[2], I64(kind.lanes))
        with builder.if_else(whole) as (then, otherwise):
            with then:
                full, full_block = builder.load(p, align=size), builder.block
            with otherwise:
                mask = _masked(builder, args[2], kind.lanes)
                function = get_or_insert_function(
                    builder.module,
                    ir.FunctionType(vector, [p.type, I32, mask.type, vector]),
                    f"llvm.masked.load.v{kind.lanes}f{8 * size}.p0",
                )
                part = builder.call(function, [p, I32(size), mask, constant(vector, missing)])
                part_block = builder.block
        result = builder.phi(vector)
        result.add_incoming(full, full_block)
        result.add_incoming(part, part_block)
        return result

    return kind(array, types.int64, types.int64), codegen


@intrinsic
def store(typingctx: Any, array: Any, i: Any, n: Any, v: Any) -> Any:
    """array[i : i+LANES] = v, of which only the first n lanes are written."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector = vector_type(v)
        size = v.dtype.bitwidth // 8
        p = builder.bitcast(
            pointer(context, builder, sig.args[0], args[0], args[1]), vector.as_pointer()
        )
        whole = builder.icmp_signed(">=", args[2], I64(v.lanes))
        with builder.if_else(whole) as (then, otherwise):
            with then:
                builder.store(args[3], p, align=size)
            with otherwise:
                mask = _masked(builder, args[2], v.lanes)
                function = get_or_insert_function(
                    builder.module,
                    ir.FunctionType(ir.VoidType(), [vector, p.type, I32, mask.type]),
                    f"llvm.masked.store.v{v.lanes}f{8 * size}.p0",
                )
                builder.call(function, [args[3], p, I32(size), mask])
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64, v), codegen


@intrinsic
def turn_tile(typingctx: Any, x: Any, i: Any, row: Any, y: Any, j: Any, ahead: Any) -> Any:
    """y[j + b ahead + a] = x[i + a row + b] for a and b below LANES: a square tile, transposed.

    Each step shuffles the first half of the vectors into the second, lane by lane; after as many
    steps as LANES has doublings, rows are columns.
    """
    kind = Vector(x.dtype)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        vector, n, size = vector_type(kind), kind.lanes, kind.dtype.bitwidth // 8

        def place(array: int, first: Any, stride: Any, r: int) -> Any:
            at = builder.add(first, builder.mul(stride, I64(r)))
            p = pointer(context, builder, sig.args[array], args[array], at)
            return builder.bitcast(p, vector.as_pointer())

        rows = [builder.load(place(0, args[1], args[2], r), align=size) for r in range(n)]
        low, high = (
            ir.Constant(ir.VectorType(I32, n), [half + a // 2 + n * (a % 2) for a in range(n)])
            for half in (0, n // 2)
        )
        for _ in range(n.bit_length() - 1):
            pairs = list(zip(rows[: n // 2], rows[n // 2 :], strict=True))
            rows = [builder.shuffle_vector(*pair, m) for pair in pairs for m in (low, high)]
        for r, v in enumerate(rows):
            builder.store(v, place(3, args[4], args[5], r), align=size)
        return context.get_dummy_value()

    return types.void(x, types.int64, types.int64, y, types.int64, types.int64), codegen


def _prefetch(array: Any, write: int, level: int) -> Any:
    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        p = pointer(context, builder, array, args[0], args[1])
        kinds = [p.type, I32, I32, I32]
        function = get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), kinds), "llvm.prefetch.p0"
        )
        data = I32(1)
        builder.call(function, [p, I32(write), I32(4 - level), data])
        return context.get_dummy_value()

    return types.void(array, types.int64), codegen


@intrinsic
def prefetch(typingctx: Any, array: Any, i: Any) -> Any:
    """Ask for the cache line of array[i], to be in second-level cache soon. It need not exist."""
    return _prefetch(array, 0, 2)


@intrinsic
def prefetch_write(typingctx: Any, array: Any, i: Any) -> Any:
    """Ask for the cache line of array[i], which will be written soon: a store that misses would
    otherwise wait for it, and all stores behind it. It need not exist."""
    return _prefetch(array, 1, 1)


@intrinsic
def widen(typingctx: Any, v: Any) -> Any:
    """v in float64, as many numbers as before: for sums that must not lose digits."""
    kind = Vector(types.float64, v.lanes)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return args[0] if v == kind else builder.fpext(args[0], vector_type(kind))

    return kind(v), codegen


@intrinsic
def narrow(typingctx: Any, v: Any, array: Any) -> Any:
    """v in float64 as numbers of the kind that the array holds."""
    kind = Vector(array.dtype, v.lanes)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return args[0] if v == kind else builder.fptrunc(args[0], vector_type(kind))

    return kind(v, array), codegen


@intrinsic
def any_greater(typingctx: Any, v: Any, w: Any) -> Any:
    """Whether v > w in any lane."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        greater = builder.fcmp_ordered(">", *args)
        lanes = ir.IntType(v.lanes)
        return builder.icmp_unsigned("!=", builder.bitcast(greater, lanes), lanes(0))

    return types.boolean(v, w), codegen


@intrinsic
def first(typingctx: Any, v: Any, n: Any) -> Any:
    """v, but 0 in lanes from n on."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        mask = _masked(builder, args[1], v.lanes)
        return builder.select(mask, args[0], constant(args[0].type, 0.0))

    return v(v, types.int64), codegen


@intrinsic
def zeros(typingctx: Any, array: Any) -> Any:
    """A vector of zeros, of the kind that `array` holds."""
    kind = Vector(array.dtype)
    return kind(array), lambda context, builder, sig, args: constant(vector_type(kind), 0.0)


@intrinsic(prefer_literal=True)
def lanes(typingctx: Any, array: Any) -> Any:
    """How many numbers of the kind that `array` holds fit into a vector."""
    count = Vector(array.dtype).lanes
    return types.int64(array), lambda context, builder, sig, args: I64(count)


# ---- functions


@intrinsic
def sqrt(typingctx: Any, v: Any) -> Any:
    """√v in each lane."""
    return v(v), lambda context, builder, sig, args: call(builder, "sqrt", *args)


@intrinsic
def squarable(typingctx: Any, v: Any) -> Any:
    """v, confined to ±√(largest number) where it is finite: squares of such do not overflow."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        x = args[0]
        most = constant(x.type, float(np.sqrt(np.finfo(v.dtype.name).max)))
        size = call(builder, "fabs", x)
        large = builder.fcmp_ordered(">", size, most)
        finite = builder.fcmp_ordered("<", size, constant(x.type, float("inf")))
        confined = call(builder, "copysign", most, x)
        return builder.select(builder.and_(large, finite), confined, x)

    return v(v), codegen


@intrinsic
def larger(typingctx: Any, v: Any, w: Any) -> Any:
    """v where it is larger than w, else w, in each lane: NaN of v is passed over."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return v(v, v), codegen


@intrinsic
def relu_and_slope(typingctx: Any, v: Any) -> Any:
    """max(v, 0), and its derivative: 1 where v > 0 or is NaN, else 0."""
    pair = types.UniTuple(v, 2)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        (x,) = args
        zero, one = constant(x.type, 0.0), constant(x.type, 1.0)
        off = builder.fcmp_ordered("<=", x, zero)
        value, slope = builder.select(off, zero, x), builder.select(off, zero, one)
        return context.make_tuple(builder, pair, (value, slope))

    return pair(v), codegen


@intrinsic
def where_equal(typingctx: Any, v: Any, w: Any, u: Any) -> Any:
    """u where v = w, else 0."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        equal = builder.fcmp_ordered("==", args[0], args[1])
        return builder.select(equal, args[2], constant(args[2].type, 0.0))

    return u(v, w, u), codegen


@intrinsic
def first_largest(typingctx: Any, v: Any, at: Any, w: Any, w_at: Any) -> Any:
    """(w, w_at) where w > v, or only w is NaN; else (v, at)."""
    pair = types.UniTuple(v, 2)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        v, at, w, w_at = args
        above = builder.fcmp_unordered(">", w, v)
        taken = builder.and_(above, builder.fcmp_ordered("ord", v, v))
        chosen = builder.select(taken, w, v), builder.select(taken, w_at, at)
        return context.make_tuple(builder, pair, chosen)

    return pair(v, at, w, w_at), codegen


@intrinsic
def gate(typingctx: Any, v: Any, w: Any) -> Any:
    """w where v > 0, or is NaN; 0 elsewhere."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        zero = constant(args[0].type, 0.0)
        return builder.select(builder.fcmp_ordered("<=", args[0], zero), zero, args[1])

    return w(v, w), codegen


def _fold(v: Any, combine: Any) -> Any:
    """One number from all lanes: each time the upper half is combined with the lower."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        (x,) = args
        while x.type.count > 1:
            half, nothing = x.type.count // 2, ir.Constant(x.type, ir.Undefined)
            low, high = (
                builder.shuffle_vector(x, nothing, ir.Constant(ir.VectorType(I32, half), places))
                for places in (list(range(half)), list(range(half, 2 * half)))
            )
            x = combine(builder, low, high)
        return builder.extract_element(x, I32(0))

    return v.dtype(v), codegen


@intrinsic
def sum_lanes(typingctx: Any, v: Any) -> Any:
    """The sum of all lanes."""
    return _fold(v, lambda builder, low, high: builder.fadd(low, high))


@intrinsic
def largest_lane(typingctx: Any, v: Any) -> Any:
    """The largest of all lanes, which are not NaN."""
    return _fold(v, lambda b, low, high: b.select(b.fcmp_ordered(">", low, high), low, high))


# 2ʳ − 1 over r, for |r| ≤ ½: fitted for the least largest error of 2ʳ
_EXP2 = (0.693147182, 0.240226477, 0.0555033237, 0.00961843692, 0.0013398875, 1.5353362e-4)


@intrinsic
def exp2(typingctx: Any, v: Any) -> Any:
    """2ᵛ in each lane. NaN stays NaN. float32: v from −127, where it is 0, to 127; within 2 units
    in the last place.

    float32 writes v = n + r with n whole and |r| ≤ ½, takes 2ʳ from a polynomial and builds 2ⁿ by
    putting n into the exponent bits. float64 calls the C library, lane by lane.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        (x,), b = args, builder
        if x.type.element == DOUBLE:
            return call(b, "exp2", x)
        # Adding 1.5·2²³ pushes the fraction out of the mantissa: n is left, in the low bits.
        magic = constant(x.type, 12582912.0)
        shifted = b.fadd(x, magic)
        r = b.fsub(x, b.fsub(shifted, magic))
        p = constant(x.type, _EXP2[-1])
        for coefficient in (*_EXP2[-2::-1], 1.0):
            p = call(b, "fmuladd", p, r, constant(x.type, coefficient))
        bits = b.bitcast(shifted, ir.VectorType(I32, x.type.count))
        scale = b.shl(bits, ir.Constant(bits.type, [23] * x.type.count))
        one = b.bitcast(constant(x.type, 1.0), bits.type)
        return b.fmul(p, b.bitcast(b.add(scale, one), x.type))

    return v(v), codegen


def _clip(b: Any, x: Any, low: Any, high: Any) -> Any:
    x = b.select(b.fcmp_ordered("<", x, low), low, x)
    return b.select(b.fcmp_ordered(">", x, high), high, x)


@intrinsic
def clip(typingctx: Any, v: Any, low: Any, high: Any) -> Any:
    """v, but at least `low` and at most `high` in each lane. NaN stays NaN."""
    return v(v, v, v), lambda context, builder, sig, args: _clip(builder, *args)


# For float32, let a = |x| and T(a) = 1 − Φ(a), what is beyond a under the normal density. Then
#
#     gelu(x) = max(x, 0) − a T(a)
#     gelu′(x) = S(a), or 1 − S(a) where x ≥ 0,     S(a) = T(a) − a φ(a)
#
# in which nothing large cancels. T(a) = (_C / P(a))⁸, which is 0 long before a is 100, and S(a) =
# R(a) T(a), with polynomials P, of degree 8, and R, of degree 7, fitted for the least largest error
# of a T(a) and S(a). That is one division and no exponential, which would cost as much again.
#
# A polynomial in z is here q₀ + q₁ z (+ z² for P), of which each pair (c, d) makes u (z² + c) + d:
# two degrees for one multiplication, where Horner's rule needs two. Additions cost little, since
# processors have other units for them. Most polynomials can be written so in z = a + s, for many s
# (Knuth, "The Art of Computer Programming", volume 2, 4.6.4). Both share this one, for which the
# rounding errors are small.
_SHIFT = 1.109375
_P = (82.1690903, -14.3498669), (
    (28.182457, -1109.6731), (4.2467041, 12576.4004), (-5.48658752, 425893.969),
)  # fmt: skip
_R = (-1.46384104e-4, 1.69320992e-5), (
    (78.8674927, 0.0184567366), (-173.338272, 1.12657404), (-0.314967752, 1.26642549),
)  # fmt: skip
_C = 322757.75  # such that T(0), in float32, comes nearest to ½


def _raise(b: Any, u: Any, square: Any, steps: tuple[tuple[float, float], ...]) -> Any:
    """u (square + c) + d for each (c, d) in turn."""
    for c, d in steps:
        u = call(b, "fmuladd", u, b.fadd(square, constant(u.type, c)), constant(u.type, d))
    return u


def _tail(b: Any, x: Any) -> tuple[Any, Any, Any]:
    """a = |x|, but at most 100; T(a), which by then is 0; and S(a)."""

    def c(value: float) -> Any:
        return constant(x.type, value)

    size = call(b, "fabs", x)
    a = b.select(b.fcmp_ordered(">", size, c(100.0)), c(100.0), size)  # NaN stays NaN
    z = b.fadd(a, c(_SHIFT))
    square = b.fmul(z, z)
    (q0, q1), steps = _P
    t = b.fdiv(c(_C), _raise(b, b.fadd(call(b, "fmuladd", z, c(q1), square), c(q0)), square, steps))
    for _ in range(3):
        t = b.fmul(t, t)
    (q0, q1), steps = _R
    return a, t, b.fmul(_raise(b, call(b, "fmuladd", z, c(q1), c(q0)), square, steps), t)


def _gelu(b: Any, z: Any, a: Any, t: Any) -> Any:
    zero = constant(z.type, 0.0)
    positive = b.select(b.fcmp_ordered(">", z, zero), z, zero)
    return b.fsub(positive, b.fmul(a, t, flags=FLAGS), flags=FLAGS)


def _cdf64(context: Any, b: Any, z: Any) -> Any:
    """Φ(z) = ½ erfc(−z/√2), lane by lane through the C library."""
    cdf = constant(z.type, 0.0)
    erfc = context.get_function(math.erfc, types.float64(types.float64))
    for lane in range(z.type.count):
        x = b.fmul(b.extract_element(z, I32(lane)), DOUBLE(-math.sqrt(0.5)))
        cdf = b.insert_element(cdf, b.fmul(erfc(b, [x]), DOUBLE(0.5)), I32(lane))
    return cdf


def _gelu64(b: Any, z: Any, cdf: Any) -> Any:
    """z Φ(z); 0 at −∞, where Φ has long been 0."""
    low = constant(z.type, -40.0)
    return b.fmul(b.select(b.fcmp_ordered("<", z, low), low, z), cdf)


@intrinsic
def gelu_value(typingctx: Any, v: Any) -> Any:
    """v Φ(v); 0 at −∞.

    float32: within 2.5e-7 and half a unit in the last place of the result, and never of the wrong
    sign. float64: as exact as the C library's erfc.
    """

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        z = args[0]
        if z.type.element == DOUBLE:
            return _gelu64(builder, z, _cdf64(context, builder, z))
        a, t, _ = _tail(builder, z)
        return _gelu(builder, z, a, t)

    return v(v), codegen


@intrinsic
def gelu_and_slope(typingctx: Any, v: Any) -> Any:
    """The bits of `gelu_value(v)`, and the derivative Φ(v) + v φ(v), in float32 within 8e-7."""
    pair = types.UniTuple(v, 2)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        z = args[0]
        if z.type.element == DOUBLE:
            cdf = _cdf64(context, builder, z)
            far = constant(z.type, 40.0)  # beyond, φ is 0
            near = _clip(builder, z, builder.fneg(far), far)
            square = builder.fmul(builder.fmul(near, near), constant(z.type, -0.5))
            density = builder.fmul(call(builder, "exp", square), constant(z.type, INV_SQRT_2PI))
            value, slope = _gelu64(builder, z, cdf), call(builder, "fmuladd", near, density, cdf)
        else:
            a, t, s = _tail(builder, z)
            value = _gelu(builder, z, a, t)
            right = builder.fcmp_ordered(">=", z, constant(z.type, 0.0))
            slope = builder.select(right, builder.fsub(constant(z.type, 1.0), s), s)
        return context.make_tuple(builder, pair, (value, slope))

    return pair(v), codegen


# ---- memory


@intrinsic
def address(typingctx: Any, x: Any) -> Any:
    """Where the numbers of x lie; nothing is known of how many or of what kind."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.ptrtoint(pointer(context, builder, sig.args[0], args[0], I64(0)), I64)

    return types.int64(x), codegen


@helper
def room(n, x):
    """n zeros of the kind that x holds, which begin at a cache line.

    Numba's own arrays may begin in the middle of one: every vector would lie across two.
    """
    block = np.zeros(n + LINE // x.itemsize, x.dtype)
    start = -address(block) % LINE // x.itemsize
    return block[start : start + n]


@helper
def near(v):
    """A copy of v in this thread's own memory, from a cache line on: for what every row needs."""
    own = room(v.size, v)
    copy(v, 0, v.size, own, 0)
    return own


@helper
def copy(x, i, n, y, j):
    """y[j : j+n] = x[i : i+n]

    For that line Numba would also make code for arrays that overlap or differ in length: more than
    ten times as much.
    """
    for k in range(0, n, lanes(x)):
        store(y, j + k, n - k, load(x, i + k, n - k))


@helper
def turn_rows(x, i, row, n, c, y, j, ahead):
    """n rows of c numbers become columns: y[j + b ahead + a] = x[i + a row + b], a < n, b < c."""
    step = lanes(x)
    whole_n, whole_c = n - n % step, c - c % step
    for a in range(0, whole_n, step):
        for b in range(0, whole_c, step):
            turn_tile(x, i + a * row + b, row, y, j + b * ahead + a, ahead)
    for a in range(n):
        for b in range(whole_c if a < whole_n else 0, c):
            y[j + b * ahead + a] = x[i + a * row + b]
