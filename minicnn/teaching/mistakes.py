"""Common mistakes in a first implementation of backpropagation, by the name of the bug (bugs.py).

A wrong operation has the signature of the right one in `reference`. A wrong layer is a function of the network and the
layer that returns the wrong methods, a wrong optimizer a function of the optimizer that returns a wrong `update`.
"""

import math

import numpy as np

from minicnn import reference
from minicnn.layers import Dropout, Tanh

__all__ = ["OPERATIONS", "LAYERS", "OPTIMIZERS"]


# ---- Wrong operations ------------------------------------------------------------------------------------------------

def col2im_overwrite(dcols, image_size, kernel_size, strides, pads):
    (N, OH, OW, KH, KW, C), (H, W), (SH, SW) = dcols.shape, image_size, strides
    top, bottom, left, right = pads
    padded = np.zeros((N, top + H + bottom, left + W + right, C), dcols.dtype)
    for kh in range(KH):
        for kw in range(KW):
            padded[:, kh:kh + OH * SH:SH, kw:kw + OW * SW:SW] = dcols[:, :, :, kh, kw]       # not +=
    return padded[:, top:top + H, left:left + W].copy()


def im2col_channels_first(x, kernel_size, strides, pads):
    cols = reference.im2col(x, kernel_size, strides, pads)
    return cols.reshape(len(cols), -1, x.shape[3]).transpose(0, 2, 1).reshape(cols.shape)


def dense_one_number_off(dy, x):
    dw, db = reference.dense_weight_gradient(dy, x)
    dw.flat[np.abs(dw).argmax()] *= 1.001
    return dw, db


def mean_of_shard_means(dy, x):
    """Three shards, the last smaller; the mean of each has the same weight."""
    shards = [rows for rows in np.array_split(np.arange(len(dy)), 3) if len(rows)]
    means = [reference.dense_weight_gradient(dy[rows], x[rows])[0] / len(rows) for rows in shards]
    return sum(means) * len(dy) / len(shards), dy.sum(axis=0)


def one_sum_for_each_thread(dy, x):
    from minicnn.kernels.runtime.threads import thread_count

    first, *others = (reference.dense_weight_gradient(dy[rows], x[rows])[0]
                      for rows in np.array_split(np.arange(len(dy)), thread_count()))
    return sum(others, start=first), reference.dense_weight_gradient(dy, x)[1]


def all_of_dy_to_each_pixel(dy, image_size, pool_size, strides, pads):
    dcols = np.broadcast_to(dy[:, :, :, None, None], dy.shape[:3] + tuple(pool_size) + dy.shape[3:])
    return reference.col2im(dcols, image_size, pool_size, strides, pads)


def unbiased_statistics(x):
    mean, variance = reference.batch_statistics(x)
    M = x.size // x.shape[-1]
    return mean, variance * M / (M - 1)         # M - 1 for a variance that is estimated, M for the one to divide by


def _loss(operation, change):
    """Return the loss `operation` with its dz changed by change(dz, z, t, scale)."""
    right = getattr(reference, operation)

    def wrong(z, t, scale):
        losses, dz = right(z, t, scale)
        return losses, change(dz, z, t, scale)
    return {operation: wrong}


