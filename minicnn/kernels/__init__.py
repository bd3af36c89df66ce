"""The numba room: every operation of `reference`, under the same name, fast.

`reference.op(*inputs) -> outputs` returns new arrays; `kernels.op(*inputs, *outputs) -> None` fills the ones given.
Arrays are C-contiguous and of one dtype, float32 or float64; outputs are fully overwritten. Kernels check nothing.
`flatten` is a view, so it has no kernel; im2col and col2im are never carried out (see blocks.py).
"""

from minicnn.kernels.activations import (dropout, relu, relu_gradient, sigmoid, sigmoid_gradient, softmax,
                                         softmax_gradient, tanh, tanh_gradient)
from minicnn.kernels.blocks import conv2d, conv2d_relu, conv2d_relu_pool
from minicnn.kernels.conv import conv2d_input_gradient, conv2d_weight_gradient
from minicnn.kernels import finite      # noqa: F401  (for arrays.all_finite)
from minicnn.kernels.losses import binary_crossentropy, categorical_crossentropy, mean_squared_error
from minicnn.kernels.matmul import (dense, dense_input_gradient, dense_relu, dense_relu_gradient,
                                    dense_weight_gradient)
from minicnn.kernels.pooling import average_pool2d, average_pool2d_gradient, max_pool2d, max_pool2d_gradient
from minicnn.kernels.sparse import conv2d_relu_gradient, conv2d_relu_pool_gradient
from minicnn.kernels.updates import adam, sgd

__all__ = ["conv2d", "conv2d_input_gradient", "conv2d_weight_gradient",
           "max_pool2d", "max_pool2d_gradient", "average_pool2d", "average_pool2d_gradient",
           "conv2d_relu", "conv2d_relu_gradient", "conv2d_relu_pool", "conv2d_relu_pool_gradient",
           "dense", "dense_input_gradient", "dense_weight_gradient", "dense_relu", "dense_relu_gradient",
           "relu", "relu_gradient", "sigmoid", "sigmoid_gradient", "tanh", "tanh_gradient",
           "softmax", "softmax_gradient", "dropout",
           "binary_crossentropy", "categorical_crossentropy", "mean_squared_error", "adam", "sgd"]
