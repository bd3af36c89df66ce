"""What the parity vectors are made from: every input drawn by its name, so that no input needs to be stored.

`make_keras.py` and `make_torch.py` run these cases in the two frameworks and freeze what comes out; `test_parity.py`
runs them in minicnn and compares. Only uniform draws, additions and correctly rounded operations are used, so an input
is the same to the bit on every machine. All values are float32; a float64 run starts from the same numbers.

Conventions of the frozen files: images NHWC, convolution kernels (KH, KW, C, F), dense kernels (in, out), parameters in
Keras' order (kernel, bias, kernel, bias, ...), whichever framework wrote them. Keys are paths such as
`small/float64/gradient/3`.
"""

import zlib
from collections import namedtuple
from math import prod, sqrt

import numpy as np

from minicnn.core.random import Stream, permutation, uniforms

SEED = 20201108  # the day the paper went online; any other would do, but it is frozen with the vectors


def draw(name, shape, low=-1.0, high=1.0):
    """Return float32 uniforms in [low, high), addressed by `name`."""
    u = uniforms(SEED, Stream.INITIALIZER, 0, zlib.crc32(name.encode()), prod(shape))
    return (low + (high - low) * u).astype(np.float32).reshape(shape)


# --- whole networks ---------------------------------------------------------------------------------------------------

Network = namedtuple("Network", "input_shape layers batch_size steps")
LEARNING_RATE = 1e-3

# The logits are the output: the final sigmoid belongs to the loss. `same` marks the padding of a convolution.
NETWORKS = {
    "cov19net": Network((64, 64, 3), (("conv", 32, 3, "valid"), ("relu",), ("max_pool", 2),
                                      ("conv", 32, 3, "valid"), ("relu",), ("max_pool", 2),
                                      ("conv", 32, 3, "valid"), ("relu",), ("flatten",),
                                      ("dense", 128), ("relu",), ("dense", 1)), batch_size=8, steps=3),
    "small": Network((20, 20, 3), (("conv", 8, 3, "valid"), ("relu",), ("max_pool", 2),
                                   ("conv", 8, 3, "same"), ("relu",), ("max_pool", 2),
                                   ("conv", 8, 3, "valid"), ("relu",), ("flatten",),
                                   ("dense", 16), ("relu",), ("dense", 1)), batch_size=8, steps=3),
}


def parameter_shapes(network):
    """Return the shapes of the parameters in Keras' order, and the image shape (H, W, C) that Flatten meets."""
    H, W, C = network.input_shape
    shapes, width, flattened = [], None, None
    for kind, *options in network.layers:
        if kind == "conv":
            F, K, padding = options
            shapes += [(K, K, C, F), (F,)]
            C = F
            if padding == "valid":
                H, W = H - K + 1, W - K + 1
        elif kind == "max_pool":
            H, W = H // options[0], W // options[0]
        elif kind == "flatten":
            flattened, width = (H, W, C), H * W * C
        elif kind == "dense":
            shapes += [(width, options[0]), (options[0],)]
            width = options[0]
    return shapes, flattened


def weights(name):
    """Return the first weights of a network: kernels within Glorot's limit, biases small but not zero."""
    arrays = []
    for index, shape in enumerate(parameter_shapes(NETWORKS[name])[0]):
        receptive = prod(shape[:-2])
        limit = sqrt(6.0 / (receptive * (shape[-2] + shape[-1]))) if len(shape) > 1 else 0.05
        arrays.append(draw(f"{name}/weight/{index}", shape, -limit, limit))
    return arrays


def batch(name, step):
    """Return images (N, H, W, C) in [0, 1) and targets (N, 1) of zeros and ones; each step has its own."""
    network = NETWORKS[name]
    x = draw(f"{name}/x/{step}", (network.batch_size, *network.input_shape), 0.0, 1.0)
    t = np.floor(draw(f"{name}/t/{step}", (network.batch_size, 1), 0.0, 2.0))
    return x, t


def normalized_batch(step):
    """Return images and targets for NORMALIZED."""
    x = draw(f"normalized/x/{step}", (NORMALIZED.batch_size, *NORMALIZED.input_shape), 0.0, 1.0)
    return x, np.floor(draw(f"normalized/t/{step}", (NORMALIZED.batch_size, 1), 0.0, 2.0))


