"""One optimizer step of one parameter, in a single pass. Outputs may be the inputs. See reference for the equations."""

import math
from typing import NamedTuple

from minicnn.core.validation import check_alike      # custom optimizers call these kernels directly
from minicnn.kernels.runtime.jit import device, kernel
from minicnn.kernels.runtime.simd import add, divide, load, multiply, root, splat, store, subtract, width
from minicnn.kernels.runtime.threads import run
from minicnn.kernels.runtime.work_queue import claim

__all__ = ["adam", "sgd"]

_BLOCK = 16384          # elements in a unit


class _Rates(NamedTuple):
    """The numbers of Adam: Python's own, which numba tells from each other faster than NumPy's."""

    rate: float
    one_minus_1: float
    one_minus_2: float
    epsilon: float


def adam(w, m, v, dw, rate, beta_1, beta_2, epsilon, w_new, m_new, v_new):
    """Write the parameter and its two moments after one step of Adam."""
    check_alike("adam", w, m, v, dw, w_new, m_new, v_new)
    rates = _Rates(float(rate), float(1 - beta_1), float(1 - beta_2), float(epsilon))
    run(_adam, -(-w.size // _BLOCK), w.reshape(-1), m.reshape(-1), v.reshape(-1), dw.reshape(-1), rates,
        w_new.reshape(-1), m_new.reshape(-1), v_new.reshape(-1))


@kernel
def _adam(w, m, v, dw, rates, w_new, m_new, v_new, scratch, queue, lane):
    as_dtype = w.dtype.type
    rate, one_minus_1 = as_dtype(rates.rate), as_dtype(rates.one_minus_1)
    one_minus_2, epsilon = as_dtype(rates.one_minus_2), as_dtype(rates.epsilon)
    unit = claim(queue, lane)
    while unit >= 0:
        first, last = unit * _BLOCK, min((unit + 1) * _BLOCK, w.size)
        whole = last - (last - first) % width(w)
        for i in range(first, whole, width(w)):
            _adam_vector(w, m, v, dw, i, rates, w_new, m_new, v_new)
        for i in range(whole, last):
            mi = m[i] + one_minus_1 * (dw[i] - m[i])
            vi = v[i] + one_minus_2 * (dw[i] * dw[i] - v[i])
            w_new[i] = w[i] - rate * mi / (math.sqrt(vi) + epsilon)
            m_new[i] = mi
            v_new[i] = vi
        unit = claim(queue, lane)


@device
def _adam_vector(w, m, v, dw, i, rates, w_new, m_new, v_new):
    """Do the same for a vector. LLVM makes no vectors of the loop itself where outputs may be the inputs: 5 x slower."""
    g, mi, vi, (rate, one_minus_1, one_minus_2, epsilon) = load(dw, i), load(m, i), load(v, i), rates
    mi = add(mi, multiply(splat(w, one_minus_1), subtract(g, mi)))
    vi = add(vi, multiply(splat(w, one_minus_2), subtract(multiply(g, g), vi)))
    change = divide(multiply(splat(w, rate), mi), add(root(vi), splat(w, epsilon)))
    store(w_new, i, subtract(load(w, i), change))
    store(m_new, i, mi)
    store(v_new, i, vi)


def sgd(w, velocity, dw, learning_rate, momentum, nesterov, w_new, velocity_new):
    """Write the parameter and its velocity after one step of gradient descent with momentum."""
    check_alike("sgd", w, velocity, dw, w_new, velocity_new)
    as_dtype = w.dtype.type
    run(_sgd, -(-w.size // _BLOCK), w.reshape(-1), velocity.reshape(-1), dw.reshape(-1), as_dtype(learning_rate),
        as_dtype(momentum), nesterov, w_new.reshape(-1), velocity_new.reshape(-1))


@kernel
def _sgd(w, velocity, dw, learning_rate, momentum, nesterov, w_new, velocity_new, scratch, queue, lane):
    unit = claim(queue, lane)
    while unit >= 0:
        first, last = unit * _BLOCK, min((unit + 1) * _BLOCK, w.size)
        whole = last - (last - first) % width(w)
        for i in range(first, whole, width(w)):
            step = multiply(splat(w, learning_rate), load(dw, i))
            vi = subtract(multiply(splat(w, momentum), load(velocity, i)), step)
            change = subtract(multiply(splat(w, momentum), vi), step) if nesterov else vi
            store(w_new, i, add(load(w, i), change))
            store(velocity_new, i, vi)
        for i in range(whole, last):
            step = learning_rate * dw[i]
            vi = momentum * velocity[i] - step
            w_new[i] = w[i] + (momentum * vi - step if nesterov else vi)
            velocity_new[i] = vi
        unit = claim(queue, lane)