# {bug: {operation of reference: the wrong operation}}
OPERATIONS = {
    "col2im-overwrite": {"col2im": col2im_overwrite},
    "im2col-column-order": {"im2col": im2col_channels_first},
    "kernel-flipped": {"conv2d_input_gradient": lambda dy, w, image_size, strides, pads:
                       reference.conv2d_input_gradient(dy, w[::-1, ::-1], image_size, strides, pads)},
    "strides-forgotten": {"conv2d_input_gradient": lambda dy, w, image_size, strides, pads:
                          reference.conv2d_input_gradient(dy, w, image_size, (1, 1), pads)},
    "padding-other-side": {"conv2d_input_gradient": lambda dy, w, image_size, strides, pads:
                           reference.conv2d_input_gradient(dy, w, image_size, strides,
                                                           (pads[1], pads[0], pads[3], pads[2]))},
    # (OH,) instead of (F,), which has the same shape if OH = F
    "conv-bias-wrong-axes": {"conv2d_weight_gradient": lambda dy, x, kernel_size, strides, pads: (
        reference.conv2d_weight_gradient(dy, x, kernel_size, strides, pads)[0], dy.sum(axis=(0, 2, 3)))},
    "conv-bias-one-pixel": {"conv2d_weight_gradient": lambda dy, x, kernel_size, strides, pads: (
        reference.conv2d_weight_gradient(dy, x, kernel_size, strides, pads)[0], dy[:, 0, 0].sum(axis=0))},
    "conv-float32": {"conv2d": lambda x, w, b, strides, pads: reference.conv2d(
        *(a.astype(np.float32) for a in (x, w, b)), strides, pads).astype(x.dtype)},
    # (N,) instead of (F,), which has the same shape if N = F
    "dense-bias-wrong-axis": {"dense_weight_gradient": lambda dy, x: (x.T @ dy, dy.sum(axis=1))},
    "dense-bias-mean": {"dense_weight_gradient": lambda dy, x: (x.T @ dy, dy.mean(axis=0))},
    "dense-bias-missing": {"dense_weight_gradient": lambda dy, x: (x.T @ dy, np.zeros(dy.shape[1]))},
    "dense-kernel-transposed": {"dense_weight_gradient": lambda dy, x: (dy.T @ x, dy.sum(axis=0))},
    "dense-not-transposed": {"dense_input_gradient": lambda dy, w: dy @ w},
    "dense-one-number-off": {"dense_weight_gradient": dense_one_number_off},
    "float32-accumulation": {"dense_weight_gradient": lambda dy, x: (
        (x.T.astype(np.float32) @ dy.astype(np.float32)).astype(dy.dtype), dy.sum(axis=0))},
    "pool-next-place": {"max_pool2d_gradient": lambda dy, switches, image_size, pool_size, strides, pads:
                        reference.max_pool2d_gradient(dy, (switches + 1) % math.prod(pool_size), image_size, pool_size,
                                                      strides, pads)},
    "pool-spread-evenly": {"max_pool2d_gradient": lambda dy, switches, image_size, pool_size, strides, pads:
                           reference.average_pool2d_gradient(dy, image_size, pool_size, strides, pads)},
    "pool-overlap-overwrite": {"col2im": col2im_overwrite},
    "average-pool-padding": {"average_pool2d_gradient": lambda dy, image_size, pool_size, strides, pads:
                             all_of_dy_to_each_pixel(dy / math.prod(pool_size), image_size, pool_size, strides, pads)},
    "average-pool-sum": {"average_pool2d_gradient": all_of_dy_to_each_pixel},
    "relu-mask-of-gradient": {"relu_gradient": lambda dy, y: np.where(dy > 0, dy, 0.0)},
    "relu-mask-not-strict": {"relu_gradient": lambda dy, y: np.where(y >= 0, dy, 0.0)},
    "sigmoid-half": {"sigmoid_gradient": lambda dy, y: dy * y},
    "tanh-not-squared": {"tanh_gradient": lambda dy, y: dy * (1 - y)},
    "softmax-diagonal": {"softmax_gradient": lambda dy, y: dy * y * (1 - y)},
    "sigmoid-twice": _loss("binary_crossentropy", lambda dz, z, t, scale:
                           reference.sigmoid_gradient(dz, reference.sigmoid(z))),
    "mean-twice": _loss("binary_crossentropy", lambda dz, z, t, scale: dz / len(z)),
    "mean-missing": _loss("binary_crossentropy", lambda dz, z, t, scale: dz * len(z)),
    "loss-sign": _loss("binary_crossentropy", lambda dz, z, t, scale: -dz),
    "crossentropy-no-softmax": _loss("categorical_crossentropy", lambda dz, z, t, scale: -t * scale[:, None]),
    "square-without-two": _loss("mean_squared_error", lambda dz, z, t, scale: dz / 2),
    "batch-norm-constant-statistics": {
        "batch_norm_gradient": lambda dy, x, mean, variance, gamma, epsilon, constant:
        reference.batch_norm_gradient(dy, x, mean, variance, gamma, epsilon, True)},
    "batch-norm-unbiased-variance": {"batch_statistics": unbiased_statistics},
    "layer-norm-constant-statistics": {
        "layer_norm_gradient": lambda dy, x, mean, variance, gamma, epsilon: (
            gamma * dy / np.sqrt(variance + epsilon)[..., None],
            *reference.layer_norm_gradient(dy, x, mean, variance, gamma, epsilon)[1:])},
    "shards-mean-of-means": {"dense_weight_gradient": mean_of_shard_means},
    "threads-decide-order": {"dense_weight_gradient": one_sum_for_each_thread},
}


