"""The specification: every operation of minicnn and its gradient, in plain NumPy.

This package is the mathematics, a file for each family of operations. The kernels compute the same operations under the
same names, faster; where the two disagree beyond rounding, the kernels are wrong. Operations of the fast engine alone are
in `reference.fusion` and `reference.augmentation`.

Notation. Sizes are capitals: N images of H x W pixels with C channels in; a window of KH x KW; OH x OW pixels with F
filters out. Images are NHWC, convolution weights (KH, KW, C, F), dense weights (in, out). The gradient of the loss with
respect to `name` is `dname`. Gradients follow from the chain rule: where y = f(x), dx = J^T dy with J the Jacobian of f.

Every function returns new arrays of its inputs' dtype (float32 or float64). Sums of products are accumulated in float64
and rounded once, so that in float32 the reference is as right as float32 can be. `strides` is (SH, SW); `pads` is
(top, bottom, left, right), in pixels.
"""

import importlib

from minicnn.reference.activations import (relu, relu_gradient, sigmoid, sigmoid_gradient, softmax, softmax_gradient,
                                           tanh, tanh_gradient)
from minicnn.reference.convolution import conv2d, conv2d_input_gradient, conv2d_weight_gradient
from minicnn.reference.dense import dense, dense_input_gradient, dense_weight_gradient
from minicnn.reference.losses import binary_crossentropy, categorical_crossentropy, mean_squared_error
from minicnn.reference.optimizers import adam, sgd
from minicnn.reference.pooling import average_pool2d, average_pool2d_gradient, max_pool2d, max_pool2d_gradient
from minicnn.reference.regularization import dropout
from minicnn.reference.windows import col2im, im2col

# {family that COV-19Net has no use for: its operations}, imported when one of them is first asked for.
_FURTHER = {
    "adaptive_optimizers": ["amsgrad", "rmsprop"], "capsules": ["routing", "routing_gradient", "length", "length_gradient", "margin"],
    "grouped_convolution": ["grouped_conv2d", "grouped_conv2d_input_gradient", "grouped_conv2d_weight_gradient"],
    "depthwise_convolution": ["depthwise_conv2d", "depthwise_conv2d_input_gradient", "depthwise_conv2d_weight_gradient"],
    "normalization": ["batch_statistics", "batch_norm", "batch_norm_gradient", "layer_norm", "layer_norm_gradient"],
    "rectifiers": ["clipped_relu", "clipped_relu_gradient", "leaky_relu", "leaky_relu_gradient", "elu", "elu_gradient",
                   "swish", "swish_gradient", "softplus", "softplus_gradient"],
    "global_pooling": ["global_average_pool2d", "global_average_pool2d_gradient", "global_max_pool2d",
                       "global_max_pool2d_gradient"], "anomaly": ["deviation"],
    "reshaping": ["zero_padding2d", "zero_padding2d_gradient", "up_sampling2d", "up_sampling2d_gradient", "rescaling",
                  "rescaling_gradient"],
    "merging": ["add", "multiply", "multiply_gradient"], "elementwise": ["unary", "unary_gradient", "binary", "binary_gradient"]}
_HOMES = {name: family for family, names in _FURTHER.items() for name in names}

__all__ = ["im2col", "col2im", "conv2d", "conv2d_input_gradient", "conv2d_weight_gradient",
           "max_pool2d", "max_pool2d_gradient", "average_pool2d", "average_pool2d_gradient",
           "dense", "dense_input_gradient", "dense_weight_gradient",
           "relu", "relu_gradient", "sigmoid", "sigmoid_gradient", "tanh", "tanh_gradient", "softmax", "softmax_gradient",
           "dropout", "binary_crossentropy", "categorical_crossentropy", "mean_squared_error", "adam", "sgd",
           *_HOMES]


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module 'minicnn.reference' has no attribute {name!r}")
    globals()[name] = value = getattr(importlib.import_module(f"minicnn.reference.{_HOMES[name]}"), name)
    return value
