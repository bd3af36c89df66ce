"""The fast engine: every operation of `reference`, under the same name, fast.

`reference.op(*inputs) -> outputs` returns new arrays; `kernels.op(*inputs, *outputs) -> None` fills the ones given.
Arrays are C-contiguous and of one dtype, float32 or float64; outputs are fully overwritten. Kernels check nothing.
`flatten` is a view, so it has no kernel; im2col and col2im are never carried out (see convolution/direct.py).
"""

from minicnn.kernels.activations import (relu, relu_gradient, sigmoid, sigmoid_gradient, softmax,
                                         softmax_gradient, tanh, tanh_gradient)
from minicnn.kernels.adaptive_optimizers import amsgrad, rmsprop
from minicnn.kernels.anomaly import deviation
from minicnn.kernels.augmentation import affine_warp              # noqa: F401  (for data.augmentation)
from minicnn.kernels.capsules import length, length_gradient, margin, routing, routing_gradient
from minicnn.kernels.convolution.choice import (conv2d, conv2d_input_gradient, conv2d_relu, conv2d_relu_gradient,
                                                conv2d_relu_pool, conv2d_relu_pool_gradient, conv2d_scaled, conv2d_scaled_relu,
                                                conv2d_scaled_relu_pool, conv2d_weight_gradient)
from minicnn.kernels.convolution.depthwise import (depthwise_conv2d, depthwise_conv2d_input_gradient,
                                                   depthwise_conv2d_relu, depthwise_conv2d_weight_gradient)
from minicnn.kernels.convolution.grey import grey_filters, grey_planes        # noqa: F401  (for fusion)
from minicnn.kernels.convolution.grouped import (grouped_conv2d, grouped_conv2d_input_gradient,
                                                 grouped_conv2d_weight_gradient)
from minicnn.kernels.dense import dense, dense_input_gradient, dense_relu, dense_relu_gradient, dense_weight_gradient
from minicnn.kernels.elementwise import binary, binary_gradient, unary, unary_gradient
from minicnn.kernels.global_pooling import (global_average_pool2d, global_average_pool2d_gradient, global_max_pool2d,
                                            global_max_pool2d_gradient)
from minicnn.kernels.losses import binary_crossentropy, categorical_crossentropy, mean_squared_error
from minicnn.kernels.merging import add, add_relu, multiply, multiply_gradient
from minicnn.kernels.normalization import (batch_norm, batch_norm_gradient, batch_norm_relu, batch_norm_relu_gradient,
                                           batch_statistics, layer_norm, layer_norm_gradient)
from minicnn.kernels.optimizers import adam, sgd
from minicnn.kernels.philox import philox_uniforms          # noqa: F401  (for core.random)
from minicnn.kernels.pooling import average_pool2d, average_pool2d_gradient, max_pool2d, max_pool2d_gradient
from minicnn.kernels.rectifiers import (clipped_relu, clipped_relu_gradient, elu, elu_gradient, leaky_relu,
                                        leaky_relu_gradient, softplus, softplus_gradient, swish, swish_gradient)
from minicnn.kernels.regularization import dropout
from minicnn.kernels.reshaping import (rescaling, rescaling_gradient, up_sampling2d, up_sampling2d_gradient,
                                       zero_padding2d, zero_padding2d_gradient)
from minicnn.kernels.runtime.finite import all_finite               # noqa: F401  (for core.validation)
from minicnn.kernels.runtime.recording import Recordings, call, derived      # noqa: F401  (for fusion and layers)

__all__ = ["conv2d", "conv2d_input_gradient", "conv2d_weight_gradient",
           "grouped_conv2d", "grouped_conv2d_input_gradient", "grouped_conv2d_weight_gradient",
           "depthwise_conv2d", "depthwise_conv2d_relu", "depthwise_conv2d_input_gradient", "depthwise_conv2d_weight_gradient",
           "max_pool2d", "max_pool2d_gradient", "average_pool2d", "average_pool2d_gradient",
           "conv2d_relu", "conv2d_relu_gradient", "conv2d_relu_pool", "conv2d_relu_pool_gradient", "conv2d_scaled", "conv2d_scaled_relu",
           "conv2d_scaled_relu_pool",
           "dense", "dense_input_gradient", "dense_weight_gradient", "dense_relu", "dense_relu_gradient",
           "batch_statistics", "batch_norm", "batch_norm_gradient", "batch_norm_relu", "batch_norm_relu_gradient", "layer_norm", "layer_norm_gradient",
           "relu", "relu_gradient", "sigmoid", "sigmoid_gradient", "tanh", "tanh_gradient", "swish", "swish_gradient", "softplus", "softplus_gradient",
           "softmax", "softmax_gradient", "dropout", "routing", "routing_gradient", "length", "length_gradient", "margin",
           "clipped_relu", "clipped_relu_gradient", "leaky_relu", "leaky_relu_gradient", "elu", "elu_gradient",
           "global_average_pool2d", "global_average_pool2d_gradient", "global_max_pool2d", "global_max_pool2d_gradient",
           "zero_padding2d", "zero_padding2d_gradient", "up_sampling2d", "up_sampling2d_gradient", "rescaling", "rescaling_gradient",
           "add", "add_relu", "multiply", "multiply_gradient", "unary", "unary_gradient", "binary", "binary_gradient",
           "binary_crossentropy", "categorical_crossentropy", "mean_squared_error", "deviation", "adam", "sgd", "amsgrad", "rmsprop"]
