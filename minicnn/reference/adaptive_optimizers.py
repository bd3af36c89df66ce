"""Optimizers that divide by the size of past gradients, beside Adam: one step of one parameter."""

import numpy as np

from minicnn.reference.optimizers import adam

__all__ = ["amsgrad", "rmsprop"]


def amsgrad(w, m, v, v_hat, dw, rate, beta_1, beta_2, epsilon):
    """Return (w, m, v, v_hat) after one step of Adam that divides by the root of the largest v so far.

    m and v are Adam's; v_hat <- max(v_hat, v), w <- w - rate m / (sqrt(v_hat) + epsilon) (Reddi, Kale & Kumar, "On the
    convergence of Adam and beyond", ICLR 2018), so that a step does not grow again once large gradients are long past.

    >>> w, m, v, v_hat = amsgrad(np.ones(1), np.zeros(1), np.zeros(1), np.ones(1), np.ones(1), 0.1, 0.5, 0.5, 0.0)
    >>> w, v, v_hat
    (array([0.95]), array([0.5]), array([1.]))
    """
    _, m, v = adam(w, m, v, dw, rate, beta_1, beta_2, epsilon)
    v_hat = np.maximum(v_hat, v)
    return w - w.dtype.type(rate) * m / (np.sqrt(v_hat) + w.dtype.type(epsilon)), m, v, v_hat


def rmsprop(w, v, velocity, dw, learning_rate, rho, momentum, epsilon):
    """Return (w, v, velocity) after one step of RMSprop with momentum, in Keras' form: epsilon is under the root.

    v <- v + (1 - rho) (dw^2 - v), velocity <- momentum velocity + learning_rate dw / sqrt(v + epsilon), w <- w - velocity
    (Hinton, Neural networks for machine learning, lecture 6e, 2012).

    >>> rmsprop(np.ones(1), np.zeros(1), np.zeros(1), np.full(1, 2.0), 0.1, 0.75, 0.0, 0.0)
    (array([0.8]), array([1.]), array([0.2]))
    """
    momentum, epsilon = w.dtype.type(momentum), w.dtype.type(epsilon)
    v = v + w.dtype.type(1 - rho) * (dw * dw - v)
    velocity = momentum * velocity + w.dtype.type(learning_rate) * dw / np.sqrt(v + epsilon)
    return w - velocity, v, velocity
