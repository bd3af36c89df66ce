"""Exercise adam: one step of the optimizer Adam, in the form that Keras uses (examples/06_adam_by_hand.py)."""

import numpy as np


def adam(w, m, v, dw, t, learning_rate, beta_1, beta_2, epsilon):
    """Return (w, m, v) after step number t = 1, 2, 3, ...

    The first moment is updated to m + (1 - beta_1) (dw - m), the second to v + (1 - beta_2) (dw^2 - v). Both start at 0
    and are too small at first; the rate

        learning_rate sqrt(1 - beta_2^t) / (1 - beta_1^t)

    corrects this bias. Then w becomes w - rate m / (sqrt(v) + epsilon), with the new m and v.

    Parameters
    ----------
    w, m, v, dw : ndarrays of one shape; do not change them in place
    t : int >= 1
    learning_rate, beta_1, beta_2, epsilon : floats

    Returns
    -------
    w, m, v : new ndarrays

    Example
    -------
    w = 1, m = v = 0, dw = 0.5, t = 1, learning_rate = 0.1:   m = 0.05, v = 0.00025, w = 1 - 0.1 = 0.9
    """
    raise NotImplementedError("adam")
