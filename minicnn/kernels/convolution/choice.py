"""Which algorithm computes a convolution and its gradients: the one place that decides.

What decides here changes bits. So it is a function of shapes, dtype and the width of registers alone: not of the number of
threads, not of a clock, and for what belongs to one image not of its batch, or a prediction would depend on its company.

    a convolution, its dx     Winograd F(4x4, 3x3)     3x3, stride 1, 16 channels and filters or more, tiles well used
      (conv2d, _relu, _pool)  direct                   all else; dx of 1x1 windows as that of a dense layer, to the same bits
    its dw                    Winograd                 the same, and 32 tiles or more in the batch, which share 36 sums
                              direct                   all else
    behind ReLU and pooling   first block (AVX-512)    no dx, windows' rows that fit into a vector
                              lists of what is not 0   fewer than 128 channels, and where Winograd does not fit
                              densely, as above        all else
    behind ReLU alone         lists                    with dx, for 25 pixels or more to a window, and for strides and fewer than
                                                       128 channels
                              densely                  all else

Why (one core of an AMD EPYC with AVX-512, times as fast as the direct algorithm):

    channels    16 and 16   16 and 32   32   64   128   256   512           outputs     12x12  7x7  6x6  5x5  4x4  3x3
    28 x 28     1.5         2.3         2.7  2.9  3.0   2.0   1.8           32 and 32   2.5    2.0  1.4  1.0  2.0  1.3

    - with 8 channels it is 1.0 to 1.2 times as fast, and its rounding less good: not worth a case;
    - 5 x 5 outputs use 39 % of four tiles, 6 x 6 56 %; from there on, the more channels the better;
    - many filters for few tiles lose: to transform them takes longer than one image of 4 x 4 outputs and 512 channels, so
      C F may be 2^16 for each tile of an image (7 x 7 and 512 channels: one image as fast as directly, eight 1.5 times);
    - lists against dense Winograd behind pooling: 1.25 times as fast with 32 channels, as fast with 64, 0.85 with 128;
      behind ReLU alone, where half of all is not 0: 1.4 with 5x5 windows, 1.2 with strides and 0.8 with 128 channels, 0.4 to
      0.7 with 3x3 and 1x1.

F(2x2, 3x3), 16 products for four outputs, was here before: F(4x4) took 0.6 of its time at all shapes of COV-19Net and more.
"""

import numpy as np

from minicnn.kernels.convolution import backward_first, backward_sparse, direct, winograd
from minicnn.kernels.convolution.backward import weight_gradient
from minicnn.kernels.convolution.masking import bias_gradient, mask
from minicnn.kernels.dense import dense_input_gradient
from minicnn.kernels.runtime.microkernel import ones
from minicnn.kernels.runtime.reduction import batch_size
from minicnn.kernels.runtime.threads import workspace

__all__ = ["suits_winograd", "suits_winograd_weights", "suits_lists", "conv2d", "conv2d_relu", "conv2d_relu_pool",
           "conv2d_scaled", "conv2d_scaled_relu", "conv2d_scaled_relu_pool",
           "conv2d_input_gradient", "conv2d_weight_gradient", "conv2d_relu_gradient", "conv2d_relu_pool_gradient"]

_ONE = (1, 1)                   # no dilation


def suits_winograd(w, strides, size):
    """Return whether Winograd's algorithm computes a convolution with outputs of this size (before pooling), and its dx."""
    _, _, C, F = w.shape
    return C * F <= 2**16 * _tiles(w, strides, size)


def suits_winograd_weights(w, strides, dy):
    """Return whether it computes the gradient of w: its 36 products must be shared by enough tiles of the batch."""
    return batch_size(len(dy)) * _tiles(w, strides, dy.shape[1:3]) >= 32


