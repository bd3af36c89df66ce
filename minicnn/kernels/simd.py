"""Vectors for numba: LLVM's own, so that a kernel written in Python keeps its accumulators in registers.

A vector holds `width(array)` numbers: 8 of float32 or 4 of float64 (one AVX register; LLVM lowers the same vectors to
SSE or NEON where the CPU has no AVX). Arrays are one-dimensional and C-contiguous; indices count elements and are not
checked: kernels trust, the public doors check. No load or store needs alignment beyond that of one element.

    v = load(a, i)            a[i : i + width]
    store(a, i, v)            a[i : i + width] = v
    broadcast(a, i)           a[i] in every lane
    splat(a, s)               the number s in every lane, as a vector of a's kind
    fma(u, v, w)              u v + w, rounded once
    add(u, v)                 u + v
    add_to_float64(a, i, v)   a[i : i + width] += v, a being float64

A fused multiply-add is asked for by name and never left to the compiler, so the same sum has the same bits in a vector,
in a tail and on its own.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

__all__ = ["load", "store", "broadcast", "splat", "fma", "add", "add_to_float64", "width"]

_BYTES = 32


class Vector(types.Type):
    """The numba type of a vector of `lanes` numbers of type `element`."""

    def __init__(self, element):
        self.element = element
        self.lanes = _BYTES // (element.bitwidth // 8)
        super().__init__(name=f"vector({element} x {self.lanes})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, _llvm(kind))


def _llvm(kind, element=None):
    """Return the LLVM type of a Vector, or of as many numbers of another element type."""
    element = kind.element if element is None else element
    return ir.VectorType(ir.FloatType() if element == types.float32 else ir.DoubleType(), kind.lanes)


def _pointer(context, builder, array_type, array, index, as_type):
    """Return the address of array[index] as a pointer to `as_type`."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), as_type.as_pointer())


def _align(instruction, element):
    instruction.align = element.bitwidth // 8
    return instruction


def _splat(builder, scalar, kind):
    one = builder.insert_element(ir.Constant(_llvm(kind), ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), kind.lanes), [0] * kind.lanes)
    return builder.shuffle_vector(one, ir.Constant(_llvm(kind), ir.Undefined), lanes)


@intrinsic
def load(typing, array, index):
    kind = Vector(array.dtype)

    def build(context, builder, signature, arguments):
        pointer = _pointer(context, builder, signature.args[0], *arguments, _llvm(kind))
        return _align(builder.load(pointer), kind.element)
    return kind(array, types.intp), build


@intrinsic
def store(typing, array, index, vector):
    def build(context, builder, signature, arguments):
        kind = signature.args[2]
        pointer = _pointer(context, builder, signature.args[0], arguments[0], arguments[1], _llvm(kind))
        _align(builder.store(arguments[2], pointer), kind.element)
        return context.get_dummy_value()
    return types.void(array, types.intp, vector), build


@intrinsic
def broadcast(typing, array, index):
    kind = Vector(array.dtype)

    def build(context, builder, signature, arguments):
        scalar = builder.load(_pointer(context, builder, signature.args[0], *arguments, _llvm(kind).element))
        return _splat(builder, scalar, kind)
    return kind(array, types.intp), build


@intrinsic
def splat(typing, array, scalar):
    kind = Vector(array.dtype)

    def build(context, builder, signature, arguments):
        return _splat(builder, arguments[1], kind)
    return kind(array, kind.element), build


@intrinsic
def fma(typing, u, v, w):
    def build(context, builder, signature, arguments):
        vector = _llvm(u)
        name = f"llvm.fma.v{u.lanes}f{u.element.bitwidth}"
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * 3), name)
        return builder.call(function, arguments)
    return u(u, v, w), build


@intrinsic
def add(typing, u, v):
    def build(context, builder, signature, arguments):
        return builder.fadd(*arguments)
    return u(u, v), build


@intrinsic
def add_to_float64(typing, array, index, vector):
    def build(context, builder, signature, arguments):
        wide = _llvm(vector, types.float64)
        value = arguments[2] if vector.element == types.float64 else builder.fpext(arguments[2], wide)
        pointer = _pointer(context, builder, signature.args[0], arguments[0], arguments[1], wide)
        total = builder.fadd(_align(builder.load(pointer), types.float64), value)
        _align(builder.store(total, pointer), types.float64)
        return context.get_dummy_value()
    return types.void(array, types.intp, vector), build


@intrinsic
def width(typing, array):
    """How many numbers of the array's type one vector holds: a constant of the compiled code."""
    def build(context, builder, signature, arguments):
        return ir.Constant(ir.IntType(64), Vector(array.dtype).lanes)
    return types.intp(array), build
