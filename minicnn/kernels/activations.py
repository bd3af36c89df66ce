"""Activations and dropout: one pass over the elements, split between the threads. See reference for the equations."""

import math

import numpy as np

from minicnn.kernels.board import claim
from minicnn.kernels.jit import kernel
from minicnn.kernels.threads import run

__all__ = ["relu", "relu_gradient", "sigmoid", "sigmoid_gradient", "tanh", "tanh_gradient", "softmax",
           "softmax_gradient", "dropout"]

_BLOCK = 16384          # elements in a unit
_ROWS = 2048            # rows of a softmax in a unit


def relu(x, y):
    """Write max(x, 0) to y, NaN for NaN."""
    run(_relu, -(-x.size // _BLOCK), x.reshape(-1), y.reshape(-1))


@kernel
def _relu(x, y, scratch, board, lane):
    zero = x.dtype.type(0)
    unit = claim(board, lane)
    while unit >= 0:
        for i in range(unit * _BLOCK, min((unit + 1) * _BLOCK, x.size)):
            # `x <= 0` is false for NaN, which therefore passes.
            y[i] = zero if x[i] <= zero else x[i]
        unit = claim(board, lane)


def relu_gradient(dy, y, dx):
    """Write dy where y > 0, else 0, to dx."""
    run(_relu_gradient, -(-y.size // _BLOCK), dy.reshape(-1), y.reshape(-1), dx.reshape(-1))


@kernel
def _relu_gradient(dy, y, dx, scratch, board, lane):
    zero = dy.dtype.type(0)
    unit = claim(board, lane)
    while unit >= 0:
        for i in range(unit * _BLOCK, min((unit + 1) * _BLOCK, dy.size)):
            dx[i] = dy[i] if y[i] > zero else zero
        unit = claim(board, lane)


def sigmoid(x, y):
    """Write 1 / (1 + exp(-x)) to y."""
    run(_sigmoid, -(-x.size // _BLOCK), x.reshape(-1), y.reshape(-1))


@kernel
def _sigmoid(x, y, scratch, board, lane):
    one = x.dtype.type(1)
    unit = claim(board, lane)
    while unit >= 0:
        for i in range(unit * _BLOCK, min((unit + 1) * _BLOCK, x.size)):
            e = math.exp(-abs(x[i]))
            y[i] = (one if x[i] >= 0 else e) / (one + e)
        unit = claim(board, lane)


def sigmoid_gradient(dy, y, dx):
    """Write dy y (1 - y) to dx."""
    run(_sigmoid_gradient, -(-y.size // _BLOCK), dy.reshape(-1), y.reshape(-1), dx.reshape(-1))


@kernel
def _sigmoid_gradient(dy, y, dx, scratch, board, lane):
    one = y.dtype.type(1)
    unit = claim(board, lane)
    while unit >= 0:
        for i in range(unit * _BLOCK, min((unit + 1) * _BLOCK, dy.size)):
            dx[i] = dy[i] * (y[i] * (one - y[i]))
        unit = claim(board, lane)


def tanh(x, y):
    """Write tanh(x) to y."""
    run(_tanh, -(-x.size // _BLOCK), x.reshape(-1), y.reshape(-1))


@kernel
def _tanh(x, y, scratch, board, lane):
    unit = claim(board, lane)
    while unit >= 0:
        for i in range(unit * _BLOCK, min((unit + 1) * _BLOCK, x.size)):
            y[i] = math.tanh(x[i])
        unit = claim(board, lane)


def tanh_gradient(dy, y, dx):
    """Write dy (1 - y^2) to dx."""
    run(_tanh_gradient, -(-y.size // _BLOCK), dy.reshape(-1), y.reshape(-1), dx.reshape(-1))


@kernel
def _tanh_gradient(dy, y, dx, scratch, board, lane):
    one = y.dtype.type(1)
    unit = claim(board, lane)
    while unit >= 0:
        for i in range(unit * _BLOCK, min((unit + 1) * _BLOCK, dy.size)):
            dx[i] = dy[i] * (one - y[i] * y[i])
        unit = claim(board, lane)


def softmax(x, y):
    """Write exp(x) over its sum along the last axis to y."""
    K = x.shape[-1]
    run(_softmax, -(-x.size // K // _ROWS), x.reshape(-1, K), y.reshape(-1, K))


@kernel
def _softmax(x, y, scratch, board, lane):
    K = x.shape[1]
    unit = claim(board, lane)
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
        unit = claim(board, lane)


def softmax_gradient(dy, y, dx):
    """Write y (dy - sum(dy y)) to dx, the sum along the last axis."""
    K = y.shape[-1]
    run(_softmax_gradient, -(-y.size // K // _ROWS), dy.reshape(-1, K), y.reshape(-1, K), dx.reshape(-1, K))


@kernel
def _softmax_gradient(dy, y, dx, scratch, board, lane):
    K = y.shape[1]
    unit = claim(board, lane)
    while unit >= 0:
        for n in range(unit * _ROWS, min((unit + 1) * _ROWS, dy.shape[0])):
            total = 0.0
            for k in range(K):
                total += np.float64(dy[n, k]) * y[n, k]
            for k in range(K):
                dx[n, k] = y[n, k] * (dy[n, k] - total)
        unit = claim(board, lane)


def dropout(x, keep, rate, y):
    """Write x / (1 - rate) where keep, else 0, to y."""
    run(_dropout, -(-x.size // _BLOCK), x.reshape(-1), keep.reshape(-1), x.dtype.type(1 / (1 - rate)), y.reshape(-1))


@kernel
def _dropout(x, keep, scale, y, scratch, board, lane):
    zero = x.dtype.type(0)
    unit = claim(board, lane)
    while unit >= 0:
        for i in range(unit * _BLOCK, min((unit + 1) * _BLOCK, x.size)):
            y[i] = x[i] * scale if keep[i] else zero
        unit = claim(board, lane)
