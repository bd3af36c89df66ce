"""Activations: one pass over the elements, split between the threads. See reference for the equations.

Elements are read and written by way of pointers: an index into an array might count from its end, and LLVM makes no
vectors of a loop that asks. The gradients take a third of the time so.
"""

import math

import numpy as np

from minicnn.kernels.runtime.jit import kernel
from minicnn.kernels.runtime.recording import call
from minicnn.kernels.runtime.simd import pointer
from minicnn.kernels.runtime.threads import run
from minicnn.kernels.runtime.work_queue import claim

__all__ = ["relu", "relu_gradient", "sigmoid", "sigmoid_gradient", "tanh", "tanh_gradient", "softmax",
           "softmax_gradient"]

_BLOCK = 16384          # elements in a unit
_ROWS = 2048            # rows of a softmax in a unit


def relu(x, y):
    """Write max(x, 0) to y, NaN for NaN."""
    run(_relu, -(-x.size // _BLOCK), x.reshape(-1), y.reshape(-1))


@kernel
def _relu(x, y, scratch, queue, lane):
    size = len(x)
    x_at, y_at = pointer(x, 0), pointer(y, 0)
    zero = x.dtype.type(0)
    unit = claim(queue, lane)
    while unit >= 0:
        for i in range(unit * _BLOCK, min((unit + 1) * _BLOCK, size)):
            # `x <= 0` is false for NaN, which therefore passes.
            y_at[i] = zero if x_at[i] <= zero else x_at[i]
        unit = claim(queue, lane)


def relu_gradient(dy, y, dx):
    """Write dy where y > 0, else 0, to dx."""
    run(_relu_gradient, -(-y.size // _BLOCK), dy.reshape(-1), y.reshape(-1), dx.reshape(-1))


@kernel
def _relu_gradient(dy, y, dx, scratch, queue, lane):
    size = len(dy)
    dy_at, y_at, dx_at = pointer(dy, 0), pointer(y, 0), pointer(dx, 0)
    zero = dy.dtype.type(0)
    unit = claim(queue, lane)
    while unit >= 0:
        for i in range(unit * _BLOCK, min((unit + 1) * _BLOCK, size)):
            dx_at[i] = dy_at[i] if y_at[i] > zero else zero
        unit = claim(queue, lane)


def sigmoid(x, y):
    """Write 1 / (1 + exp(-x)) to y."""
    run(_sigmoid, -(-x.size // _BLOCK), x.reshape(-1), y.reshape(-1))


@kernel
def _sigmoid(x, y, scratch, queue, lane):
    size = len(x)
    x_at, y_at = pointer(x, 0), pointer(y, 0)
    one = x.dtype.type(1)
    unit = claim(queue, lane)
    while unit >= 0:
        for i in range(unit * _BLOCK, min((unit + 1) * _BLOCK, size)):
            e = math.exp(-abs(x_at[i]))
            y_at[i] = (one if x_at[i] >= 0 else e) / (one + e)
        unit = claim(queue, lane)


def sigmoid_gradient(dy, y, dx):
    """Write dy y (1 - y) to dx."""
    run(_sigmoid_gradient, -(-y.size // _BLOCK), dy.reshape(-1), y.reshape(-1), dx.reshape(-1))


@kernel
def _sigmoid_gradient(dy, y, dx, scratch, queue, lane):
    size = len(dy)
    dy_at, y_at, dx_at = pointer(dy, 0), pointer(y, 0), pointer(dx, 0)
    one = y.dtype.type(1)
    unit = claim(queue, lane)
    while unit >= 0:
        for i in range(unit * _BLOCK, min((unit + 1) * _BLOCK, size)):
            dx_at[i] = dy_at[i] * (y_at[i] * (one - y_at[i]))
        unit = claim(queue, lane)


def tanh(x, y):
    """Write tanh(x) to y. NumPy's own vectors do it in a thirtieth of the time of a loop over the C library's tanh."""
    call(np.tanh, x, out=y)


def tanh_gradient(dy, y, dx):
    """Write dy (1 - y^2) to dx."""
    run(_tanh_gradient, -(-y.size // _BLOCK), dy.reshape(-1), y.reshape(-1), dx.reshape(-1))


@kernel
def _tanh_gradient(dy, y, dx, scratch, queue, lane):
    size = len(dy)
    dy_at, y_at, dx_at = pointer(dy, 0), pointer(y, 0), pointer(dx, 0)
    one = y.dtype.type(1)
    unit = claim(queue, lane)
    while unit >= 0:
        for i in range(unit * _BLOCK, min((unit + 1) * _BLOCK, size)):
            dx_at[i] = dy_at[i] * (one - y_at[i] * y_at[i])
        unit = claim(queue, lane)


def softmax(x, y):
    """Write exp(x) over its sum along the last axis to y."""
    K = x.shape[-1]
    run(_softmax, -(-x.size // K // _ROWS), x.reshape(-1, K), y.reshape(-1, K))


@kernel
def _softmax(x, y, scratch, queue, lane):
    K = x.shape[1]
    unit = claim(queue, lane)
    while unit >= 0:
        for n in range(unit * _ROWS, min((unit + 1) * _ROWS, x.shape[0])):
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
        unit = claim(queue, lane)


def softmax_gradient(dy, y, dx):
    """Write y (dy - sum(dy y)) to dx, the sum along the last axis."""
    K = y.shape[-1]
    run(_softmax_gradient, -(-y.size // K // _ROWS), dy.reshape(-1, K), y.reshape(-1, K), dx.reshape(-1, K))


@kernel
def _softmax_gradient(dy, y, dx, scratch, queue, lane):
    K = y.shape[1]
    unit = claim(queue, lane)
    while unit >= 0:
        for n in range(unit * _ROWS, min((unit + 1) * _ROWS, dy.shape[0])):
            total = 0.0
            for k in range(K):
                total += np.float64(dy[n, k]) * y[n, k]
            for k in range(K):
                dx[n, k] = y[n, k] * (dy[n, k] - total)
        unit = claim(queue, lane)
