"""Vectors for numba: LLVM's own, so that a kernel written in Python keeps its accumulators in registers.

A vector fills one register of this CPU: 64 bytes with AVX-512, 32 with AVX, 16 elsewhere (SSE, NEON). It holds
`width(a)` numbers of a's type. `a` is a one-dimensional C-contiguous array or, in inner loops, a pointer: numba counts
the references to each array that a function is given, atomically, at more than the cost of a tile's products. Indices
count elements and are not checked: kernels trust, the public API checks. No load or store needs alignment beyond that
of one element, but one that crosses a line of 64 bytes costs two; so workspaces begin on such a line (memory.py).

    p = pointer(a, i)              the address of a.flat[i]; p[j] is a.flat[i + j], also p[j] = s
    v = load(a, i)                 a[i : i + width]
    store(a, i, v)                 a[i : i + width] = v
    store_first(a, i, v, n)        a[i : i + n] = the first n of v; all of them if n >= width
    load_first(a, i, n)            a[i : i + n] and zeros behind it; all of them if n >= width
    broadcast(a, i)                a[i] in every lane
    splat(a, s)                    the number s in every lane, as a vector of a's kind
    zeros(a)                       0 in every lane
    fma(u, v, w)                   u v + w, rounded once
    add(u, v)   subtract(u, v)     u + v   u - v
    multiply(u, v)   divide(u, v)  u v   u / v
    root(v)                        the square root
    maximum(u, v)                  the larger one; NaN where either is NaN
    rectify(v)                     max(v, 0); NaN for NaN
    where_positive(u, a)           a where u > 0, else 0 (also where u is NaN): the gradient of a ReLU with output u
    pick(u, v, n, j)               number n + j of u followed by v, lane by lane; n is a vector of whole numbers, and j one
    choose(u, v, a, b)             a where u > v or u is NaN, else b: what a running maximum asks of a newcomer u
    total(v)                       the sum of all lanes, by halves: (lower half) + (upper half), and so on
    add_to_float64(a, i, v)        a[i : i + width] += v, a being float64
    store_float64(a, i, v)         a[i : i + width] = v, a being float64
    from_float64(a, b, i)          b[i : i + width] as a vector of a's kind, b being float64
    as_float64(a)                  the place of the pointer a, as a pointer to float64
    store_bytes(a, i, v, n)        a[i : i + n] = the first n of v as whole numbers, a being uint8; all if n >= width
    load_bytes(a, b, i)            b[i : i + width] as a vector of a's kind, b being uint8
    equal(u, v)                    a whole number whose bit k says whether u = v in lane k
    lowest_bit(n)                  the place of the lowest 1 in a whole number that is not 0

A fused multiply-add is asked for by name and never left to the compiler, so the same sum has the same bits in a vector,
in a tail and on its own.
"""

import os

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic, models, register_model

__all__ = ["pointer", "load", "load_first", "store", "store_first", "broadcast", "splat", "zeros", "fma", "add", "subtract",
           "multiply", "divide", "root", "maximum", "rectify", "where_positive", "pick", "choose", "total",
           "add_to_float64", "store_float64", "from_float64", "as_float64", "store_bytes", "load_bytes", "equal", "lowest_bit", "width", "REGISTER_BYTES"]


def _register_bytes():
    """Return the size of the vector registers that numba compiles for: this CPU's, unless NUMBA_CPU_NAME or
    NUMBA_ENABLE_AVX says otherwise. MINICNN_VECTOR_BYTES (16, 32 or 64) overrides it, for tests."""
    if (wanted := os.environ.get("MINICNN_VECTOR_BYTES")) in ("16", "32", "64"):
        return int(wanted)
    features = set(cpu_target.target_context.codegen().magic_tuple()[2].split(","))     # none for a CPU LLVM knows not
    return 64 if features >= {"+avx512f", "+avx512vl"} else 32 if "+avx" in features else 16


REGISTER_BYTES = _register_bytes()


class Vector(types.Type):
    """The numba type of a vector of `lanes` numbers of type `element`."""

    def __init__(self, element):
        self.element = element
        self.lanes = REGISTER_BYTES // (element.bitwidth // 8)
        super().__init__(name=f"vector({element} x {self.lanes})")


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, vector_type(kind))


def vector_type(kind, element=None):
    """Return the LLVM type of a Vector, or of as many numbers of another element type."""
    element = kind.element if element is None else element
    return ir.VectorType(ir.FloatType() if element == types.float32 else ir.DoubleType(), kind.lanes)


