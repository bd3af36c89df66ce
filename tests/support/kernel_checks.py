"""What the tests of the kernels share: run a kernel into poisoned outputs, and compare it with the specification."""

import inspect

import numpy as np
import pytest

from minicnn import kernels, reference as ref
from minicnn.kernels.convolution import choice
from tests.support.laws import as_tuple, assert_near_largest, assert_rounded, assert_same_bits, digest
from tests.support.strategies import DTYPES, abs_inputs, separated, specified

NO_PADS = (0, 0, 0, 0)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
# Kernels that do the very operations of the reference, in its order: equal to the last bit.
EXACT = ["add", "add_relu", "multiply", "max_pool2d", "relu", "relu_gradient", "sigmoid_gradient", "tanh_gradient", "dropout", "adam", "sgd",
         "amsgrad", "rmsprop",
         "clipped_relu", "clipped_relu_gradient", "leaky_relu", "leaky_relu_gradient", "global_average_pool2d_gradient",
         "global_max_pool2d", "global_max_pool2d_gradient", "zero_padding2d", "zero_padding2d_gradient", "up_sampling2d",
         "rescaling", "rescaling_gradient", "unary_gradient", "binary", "binary_gradient", "length", "length_gradient", "margin", "deviation"]
# Within 4 units in the last place of each number.
FUNCTIONS = ["sigmoid", "tanh", "elu", "elu_gradient", "swish", "softplus", "softplus_gradient", "unary"]
# Sums of products: how many units in the last place of the sum of magnitudes they may be off. Weight gradients add up
# to 128 terms in a row.
SUMS = dict.fromkeys(["conv2d", "conv2d_input_gradient", "grouped_conv2d", "grouped_conv2d_input_gradient",
                      "depthwise_conv2d", "depthwise_conv2d_input_gradient", "dense", "dense_input_gradient", "max_pool2d_gradient",
                      "average_pool2d", "average_pool2d_gradient", "global_average_pool2d", "up_sampling2d_gradient",
                      "multiply_gradient"], 8) \
    | dict.fromkeys(["conv2d_relu", "conv2d_scaled", "conv2d_scaled_relu", "dense_relu", "depthwise_conv2d_relu"], 8) \
    | dict.fromkeys(["grouped_conv2d_weight_gradient", "depthwise_conv2d_weight_gradient", "conv2d_weight_gradient", "dense_weight_gradient", "dense_relu_gradient", "conv2d_relu_gradient",
                     "conv2d_relu_pool_gradient"], 24)
NORMALIZATION = ["batch_statistics", "batch_norm", "batch_norm_gradient", "layer_norm", "layer_norm_gradient"]
RECTIFIED = ["batch_norm_relu", "batch_norm_relu_gradient"]         # bit for bit one kernel after the other
ROUTING = ["routing", "routing_gradient"]
FUSED = ["conv2d_relu", "conv2d_relu_pool", "conv2d_scaled_relu_pool", "conv2d_relu_gradient", "conv2d_relu_pool_gradient"]


def poisoned(results):
    """Return arrays like `results` that hold NaN, or the largest whole number: what a kernel leaves out will show."""
    return tuple(np.full_like(r, np.nan if r.dtype.kind == "f" else np.iinfo(r.dtype).max) for r in as_tuple(results))


def run(name, inputs, outputs=None):
    """Return what a kernel writes, as a tuple."""
    if outputs is None:
        with np.errstate(all="ignore"):
            outputs = poisoned(specified(name)(*inputs))
    getattr(kernels, name)(*inputs, *outputs)
    return outputs


def widened(inputs):
    return [a.astype(np.float64) if isinstance(a, np.ndarray) and a.dtype == np.float32 else a for a in inputs]


