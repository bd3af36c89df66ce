"""Logistic regression by Newton's method: for the calibration slope and intercept, and for confounders."""

import numpy as np

from minicnn.reference import sigmoid

__all__ = ["logistic_regression"]

_LONGEST_STEP = 2.0     # far from the solution a Newton step may lead beyond it


def logistic_regression(x, positive, weights=None, penalty=0.0, offset=0.0):
    """Return intercept and coefficients that minimise the weighted cross-entropy + penalty / 2 |coefficients|^2.

    With m = sigmoid(X w + offset) the gradient is X^T (m - t) + penalty w and the Hessian X^T diag(m (1 - m)) X +
    penalty I. The intercept, the first column of X, carries no penalty.

    Parameters
    ----------
    x : ndarray, shape (n, p), float64
    positive : ndarray, shape (n,), bool
    weights : ndarray, shape (b, n), float64, optional: how often each sample counts in each of b regressions (see
        intervals.py); one regression, in which each counts once, where None
    penalty : float
    offset : float or ndarray, shape (n,); added to the log odds

    Returns
    -------
    ndarray, shape (b, 1 + p), float64; NaN where the minimum is not unique or lies at infinity

    >>> logistic_regression(np.zeros((4, 0)), np.array([True, True, True, False])).round(4)     # ln 3
    array([[1.0986]])
    """
    if x.shape[1] > len(x):
        # The coefficients lie in the span of the rows, x^T = Q R: p features x Q do, with coefficients Q^T w.
        q, _ = np.linalg.qr(x.T)
        reduced = logistic_regression(x @ q, positive, weights, penalty, offset)
        return np.hstack([reduced[:, :1], reduced[:, 1:] @ q.T])
    w = np.zeros((1, x.shape[1] + 1))
    if weights is None:
        weights = np.ones((1, len(x)))
    elif len(weights) > 1:      # the solutions for bootstrap samples lie near that for the images themselves
        w = np.nan_to_num(logistic_regression(x, positive, None, penalty, offset))
    w, settled = np.repeat(w, len(weights), axis=0), np.zeros(len(weights), bool)
    x, shrink = np.hstack([np.ones((len(x), 1)), x]), np.r_[0.0, np.full(x.shape[1], float(penalty))]
    for _ in range(60):
        at = np.flatnonzero(~settled)
        if not len(at):
            break
        counts = weights[at] if len(at) < len(weights) else weights
        m = sigmoid(w[at] @ x.T + offset)
        gradient = (counts * (m - positive)) @ x + shrink * w[at]
        hessian = ((counts * m * (1 - m))[:, np.newaxis] * x.T) @ x + np.diag(shrink)
        unique = hessian[:, 0, 0] > 1e-12 if penalty else _is_definite(hessian)     # the intercept carries no penalty
        w[at[~unique]], settled[at[~unique]] = np.nan, True
        at = at[unique]
        step = np.linalg.solve(hessian[unique], gradient[unique][..., np.newaxis])[..., 0]
        w[at] -= np.clip(step, -_LONGEST_STEP, _LONGEST_STEP)
        settled[at] = np.abs(step).max(axis=1) < 1e-9 * (1 + np.abs(w[at]).max(axis=1))
    return np.where(settled[:, np.newaxis], w, np.nan)


def _is_definite(hessian):
    """Return whether each matrix is positive definite, by the determinant of what has a diagonal of ones: (b,) bool."""
    scale = np.sqrt(np.diagonal(hessian, axis1=1, axis2=2))
    scale = np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)
    return np.linalg.det(hessian * scale[:, np.newaxis] * scale[:, :, np.newaxis]) > 1e-12
