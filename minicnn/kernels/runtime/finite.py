"""Is every number of an array finite? A step asks it of its pixels and its gradients, on all threads."""

from minicnn.kernels.runtime.jit import kernel
from minicnn.kernels.runtime.simd import add, fma, load, pointer, total, width, zeros
from minicnn.kernels.runtime.threads import run, workspace
from minicnn.kernels.runtime.work_queue import claim

__all__ = ["all_finite"]

_BLOCK = 32768          # elements in a unit


def all_finite(array):
    """Return whether no element of a C-contiguous array of float32 or float64 is NaN or infinite."""
    units = -(-array.size // _BLOCK)
    answers = workspace("finite", units, array.dtype)
    run(_all_finite, units, array.reshape(-1), answers)
    return not answers.any()            # NaN counts as true


@kernel
def _all_finite(x, answers, scratch, queue, lane):
    """Write 0 for each block that is finite and NaN for each that is not: 0 x is 0 for a finite x, else NaN."""
    x_at, z = pointer(x, 0), zeros(x)
    unit = claim(queue, lane)
    while unit >= 0:
        first, last = unit * _BLOCK, min((unit + 1) * _BLOCK, len(x))
        whole = last - (last - first) % (4 * width(x))
        a, b, c, d = z, z, z, z
        for i in range(first, whole, 4 * width(x)):
            a, b = fma(load(x_at, i), z, a), fma(load(x_at, i + width(x)), z, b)
            c, d = fma(load(x_at, i + 2 * width(x)), z, c), fma(load(x_at, i + 3 * width(x)), z, d)
        answers[unit] = total(add(add(a, b), add(c, d)))
        for i in range(whole, last):
            answers[unit] += x_at[i] * 0
        unit = claim(queue, lane)
