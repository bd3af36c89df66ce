"""What the tests draw: sizes by hypothesis, so that they shrink, and the numbers from a seed.

Sizes follow numerics A1: N 1-3, H and W 1-9, windows 1-5, strides 1-3, both paddings; channels 1-5 and around the 16
columns of a tile. `OPERATIONS` is the registry of all operations that both engines offer, each with its inputs.
"""

from math import prod
from typing import NamedTuple

import numpy as np
from hypothesis import strategies as st

from minicnn import reference
from minicnn.reference import fusion
from minicnn.reference.elementwise import PAIRS
from minicnn.core.shapes import window

__all__ = ["Case", "cases", "small_cases", "winograd_cases", "normals", "separated", "OPERATIONS", "LINEAR",
           "abs_inputs", "DTYPES"]

DTYPES = [np.float32, np.float64]


class Case(NamedTuple):
    """One drawn window over one drawn batch."""

    N: int
    H: int
    W: int
    C: int
    F: int
    kernel: tuple
    strides: tuple
    padding: str
    seed: int

    @property
    def axes(self):
        return [window(*sizes, self.padding) for sizes in zip((self.H, self.W), self.kernel, self.strides)]

    @property
    def pads(self):
        rows, columns = self.axes
        return rows.before, rows.after, columns.before, columns.after

    @property
    def x_shape(self):
        return self.N, self.H, self.W, self.C

    @property
    def w_shape(self):
        return *self.kernel, self.C, self.F

    def y_shape(self, channels):
        rows, columns = self.axes
        return self.N, rows.out, columns.out, channels

    def normals(self, *shape, dtype=np.float64):
        """Return standard normals: the same for the same seed and shape."""
        return normals(self.seed, shape, dtype)

    def separated(self, *shape, dtype=np.float64):
        return separated(self.seed, shape, dtype)


