"""The relatives of ReLU, element by element, and their gradients."""

import numpy as np

__all__ = ["clipped_relu", "clipped_relu_gradient", "leaky_relu", "leaky_relu_gradient", "elu", "elu_gradient",
           "swish", "swish_gradient", "softplus", "softplus_gradient"]


def clipped_relu(x, max_value):
    """Return min(max(x, 0), max_value), NaN for NaN.

    >>> clipped_relu(np.array([-np.inf, -1.0, 2.0, 7.0, np.nan]), 6.0)
    array([ 0.,  0.,  2.,  6., nan])
    """
    return np.where(x > 0, np.minimum(x, x.dtype.type(max_value)), np.where(np.isnan(x), x, x.dtype.type(0)))


def clipped_relu_gradient(dy, y, max_value):
    """Return dx of `clipped_relu`, from its output: dy where 0 < y < max_value, else 0, at both ends too (TensorFlow).

    >>> clipped_relu_gradient(np.full(4, 5.0), np.array([0.0, 2.0, 6.0, np.nan]), 6.0)
    array([0., 5., 0., 0.])
    """
    return np.where((y > 0) & (y < y.dtype.type(max_value)), dy, dy.dtype.type(0))


def leaky_relu(x, negative_slope):
    """Return x where x > 0, else negative_slope x (Maas et al. 2013).

    >>> leaky_relu(np.array([-np.inf, -1.0, 2.0, np.nan]), 0.25)
    array([ -inf, -0.25,  2.  ,   nan])
    """
    return np.where(x > 0, x, x * x.dtype.type(negative_slope))


def leaky_relu_gradient(dy, y, negative_slope):
    """Return dx of `leaky_relu`, from its output: dy where y > 0, else negative_slope dy, also at 0 (TensorFlow).

    The slope is above 0, so y > 0 where x > 0 and nowhere else.

    >>> leaky_relu_gradient(np.full(3, 4.0), np.array([-0.25, 0.0, 2.0]), 0.25)
    array([1., 1., 4.])
    """
    return np.where(y > 0, dy, dy * dy.dtype.type(negative_slope))


def elu(x, alpha):
    """Return x where x > 0, else alpha (exp(x) - 1) (Clevert et al. 2016).

    By expm1: near 0 the difference exp(x) - 1 would lose all digits.

    >>> elu(np.array([-np.inf, -1e-20, 0.0, 2.0, np.nan]), 1.0)
    array([-1.e+00, -1.e-20,  0.e+00,  2.e+00,      nan])
    """
    return np.where(x > 0, x, x.dtype.type(alpha) * np.expm1(np.minimum(x, 0)))


def elu_gradient(dy, x, alpha):
    """Return dx of `elu`: dy where x > 0, else dy alpha exp(x), also at 0.

    From the output it would be y + alpha, which loses the tail: at x = -20 float32 has y = -alpha.

    >>> elu_gradient(np.full(3, 2.0), np.array([-np.inf, 0.0, 1.0]), 0.5)
    array([0., 1., 2.])
    """
    return np.where(x > 0, dy, dy * (dy.dtype.type(alpha) * np.exp(np.minimum(x, 0))))


def swish(x):
    """Return x sigmoid(x), which is x / (1 + exp(-x)) (Ramachandran et al. 2017; SiLU).

    With e = exp(-|x|) it is x / (1 + e) for x >= 0 and x e / (1 + e) below. At -infinity, where x e would be NaN, it is its
    limit 0.

    >>> swish(np.array([-np.inf, -1000.0, 0.0, 1000.0, np.inf]))
    array([   0.,    0.,    0., 1000.,   inf])
    """
    e, xe = _tail(x)
    return np.where(x >= 0, x, xe) / (1 + e)


def swish_gradient(dy, x):
    """Return dx of `swish`.

    With s = sigmoid(x) and s' = s (1 - s): dy/dx = s + x s (1 - s). By e = exp(-|x|), s (1 - s) = e / (1 + e)^2 on both
    sides, so that no 1 - s is subtracted. At the infinities it is its limits, 0 and 1.

    >>> swish_gradient(np.full(4, 2.0), np.array([-np.inf, 0.0, 1000.0, np.inf]))
    array([0., 1., 2., 2.])
    """
    e, xe = _tail(x)
    return dy * ((np.where(x >= 0, x.dtype.type(1), e) + xe / (1 + e)) / (1 + e))


def _tail(x):
    """Return e = exp(-|x|), and x e, which is 0 where e is."""
    e = np.exp(-np.abs(x))
    return e, np.where(e == 0, x.dtype.type(0), x) * e


def softplus(x):
    """Return log(1 + exp(x)), computed as max(x, 0) + log1p(exp(-|x|)): nothing overflows, no tail is lost.

    >>> softplus(np.array([-np.inf, -50.0, 0.0, 1000.0, np.nan]))
    array([0.00000000e+00, 1.92874985e-22, 6.93147181e-01, 1.00000000e+03,
                      nan])
    """
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def softplus_gradient(dy, y):
    """Return dx of `softplus`, from its output: dy/dx = sigmoid(x) = 1 - 1 / (1 + exp(x)) = 1 - exp(-y), by expm1.

    >>> softplus_gradient(np.full(3, 2.0), np.array([0.0, np.log(2), np.inf]))
    array([0., 1., 2.])
    """
    return dy * -np.expm1(-y)
