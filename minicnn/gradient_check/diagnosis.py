"""The likely cause of a wrong gradient, inferred from the pattern of its errors: one function for each pattern."""

import itertools

import numpy as np

__all__ = ["likely_cause", "FLOAT32"]

FLOAT32 = "computed in float32"


def likely_cause(analytic, numeric, batch=1, dy=None):
    """Return how `analytic` differs from `numeric`, as a sentence, or an empty string.

    Parameters
    ----------
    analytic, numeric : ndarray of the same shape; `numeric` is NaN where it is not known
    batch : int, N, to recognise a mean that is missing or taken twice
    dy : ndarray, optional: the gradient of the output, to recognise a sum over the wrong axis

    >>> numeric = np.array([[1.0, 2.0], [3.0, 4.0]])
    >>> likely_cause(2 * numeric, numeric)
    'each is 2 times what it should be: a factor 2 too many, or added to an old gradient'
    >>> likely_cause(numeric.T.copy(), numeric)
    'these are the right numbers transposed'
    """
    if not np.isfinite(analytic).all():
        return "it holds NaN or infinity"
    known = np.isfinite(numeric)
    a, n, complete = analytic[known], numeric[known], known.all()
    largest = np.abs(n).max(initial=0.0)
    if not a.any():
        return "the gradient is missing: it is 0 everywhere"
    if not largest:
        return "it should be 0: the output does not depend on this array"
    error = np.abs(a - n).max() / largest
    if error < 3e-5:
        return f"{FLOAT32}: an error of {error:.0e} of the largest number, at every step"
    wrong = np.abs(a - n) > 1e-6 * largest
    return (_factor(a, n, batch, dy, largest)
            or complete and (_rearranged(analytic, numeric, largest) or _wrong_axis(analytic, dy)
                             or _factor_by_channel(analytic, numeric, largest) or _shared_constant(analytic, numeric))
            or wrong.sum() == 1 and a.size > 1 and "a single number is wrong"
            or not a[wrong].any() and "it is 0 where it should not be: part of the gradient is dropped"
            or not n[wrong].any() and "it should be 0: a gradient passes where none should"
            or complete and _overlap(analytic, numeric, largest)
            or not wrong.all() and f"{(~wrong).sum():,} of this array are right"
            or "")


def _factor(a, n, batch, dy, largest):
    """Return the cause of one wrong factor for all numbers, or None."""
    clear = np.abs(n) > 1e-3 * largest
    ratios = a[clear] / n[clear]
    ratio = float(np.median(ratios))
    if np.abs(a - ratio * n).max() > 1e-5 * abs(ratio) * largest or abs(ratio - 1) < 1e-5 or len(ratios) < 2:
        return None
    of_two = batch == 2
    causes = [
        (-1, "the sign is flipped"),
        (2, "each is 2 times what it should be: a factor 2 too many, or added to an old gradient"
            + ", or the mean over N = 2 samples is missing" * of_two),
        (1 / 2, "each is 1/2 of what it should be: a factor 2 is missing"
                + ", or the mean over N = 2 samples is taken twice" * of_two),
        (1 / batch, f"each is 1/N of what it should be (N = {batch}): the mean over the batch is taken twice"),
        (batch, f"each is N times what it should be (N = {batch}): the mean over the batch is missing")]
    if dy is not None and dy.ndim > 1:
        positions, sizes = dy.size // dy.shape[-1], " x ".join(map(str, dy.shape[:-1]))
        causes.append((1 / positions, f"each is 1/{positions} of what it should be ({sizes}): a mean of dy instead of "
                                      "the sum"))
    divisor = max(2, round(1 / ratio)) if 0 < ratio < 1 else 2
    causes.append((1 / divisor, f"each is 1/{divisor} of what it should be: a constant factor"))
    return next((cause for value, cause in causes if abs(ratio / value - 1) < 1e-5),
                f"each is {ratio:.6g} times what it should be: a constant factor")


def _rearranged(analytic, numeric, largest):
    def equal(candidate):
        return candidate.shape == analytic.shape and np.abs(candidate - analytic).max() <= 1e-5 * largest

    if analytic.ndim == 2 and equal(numeric.T):
        return "these are the right numbers transposed"
    spatial = (0, 1) if analytic.ndim == 4 else tuple(range(analytic.ndim))
    if equal(np.flip(numeric, spatial)):
        return "these are the right numbers in reverse order: the kernel is flipped"
    for axis in range(analytic.ndim):
        for shift in (1, -1):
            if analytic.shape[axis] > 2 and equal(np.roll(numeric, shift, axis)):
                return f"these are the right numbers shifted by one along axis {axis}"
    if analytic.ndim <= 4:
        for order in itertools.permutations(range(analytic.ndim)):
            if order != tuple(range(analytic.ndim)) and equal(numeric.transpose(order).reshape(analytic.shape)):
                return f"these are the right numbers in another order of axes, {order}"
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
    return "wrong by one factor for each index of the last axis: a factor for each channel is missing or too many"


def _shared_constant(analytic, numeric):
    """Numbers normalized together have gradients that add up to 0: a constant added to all of them changes nothing."""
    channels = tuple(range(analytic.ndim - 1))
    for axes, where in ((channels, "in each channel of the batch"), ((-1,), "along the last axis")):
        off, size = ([np.abs(array.sum(axis=axes)), np.abs(array).sum(axis=axes)] for array in (analytic, numeric))
        if (size[0] <= 1e-6 * size[1]).all() and (off[0] > 1e-3 * off[1]).any():
            return (f"{where} it should add up to 0: what the numbers there share, a mean, a variance or a sum, is "
                    "treated as a constant")
    return None


def _overlap(analytic, numeric, largest):
    if analytic.ndim != 4 or min(analytic.shape[1:3]) < 3:
        return None
    wrong = (np.abs(analytic - numeric) > 1e-6 * largest).any(axis=(0, 3))
    if wrong[::len(wrong) - 1, ::wrong.shape[1] - 1].any() or not wrong[1:-1, 1:-1].any():
        return None
    return ("right at the corners and wrong inside, where windows overlap: overwritten where it should be added, or "
            "added where it should be averaged")
