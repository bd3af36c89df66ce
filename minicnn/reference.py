"""The specification: every operation of minicnn and its gradient, in plain NumPy.

This file is the mathematics. The kernels compute the same operations under the same names, faster; where the two
disagree beyond rounding, the kernels are wrong.

Notation. Sizes are capitals: N images of H x W pixels with C channels in; a window of KH x KW; OH x OW pixels with F
filters out. Images are NHWC, convolution weights (KH, KW, C, F), dense weights (in, out). The gradient of the loss with
respect to `name` is `dname`. Gradients follow from the chain rule: where y = f(x), dx = J^T dy with J the Jacobian of f.

Every function returns new arrays of its inputs' dtype (float32 or float64). Sums of products are accumulated in float64
and rounded once, so that in float32 the reference is as right as float32 can be. `strides` is (SH, SW); `pads` is
(top, bottom, left, right), in pixels.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

__all__ = ["im2col", "col2im", "conv2d", "conv2d_input_gradient", "conv2d_weight_gradient",
           "max_pool2d", "max_pool2d_gradient", "average_pool2d", "average_pool2d_gradient",
           "flatten", "flatten_gradient", "dense", "dense_input_gradient", "dense_weight_gradient",
           "conv2d_relu", "conv2d_relu_gradient", "conv2d_relu_pool", "conv2d_relu_pool_gradient", "dense_relu",
           "dense_relu_gradient",
           "relu", "relu_gradient", "sigmoid", "sigmoid_gradient", "tanh", "tanh_gradient",
           "softmax", "softmax_gradient", "dropout",
           "binary_crossentropy", "categorical_crossentropy", "mean_squared_error", "adam", "sgd",
           "affine_warp"]


# ---- Convolution -----------------------------------------------------------------------------------------------------

def im2col(x, kernel_size, strides, pads):
    """Lay every window of `x` out as one row of a matrix.

    Row (n, oh, ow) holds the KH x KW x C numbers under the window whose corner is at (oh SH - top, ow SW - left), in
    the order of the weights. Pixels outside the image are 0.

    Parameters
    ----------
    x : ndarray, shape (N, H, W, C)

    Returns
    -------
    ndarray, shape (N OH OW, KH KW C)

    >>> x = np.arange(9.0).reshape(1, 3, 3, 1)
    >>> im2col(x, (2, 2), (1, 1), (0, 0, 0, 0))[0]
    array([0., 1., 3., 4.])
    """
    windows = _windows(_pad(x, pads, 0.0), kernel_size, strides)      # (N, OH, OW, KH, KW, C)
    return windows.reshape(-1, windows[0, 0, 0].size)


def col2im(dcols, image_size, kernel_size, strides, pads):
    """Add every row of `dcols` back to the pixels it was taken from: the adjoint of `im2col`.

    im2col copies pixel x[i] into several entries of cols; by the chain rule dx[i] is the sum over these entries of
    dcols. Entries that lie on padding are dropped.

    Parameters
    ----------
    dcols : ndarray, shape (N, OH, OW, KH, KW, C)
    image_size : (H, W)

    Returns
    -------
    ndarray, shape (N, H, W, C)

    >>> col2im(np.ones((1, 2, 2, 2, 2, 1)), (3, 3), (2, 2), (1, 1), (0, 0, 0, 0))[0, :, :, 0]
    array([[1., 2., 1.],
           [2., 4., 2.],
           [1., 2., 1.]])
    """
    (N, OH, OW, KH, KW, C), (H, W), (SH, SW) = dcols.shape, image_size, strides
    top, bottom, left, right = pads
    padded = np.zeros((N, top + H + bottom, left + W + right, C), dcols.dtype)
    for kh in range(KH):
        for kw in range(KW):
            padded[:, kh:kh + OH * SH:SH, kw:kw + OW * SW:SW] += dcols[:, :, :, kh, kw]
    return padded[:, top:top + H, left:left + W].copy()


def conv2d(x, w, b, strides, pads):
    """Convolve (as networks do: correlate) images with filters.

    y[n, oh, ow, f] = b[f] + sum over kh, kw, c of x[n, oh SH + kh - top, ow SW + kw - left, c] w[kh, kw, c, f],
    that is, y = im2col(x) @ w + b, with w seen as a (KH KW C, F) matrix.

    Parameters
    ----------
    x : ndarray, shape (N, H, W, C)
    w : ndarray, shape (KH, KW, C, F)
    b : ndarray, shape (F,)

    Returns
    -------
    y : ndarray, shape (N, OH, OW, F)

    >>> x = np.arange(9.0).reshape(1, 3, 3, 1)
    >>> conv2d(x, np.ones((2, 2, 1, 1)), np.array([0.5]), (1, 1), (0, 0, 0, 0))[0, :, :, 0]
    array([[ 8.5, 12.5],
           [20.5, 24.5]])
    """
    KH, KW, C, F = w.shape
    windows = _windows(_pad(x, pads, 0.0), (KH, KW), strides)
    y = _product(windows.reshape(-1, KH * KW * C), w.reshape(-1, F), b)
    return y.reshape(windows.shape[:3] + (F,))


def conv2d_input_gradient(dy, w, image_size, strides, pads):
    """Return dx of `conv2d`.

    y = cols @ w, so dcols = dy @ w^T; x enters only through cols = im2col(x), so dx = col2im(dcols).

    Parameters
    ----------
    dy : ndarray, shape (N, OH, OW, F)
    w : ndarray, shape (KH, KW, C, F)
    image_size : (H, W)

    Returns
    -------
    dx : ndarray, shape (N, H, W, C)

    >>> dy, w = np.ones((1, 2, 2, 1)), np.full((2, 2, 1, 1), 0.5)
    >>> conv2d_input_gradient(dy, w, (3, 3), (1, 1), (0, 0, 0, 0))[0, 1, :, 0]
    array([1., 2., 1.])
    """
    KH, KW, C, F = w.shape
    dcols = dy.reshape(-1, F).astype(np.float64) @ w.reshape(-1, F).T.astype(np.float64)
    return col2im(dcols.reshape(dy.shape[:3] + (KH, KW, C)), image_size, (KH, KW), strides, pads).astype(dy.dtype)


def conv2d_weight_gradient(dy, x, kernel_size, strides, pads):
    """Return (dw, db) of `conv2d`.

    y = cols @ w + b is linear in w and b: dw = cols^T @ dy, and db is the sum of dy over images and pixels.

    Parameters
    ----------
    dy : ndarray, shape (N, OH, OW, F)
    x : ndarray, shape (N, H, W, C)

    Returns
    -------
    dw : ndarray, shape (KH, KW, C, F)
    db : ndarray, shape (F,)

    >>> x, dy = np.arange(9.0).reshape(1, 3, 3, 1), np.ones((1, 2, 2, 1))
    >>> dw, db = conv2d_weight_gradient(dy, x, (2, 2), (1, 1), (0, 0, 0, 0))
    >>> dw[:, :, 0, 0].tolist(), db.tolist()
    ([[8.0, 12.0], [20.0, 24.0]], [4.0])
    """
    cols = im2col(x, kernel_size, strides, pads)
    dw, db = dense_weight_gradient(dy.reshape(-1, dy.shape[3]), cols)
    return dw.reshape(kernel_size + (x.shape[3], dy.shape[3])), db


# ---- Pooling ---------------------------------------------------------------------------------------------------------

def max_pool2d(x, pool_size, strides, pads):
    """Return the maximum of every window, and which position of the window it came from.

    y[n, oh, ow, c] = max over kh, kw of x[n, oh SH + kh - top, ow SW + kw - left, c]. The switch is kh KW + kw.
    Ties: the first position in row-major order. NaN: a window that holds one is NaN, its switch a position of a NaN.
    Padding never wins: it takes no part. A window of -inf alone is -inf.

    Parameters
    ----------
    x : ndarray, shape (N, H, W, C)

    Returns
    -------
    y : ndarray, shape (N, OH, OW, C)
    switches : ndarray, shape (N, OH, OW, C), uint16

    >>> x = np.array([[5.0, 5.0], [np.nan, 1.0]]).reshape(1, 2, 2, 1)
    >>> [int(max_pool2d(v, (2, 2), (2, 2), (0, 0, 0, 0))[1][0, 0, 0, 0]) for v in (x, np.nan_to_num(x))]
    [2, 0]
    """
    windows = _windows(_pad(x, pads, 0.0), pool_size, strides)
    inside = _windows(_pad(np.ones((1,) + x.shape[1:3] + (1,), bool), pads, False), pool_size, strides)
    y = np.zeros(windows.shape[:3] + windows.shape[5:], x.dtype)
    switches = np.zeros(y.shape, np.uint16)
    seen = np.zeros_like(inside[:, :, :, 0, 0])
    for k, (kh, kw) in enumerate(np.ndindex(*pool_size)):
        value, valid = windows[:, :, :, kh, kw], inside[:, :, :, kh, kw]
        wins = valid & (~seen | (value > y) | np.isnan(value))
        y, switches, seen = np.where(wins, value, y), np.where(wins, np.uint16(k), switches), seen | valid
    return y, switches


def max_pool2d_gradient(dy, switches, image_size, pool_size, strides, pads):
    """Return dx of `max_pool2d`.

    y is a copy of the one pixel that the switch names, so dy goes to that pixel alone and all others get 0; pixels that
    several windows chose receive the sum.

    Parameters
    ----------
    dy : ndarray, shape (N, OH, OW, C)
    switches : ndarray, shape (N, OH, OW, C), uint16
    image_size : (H, W)

    Returns
    -------
    dx : ndarray, shape (N, H, W, C)

    >>> switches = np.array([3], np.uint16).reshape(1, 1, 1, 1)
    >>> max_pool2d_gradient(np.ones((1, 1, 1, 1)), switches, (2, 2), (2, 2), (2, 2), (0, 0, 0, 0))[0, :, :, 0]
    array([[0., 0.],
           [0., 1.]])
    """
    KH, KW = pool_size
    dcols = np.zeros(dy.shape[:3] + (KH * KW, dy.shape[3]), np.float64)
    np.put_along_axis(dcols, switches[:, :, :, None].astype(np.intp), dy[:, :, :, None], axis=3)
    dcols = dcols.reshape(dy.shape[:3] + (KH, KW, dy.shape[3]))
    return col2im(dcols, image_size, pool_size, strides, pads).astype(dy.dtype)


def average_pool2d(x, pool_size, strides, pads):
    """Return the mean of every window, over the pixels of it that lie inside the image.

    y[n, oh, ow, c] = (sum over the window of x) / n(oh, ow), n being the pixels of the window that are not padding.

    Parameters
    ----------
    x : ndarray, shape (N, H, W, C)

    Returns
    -------
    y : ndarray, shape (N, OH, OW, C)

    >>> average_pool2d(np.arange(4.0).reshape(1, 2, 2, 1), (2, 2), (2, 2), (0, 0, 0, 0)).item()
    1.5
    """
    windows = _windows(_pad(x, pads, 0.0), pool_size, strides)
    count = _window_counts(x.shape[1:3], pool_size, strides, pads)
    return (windows.sum(axis=(3, 4), dtype=np.float64) / count).astype(x.dtype)


def average_pool2d_gradient(dy, image_size, pool_size, strides, pads):
    """Return dx of `average_pool2d`: each pixel of a window receives dy / n(oh, ow).

    >>> average_pool2d_gradient(np.ones((1, 1, 1, 1)), (2, 2), (2, 2), (2, 2), (0, 0, 0, 0))[0, :, :, 0]
    array([[0.25, 0.25],
           [0.25, 0.25]])
    """
    share = dy / _window_counts(image_size, pool_size, strides, pads)
    dcols = np.broadcast_to(share[:, :, :, None, None], dy.shape[:3] + tuple(pool_size) + dy.shape[3:])
    return col2im(dcols, image_size, pool_size, strides, pads).astype(dy.dtype)


# ---- Dense layers ----------------------------------------------------------------------------------------------------

def flatten(x):
    """Lay each sample out as one row: (N, ...) -> (N, D), in row-major order. A view: nothing is computed.

    >>> flatten(np.zeros((2, 12, 12, 32))).shape
    (2, 4608)
    """
    return x.reshape(x.shape[0], -1)


def flatten_gradient(dy, shape):
    """Return dx of `flatten`: the same numbers in the shape of x, `shape` being that of one sample.

    >>> flatten_gradient(np.zeros((2, 8)), (2, 4)).shape
    (2, 2, 4)
    """
    return dy.reshape((dy.shape[0],) + tuple(shape))


def dense(x, w, b):
    """Multiply by a matrix and add a bias: y = x @ w + b.

    Parameters
    ----------
    x : ndarray, shape (N, D)
    w : ndarray, shape (D, F)
    b : ndarray, shape (F,)

    Returns
    -------
    y : ndarray, shape (N, F)

    >>> dense(np.array([[1.0, 2.0]]), np.array([[3.0], [4.0]]), np.array([0.5]))
    array([[11.5]])
    """
    return _product(x, w, b)


def dense_input_gradient(dy, w):
    """Return dx of `dense`: y[n, f] = sum_d x[n, d] w[d, f], so dx[n, d] = sum_f dy[n, f] w[d, f]; dx = dy @ w^T.

    >>> dense_input_gradient(np.array([[2.0]]), np.array([[3.0], [4.0]]))
    array([[6., 8.]])
    """
    return (dy.astype(np.float64) @ w.T.astype(np.float64)).astype(dy.dtype)


def dense_weight_gradient(dy, x):
    """Return (dw, db) of `dense`: dw[d, f] = sum_n x[n, d] dy[n, f], so dw = x^T @ dy; db is the sum of dy's rows.

    >>> dense_weight_gradient(np.array([[2.0]]), np.array([[3.0, 4.0]]))
    (array([[6.],
           [8.]]), array([2.]))
    """
    dy64 = dy.astype(np.float64)
    return (x.T.astype(np.float64) @ dy64).astype(dy.dtype), dy64.sum(axis=0).astype(dy.dtype)


# ---- Activations, element by element ---------------------------------------------------------------------------------

def relu(x):
    """Return max(x, 0), NaN for NaN.

    >>> relu(np.array([-np.inf, -1.0, 0.0, 2.0, np.nan]))
    array([ 0.,  0.,  0.,  2., nan])
    """
    return np.where(x > 0, x, np.where(np.isnan(x), x, x.dtype.type(0)))


def relu_gradient(dy, y):
    """Return dx of `relu`, from its output: dy where y > 0, else 0 (also at 0 and at NaN: numerics of TensorFlow).

    >>> relu_gradient(np.full(3, 5.0), np.array([0.0, 2.0, np.nan]))
    array([0., 5., 0.])
    """
    return np.where(y > 0, dy, dy.dtype.type(0))


def sigmoid(x):
    """Return 1 / (1 + exp(-x)), computed from e = exp(-|x|) so that nothing overflows and no tail is lost.

    For x >= 0 that is 1 / (1 + e); below, multiply both by exp(x): e / (1 + e).

    >>> sigmoid(np.array([-1000.0, 0.0, 1000.0]))
    array([0. , 0.5, 1. ])
    """
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, x.dtype.type(1), e) / (1 + e)


def sigmoid_gradient(dy, y):
    """Return dx of `sigmoid`, from its output: dy/dx = exp(-x) / (1 + exp(-x))^2 = y (1 - y).

    >>> sigmoid_gradient(np.array([4.0]), np.array([0.5]))
    array([1.])
    """
    return dy * (y * (1 - y))


def tanh(x):
    """Return the hyperbolic tangent.

    >>> tanh(np.array([0.0, np.inf]))
    array([0., 1.])
    """
    return np.tanh(x)


def tanh_gradient(dy, y):
    """Return dx of `tanh`, from its output: tanh' = 1 - tanh^2.

    >>> tanh_gradient(np.array([2.0]), np.array([0.5]))
    array([1.5])
    """
    return dy * (1 - y * y)


def softmax(x):
    """Return exp(x) over its sum along the last axis; the maximum is taken off first, which changes nothing but range.

    >>> softmax(np.array([[1000.0, 1000.0]]))
    array([[0.5, 0.5]])
    """
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return (e / e.sum(axis=-1, keepdims=True, dtype=np.float64)).astype(x.dtype)


def softmax_gradient(dy, y):
    """Return dx of `softmax`, from its output.

    dy_i/dx_j = y_i (delta_ij - y_j), so dx_j = sum_i dy_i y_i (delta_ij - y_j) = y_j (dy_j - sum_i dy_i y_i).

    >>> softmax_gradient(np.array([[1.0, 0.0]]), np.array([[0.5, 0.5]]))
    array([[ 0.25, -0.25]])
    """
    return (y * (dy - (dy * y).sum(axis=-1, keepdims=True, dtype=np.float64))).astype(dy.dtype)


def dropout(x, keep, rate):
    """Return x / (1 - rate) where `keep`, else 0; its gradient is the same operation on dy.

    Dividing by the share that stays leaves the expected value as it was ("inverted" dropout).

    Parameters
    ----------
    x : ndarray, any shape
    keep : ndarray of bool, the shape of x
    rate : float in [0, 1), the share that is dropped

    >>> dropout(np.array([1.0, 1.0]), np.array([True, False]), 0.5)
    array([2., 0.])
    """
    return np.where(keep, x * x.dtype.type(1 / (1 - rate)), x.dtype.type(0))


# ---- Several operations at once: what the fast engine does in one pass ------------------------------------------------
# Their meaning is that of the operations one after another; so are their gradients, by the chain rule.

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


# ---- Losses: from logits, with the gradient --------------------------------------------------------------------------
# Each returns (losses, dz): float64 losses a sample, already multiplied by `scale`, and the gradient of their sum.
# The mean lives in `scale`, and only there: losses.py sets it to (sample weight) / (number of terms).

def binary_crossentropy(z, t, scale):
    """Return the binary cross-entropy of sigmoid(z) against targets t, and its gradient.

    With p = sigmoid(z): L = -t log p - (1 - t) log(1 - p). Since -log p = log(1 + exp(-z)) = max(-z, 0) +
    log1p(exp(-|z|)) and log p - log(1 - p) = z, this is L = max(z, 0) - z t + log1p(exp(-|z|)), which neither overflows
    nor rounds to 0. dL/dz = sigmoid(z) - t.

    Parameters
    ----------
    z : ndarray, shape (N, K), logits
    t : ndarray, shape (N, K), targets in [0, 1]
    scale : ndarray, shape (N,), float64

    Returns
    -------
    losses : ndarray, shape (N,), float64
    dz : ndarray, shape (N, K)

    >>> losses, dz = binary_crossentropy(np.array([[0.0], [-200.0]]), np.array([[1.0], [1.0]]), np.ones(2))
    >>> losses.round(4).tolist(), dz.tolist()
    ([0.6931, 200.0], [[-0.5], [-1.0]])
    """
    z64 = z.astype(np.float64)
    losses = np.maximum(z64, 0) - z64 * t + np.log1p(np.exp(-np.abs(z64)))
    return losses.sum(axis=1) * scale, ((sigmoid(z64) - t) * scale[:, None]).astype(z.dtype)


def categorical_crossentropy(z, t, scale):
    """Return the cross-entropy of softmax(z) against target distributions t, and its gradient.

    L = -sum_k t_k log softmax(z)_k = sum_k t_k (log sum_j exp z_j - z_k). With sum_k t_k = 1, dL/dz = softmax(z) - t.

    Parameters
    ----------
    z : ndarray, shape (N, K), logits
    t : ndarray, shape (N, K), rows that sum to 1
    scale : ndarray, shape (N,), float64

    Returns
    -------
    losses : ndarray, shape (N,), float64
    dz : ndarray, shape (N, K)

    >>> losses, dz = categorical_crossentropy(np.zeros((1, 2)), np.array([[0.0, 1.0]]), np.ones(1))
    >>> losses.round(4).tolist(), dz.tolist()
    ([0.6931], [[0.5, -0.5]])
    """
    shifted = z.astype(np.float64) - z.max(axis=1, keepdims=True)
    log_sum = np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    losses = (t * (log_sum - shifted)).sum(axis=1)
    return losses * scale, ((np.exp(shifted - log_sum) - t) * scale[:, None]).astype(z.dtype)


def mean_squared_error(z, t, scale):
    """Return the squared error sum_k (z_k - t_k)^2 a sample, and its gradient 2 (z - t).

    >>> losses, dz = mean_squared_error(np.array([[3.0]]), np.array([[1.0]]), np.ones(1))
    >>> losses.item(), dz.item()
    (4.0, 4.0)
    """
    difference = z.astype(np.float64) - t
    return (difference**2).sum(axis=1) * scale, (2 * difference * scale[:, None]).astype(z.dtype)


# ---- Optimizers: one step of one parameter ---------------------------------------------------------------------------

def adam(w, m, v, dw, rate, beta_1, beta_2, epsilon):
    """Return (w, m, v) after one step of Adam (Kingma & Ba 2015, section 2, the efficient form).

    m <- m + (1 - beta_1) (dw - m), v <- v + (1 - beta_2) (dw^2 - v), w <- w - rate m / (sqrt(v) + epsilon).
    `rate` = learning_rate sqrt(1 - beta_2^t) / (1 - beta_1^t) and `epsilon` = epsilon-hat are float64 numbers that
    optimizers.py computes from the integer t.

    >>> w, m, v = adam(np.ones(1), np.zeros(1), np.zeros(1), np.full(1, 0.1), 1e-3 * 0.001**0.5 / 0.1, 0.9, 0.999, 1e-7)
    >>> f"{w.item():.10f}"
    '0.9990000316'
    """
    one_minus_1, one_minus_2 = w.dtype.type(1 - beta_1), w.dtype.type(1 - beta_2)
    m = m + one_minus_1 * (dw - m)
    v = v + one_minus_2 * (dw * dw - v)
    return w - w.dtype.type(rate) * m / (np.sqrt(v) + w.dtype.type(epsilon)), m, v


def sgd(w, velocity, dw, learning_rate, momentum, nesterov):
    """Return (w, velocity) after one step of gradient descent with momentum, in Keras' form.

    velocity <- momentum velocity - learning_rate dw; w <- w + velocity, or with Nesterov's look-ahead
    w <- w + momentum velocity - learning_rate dw.

    >>> sgd(np.ones(1), np.zeros(1), np.ones(1), 0.1, 0.9, False)
    (array([0.9]), array([-0.1]))
    """
    momentum, step = w.dtype.type(momentum), w.dtype.type(learning_rate) * dw
    velocity = momentum * velocity - step
    return w + (momentum * velocity - step if nesterov else velocity), velocity


# ---- Augmentation ----------------------------------------------------------------------------------------------------

def affine_warp(pixels, matrices, gains, offsets, channels):
    """Return each image seen through an affine map, its grey levels scaled to [0, 1], spread and shifted.

    Output pixel (i, j) takes the value at (row, column) = matrix @ (i, j, 1) of the input, where a pixel's indices are
    the coordinates of its centre. Between centres the value is bilinear: with (down, along) the way past the centre
    (top, left), upper = a + (b - a) along from the two upper neighbours, lower likewise from the two below, and
    upper + (lower - upper) down. Places outside the outermost centres are moved onto them (nearest fill). Then
    out = clip(gain * value + offset, 0, 1); a NaN stays a NaN.

    Parameters
    ----------
    pixels : ndarray, shape (N, H, W, C), uint8 (white is 255) or float32 (white is 1)
    matrices : ndarray, shape (N, 2, 3), float64
    gains, offsets : ndarray, shape (N,), float32
    channels : int; C, or any number where C is 1: grey is repeated

    Returns
    -------
    ndarray, shape (N, H, W, channels), float32

    >>> half_a_pixel = np.array([[[1, 0, 0], [0, 1, 0.5]]])
    >>> affine_warp(np.array([[[[0], [255]]]], np.uint8), half_a_pixel, np.ones(1, "f"), np.zeros(1, "f"), 1).ravel()
    array([0.5, 1. ], dtype=float32)
    """
    N, H, W, C = pixels.shape
    image = pixels.astype(np.float32) / np.float32(255 if pixels.dtype == np.uint8 else 1)
    i, j = np.mgrid[:H, :W]
    m = matrices[..., np.newaxis, np.newaxis]                          # each element against the whole (H, W) grid
    y = np.clip(m[:, 0, 0] * i + m[:, 0, 2] + m[:, 0, 1] * j, 0, H - 1)
    x = np.clip(m[:, 1, 0] * i + m[:, 1, 2] + m[:, 1, 1] * j, 0, W - 1)
    top, left = y.astype(int), x.astype(int)
    below, beside = np.minimum(top + 1, H - 1), np.minimum(left + 1, W - 1)
    down, along = (y - top).astype(np.float32)[..., np.newaxis], (x - left).astype(np.float32)[..., np.newaxis]
    n = np.arange(N)[:, np.newaxis, np.newaxis]
    a, b, p, q = image[n, top, left], image[n, top, beside], image[n, below, left], image[n, below, beside]
    upper, lower = a + (b - a) * along, p + (q - p) * along
    gain, offset = gains[:, np.newaxis, np.newaxis, np.newaxis], offsets[:, np.newaxis, np.newaxis, np.newaxis]
    out = np.clip(gain * (upper + (lower - upper) * down) + offset, 0, 1)
    return np.repeat(out, channels, axis=3) if C == 1 else out


# ---- Shared by the functions above -----------------------------------------------------------------------------------

def _pad(x, pads, value):
    """Surround the images of x with `value`: (N, top + H + bottom, left + W + right, C)."""
    top, bottom, left, right = pads
    return np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=value)


def _windows(x, kernel_size, strides):
    """Return a view of all windows of x: shape (N, OH, OW, KH, KW, C)."""
    windows = sliding_window_view(x, kernel_size, axis=(1, 2))         # (N, H-KH+1, W-KW+1, C, KH, KW)
    return windows[:, ::strides[0], ::strides[1]].transpose(0, 1, 2, 4, 5, 3)


def _window_counts(image_size, pool_size, strides, pads):
    """Return how many pixels of each window lie inside the image: shape (1, OH, OW, 1), float64."""
    inside = _pad(np.ones((1,) + tuple(image_size) + (1,)), pads, 0.0)
    return _windows(inside, pool_size, strides).sum(axis=(3, 4))


def _product(a, w, b):
    """Return a @ w + b, accumulated in float64 and rounded once."""
    return (a.astype(np.float64) @ w.astype(np.float64) + b).astype(a.dtype)
