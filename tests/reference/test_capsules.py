"""Capsules: squash, routing and lengths by hand and by plain loops; gradients by differences; the margin loss."""

import math

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from minicnn import reference as ref
from minicnn.reference.capsules import EPSILON, squash, squash_gradient
from tests.support.laws import assert_gradient
from tests.support.reference_checks import close, each_dtype
from tests.support.strategies import normals


def routed_by_loops(u, rounds):
    """Return o of one sample's predictions, lists [i][j][d] of Python's numbers, and the sums of each round."""
    inputs, outputs, D = range(len(u)), range(len(u[0])), range(len(u[0][0]))
    b, told = [[0.0 for _ in outputs] for _ in inputs], []
    for number in range(rounds):
        c = [[math.exp(b[i][j]) / sum(math.exp(b[i][k]) for k in outputs) for j in outputs] for i in inputs]
        sums = [[sum(c[i][j] * u[i][j][d] for i in inputs) for d in D] for j in outputs]
        squares = [sum(x * x for x in one) + 1e-7 for one in sums]
        o = [[x * math.sqrt(s) / (1 + s) for x in one] for one, s in zip(sums, squares)]
        b = [[sum(o[j][d] * u[i][j][d] for d in D) for j in outputs] for i in inputs]
        told.append(sums)
    return o, told


@settings(max_examples=30)
@given(st.integers(1, 3), st.integers(1, 6), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.integers(0, 99))
def test_routing_by_loops(N, I, J, D, rounds, seed):
    u = 2 * normals(seed, (N, I, J, D))
    y, sums = ref.routing(u, rounds)
    for n in range(N):
        expected, told = routed_by_loops(u[n].tolist(), rounds)
        close(y[n], expected)
        close(sums[n], told)


@settings(max_examples=40)
@given(st.integers(1, 3), st.integers(1, 6), st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.integers(0, 99))
def test_gradients_go_through_all_rounds(N, I, J, D, rounds, seed):
    u, dy = normals(seed, (N, I, J, D)), normals(seed + 1, (N, J, D))
    du = ref.routing_gradient(dy, u, ref.routing(u, rounds)[1])
    assert_gradient(lambda u: ref.routing(u, rounds)[0], du, u, dy)


def test_a_gradient_that_takes_the_shares_for_constants_is_another():
    u, dy = normals(0, (2, 5, 3, 4)), normals(1, (2, 3, 4))
    sums = ref.routing(u, 3)[1]
    b = (squash(sums[:, 1])[:, None] * u).sum(axis=-1, keepdims=True)
    c = np.exp(b) / np.exp(b).sum(axis=2, keepdims=True)
    with pytest.raises(AssertionError, match="the gradient is off"):
        assert_gradient(lambda u: ref.routing(u, 3)[0], c * squash_gradient(dy, sums[:, 2])[:, None], u, dy)


@each_dtype
def test_squash_at_its_ends(dtype):
    x = np.array([[0, 0], [1e-9, 0], [0, -1], [3e4, 4e4]], dtype)
    lengths = np.linalg.norm(squash(x).astype(np.float64), axis=1)
    expected = [r * math.sqrt(r * r + EPSILON) / (1 + r * r + EPSILON) for r in (0, float(x[1, 0]), 1, 5e4)]
    np.testing.assert_allclose(lengths, expected, rtol=4 * np.finfo(dtype).eps)
    assert squash(x).dtype == dtype and np.isfinite(squash_gradient(np.ones_like(x), x)).all()
    assert_gradient(squash, squash_gradient(normals(1, (4, 3)), normals(0, (4, 3))), normals(0, (4, 3)), normals(1, (4, 3)))


def test_an_input_capsule_has_one_share_to_give():
    """What agrees with one output capsule leaves less for the others; large predictions do not overflow."""
    u = np.zeros((1, 4, 2, 1))
    u[0, :3, 0], u[0, 3, 1] = 5, 5
    shares = ref.routing(u, 4)[1][0, :, :, 0] / 5               # of three and of one capsule: rounds down
    assert (np.diff(shares, axis=0)[0] > 0).all() and shares[0].tolist() == [1.5, 0.5] and shares[3, 0] > 2.9
    assert np.isfinite(ref.routing(np.float32(1e30) * normals(0, (1, 3, 2, 2), np.float32), 3)[0]).all()


def test_lengths_and_a_capsule_without_direction():
    x, dy = normals(0, (3, 4, 5)), normals(1, (3, 4))
    y = ref.length(x)
    close(y, np.linalg.norm(x, axis=2))
    assert_gradient(ref.length, ref.length_gradient(dy, x, y), x, dy)
    x[1, 2] = 0
    dx = ref.length_gradient(dy, x, ref.length(x))
    assert np.isfinite(dx).all() and not dx[1, 2].any() and dx[1, 1].any()


def test_the_margins():
    z, t = np.array([[0.95, 0.05], [0.5, 0.5]]), np.array([[1.0, 0.0], [0.0, 1.0]])
    losses, dz = ref.margin(z, t, np.array([1.0, 0.5]))
    close(losses, [0, 0.5 * (0.4**2 + 0.5 * 0.4**2)])
    close(dz, [[0, 0], [0.5 * 0.4, -0.4]])