def _pointer(context, builder, array_type, array, index, as_type):
    """Return the address of array[index], array being an array or a pointer, as a pointer to `as_type`."""
    is_pointer = isinstance(array_type, types.CPointer)
    data = array if is_pointer else context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), as_type.as_pointer())


def _align(instruction, element):
    instruction.align = element.bitwidth // 8
    return instruction


def splat_of(builder, scalar, kind):
    one = builder.insert_element(ir.Constant(vector_type(kind), ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), kind.lanes), [0] * kind.lanes)
    return builder.shuffle_vector(one, ir.Constant(vector_type(kind), ir.Undefined), lanes)


@intrinsic
def pointer(typing, array, index):
    def build(context, builder, signature, arguments):
        element = context.get_data_type(array.dtype)
        return _pointer(context, builder, signature.args[0], *arguments, element)
    return types.CPointer(array.dtype)(array, types.intp), build


@intrinsic(prefer_literal=True)
def prefetch(typing, array, index, writing):
    """Ask for the cache line of a number that is read soon, or written; `writing` is a constant, 0 or 1."""
    def build(context, builder, signature, arguments):
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        place = builder.bitcast(builder.gep(arguments[0], [arguments[1]]), byte)
        builder.call(function, [place, number(writing.literal_value), number(3), number(1)])        # to all caches, data
        return context.get_dummy_value()
    return types.void(array, types.intp, writing), build


@intrinsic
def load(typing, array, index):
    kind = Vector(array.dtype)

    def build(context, builder, signature, arguments):
        pointer = _pointer(context, builder, signature.args[0], *arguments, vector_type(kind))
        return _align(builder.load(pointer), kind.element)
    return kind(array, types.intp), build


@intrinsic
def store(typing, array, index, vector):
    def build(context, builder, signature, arguments):
        kind = signature.args[2]
        pointer = _pointer(context, builder, signature.args[0], arguments[0], arguments[1], vector_type(kind))
        _align(builder.store(arguments[2], pointer), kind.element)
        return context.get_dummy_value()
    return types.void(array, types.intp, vector), build


@intrinsic
def store_first(typing, array, index, vector, count):
    def build(context, builder, signature, arguments):
        _store_lanes(context, builder, signature, arguments, signature.args[2].lanes)
        return context.get_dummy_value()
    return types.void(array, types.intp, vector, types.intp), build


def _first_lanes(builder, count, lanes):
    """Return which of so many lanes are among the first `count`, as a vector of bits."""
    whole = ir.VectorType(count.type, lanes)
    one = builder.insert_element(ir.Constant(whole, ir.Undefined), count, ir.Constant(ir.IntType(32), 0))
    counts = builder.shuffle_vector(one, ir.Constant(whole, ir.Undefined),
                                    ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes))
    return builder.icmp_signed("<", ir.Constant(whole, list(range(lanes))), counts)