def sampled(array):
    """Return the elements of `array` that are frozen: all up to 9,248, else 8,192 at drawn positions, in order."""
    flat = np.asarray(array).ravel()
    if flat.size <= 9248:
        return flat
    return flat[np.sort(permutation(SEED, Stream.SHUFFLE, 0, flat.size)[:8192])]


# --- optimizers on frozen gradients -----------------------------------------------------------------------------------

OPTIMIZER_STEPS = 5
SGD = {"sgd": (0.0, False), "sgd_momentum": (0.9, False), "sgd_nesterov": (0.9, True)}  # name: momentum, nesterov
SGD_LEARNING_RATE = 0.01


# {case: (optimizer, its arguments in Keras and here)}; the parameters are two of 160, with a norm each
FURTHER_OPTIMIZERS = {
    "rmsprop": ("RMSprop", {"learning_rate": LEARNING_RATE}),
    "rmsprop_momentum": ("RMSprop", {"learning_rate": 0.01, "rho": 0.8, "momentum": 0.9, "epsilon": 1e-4}),
    "amsgrad": ("Adam", {"learning_rate": LEARNING_RATE, "beta_2": 0.9, "amsgrad": True}),
    "clipnorm": ("SGD", {"learning_rate": 0.01, "clipnorm": 1.5}),
    "global_clipnorm": ("SGD", {"learning_rate": 0.01, "momentum": 0.5, "global_clipnorm": 20.0}),
    "clipvalue": ("SGD", {"learning_rate": 0.01, "clipvalue": 0.25}),
}
LABEL_SMOOTHING, L2 = 0.15, 0.02


def smoothed_logits(name):
    """Return logits and targets of a loss with smoothed labels."""
    z = draw(f"smoothed/{name}", (8, 4), -4.0, 4.0)
    return z, np.eye(4, dtype=np.float32)[[3, 0, 2, 1, 1, 2, 3, 0]] if name.startswith("categorical") else \
        np.floor(draw("smoothed/t", (8, 4), 0.0, 2.0))


def optimizer_start():
    """Return 320 parameters: the first half zero, so that what is compared there is the update and nothing else."""
    start = draw("optimizer/start", (320,))
    start[:160] = 0.0
    return start


def optimizer_gradients():
    """Return gradients (5, 320) from about 1e-9 to 1e3 in size, a tenth of them zero.

    A parameter keeps its sign through the steps: updates then add up and never cancel, so a relative bar is fair.
    """
    shape = (OPTIMIZER_STEPS, 320)
    exponents = np.floor(draw("optimizer/exponent", shape, -30.0, 10.0)).astype(np.int32)  # 2**-30 .. 2**9
    signs = np.where(draw("optimizer/sign", shape[1:]) < 0, -1.0, 1.0)
    gradients = signs * np.ldexp(draw("optimizer/gradient", shape, 1.0, 2.0), exponents)
    gradients[draw("optimizer/zero", shape, 0.0, 1.0) < 0.1] = 0.0
    gradients[:, ::40] = 0.0                                        # these parameters never get a gradient at all
    return gradients.astype(np.float32)


# --- one layer at a time ----------------------------------------------------------------------------------------------