# ---- Wrong layers: (network, layer) -> {layer: {method: wrong method}} -----------------------------------------------

def pool_all_ties(network, layer):
    right, kept = layer.forward, {}

    def forward(x):
        kept["x"], kept["y"] = x.copy(), right(x).copy()
        return kept["y"]

    def backward(dy):
        SH, SW = layer.strides          # the windows do not overlap
        y, dy = (a.repeat(SH, axis=1).repeat(SW, axis=2) for a in (kept["y"], dy))
        dx = np.zeros_like(kept["x"])
        dx[:, :y.shape[1], :y.shape[2]] = np.where(kept["x"][:, :y.shape[1], :y.shape[2]] == y, dy, 0.0)
        return dx
    return {layer: {"forward": forward, "backward": backward}}


def relu_mask_of_earlier_layer(network, layer):
    earlier = next(other for other in network.layers if type(other) is type(layer) and other is not layer)
    right, forward_of_earlier, kept = layer.forward, earlier.forward, {}

    def keep_mask(x):
        kept["mask"] = (y := forward_of_earlier(x)) > 0
        return y

    def forward(x):
        kept.setdefault("mask", x > 0)
        return right(x)
    return {layer: {"forward": forward, "backward": lambda dy: np.where(kept["mask"], dy, 0.0)},
            earlier: {"forward": keep_mask}}


def stale_cache(network, layer):
    right, kept = layer.forward, []

    def forward(x):
        kept[:] = [*kept[-1:], x.copy()]
        y = right(x)
        layer.remember(kept[0], layer.parameters[0].value)         # the input of the previous forward
        return y
    return {layer: {"forward": forward}}


def gradient_accumulated(network, layer):
    right, kernel = layer.backward, layer.parameters[0]

    def backward(dy):
        before = kernel.grad.copy()
        dx = right(dy)
        kernel.grad += before
        return dx
    return {layer: {"backward": backward}}


def activation_in_place(network, layer):
    right = layer.forward

    def forward(x):
        x[...] = right(x)           # the previous layer still needs its output
        layer.remember(x)
        return x
    return {layer: {"forward": forward}}


def dropout_other_mask(network, layer):
    right, kept = layer.forward, {}

    def forward(x):
        kept["y"] = right(x).copy()
        return kept["y"]

    def backward(dy):
        return np.where(np.roll(kept["y"] != 0, 1), dy / (1 - layer.rate), 0.0)
    return {layer: {"forward": forward, "backward": backward}}


def dropout_new_mask_each_call(network, layer):
    right, calls = layer.forward, []

    def forward(x):
        calls.append(1)
        layer.step_number = len(calls)
        return right(x)
    return {layer: {"forward": forward}}


def _moved(change):
    """Return the bug of moving statistics that become change(momentum, old, new of the batch, M, name)."""
    def wrong(network, layer):
        forward, moved, seen = layer.forward, layer.moved, {}

        def keep_size(x):
            seen["M"] = x.size // x.shape[-1]
            return forward(x)

        def moves():
            m = layer.momentum
            return [(one, change(m, one.value, (value - m * one.value) / (1 - m), seen["M"], one.name))
                    for one, value in moved()]
        return {layer: {"forward": keep_size, "moved": moves}}
    return wrong


def batch_statistics_in_prediction(network, layer):
    right = layer.forward

    def forward(x):
        layer.training = True
        return right(x)
    return {layer: {"forward": forward}}


