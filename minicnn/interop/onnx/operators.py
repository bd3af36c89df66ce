"""ONNX operators of single numbers, of matrices, and of shapes: a small function for each, which composes layers of ours.

A handler takes an Operation and returns the Tensor that is its first output, or a list where it has several.
"""

import math

import numpy as np

from minicnn.errors import InputError
from minicnn.interop.onnx.folding import slices_of, target_shape
from minicnn.interop.onnx.graph import Known, Scale, Shift, Tensor, together
from minicnn.interop.onnx.windows import WINDOWS, filled, padded, power, squared_up

__all__ = ["OPERATORS", "PASSING"]


# ---- Element by element ----------------------------------------------------------------------------------------------

def layer(kind, **arguments):
    """Return a handler that makes one layer."""
    return lambda operation: operation.tensor().then(kind, **arguments)


def number(tensor, value):
    """Return an array of one number that fits a tensor."""
    return np.full((1,) * len(tensor.step.shape), float(value))


def scaled(tensor, factor, main=False):
    return tensor.then(Scale, main=main, array=number(tensor, factor))


def shifted(tensor, summand, main=False):
    return tensor.then(Shift, main=main, array=number(tensor, summand))


def applied(tensor, function):
    return tensor.then("Elementwise", main=False, function=function)


def pair(function, a, b, main=True):
    """Return a function of two tensors."""
    a, b = together([a, b])
    return Tensor(a.graph, a.graph.step("ElementwisePair", [a.step, b.step], main=main, function=function), a.order)


def product(a, b, main=True):
    """Return the product of two tensors."""
    a, b = together([a, b])
    return Tensor(a.graph, a.graph.step("Multiply", [a.step, b.step], main=main), a.order)


def total(tensors, main=True):
    """Return the sum of tensors."""
    tensors = together(tensors)
    graph, order = tensors[0].graph, tensors[0].order
    if len({tensor.step.shape for tensor in tensors}) == 1:
        return tensors[0] if len(tensors) == 1 else Tensor(graph, graph.step("Add", [one.step for one in tensors], main=main), order)
    result = tensors[0]
    for other in tensors[1:]:           # Add takes equal shapes; a difference repeats sizes of 1
        result = pair("subtract", result, scaled(other, -1), main)
    return result


def with_constant(kind, tensor, array):
    """Return x + array (Shift) or x array (Scale) of a tensor and a constant of the file."""
    tensor, array = tensor.fitted(np.asarray(array, np.float64))
    shape = tensor.step.shape
    if np.broadcast_shapes(shape, array.shape) == shape:
        return tensor.then(kind, array=array)
    constant = Tensor(tensor.graph, tensor.graph.constant(array if kind is Scale else -array, tensor.step), tensor.order)
    return product(tensor, constant) if kind is Scale else pair("subtract", tensor, constant)


def add(operation):
    constants = [value for value in operation.inputs if isinstance(value, Known)]
    result = total([value for value in operation.inputs if isinstance(value, Tensor)])
    for i, value in enumerate(operation.inputs):
        if value is None or value in constants:
            result = with_constant(Shift, result, operation.constant(i))
    return result


def subtract(operation):
    a, b = operation.inputs
    if isinstance(b, Known):
        return with_constant(Shift, operation.tensor(), -np.asarray(operation.constant(1), np.float64))
    if isinstance(a, Known):
        return with_constant(Shift, scaled(operation.tensor(1), -1), operation.constant(0))
    return pair("subtract", *operation.tensors())


def multiply(operation):
    for i in (0, 1):
        if isinstance(operation.input(i), Known):
            return with_constant(Scale, operation.tensor(1 - i), operation.constant(i))
    return product(*operation.tensors())


def divide(operation):
    if isinstance(operation.input(1), Known):
        with np.errstate(all="ignore"):
            inverse = 1 / np.asarray(operation.constant(1), np.float64)
        if np.isfinite(inverse.astype(np.float32)).all() and (np.abs(inverse) > 1e-37).all():
            return with_constant(Scale, operation.tensor(), inverse)
    return pair("divide", *operation.tensors())


