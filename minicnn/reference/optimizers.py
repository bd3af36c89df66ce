"""Optimizers: one step of one parameter."""

import numpy as np

__all__ = ["adam", "sgd"]


def adam(w, m, v, dw, rate, beta_1, beta_2, epsilon):
    """Return (w, m, v) after one step of Adam (Kingma & Ba 2015, section 2, the efficient form).

    m <- m + (1 - beta_1) (dw - m), v <- v + (1 - beta_2) (dw^2 - v), w <- w - rate m / (sqrt(v) + epsilon).
    `rate` = learning_rate sqrt(1 - beta_2^t) / (1 - beta_1^t) and `epsilon` = epsilon-hat are float64 numbers that
    optimizers/ computes from the integer t.

    >>> w, m, v = adam(np.ones(1), np.zeros(1), np.zeros(1), np.full(1, 0.1), 1e-3 * 0.001**0.5 / 0.1, 0.9, 0.999, 1e-7)
    >>> f"{w.item():.10f}"
    '0.9990000316'
    """
    one_minus_1, one_minus_2 = w.dtype.type(1 - beta_1), w.dtype.type(1 - beta_2)
    m = m + one_minus_1 * (dw - m)
    v = v + one_minus_2 * (dw * dw - v)
    return w - w.dtype.type(rate) * m / (np.sqrt(v) + w.dtype.type(epsilon)), m, v


def sgd(w, velocity, dw, learning_rate, momentum, nesterov):
    """Return (w, velocity) after one step of gradient descent with momentum, in Keras' form.

    velocity <- momentum velocity - learning_rate dw; w <- w + velocity, or with Nesterov's look-ahead
    w <- w + momentum velocity - learning_rate dw.

    >>> sgd(np.ones(1), np.zeros(1), np.ones(1), 0.1, 0.9, False)
    (array([0.9]), array([-0.1]))
    """
    momentum, step = w.dtype.type(momentum), w.dtype.type(learning_rate) * dw
    velocity = momentum * velocity - step
    return w + (momentum * velocity - step if nesterov else velocity), velocity
