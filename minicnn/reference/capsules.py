"""Capsules: numbers that belong together, whose length says how likely something is there; routing, lengths, the margin loss.

Sabour, Frosst and Hinton, "Dynamic routing between capsules", NeurIPS 2017, in the form of the code of COVID-CAPS (Afshar et al.,
Pattern Recognition Letters 138:638, 2020). In addition to the notation of the package: I capsules in, J capsules out, of D numbers
each, R rounds. x . y is the product of two capsules, a sum over D.
"""

import numpy as np

__all__ = ["EPSILON", "squash", "squash_gradient", "routing", "routing_gradient", "length", "length_gradient", "margin"]

EPSILON = 1e-7                  # is added to the square of a length: its root has a slope at 0


def squash(x):
    """Return capsules of a length below 1, in the same direction: y = x sqrt(s) / (1 + s), s = x . x + EPSILON.

    >>> squash(np.array([[3.0, 4.0]])).round(4).tolist()
    [[0.5769, 0.7692]]
    """
    x64 = x.astype(np.float64)
    s = _dot(x64, x64) + EPSILON
    return (x64 * np.sqrt(s) / (1 + s)).astype(x.dtype)


def squash_gradient(dy, x):
    """Return dx of `squash`.

    y = g(s) x with g = sqrt(s) / (1 + s), and ds = 2 x . dx, so dx = g dy + 2 g' (x . dy) x, where
    g' = (1 / (2 sqrt(s)) (1 + s) - sqrt(s)) / (1 + s)^2 = (1 - s) / (2 sqrt(s) (1 + s)^2).

    >>> squash_gradient(np.array([[1.0, 1.0]]), np.zeros((1, 2))).round(6).tolist()
    [[0.000316, 0.000316]]
    """
    x64, dy64 = x.astype(np.float64), dy.astype(np.float64)
    s = _dot(x64, x64) + EPSILON
    root = np.sqrt(s)
    return (root / (1 + s) * dy64 + (1 - s) / (root * (1 + s) ** 2) * _dot(x64, dy64) * x64).astype(dy.dtype)


def routing(u, routings):
    """Route predictions to the capsules that they agree with.

    u[i, j] is what input capsule i predicts of output capsule j. Round r = 1 .. R weighs the predictions by c, and

        s_r[j] = sum_i c_r[i, j] u[i, j],      o_r[j] = squash(s_r[j]),

    where c_1 = 1 / J, and c_r[i] is later the softmax of b[i] over the *output* capsules j: an input capsule has one share to give.
    b[i, j] = o_{r-1}[j] . u[i, j], the agreement, which replaces that of the round before. (Sabour et al. add it up.)

    Parameters
    ----------
    u : ndarray, shape (N, I, J, D)
    routings : int >= 1, R

    Returns
    -------
    y : ndarray, shape (N, J, D): o_R
    sums : ndarray, shape (N, R, J, D), float64: s_1 .. s_R

    >>> u = np.array([[[[1.0], [0.0]], [[2.0], [0.0]]]])        # two capsules, which predict one of two
    >>> [routing(u, R)[0].ravel().round(3).tolist() for R in (1, 2)]
    [[0.692, 0.0], [0.837, 0.0]]
    """
    N, _, J, D = u.shape
    u64, sums = u.astype(np.float64), np.empty((N, routings, J, D))
    for r in range(routings):
        sums[:, r] = _weighed(_coefficients(u64, sums, r), u64)
    return squash(sums[:, -1]).astype(u.dtype), sums


