"""Eight-lane float32 arithmetic inside numba functions.

LLVM does not vectorise the projector's short inner loops by itself (it cannot rule out that the
lattice and the accumulator overlap), so the kernels say what they mean: load, multiply-add, store.
A vector is one AVX register; LLVM splits it into two of NEON or SSE2. Wider ones lie across two lines of
the cache at nearly every place, which costs stores more than fewer instructions gain (docs/decisions/0035).
Where the processor cannot multiply and add in one step, LLVM makes two of it (docs/decisions/0014).
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.registry import cpu_target
from numba.extending import intrinsic, models, register_model

LANES = 8
_VECTOR = ir.VectorType(ir.FloatType(), LANES)
_UNALIGNED = 4


# widest first
_X86 = {"avx512f": "AVX-512", "avx2": "AVX2", "avx": "AVX", "sse4.1": "SSE4"}


def instructions() -> str:
    """What numba compiles vectors to on this processor, in words."""
    triple, processor, flags = cpu_target.target_context.codegen().magic_tuple()
    known = {flag[1:] for flag in flags.split(",") if flag.startswith("+")}
    if not triple.startswith("x86_64"):
        return f"{triple.split('-')[0]} ({processor})"
    widest = next((name for flag, name in _X86.items() if flag in known), "SSE2")
    fused = "with" if known & {"fma", "fma4"} else "without"
    return f"{widest} {fused} fused multiply-add ({processor})"


class _Float32Vector(types.Type):
    def __init__(self) -> None:
        super().__init__(name=f"float32x{LANES}")


_float32_vector = _Float32Vector()


@register_model(_Float32Vector)
class _Float32VectorModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Any) -> None:
        super().__init__(dmm, fe_type, _VECTOR)


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _VECTOR.as_pointer())


def _splat(builder: Any, scalar: Any) -> Any:
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    zero = ir.Constant(ir.IntType(32), 0)
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    first = builder.insert_element(undefined, scalar, zero)
    return builder.shuffle_vector(first, undefined, lanes)


def _lanes(builder: Any, vector: Any, chosen: range) -> Any:
    kind = ir.VectorType(ir.IntType(32), len(chosen))
    undefined = ir.Constant(vector.type, ir.Undefined)
    return builder.shuffle_vector(vector, undefined, ir.Constant(kind, list(chosen)))


def _factor_type(factor: Any) -> Any:
    return factor if factor == _float32_vector else types.float32


def _spread(builder: Any, factor_type: Any, factor: Any) -> Any:
    return factor if factor_type == _float32_vector else _splat(builder, factor)


@intrinsic
def load(typingctx: Any, array: Any, index: Any) -> Any:
    """The vector at array[index : index + LANES]."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = builder.load(_pointer(context, builder, signature.args[0], *args))
        value.align = _UNALIGNED
        return value

    return _float32_vector(array, types.uintp), codegen


@intrinsic
def store(typingctx: Any, array: Any, index: Any, vector: Any) -> Any:
    """Write the vector to array[index : index + LANES]."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        target = _pointer(context, builder, signature.args[0], args[0], args[1])
        builder.store(args[2], target).align = _UNALIGNED
        return context.get_dummy_value()

    return types.void(array, types.uintp, _float32_vector), codegen


@intrinsic
def scale(typingctx: Any, vector: Any, factor: Any) -> Any:
    """vector · factor, a number or another vector."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fmul(args[0], _spread(builder, signature.args[1], args[1]))

    return _float32_vector(_float32_vector, _factor_type(factor)), codegen


@intrinsic
def scale_complex(typingctx: Any, vector: Any, real: Any, imaginary: Any) -> Any:
    """Even lanes · real, odd lanes · imaginary."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        undefined, index = ir.Constant(_VECTOR, ir.Undefined), ir.IntType(32)
        pair = builder.insert_element(undefined, args[1], ir.Constant(index, 0))
        pair = builder.insert_element(pair, args[2], ir.Constant(index, 1))
        lanes = ir.Constant(ir.VectorType(index, LANES), [0, 1] * (LANES // 2))
        return builder.fmul(args[0], builder.shuffle_vector(pair, undefined, lanes))

    return _float32_vector(_float32_vector, types.float32, types.float32), codegen


@intrinsic
def prefetch(typingctx: Any, array: Any, index: Any) -> Any:
    """Ask for the cache line of array[index]; the index may lie outside."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        byte, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        place = builder.bitcast(_pointer(context, builder, signature.args[0], *args), byte)
        # read access, keep in all caches, data
        builder.call(function, [place, *(ir.Constant(flag, value) for value in (0, 3, 1))])
        return context.get_dummy_value()

    return types.void(array, types.uintp), codegen


@intrinsic
def multiply_add(typingctx: Any, vector: Any, factor: Any, addend: Any) -> Any:
    """vector · factor + addend; the factor is a number or another vector."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
        # llvm.fma would be fused at any cost: where the processor cannot, one call of fmaf a lane
        either = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fmuladd.v{LANES}f32")
        return builder.call(
            either, [args[0], _spread(builder, signature.args[1], args[1]), args[2]]
        )

    return _float32_vector(_float32_vector, _factor_type(factor), _float32_vector), codegen


@intrinsic
def store_pair_sum(typingctx: Any, array: Any, index: Any, vector: Any) -> Any:
    """Write the sums of the even and of the odd lanes to array[index] and array[index + 1]."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        total, lanes = args[2], LANES
        while lanes > 2:
            lanes //= 2
            halves = [_lanes(builder, total, range(first, first + lanes)) for first in (0, lanes)]
            total = builder.fadd(*halves)
        target = _pointer(context, builder, signature.args[0], args[0], args[1])
        target = builder.bitcast(target, total.type.as_pointer())
        builder.store(total, target).align = _UNALIGNED
        return context.get_dummy_value()

    return types.void(array, types.uintp, _float32_vector), codegen