Convolution = namedtuple("Convolution", "input_shape kernel filters strides padding")
CONVOLUTIONS = {
    "conv_1x1": Convolution((2, 5, 6, 3), (1, 1), 4, (1, 1), "valid"),
    "conv_2x2": Convolution((2, 6, 5, 3), (2, 2), 4, (1, 1), "valid"),
    "conv_3x3": Convolution((2, 9, 7, 3), (3, 3), 5, (1, 1), "valid"),
    "conv_5x5": Convolution((2, 9, 8, 2), (5, 5), 3, (1, 1), "valid"),
    "conv_3x2": Convolution((2, 7, 7, 3), (3, 2), 4, (1, 1), "valid"),
    "conv_1x5": Convolution((1, 6, 9, 2), (1, 5), 3, (1, 1), "valid"),
    "conv_3x3_s2": Convolution((2, 10, 9, 3), (3, 3), 4, (2, 2), "valid"),   # 10 -> 4: a row is left over
    "conv_3x3_s3": Convolution((2, 11, 10, 3), (3, 3), 4, (3, 3), "valid"),
    "conv_1x1_s2": Convolution((2, 6, 5, 3), (1, 1), 4, (2, 2), "valid"),    # strides larger than the kernel
    "conv_2x2_s3": Convolution((2, 8, 9, 2), (2, 2), 3, (3, 3), "valid"),
    "conv_5x5_s2": Convolution((1, 11, 12, 2), (5, 5), 3, (2, 2), "valid"),
    "conv_3x3_s21": Convolution((2, 9, 8, 2), (3, 3), 3, (2, 1), "valid"),
    "conv_whole_image": Convolution((3, 4, 5, 2), (4, 5), 6, (1, 1), "valid"),
    "conv_33_filters": Convolution((1, 5, 6, 17), (3, 3), 33, (1, 1), "valid"),
    "conv_1x1_same": Convolution((2, 5, 6, 3), (1, 1), 4, (1, 1), "same"),
    "conv_2x2_same": Convolution((2, 6, 5, 3), (2, 2), 4, (1, 1), "same"),   # even kernel: the extra row is the last
    "conv_3x3_same": Convolution((2, 6, 7, 3), (3, 3), 5, (1, 1), "same"),
    "conv_5x5_same": Convolution((2, 7, 4, 2), (5, 5), 3, (1, 1), "same"),   # kernel wider than the image
    "conv_2x5_same": Convolution((2, 7, 6, 2), (2, 5), 3, (1, 1), "same"),
    "conv_1x1_same_s2": Convolution((2, 5, 6, 3), (1, 1), 4, (2, 2), "same"),
    "conv_2x2_same_s2": Convolution((2, 7, 6, 3), (2, 2), 4, (2, 2), "same"),
    "conv_3x3_same_s2": Convolution((2, 8, 7, 3), (3, 3), 4, (2, 2), "same"),  # 8: pads (0, 1); 7: pads (1, 1)
    "conv_3x3_same_s3": Convolution((2, 10, 8, 3), (3, 3), 4, (3, 3), "same"),
    "conv_5x5_same_s3": Convolution((1, 11, 9, 2), (5, 5), 3, (3, 3), "same"),
}

Pooling = namedtuple("Pooling", "input_shape pool_size strides padding")
POOLINGS = {
    "pool_2x2": Pooling((2, 6, 8, 3), (2, 2), (2, 2), "valid"),
    "pool_2x2_odd": Pooling((2, 7, 5, 3), (2, 2), (2, 2), "valid"),          # the last row and column are dropped
    "pool_3x3": Pooling((2, 11, 9, 2), (3, 3), (3, 3), "valid"),
    "pool_2x3": Pooling((2, 7, 9, 2), (2, 3), (2, 3), "valid"),
    "pool_3x3_s2": Pooling((2, 9, 8, 3), (3, 3), (2, 2), "valid"),           # windows overlap
    "pool_3x3_s1": Pooling((1, 6, 7, 2), (3, 3), (1, 1), "valid"),
    "pool_2x2_s3": Pooling((2, 9, 8, 2), (2, 2), (3, 3), "valid"),           # pixels between the windows
    "pool_33_channels": Pooling((1, 5, 5, 33), (2, 2), (2, 2), "valid"),
    "pool_2x2_same": Pooling((2, 7, 5, 3), (2, 2), (2, 2), "same"),
    "pool_3x3_same_s2": Pooling((2, 8, 7, 2), (3, 3), (2, 2), "same"),
    "pool_3x3_same_s1": Pooling((1, 4, 5, 2), (3, 3), (1, 1), "same"),
}


def layer_input(name, shape):
    """Return the input of a layer case."""
    return draw(f"{name}/x", shape)


def tied_input(name, shape):
    """Return small whole numbers below zero, so that most windows hold their maximum more than once.

    Below zero, because a framework that pads with zeros instead of leaving the border out would show.
    """
    return np.floor(draw(f"{name}/tied", shape, -4.0, 0.0))


def layer_gradient(name, shape):
    """Return the gradient dy that is sent back through a layer."""
    return draw(f"{name}/dy", shape)