def routing_gradient(dy, u, sums):
    """Return du of `routing`, through all rounds.

    Backwards, from do_R = dy. With ds_r[j] = squash_gradient(do_r[j], s_r[j]), s_r = sum_i c_r u gives

        dc_r[i, j] = ds_r[j] . u[i, j],    and to du[i, j] its part c_r[i, j] ds_r[j];

    the softmax db[i, j] = c_r[i, j] (dc_r[i, j] - sum_k c_r[i, k] dc_r[i, k]); and b = o_{r-1} . u

        do_{r-1}[j] = sum_i db[i, j] u[i, j],    and to du[i, j] its part db[i, j] o_{r-1}[j].

    In the first round c is constant: du[i, j] gets ds_1[j] / J.

    Parameters
    ----------
    dy : ndarray, shape (N, J, D)
    u : ndarray, shape (N, I, J, D)
    sums : ndarray, shape (N, R, J, D), float64, of `routing`
    """
    u64, do, du = u.astype(np.float64), dy.astype(np.float64), np.zeros(u.shape)
    for r in reversed(range(sums.shape[1])):
        c, ds = _coefficients(u64, sums, r), squash_gradient(do, sums[:, r])
        du += c * ds[:, None]
        if r:
            dc = _dot(ds[:, None], u64)
            db = c * (dc - (c * dc).sum(axis=2, keepdims=True))
            du += db * squash(sums[:, r - 1])[:, None]
            do = _weighed(db, u64)
    return du.astype(u.dtype)


def length(x):
    """Return the length of each capsule: y = sqrt(x . x), (N, J, D) -> (N, J).

    >>> length(np.array([[[3.0, 4.0], [0.0, 0.0]]])).tolist()
    [[5.0, 0.0]]
    """
    x64 = x.astype(np.float64)
    return np.sqrt(_dot(x64, x64)[..., 0]).astype(x.dtype)


def length_gradient(dy, x, y):
    """Return dx of `length`: y^2 = x . x, so dx = dy x / y; 0 for a capsule of length 0, which has no direction.

    >>> x = np.array([[[3.0, 4.0], [0.0, 0.0]]])
    >>> length_gradient(np.ones((1, 2)), x, length(x)).round(3).tolist()
    [[[0.6, 0.8], [0.0, 0.0]]]
    """
    slope = np.divide(dy, y, out=np.zeros(y.shape), where=y != 0)
    return (slope[..., None] * x).astype(dy.dtype)


def margin(z, t, scale):
    """Return the margin loss of lengths z against targets t, summed over the classes, and its gradient.

    L = sum_k t_k max(0.9 - z_k, 0)^2 + 0.5 (1 - t_k) max(z_k - 0.1, 0)^2: a class that is there costs nothing from a length of 0.9 on,
    one that is not up to 0.1. dL/dz_k = -2 t_k max(0.9 - z_k, 0) + (1 - t_k) max(z_k - 0.1, 0).

    Parameters
    ----------
    z : ndarray, shape (N, K), lengths of capsules
    t : ndarray, shape (N, K), targets in [0, 1]
    scale : ndarray, shape (N,), float64

    Returns
    -------
    losses : ndarray, shape (N,), float64
    dz : ndarray, shape (N, K)

    >>> losses, dz = margin(np.array([[0.4, 0.3]]), np.array([[1.0, 0.0]]), np.ones(1))
    >>> losses.round(3).tolist(), dz.round(3).tolist()
    ([0.27], [[-1.0, 0.2]])
    """
    there, absent = (np.maximum(z64, 0) for z64 in (0.9 - z.astype(np.float64), z.astype(np.float64) - 0.1))
    losses = (t * there**2 + 0.5 * (1 - t) * absent**2).sum(axis=1)
    return losses * scale, (((1 - t) * absent - 2 * t * there) * scale[:, None]).astype(z.dtype)


def _coefficients(u, sums, r):
    """Return c of round r, counted from 0, shape (N, I, J, 1) or one that repeats to it."""
    if r == 0:
        return np.full((1, 1, 1, 1), 1 / u.shape[2])
    b = _dot(squash(sums[:, r - 1])[:, None], u)
    e = np.exp(b - b.max(axis=2, keepdims=True))
    return e / e.sum(axis=2, keepdims=True)


def _dot(a, b):
    return (a * b).sum(axis=-1, keepdims=True)


def _weighed(c, u):
    """Return the sum over i of c[i, j] u[i, j]."""
    return (c * u).sum(axis=1)
