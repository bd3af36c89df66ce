"""The likely cause of a wrong gradient, read from the pattern of its errors.

A teacher who sees 0.4 beside 0.2 asks at once whether everything is twice too large. So does this file: each function
looks for one pattern and says it in a sentence, or returns None.
"""

import itertools

import numpy as np

__all__ = ["likely_cause", "FLOAT32"]

FLOAT32 = "computed in float32"


def likely_cause(analytic, numeric, batch=1, dy=None):
    """Return a sentence on how `analytic` differs from `numeric`, or an empty string.

    Parameters
    ----------
    analytic, numeric : ndarray of the same shape; NaN in `numeric` where nothing was computed
    batch : int, N, to recognise a mean that is missing or taken twice
    dy : ndarray, optional: the gradient that came in, to recognise a sum over the wrong axis

    >>> numeric = np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> likely_cause(2 * numeric, numeric)
    'each is 2 times what it should be: a factor 2 too many, or added to an old gradient'
    >>> likely_cause(numeric.T.copy(), numeric)
    'these are the right numbers transposed'
    """
    if not np.isfinite(analytic).all():
        return "it holds NaN or infinity"
    known = np.isfinite(numeric)
    a, n = analytic[known], numeric[known]
    largest = np.abs(n).max(initial=0.0)
    if not a.any():
        return "the gradient is missing: it is 0 everywhere"
    if not largest:
        return "there should be none: the output does not depend on it"
    rules = [lambda: _float32(a, n, largest), lambda: _factor(a, n, batch, dy, largest)]
    if known.all():
        rules += [lambda: _rearranged(analytic, numeric, largest), lambda: _wrong_axis(analytic, dy),
                  lambda: _factor_by_channel(analytic, numeric, largest)]
    rules += [lambda: _one(a, n, largest), lambda: _zeros(a, n, largest)]
    if known.all():
        rules += [lambda: _overlap(analytic, numeric, largest)]
    rules += [lambda: _some(a, n, largest)]
    return next((sentence for sentence in (rule() for rule in rules) if sentence), "")


def _factor(a, n, batch, dy, largest):
    clear = np.abs(n) > 1e-3 * largest
    ratios = a[clear] / n[clear]
    ratio = float(np.median(ratios))
    if np.abs(a - ratio * n).max() > 1e-5 * abs(ratio) * largest or abs(ratio - 1) < 1e-5 or len(ratios) < 2:
        return None
    if abs(ratio + 1) < 1e-5:
        return "the sign is flipped"
    if abs(ratio - 2) < 1e-5:
        return ("each is 2 times what it should be: a factor 2 too many, or added to an old gradient"
                + (", or the mean over N = 2 samples missing" if batch == 2 else ""))
    if abs(ratio - 0.5) < 1e-5:
        return ("each is 1/2 of what it should be: a factor 2 is missing"
                + (", or the mean over N = 2 samples is taken twice" if batch == 2 else ""))
    if batch > 1 and abs(ratio * batch - 1) < 1e-5:
        return f"each is 1/N of what it should be (N = {batch}): the mean over the batch is taken twice"
    if batch > 1 and abs(ratio - batch) < 1e-5 * batch:
        return f"each is N times what it should be (N = {batch}): the mean over the batch is missing"
    whole = round(1 / ratio) if 0 < ratio < 1 else 0
    if dy is not None and dy.ndim > 1 and whole == dy.size // dy.shape[-1] and abs(ratio * whole - 1) < 1e-5:
        sizes = " x ".join(map(str, dy.shape[:-1]))
        return f"each is 1/{whole} of what it should be ({sizes}): a mean over dy where the sum belongs"
    if whole > 1 and abs(ratio * whole - 1) < 1e-5:
        return f"each is 1/{whole} of what it should be: a constant factor"
    return f"each is {ratio:.6g} times what it should be: a constant factor"


def _rearranged(analytic, numeric, largest):
    def equal(candidate):
        return candidate.shape == analytic.shape and np.abs(candidate - analytic).max() <= 1e-5 * largest

    if analytic.ndim == 2 and equal(numeric.T):
        return "these are the right numbers transposed"
    spatial = (0, 1) if analytic.ndim == 4 else tuple(range(analytic.ndim))
    if equal(np.flip(numeric, spatial)):
        return "these are the right numbers back to front: the kernel is flipped"
    for axis in range(analytic.ndim):
        for shift in (1, -1):
            if analytic.shape[axis] > 2 and equal(np.roll(numeric, shift, axis)):
                return f"these are the right numbers shifted by one along axis {axis}"
    if analytic.ndim <= 4:
        for order in itertools.permutations(range(analytic.ndim)):
            if order != tuple(range(analytic.ndim)) and equal(numeric.transpose(order).reshape(analytic.shape)):
                return f"these are the right numbers laid out in another order of axes, {order}"
    return None


def _wrong_axis(analytic, dy):
    if dy is None or analytic.ndim != 1:
        return None
    for axis in range(dy.ndim - 1):
        others = tuple(i for i in range(dy.ndim) if i != axis)
        if dy.shape[axis] == len(analytic) and np.allclose(dy.sum(axis=others), analytic, rtol=1e-6, atol=0):
            return f"the sum of dy runs over the wrong axes: over {others} instead of all but the last"
    return None


def _factor_by_channel(analytic, numeric, largest):
    if analytic.ndim < 2 or analytic.size <= analytic.shape[-1]:
        return None
    a, n = (array.reshape(-1, array.shape[-1]) for array in (analytic, numeric))
    squares = (n * n).sum(axis=0)
    ratios = (a * n).sum(axis=0) / np.where(squares > 0, squares, 1)            # least squares, channel by channel
    if np.abs(a - ratios * n).max() > 1e-5 * largest:
        return None
    return "off by one factor for each index of the last axis: a factor for each channel is missing or too many"


def _overlap(analytic, numeric, largest):
    if analytic.ndim != 4 or min(analytic.shape[1:3]) < 3:
        return None
    wrong = (np.abs(analytic - numeric) > 1e-6 * largest).any(axis=(0, 3))
    if wrong[::len(wrong) - 1, ::wrong.shape[1] - 1].any() or not wrong[1:-1, 1:-1].any():
        return None
    return ("right at the corners and wrong inside, where several windows meet: overwritten where it should be added, "
            "or added where it should be averaged")


def _float32(a, n, largest):
    error = np.abs(a - n).max() / largest
    if error < 3e-5:
        return f"{FLOAT32}: off by {error:.0e} of the largest, which no step makes less"
    return None


def _one(a, n, largest):
    wrong = np.abs(a - n) > 1e-6 * largest
    if wrong.sum() == 1 and a.size > 1:
        return "one number alone is wrong"
    return None


def _zeros(a, n, largest):
    wrong = np.abs(a - n) > 1e-6 * largest
    if not a[wrong].any():
        return "it is 0 where it should not be: part of the gradient is dropped"
    if not n[wrong].any():
        return "it should be 0: a gradient passes where none should"
    return None


def _some(a, n, largest):
    wrong = np.abs(a - n) > 1e-6 * largest
    return f"{(~wrong).sum():,} of this array are right" if not wrong.all() else None
