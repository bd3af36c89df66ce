"""The numerical properties that operations and layers must have. Each is itself tested with a wrong operation."""

import hashlib

import numpy as np

__all__ = ["assert_adjoint", "assert_gradient", "assert_rounded", "assert_near_largest", "assert_same_bits", "digest",
           "as_tuple"]


def as_tuple(result):
    return result if isinstance(result, tuple) else (result,)


def assert_adjoint(forward, backward, v, dy):
    """<A v, dy> = <v, A^T dy> for the linear map `forward` and its adjoint `backward` (numerics A1)."""
    image, back = forward(v), backward(dy)
    assert image.shape == dy.shape and back.shape == v.shape
    scale = np.linalg.norm(image) * np.linalg.norm(dy) + np.linalg.norm(v) * np.linalg.norm(back)
    gap = abs(np.vdot(image, dy) - np.vdot(v, back))
    assert gap <= 1e-12 * scale, f"<A v, dy> and <v, A' dy> differ by {gap / (scale or 1):.1e} of their scale"


def assert_gradient(forward, gradient, x, dy, h=1e-5, bar=1e-7, seed=0):
    """`gradient` (at x, for dy) agrees with a central difference of <forward(x), dy> along a random direction (A2)."""
    direction = np.random.default_rng(seed).standard_normal(x.shape)
    numeric = np.vdot((forward(x + h * direction) - forward(x - h * direction)) / (2 * h), dy)
    terms = gradient * direction
    assert gradient.shape == x.shape
    error = abs(numeric - terms.sum()) / max(np.abs(terms).sum(), 1e-3)
    assert error <= bar, f"the gradient is off by {error:.1e}, the bar is {bar:.0e}"


def assert_rounded(got, exact, magnitude, factor=8):
    """Each element is within `factor` units of its precision times the sum of its terms' magnitudes (A3)."""
    assert got.shape == exact.shape
    error, bound = np.abs(got.astype(np.float64) - exact), factor * np.finfo(got.dtype).eps * magnitude
    units = np.max(error / np.maximum(magnitude, 1e-300)) / np.finfo(got.dtype).eps
    assert (error <= bound).all(), f"off by {units:.1f} eps of the magnitude, the bound is {factor}"


def assert_near_largest(got, exact, bar=1e-5):
    """No element is off by more than `bar` times the largest (A4)."""
    error = np.abs(got.astype(np.float64) - exact).max() / np.abs(exact).max()
    assert error <= bar, f"off by {error:.1e} of the largest, the bar is {bar:.0e}"


def assert_same_bits(got, expected):
    assert got.shape == expected.shape and got.dtype == expected.dtype
    assert got.tobytes() == expected.tobytes(), f"{np.mean(got != expected):.1%} of the elements differ"


def digest(array):
    """Return a value that changes with any byte, the shape or the dtype of an array."""
    return array.shape, str(array.dtype), hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
