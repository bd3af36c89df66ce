"""Mistakes that are made when backpropagation is written for the first time, each beside the operation that it spoils.

A wrong operation has the signature of the right one in `reference`. What a layer does wrong, rather than an
operation, is a function of the layer and its network that returns the wrong methods. `bugs.py` is the lab that puts
them into models.
"""

import math

import numpy as np

from minicnn import reference

__all__ = ["OPERATIONS", "LAYERS", "OPTIMIZERS"]


# ---- Convolution -----------------------------------------------------------------------------------------------------

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


def kernel_flipped(dy, w, image_size, strides, pads):
    return reference.conv2d_input_gradient(dy, w[::-1, ::-1], image_size, strides, pads)


def strides_forgotten(dy, w, image_size, strides, pads):
    return reference.conv2d_input_gradient(dy, w, image_size, (1, 1), pads)


def padding_on_the_other_side(dy, w, image_size, strides, pads):
    top, bottom, left, right = pads
    return reference.conv2d_input_gradient(dy, w, image_size, strides, (bottom, top, right, left))


def conv_bias_over_wrong_axes(dy, x, kernel_size, strides, pads):
    dw, _ = reference.conv2d_weight_gradient(dy, x, kernel_size, strides, pads)
    return dw, dy.sum(axis=(0, 2, 3))           # (OH,), which fits where OH = F


def conv_bias_of_one_pixel(dy, x, kernel_size, strides, pads):
    dw, _ = reference.conv2d_weight_gradient(dy, x, kernel_size, strides, pads)
    return dw, dy[:, 0, 0].sum(axis=0)


def conv_in_float32(x, w, b, strides, pads):
    return reference.conv2d(*(a.astype(np.float32) for a in (x, w, b)), strides, pads).astype(x.dtype)


# ---- Dense layers ----------------------------------------------------------------------------------------------------

def dense_bias_over_wrong_axis(dy, x):
    return reference.dense_weight_gradient(dy, x)[0], dy.sum(axis=1)        # (N,), which fits where N = F


def dense_bias_mean(dy, x):
    return reference.dense_weight_gradient(dy, x)[0], dy.mean(axis=0)


def dense_bias_missing(dy, x):
    return reference.dense_weight_gradient(dy, x)[0], np.zeros(dy.shape[1])


def dense_kernel_transposed(dy, x):
    return dy.T @ x, dy.sum(axis=0)


def dense_kernel_in_float32(dy, x):
    return (x.T.astype(np.float32) @ dy.astype(np.float32)).astype(dy.dtype), dy.sum(axis=0)


def dense_one_number_off(dy, x):
    dw, db = reference.dense_weight_gradient(dy, x)
    dw.flat[np.abs(dw).argmax()] *= 1.001
    return dw, db


def dense_not_transposed(dy, w):
    return dy @ w


def mean_of_shard_means(dy, x):
    """Three shards, the last smaller; each one's mean counts the same."""
    shards = [reference.dense_weight_gradient(dy[some], x[some]) for some in np.array_split(np.arange(len(dy)), 3)
              if len(some)]
    sizes = [len(some) for some in np.array_split(np.arange(len(dy)), 3) if len(some)]
    dw = sum(dw / size for (dw, _), size in zip(shards, sizes)) * len(dy) / len(shards)
    return dw, dy.sum(axis=0)


def sum_in_as_many_parts_as_threads(dy, x):
    from minicnn.kernels.runtime.threads import thread_count

    parts = [reference.dense_weight_gradient(dy[some], x[some])
             for some in np.array_split(np.arange(len(dy)), thread_count())]
    return sum((dw for dw, _ in parts[1:]), start=parts[0][0]), reference.dense_weight_gradient(dy, x)[1]


# ---- Pooling ---------------------------------------------------------------------------------------------------------

def pool_next_place(dy, switches, image_size, pool_size, strides, pads):
    other = ((switches + 1) % (pool_size[0] * pool_size[1])).astype(switches.dtype)
    return reference.max_pool2d_gradient(dy, other, image_size, pool_size, strides, pads)


def pool_spread_evenly(dy, switches, image_size, pool_size, strides, pads):
    return reference.average_pool2d_gradient(dy, image_size, pool_size, strides, pads)


def average_pool_counts_padding(dy, image_size, pool_size, strides, pads):
    share = np.broadcast_to((dy / (pool_size[0] * pool_size[1]))[:, :, :, None, None],
                            dy.shape[:3] + tuple(pool_size) + dy.shape[3:])
    return reference.col2im(share, image_size, pool_size, strides, pads)