def convolution_weights(name):
    """Return kernel (KH, KW, C, F) and bias (F,)."""
    case = CONVOLUTIONS[name]
    shape = (*case.kernel, case.input_shape[-1], case.filters)
    return draw(f"{name}/w", shape), draw(f"{name}/b", shape[-1:])


DENSE = {"dense_7_3": (5, 7, 3), "dense_1_1": (1, 1, 1), "dense_65_33": (3, 65, 33)}  # N, in, out


def dense_weights(name):
    """Return kernel (in, out) and bias (out,)."""
    _, n_in, n_out = DENSE[name]
    return draw(f"{name}/w", (n_in, n_out)), draw(f"{name}/b", (n_out,))


Normalization = namedtuple("Normalization", "kind input_shape options training")
NORMALIZATIONS = {
    "batch_norm": Normalization("batch", (4, 5, 6, 3), {}, True),
    "batch_norm_rows": Normalization("batch", (8, 7), {"momentum": 0.8, "epsilon": 1e-5}, True),
    "batch_norm_33_channels": Normalization("batch", (2, 3, 3, 33), {"center": False}, True),
    "batch_norm_no_scale": Normalization("batch", (3, 4, 4, 2), {"scale": False, "momentum": 0.5}, True),
    "batch_norm_bare": Normalization("batch", (5, 4), {"center": False, "scale": False}, True),
    "batch_norm_predicts": Normalization("batch", (3, 4, 4, 5), {"epsilon": 0.01}, False),
    "layer_norm": Normalization("layer", (3, 4, 5, 6), {}, True),
    "layer_norm_rows": Normalization("layer", (5, 33), {"epsilon": 1e-5}, True),
    "layer_norm_no_center": Normalization("layer", (4, 7), {"center": False}, True),
    "layer_norm_no_scale": Normalization("layer", (4, 7), {"scale": False}, True),
}


def normalization_weights(name, C, kind, options):
    """Return what the options leave of gamma and beta, then for batch normalization the moving mean and variance."""
    drawn = {"gamma": (0.5, 1.5), "beta": (-0.5, 0.5), "moving_mean": (-0.2, 0.2), "moving_variance": (0.5, 1.5)}
    left = ["gamma"] * options.get("scale", True) + ["beta"] * options.get("center", True)
    left += ["moving_mean", "moving_variance"] * (kind == "batch")
    return [draw(f"{name}/{key}", (C,), *drawn[key]) for key in left]


# A network with both. Batch normalization stands after ReLU: a bias right before it has a gradient of 0, in which Adam
# would make whole steps of rounding.
NORMALIZED = Network((12, 12, 3), (("conv", 6, 3, "same"), ("relu",), ("batch",), ("max_pool", 2), ("conv", 7, 3, "valid"),
                                   ("relu",), ("batch",), ("flatten",), ("dense", 9), ("layer",), ("relu",), ("dense", 1)),
                     batch_size=8, steps=3)


def normalized_weights():
    """Return {"layer/name": array}, the first weights of NORMALIZED in Keras' order."""
    arrays, before, width = {}, 3, 7 * 4 * 4            # channels before a convolution, numbers before a dense layer
    for index, (kind, *options) in enumerate(NORMALIZED.layers):
        if kind in ("batch", "layer"):
            found = normalization_weights(f"normalized/{index}", before, kind, {})
            names = ["gamma", "beta", "moving_mean", "moving_variance"][:len(found)]
        elif kind in ("conv", "dense"):
            shape = (3, 3, before, options[0]) if kind == "conv" else (width, options[0])
            limit = sqrt(6.0 / (prod(shape[:-2]) * (shape[-2] + shape[-1])))
            found = [draw(f"normalized/{index}/w", shape, -limit, limit),
                     draw(f"normalized/{index}/b", shape[-1:], -0.05, 0.05)]
            names, before, width = ["kernel", "bias"], options[0], width if kind == "conv" else options[0]
        else:
            continue
        arrays |= {f"{index}/{name}": array for name, array in zip(names, found, strict=True)}
    return arrays


ACTIVATIONS = ("relu", "sigmoid", "tanh")


