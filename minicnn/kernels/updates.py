"""One optimizer step of one parameter, in a single pass. Outputs may be the inputs. See reference for the equations."""

import math

from minicnn.kernels.jit import kernel
from minicnn.kernels.threads import run

__all__ = ["adam", "sgd"]

_GRAIN = 32768


def adam(w, m, v, dw, rate, beta_1, beta_2, epsilon, w_new, m_new, v_new):
    """Write the parameter and its two moments after one step of Adam."""
    as_dtype = w.dtype.type
    run(_adam, w.size, w.reshape(-1), m.reshape(-1), v.reshape(-1), dw.reshape(-1), as_dtype(rate),
        as_dtype(1 - beta_1), as_dtype(1 - beta_2), as_dtype(epsilon),
        w_new.reshape(-1), m_new.reshape(-1), v_new.reshape(-1), grain=_GRAIN)


@kernel
def _adam(w, m, v, dw, rate, one_minus_1, one_minus_2, epsilon, w_new, m_new, v_new, start, stop):
    for i in range(start, stop):
        mi = m[i] + one_minus_1 * (dw[i] - m[i])
        vi = v[i] + one_minus_2 * (dw[i] * dw[i] - v[i])
        w_new[i] = w[i] - rate * mi / (math.sqrt(vi) + epsilon)
        m_new[i] = mi
        v_new[i] = vi


def sgd(w, velocity, dw, learning_rate, momentum, nesterov, w_new, velocity_new):
    """Write the parameter and its velocity after one step of gradient descent with momentum."""
    as_dtype = w.dtype.type
    run(_sgd, w.size, w.reshape(-1), velocity.reshape(-1), dw.reshape(-1), as_dtype(learning_rate), as_dtype(momentum),
        nesterov, w_new.reshape(-1), velocity_new.reshape(-1), grain=_GRAIN)


@kernel
def _sgd(w, velocity, dw, learning_rate, momentum, nesterov, w_new, velocity_new, start, stop):
    for i in range(start, stop):
        step = learning_rate * dw[i]
        vi = momentum * velocity[i] - step
        w_new[i] = w[i] + (momentum * vi - step if nesterov else vi)
        velocity_new[i] = vi