@intrinsic
def load_first(typing, array, index, count):
    kind = Vector(array.dtype)

    def build(context, builder, signature, arguments):
        vector, bits = vector_type(kind), kind.element.bitwidth
        address = _pointer(context, builder, signature.args[0], *arguments[:2], vector)
        mask = _first_lanes(builder, arguments[2], kind.lanes)
        function = ir.FunctionType(vector, [address.type, ir.IntType(32), mask.type, vector])
        name = f"llvm.masked.load.v{kind.lanes}f{bits}.p0"
        return builder.call(cgutils.get_or_insert_function(builder.module, function, name),
                            [address, ir.Constant(ir.IntType(32), bits // 8), mask, ir.Constant(vector, None)])
    return kind(array, types.intp, types.intp), build


def _store_lanes(context, builder, signature, arguments, lanes):
    """Store the lanes before the last argument; one instruction with AVX, and memory behind them is not touched."""
    array, index, vector, count = arguments
    pointer, element = _pointer(context, builder, signature.args[0], array, index, vector.type), vector.type.element
    letter = "i8" if isinstance(element, ir.IntType) else "f32" if isinstance(element, ir.FloatType) else "f64"
    alignment = 1 if letter == "i8" else int(letter[1:]) // 8
    with builder.if_else(builder.icmp_signed("<", count, ir.Constant(count.type, lanes))) as (some, all_of_them):
        with some:
            mask = _first_lanes(builder, count, lanes)
            function = ir.FunctionType(ir.VoidType(), [vector.type, pointer.type, ir.IntType(32), mask.type])
            name = f"llvm.masked.store.v{lanes}{letter}.p0"
            builder.call(cgutils.get_or_insert_function(builder.module, function, name),
                         [vector, pointer, ir.Constant(ir.IntType(32), alignment), mask])
        with all_of_them:
            builder.store(vector, pointer).align = alignment


@intrinsic
def broadcast(typing, array, index):
    kind = Vector(array.dtype)

    def build(context, builder, signature, arguments):
        scalar = builder.load(_pointer(context, builder, signature.args[0], *arguments, vector_type(kind).element))
        return splat_of(builder, scalar, kind)
    return kind(array, types.intp), build


@intrinsic
def splat(typing, array, scalar):
    kind = Vector(array.dtype)

    def build(context, builder, signature, arguments):
        return splat_of(builder, arguments[1], kind)
    return kind(array, kind.element), build


@intrinsic
def zeros(typing, array):
    kind = Vector(array.dtype)

    def build(context, builder, signature, arguments):
        return ir.Constant(vector_type(kind), [0.0] * kind.lanes)
    return kind(array), build


def fused_multiply_add(builder, kind, u, v, w):
    """Build u v + w of three vectors of a kind."""
    vector, name = vector_type(kind), f"llvm.fma.v{kind.lanes}f{kind.element.bitwidth}"
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * 3), name)
    return builder.call(function, [u, v, w])


@intrinsic
def fma(typing, u, v, w):
    def build(context, builder, signature, arguments):
        return fused_multiply_add(builder, u, *arguments)
    return u(u, v, w), build


def _arithmetic(operation):
    """Return the intrinsic of an operation on two vectors, by the name of its LLVM instruction."""
    @intrinsic
    def operate(typing, u, v):
        def build(context, builder, signature, arguments):
            return getattr(builder, operation)(*arguments)
        return u(u, v), build
    return operate


add, subtract, multiply, divide = (_arithmetic(name) for name in ("fadd", "fsub", "fmul", "fdiv"))


@intrinsic
def root(typing, v):
    def build(context, builder, signature, arguments):
        name = f"llvm.sqrt.v{v.lanes}f{v.element.bitwidth}"
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(vector_type(v), [vector_type(v)]), name)
        return builder.call(function, arguments)
    return v(v), build


def _wins(builder, new, old):
    """Return, lane by lane, whether new > old or new is NaN: then, and only then, a running maximum changes hands."""
    return builder.or_(builder.fcmp_ordered(">", new, old), builder.fcmp_unordered("uno", new, new))


@intrinsic
def maximum(typing, u, v):
    def build(context, builder, signature, arguments):
        return builder.select(_wins(builder, *arguments), *arguments)
    return u(u, v), build


@intrinsic
def choose(typing, u, v, a, b):
    def build(context, builder, signature, arguments):
        return builder.select(_wins(builder, *arguments[:2]), *arguments[2:])
    return a(u, v, a, b), build


@intrinsic
def rectify(typing, v):
    def build(context, builder, signature, arguments):
        zero = ir.Constant(vector_type(v), [0.0] * v.lanes)
        # `v <= 0` is false for NaN, which therefore passes.
        return builder.select(builder.fcmp_ordered("<=", arguments[0], zero), zero, arguments[0])
    return v(v), build


@intrinsic
def where_positive(typing, u, a):
    def build(context, builder, signature, arguments):
        zero = ir.Constant(vector_type(u), [0.0] * u.lanes)
        return builder.select(builder.fcmp_ordered(">", arguments[0], zero), arguments[1], zero)
    return a(u, a), build