def activation_input():
    """Return (64,): special and extreme finite values, then drawn ones; exact in float32."""
    special = [0.0, -0.0, 2.0**-27, -(2.0**-27), 0.5, -0.5, 1.0, -1.0, 8.0, -8.0, 16.0, -16.0, 17.0, -17.0, 30.0, -30.0,
               87.0, -87.0, 88.0, -88.0, 104.0, -104.0, 200.0, -200.0, 1e4, -1e4]
    return np.concatenate([np.array(special, np.float32), draw("activation/x", (64 - len(special),), -6.0, 6.0)])


def class_logits():
    """Return logits (8, 5) and one-hot targets (8, 5); rows of moderate, large and equal logits."""
    z = draw("softmax/z", (8, 5), -4.0, 4.0)
    z[5] *= 25.0
    z[6] = [1000.0, -1000.0, 0.0, 1000.0, 3.0]
    z[7] = 2.0
    t = np.eye(5, dtype=np.float32)[[3, 0, 4, 1, 1, 2, 3, 0]]
    return z, t


def regression():
    """Return predictions (6, 3) and targets (6, 3)."""
    return draw("mse/y", (6, 3), -3.0, 3.0), draw("mse/t", (6, 3), -3.0, 3.0)


# --- layers that COV-19Net has no use for -----------------------------------------------------------------------------

Further = namedtuple("Further", "kind arguments input_shape")       # no shape: the numbers of activation_input
# Padding is at most what the smaller case has; where pixels tie, TensorFlow divides the gradient of a global maximum.
FURTHER = {
    "relu_6": Further("ReLU", {"max_value": 6.0}, None),
    "relu_2.5": Further("ReLU", {"max_value": 2.5}, None),
    "leaky_relu": Further("LeakyReLU", {}, None),
    "leaky_relu_0.01": Further("LeakyReLU", {"negative_slope": 0.01}, None),
    "elu": Further("ELU", {}, None),
    "elu_0.5": Further("ELU", {"alpha": 0.5}, None),
    "swish": Further("Swish", {}, None),
    "softplus": Further("Softplus", {}, None),
    "rescaling": Further("Rescaling", {"scale": 0.25, "offset": -1.5}, None),
    "global_average": Further("GlobalAveragePooling2D", {}, (2, 7, 5, 3)),
    "global_average_keepdims": Further("GlobalAveragePooling2D", {"keepdims": True}, (2, 4, 6, 17)),
    "global_max": Further("GlobalMaxPooling2D", {}, (2, 7, 5, 3)),
    "global_max_keepdims": Further("GlobalMaxPooling2D", {"keepdims": True}, (2, 4, 6, 17)),
    "zero_padding": Further("ZeroPadding2D", {"padding": 1}, (2, 3, 4, 3)),
    "zero_padding_each_axis": Further("ZeroPadding2D", {"padding": (2, 1)}, (2, 3, 4, 3)),
    "zero_padding_each_side": Further("ZeroPadding2D", {"padding": ((0, 1), (3, 2))}, (2, 3, 4, 3)),
    "up_sampling": Further("UpSampling2D", {}, (2, 3, 4, 3)),
    "up_sampling_2x3": Further("UpSampling2D", {"size": (2, 3)}, (2, 3, 4, 3)),
    "reshape": Further("Reshape", {"target_shape": (6, -1)}, (2, 3, 4, 5)),
}


def further_input(name):
    """Return the input of a further layer."""
    shape = FURTHER[name].input_shape
    return activation_input()[:, np.newaxis] if shape is None else layer_input(name, shape)


# --- forms of convolution: by channel, in groups, dilated, without bias, with an activation ---------------------------