def raised(operation):
    exponent = operation.input(1)
    if isinstance(exponent, Known) and operation.constant(1).size == 1 and operation.constant(1).ndim <= operation.tensor().rank:
        return power(operation.tensor(), operation.constant(1).reshape(()).item())
    return pair("power", *operation.tensors())


def remainder(operation):
    if not operation.attribute("fmod", 0):
        raise InputError("of floats, fmod=1 is supported")
    return pair("remainder", *operation.tensors())


def extreme(function):
    def handle(operation):
        tensors = operation.tensors()
        result = tensors[0]
        for other in tensors[1:]:
            result = pair(function, result, other)
        return result
    return handle


def mean(operation):
    return scaled(add(operation), 1 / len(operation.inputs))


def clip(operation):
    tensor, low, high = operation.tensor(), operation.number("min", 1, -math.inf), operation.number("max", 2, math.inf)
    if not -math.inf < low:
        low = None
    if not high < math.inf:
        high = None
    if low == 0 and (high is None or high > 0):
        return tensor.then("ReLU", max_value=high)
    for function, bound in (("maximum", low), ("minimum", high)):
        if bound is not None:
            constant = Tensor(tensor.graph, tensor.graph.constant(number(tensor, bound), tensor.step), tensor.order)
            tensor = pair(function, tensor, constant)
    return tensor


def bent(tensor, slope):
    """Return x where x > 0, else slope x, as max(x, 0) - slope max(-x, 0); `slope` is an array in the file's order."""
    below = with_constant(Scale, scaled(tensor, -1).then("ReLU", main=False), -np.asarray(slope, np.float64))
    return total([tensor.then("ReLU", main=False), below])


def leaky_relu(operation):
    alpha, tensor = operation.attribute("alpha", 0.01), operation.tensor()
    if alpha > 0:
        return tensor.then("LeakyReLU", negative_slope=alpha)
    return tensor.then("ReLU") if alpha == 0 else bent(tensor, alpha)


def prelu(operation):
    tensor, slope = operation.tensor(), operation.constant(1)
    if slope.size and (slope > 0).all() and (slope == slope.flat[0]).all() and slope.ndim <= tensor.rank:
        return tensor.then("LeakyReLU", negative_slope=float(slope.flat[0]))
    return bent(tensor, slope)


def elu(operation):
    return operation.tensor().then("ELU", alpha=operation.attribute("alpha", 1.0))


def selu(operation):
    alpha, gamma = operation.attribute("alpha", 1.67326319217681884765625), operation.attribute("gamma", 1.05070102214813232421875)
    return scaled(operation.tensor().then("ELU", alpha=alpha), gamma)


def celu(operation):
    alpha = operation.attribute("alpha", 1.0)
    if not 0 < alpha < math.inf:
        raise InputError(f"its alpha must be above 0, got {alpha}")
    return scaled(scaled(operation.tensor(), 1 / alpha).then("ELU"), alpha)


def hard_sigmoid(tensor, alpha, beta, main=True):
    return shifted(scaled(tensor, alpha), beta).then("ReLU", main=main, max_value=1)


def softsign(operation):
    x = operation.tensor()
    return pair("divide", x, shifted(applied(x, "abs"), 1))


def mish(operation):
    x = operation.tensor()
    return product(x, x.then("Softplus", main=False).then("Tanh", main=False))


def swish(operation):
    alpha, x = operation.attribute("alpha", 1.0), operation.tensor()
    return x.then("Swish") if alpha == 1 else product(x, scaled(x, alpha).then("Sigmoid", main=False))


