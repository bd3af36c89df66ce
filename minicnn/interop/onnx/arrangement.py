"""ONNX operators along an axis, and of shapes: softmax, means, joining, cutting, padding, and what only renames axes."""

import math

import numpy as np

from minicnn.errors import InputError
from minicnn.interop.onnx.elementwise import applied, pair, product, scaled, shifted
from minicnn.interop.onnx.folding import slices_of, target_shape
from minicnn.interop.onnx.graph import Known, Tensor
from minicnn.interop.onnx.matrices import repeated, tiled, times_rows
from minicnn.interop.onnx.windows import filled, padded, squared_up

__all__ = ["ARRANGEMENT"]

_MOST_PARTS = 64                    # that are cut out of an array and joined: each is a layer


def reduced(tensor, axes, kind, main=False):
    """Return a tensor's mean (kind "Average") or maximum ("Max") over axes of the file, which stay with size 1."""
    kind = f"Global{kind}Pooling2D"
    if not axes:
        return tensor
    if len(tensor.order) == 3 and sorted(axes) == sorted(tensor.order[:2]):
        return tensor.then(kind, main=main, keepdims=True)
    order = [axis for axis in tensor.order if axis in axes] + [axis for axis in tensor.order if axis not in axes]
    tensor = tensor.arranged(order)
    sizes = tensor.step.shape
    n, rest = math.prod(sizes[:len(axes)]), sizes[len(axes):]
    image = tensor.then("Reshape", main=False, target_shape=(n, 1, math.prod(rest)))
    return image.then(kind, main=main).then("Reshape", order=order, main=False, target_shape=(1,) * len(axes) + rest)


def reduction(kind, finish=lambda tensor, count: tensor, begin=lambda tensor: tensor):
    def handle(operation):
        tensor, axes = operation.tensor(), operation.numbers("axes", 1, None)
        noop, keep = operation.attribute("noop_with_empty_axes", 0), operation.attribute("keepdims", 1)
        if not axes and noop:
            return finish(begin(tensor), 1)
        if not axes and tensor.graph.batched:
            raise InputError("it goes over the samples too, which do not mix")
        axes = operation.axes(tensor, axes or range(tensor.rank))
        result = finish(reduced(begin(tensor), axes, kind, main=True), math.prod(tensor.shape[axis] for axis in axes))
        return result if keep else result.reshaped([size for axis, size in enumerate(result.shape) if axis not in axes])
    return handle


def softmax_rows(operation, compute):
    """Return what `compute` makes of a tensor along the axis of a Softmax: below opset 13, of all axes from it on as one."""
    tensor = operation.tensor()
    axis = operation.axis(tensor, operation.attribute("axis", -1 if operation.version >= 13 else 1))
    shape = tensor.shape
    if operation.version < 13 and math.prod(shape[axis + 1:]) > 1:
        return compute(tensor.reshaped((*shape[:axis], math.prod(shape[axis:]))).with_last(axis)).reshaped(shape)
    return compute(tensor.with_last(axis))


def softmax(operation):
    return softmax_rows(operation, lambda tensor: tensor.then("Softmax"))


def less_its_largest(tensor):
    return pair("subtract", tensor, reduced(tensor, [tensor.order[-1]], "Max"), main=False)


def log_softmax(operation):
    def compute(tensor):
        tensor = less_its_largest(tensor)
        exponentials = reduced(applied(tensor, "exp"), [tensor.order[-1]], "Average")
        return pair("subtract", tensor, applied(scaled(exponentials, tensor.step.shape[-1]), "log"))
    return softmax_rows(operation, compute)


def hardmax(operation):
    """1 at the first of the largest numbers, else 0."""
    def compute(tensor):
        n = tensor.step.shape[-1]
        if n > 4096:
            raise InputError(f"a Hardmax of {n:,} numbers; at most 4,096 are supported")
        largest = shifted(scaled(applied(scaled(less_its_largest(tensor), -1), "sign"), -1), 1)
        before = times_rows(largest, np.triu(np.ones((n, n)), 1), main=False, fixed=True)
        return product(largest, shifted(scaled(applied(before, "sign"), -1), 1))
    return softmax_rows(operation, compute)


