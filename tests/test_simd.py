"""The vectors of numba, lane by lane: each operation against the same thing done to one number at a time."""

import numpy as np
import pytest
from strategies import DTYPES, normals

from minicnn.kernels.jit import kernel
from minicnn.kernels.simd import add, add_to_float64, broadcast, fma, load, splat, store, width

LANES = {np.float32: 8, np.float64: 4}
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


# One kernel for all operations: a compilation costs more than all these tests.
@kernel
def operate(a, b, c, s, at, out, wide):
    """Write each operation's result to its own place in out, `at` elements into rows of 32."""
    store(out, at, load(a, at))
    store(out, 32 + at, broadcast(a, at))
    store(out, 64 + at, splat(a, s))
    store(out, 96 + at, fma(load(a, at), load(b, at), load(c, at)))
    store(out, 128 + at, add(load(a, at), load(b, at)))
    add_to_float64(wide, at, load(a, at))
    return width(a)


def run(dtype, at=0, s=1.5, **given):
    """Return {operation: the row that `operate` wrote}, with 9 where nothing was written, and the inputs."""
    a, b, c = (given.get(name, normals(i, (32,), dtype)) for i, name in enumerate("abc"))
    out, wide = np.full(160, 9, dtype), np.arange(32.0)
    assert operate(a, b, c, dtype(s), at, out, wide) == LANES[dtype]
    return dict(zip(["load", "broadcast", "splat", "fma", "add"], out.reshape(5, 32)), wide=wide), a, b, c


@each_dtype
@pytest.mark.parametrize("at", [0, 1, 3, 24])
def test_each_lane_does_its_own_work_and_no_other(dtype, at):
    rows, a, b, c = run(dtype, at)
    lanes = slice(at, at + LANES[dtype])
    expected = {"load": a[lanes], "broadcast": np.full(LANES[dtype], a[at]), "splat": np.full(LANES[dtype], dtype(1.5)),
                "add": a[lanes] + b[lanes]}
    for name, values in expected.items():
        assert (rows[name][lanes] == values).all(), name
        assert (np.delete(rows[name], lanes) == 9).all(), f"{name} wrote beside its lanes"
    np.testing.assert_allclose(rows["fma"][lanes], a[lanes].astype(float) * b[lanes] + c[lanes], rtol=1e-6)
    assert (np.delete(rows["fma"], lanes) == 9).all()


@each_dtype
def test_a_multiply_add_is_rounded_once(dtype):
    # (1 + e)^2 - (1 + 2e) = e^2. The product alone rounds to 1 + 2e, so two roundings would leave 0.
    e = dtype({np.float32: 2.0**-12, np.float64: 2.0**-27}[dtype])
    one = np.ones(32, dtype)
    assert ((one + e) * (one + e) - (one + 2 * e) == 0).all()
    rows, *_ = run(dtype, a=one + e, b=one + e, c=-(one + 2 * e))
    assert (rows["fma"][:LANES[dtype]] == e * e).all()


@each_dtype
def test_sums_go_on_in_float64(dtype):
    rows, a, *_ = run(dtype, at=2)
    lanes = slice(2, 2 + LANES[dtype])
    expected = np.arange(32.0)
    expected[lanes] += a[lanes].astype(np.float64)
    assert (rows["wide"] == expected).all()


@each_dtype
@pytest.mark.parametrize("lane", range(8))
def test_nan_and_infinity_stay_in_their_lane(dtype, lane):
    lane %= LANES[dtype]
    for value in (np.nan, np.inf, -np.inf, -0.0, np.finfo(dtype).smallest_subnormal):
        a = np.ones(32, dtype)
        a[lane] = value
        rows, _, b, c = run(dtype, a=a)
        for name, expected in [("load", a), ("add", a + b)]:
            assert rows[name][:LANES[dtype]].tobytes() == expected[:LANES[dtype]].tobytes(), name
        finite = np.isfinite(rows["fma"][:LANES[dtype]])
        assert finite.sum() == LANES[dtype] - (not np.isfinite(value)) and finite[lane] == np.isfinite(value)