def normals(seed, shape, dtype=np.float64):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def separated(seed, shape, dtype=np.float64):
    """Return numbers that all differ by at least 0.02 and keep as far from 0: no step of a difference meets a kink."""
    n = prod(shape)
    return ((np.random.default_rng(seed).permutation(n) - n // 2 + 0.5) * 0.02).reshape(shape).astype(dtype)


@st.composite
def cases(draw, sizes=st.integers(1, 9), channels=st.integers(1, 5) | st.sampled_from([15, 16, 17, 31, 32, 33]),
          windows=st.integers(1, 5)):
    padding = draw(st.sampled_from(["valid", "same"]))
    H, W, kernel = draw(sizes), draw(sizes), (draw(windows), draw(windows))
    if padding == "valid":
        H, W = max(H, kernel[0]), max(W, kernel[1])
    return Case(draw(st.integers(1, 3)), H, W, draw(channels), draw(channels), kernel,
                (draw(st.integers(1, 3)), draw(st.integers(1, 3))), padding, draw(st.integers(0, 2**32 - 1)))


def small_cases():
    """Draw cases small enough for seven nested loops in Python."""
    return cases(sizes=st.integers(1, 6), channels=st.integers(1, 3), windows=st.integers(1, 4))


@st.composite
def winograd_cases(draw):
    """Draw convolutions for Winograd's algorithm: 3x3, stride 1, channels enough; odd and even maps, large ones too."""
    sizes = st.integers(3, 10) | st.sampled_from([15, 22, 31])
    return Case(draw(st.integers(1, 3)), draw(sizes), draw(sizes), draw(st.sampled_from([16, 17, 32, 48, 100])),
                draw(st.sampled_from([16, 17, 30, 32, 48, 70])), (3, 3), (1, 1), draw(st.sampled_from(["valid", "same"])),
                draw(st.integers(0, 2**32 - 1)))


# ---- The operations and their inputs ---------------------------------------------------------------------------------

def _switches(case):
    return reference.max_pool2d(case.separated(*case.x_shape), case.kernel, case.strides, case.pads)[1]


def _conv2d(case, dtype):
    return (case.normals(*case.x_shape, dtype=dtype), case.normals(*case.w_shape, dtype=dtype),
            case.normals(case.F, dtype=dtype), case.strides, case.pads)


def _conv2d_input_gradient(case, dtype):
    return (case.normals(*case.y_shape(case.F), dtype=dtype), case.normals(*case.w_shape, dtype=dtype),
            (case.H, case.W), case.strides, case.pads)


def _conv2d_weight_gradient(case, dtype):
    return (case.normals(*case.y_shape(case.F), dtype=dtype), case.normals(*case.x_shape, dtype=dtype), case.kernel,
            case.strides, case.pads)


def _apart(case):
    """Return (dilation, a number from 1 to 3, the case of the window with its holes), by the seed and the sizes.

    Pixels of `valid` windows lie apart where the image has room.
    """
    number = case.seed + 7 * case.H + case.C
    dilation = tuple(1 + drawn % 3 if case.padding == "same" or (K - 1) * (1 + drawn % 3) < size else 1
                     for drawn, K, size in zip((number, number // 3), case.kernel, (case.H, case.W)))
    reach = tuple((K - 1) * D + 1 for K, D in zip(case.kernel, dilation))
    return dilation, 1 + number // 9 % 3, case._replace(kernel=reach)


def _grouped(case, dtype):
    dilation, groups, wide = _apart(case)
    return (case.normals(*case.x_shape[:3], groups * case.C, dtype=dtype),
            case.normals(*case.kernel, case.C, groups * case.F, dtype=dtype), case.normals(groups * case.F, dtype=dtype),
            case.strides, wide.pads, dilation, groups)


def _depthwise(case, dtype):
    dilation, filters, wide = _apart(case)
    return (case.normals(*case.x_shape, dtype=dtype), case.normals(*case.kernel, case.C, filters, dtype=dtype),
            case.normals(case.C * filters, dtype=dtype), case.strides, wide.pads, dilation)


def _input_gradient_of(inputs):
    def gradient_inputs(case, dtype):
        _, w, b, strides, *rest = inputs(case, dtype)
        return case.normals(*_apart(case)[2].y_shape(len(b)), dtype=dtype), w, (case.H, case.W), strides, *rest
    return gradient_inputs


def _weight_gradient_of(inputs):
    def gradient_inputs(case, dtype):
        x, _, b, strides, *rest = inputs(case, dtype)
        return case.normals(*_apart(case)[2].y_shape(len(b)), dtype=dtype), x, case.kernel, strides, *rest
    return gradient_inputs


def _pool(case, dtype):
    return case.separated(*case.x_shape, dtype=dtype), case.kernel, case.strides, case.pads


def _max_pool2d_gradient(case, dtype):
    return (case.normals(*case.y_shape(case.C), dtype=dtype), _switches(case), (case.H, case.W), case.kernel,
            case.strides, case.pads)


def _average_pool2d_gradient(case, dtype):
    return (case.normals(*case.y_shape(case.C), dtype=dtype), (case.H, case.W), case.kernel, case.strides, case.pads)


def _dense(case, dtype):
    D, F = case.H * case.C, case.F
    return case.normals(case.N, D, dtype=dtype), case.normals(D, F, dtype=dtype), case.normals(F, dtype=dtype)


def _dense_input_gradient(case, dtype):
    return case.normals(case.N, case.F, dtype=dtype), case.normals(case.H * case.C, case.F, dtype=dtype)


def _dense_weight_gradient(case, dtype):
    N = case.N * case.W
    return case.normals(N, case.F, dtype=dtype), case.normals(N, case.H * case.C, dtype=dtype)


def _fused_gradient(forward, inputs):
    """The gradient of a fused operation: its output's and switches' own, so that masks and places are real."""
    def gradient_inputs(case, dtype):
        x, w, b, *rest = inputs(case, dtype)
        outputs = forward(x, w, b, *rest)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        return case.normals(*outputs[0].shape, dtype=dtype), *outputs, x, w, *rest
    return gradient_inputs


def _conv2d_to_pool(case, dtype):
    """The inputs of a convolution of which 2x2 pooling leaves something: at least two outputs each way."""
    rows, columns = case.axes
    grow = [max(0, 2 - axis.out) * stride for axis, stride in zip((rows, columns), case.strides)]
    return _conv2d(case._replace(H=case.H + grow[0], W=case.W + grow[1]), dtype)


def _activation(case, dtype):
    return 3 * case.normals(*case.x_shape, dtype=dtype),


def _gradient_of(activation):
    def inputs(case, dtype):
        y = activation(3 * case.normals(case.W, case.N, case.H, case.C)).reshape(case.x_shape)
        return case.normals(*case.x_shape, dtype=dtype), y.astype(dtype)
    return inputs


def _with(arguments, inputs):
    """The inputs of an operation, and numbers after them."""
    return lambda case, dtype: (*inputs(case, dtype), *arguments)


def _gradient_at_input(case, dtype):
    return case.normals(*case.x_shape, dtype=dtype), 3 * case.normals(*case.x_shape[::-1], dtype=dtype).T.copy()


def _global(case, dtype):
    return case.separated(*case.x_shape, dtype=dtype),


def _global_average_gradient(case, dtype):
    return case.normals(case.N, case.C, dtype=dtype), (case.H, case.W)


def _global_max_gradient(case, dtype):
    switches = reference.global_max_pool2d(case.separated(*case.x_shape))[1]
    return case.normals(case.N, case.C, dtype=dtype), switches, (case.H, case.W)


def _margins(case):
    return case.strides[0] - 1, case.strides[1] - 1, case.kernel[0] - 1, case.kernel[1] - 1


def _zero_padding(case, dtype):
    return case.normals(*case.x_shape, dtype=dtype), _margins(case)


def _zero_padding_gradient(case, dtype):
    top, bottom, left, right = _margins(case)
    return case.normals(case.N, case.H + top + bottom, case.W + left + right, case.C, dtype=dtype), _margins(case)


def _up_sampling(case, dtype):
    return case.normals(*case.x_shape, dtype=dtype), case.strides


def _up_sampling_gradient(case, dtype):
    SH, SW = case.strides
    return case.normals(case.N, case.H * SH, case.W * SW, case.C, dtype=dtype), case.strides


def _dropout(case, dtype):
    return case.normals(*case.x_shape, dtype=dtype), case.normals(*case.x_shape) > 0, 0.25


def _loss(targets):
    def inputs(case, dtype):
        z = 5 * case.normals(case.N, case.C, dtype=dtype)
        return z, targets(case.normals(case.C, case.N).T).astype(dtype), np.abs(case.normals(case.N)) / case.N
    return inputs


def _adam(case, dtype):
    w, m = case.normals(*case.w_shape, dtype=dtype), case.normals(*case.w_shape[::-1], dtype=dtype).T.copy()
    return w, m, m * m, 2 * w + m, 1e-3, 0.9, 0.999, 1e-7


def _sgd(case, dtype):
    w, m = case.normals(*case.w_shape, dtype=dtype), case.normals(*case.w_shape[::-1], dtype=dtype).T.copy()
    return w, m, 2 * w + m, 1e-2, 0.9, bool(case.seed % 2)


def _amsgrad(case, dtype):
    w, m, v, *rest = _adam(case, dtype)
    return w, m, v, 1.002 * v[::-1].copy(), *rest


def _rmsprop(case, dtype):
    w, m, v, dw, *_ = _adam(case, dtype)
    return w, v, m, dw, 1e-2, 0.9, 0.5 * (case.seed % 2), 1e-7


def _with_statistics(x):
    return x, *reference.batch_statistics(x)


def _batch_norm(case, dtype):
    x = 2 * case.normals(*case.x_shape, dtype=dtype) + 3
    return *_with_statistics(x), *(case.normals(case.C, n, dtype=dtype)[:, 0].copy() for n in (1, 2)), 1e-3


def _batch_norm_gradient(case, dtype):
    *inputs, _, epsilon = _batch_norm(case, dtype)
    dy = case.normals(case.C, *case.x_shape[:3], dtype=dtype).reshape(case.x_shape)
    return dy, *inputs, epsilon, bool(case.seed % 2)


def _batch_norm_relu_gradient(case, dtype):
    dy, x, mean, variance, gamma, *others = _batch_norm_gradient(case, dtype)
    return dy, x, mean, variance, gamma, case.normals(case.C, 3, dtype=dtype)[:, 0].copy(), *others


def _layer_norm(case, dtype):
    x, _, _, gamma, beta, epsilon = _batch_norm(case, dtype)
    return x, gamma, beta, epsilon


def _layer_norm_gradient(case, dtype):
    x, gamma, beta, epsilon = _layer_norm(case, dtype)
    _, mean, variance = reference.layer_norm(x, gamma, beta, epsilon)
    return case.normals(case.C, *case.x_shape[:3], dtype=dtype).reshape(x.shape), x, mean, variance, gamma, epsilon


def specified(name):
    """Return the operation of the specification that is called `name`."""
    return getattr(fusion if name in fusion.__all__ else reference, name)


def _two(case, dtype):
    return case.normals(*case.x_shape, dtype=dtype), case.separated(*case.x_shape, dtype=dtype)


def _multiply_gradient(case, dtype):
    """The second is repeated over the positions."""
    x, y = _two(case, dtype)
    return case.normals(*case.x_shape, dtype=dtype), x, y[:, :1, :1].copy()


def _elementwise(case, dtype):
    """A function that no number is outside of; one of them is a kernel of ours."""
    return *_activation(case, dtype), ["erf", "exp", "abs", "sin", "floor"][case.seed % 5]


def _binary(case, dtype):
    """Numbers above 0; the second is repeated over the positions."""
    x, y = _two(case, dtype)
    y = y[:, :1, :1] if case.seed % 2 else y
    return np.abs(x) + dtype(0.5), np.abs(y) + dtype(0.5), sorted(PAIRS)[case.seed % len(PAIRS)]


def _routing(case, dtype):
    return 0.7 * case.normals(case.N, case.H * case.W, case.C, case.F, dtype=dtype), case.strides[0]


def _routing_gradient(case, dtype):
    u, routings = _routing(case, dtype)
    return case.normals(case.N, case.C, case.F, dtype=dtype), u, reference.routing(u, routings)[1]


def _capsules(case, dtype):
    return case.normals(case.N, case.H * case.W, case.C, dtype=dtype),


def _length_gradient(case, dtype):
    x, = _capsules(case, dtype)
    return case.normals(*x.shape[:2], dtype=dtype), x, reference.length(x)


def _with_dy(inputs):
    return lambda case, dtype: (case.normals(*case.x_shape, dtype=dtype), *inputs(case, dtype))


def _scaled(inputs):
    def scaled(case, dtype):
        x, w, b, *rest = inputs(case, dtype)
        return x, w, case.normals(len(b), dtype=dtype)[::-1].copy(), b, *rest
    return scaled


OPERATIONS = {
    "conv2d": _conv2d, "conv2d_input_gradient": _conv2d_input_gradient,
    "conv2d_weight_gradient": _conv2d_weight_gradient,
    "grouped_conv2d": _grouped, "grouped_conv2d_input_gradient": _input_gradient_of(_grouped),
    "grouped_conv2d_weight_gradient": _weight_gradient_of(_grouped),
    "depthwise_conv2d": _depthwise, "depthwise_conv2d_relu": _depthwise, "depthwise_conv2d_input_gradient": _input_gradient_of(_depthwise),
    "depthwise_conv2d_weight_gradient": _weight_gradient_of(_depthwise),
    "max_pool2d": _pool, "max_pool2d_gradient": _max_pool2d_gradient,
    "average_pool2d": _pool, "average_pool2d_gradient": _average_pool2d_gradient,
    "dense": _dense, "dense_input_gradient": _dense_input_gradient, "dense_weight_gradient": _dense_weight_gradient,
    "conv2d_relu": _conv2d, "conv2d_relu_gradient": _fused_gradient(fusion.conv2d_relu, _conv2d),
    "conv2d_relu_pool": _conv2d_to_pool,
    "conv2d_scaled": _scaled(_conv2d), "conv2d_scaled_relu": _scaled(_conv2d), "conv2d_scaled_relu_pool": _scaled(_conv2d_to_pool),
    "conv2d_relu_pool_gradient": _fused_gradient(fusion.conv2d_relu_pool, _conv2d_to_pool),
    "dense_relu": _dense, "dense_relu_gradient": _fused_gradient(fusion.dense_relu, _dense),
    "relu": _activation, "relu_gradient": _gradient_of(reference.relu),
    "sigmoid": _activation, "sigmoid_gradient": _gradient_of(reference.sigmoid),
    "tanh": _activation, "tanh_gradient": _gradient_of(reference.tanh),
    "softmax": _activation, "softmax_gradient": _gradient_of(reference.softmax),
    "dropout": _dropout,
    "add": _two, "multiply": _two, "multiply_gradient": _multiply_gradient,
    "batch_statistics": lambda case, dtype: _batch_norm(case, dtype)[:1],
    "batch_norm": _batch_norm, "batch_norm_gradient": _batch_norm_gradient,
    "batch_norm_relu": _batch_norm, "batch_norm_relu_gradient": _batch_norm_relu_gradient, "add_relu": _two,
    "layer_norm": _layer_norm, "layer_norm_gradient": _layer_norm_gradient,
    "clipped_relu": _with([2.5], _activation),
    "clipped_relu_gradient": _with([2.5], _gradient_of(lambda x: reference.clipped_relu(x, 2.5))),
    "leaky_relu": _with([0.3], _activation),
    "leaky_relu_gradient": _with([0.3], _gradient_of(lambda x: reference.leaky_relu(x, 0.3))),
    "elu": _with([0.7], _activation), "elu_gradient": _with([0.7], _gradient_at_input),
    "swish": _activation, "swish_gradient": _gradient_at_input,
    "softplus": _activation, "softplus_gradient": _gradient_of(reference.softplus),
    "global_average_pool2d": _global, "global_average_pool2d_gradient": _global_average_gradient,
    "global_max_pool2d": _global, "global_max_pool2d_gradient": _global_max_gradient,
    "zero_padding2d": _zero_padding, "zero_padding2d_gradient": _zero_padding_gradient,
    "up_sampling2d": _up_sampling, "up_sampling2d_gradient": _up_sampling_gradient,
    "rescaling": _with([1.7, -0.3], _activation), "rescaling_gradient": _with([1.7], _activation),
    "unary": _elementwise, "unary_gradient": _with_dy(_elementwise),
    "binary": _binary, "binary_gradient": _with_dy(_binary),
    "routing": _routing, "routing_gradient": _routing_gradient, "length": _capsules, "length_gradient": _length_gradient,
    "margin": _loss(lambda drawn: (drawn > 0) * 1.0), "deviation": _loss(lambda drawn: (drawn > 0) * 1.0),
    "binary_crossentropy": _loss(lambda drawn: (drawn > 0) * 1.0),
    "categorical_crossentropy": _loss(reference.softmax),
    "mean_squared_error": _loss(lambda drawn: drawn),
    "adam": _adam, "sgd": _sgd, "amsgrad": _amsgrad, "rmsprop": _rmsprop,
}
# Each output is a sum of products of inputs: rounding is judged beside the sum of the products' sizes.
LINEAR = ["conv2d", "conv2d_input_gradient", "conv2d_weight_gradient", "grouped_conv2d", "grouped_conv2d_input_gradient",
          "grouped_conv2d_weight_gradient", "depthwise_conv2d", "depthwise_conv2d_input_gradient",
          "depthwise_conv2d_weight_gradient", "max_pool2d_gradient", "average_pool2d",
          "average_pool2d_gradient", "dense", "dense_input_gradient", "dense_weight_gradient", "global_average_pool2d",
          "up_sampling2d_gradient"]


def abs_inputs(inputs, dtype=np.float64):
    """Return the inputs with |.| of each floating array, as `dtype`; whole numbers as they are."""
    return [np.abs(a).astype(dtype) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in inputs]
