"""Several operations in one go, as the fast engine runs them (fusion.py): what each means, in the simple operations.

The meaning of several operations at once is that of the operations one after another; so are their gradients, by the
chain rule.
"""

import numpy as np

from minicnn.reference.activations import relu, relu_gradient
from minicnn.reference.convolution import conv2d, conv2d_input_gradient, conv2d_weight_gradient
from minicnn.reference.dense import dense, dense_input_gradient, dense_weight_gradient
from minicnn.reference.depthwise_convolution import depthwise_conv2d
from minicnn.reference.normalization import batch_norm, batch_norm_gradient
from minicnn.reference.pooling import max_pool2d, max_pool2d_gradient

__all__ = ["conv2d_relu", "conv2d_relu_gradient", "conv2d_relu_pool", "conv2d_relu_pool_gradient", "conv2d_scaled",
           "conv2d_scaled_relu", "conv2d_scaled_relu_pool", "depthwise_conv2d_relu", "grey_planes", "dense_relu", "dense_relu_gradient",
           "batch_norm_relu", "batch_norm_relu_gradient", "add_relu"]


def conv2d_relu(x, w, b, strides, pads):
    """Return relu(conv2d(x, w, b)): shape (N, OH, OW, F).

    >>> conv2d_relu(np.ones((1, 1, 1, 1)), np.full((1, 1, 1, 1), -2.0), np.ones(1), (1, 1), (0, 0, 0, 0)).item()
    0.0
    """
    return relu(conv2d(x, w, b, strides, pads))


def conv2d_relu_gradient(dy, y, x, w, strides, pads):
    """Return (dx, dw, db) of `conv2d_relu`, from dy and its output y.

    >>> ones = np.ones((1, 1, 1, 1))
    >>> [float(d.item()) for d in conv2d_relu_gradient(3 * ones, ones, 2 * ones, 5 * ones, (1, 1), (0, 0, 0, 0))]
    [15.0, 6.0, 3.0]
    """
    dz = relu_gradient(dy, y)
    return (conv2d_input_gradient(dz, w, x.shape[1:3], strides, pads),
            *conv2d_weight_gradient(dz, x, w.shape[:2], strides, pads))


def conv2d_relu_pool(x, w, b, strides, pads):
    """Return (y, switches) of 2x2 max pooling, in steps of 2, of relu(conv2d(x, w, b)).

    The largest of four and its place are taken before ReLU: the two commute, and where ReLU leaves 0 no gradient passes
    whatever the place. So also convolution, pooling, ReLU is this operation.

    Returns
    -------
    y : ndarray, shape (N, OH // 2, OW // 2, F)
    switches : ndarray of the same shape, uint8: 0 to 3, the place of the largest in its window

    >>> x, one = np.arange(4.0).reshape(1, 2, 2, 1), np.ones((1, 1, 1, 1))
    >>> [int(part.item()) for part in conv2d_relu_pool(x, one, np.zeros(1), (1, 1), (0, 0, 0, 0))]
    [3, 3]
    """
    y, switches = max_pool2d(conv2d(x, w, b, strides, pads), (2, 2), (2, 2), (0, 0, 0, 0))
    return relu(y), switches.astype(np.uint8)


def conv2d_relu_pool_gradient(dy, y, switches, x, w, strides, pads):
    """Return (dx, dw, db) of `conv2d_relu_pool`, from dy, its output y and its switches.

    >>> x, one = np.arange(4.0).reshape(1, 2, 2, 1), np.ones((1, 1, 1, 1))
    >>> dx, _, _ = conv2d_relu_pool_gradient(one, 3 * one, np.full((1, 1, 1, 1), 3, np.uint8), x, one, (1, 1), (0,) * 4)
    >>> dx.ravel()
    array([0., 0., 0., 1.])
    """
    (H, W), (KH, KW), (SH, SW), (top, bottom, left, right) = x.shape[1:3], w.shape[:2], strides, pads
    size = (top + H + bottom - KH) // SH + 1, (left + W + right - KW) // SW + 1
    dz = max_pool2d_gradient(relu_gradient(dy, y), switches, size, (2, 2), (2, 2), (0, 0, 0, 0))
    return (conv2d_input_gradient(dz, w, (H, W), strides, pads),
            *conv2d_weight_gradient(dz, x, (KH, KW), strides, pads))


def conv2d_scaled(x, w, factor, shift, strides, pads):
    """Return factor z + shift, z the convolution of x with w: with batch normalization behind it in prediction (N, OH, OW, F).

    >>> conv2d_scaled(np.ones((1, 1, 1, 1)), np.full((1, 1, 1, 1), 2.0), np.full(1, -3.0), np.ones(1), (1, 1), (0,) * 4).item()
    -5.0
    """
    z = conv2d(x.astype(np.float64), w, np.zeros(len(shift)), strides, pads)
    return (factor * z + shift).astype(w.dtype)


