"""A tile of sums in registers: `rows` x `vectors` of them, numbers of one row of a product lying side by side.

    x[rows[0] + k] -->  [ t00 ][ t01 ]          a term: load w's vectors once, broadcast each row's number of x once,
    x[rows[1] + k] -->  [ t10 ][ t11 ]          and multiply and add each pair
      ...                 ...
                           w[k, 0 : 2 vectors]

A tile is a tuple of rows, a row a tuple of vectors (simd.py), so its size is part of its type and every loop over it is
unrolled as it is compiled. Where its rows begin is a tuple of whole numbers.

    rows_of(at, n)                 the n whole numbers from the pointer `at` on; n is a constant
    no_sums(x, rows, v)            a tile of zeros for these rows, v vectors each; v is a constant
    multiply_add(t, x, rows, k, w, j)       t[r][v] + x[rows[r] + k] * w[j + v width : + width]
    add_tiles(t, u)                t + u
    store_tile(y, i, step, t)      y[i + r step : ] = row r of t
    add_tile(y, i, step, t)        y[i + r step : ] += row r of t
    finish_tile(y, at, t, end)     y[at[r] : ] = max(row r of t * s + b, low), NaN for NaN; end: s's vectors, b's, then low
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from minicnn.kernels.runtime.simd import Vector, fused_multiply_add, splat_of, vector_type

__all__ = ["rows_of", "no_sums", "multiply_add", "add_tiles", "store_tile", "add_tile", "finish_tile"]


def _whole(number):
    return ir.Constant(ir.IntType(64), number)


@intrinsic(prefer_literal=True)
def rows_of(typing, at, n):
    kind = types.UniTuple(types.int64, n.literal_value)

    def build(context, builder, signature, arguments):
        rows = [builder.load(builder.gep(arguments[0], [_whole(r)])) for r in range(len(kind))]
        return context.make_tuple(builder, kind, rows)
    return kind(at, n), build


@intrinsic(prefer_literal=True)
def no_sums(typing, x, rows, v):
    kind = types.UniTuple(types.UniTuple(Vector(x.dtype), v.literal_value), len(rows))

    def build(context, builder, signature, arguments):
        return ir.Constant(context.get_value_type(kind), None)
    return kind(x, rows, v), build


def _address(builder, pointer, place, kind):
    """Return where a vector of a kind begins, as LLVM's pointer to it."""
    return builder.bitcast(builder.gep(pointer, [place]), vector_type(kind).as_pointer())


def _unpack(builder, tile_type, tile):
    """Return the vectors of a tile as a list of lists."""
    return [cgutils.unpack_tuple(builder, row, len(tile_type.dtype))
            for row in cgutils.unpack_tuple(builder, tile, len(tile_type))]


@intrinsic
def multiply_add(typing, tile, x, rows, k, w, j):
    def build(context, builder, signature, arguments):
        sums, kind = _unpack(builder, tile, arguments[0]), tile.dtype.dtype
        _, x_at, starts, term, w_at, place = arguments
        factors = []
        for v in range(len(tile.dtype)):
            factors.append(builder.load(_address(builder, w_at, builder.add(place, _whole(v * kind.lanes)), kind)))
            factors[v].align = kind.element.bitwidth // 8
        results = []
        for start, row in zip(cgutils.unpack_tuple(builder, starts, len(rows)), sums):
            number = splat_of(builder, builder.load(builder.gep(x_at, [builder.add(start, term)])), kind)
            sums_of_row = [fused_multiply_add(builder, kind, number, factor, total) for factor, total in zip(factors, row)]
            results.append(context.make_tuple(builder, tile.dtype, sums_of_row))
        return context.make_tuple(builder, tile, results)
    return tile(tile, x, rows, types.intp, w, types.intp), build


@intrinsic
def add_tiles(typing, t, u):
    def build(context, builder, signature, arguments):
        rows = [context.make_tuple(builder, t.dtype, [builder.fadd(*pair) for pair in zip(*both)])
                for both in zip(*(_unpack(builder, t, tile) for tile in arguments))]
        return context.make_tuple(builder, t, rows)
    return t(t, u), build


def _writing(adding):
    """Return the intrinsic that stores a tile or adds it to what is there."""
    @intrinsic
    def write(typing, y, i, step, tile):
        def build(context, builder, signature, arguments):
            kind, start = tile.dtype.dtype, arguments[1]
            for r, row in enumerate(_unpack(builder, tile, arguments[3])):
                for v, total in enumerate(row):
                    of_row = builder.add(start, builder.mul(arguments[2], _whole(r)))
                    place = builder.add(of_row, _whole(v * kind.lanes))
                    address, align = _address(builder, arguments[0], place, kind), kind.element.bitwidth // 8
                    if adding:
                        before = builder.load(address)
                        before.align = align
                        total = builder.fadd(before, total)
                    builder.store(total, address).align = align
            return context.get_dummy_value()
        return types.void(y, types.intp, types.intp, tile), build
    return write


store_tile, add_tile = _writing(False), _writing(True)


@intrinsic
def finish_tile(typing, y, at, tile, end):
    def build(context, builder, signature, arguments):
        y_at, places, _, end_at = arguments
        *ends, low = cgutils.unpack_tuple(builder, end_at, len(end))
        scales, biases = ends[:len(ends) // 2], ends[len(ends) // 2:]
        for r, row in enumerate(_unpack(builder, tile, arguments[2])):
            start = builder.load(builder.gep(places, [_whole(r)]))
            for v, ends_of in enumerate(zip(row, scales, biases)):
                value = fused_multiply_add(builder, end.dtype, *ends_of)
                value = builder.select(builder.fcmp_ordered("<=", value, low), low, value)
                address = _address(builder, y_at, builder.add(start, _whole(v * end.dtype.lanes)), end.dtype)
                builder.store(value, address).align = end.dtype.element.bitwidth // 8
        return context.get_dummy_value()
    return types.void(y, at, tile, end), build