Form = namedtuple("Form", "kind arguments input_shape")
FORMS = {
    "depthwise_3x3": Form("DepthwiseConv2D", dict(kernel_size=3), (2, 9, 7, 3)),
    "depthwise_33_channels": Form("DepthwiseConv2D", dict(kernel_size=(2, 3)), (1, 4, 5, 33)),
    "depthwise_same": Form("DepthwiseConv2D", dict(kernel_size=(3, 2), padding="same"), (2, 6, 7, 3)),
    "depthwise_same_s2": Form("DepthwiseConv2D", dict(kernel_size=3, strides=2, padding="same"), (2, 8, 7, 5)),
    "depthwise_multiplier": Form("DepthwiseConv2D", dict(kernel_size=3, depth_multiplier=3, use_bias=False),
                                 (2, 6, 5, 2)),
    "depthwise_dilated": Form("DepthwiseConv2D", dict(kernel_size=3, dilation_rate=2, padding="same"), (2, 7, 8, 3)),
    "depthwise_relu": Form("DepthwiseConv2D", dict(kernel_size=(1, 4), depth_multiplier=2, activation="relu"),
                           (2, 4, 6, 3)),
    "separable_3x3": Form("SeparableConv2D", dict(filters=5, kernel_size=3), (2, 7, 6, 3)),
    "separable_same_s2": Form("SeparableConv2D", dict(filters=4, kernel_size=(3, 5), strides=2, padding="same",
                                                      depth_multiplier=2), (2, 8, 7, 3)),
    "separable_dilated": Form("SeparableConv2D", dict(filters=4, kernel_size=(3, 2), dilation_rate=2, padding="same",
                                                      use_bias=False, activation="tanh"), (2, 6, 5, 2)),
    "groups": Form("Conv2D", dict(filters=6, kernel_size=(3, 2), groups=3, padding="same"), (2, 5, 6, 9)),
    "groups_s2": Form("Conv2D", dict(filters=4, kernel_size=3, strides=2, groups=2, padding="same"), (2, 8, 7, 4)),
    "dilated": Form("Conv2D", dict(filters=4, kernel_size=3, dilation_rate=2), (2, 9, 8, 3)),
    "dilated_same": Form("Conv2D", dict(filters=4, kernel_size=(2, 3), dilation_rate=(3, 1), padding="same"),
                         (2, 7, 6, 3)),
    "no_bias": Form("Conv2D", dict(filters=5, kernel_size=3, use_bias=False), (2, 6, 5, 3)),
    "relu": Form("Conv2D", dict(filters=5, kernel_size=3, padding="same", activation="relu"), (2, 6, 5, 3)),
    "softmax": Form("Conv2D", dict(filters=5, kernel_size=1, activation="softmax"), (2, 4, 3, 2)),
    "same_3x2_s2": Form("Conv2D", dict(filters=3, kernel_size=(3, 2), strides=2, padding="same"), (2, 8, 7, 2)),
    "same_2x5_s2": Form("Conv2D", dict(filters=3, kernel_size=(2, 5), strides=2, padding="same"), (2, 7, 8, 2)),
    "same_1x7_s2": Form("Conv2D", dict(filters=3, kernel_size=(1, 7), strides=2, padding="same"), (2, 6, 5, 2)),
    "same_4x4_s3": Form("Conv2D", dict(filters=3, kernel_size=4, strides=3, padding="same"), (2, 10, 8, 2)),
    "dense_no_bias": Form("Dense", dict(units=4, use_bias=False), (3, 7)),
    "dense_sigmoid": Form("Dense", dict(units=4, activation="sigmoid"), (3, 7)),
    "max_pool_3x2_s2": Form("MaxPool2D", dict(pool_size=(3, 2), strides=2, padding="same"), (2, 8, 7, 3)),
    "max_pool_2x5_s21": Form("MaxPool2D", dict(pool_size=(2, 5), strides=(2, 1), padding="same"), (2, 7, 6, 3)),
    "average_pool_3x2_s2": Form("AveragePool2D", dict(pool_size=(3, 2), strides=2, padding="same"), (2, 8, 7, 3)),
    "average_pool_4x3_s3": Form("AveragePool2D", dict(pool_size=(4, 3), strides=3, padding="same"), (2, 10, 8, 3)),
}
# A network of them: images (13, 12, 3), logits (N, 1).
FORMS_NETWORK = [
    Form("Conv2D", dict(filters=8, kernel_size=3, strides=2, padding="same", activation="relu", use_bias=False), None),
    Form("DepthwiseConv2D", dict(kernel_size=3, padding="same", activation="relu"), None),
    Form("SeparableConv2D", dict(filters=10, kernel_size=(3, 2), padding="same", activation="relu"), None),
    Form("Conv2D", dict(filters=6, kernel_size=(3, 2), padding="same", dilation_rate=2, activation="tanh"), None),
    Form("MaxPool2D", dict(pool_size=(3, 2), strides=2, padding="same"), None),
    Form("Flatten", {}, None),
    Form("Dense", dict(units=9, use_bias=False, activation="relu"), None),
    Form("Dense", dict(units=1), None)]
