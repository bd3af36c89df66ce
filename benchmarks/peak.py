"""The peak of floating-point operations of one core: fused multiply-adds without dependencies.

    python -m benchmarks.peak

Twelve independent accumulators hide the latency of the multiply-add (4 cycles, two of them begun in each); the operands
stay in registers.
"""

import numba
import numpy as np

from minicnn.kernels.runtime.simd import fma, load, store, width

__all__ = ["peak_call"]

_ACCUMULATORS = 12


@numba.njit(nogil=True)
def _multiply_adds(a, times):
    """Carry out 12 `times` fused multiply-adds on vectors; a holds 14 vectors and receives the results."""
    step = width(a)
    u, v = load(a, 12 * step), load(a, 13 * step)
    a0, a1, a2, a3 = load(a, 0), load(a, step), load(a, 2 * step), load(a, 3 * step)
    a4, a5, a6, a7 = load(a, 4 * step), load(a, 5 * step), load(a, 6 * step), load(a, 7 * step)
    a8, a9, b0, b1 = load(a, 8 * step), load(a, 9 * step), load(a, 10 * step), load(a, 11 * step)
    for _ in range(times):
        a0, a1, a2, a3 = fma(u, v, a0), fma(u, v, a1), fma(u, v, a2), fma(u, v, a3)
        a4, a5, a6, a7 = fma(u, v, a4), fma(u, v, a5), fma(u, v, a6), fma(u, v, a7)
        a8, a9, b0, b1 = fma(u, v, a8), fma(u, v, a9), fma(u, v, b0), fma(u, v, b1)
    for i, vector in enumerate((a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, b0, b1)):
        store(a, i * step, vector)
    return step


def peak_call(times=100_000):
    """Return (function without arguments, the floating-point operations of one call of it), float32."""
    a = np.linspace(0.5, 1.0, 14 * 16, dtype=np.float32)      # vectors have at most 16 numbers
    lanes = _multiply_adds(a, 1)
    a[12 * lanes:] = 1e-6
    return lambda: _multiply_adds(a, times), 2 * lanes * _ACCUMULATORS * times


if __name__ == "__main__":
    from benchmarks.measure import interleave
    call, operations = peak_call()
    times = interleave({"peak": call}, rounds=10)["peak"]
    print(f"{operations / np.median(times['rounds']) / 1e6:.1f} GFLOP/s on one core "
          f"(best {operations / times['best'] / 1e6:.1f})")