# ---- Shapes ----------------------------------------------------------------------------------------------------------

def joined(tensors, axis):
    """Return tensors side by side along an axis of the file."""
    if len(tensors) == 1:
        return tensors[0]
    place, order, graph = tensors[0].order.index(axis), tensors[0].order, tensors[0].graph
    shapes = [tensor.step.shape for tensor in tensors]
    if len({shape[:place] + shape[place + 1:] for shape in shapes}) > 1:
        raise InputError(f"arrays of different sizes are joined along an axis: {shapes}"[:300])
    before = shapes[0][:place]
    rows = tensors if place == len(order) - 1 else [
        one.then("Reshape", main=False, target_shape=(*(before or (1,)), math.prod(one.step.shape[place:]))) for one in tensors]
    result = Tensor(graph, graph.step("Concatenate", [row.step for row in rows]), order)
    if place == len(order) - 1:
        return result
    return result.then("Reshape", main=False, target_shape=(*before, sum(shape[place] for shape in shapes), *shapes[0][place + 1:]))


def concat(operation):
    """Concat joins arrays that need not be equally long along its axis, so they are arranged one by one."""
    first = next(value for value in operation.inputs if isinstance(value, Tensor))
    axis = operation.axis(first, operation.attribute("axis", kind="int"))
    tensors = []
    for i, value in enumerate(operation.inputs):
        if isinstance(value, Known):
            array = operation.constant(i)
            if array.ndim != first.rank or first.graph.batched and array.shape[0] != 1:
                raise InputError(f"a constant of shape {array.shape} is joined with arrays of {first.rank} axes, for each sample")
            array = (array[0] if first.graph.batched else array).transpose(first.order)
            tensors.append(Tensor(first.graph, first.graph.constant(array, first.step), first.order))
        elif value is None or len(value.order) != len(first.order):
            raise InputError("arrays of different numbers of axes are joined")
        else:
            tensors.append(value.arranged(first.order))
    return joined(tensors, axis)


def with_margins(tensor, margins, value=0.0):
    """Return a tensor with margins (before, after) along each axis of the file, removed where negative."""
    ours = [margins[axis] for axis in tensor.order]
    if not any(map(any, ours)):
        return tensor
    for axis, (size, sides) in enumerate(zip(tensor.shape, margins)):
        if size + sum(sides) < 1 or size + min(sides) < 1:
            raise InputError(f"margins of {sides} leave nothing of {size}")
    if len(ours) == 3 and not any(ours[2]):
        result = padded(tensor, tuple(map(tuple, ours[:2])), main=True)
        return filled(result, [tuple(max(side, 0) for side in sides) for sides in ours[:2]], value, main=True) if value and \
            max(map(max, ours)) > 0 else result
    for axis, sides in enumerate(margins):
        if any(sides):
            order, shape = tensor.order, list(tensor.step.shape)
            shape[order.index(axis)] += sum(sides)
            image = padded(squared_up(tensor, axis), ((0, 0), tuple(sides)))
            if value and max(sides) > 0:
                image = filled(image, [(0, 0), tuple(max(side, 0) for side in sides)], value)
            tensor = image.then("Reshape", order=order, main=False, target_shape=tuple(shape)) if image.step.shape != tuple(shape) \
                else Tensor(tensor.graph, image.step, order)
    return tensor


def pad(operation):
    tensor, mode = operation.tensor(), operation.attribute("mode", "constant")
    margins, value = operation.margins(tensor.rank)
    if tensor.graph.batched and any(margins.pop(0)):
        raise InputError("it pads the samples")
    is_pooled = operation.takers and set(operation.takers) <= {"MaxPool", "Cast", "Identity", "Transpose"}
    if mode == "edge" and min(map(min, margins)) >= 0 and is_pooled:
        return tensor.same(edge={axis: sides for axis, sides in enumerate(margins) if any(sides)})
    if mode in ("edge", "reflect", "wrap"):
        for axis, sides in enumerate(margins):
            inside = np.arange(max(-sides[0], 0), tensor.shape[axis] + min(sides[1], 0))
            more = [max(side, 0) for side in sides]
            if not len(inside) or sum(more) > _MOST_PARTS:
                raise InputError(f"pads of {sides} of {tensor.shape[axis]}; with this mode at most {_MOST_PARTS} numbers are added along "
                                 "an axis")
            tensor = picked(tensor, axis, np.pad(inside, more, mode))
        return tensor
    if mode != "constant":
        raise InputError("its mode is none of constant, edge, reflect, wrap")
    return with_margins(tensor, margins, value)