@intrinsic
def pick(typing, u, v, n, j):
    def build(context, builder, signature, arguments):
        lanes, bits = u.lanes, u.element.bitwidth
        whole = ir.VectorType(ir.IntType(bits), lanes)
        number = arguments[3] if bits == 64 else builder.trunc(arguments[3], ir.IntType(bits))
        one = builder.insert_element(ir.Constant(whole, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
        first = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
        places = builder.add(builder.fptosi(arguments[2], whole),
                             builder.shuffle_vector(one, ir.Constant(whole, ir.Undefined), first))
        if REGISTER_BYTES == 64:
            # One instruction. LLVM has no name of its own for it.
            name = f"llvm.x86.avx512.vpermi2var.{'ps' if bits == 32 else 'pd'}.512"
            function = ir.FunctionType(vector_type(u), [vector_type(u), whole, vector_type(u)])
            return builder.call(cgutils.get_or_insert_function(builder.module, function, name),
                                [arguments[0], places, arguments[1]])
        both = cgutils.alloca_once(builder, vector_type(u), 2)
        for half in (0, 1):
            builder.store(arguments[half], builder.gep(both, [ir.Constant(ir.IntType(32), half)]))
        numbers, picked = builder.bitcast(both, vector_type(u).element.as_pointer()), ir.Constant(vector_type(u), ir.Undefined)
        for lane in range(lanes):
            lane = ir.Constant(ir.IntType(32), lane)
            place = builder.gep(numbers, [builder.extract_element(places, lane)])
            picked = builder.insert_element(picked, builder.load(place), lane)
        return picked
    return u(u, v, n, types.int64), build


@intrinsic
def total(typing, v):
    def build(context, builder, signature, arguments):
        vector, lanes = arguments[0], v.lanes
        while lanes > 1:
            lanes //= 2
            halves = [builder.shuffle_vector(vector, vector, ir.Constant(ir.VectorType(ir.IntType(32), lanes),
                                                                         list(range(first, first + lanes))))
                      for first in (0, lanes)]
            vector = builder.fadd(*halves)
        return builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))
    return v.element(v), build


def _into_float64(adding):
    """Return the intrinsic that stores a vector's numbers as float64, or adds them to what is there."""
    @intrinsic
    def write(typing, array, index, vector):
        def build(context, builder, signature, arguments):
            wide = vector_type(vector, types.float64)
            value = arguments[2] if vector.element == types.float64 else builder.fpext(arguments[2], wide)
            pointer = _pointer(context, builder, signature.args[0], arguments[0], arguments[1], wide)
            if adding:
                value = builder.fadd(_align(builder.load(pointer), types.float64), value)
            _align(builder.store(value, pointer), types.float64)
            return context.get_dummy_value()
        return types.void(array, types.intp, vector), build
    return write


add_to_float64, store_float64 = _into_float64(True), _into_float64(False)


@intrinsic
def from_float64(typing, array, wide, index):
    kind = Vector(array.dtype)

    def build(context, builder, signature, arguments):
        doubles = vector_type(kind, types.float64)
        address = _pointer(context, builder, signature.args[1], *arguments[1:], doubles)
        loaded = _align(builder.load(address), types.float64)
        return loaded if kind.element == types.float64 else builder.fptrunc(loaded, vector_type(kind))
    return kind(array, wide, types.intp), build


@intrinsic
def as_float64(typing, array):
    def build(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.DoubleType().as_pointer())
    return types.CPointer(types.float64)(array), build


@intrinsic
def store_bytes(typing, array, index, vector, count):
    def build(context, builder, signature, arguments):
        kind = signature.args[2]
        bytes_ = builder.fptoui(arguments[2], ir.VectorType(ir.IntType(8), kind.lanes))
        _store_lanes(context, builder, signature, (*arguments[:2], bytes_, arguments[3]), kind.lanes)
        return context.get_dummy_value()
    return types.void(array, types.intp, vector, types.intp), build


@intrinsic
def load_bytes(typing, array, bytes_, index):
    kind = Vector(array.dtype)

    def build(context, builder, signature, arguments):
        eight_bits = ir.VectorType(ir.IntType(8), kind.lanes)
        loaded = builder.load(_pointer(context, builder, signature.args[1], *arguments[1:], eight_bits))
        loaded.align = 1
        return builder.uitofp(loaded, vector_type(kind))
    return kind(array, bytes_, types.intp), build


@intrinsic
def equal(typing, u, v):
    def build(context, builder, signature, arguments):
        lanes = builder.bitcast(builder.fcmp_ordered("==", *arguments), ir.IntType(u.lanes))
        return builder.zext(lanes, ir.IntType(64))
    return types.int64(u, v), build


@intrinsic
def lowest_bit(typing, number):
    def build(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))
    return types.int64(types.int64), build


@intrinsic
def width(typing, array):
    """How many numbers of the array's type one vector holds: a constant of the compiled code."""
    def build(context, builder, signature, arguments):
        return ir.Constant(ir.IntType(64), Vector(array.dtype).lanes)
    return types.intp(array), build