def check(name, inputs):
    """The kernel writes what the specification says, as exactly as it can, and nothing to its inputs."""
    before = [digest(a) for a in inputs if isinstance(a, np.ndarray)]
    outputs = run(name, inputs)
    assert [digest(a) for a in inputs if isinstance(a, np.ndarray)] == before
    operation = specified(name)
    exact = as_tuple(operation(*widened(inputs)))
    if name in EXACT:
        for got, expected in zip(outputs, as_tuple(operation(*inputs)), strict=True):
            assert_same_bits(got, expected)
    elif name in SUMS and uses_winograd(name, inputs) and "gradient" in name and name != "conv2d_input_gradient":
        # The transforms mix the gradients of a tile: as exact as A4 asks, not as a sum of each element's own terms.
        for got, expected in zip(outputs, exact, strict=True):
            assert_near_largest(got, expected, 84 * np.finfo(got.dtype).eps)
    elif name in SUMS:
        for got, expected, magnitude in zip(outputs, exact, as_tuple(operation(*abs_inputs(inputs))), strict=True):
            if uses_winograd(name, inputs):
                magnitude = 2 * largest_of_tiles(magnitude)
            assert_rounded(got, expected, magnitude, SUMS[name])
    elif name in ("conv2d_relu_pool", "conv2d_scaled_relu_pool"):
        check_maxima(name.replace("_relu_pool", ""), inputs, *outputs, exact[0])
    elif name in RECTIFIED:
        for got, expected in zip(outputs, rectified_apart(name, inputs), strict=True):
            assert_same_bits(got, expected)
    elif name in NORMALIZATION:
        check_normalization(name, widened(inputs), outputs, exact)
    elif name == "routing":
        # beside the largest sum of all that is predicted of one number: shares are at most 1, and squash makes no error larger
        u, eps = np.abs(inputs[0]), np.finfo(inputs[0].dtype).eps
        for got, right in zip(outputs, exact, strict=True):
            for one, other, largest in zip(got, right, u.sum(axis=1, dtype=np.float64).max(axis=(1, 2))):
                assert np.abs(one - other).max() <= 8 * eps * largest
    elif name == "routing_gradient":
        for one, other in zip(outputs[0], exact[0]):
            assert_near_largest(one, other, 64 * np.finfo(one.dtype).eps)
    elif name == "softmax_gradient":
        dy, y = map(np.abs, widened(inputs))
        assert_rounded(outputs[0], exact[0], y * (dy + (dy * y).sum(axis=-1, keepdims=True)))
    elif name == "swish_gradient":
        dy, x = widened(inputs)
        s = ref.sigmoid(x)
        assert_rounded(outputs[0], exact[0], np.abs(dy) * (s + np.abs(x) * s * ref.sigmoid(-x)))
    elif name in FUNCTIONS:
        assert_rounded(outputs[0], exact[0], np.abs(exact[0]), 4)
    elif name == "softmax":
        # exp passes on the rounding of its argument, whose size is its distance from the largest
        x, = inputs
        assert_rounded(outputs[0], exact[0], exact[0] * (1 + np.abs(x - x.max(axis=-1, keepdims=True))), 4)
    else:
        losses, dz = outputs
        z, t, scale = widened(inputs)
        np.testing.assert_allclose(losses, exact[0], rtol=1e-13, atol=1e-300)
        assert_rounded(dz, exact[1], (2 + np.abs(z) + np.abs(t)) * scale[:, None])


def rectified_apart(name, inputs):
    """Return what batch normalization and ReLU write, or their gradients, one after the other."""
    if name == "batch_norm_relu":
        return run("relu", run("batch_norm", inputs))
    dy, x, mean, variance, gamma, beta, epsilon, constant = inputs
    y, = run("batch_norm_relu", (x, mean, variance, gamma, beta, epsilon))
    return run("batch_norm_gradient", (*run("relu_gradient", (dy, y)), x, mean, variance, gamma, epsilon, constant))


def uses_winograd(name, inputs):
    """Return whether a convolution of these inputs, or its gradient, goes by Winograd's algorithm."""
    if not name.startswith("conv2d"):
        return False
    named = dict(zip(inspect.signature(specified(name)).parameters, inputs))
    x, w, dy, strides = named.get("x"), named.get("w"), named.get("dy"), named["strides"]
    if name == "conv2d_weight_gradient":
        w = np.empty((*named["kernel_size"], x.shape[3], dy.shape[3]))
        return choice.suits_winograd_weights(w, strides, dy)
    size = dy.shape[1:3] if x is None else choice._size(x, w, strides, named["pads"])
    if choice.suits_winograd(w, strides, size) and "relu" in name and "gradient" in name:
        return not choice.suits_lists(w, strides, size, 2 if "pool" in name else 1, True)
    return choice.suits_winograd(w, strides, size)