def _tiles(w, strides, size):
    """Return how many tiles of 4 x 4 outputs an image has; 0 where the algorithm does not fit or too much of them is empty."""
    (KH, KW, C, F), tiles = w.shape, -(-size[0] // 4) * -(-size[1] // 4)
    used = size[0] * size[1] / (16 * tiles)
    fits = (KH, KW) == (3, 3) and tuple(strides) == (1, 1) and min(C, F) >= 16 and used >= 0.5 and used * min(C, F) >= 12
    return tiles if fits else 0


def suits_lists(w, strides, size, pool, dx):
    """Return whether a block's gradients go by lists of what is not 0 (backward_sparse), or densely."""
    KH, KW, C, F = w.shape
    if suits_winograd(w, strides, size):
        return pool == 2 and min(C, F) < 128
    return pool == 2 or dx is not None and (KH * KW >= 25 or max(strides) > 1 and min(C, F) < 128)


def conv2d(x, w, b, strides, pads, y):
    """Write the convolution of x (N, H, W, C) with w (KH, KW, C, F) and b (F,) to y (N, OH, OW, F).

    See reference.conv2d.
    """
    _convolve(x, w, (ones(len(b), b.dtype), b), strides, pads, 1, False, y, _no_switches())


def conv2d_relu(x, w, b, strides, pads, y):
    """Write max(conv2d(x, w, b), 0) to y (N, OH, OW, F). See reference.conv2d_relu. x may be uint8 pixels."""
    _convolve(x, w, (ones(len(b), b.dtype), b), strides, pads, 1, True, y, _no_switches())


def conv2d_relu_pool(x, w, b, strides, pads, y, switches):
    """Write the 2x2 maxima of max(conv2d(x, w, b), 0) to y (N, PH, PW, F), their places to switches (uint8, 0 to 3).

    See reference.conv2d_relu_pool. x may be uint8 pixels.
    """
    _convolve(x, w, (ones(len(b), b.dtype), b), strides, pads, 2, True, y, switches.reshape(-1))


def conv2d_scaled(x, w, factor, shift, strides, pads, y):
    """Write factor conv2d(x, w) + shift to y (N, OH, OW, F). See reference.conv2d_scaled."""
    _convolve(x, w, (factor, shift), strides, pads, 1, False, y, _no_switches())


def conv2d_scaled_relu(x, w, factor, shift, strides, pads, y):
    """Write max(conv2d_scaled(x, w, factor, shift), 0) to y. See reference.conv2d_scaled_relu."""
    _convolve(x, w, (factor, shift), strides, pads, 1, True, y, _no_switches())


def conv2d_scaled_relu_pool(x, w, factor, shift, strides, pads, y, switches):
    """Write the 2x2 maxima of `conv2d_scaled_relu` and their places. See reference.conv2d_scaled_relu_pool."""
    _convolve(x, w, (factor, shift), strides, pads, 2, True, y, switches.reshape(-1))


def _no_switches():
    return workspace("no switches", 0, np.uint8)


def _convolve(x, w, ends, strides, pads, pool, rectified, y, switches):
    if suits_winograd(w, strides, _size(x, w, strides, pads)):
        winograd.convolve(x, w, ends, pads, pool, rectified, y, switches)
    else:
        direct.convolve(x, w, ends, strides, pads, _ONE, pool, rectified, y, switches)


def _size(x, w, strides, pads):
    """Return the rows and columns of the convolution of x with w, before pooling."""
    return tuple((x.shape[1 + i] + pads[2 * i] + pads[2 * i + 1] - w.shape[i]) // strides[i] + 1 for i in (0, 1))


def conv2d_input_gradient(dy, w, image_size, strides, pads, dx):
    """Write dx (N, H, W, C) of a convolution from dy (N, OH, OW, F). See reference.conv2d_input_gradient."""
    if w.shape[:2] == strides == (1, 1) and not any(pads):
        dense_input_gradient(dy.reshape(-1, w.shape[3]), w[0, 0], dx.reshape(-1, w.shape[2]))
    elif suits_winograd(w, strides, dy.shape[1:3]):
        winograd.input_gradient(dy, w, pads, dx)
    else:
        direct.gather(dy, w, image_size, strides, pads, _ONE, dx)


def conv2d_weight_gradient(dy, x, kernel_size, strides, pads, dw, db):
    """Write dw (KH, KW, C, F) and db (F,) of a convolution from dy (N, OH, OW, F) and x (N, H, W, C).

    See reference.conv2d_weight_gradient. x may be uint8 pixels; where db is None it is not computed.
    """
    _weight_gradient(dy, x, strides, pads, dw)
    if db is not None:
        bias_gradient(dy, db)


def _weight_gradient(dy, x, strides, pads, dw):
    if suits_winograd_weights(dw, strides, dy):
        winograd.weight_gradient(dy, x, pads, dw)
    else:
        weight_gradient(dy, x, dw.shape[:2], strides, pads, _ONE, dw)


def conv2d_relu_gradient(dy, y, x, w, strides, pads, dx, dw, db):
    """Write dx, dw and db of `conv2d_relu` from dy and its output y. See reference.conv2d_relu_gradient.

    Where dx is None it is not computed.
    """
    _gradients(dy, y, _no_switches(), 1, x, w, strides, pads, dx, dw, db)


def conv2d_relu_pool_gradient(dy, y, switches, x, w, strides, pads, dx, dw, db):
    """Write dx, dw and db of `conv2d_relu_pool` from dy, its output y and its switches.

    See reference.conv2d_relu_pool_gradient. Where dx is None it is not computed; x may be uint8 pixels.
    """
    if backward_first.suits(w, strides, 2, dx):
        backward_first.weight_gradient(dy, y, switches, x, w, strides, pads, dw, db)
    else:
        _gradients(dy, y, switches.reshape(-1), 2, x, w, strides, pads, dx, dw, db)


def _gradients(dy, y, switches, pool, x, w, strides, pads, dx, dw, db):
    size = _size(x, w, strides, pads)
    if suits_lists(w, strides, size, pool, dx):
        backward_sparse.gradients(dy, y, switches, pool, x, w, strides, pads, dx, dw, db)
        return
    masked = workspace("masked dy", (len(x), *size, w.shape[3]), dy.dtype)
    mask(dy, y, switches, size, masked, db)
    _weight_gradient(masked, x, strides, pads, dw)
    if dx is not None:
        conv2d_input_gradient(masked, w, x.shape[1:3], strides, pads, dx)