FORMS_BATCH, FORMS_STEPS = (8, 13, 12, 3), 3


def form_input(name):
    """Return the input of a form."""
    case = FORMS[name]
    return (tied_input if case.kind == "MaxPool2D" else layer_input)(name, case.input_shape)


def form_weights(name, shapes):
    """Return weights of these shapes, in Keras' order; of a network they are small enough that no layer saturates."""
    return [draw(f"{name}/weight/{i}", shape, -(limit := sqrt(6.0 / max(prod(shape[:-1]), 6))), limit)
            for i, shape in enumerate(shapes)]


def forms_batch(step):
    """Return images and targets of the network of forms."""
    return (draw(f"forms/x/{step}", FORMS_BATCH, 0.0, 1.0),
            np.floor(draw(f"forms/t/{step}", (FORMS_BATCH[0], 1), 0.0, 2.0)))


# --- graphs -----------------------------------------------------------------------------------------------------------

def residual_network(L):
    """Return (inputs, outputs) of a small residual network; L is keras.layers, or minicnn, which has the same names."""
    def conv(x, filters, size, name, strides=1):
        x = L.Conv2D(filters, size, strides=strides, padding="same", use_bias=False, name=name)(x)
        return L.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)

    def block(x, filters, name, strides=1):
        y = conv(L.ReLU()(conv(x, filters, 3, f"{name}_1", strides)), filters, 3, f"{name}_2")
        shortcut = x if strides == 1 else conv(x, filters, 1, f"{name}_shortcut", strides)
        return L.ReLU()(L.Add()([y, shortcut]))
    x = L.Input((12, 12, 3))
    y = block(block(L.ReLU()(conv(x, 8, 3, "stem")), 8, "same"), 12, "halved", strides=2)
    return x, [L.Dense(1, activation="sigmoid", name="covid")(L.GlobalAveragePooling2D()(y))]


def inception_network(L):
    """Return (inputs, outputs) of a small inception-like network with two outputs."""
    x = L.Input((12, 12, 2))
    y = L.Conv2D(6, 3, padding="same", activation="relu", name="stem")(x)
    pooled = L.MaxPooling2D(3, strides=1, padding="same")(y)
    middle = L.Conv2D(3, 1, activation="relu", name="before_3")(y)
    wide = L.Conv2D(2, 1, activation="relu", name="before_5")(y)
    y = L.Concatenate()([L.Conv2D(4, 1, use_bias=False, name="branch_1")(y),
                         L.Conv2D(4, 3, padding="same", use_bias=False, name="branch_3")(middle),
                         L.Conv2D(3, 5, padding="same", use_bias=False, name="branch_5")(wide),
                         L.Conv2D(3, 1, use_bias=False, name="branch_pool")(pooled)])
    y = L.ReLU()(L.BatchNormalization(momentum=0.9, name="norm")(y))
    kind = L.Dense(3, activation="softmax", name="kind")(L.GlobalAveragePooling2D()(y))
    y = L.SeparableConv2D(8, 3, activation="relu", name="separable")(L.AveragePooling2D(2)(y))
    return x, [L.Dense(1, activation="sigmoid", name="covid")(L.Flatten()(y)), kind]


Graph = namedtuple("Graph", "make losses weights")
GRAPHS = {"residual": Graph(residual_network, ["binary_crossentropy"], [1.0]),
          "inception": Graph(inception_network, ["binary_crossentropy", "categorical_crossentropy"], [1.0, 0.3])}
GRAPH_STEPS = 3


def set_graph_weights(name, layers):
    """Set the weights of the layers of a graph that have some, by their names; return the names in order."""
    names = sorted(layer.name for layer in layers if layer.get_weights())
    for layer in layers:
        if layer.name in names:
            kept = [w.shape for w in layer.get_weights()]
            new = form_weights(f"{name}/{layer.name}", kept)
            if "norm" in layer.name:        # gamma, beta, moving mean, moving variance
                new = [0.1 * draw(f"{name}/{layer.name}/{i}", shape) + (i in (0, 3)) for i, shape in enumerate(kept)]
            layer.set_weights([array.astype(np.float32) for array in new])
    return names


