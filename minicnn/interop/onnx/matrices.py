"""ONNX operators of matrices and of normalization: they become Dense layers, convolutions of 1 x 1, and our normalizations."""

import math

import numpy as np

from minicnn.errors import InputError
from minicnn.interop.onnx.elementwise import applied, pair, scaled, shifted, total, with_constant
from minicnn.interop.onnx.graph import Known, Shift, Tensor
from minicnn.interop.onnx.windows import power

__all__ = ["MATRICES", "repeated", "tiled", "times_rows"]


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
        return times_rows(tensor.with_last(last), matrix)
    return _times_each(tensor, matrix)


def times_rows(tensor, matrix, main=True, fixed=False):
    """Return a tensor, along our last axis, times a matrix (K, F): a convolution of 1 x 1, which does not train if `fixed`."""
    *sizes, K = tensor.step.shape
    F = matrix.shape[1]
    is_image = len(sizes) == 2
    image = tensor if is_image else tensor.then("Reshape", main=False, target_shape=(math.prod(sizes), 1, K))
    result = image.then("Conv2D", {"kernel": matrix[None, None]}, main=main, filters=F, kernel_size=1, use_bias=False)
    result.step.fixed = fixed
    return result if is_image else result.then("Reshape", main=False, target_shape=(*sizes, F))


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
    tensor.graph.spend(n * K * F)
    kernel = np.broadcast_to(matrix, (*each, K, F)).reshape(n, K, F).transpose(1, 0, 2).reshape(1, 1, K, n * F)
    order = (count, *range(count), count + 1)
    image = tensor.arranged(order).then("Reshape", main=False, target_shape=(M, 1, n * K))
    result = image.then("Conv2D", {"kernel": kernel}, filters=n * F, kernel_size=1, groups=n, use_bias=False)
    return result.then("Reshape", order=order, main=False, target_shape=(M, *each, F))


def repeated(tensor, shape):
    """Return a tensor whose sizes of 1 are repeated up to a shape of the file, without N."""
    tensor = tensor.with_rank(len(shape))
    for axis, size in enumerate(np.broadcast_shapes(tensor.shape, tuple(shape))):
        if size != tensor.shape[axis]:
            tensor = tiled(tensor, axis, size)
    return tensor


def tiled(tensor, axis, times):
    """Return a tensor that is repeated as a whole along an axis of the file: as a row of one pixel, which is up-sampled."""
    place, sizes, order = tensor.order.index(axis), list(tensor.step.shape), tensor.order
    row = tensor.then("Reshape", main=False, target_shape=(math.prod(sizes[:place]), 1, math.prod(sizes[place:])))
    sizes[place] *= times
    return row.then("UpSampling2D", size=(1, times)).then("Reshape", order=order, main=False, target_shape=tuple(sizes))


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
    if isinstance(operation.input(1), Tensor):
        raise InputError("a product of two matrices that are computed, as in attention, is not supported; one must be a constant")
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
    b = b if alpha == 1 else b * np.float64(alpha)         # no copy: these are the largest arrays of all
    result = times(swapped(a) if flips[0] else a, b.T if flips[1] else b)
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
    absent = {name for name, i, value in (("gamma", 1, 1), ("beta", 2, 0)) if operation.is_absent(i, value)}
    weights = {name: weight for name, weight in weights.items() if name not in absent}
    return tensor.then("BatchNormalization", weights, epsilon=operation.attribute("epsilon", 1e-5), momentum=momentum,
                       scale="gamma" in weights, center="beta" in weights)


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
        if array is not None and not operation.is_absent(i, 2 - i):
            operation.graph.spend(math.prod(shape))
            weights[name] = np.broadcast_to(array, shape).ravel()
    if len(shape) > 1:
        tensor = tensor.then("Reshape", main=False, target_shape=(*sizes[:first], math.prod(shape)))
    tensor = tensor.then("LayerNormalization", weights, order=order, epsilon=operation.attribute("epsilon", 1e-5),
                         scale="gamma" in weights, center="beta" in weights)
    return tensor.then("Reshape", main=False, target_shape=sizes) if len(shape) > 1 else tensor


def instances(tensor, groups, epsilon):
    """Return a tensor (C, ...) of the file, of which each group of channels was brought to mean 0 and variance 1."""
    shape = tensor.shape
    rows = tensor.reshaped((groups, math.prod(shape) // groups)).arranged((0, 1))
    return rows.then("LayerNormalization", epsilon=epsilon, scale=False, center=False).reshaped(shape)


def instance_normalization(operation):
    """Of groups too: InstanceNormalization has one channel in each."""
    tensor, gamma, beta = operation.tensor(), operation.constant(1), operation.constant(2)
    operation.ignore("stash_type")
    C = tensor.shape[0] if tensor.graph.batched and tensor.rank > 2 else 0
    groups = operation.attribute("num_groups", kind="int") if operation.kind == "GroupNormalization" else C
    if groups < 1 or C % groups or gamma.shape != beta.shape or gamma.shape not in ((C,), (groups,)):
        raise InputError(f"it normalizes {C} channels in {groups} groups, with scales of shape {gamma.shape}")
    gamma, beta = (np.repeat(array, C // len(array)) for array in (gamma, beta))
    tensor = instances(tensor, groups, operation.attribute("epsilon", 1e-5))
    if (gamma == 1).all() and (beta == 0).all():
        return tensor
    row = tensor.with_last(0)
    image = row.then("Reshape", main=False, target_shape=(math.prod(row.step.shape[:-1]), 1, C)) if len(row.order) != 3 else row
    image = image.then("DepthwiseConv2D", {"depthwise_kernel": gamma.reshape(1, 1, C, 1), "bias": beta}, kernel_size=1)
    return image.then("Reshape", main=False, target_shape=row.step.shape) if len(row.order) != 3 else image


def local_response_normalization(operation):
    """x / (bias + alpha mean)^beta, with the mean of the squares of `size` channels, where there are none of 0."""
    image, size = operation.tensor().image("an LRN"), operation.attribute("size", kind="int")
    H, W, C = image.step.shape
    if not 1 <= size <= 2**20:
        raise InputError(f"its size is {size}")
    rows = applied(image, "square").then("Reshape", main=False, target_shape=(H * W, C, 1))
    rows = rows.then("ZeroPadding2D", main=False, padding=((0, 0), ((size - 1) // 2, size // 2)))
    mean = rows.then("AveragePool2D", main=False, pool_size=(1, size), strides=1).then("Reshape", main=False, target_shape=(H, W, C))
    divisor = shifted(scaled(mean, operation.attribute("alpha", 0.0001)), operation.attribute("bias", 1.0))
    return pair("divide", image, power(divisor, operation.attribute("beta", 0.75), main=False))


MATRICES = {"MatMul": matmul, "Gemm": gemm, "BatchNormalization": batch_normalization, "LayerNormalization": layer_normalization,
            "InstanceNormalization": instance_normalization, "GroupNormalization": instance_normalization,
            "LRN": local_response_normalization}
