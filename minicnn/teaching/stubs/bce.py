"""Exercise bce: the binary cross-entropy, from logits, with its gradient.

A logit z stands for the probability p = 1 / (1 + exp(-z)). The function must be numerically stable: exp(800) overflows
and log(0) is minus infinity, but the loss at z = -800, t = 1 is 800.
"""

import numpy as np


def bce(z, t):
    """Return the mean over the samples of L = -t log p - (1 - t) log(1 - p), and its gradient with respect to z.

    Parameters
    ----------
    z : ndarray, shape (N,), logits
    t : ndarray, shape (N,), targets in [0, 1]

    Returns
    -------
    loss : float
    dz : ndarray, shape (N,)

    Example
    -------
    z = [0, 0], t = [1, 0]:   p = [0.5, 0.5], loss = log 2 = 0.6931, dz = [-0.25, 0.25]
    """
    raise NotImplementedError("bce")
