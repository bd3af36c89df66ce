"""Losses from logits, each with its gradient.

Each returns (losses, dz): float64 losses a sample, already multiplied by `scale`, and the gradient of their sum. The mean
lives in `scale`, and only there: losses.py sets it to (sample weight) / (number of terms).
"""

import numpy as np

from minicnn.reference.activations import sigmoid

__all__ = ["binary_crossentropy", "categorical_crossentropy", "mean_squared_error"]


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
