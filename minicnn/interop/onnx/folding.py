"""Operations of an ONNX graph on arrays that are known when it is read: shapes, and what exporters compute of them.

Each function takes an Operation (operators.py) and arrays, and returns an array, or a list of arrays. Before it makes one, it
asks `operation.room(shape)`, which refuses what is too large.
"""

import math

import numpy as np

from minicnn.errors import InputError

__all__ = ["FOLDED", "slices_of"]


def _by_elements(function):
    def run(operation, *arrays):
        operation.room(np.broadcast_shapes(*(np.shape(array) for array in arrays)))
        result = np.asarray(function(*arrays))
        logical = result.dtype == bool
        return result if logical or not arrays[0].dtype.kind in "iu" else result.astype(arrays[0].dtype)
    return run


def _in_turn(function):
    def run(operation, *arrays):
        operation.room(np.broadcast_shapes(*(array.shape for array in arrays)))
        result = arrays[0]
        for array in arrays[1:]:
            result = function(result, array)
        return result
    return run


def _divide(a, b):
    """Divide; whole numbers toward zero, as C does."""
    if a.dtype.kind not in "iu":
        return a / b
    if (b == 0).any():
        raise InputError("a division by zero")
    quotient = a // b
    return quotient + ((a % b != 0) & ((a < 0) != (b < 0)))


def _mod(operation, a, b):
    operation.room(np.broadcast_shapes(a.shape, b.shape))
    if a.dtype.kind in "iu" and (b == 0).any():
        raise InputError("a division by zero")
    return np.fmod(a, b) if operation.attribute("fmod", 0) else np.mod(a, b)


def _power(a, b):
    if a.dtype.kind in "iu" and b.dtype.kind in "iu" and (b < 0).any():
        raise InputError("a whole number to a negative power")
    return np.power(a, b)


def _cast(operation, x):
    return x.astype(operation.dtype(operation.attribute("to", kind="int")))


def _constant(operation):
    operation.ignore("value_string", "value_strings", "sparse_value")
    for name, kind, dtype in (("value", "tensor", None), ("value_int", "int", np.int64), ("value_ints", "ints", np.int64),
                              ("value_float", "float", np.float32), ("value_floats", "floats", np.float32)):
        if operation.has(name):
            value = operation.attribute(name, kind=kind)
            return operation.array(value) if kind == "tensor" else np.array(value, dtype)
    raise InputError("a constant of numbers is expected, no text, and no sparse tensor")


def _constant_of_shape(operation, shape):
    value = operation.attribute("value", None, kind="tensor")
    value = np.zeros(1, np.float32) if value is None else operation.array(value)
    if value.size != 1:
        raise InputError(f"its value has {value.size:,} numbers, not one")
    return np.full(operation.room(shape), value.reshape(()))


def _shape(operation, x):
    return np.array(shape_slice(operation, x.shape), np.int64)


def shape_slice(operation, shape):
    """Return what Shape gives of a shape: its sizes from `start` to `end`."""
    return shape[slice(operation.attribute("start", 0), operation.attribute("end", None, kind="int"))]


def _gather(operation, x, indices):
    axis = operation.within(operation.attribute("axis", 0), x.ndim)
    operation.room(x.shape[:axis] + indices.shape + x.shape[axis + 1:])
    return np.take(x, indices.astype(np.int64), axis)


def _slice(operation, x, *_):
    index = [slice(None)] * x.ndim
    for axis, taken in slices_of(operation, x.ndim).items():
        index[axis] = taken
    return x[tuple(index)]


def slices_of(operation, rank):
    """Return {axis: slice} of a Slice of an array of `rank` axes."""
    given = {}
    for i, name in enumerate(("starts", "ends", "axes", "steps"), 1):
        given[name] = operation.numbers(name, i, None) if name in ("axes", "steps") else operation.numbers(name, i)
    starts, ends = given["starts"], given["ends"]
    axes = list(range(len(starts))) if given["axes"] is None else given["axes"]
    steps = [1] * len(starts) if given["steps"] is None else given["steps"]
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise InputError("its starts, ends, axes and steps are not equally many, or a step is 0")
    taken = {}
    for start, end, axis, step in zip(starts, ends, axes, steps):
        axis = operation.within(axis, rank)
        if axis in taken:
            raise InputError(f"axis {axis} is cut twice")
        size = 2**62        # an end far below zero means: through the first one
        taken[axis] = slice(start, None if step < 0 and end < -size else end, step)
    return taken


def _concat(operation, *arrays):
    axis = operation.within(operation.attribute("axis", kind="int"), arrays[0].ndim)
    operation.room((sum(array.size for array in arrays),))
    return np.concatenate(arrays, axis)


def _reshape(operation, x, shape):
    return x.reshape(target_shape(x.shape, [int(size) for size in shape.ravel()], operation.attribute("allowzero", 0)))


