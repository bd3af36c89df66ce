"""Exercise adam: one step of the optimizer Adam, in the form that Keras uses (examples/06_adam_by_hand.py)."""

import numpy as np


def adam(w, m, v, dw, t, learning_rate, beta_1, beta_2, epsilon):
    """Return (w, m, v) after step number t = 1, 2, 3, ...

    m moves a little towards the gradient, m + (1 - beta_1) (dw - m); v moves towards its square, v + (1 - beta_2)
    (dw^2 - v). Both began at 0, so both are too small at first; the rate

        learning_rate sqrt(1 - beta_2^t) / (1 - beta_1^t)

    makes up for it. Then w goes back by rate m / (sqrt(v) + epsilon), with the new m and v.

    Parameters
    ----------
    w, m, v, dw : ndarrays of one shape; they must not be changed in place
    t : int >= 1
    learning_rate, beta_1, beta_2, epsilon : floats

    Returns
    -------
    w, m, v : new ndarrays

    Example
    -------
    w = 1, m = v = 0, dw = 0.5, t = 1, learning_rate = 0.1:   m = 0.05, v = 0.00025, and w goes back by 0.1, to 0.9
    """
    raise NotImplementedError("adam")