def gelu(operation):
    approximation, x = operation.attribute("approximate", "none"), operation.tensor()
    if approximation == "none":
        bell = applied(scaled(x, math.sqrt(0.5)), "erf")
    elif approximation == "tanh":
        inner = total([x, scaled(product(applied(x, "square"), x, main=False), 0.044715)], main=False)
        bell = scaled(inner, math.sqrt(2 / math.pi)).then("Tanh", main=False)
    else:
        raise InputError("its approximate must be 'none' or 'tanh'")
    return product(x, shifted(scaled(bell, 0.5), 0.5))


def above(tensor, bound):
    """Return 1 where a tensor is above a number, else 0."""
    return applied(shifted(tensor, -bound).then("ReLU", main=False), "sign")


def thresholded_relu(operation):
    return product(operation.tensor(), above(operation.tensor(), operation.attribute("alpha", 1.0)))


def shrink(operation):
    x, bias, lambd = operation.tensor(), operation.attribute("bias", 0.0), operation.attribute("lambd", 0.5)
    if lambd < 0:
        raise InputError(f"its lambd must be at least 0, got {lambd}")
    return total([product(above(x, lambd), shifted(x, -bias), main=False),
                  product(above(scaled(x, -1), lambd), shifted(x, bias), main=False)])


def dropout(operation):
    rate = operation.number("ratio", 1, 0.5)
    operation.constant(2, None)             # training_mode: our layer knows itself whether it trains
    operation.ignore("seed")
    return operation.tensor().then("Dropout", rate=rate)


def cast(operation):
    tensor, to = operation.tensor(), operation.attribute("to", kind="int")
    operation.ignore("saturate", "round_mode")
    if not operation.is_float(to):
        raise InputError("numbers that are computed are floats, and cast to floats alone")
    if tensor.pixels:
        return scaled(Tensor(tensor.graph, tensor.step, tensor.order), 255)
    return tensor


# ---- Matrices --------------------------------------------------------------------------------------------------------

def times(tensor, matrix):
    """Return tensor @ matrix, of the file's axes: a Dense, or a convolution of 1 x 1 where there is more than a row a sample."""
    if tensor.rank == 1 and not tensor.graph.batched:
        result = times(tensor.reshaped((1, *tensor.shape)), matrix)
        return result.reshaped(result.shape[:-2] + result.shape[-1:])
    if matrix.ndim < 2:
        result = times(tensor, matrix.reshape(-1, 1))
        return result.reshaped(result.shape[:-1])
    K, F = matrix.shape[-2:]
    if not tensor.order or tensor.shape[-1] != K:
        raise InputError(f"a matrix of shape {matrix.shape} does not fit an array of shape {tensor.graph.shape_of(tensor)[0]}")
    last = len(tensor.order) - 1
    if matrix.ndim == 2 and last == 0:
        return tensor.then("Dense", {"kernel": matrix}, units=F, use_bias=False)
    if matrix.ndim == 2:
        tensor = tensor.with_last(last)
        sizes = tensor.step.shape[:-1]
        image = tensor.then("Reshape", main=False, target_shape=(math.prod(sizes), 1, K))
        result = image.then("Conv2D", {"kernel": matrix[None, None]}, filters=F, kernel_size=1, use_bias=False)
        return result.then("Reshape", order=tensor.order, main=False, target_shape=(*sizes, F))
    return _times_each(tensor, matrix)


def _times_each(tensor, matrix):
    """Return tensor @ matrix where each leading index has a matrix of its own: they are groups of a convolution."""
    tensor, matrix = tensor.with_rank(matrix.ndim - tensor.graph.batched), np.asarray(matrix)
    matrix = matrix.reshape((1,) * (tensor.rank - matrix.ndim) + matrix.shape)
    if tensor.graph.batched:
        if matrix.shape[0] != 1 or len(tensor.order) < 2:
            raise InputError(f"matrices of shape {matrix.shape} differ between samples")
        matrix = matrix[0]
    *each, M, K = tensor.shape
    F = matrix.shape[-1]
    each = np.broadcast_shapes(tuple(each), matrix.shape[:-2])
    tensor = repeated(tensor, (*each, M, K))
    count, n = len(each), math.prod(each)
    kernel = np.broadcast_to(matrix, (*each, K, F)).reshape(n, K, F).transpose(1, 0, 2).reshape(1, 1, K, n * F)
    order = (count, *range(count), count + 1)
    image = tensor.arranged(order).then("Reshape", main=False, target_shape=(M, 1, n * K))
    result = image.then("Conv2D", {"kernel": kernel}, filters=n * F, kernel_size=1, groups=n, use_bias=False)
    return result.then("Reshape", order=order, main=False, target_shape=(M, *each, F))