def rows_left_over(network, layer):
    right_forward, right_backward, most = layer.forward, layer.backward, {}

    def forward(x):
        most["x"] = x.copy()
        return right_forward(x)

    def backward(dy):
        most["dy"] = np.concatenate([dy, most.get("dy", dy)[len(dy):]])       # the rest of an earlier, larger batch
        most["all"] = np.concatenate([most["x"], most.get("all", most["x"])[len(dy):]])
        dx = right_backward(dy)
        layer.parameters[0].grad[...] = most["all"].T @ most["dy"]
        return dx
    return {layer: {"forward": forward, "backward": backward}}


LAYERS = {
    "branch-gradient-forgotten": lambda network, layer: {network: {"_add": lambda one, other: one}},
    "branch-gradient-twice": lambda network, layer: {network: {"_add": lambda one, other: one + other + other}},
    "pool-all-ties": pool_all_ties,
    "relu-mask-wrong-layer": relu_mask_of_earlier_layer,
    "stale-cache": stale_cache,
    "gradient-accumulated": gradient_accumulated,
    "in-place-activation": activation_in_place,
    "dropout-other-mask": dropout_other_mask,
    "dropout-not-scaled": lambda network, layer: {
        layer: {"backward": lambda dy: Dropout.backward(layer, dy) * (1 - layer.rate)}},
    "dropout-new-mask": dropout_new_mask_each_call,
    "flatten-column-major": lambda network, layer: {layer: {"backward": lambda dy: np.ascontiguousarray(
        dy.reshape(len(dy), *layer.input_shape[::-1]).transpose(0, 3, 2, 1))}},
    "batch-mean": lambda network, layer: {layer: {"forward": lambda x: Tanh.forward(layer, x) - x.mean()}},
    "rows-left-over": rows_left_over,
    "batch-norm-momentum-swapped": _moved(lambda m, old, new, M, name: (1 - m) * old + m * new),
    "batch-norm-unbiased-moving": _moved(lambda m, old, new, M, name:
                                         m * old + (1 - m) * new * (M / (M - 1) if name == "moving_variance" else 1)),
    "batch-norm-predicts-from-batch": batch_statistics_in_prediction,
}


# ---- Wrong optimizers: optimizer -> update(ops, w, dw, slots) --------------------------------------------------------

def _adam(optimizer, correct=True, inside=False, ahead=0, swapped=False, moments=True):
    def update(ops, w, dw, slots):
        (m, v), t = slots, optimizer.t + ahead
        beta_1, beta_2 = (optimizer.beta_2, optimizer.beta_1) if swapped else (optimizer.beta_1, optimizer.beta_2)
        m += (1 - beta_1 if moments else 1) * dw - (1 - beta_1) * m
        v += (1 - beta_2 if moments else 1) * dw * dw - (1 - beta_2) * v
        rate = optimizer.learning_rate * (math.sqrt(1 - beta_2**t) / (1 - beta_1**t) if correct else 1)
        w -= rate * m / (np.sqrt(v + optimizer.epsilon) if inside else np.sqrt(v) + optimizer.epsilon)
    return update


def _sgd(optimizer, sign=1, momentum=True, look_ahead=True):
    def update(ops, w, dw, slots):
        velocity, step = slots[0], sign * optimizer.learning_rate * dw
        velocity *= optimizer.momentum if momentum else 0
        velocity -= step
        w += optimizer.momentum * velocity - step if optimizer.nesterov and look_ahead else velocity
    return update


OPTIMIZERS = {
    "adam-no-bias-correction": lambda optimizer: _adam(optimizer, correct=False),
    "adam-epsilon-inside-root": lambda optimizer: _adam(optimizer, inside=True),
    "adam-step-ahead": lambda optimizer: _adam(optimizer, ahead=1),
    "adam-betas-swapped": lambda optimizer: _adam(optimizer, swapped=True),
    "adam-moments-not-weighted": lambda optimizer: _adam(optimizer, moments=False),
    "sgd-climbs": lambda optimizer: _sgd(optimizer, sign=-1),
    "sgd-momentum-missing": lambda optimizer: _sgd(optimizer, momentum=False),
    "sgd-no-look-ahead": lambda optimizer: _sgd(optimizer, look_ahead=False),
}