def slice_(operation):
    tensor = operation.tensor()
    for axis, taken in slices_of(operation, tensor.rank).items():
        if tensor.graph.batched and axis == 0 and (taken.start or 0) == 0 and (taken.stop or 0) >= 2**31 - 1 and taken.step == 1:
            continue        # all samples
        tensor = cut(tensor, operation.axis(tensor, axis), taken)
    return tensor


def cut(tensor, axis, taken):
    """Return the slice of a tensor along an axis of the file."""
    size = tensor.shape[axis]
    start, stop, step = taken.indices(size)
    count = len(range(start, stop, step))
    if count < 1:
        raise InputError(f"a slice from {start} to {stop} in steps of {step} of {size} takes nothing")
    if step < 0:
        return picked(tensor, axis, np.arange(start, stop, step))
    margins = [(0, 0)] * len(tensor.order)
    margins[axis] = -start, start + (count - 1) * step + 1 - size
    tensor = with_margins(tensor, margins)
    if step == 1:
        return tensor
    order, shape = tensor.order, list(tensor.step.shape)
    shape[order.index(axis)] = count
    image = squared_up(tensor, axis).then("MaxPool2D", main=False, pool_size=1, strides=(1, step))
    return image.then("Reshape", order=order, main=False, target_shape=tuple(shape))


def picked(tensor, axis, indices):
    """Return the numbers at some indices along an axis of the file: slices of indices in a row, joined."""
    starts = np.flatnonzero(np.diff(indices, prepend=-2) != 1)
    if len(starts) > _MOST_PARTS:
        raise InputError(f"its indices are {len(starts)} slices, at most {_MOST_PARTS} are joined")
    runs = np.split(indices, starts[1:])
    return joined([cut(tensor, axis, slice(int(run[0]), int(run[-1]) + 1, 1)) for run in runs], axis)


def split(operation):
    tensor = operation.tensor()
    axis = operation.axis(tensor, operation.attribute("axis", 0))
    start, parts = 0, []
    for size in operation.split_sizes(tensor.shape[axis]):
        parts.append(cut(tensor, axis, slice(start, start + size, 1)))
        start += size
    return parts


def gather(operation):
    tensor, index = operation.tensor(), operation.constant(1)
    axis = operation.axis(tensor, operation.attribute("axis", 0))
    size = tensor.shape[axis]
    if not index.size or index.ndim > 1 or index.dtype.kind not in "iu" or not -size <= index.min() <= index.max() < size:
        raise InputError(f"its indices must be one, or a row of them, within {size}")
    result = picked(tensor, axis, index.ravel() % size)
    return result if index.ndim else result.reshaped(result.shape[:axis] + result.shape[axis + 1:])


def reshaped(operation, rule):
    """Return the tensor in the shape that `rule` makes of its full shape, for each of the numbers of samples."""
    tensor, graph = operation.tensor(), operation.graph
    shapes = []
    for i, shape in enumerate(graph.shape_of(tensor)):
        operation.sample = i
        shapes.append(rule(shape))
    operation.sample = None
    if graph.batched:
        if any(not shape or shape[0] != n for shape, n in zip(shapes, graph.samples)) or len({shape[1:] for shape in shapes}) > 1:
            n = graph.samples[0]
            raise InputError(f"it makes {shapes[0]} of {graph.shape_of(tensor)[0]}, where the first axis is that of {n} samples: they "
                             "must stay apart. If the file was made for one number of samples, give it by shapes={input: (1, ...)}")
        shapes = [shape[1:] for shape in shapes]
    if 0 in shapes[0] or len(shapes[0]) > 8:
        raise InputError(f"the shape {shapes[0]} is asked for")
    return tensor.reshaped(shapes[0], main=True)


def reshape(operation):
    keep = operation.attribute("allowzero", 0)
    return reshaped(operation, lambda shape: target_shape(shape, operation.numbers("shape", 1), keep))