def graph_batch(name, step, shape):
    """Return images and the targets of each output of a graph."""
    x = draw(f"{name}/x/{step}", (8, *shape), 0.0, 1.0)
    kinds = np.floor(draw(f"{name}/kind/{step}", (8,), 0.0, 3.0)).astype(int)
    targets = [np.floor(draw(f"{name}/t/{step}", (8, 1), 0.0, 2.0)), np.eye(3, dtype=np.float32)[kinds]]
    return x, targets[:len(GRAPHS[name].losses)]


# --- published networks -----------------------------------------------------------------------------------------------

# {function of minicnn.networks: (function of keras.applications, shape of an image)}; odd sizes are met on the way down.
PUBLISHED = {"vgg16": ("VGG16", (32, 64, 3)), "vgg19": ("VGG19", (64, 32, 3)), "resnet50": ("ResNet50", (64, 80, 3)),
             "resnet50_v2": ("ResNet50V2", (64, 80, 3)), "mobilenet_v2": ("MobileNetV2", (72, 80, 3)),
             "inception_v3": ("InceptionV3", (80, 112, 3)), "inception_resnet_v2": ("InceptionResNetV2", (80, 112, 3)),
             "efficientnet_b0": ("EfficientNetB0", (72, 80, 3))}
PUBLISHED_CLASSES = 3


def repeated(name, shape, low, high):
    """Return uniforms as `draw` does, 4,099 of them repeated: a network has millions."""
    return np.resize(draw(name, (4099,), low, high), shape)


def published_weight(name, shape):
    """Return a weight of a published network by its name in minicnn, such as resnet50/conv1_conv/kernel.

    Numbers stay of the size of the input's: kernels are within He's limit, those of the last convolution of a residual smaller.
    """
    network, layer, kind = name.split("/")
    if kind.endswith("kernel"):
        fan_in = prod(shape[:2] if kind == "depthwise_kernel" else shape[:-1])
        limit = sqrt(6.0 / fan_in) * (0.3 if layer.endswith(("_3_conv", "predictions")) else 1)
        return repeated(name, shape, -limit, limit)
    low, high = {"gamma": (0.8, 1.2), "beta": (-0.3, 0.5), "bias": (-0.1, 0.1), "moving_mean": (-0.1, 0.1),
                 "moving_variance": (0.5, 1.5)}[kind]
    return repeated(name, shape, low, high)


def published_images(network):
    return draw(f"{network}/x", (2, *PUBLISHED[network][1]))


def published_direction(name, shape):
    """Return what the gradient of a weight is multiplied with, to be one number."""
    return repeated(f"{name}/direction", shape, -1.0, 1.0)


def imagenet_pixels():
    """Return two images for a network of ImageNet, uint8: squares of 8 and of 32 pixels, each of one colour."""
    drawn = (np.floor(draw(f"imagenet/{side}", (224 // side, 224 // side, 3), 0.0, 256.0)) for side in (8, 32))
    return np.stack([squares.repeat(224 // len(squares), 0).repeat(224 // len(squares), 1) for squares in drawn]).astype(np.uint8)


# --- initialisers -----------------------------------------------------------------------------------------------------

INITIALIZERS = ("glorot_uniform", "glorot_normal", "he_uniform", "he_normal")
INITIALIZER_SHAPES = {"conv": (3, 3, 32, 32), "dense": (4608, 128)}


# ---- Capsules: make_keras_capsules.py -----------------------------------------------------------------------------------

# {case: (samples, input capsules, numbers in each, [(count, size, rounds) of each layer])}; the last ends in lengths
CAPSULES = {"one_round": (2, 5, 3, [(4, 3, 1)]), "two_rounds": (2, 7, 4, [(1, 2, 2)]), "many": (2, 150, 4, [(5, 3, 3)]),
            "two_classes": (4, 36, 6, [(8, 4, 3), (8, 4, 3), (2, 6, 3)]), "five_classes": (3, 9, 6, [(6, 3, 4), (5, 4, 3)])}
