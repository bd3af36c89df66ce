"""The laws that weights are drawn from before training, exactly as Keras defines them.

With fan_in inputs and fan_out outputs of one unit (for a kernel of shape (KH, KW, C, F): KH KW C and KH KW F):

    glorot_uniform   U(-l, l),  l = sqrt(6 / (fan_in + fan_out))          Glorot & Bengio 2010
    glorot_normal    truncated normal, variance 2 / (fan_in + fan_out)
    he_uniform       U(-l, l),  l = sqrt(6 / fan_in)                      He et al. 2015
    he_normal        truncated normal, variance 2 / fan_in
    zeros, ones      0, 1

A truncated normal is drawn again where it falls beyond two standard deviations; that narrows it by 0.8796..., so it is
drawn that much wider. COV-19Net uses glorot_uniform for kernels and zeros for biases.
"""

import math

import numpy as np

from minicnn.core.random import Stream, normals, uniforms
from minicnn.errors import InputError, nearest

__all__ = ["INITIALIZERS", "initialize", "fans"]

INITIALIZERS = ("glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "zeros", "ones")

# The standard deviation of a standard normal truncated at two.
_TRUNCATED_DEVIATION = 0.87962566103423978


def fans(shape):
    """Return (fan_in, fan_out) of a dense (in, out) or convolution (KH, KW, C, F) kernel.

    >>> fans((4608, 128)), fans((3, 3, 3, 32))
    ((4608, 128), (27, 288))
    """
    receptive = math.prod(shape[:-2])
    return receptive * shape[-2], receptive * shape[-1]


def initialize(law, shape, dtype, seed, index):
    """Draw the array with number `index` of the model with this seed from `law`.

    Returns
    -------
    ndarray of `shape` and `dtype`; drawn in float64 and rounded once

    >>> w = initialize("glorot_uniform", (100, 50), np.float32, seed=7, index=0)
    >>> w.dtype, bool(abs(w).max() <= 0.2)
    (dtype('float32'), True)
    """
    if law not in INITIALIZERS:
        raise InputError(f"initializer: expected one of {', '.join(INITIALIZERS)}, got {law!r}."
                         + nearest(law, INITIALIZERS))
    if law in ("zeros", "ones"):
        return np.full(shape, law == "ones", dtype)
    fan_in, fan_out = fans(shape)
    n = fan_in if law.startswith("he") else (fan_in + fan_out) / 2
    variance = (2 if law.startswith("he") else 1) / n
    size = math.prod(shape)
    if law.endswith("uniform"):
        drawn = (2 * uniforms(seed, Stream.INITIALIZER, 0, index, size) - 1) * np.sqrt(3 * variance)
    else:
        drawn = _truncated_normals(seed, index, size) * (np.sqrt(variance) / _TRUNCATED_DEVIATION)
    return drawn.reshape(shape).astype(dtype)


def _truncated_normals(seed, index, size):
    """Draw standard normals within two deviations; what falls outside is drawn again, in further epochs of the key."""
    drawn = normals(seed, Stream.INITIALIZER, 0, index, size)
    epoch = 0
    while (outside := np.flatnonzero(np.abs(drawn) > 2)).size:
        epoch += 1
        drawn[outside] = normals(seed, Stream.INITIALIZER, epoch, index, outside.size)
    return drawn
