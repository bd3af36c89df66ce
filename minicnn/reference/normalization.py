"""Normalization: numbers brought to mean 0 and variance 1, then scaled and shifted; and the gradients.

Batch normalization takes mean and variance of a channel over all samples and pixels, layer normalization those of a
pixel over its channels (Ioffe and Szegedy, "Batch normalization", 2015; Ba et al., "Layer normalization", 2016). Means
and variances are float64. The variance is the mean of the squares, the "biased" one: divided by their number M, not
by M - 1.

The gradient, of both. With z = (x - mean) / s, s = sqrt(variance + epsilon), y = gamma z + beta, and g = gamma dy the
gradient with respect to z: mean and s depend on every x of their group, so x[i] reaches each z[j] in three ways,

    dz[j] / dx[i] = [i = j] / s  -  (1 / M) / s  -  z[j] (ds / dx[i]) / s,     ds / dx[i] = z[i] / M

the last because the variance is mean((x - mean)^2), whose derivative with respect to x[i] is 2 (x[i] - mean) / M, and
ds = d variance / (2 s). Multiplied by g[j] and summed over j:

    dx[i] = (g[i] - mean(g) - z[i] mean(g z)) / s

So dx is g without its parts along 1 and along z: steps of x in those directions change no z (but for epsilon). Where
mean and variance are constants, as in prediction, only the first way is left: dx = g / s.
"""

import numpy as np

__all__ = ["batch_statistics", "batch_norm", "batch_norm_gradient", "layer_norm", "layer_norm_gradient"]


def batch_statistics(x):
    """Return mean and variance of each channel, over all other axes.

    Parameters
    ----------
    x : ndarray, shape (..., C)

    Returns
    -------
    mean, variance : ndarrays, shape (C,), float64; the variance is divided by M, the numbers of a channel

    >>> batch_statistics(np.array([[1.0, 5.0], [3.0, 5.0]]))
    (array([2., 5.]), array([1., 0.]))
    """
    rows = x.reshape(-1, x.shape[-1]).astype(np.float64)
    mean = rows.mean(axis=0)
    return mean, np.square(rows - mean).mean(axis=0)


def batch_norm(x, mean, variance, gamma, beta, epsilon):
    """Return y = gamma (x - mean) / sqrt(variance + epsilon) + beta, with one of each for each channel.

    Parameters
    ----------
    x : ndarray, shape (..., C)
    mean, variance : ndarrays, shape (C,): those of `batch_statistics`, or any others
    gamma, beta : ndarrays, shape (C,)
    epsilon : float

    >>> batch_norm(np.array([[1.0], [3.0]]), *np.array([[2.0], [1.0], [10.0], [5.0]]), 0.0).ravel()
    array([-5., 15.])
    """
    return (gamma * ((x - np.float64(mean)) / np.sqrt(np.float64(variance) + epsilon)) + beta).astype(x.dtype)


def batch_norm_gradient(dy, x, mean, variance, gamma, epsilon, constant):
    """Return (dx, dgamma, dbeta) of `batch_norm` (derived above).

    dgamma = sum(dy z) and dbeta = sum(dy), over all axes but the last; dx = (g - mean(g) - z mean(g z)) / s.

    Parameters
    ----------
    constant : bool; whether mean and variance are constants, and not those of x: then dx = g / s

    >>> x, dy = np.array([[1.0], [3.0]]), np.array([[0.0], [1.0]])
    >>> statistics = batch_statistics(x)
    >>> dx, dgamma, dbeta = batch_norm_gradient(dy, x, *statistics, np.ones(1), 0.0, False)
    >>> dx.ravel(), dgamma, dbeta           # two numbers are always -1 and 1 when normalized: no x changes them
    (array([0., 0.]), array([1.]), array([1.]))
    >>> batch_norm_gradient(dy, x, *statistics, np.ones(1), 0.0, True)[0].ravel()
    array([0., 1.])
    """
    dy64, s, axes = dy.astype(np.float64), np.sqrt(variance + epsilon), tuple(range(x.ndim - 1))
    z, g = (x - mean) / s, gamma * dy64
    dx = g / s if constant else (g - g.mean(axis=axes) - z * (g * z).mean(axis=axes)) / s
    return dx.astype(x.dtype), (dy64 * z).sum(axis=axes).astype(x.dtype), dy64.sum(axis=axes).astype(x.dtype)


def layer_norm(x, gamma, beta, epsilon):
    """Return y = gamma (x - mean) / sqrt(variance + epsilon) + beta, mean and variance of each sample and pixel.

    Parameters
    ----------
    x : ndarray, shape (..., C)
    gamma, beta : ndarrays, shape (C,)
    epsilon : float

    Returns
    -------
    y : ndarray, shape (..., C)
    mean, variance : ndarrays, shape (...), float64

    >>> y, mean, variance = layer_norm(np.array([[1.0, 3.0]]), np.ones(2), np.zeros(2), 0.0)
    >>> y, mean, variance
    (array([[-1.,  1.]]), array([2.]), array([1.]))
    """
    wide = x.astype(np.float64)
    mean = wide.mean(axis=-1)
    variance = np.square(wide - mean[..., None]).mean(axis=-1)
    y = gamma * ((wide - mean[..., None]) / np.sqrt(variance + epsilon)[..., None]) + beta
    return y.astype(x.dtype), mean, variance


def layer_norm_gradient(dy, x, mean, variance, gamma, epsilon):
    """Return (dx, dgamma, dbeta) of `layer_norm` from its mean and variance (derived above).

    dgamma = sum(dy z) and dbeta = sum(dy), over all axes but the last; in dx the means are over the last axis:
    dx = (g - mean(g) - z mean(g z)) / s.

    >>> dy, x = np.array([[0.0, 1.0, 2.0]]), np.array([[1.0, 0.0, 0.0]])
    >>> _, mean, variance = layer_norm(x, np.ones(3), np.zeros(3), 0.0)
    >>> dx, _, dbeta = layer_norm_gradient(dy, x, mean, variance, np.ones(3), 0.0)
    >>> np.round(dx, 6), dbeta
    (array([[ 0.     , -1.06066,  1.06066]]), array([0., 1., 2.]))
    """
    dy64, s, axes = dy.astype(np.float64), np.sqrt(variance + epsilon)[..., None], tuple(range(x.ndim - 1))
    z, g = (x - mean[..., None]) / s, gamma * dy64
    dx = (g - g.mean(axis=-1, keepdims=True) - z * (g * z).mean(axis=-1, keepdims=True)) / s
    return dx.astype(x.dtype), (dy64 * z).sum(axis=axes).astype(x.dtype), dy64.sum(axis=axes).astype(x.dtype)
