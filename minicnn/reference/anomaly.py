"""Anomaly scores: the deviation loss, which leaves normal samples near 0 and pushes anomalies beyond a margin."""

import numpy as np

__all__ = ["DEVIATION_MARGIN", "deviation"]

DEVIATION_MARGIN = 5.0          # standard deviations of the prior; the probability to lie beyond is 3e-7


def deviation(z, t, scale):
    """Return the deviation loss of scores z against targets t, summed over the outputs, and its gradient.

    Scores of normal samples are taken to be drawn from a prior, N(0, 1), so that z is how many standard deviations a score lies from
    its mean. Normal samples (t = 0) are to lie near it, anomalies (t = 1) at least a = 5 above:

        L = (1 - t) |z| + t max(a - z, 0),      dL/dz = (1 - t) sign(z) - t (1 where z < a, else 0)

    (Pang, Shen and van den Hengel, "Deep anomaly detection with deviation networks", KDD 2019, equations 4 to 7; mean and
    deviation are those of the prior, and not of 5,000 numbers drawn from it.)

    Parameters
    ----------
    z : ndarray, shape (N, D)
    t : ndarray, shape (N, D), targets in [0, 1]
    scale : ndarray, shape (N,), float64

    Returns
    -------
    losses : ndarray, shape (N,), float64
    dz : ndarray, shape (N, D)

    >>> losses, dz = deviation(np.array([[-0.5], [1.0]]), np.array([[0.0], [1.0]]), np.ones(2))
    >>> losses.tolist(), dz.tolist()
    ([0.5, 4.0], [[-1.0], [-1.0]])
    """
    z64 = z.astype(np.float64)
    short = np.maximum(DEVIATION_MARGIN - z64, 0)
    losses = ((1 - t) * np.abs(z64) + t * short).sum(axis=1)
    return losses * scale, (((1 - t) * np.sign(z64) - t * (short > 0)) * scale[:, None]).astype(z.dtype)
