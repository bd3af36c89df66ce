"""Dense: against loops, and the adjoint law."""

import numpy as np
from hypothesis import given, settings, strategies as st

from minicnn import reference as ref
from tests.support.laws import assert_adjoint
from tests.support.reference_checks import close
from tests.support.strategies import cases


@given(st.integers(1, 4), st.integers(1, 6), st.integers(1, 5), st.integers(0, 99))
def test_dense_and_its_gradients_are_their_loops(N, D, F, seed):
    x, w, b, dy = (np.random.default_rng([seed, i]).standard_normal(shape)
                   for i, shape in enumerate([(N, D), (D, F), (F,), (N, F)]))
    y, dx, dw, db = np.zeros((N, F)) + b, np.zeros((N, D)), np.zeros((D, F)), np.zeros(F)
    for n, d, f in np.ndindex(N, D, F):
        y[n, f] += x[n, d] * w[d, f]
        dx[n, d] += dy[n, f] * w[d, f]
        dw[d, f] += x[n, d] * dy[n, f]
    for n, f in np.ndindex(N, F):
        db[f] += dy[n, f]
    close(ref.dense(x, w, b), y)
    close(ref.dense_input_gradient(dy, w), dx)
    for got, expected in zip(ref.dense_weight_gradient(dy, x), (dw, db), strict=True):
        close(got, expected)


@settings(max_examples=200)
@given(cases())
def test_dense_gradients_are_adjoints(case):
    N, D, F = case.N, case.H * case.C, case.F
    x, w, dy = case.normals(N, D), case.normals(D, F), case.normals(N, F)
    assert_adjoint(lambda v: ref.dense(v, w, np.zeros(F)), lambda dy: ref.dense_input_gradient(dy, w), x, dy)
    assert_adjoint(lambda v: ref.dense(x, v, np.zeros(F)), lambda dy: ref.dense_weight_gradient(dy, x)[0], w, dy)
    assert_adjoint(lambda v: ref.dense(0 * x, w, v), lambda dy: ref.dense_weight_gradient(dy, x)[1], case.normals(F),
                   dy)