def flatten(operation):
    axis, rank = operation.attribute("axis", 1), operation.tensor().rank
    axis = operation.within(axis, rank + 1) if axis >= 0 else operation.within(axis, rank)
    return reshaped(operation, lambda shape: (math.prod(shape[:axis]), math.prod(shape[axis:])))


def squeeze(operation):
    axes, tensor = operation.numbers("axes", 1, None), operation.tensor()
    if axes is None:
        axes = [axis for axis, size in enumerate(tensor.shape) if size == 1]
    else:
        axes = operation.axes(tensor, axes)
    if any(tensor.shape[axis] != 1 for axis in axes):
        raise InputError(f"it removes axes of {tensor.shape} that are longer than 1")
    return tensor.reshaped([size for axis, size in enumerate(tensor.shape) if axis not in axes], main=True)


def unsqueeze(operation):
    axes, tensor, graph = operation.numbers("axes", 1), operation.tensor(), operation.graph
    count = tensor.rank + len(axes)
    if count > 8:
        raise InputError(f"an array of {count} axes; at most 8 are supported")
    new = {graph.axis(axis, count) for axis in axes}
    if len(new) < len(axes):
        raise InputError(f"its axes {axes} name one twice")
    sizes = iter(tensor.shape)
    return tensor.reshaped([1 if axis in new else next(sizes) for axis in range(count - graph.batched)], main=True)


def transpose(operation):
    tensor = operation.tensor()
    permutation = operation.attribute("perm", list(range(tensor.rank))[::-1])
    if sorted(permutation) != list(range(tensor.rank)):
        raise InputError(f"its perm {permutation} is none of {tensor.rank} axes")
    if tensor.graph.batched:
        if permutation[0] != 0:
            raise InputError("it moves the axis of the samples, which must stay the first")
        permutation = [axis - 1 for axis in permutation[1:]]
    return tensor.transposed(permutation)


def expand(operation):
    shape, tensor = operation.input(1), operation.tensor()
    if not isinstance(shape, Known) or shape.at(0).size > 8:
        raise InputError("its shape must be a constant, of at most 8 axes")
    wanted = set()
    for i, full in enumerate(operation.graph.shape_of(tensor)):
        target = np.broadcast_shapes(full, tuple(max(int(size), 1) for size in shape.at(i).ravel()))
        if operation.graph.batched and (len(target) > tensor.rank or target[0] != full[0]):
            raise InputError("it repeats samples")
        wanted.add(target[operation.graph.batched:])
    if len(wanted) > 1:
        raise InputError("its shape depends on the number of samples")
    return repeated(tensor, wanted.pop())


def tile(operation):
    tensor, times = operation.tensor(), operation.constant(1).ravel().tolist()
    if len(times) != tensor.rank or tensor.graph.batched and times.pop(0) != 1 or any(int(n) != n or not 1 <= n < 2**31 for n in times):
        raise InputError(f"it repeats an array of {tensor.rank} axes {times[:8]} times; samples are not repeated")
    for axis, n in enumerate(times):
        tensor = tiled(tensor, axis, int(n)) if n > 1 else tensor
    return tensor


ARRANGEMENT = {
    "ReduceMean": reduction("Average"), "ReduceMax": reduction("Max"), "ReduceSum": reduction("Average", scaled),
    "ReduceMin": reduction("Max", lambda tensor, count: scaled(tensor, -1), lambda tensor: scaled(tensor, -1)),
    "ReduceL1": reduction("Average", scaled, lambda tensor: applied(tensor, "abs")),
    "ReduceL2": reduction("Average", lambda tensor, count: applied(scaled(tensor, count), "sqrt"),
                          lambda tensor: applied(tensor, "square")),
    "ReduceSumSquare": reduction("Average", scaled, lambda tensor: applied(tensor, "square")),
    "Softmax": softmax, "LogSoftmax": log_softmax, "Hardmax": hardmax, "Concat": concat, "Pad": pad, "Slice": slice_,
    "Split": split, "Gather": gather, "Reshape": reshape, "Flatten": flatten, "Squeeze": squeeze, "Unsqueeze": unsqueeze,
    "Transpose": transpose, "Expand": expand, "Tile": tile}