def target_shape(shape, target, allowzero=False):
    """Return what Reshape makes of a shape: 0 keeps a size, -1 is what is left."""
    if len(target) > 8 or any(size < -1 for size in target) or target.count(-1) > 1:
        raise InputError(f"the shape {target} is asked for")
    if not allowzero:
        if any(size == 0 and i >= len(shape) for i, size in enumerate(target)):
            raise InputError(f"the shape {target} keeps a size of {shape} that is not there")
        target = [shape[i] if size == 0 else size for i, size in enumerate(target)]
    given, rest = math.prod(shape), math.prod(size for size in target if size != -1)
    if -1 in target and (rest == 0 or given % rest) or -1 not in target and given != rest:
        raise InputError(f"{given:,} numbers, of shape {tuple(shape)}, do not fit into {target}")
    return tuple(given // rest if size == -1 else size for size in target)


def _squeeze(operation, x, *_):
    axes = operation.numbers("axes", 1, None)
    axes = [axis for axis, size in enumerate(x.shape) if size == 1] if axes is None else axes
    return np.squeeze(x, tuple(operation.within(axis, x.ndim) for axis in axes))


def _unsqueeze(operation, x, *_):
    axes = operation.numbers("axes", 1)
    if x.ndim + len(axes) > 8:
        raise InputError("more than 8 axes")
    return np.expand_dims(x, tuple(operation.within(axis, x.ndim + len(axes)) for axis in axes))


def _transpose(operation, x):
    return x.transpose(operation.attribute("perm", None, kind="ints"))


def _flatten(operation, x):
    axis = operation.attribute("axis", 1)
    axis = operation.within(axis, x.ndim + 1) if axis >= 0 else operation.within(axis, x.ndim)
    return x.reshape(math.prod(x.shape[:axis]), -1) if x.size else x


def _expand(operation, x, shape):
    shape = tuple(int(size) for size in shape.ravel())
    if min(shape, default=1) < 0 or len(shape) > 8:
        raise InputError(f"the shape {shape} is asked for")
    return np.broadcast_to(x, operation.room(np.broadcast_shapes(x.shape, shape)))


def _tile(operation, x, repeats):
    repeats = [int(n) for n in repeats.ravel()]
    if len(repeats) != x.ndim or min(repeats, default=1) < 0:
        raise InputError(f"it repeats {x.ndim} axes {repeats} times")
    operation.room([size * n for size, n in zip(x.shape, repeats)])
    return np.tile(x, repeats)


def _range(operation, start, limit, delta):
    numbers = [float(one.reshape(())) for one in (start, limit, delta)]
    if not np.isfinite(numbers).all() or numbers[2] == 0:
        raise InputError(f"a range of {numbers}")
    operation.room((max(0, math.ceil((numbers[1] - numbers[0]) / numbers[2])),))
    return np.arange(start.reshape(()), limit.reshape(()), delta.reshape(()), dtype=start.dtype)


def _pad(operation, x, *_):
    if operation.attribute("mode", "constant") != "constant":
        raise InputError("of constants, the mode 'constant' alone is supported")
    margins, value = operation.margins(x.ndim)
    operation.room([size + before + after for size, (before, after) in zip(x.shape, margins)])
    index = tuple(slice(max(-before, 0), size - max(-after, 0)) for size, (before, after) in zip(x.shape, margins))
    return np.pad(x[index], [(max(before, 0), max(after, 0)) for before, after in margins], constant_values=value)


def _split(operation, x, *_):
    axis = operation.within(operation.attribute("axis", 0), x.ndim)
    ends = np.cumsum(operation.split_sizes(x.shape[axis]))
    return np.split(x, ends[:-1], axis)


def _reduced(function):
    def run(operation, x, *_):
        axes = operation.numbers("axes", 1, None)
        if not axes and operation.attribute("noop_with_empty_axes", 0):
            return x
        axes = tuple(operation.within(axis, x.ndim) for axis in axes) if axes else None
        return np.asarray(function(x, axis=axes, keepdims=bool(operation.attribute("keepdims", 1)))).astype(x.dtype)
    return run


FOLDED = {name: _by_elements(function) for name, function in {
    "Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": _divide, "Pow": _power, "Neg": np.negative, "Abs": np.abs,
    "Sqrt": np.sqrt, "Exp": np.exp, "Log": np.log, "Reciprocal": np.reciprocal, "Floor": np.floor, "Ceil": np.ceil,
    "Round": np.rint, "Sign": np.sign, "Equal": np.equal, "Less": np.less, "Greater": np.greater, "Not": np.logical_not,
    "LessOrEqual": np.less_equal, "GreaterOrEqual": np.greater_equal, "And": np.logical_and, "Or": np.logical_or}.items()} | {
    "Max": _in_turn(np.maximum), "Min": _in_turn(np.minimum), "Sum": _in_turn(np.add),
    "Where": lambda operation, condition, a, b: np.where(
        condition, np.broadcast_to(a, operation.room(np.broadcast_shapes(condition.shape, a.shape, b.shape))), b),
    "Mod": _mod, "Cast": _cast, "Constant": _constant, "ConstantOfShape": _constant_of_shape, "Identity": lambda operation, x: x,
    "Shape": _shape, "Size": lambda operation, x: np.array(x.size, np.int64), "Gather": _gather, "Slice": _slice,
    "Concat": _concat, "Reshape": _reshape, "Squeeze": _squeeze, "Unsqueeze": _unsqueeze, "Transpose": _transpose,
    "Flatten": _flatten, "Expand": _expand, "Tile": _tile, "Range": _range, "Pad": _pad, "Split": _split,
    "ReduceProd": _reduced(np.prod), "ReduceSum": _reduced(np.sum), "ReduceMax": _reduced(np.max), "ReduceMin": _reduced(np.min)}