def repeated(tensor, shape):
    """Return a tensor whose sizes of 1 are repeated up to a shape of the file, without N."""
    tensor = tensor.with_rank(len(shape))
    shape = np.broadcast_shapes(tensor.shape, shape)
    if shape == tensor.shape:
        return tensor
    ours = tuple(shape[axis] if tensor.shape[axis] == 1 else 1 for axis in tensor.order)
    ones = Tensor(tensor.graph, tensor.graph.constant(np.ones(ours), tensor.step), tensor.order)
    return product(tensor, ones)


def swapped(tensor):
    """Return a tensor with its last two axes exchanged, or as it is where it has one."""
    if tensor.rank < 2:
        return tensor
    if len(tensor.order) < 2:
        raise InputError("a matrix before it mixes samples")
    axes = list(range(len(tensor.order)))
    return tensor.transposed(axes[:-2] + axes[:-3:-1])


def matmul(operation):
    if isinstance(operation.input(0), Known):
        matrix, tensor = operation.constant(0), operation.tensor(1)
        if matrix.ndim == 0:
            raise InputError("a matrix of shape ()")
        alone_row = matrix.ndim == 1
        matrix = matrix[None] if alone_row else matrix
        result = times(swapped(tensor), np.swapaxes(matrix, -1, -2))
        result = swapped(result) if tensor.rank > 1 else result
        if not alone_row:
            return result
        return result.reshaped(result.shape[:-2] + result.shape[-1:]) if tensor.rank > 1 else result.reshaped(result.shape[:-1])
    matrix = operation.constant(1)
    if matrix.ndim == 0 or 0 in matrix.shape:
        raise InputError(f"a matrix of shape {matrix.shape}")
    return times(operation.tensor(), matrix)


def gemm(operation):
    alpha, beta = operation.attribute("alpha", 1.0), operation.attribute("beta", 1.0)
    flips = [operation.attribute(name, 0) for name in ("transA", "transB")]
    if isinstance(operation.input(0), Known):
        raise InputError("its first matrix must be computed, its second a constant")
    a, b = operation.tensor(), operation.constant(1)
    if a.rank != 2 or b.ndim != 2 or 0 in b.shape:
        raise InputError(f"matrices of {a.rank} and {b.ndim} axes")
    result = times(swapped(a) if flips[0] else a, (b.T if flips[1] else b) * np.float64(alpha))
    c = operation.input(2)
    if isinstance(c, Tensor):
        return total([result, scaled(c, beta)])
    return result if c is None else with_constant(Shift, result, operation.constant(2) * np.float64(beta))


def batch_normalization(operation):
    tensor = operation.tensor()
    if len(tensor.order) < 1 or not operation.attribute("spatial", 1):
        raise InputError("channels are normalized over all pixels (spatial=1), and stand behind the samples")
    axis = 0 if tensor.graph.batched else 1
    tensor = tensor.with_last(axis)
    C = tensor.shape[axis]
    weights = {name: operation.constant(i) for i, name in enumerate(("gamma", "beta", "moving_mean", "moving_variance"), 1)}
    if any(weight.shape != (C,) for weight in weights.values()) or (weights["moving_variance"] < 0).any():
        raise InputError(f"its scale, B, mean and var must have {C} numbers, and none of var may be negative")
    operation.attribute("training_mode", 0)     # our layer knows itself whether it trains
    momentum = min(operation.attribute("momentum", 0.9), math.nextafter(1, 0))
    return tensor.then("BatchNormalization", weights, epsilon=operation.attribute("epsilon", 1e-5), momentum=momentum)


