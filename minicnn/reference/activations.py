"""Activations, element by element; their gradients follow from their outputs."""

import numpy as np

__all__ = ["relu", "relu_gradient", "sigmoid", "sigmoid_gradient", "tanh", "tanh_gradient", "softmax",
           "softmax_gradient"]


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
