"""AMSGrad and RMSprop: one step of one parameter, in a single pass. Outputs may be the inputs. See optimizers/."""

import math

from minicnn.core.validation import check_alike      # custom optimizers call these kernels directly
from minicnn.kernels.optimizers import _BLOCK, _Rates
from minicnn.kernels.runtime.jit import kernel
from minicnn.kernels.runtime.simd import add, divide, load, maximum, multiply, root, splat, store, subtract, width
from minicnn.kernels.runtime.threads import run
from minicnn.kernels.runtime.work_queue import claim

__all__ = ["amsgrad", "rmsprop"]


def amsgrad(w, m, v, v_hat, dw, rate, beta_1, beta_2, epsilon, w_new, m_new, v_new, v_hat_new):
    """Write the parameter, its two moments and the largest second moment after one step of AMSGrad."""
    check_alike("amsgrad", w, m, v, v_hat, dw, w_new, m_new, v_new, v_hat_new)
    rates = _Rates(float(rate), float(1 - beta_1), float(1 - beta_2), float(epsilon))
    run(_amsgrad, -(-w.size // _BLOCK), _flat(w, m, v, v_hat), dw.reshape(-1), rates, _flat(w_new, m_new, v_new, v_hat_new))


def _flat(*arrays):
    return tuple(array.reshape(-1) for array in arrays)


@kernel
def _amsgrad(before, dw, rates, after, scratch, queue, lane):
    (w, m, v, v_hat), (w_new, m_new, v_new, v_hat_new) = before, after
    as_dtype = w.dtype.type
    rate, one_minus_1 = as_dtype(rates.rate), as_dtype(rates.one_minus_1)
    one_minus_2, epsilon = as_dtype(rates.one_minus_2), as_dtype(rates.epsilon)
    unit = claim(queue, lane)
    while unit >= 0:
        first, last = unit * _BLOCK, min((unit + 1) * _BLOCK, w.size)
        whole = last - (last - first) % width(w)
        for i in range(first, whole, width(w)):
            g, mi, vi = load(dw, i), load(m, i), load(v, i)
            mi = add(mi, multiply(splat(w, one_minus_1), subtract(g, mi)))
            vi = add(vi, multiply(splat(w, one_minus_2), subtract(multiply(g, g), vi)))
            hi = maximum(load(v_hat, i), vi)
            change = divide(multiply(splat(w, rate), mi), add(root(hi), splat(w, epsilon)))
            store(w_new, i, subtract(load(w, i), change))
            store(m_new, i, mi)
            store(v_new, i, vi)
            store(v_hat_new, i, hi)
        for i in range(whole, last):
            mi = m[i] + one_minus_1 * (dw[i] - m[i])
            vi = v[i] + one_minus_2 * (dw[i] * dw[i] - v[i])
            hi = v_hat[i]
            if vi > hi or vi != vi:
                hi = vi
            w_new[i] = w[i] - rate * mi / (math.sqrt(hi) + epsilon)
            m_new[i] = mi
            v_new[i] = vi
            v_hat_new[i] = hi
        unit = claim(queue, lane)


def rmsprop(w, v, velocity, dw, learning_rate, rho, momentum, epsilon, w_new, v_new, velocity_new):
    """Write the parameter, its mean square and its velocity after one step of RMSprop with momentum."""
    check_alike("rmsprop", w, v, velocity, dw, w_new, v_new, velocity_new)
    as_dtype = w.dtype.type
    rates = tuple(as_dtype(number) for number in (learning_rate, 1 - rho, momentum, epsilon))
    run(_rmsprop, -(-w.size // _BLOCK), _flat(w, v, velocity), dw.reshape(-1), rates, _flat(w_new, v_new, velocity_new))


@kernel
def _rmsprop(before, dw, rates, after, scratch, queue, lane):
    (w, v, velocity), (w_new, v_new, velocity_new) = before, after
    learning_rate, one_minus, momentum, epsilon = rates
    unit = claim(queue, lane)
    while unit >= 0:
        first, last = unit * _BLOCK, min((unit + 1) * _BLOCK, w.size)
        whole = last - (last - first) % width(w)
        for i in range(first, whole, width(w)):
            g, vi = load(dw, i), load(v, i)
            vi = add(vi, multiply(splat(w, one_minus), subtract(multiply(g, g), vi)))
            step = divide(multiply(splat(w, learning_rate), g), root(add(vi, splat(w, epsilon))))
            ui = add(multiply(splat(w, momentum), load(velocity, i)), step)
            store(w_new, i, subtract(load(w, i), ui))
            store(v_new, i, vi)
            store(velocity_new, i, ui)
        for i in range(whole, last):
            vi = v[i] + one_minus * (dw[i] * dw[i] - v[i])
            ui = momentum * velocity[i] + learning_rate * dw[i] / math.sqrt(vi + epsilon)
            w_new[i] = w[i] - ui
            v_new[i] = vi
            velocity_new[i] = ui
        unit = claim(queue, lane)
