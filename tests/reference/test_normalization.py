"""Normalization: against loops, its invariances, the adjoint law where statistics are constants, and differences."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from minicnn import reference as ref
from tests.support.laws import assert_adjoint, assert_gradient
from tests.support.reference_checks import close
from tests.support.strategies import cases, small_cases

EPSILON = 1e-3


def constants(case):
    """Return x, dy, gamma and beta of a case."""
    return (case.normals(*case.x_shape) + 2, case.normals(case.C, *case.x_shape[:3]).reshape(case.x_shape),
            case.normals(case.C, 1)[:, 0], case.normals(case.C, 2)[:, 0])


@given(small_cases())
def test_batch_norm_is_its_loop(case):
    x, _, gamma, beta = constants(case)
    mean, variance = ref.batch_statistics(x)
    y = ref.batch_norm(x, mean, variance, gamma, beta, EPSILON)
    for c in range(case.C):
        numbers = [float(x[place][c]) for place in np.ndindex(x.shape[:3])]
        m = sum(numbers) / len(numbers)
        v = sum((number - m) ** 2 for number in numbers) / len(numbers)         # biased: over M, not M - 1
        close(mean[c], m)
        close(variance[c], v)
        close(y[..., c].ravel(), [gamma[c] * (number - m) / (v + EPSILON) ** 0.5 + beta[c] for number in numbers])


@given(small_cases())
def test_layer_norm_is_its_loop(case):
    x, _, gamma, beta = constants(case)
    y, mean, variance = ref.layer_norm(x, gamma, beta, EPSILON)
    for place in np.ndindex(x.shape[:3]):
        m = sum(x[place]) / case.C
        v = sum((number - m) ** 2 for number in x[place]) / case.C
        close(mean[place], m)
        close(variance[place], v)
        close(y[place], [g * (number - m) / (v + EPSILON) ** 0.5 + b for g, number, b in zip(gamma, x[place], beta)])


@given(cases(), st.booleans())
def test_batch_norm_gradients(case, constant):
    x, dy, gamma, beta = constants(case)
    kept = ref.batch_statistics(case.normals(*case.x_shape[::-1]).T)

    def forward(x, gamma=gamma, beta=beta):
        return ref.batch_norm(x, *(kept if constant else ref.batch_statistics(x)), gamma, beta, EPSILON)
    statistics = kept if constant else ref.batch_statistics(x)
    dx, dgamma, dbeta = ref.batch_norm_gradient(dy, x, *statistics, gamma, EPSILON, constant)
    assert_gradient(forward, dx, x, dy, bar=1e-6)
    assert_gradient(lambda gamma: forward(x, gamma), dgamma, gamma, dy)
    assert_gradient(lambda beta: forward(x, beta=beta), dbeta, beta, dy)


@given(cases())
def test_layer_norm_gradients(case):
    x, dy, gamma, beta = constants(case)
    _, mean, variance = ref.layer_norm(x, gamma, beta, EPSILON)
    dx, dgamma, dbeta = ref.layer_norm_gradient(dy, x, mean, variance, gamma, EPSILON)
    assert_gradient(lambda x: ref.layer_norm(x, gamma, beta, EPSILON)[0], dx, x, dy, bar=1e-6)
    assert_gradient(lambda gamma: ref.layer_norm(x, gamma, beta, EPSILON)[0], dgamma, gamma, dy)
    assert_gradient(lambda beta: ref.layer_norm(x, gamma, beta, EPSILON)[0], dbeta, beta, dy)


@given(cases())
def test_with_constant_statistics_the_gradient_is_the_adjoint(case):
    x, dy, gamma, _ = constants(case)
    mean, variance = ref.batch_statistics(x)
    assert_adjoint(lambda v: ref.batch_norm(v, 0 * mean, variance, gamma, 0 * gamma, EPSILON),
                   lambda dy: ref.batch_norm_gradient(dy, x, mean, variance, gamma, EPSILON, True)[0], x, dy)


@given(cases())
def test_no_gradient_points_where_normalization_is_blind(case):
    """A constant added to a group changes nothing, nor, but for epsilon, does a factor: dx is orthogonal to both."""
    x, dy, gamma, beta = constants(case)
    statistics = ref.batch_statistics(x)
    y = ref.batch_norm(x, *statistics, gamma, beta, EPSILON)
    np.testing.assert_allclose(ref.batch_norm(x + 3, *ref.batch_statistics(x + 3), gamma, beta, EPSILON), y, atol=1e-9)
    dx, *_ = ref.batch_norm_gradient(dy, x, *statistics, gamma, 1e-12, False)
    # Beside what cancels: in a group of two numbers all of dx does, but for epsilon.
    sizes = np.abs(dy * gamma).sum(axis=(0, 1, 2)) / np.sqrt(statistics[1] + 1e-12)
    assert (np.abs(dx.sum(axis=(0, 1, 2))) <= 1e-9 * sizes + 1e-12).all()
    if case.N * case.H * case.W > 1:
        assert (np.abs((dx * (x - statistics[0])).sum(axis=(0, 1, 2))) <= 1e-7 * sizes + 1e-12).all()


@pytest.mark.parametrize("wrong", [lambda dx, z: dx + 1e-3 * z, lambda dx, z: dx + 1e-3])
def test_a_gradient_that_forgets_a_way_is_caught(wrong):
    x, dy = np.random.default_rng(0).normal(size=(2, 6, 3))
    statistics, ones = ref.batch_statistics(x), np.ones(3)
    dx, *_ = ref.batch_norm_gradient(dy, x, *statistics, ones, EPSILON, False)
    z = ref.batch_norm(x, *statistics, ones, 0 * ones, EPSILON)
    with pytest.raises(AssertionError, match="the gradient is off"):
        assert_gradient(lambda x: ref.batch_norm(x, *ref.batch_statistics(x), ones, 0 * ones, EPSILON), wrong(dx, z), x,
                        dy)