def layer_normalization(operation):
    tensor = operation.tensor()
    operation.ignore("stash_type")
    first = operation.axis(tensor, operation.attribute("axis", -1))
    axes = range(first, len(tensor.order))
    shape = tensor.shape[first:]
    tensor = tensor.arranged([axis for axis in tensor.order if axis < first] + [*axes])
    order, sizes = tensor.order, tensor.step.shape
    weights = {}
    for i, name in ((1, "gamma"), (2, "beta")):
        array = operation.constant(i, None)
        if array is not None:
            weights[name] = np.broadcast_to(array, shape).ravel()
    if len(shape) > 1:
        tensor = tensor.then("Reshape", main=False, target_shape=(*sizes[:first], math.prod(shape)))
    tensor = tensor.then("LayerNormalization", weights, order=order, epsilon=operation.attribute("epsilon", 1e-5),
                         scale="gamma" in weights, center="beta" in weights)
    return tensor.then("Reshape", main=False, target_shape=sizes) if len(shape) > 1 else tensor


# ---- Along an axis ---------------------------------------------------------------------------------------------------

def reduced(tensor, axes, kind):
    """Return a tensor's mean (kind "Average") or maximum ("Max") over axes of the file, which stay with size 1."""
    kind = f"Global{kind}Pooling2D"
    if not axes:
        return tensor
    if len(tensor.order) == 3 and sorted(axes) == sorted(tensor.order[:2]):
        return tensor.then(kind, keepdims=True)
    order = [axis for axis in tensor.order if axis in axes] + [axis for axis in tensor.order if axis not in axes]
    tensor = tensor.arranged(order)
    sizes = tensor.step.shape
    n, rest = math.prod(sizes[:len(axes)]), sizes[len(axes):]
    image = tensor.then("Reshape", main=False, target_shape=(n, 1, math.prod(rest)))
    return image.then(kind).then("Reshape", order=order, main=False, target_shape=(1,) * len(axes) + rest)


def reduction(kind, finish=lambda tensor, count: tensor):
    def handle(operation):
        tensor, axes = operation.tensor(), operation.numbers("axes", 1, None)
        noop, keep = operation.attribute("noop_with_empty_axes", 0), operation.attribute("keepdims", 1)
        if not axes and noop:
            return tensor
        if not axes and tensor.graph.batched:
            raise InputError("it goes over the samples too, which do not mix")
        axes = operation.axes(tensor, axes or range(tensor.rank))
        result = finish(reduced(tensor, axes, kind), math.prod(tensor.shape[axis] for axis in axes))
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
        before = _rows_times(largest, np.triu(np.ones((n, n)), 1))
        return product(largest, shifted(scaled(applied(before, "sign"), -1), 1))
    return softmax_rows(operation, compute)


