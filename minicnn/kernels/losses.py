"""Losses from logits, with their gradients, in float64 inside. See reference for the equations and derivations."""

import math

import numpy as np

from minicnn.kernels.runtime.jit import kernel

__all__ = ["binary_crossentropy", "categorical_crossentropy", "mean_squared_error"]


@kernel
def binary_crossentropy(z, t, scale, losses, dz):
    """Write the scaled loss of each row of logits z (N, K) against t to losses (N,), and its gradient to dz."""
    N, K = z.shape
    for n in range(N):
        total = 0.0
        for k in range(K):
            logit, target = np.float64(z[n, k]), np.float64(t[n, k])
            e = math.exp(-abs(logit))
            # NaN fails the test and so stays NaN
            total += (0.0 if logit <= 0 else logit) - logit * target + math.log1p(e)
            dz[n, k] = ((1.0 if logit >= 0 else e) / (1.0 + e) - target) * scale[n]
        losses[n] = total * scale[n]


@kernel
def categorical_crossentropy(z, t, scale, losses, dz):
    """Write the scaled loss of each row of logits z (N, K) against distributions t to losses, its gradient to dz."""
    N, K = z.shape
    for n in range(N):
        top = np.float64(z[n, 0])
        for k in range(K):
            logit = np.float64(z[n, k])
            if logit > top or logit != logit:
                top = logit
        total = 0.0
        for k in range(K):
            total += math.exp(z[n, k] - top)
        log_sum = math.log(total)
        loss = 0.0
        for k in range(K):
            shifted = np.float64(z[n, k]) - top
            loss += t[n, k] * (log_sum - shifted)
            dz[n, k] = (math.exp(shifted - log_sum) - t[n, k]) * scale[n]
        losses[n] = loss * scale[n]


@kernel
def mean_squared_error(z, t, scale, losses, dz):
    """Write the scaled squared error of each row of z (N, K) against t to losses (N,), and its gradient to dz."""
    N, K = z.shape
    for n in range(N):
        total = 0.0
        for k in range(K):
            difference = np.float64(z[n, k]) - t[n, k]
            total += difference * difference
            dz[n, k] = 2.0 * difference * scale[n]
        losses[n] = total * scale[n]