def average_pool_not_divided(dy, image_size, pool_size, strides, pads):
    whole = np.broadcast_to(dy[:, :, :, None, None], dy.shape[:3] + tuple(pool_size) + dy.shape[3:])
    return reference.col2im(whole, image_size, pool_size, strides, pads)


# ---- Activations and losses ------------------------------------------------------------------------------------------

def relu_mask_of_gradient(dy, y):
    return np.where(dy > 0, dy, 0.0)


def relu_mask_not_strict(dy, y):
    return np.where(y >= 0, dy, 0.0)            # an output of ReLU always is


def sigmoid_half(dy, y):
    return dy * y


def tanh_not_squared(dy, y):
    return dy * (1 - y)


def softmax_diagonal(dy, y):
    return dy * y * (1 - y)


def _loss(operation, change):
    """Return the loss `operation` with its dz changed by change(dz, z, t, scale)."""
    right = getattr(reference, operation)

    def wrong(z, t, scale):
        losses, dz = right(z, t, scale)
        return losses, change(dz, z, t, scale)
    return wrong


def _slope_of_sigmoid(z):
    p = reference.sigmoid(z)
    return p * (1 - p)


# {bug: {operation of reference: what stands in its place}}
OPERATIONS = {
    "col2im-overwrite": {"col2im": col2im_overwrite},
    "im2col-column-order": {"im2col": im2col_channels_first},
    "kernel-flipped": {"conv2d_input_gradient": kernel_flipped},
    "strides-forgotten": {"conv2d_input_gradient": strides_forgotten},
    "padding-other-side": {"conv2d_input_gradient": padding_on_the_other_side},
    "conv-bias-wrong-axes": {"conv2d_weight_gradient": conv_bias_over_wrong_axes},
    "conv-bias-one-pixel": {"conv2d_weight_gradient": conv_bias_of_one_pixel},
    "conv-float32": {"conv2d": conv_in_float32},
    "dense-bias-wrong-axis": {"dense_weight_gradient": dense_bias_over_wrong_axis},
    "dense-bias-mean": {"dense_weight_gradient": dense_bias_mean},
    "dense-bias-missing": {"dense_weight_gradient": dense_bias_missing},
    "dense-kernel-transposed": {"dense_weight_gradient": dense_kernel_transposed},
    "dense-not-transposed": {"dense_input_gradient": dense_not_transposed},
    "dense-one-number-off": {"dense_weight_gradient": dense_one_number_off},
    "float32-accumulation": {"dense_weight_gradient": dense_kernel_in_float32},
    "pool-next-place": {"max_pool2d_gradient": pool_next_place},
    "pool-spread-evenly": {"max_pool2d_gradient": pool_spread_evenly},
    "pool-overlap-overwrite": {"col2im": col2im_overwrite},
    "average-pool-padding": {"average_pool2d_gradient": average_pool_counts_padding},
    "average-pool-sum": {"average_pool2d_gradient": average_pool_not_divided},
    "relu-mask-of-gradient": {"relu_gradient": relu_mask_of_gradient},
    "relu-mask-not-strict": {"relu_gradient": relu_mask_not_strict},
    "sigmoid-half": {"sigmoid_gradient": sigmoid_half},
    "tanh-not-squared": {"tanh_gradient": tanh_not_squared},
    "softmax-diagonal": {"softmax_gradient": softmax_diagonal},
    "sigmoid-twice": {"binary_crossentropy": _loss("binary_crossentropy",
                                                   lambda dz, z, t, scale: dz * _slope_of_sigmoid(z))},
    "mean-twice": {"binary_crossentropy": _loss("binary_crossentropy", lambda dz, z, t, scale: dz / len(z))},
    "mean-missing": {"binary_crossentropy": _loss("binary_crossentropy", lambda dz, z, t, scale: dz * len(z))},
    "loss-sign": {"binary_crossentropy": _loss("binary_crossentropy", lambda dz, z, t, scale: -dz)},
    "crossentropy-no-softmax": {"categorical_crossentropy": _loss("categorical_crossentropy", lambda dz, z, t, scale:
                                                                  -t * scale[:, None])},
    "square-without-two": {"mean_squared_error": _loss("mean_squared_error", lambda dz, z, t, scale: dz / 2)},
    "shards-mean-of-means": {"dense_weight_gradient": mean_of_shard_means},
    "threads-decide-order": {"dense_weight_gradient": sum_in_as_many_parts_as_threads},
}


