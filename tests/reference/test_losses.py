"""Losses: their definitions, extremes, and gradients against differences."""

import math

import numpy as np
import pytest
from hypothesis import given, strategies as st

from minicnn import reference as ref
from tests.support.laws import assert_gradient
from tests.support.reference_checks import close
from tests.support.strategies import OPERATIONS, cases

logits = st.floats(-50, 50)


@given(st.lists(st.tuples(logits, st.booleans()), min_size=1, max_size=5), st.floats(0.1, 3))
def test_binary_crossentropy_is_its_definition(pairs, scale):
    z, t = np.array([pairs]).transpose(2, 0, 1).astype(float)
    losses, dz = ref.binary_crossentropy(z, t, np.array([scale]))
    # -log p with p = sigmoid(z), or 1 - p = sigmoid(-z): no difference is taken, so nothing cancels
    expected = sum(math.log1p(math.exp(-a)) if hit else math.log1p(math.exp(a)) for a, hit in pairs)
    np.testing.assert_allclose(losses, expected * scale, rtol=1e-12)
    close(dz[0], [(1 / (1 + math.exp(-a)) - hit) * scale for a, hit in pairs])


@given(st.lists(logits, min_size=1, max_size=5), st.integers(0, 4), st.floats(0.1, 3))
def test_categorical_crossentropy_is_its_definition(row, k, scale):
    k %= len(row)
    losses, dz = ref.categorical_crossentropy(np.array([row]), np.eye(len(row))[[k]], np.array([scale]))
    p = [math.exp(a) / math.fsum(map(math.exp, row)) for a in row]
    np.testing.assert_allclose(losses, -math.log(p[k]) * scale, rtol=1e-12, atol=1e-15)
    close(dz[0], [(p[i] - (i == k)) * scale for i in range(len(row))])


@given(st.lists(st.tuples(logits, logits), min_size=1, max_size=5), st.floats(0.1, 3))
def test_mean_squared_error_is_its_definition(pairs, scale):
    z, t = np.array([pairs]).transpose(2, 0, 1)
    losses, dz = ref.mean_squared_error(z, t, np.array([scale]))
    np.testing.assert_allclose(losses, math.fsum((a - b) ** 2 for a, b in pairs) * scale, rtol=1e-12)
    close(dz[0], [2 * (a - b) * scale for a, b in pairs])


@pytest.mark.parametrize("z, t, loss, dz", [(1e4, 0, 1e4, 1), (-1e4, 1, 1e4, -1), (1e4, 1, 0, 0), (-1e4, 0, 0, 0),
                                            (0, 0.5, math.log(2), 0)])
def test_binary_crossentropy_of_extremes(z, t, loss, dz):
    losses, gradient = ref.binary_crossentropy(np.array([[z]], np.float32), np.array([[t]], np.float32), np.ones(1))
    assert losses.tolist() == [loss] and gradient.tolist() == [[dz]] and losses.dtype == np.float64


def test_categorical_crossentropy_of_extremes():
    z = np.array([[1e4, -1e4], [1e4, -1e4]], np.float32)
    losses, dz = ref.categorical_crossentropy(z, np.eye(2, dtype=np.float32), np.ones(2))
    assert losses.tolist() == [0, 2e4] and dz.tolist() == [[0, 0], [1, -1]]


def test_a_loss_scales_each_sample_on_its_own():
    z, t = np.array([[1.0], [2.0], [3.0]]), np.zeros((3, 1))
    losses, dz = ref.mean_squared_error(z, t, np.array([1.0, 0.0, 0.5]))
    assert losses.tolist() == [1, 0, 4.5] and dz.tolist() == [[2], [0], [3]]


@pytest.mark.parametrize("loss", ["binary_crossentropy", "categorical_crossentropy", "mean_squared_error"])
@given(cases())
def test_loss_gradients(loss, case):
    z, t, scale = OPERATIONS[loss](case, np.float64)
    _, dz = getattr(ref, loss)(z, t, scale)
    assert_gradient(lambda z: getattr(ref, loss)(z, t, scale)[0], dz, z, np.ones(case.N))