def conv2d_scaled_relu(x, w, factor, shift, strides, pads):
    """Return relu(conv2d_scaled(x, w, factor, shift)).

    >>> ones = np.ones((1, 1, 1, 1))
    >>> conv2d_scaled_relu(ones, ones, np.full(1, -3.0), np.ones(1), (1, 1), (0,) * 4).item()
    0.0
    """
    return relu(conv2d_scaled(x, w, factor, shift, strides, pads))


def conv2d_scaled_relu_pool(x, w, factor, shift, strides, pads):
    """Return (y, switches) of 2x2 max pooling of conv2d_scaled_relu(x, w, factor, shift), as of `conv2d_relu_pool`.

    >>> x, one = np.arange(4.0).reshape(1, 2, 2, 1), np.ones((1, 1, 1, 1))
    >>> [int(part.item()) for part in conv2d_scaled_relu_pool(x, one, np.full(1, -1.0), np.full(1, 2.0), (1, 1), (0,) * 4)]
    [2, 0]
    """
    y, switches = max_pool2d(conv2d_scaled(x, w, factor, shift, strides, pads), (2, 2), (2, 2), (0, 0, 0, 0))
    return relu(y), switches.astype(np.uint8)


def depthwise_conv2d_relu(x, w, b, strides, pads, dilation):
    """Return relu(depthwise_conv2d(x, w, b)): shape (N, OH, OW, C M).

    >>> ones = np.ones((1, 1, 1, 2))
    >>> depthwise_conv2d_relu(ones, np.array([[[[2.0], [-2.0]]]]), np.zeros(2), (1, 1), (0,) * 4, (1, 1)).ravel()
    array([2., 0.])
    """
    return relu(depthwise_conv2d(x, w, b, strides, pads, dilation))


def grey_planes(x):
    """Return (planes, grey): which images of three channels are grey, and the one plane that says all of such an image.

    Convolution is linear, so where all channels are equal, sum over c of w[c] * x = (sum over c of w[c]) * x: one plane and
    the sum of the filters give what three planes and the filters do. NaN equals nothing, so an image with one is not grey.

    Parameters
    ----------
    x : ndarray, shape (N, H, W, 3); uint8 pixels are divided by 255

    Returns
    -------
    planes : ndarray, shape (N, H, W, 1), the first channel
    grey : ndarray, shape (N,), uint8, 1 or 0

    >>> planes, grey = grey_planes(np.array([[[[2.0, 2.0, 2.0]]], [[[2.0, 2.0, 3.0]]]]))
    >>> planes.ravel(), grey
    (array([2., 2.]), array([1, 0], dtype=uint8))
    """
    grey = (x == x[..., :1]).all(axis=(1, 2, 3)).astype(np.uint8)
    return (np.divide(x[..., :1], 255, dtype=np.float32) if x.dtype == np.uint8 else x[..., :1].copy()), grey


def dense_relu(x, w, b):
    """Return relu(dense(x, w, b)): shape (N, F).

    >>> dense_relu(np.ones((1, 1)), np.array([[2.0, -2.0]]), np.zeros(2))
    array([[2., 0.]])
    """
    return relu(dense(x, w, b))


def dense_relu_gradient(dy, y, x, w):
    """Return (dx, dw, db) of `dense_relu`, from dy and its output y.

    >>> dense_relu_gradient(np.full((1, 2), 3.0), np.array([[2.0, 0.0]]), np.ones((1, 1)), np.array([[2.0, -2.0]]))[0]
    array([[6.]])
    """
    dz = relu_gradient(dy, y)
    return dense_input_gradient(dz, w), *dense_weight_gradient(dz, x)


def batch_norm_relu(x, mean, variance, gamma, beta, epsilon):
    """Return relu(batch_norm(x, ...)).

    >>> batch_norm_relu(np.array([[1.0], [3.0]]), *np.array([[2.0], [1.0], [10.0], [5.0]]), 0.0).ravel()
    array([ 0., 15.])
    """
    return relu(batch_norm(x, mean, variance, gamma, beta, epsilon))


def batch_norm_relu_gradient(dy, x, mean, variance, gamma, beta, epsilon, constant):
    """Return (dx, dgamma, dbeta) of `batch_norm_relu`, from dy.

    >>> x, one = np.array([[1.0], [3.0]]), np.ones(1)
    >>> batch_norm_relu_gradient(np.array([[5.0], [7.0]]), x, 2 * one, one, one, 0 * one, 0.0, True)[0].ravel()
    array([0., 7.])
    """
    dz = relu_gradient(dy, batch_norm_relu(x, mean, variance, gamma, beta, epsilon))
    return batch_norm_gradient(dz, x, mean, variance, gamma, epsilon, constant)


def add_relu(a, b):
    """Return relu(a + b); the gradient of both is relu_gradient(dy, y).

    >>> add_relu(np.array([1.0, 1.0]), np.array([2.0, -2.0]))
    array([3., 0.])
    """
    return relu(a + b)