def largest_of_tiles(magnitude, side=4):
    """Return, for each output (N, H, W, F), the largest number of its filter in its tile of 4 x 4 outputs (A3)."""
    N, H, W, F = magnitude.shape
    tiles = np.pad(magnitude, [(0, 0), (0, -H % side), (0, -W % side), (0, 0)])
    largest = tiles.reshape(N, tiles.shape[1] // side, side, tiles.shape[2] // side, side, F).max(axis=(2, 4))
    return largest.repeat(side, axis=1).repeat(side, axis=2)[:, :H, :W]


def check_maxima(name, inputs, y, switches, exact):
    """Outputs y of 2x2 maxima behind the convolution `name` are as near as sums may be, and each switch leads to as good as the largest.

    What wins is at most the rounding of the two below the largest: that of the window that should win, and that of the
    one that did.
    """
    def in_cells(maps):
        N, OH, OW, F = maps.shape
        maps = maps[:, :OH // 2 * 2, :OW // 2 * 2].reshape(N, OH // 2, 2, OW // 2, 2, F)
        return maps.transpose(0, 1, 3, 5, 2, 4).reshape(*y.shape, 4)

    def at(cells, places):
        return np.take_along_axis(cells, places[..., None].astype(np.intp), axis=-1)[..., 0]
    assert switches.dtype == np.uint8 and switches.max() <= 3
    magnitudes = specified(name)(*abs_inputs(inputs))
    if uses_winograd(name, inputs):
        magnitudes = 2 * largest_of_tiles(magnitudes)
    sums, magnitudes = in_cells(specified(name)(*widened(inputs))), in_cells(magnitudes)
    of_largest, of_chosen = at(magnitudes, sums.argmax(axis=-1)), at(magnitudes, switches)
    assert_rounded(y, exact, np.maximum(of_largest, of_chosen))
    assert_rounded(at(sums, switches).astype(y.dtype), sums.max(axis=-1), of_largest + of_chosen)
    chosen = np.where(y > 0, at(sums, switches), 0)
    assert_rounded(y, chosen, np.where(y > 0, of_chosen, 0))


def check_normalization(name, inputs, outputs, exact):
    """Float64 statistics are right to 13 digits, all else is within 8 units of the sum of its terms' magnitudes."""
    named = dict(zip(inspect.signature(specified(name)).parameters, map(np.asarray, inputs)))
    x, results = np.abs(named["x"]), {"batch_statistics": "mean variance", "layer_norm": "y mean variance"}
    size = {"mean": x.max(), "variance": x.max() ** 2}
    if name != "batch_statistics":
        by_row = name.startswith("layer")
        statistics = {"mean": exact[1], "variance": exact[2]} if name == "layer_norm" else named
        mean, variance = (statistics[key][..., None] if by_row else statistics[key] for key in ("mean", "variance"))
        s, gamma, dy = np.sqrt(variance + named["epsilon"]), np.abs(named["gamma"]), np.abs(named.get("dy", 0.0))
        z, g, axes = (x + np.abs(mean)) / s, gamma * dy, tuple(range(x.ndim - 1))
        size["y"] = gamma * z + np.abs(named.get("beta", 0.0))
        size["dgamma"], size["dbeta"] = (dy * z).sum(axis=axes), (dy + 0 * z).sum(axis=axes)
        group = dict(axis=-1, keepdims=True) if by_row else dict(axis=axes, keepdims=True)
        size["dx"] = (g + (g + 0 * z).mean(**group) + z * (g * z).mean(**group)) / s
    keys = results.get(name, "y" if name == "batch_norm" else "dx dgamma dbeta").split()
    for key, got, expected in zip(keys, outputs, exact, strict=True):
        if key in ("mean", "variance"):
            assert (np.abs(got - expected) <= 1e-13 * size[key]).all(), key
        else:
            assert_rounded(got, expected, size[key])


def constants(shape):
    """Return one positive constant a column: equal terms, whose rounding errors may all have one sign."""
    row = np.random.default_rng(shape[-1]).uniform(0.5, 2, shape[-1])
    return np.broadcast_to(row if shape[-1] == 100 else row[0], shape).astype(np.float32)


DRAWS = {"constants": constants, "uniform": lambda shape: np.random.default_rng(1).random(shape, np.float32),
         "normal": lambda shape: np.random.default_rng(2).standard_normal(shape, np.float32)}
each_draw = pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)


def one_after_another(terms):
    """Sum float32 terms in their order: what a plain loop in float32 does, and a kernel must not."""
    return np.cumsum(terms, axis=0, dtype=np.float32)[-1]


def nan_everywhere(shape, dtype):
    """Return as many samples of `shape` as a sample has numbers, the i-th with a NaN in place i."""
    n = int(np.prod(shape))
    x = separated(0, (n, n), dtype)
    np.fill_diagonal(x, np.nan)
    return x.reshape(n, *shape)