def _rows_times(tensor, matrix):
    """Return a tensor, along our last axis, times a square matrix."""
    sizes = tensor.step.shape
    image = tensor.then("Reshape", main=False, target_shape=(math.prod(sizes[:-1]), 1, sizes[-1]))
    return image.then("Conv2D", {"kernel": matrix[None, None]}, main=False, filters=sizes[-1], kernel_size=1, use_bias=False).then(
        "Reshape", main=False, target_shape=sizes)


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
    rows = [one if place == len(order) - 1 else one.then("Reshape", main=False, target_shape=(*before, math.prod(one.step.shape[place:])))
            for one in tensors]
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
        return filled(result, [tuple(max(side, 0) for side in sides) for sides in ours[:2]], value) if value and \
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
    if mode == "edge" and min(map(min, margins)) >= 0 and set(operation.takers) <= {"MaxPool", "Cast", "Identity", "Transpose"}:
        return tensor.same(edge={axis: sides for axis, sides in enumerate(margins) if any(sides)})
    if mode != "constant":
        raise InputError(f"the mode 'constant' is supported, and 'edge' in front of a MaxPool, got {mode[:40]!r}")
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
    if step < 0 or count < 1:
        raise InputError(f"a slice from {start} to {stop} in steps of {step} of {size}: it must go forward, and take something")
    margins = [(0, 0)] * len(tensor.order)
    margins[axis] = -start, start + (count - 1) * step + 1 - size
    tensor = with_margins(tensor, margins)
    if step == 1:
        return tensor
    order, shape = tensor.order, list(tensor.step.shape)
    shape[order.index(axis)] = count
    image = squared_up(tensor, axis).then("MaxPool2D", main=False, pool_size=1, strides=(1, step))
    return image.then("Reshape", order=order, main=False, target_shape=tuple(shape))


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
    if index.size != 1 or index.ndim > 1 or index.dtype.kind not in "iu":
        raise InputError("of arrays that are computed, one index is supported")
    i = operation.within(int(index.reshape(())), tensor.shape[axis])
    result = cut(tensor, axis, slice(i, i + 1, 1))
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
    if not isinstance(shape, Known):
        raise InputError("its shape must be a constant")
    wanted = set()
    for i, full in enumerate(operation.graph.shape_of(tensor)):
        target = np.broadcast_shapes(full, tuple(max(int(size), 1) for size in shape.at(i).ravel()))
        if operation.graph.batched and (len(target) > tensor.rank or target[0] != full[0]):
            raise InputError("it repeats samples")
        wanted.add(target[operation.graph.batched:])
    if len(wanted) > 1:
        raise InputError("its shape depends on the number of samples")
    return repeated(tensor, wanted.pop())


OPERATORS = WINDOWS | {
    "Add": add, "Sum": add, "Sub": subtract, "Mul": multiply, "Div": divide, "Pow": raised, "Mod": remainder, "Mean": mean,
    "Max": extreme("maximum"), "Min": extreme("minimum"), "Clip": clip, "Relu": layer("ReLU"), "Sigmoid": layer("Sigmoid"),
    "Tanh": layer("Tanh"), "Softplus": layer("Softplus"), "LeakyRelu": leaky_relu, "PRelu": prelu, "Elu": elu, "Selu": selu,
    "Celu": celu, "Softsign": softsign, "Mish": mish, "Swish": swish, "Gelu": gelu, "ThresholdedRelu": thresholded_relu,
    "Shrink": shrink, "Dropout": dropout, "Cast": cast, "Identity": lambda operation: operation.tensor(),
    "HardSigmoid": lambda operation: hard_sigmoid(operation.tensor(), operation.attribute("alpha", 0.2), operation.attribute("beta", 0.5)),
    "HardSwish": lambda operation: product(operation.tensor(), hard_sigmoid(operation.tensor(), 1 / 6, 0.5, main=False)),
    "MatMul": matmul, "Gemm": gemm, "BatchNormalization": batch_normalization, "LayerNormalization": layer_normalization,
    "ReduceMean": reduction("Average"), "ReduceMax": reduction("Max"), "ReduceSum": reduction("Average", scaled),
    "Softmax": softmax, "LogSoftmax": log_softmax, "Hardmax": hardmax, "Concat": concat, "Pad": pad, "Slice": slice_,
    "Split": split, "Gather": gather, "Reshape": reshape, "Flatten": flatten, "Squeeze": squeeze, "Unsqueeze": unsqueeze,
    "Transpose": transpose, "Expand": expand,
    **{name: layer("Elementwise", function=name.lower()) for name in
       "Abs Neg Exp Log Sqrt Reciprocal Sign Floor Ceil Round Erf Sin Cos Tan Asin Acos Atan Sinh Cosh Asinh Acosh Atanh".split()}}

# Operators that whole pixels, and edges that are to be repeated, pass through.
PASSING = {"Cast", "Identity", "Transpose"}
