"""Activations and dropout: one pass over the elements, split between the threads. See reference for the equations."""

import math

import numpy as np

from minicnn.kernels.jit import kernel
from minicnn.kernels.threads import run

__all__ = ["relu", "relu_gradient", "sigmoid", "sigmoid_gradient", "tanh", "tanh_gradient", "softmax",
           "softmax_gradient", "dropout"]

# Fewer elements than this are done sooner than a second thread wakes up.
_GRAIN = 32768


def relu(x, y):
    """Write max(x, 0) to y, NaN for NaN."""
    run(_relu, x.size, x.reshape(-1), y.reshape(-1), grain=_GRAIN)


@kernel
def _relu(x, y, start, stop):
    zero = x.dtype.type(0)
    for i in range(start, stop):
        # `x <= 0` is false for NaN, which therefore passes.
        y[i] = zero if x[i] <= zero else x[i]


def relu_gradient(dy, y, dx):
    """Write dy where y > 0, else 0, to dx."""
    run(_relu_gradient, y.size, dy.reshape(-1), y.reshape(-1), dx.reshape(-1), grain=_GRAIN)


@kernel
def _relu_gradient(dy, y, dx, start, stop):
    zero = dy.dtype.type(0)
    for i in range(start, stop):
        dx[i] = dy[i] if y[i] > zero else zero


def sigmoid(x, y):
    """Write 1 / (1 + exp(-x)) to y."""
    run(_sigmoid, x.size, x.reshape(-1), y.reshape(-1), grain=_GRAIN)


@kernel
def _sigmoid(x, y, start, stop):
    one = x.dtype.type(1)
    for i in range(start, stop):
        e = math.exp(-abs(x[i]))
        y[i] = (one if x[i] >= 0 else e) / (one + e)


def sigmoid_gradient(dy, y, dx):
    """Write dy y (1 - y) to dx."""
    run(_sigmoid_gradient, y.size, dy.reshape(-1), y.reshape(-1), dx.reshape(-1), grain=_GRAIN)


@kernel
def _sigmoid_gradient(dy, y, dx, start, stop):
    one = y.dtype.type(1)
    for i in range(start, stop):
        dx[i] = dy[i] * (y[i] * (one - y[i]))


def tanh(x, y):
    """Write tanh(x) to y."""
    run(_tanh, x.size, x.reshape(-1), y.reshape(-1), grain=_GRAIN)


@kernel
def _tanh(x, y, start, stop):
    for i in range(start, stop):
        y[i] = math.tanh(x[i])


def tanh_gradient(dy, y, dx):
    """Write dy (1 - y^2) to dx."""
    run(_tanh_gradient, y.size, dy.reshape(-1), y.reshape(-1), dx.reshape(-1), grain=_GRAIN)


@kernel
def _tanh_gradient(dy, y, dx, start, stop):
    one = y.dtype.type(1)
    for i in range(start, stop):
        dx[i] = dy[i] * (one - y[i] * y[i])


def softmax(x, y):
    """Write exp(x) over its sum along the last axis to y."""
    K = x.shape[-1]
    run(_softmax, x.size // K, x.reshape(-1, K), y.reshape(-1, K), grain=_GRAIN // 8)


@kernel
def _softmax(x, y, start, stop):
    K = x.shape[1]
    for n in range(start, stop):
        top = x[n, 0]
        for k in range(K):
            if x[n, k] > top or x[n, k] != x[n, k]:
                top = x[n, k]
        total = 0.0
        for k in range(K):
            y[n, k] = math.exp(x[n, k] - top)
            total += y[n, k]
        for k in range(K):
            y[n, k] = y[n, k] / total


def softmax_gradient(dy, y, dx):
    """Write y (dy - sum(dy y)) to dx, the sum along the last axis."""
    K = y.shape[-1]
    run(_softmax_gradient, y.size // K, dy.reshape(-1, K), y.reshape(-1, K), dx.reshape(-1, K), grain=_GRAIN // 8)


@kernel
def _softmax_gradient(dy, y, dx, start, stop):
    K = y.shape[1]
    for n in range(start, stop):
        total = 0.0
        for k in range(K):
            total += np.float64(dy[n, k]) * y[n, k]
        for k in range(K):
            dx[n, k] = y[n, k] * (dy[n, k] - total)


def dropout(x, keep, rate, y):
    """Write x / (1 - rate) where keep, else 0, to y."""
    run(_dropout, x.size, x.reshape(-1), keep.reshape(-1), x.dtype.type(1 / (1 - rate)), y.reshape(-1), grain=_GRAIN)


@kernel
def _dropout(x, keep, scale, y, start, stop):
    zero = x.dtype.type(0)
    for i in range(start, stop):
        y[i] = x[i] * scale if keep[i] else zero