# ---- What a layer does wrong: (network, layer) -> {method: wrong method} --------------------------------------------

def pool_all_ties(network, layer):
    right, kept = layer.forward, {}

    def forward(x):
        kept["x"], kept["y"] = x.copy(), right(x).copy()
        return kept["y"]

    def backward(dy):
        SH, SW = layer.strides          # windows that do not overlap
        y, dy = (a.repeat(SH, axis=1).repeat(SW, axis=2) for a in (kept["y"], dy))
        dx = np.zeros_like(kept["x"])
        dx[:, :y.shape[1], :y.shape[2]] = np.where(kept["x"][:, :y.shape[1], :y.shape[2]] == y, dy, 0.0)
        return dx
    return {"forward": forward, "backward": backward}


def relu_mask_of_earlier_layer(network, layer):
    earlier = next(other for other in network.layers if type(other) is type(layer) and other is not layer)
    right, seen, kept = layer.forward, earlier.forward, {}

    def forward_of_earlier(x):
        kept["mask"] = (y := seen(x)) > 0
        return y

    def forward(x):
        kept.setdefault("mask", x > 0)
        return right(x)
    return {"forward": forward, "backward": lambda dy: np.where(kept["mask"], dy, 0.0),
            earlier: {"forward": forward_of_earlier}}


def stale_cache(network, layer):
    right, kept = layer.forward, []

    def forward(x):
        kept[:] = [*kept[-1:], x.copy()]
        y = right(x)
        layer.remember(kept[0], layer.parameters[0].value)         # one forward late
        return y
    return {"forward": forward}


def gradient_accumulated(network, layer):
    right, kernel = layer.backward, layer.parameters[0]

    def backward(dy):
        before = kernel.grad.copy()
        dx = right(dy)
        kernel.grad += before
        return dx
    return {"backward": backward}


def activation_in_place(network, layer):
    right = layer.forward

    def forward(x):
        x[...] = right(x)           # the layer before still needs its output
        layer.remember(x)
        return x
    return {"forward": forward}


def dropout_other_mask(network, layer):
    right, kept = layer.forward, {}

    def forward(x):
        kept["y"] = right(x).copy()
        return kept["y"]

    def backward(dy):
        return np.where(np.roll(kept["y"] != 0, 1), dy / (1 - layer.rate), 0.0)
    return {"forward": forward, "backward": backward}


def dropout_not_scaled(network, layer):
    right = layer.backward
    return {"backward": lambda dy: right(dy) * (1 - layer.rate)}


def dropout_new_mask_each_call(network, layer):
    right, calls = layer.forward, []

    def forward(x):
        calls.append(1)
        layer.step_number = len(calls)
        return right(x)
    return {"forward": forward}


def flatten_column_major(network, layer):
    shape = layer.input_shape
    return {"backward": lambda dy: np.ascontiguousarray(dy.reshape(len(dy), *shape[::-1]).transpose(0, 3, 2, 1))}


def scaled_by_batch_mean(network, layer):
    right = layer.forward
    return {"forward": lambda x: right(x) - x.mean()}


def rows_left_over(network, layer):
    right_forward, right_backward, most = layer.forward, layer.backward, {}

    def forward(x):
        most["x"] = x.copy()
        return right_forward(x)

    def backward(dy):
        most["dy"] = np.concatenate([dy, most.get("dy", dy)[len(dy):]])       # of a larger batch before
        most["all"] = np.concatenate([most["x"], most.get("all", most["x"])[len(dy):]])
        dx = right_backward(dy)
        layer.parameters[0].grad[...] = most["all"].T @ most["dy"]
        return dx
    return {"forward": forward, "backward": backward}


LAYERS = {
    "pool-all-ties": pool_all_ties, "relu-mask-wrong-layer": relu_mask_of_earlier_layer, "stale-cache": stale_cache,
    "gradient-accumulated": gradient_accumulated, "in-place-activation": activation_in_place,
    "dropout-other-mask": dropout_other_mask, "dropout-not-scaled": dropout_not_scaled,
    "dropout-new-mask": dropout_new_mask_each_call, "flatten-column-major": flatten_column_major,
    "batch-mean": scaled_by_batch_mean, "rows-left-over": rows_left_over,
}


# ---- Optimizers: optimizer -> update(ops, w, dw, slots) --------------------------------------------------------------

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
