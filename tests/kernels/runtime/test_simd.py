"""The vectors of numba, lane by lane: each operation against the same thing done to one number at a time."""

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from minicnn.kernels.runtime import jit, simd
from minicnn.kernels.runtime.jit import device, kernel
from minicnn.kernels.runtime.simd import (REGISTER_BYTES, add, add_to_float64, broadcast, choose, divide, equal, fma,
                                          from_float64, load, load_bytes, load_first, lowest_bit, maximum, multiply, pick,
                                          pointer, rectify, root, splat, store, store_bytes, store_first, store_float64,
                                          subtract, total, where_positive, width, zeros)
from tests.support.strategies import DTYPES, normals

LANES = {dtype: REGISTER_BYTES // np.dtype(dtype).itemsize for dtype in DTYPES}
ROW = 40            # one operation writes to one row, so this many numbers are a vector and what lies around it
ROWS = ["load", "broadcast", "splat", "zeros", "fma", "add", "subtract", "multiply", "divide", "root", "maximum",
        "rectify", "where_positive", "choose", "load_bytes", "pick", "total", "element", "store_first", "load_first",
        "from_float64"]
WHOLE = ["equal", "lowest_bit"]                 # results that are one whole number
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
each_way = pytest.mark.parametrize("way", ["array", "pointer"])


@device
def _operate(a, b, c, d, e, s, at, number, count, out, wide, bytes_, whole):
    u, v, w = load(a, at), load(b, at), load(c, at)
    store(out, at, u)
    store(out, ROW + at, broadcast(a, at))
    store(out, 2 * ROW + at, splat(a, s))
    store(out, 3 * ROW + at, zeros(a))
    store(out, 4 * ROW + at, fma(u, v, w))
    store(out, 5 * ROW + at, add(u, v))
    store(out, 6 * ROW + at, subtract(u, v))
    store(out, 7 * ROW + at, multiply(u, v))
    store(out, 8 * ROW + at, divide(u, v))
    store(out, 9 * ROW + at, root(u))
    store(out, 10 * ROW + at, maximum(u, v))
    store(out, 11 * ROW + at, rectify(u))
    store(out, 12 * ROW + at, where_positive(u, v))
    store(out, 13 * ROW + at, choose(u, v, w, load(d, at)))
    store_bytes(bytes_, at, load(d, at), count)
    store_first(out, 18 * ROW + at, u, count)
    store(out, 19 * ROW + at, load_first(a, at, count))
    store(out, 20 * ROW + at, from_float64(a, wide, at))
    store(out, 14 * ROW + at, load_bytes(a, bytes_, at))
    store(out, 15 * ROW + at, pick(u, v, load(e, at), 1))
    out[16 * ROW + at] = total(u)
    out[17 * ROW + at] = a[at + 1]
    add_to_float64(wide, at, u)
    store_float64(wide, ROW + at, u)
    whole[0], whole[1] = equal(u, v), lowest_bit(number)
    return width(a)


# One kernel for all operations and both ways: a compilation costs more than all these tests.
@kernel
def operate(a, b, c, d, e, s, at, number, count, by_pointer, out, wide, bytes_, whole):
    """Write each operation's result to its own row of out, `at` elements into it; return how many lanes there are."""
    if by_pointer:
        # `back` elements before the place: negative and positive offsets from a pointer are both in use.
        back = 2
        return _operate(pointer(a, back), pointer(b, back), pointer(c, back), pointer(d, back), pointer(e, back), s,
                        at - back, number, count, pointer(out, back), pointer(wide, back), pointer(bytes_, back),
                        pointer(whole, 0))
    return _operate(a, b, c, d, e, s, at, number, count, out, wide, bytes_, whole)


def run(dtype, at=0, way="array", s=1.5, number=1, count=ROW, **given):
    """Return {operation: the row that `operate` wrote}, 9 where nothing was written, and the inputs a to e."""
    drawn = dict(a=normals(0, (ROW,), dtype), b=normals(1, (ROW,), dtype), c=normals(2, (ROW,), dtype),
                 d=np.random.default_rng(3).integers(0, 256, ROW),
                 e=np.random.default_rng(4).integers(0, 2 * LANES[dtype] - 1, ROW)) | given
    inputs = [drawn[name].astype(dtype) for name in "abcde"]
    out, wide, bytes_ = np.full(len(ROWS) * ROW, 9, dtype), np.arange(2.0 * ROW), np.full(ROW, 9, np.uint8)
    whole = np.full(2, -9)
    assert operate(*inputs, dtype(s), at, number, count, way == "pointer", out, wide, bytes_, whole) == LANES[dtype]
    rows = dict(zip(ROWS, out.reshape(-1, ROW)), add_to_float64=wide[:ROW], store_float64=wide[ROW:],
                store_bytes=bytes_)
    return rows | dict(zip(WHOLE, whole.tolist())), *inputs


def by_halves(numbers):
    while len(numbers) > 1:
        numbers = numbers[:len(numbers) // 2] + numbers[len(numbers) // 2:]
    return numbers[0]


def in_numpy(dtype, at, a, b, c, d, e):
    """Return {operation: what it should write to its lanes}, but for fma."""
    lanes = slice(at, at + LANES[dtype])
    u, v, w, z, n = a[lanes], b[lanes], c[lanes], d[lanes], e[lanes].astype(int)
    with np.errstate(all="ignore"):
        return {"load": u, "broadcast": np.full_like(u, a[at]), "splat": np.full_like(u, 1.5),
                "zeros": np.zeros_like(u),
                "add": u + v, "subtract": u - v, "multiply": u * v, "divide": u / v, "root": np.sqrt(u),
                "maximum": np.maximum(u, v), "rectify": np.where(u <= 0, dtype(0), u),
                "where_positive": np.where(u > 0, v, dtype(0)), "choose": np.where(np.isnan(u) | (u > v), w, z),
                "load_bytes": z, "pick": np.concatenate([u, v])[n + 1], "total": by_halves(u)[None],
                "element": a[at + 1][None], "store_first": u, "load_first": u, "store_float64": u.astype(float),
                "from_float64": np.arange(float(ROW))[lanes].astype(dtype),
                "add_to_float64": np.arange(float(ROW))[lanes] + u, "store_bytes": z.astype(np.uint8)}


def test_every_name_is_tested():
    others = {"add_to_float64", "store_float64", "as_float64", "store_bytes", "pointer", "store", "width", "REGISTER_BYTES"}
    assert set(ROWS + WHOLE) - {"element"} | others == set(simd.__all__)


def test_a_register_is_one_that_llvm_knows():
    assert REGISTER_BYTES in (16, 32, 64)
    assert {type(dtype(0)).__name__: lanes for dtype, lanes in LANES.items()} == \
        {"float32": REGISTER_BYTES // 4, "float64": REGISTER_BYTES // 8}


@each_way
@each_dtype
@pytest.mark.parametrize("at", [0, 1, 3, "end"])
def test_each_lane_does_its_own_work_and_no_other(dtype, at, way):
    at = ROW - LANES[dtype] if at == "end" else at
    rows, *inputs = run(dtype, at, way, a=np.abs(normals(0, (ROW,))))
    for name, expected in in_numpy(dtype, at, *inputs).items():
        lanes = slice(at, at + len(expected))
        np.testing.assert_array_equal(rows[name][lanes], expected, err_msg=name, strict=True)
        before = {"add_to_float64": np.arange(ROW), "store_float64": np.arange(ROW, 2 * ROW)}.get(name, np.full(ROW, 9))
        beside = np.delete(rows[name], lanes) == np.delete(before, lanes)
        assert beside.all(), f"{name} wrote beside its lanes"
    assert (np.delete(rows["fma"], slice(at, at + LANES[dtype])) == 9).all()


@each_way
@each_dtype
def test_only_the_first_lanes_are_stored_and_loaded(dtype, way):
    for at in (0, 1, ROW - LANES[dtype]):
        for count in range(-1, LANES[dtype] + 2):
            rows, a, _, _, d, _ = run(dtype, at, way, count=count)
            for name, numbers in (("store_first", a), ("store_bytes", d.astype(np.uint8))):
                expected = np.full(ROW, 9, numbers.dtype)
                lanes = slice(at, at + min(max(count, 0), LANES[dtype]))
                expected[lanes] = numbers[lanes]
                np.testing.assert_array_equal(rows[name], expected, err_msg=f"{name}, {count}", strict=True)
            loaded = np.where(np.arange(LANES[dtype]) < count, a[at:at + LANES[dtype]], dtype(0))
            np.testing.assert_array_equal(rows["load_first"][at:at + LANES[dtype]], loaded, strict=True)


@each_dtype
def test_a_total_goes_by_halves_and_in_no_other_order(dtype):
    others = {"one after another": lambda lanes: np.cumsum(lanes)[-1],
              "neighbours first": lambda lanes: by_halves(lanes.reshape(2, -1, order="F").ravel())}
    noticed = dict.fromkeys(others, 0)
    for seed in range(50):
        rows, a, *_ = run(dtype, a=normals(seed, (ROW,)))
        lanes = a[:LANES[dtype]]
        assert rows["total"][0] == by_halves(lanes)
        for order, sum_of in others.items():
            noticed[order] += sum_of(lanes) != rows["total"][0]
    assert LANES[dtype] == 2 or min(noticed.values()) > 0, noticed         # of two there is one order


@each_way
@each_dtype
def test_equality_is_a_bit_for_each_lane(dtype, way):
    a, b = (np.random.default_rng(seed).choice([0.0, -0.0, 1, 2, np.nan, np.inf], ROW) for seed in (1, 2))
    for at in (0, 1, ROW - LANES[dtype]):
        rows, a, b, *_ = run(dtype, at, way, a=a, b=b)
        assert rows["equal"] == sum(1 << lane for lane in range(LANES[dtype]) if a[at + lane] == b[at + lane])
    ones = np.ones(ROW)
    assert run(dtype, a=ones, b=ones)[0]["equal"] == 2**LANES[dtype] - 1
    assert run(dtype, a=ones, b=-ones)[0]["equal"] == 0


def test_the_lowest_bit_is_a_place():
    for place in range(63):
        for number in (1 << place, -1 << place, (1 << place) | 1 << 62, (5 << place) % 2**62 or 1 << place):
            assert run(np.float32, number=number)[0]["lowest_bit"] == place
    assert run(np.float32, number=-2**63)[0]["lowest_bit"] == 63


def halfway(number):
    """Return the two exact numbers halfway between a float and its neighbours: what rounds to it lies between them."""
    return [(Fraction(float(number)) + Fraction(float(np.nextafter(number, number.dtype.type(end))))) / 2
            for end in (-np.inf, np.inf)]


@each_dtype
def test_a_multiply_add_a_quotient_and_a_root_are_rounded_once(dtype):
    twice = 0
    for seed in range(20):
        # u v + w, with w near -u v: most of the digits of the product are left.
        a, b = np.abs(normals(seed, (ROW,), dtype)), normals(seed + 99, (ROW,), dtype)
        rows, a, b, c, *_ = run(dtype, a=a, b=b, c=-(a * b) * dtype(1 + 1e-3))
        twice += (rows["fma"] != a * b + c)[:LANES[dtype]].sum()
        for lane in range(LANES[dtype]):
            u, v, w = (Fraction(float(x[lane])) for x in (a, b, c))
            below, above = halfway(rows["fma"][lane])
            assert below <= u * v + w <= above
            below, above = halfway(rows["divide"][lane])
            assert below <= u / v <= above
            below, above = halfway(rows["root"][lane])
            assert below**2 <= u <= above**2
    assert twice > 5 * LANES[dtype], "two roundings would hardly have been noticed"


@each_dtype
def test_a_multiply_add_keeps_what_the_product_alone_loses(dtype):
    # (1 + e)^2 - (1 + 2e) = e^2. The product alone rounds to 1 + 2e, so two roundings would leave 0.
    e = dtype({np.float32: 2.0**-12, np.float64: 2.0**-27}[dtype])
    one = np.ones(ROW, dtype)
    assert ((one + e) * (one + e) - (one + 2 * e) == 0).all()
    rows, *_ = run(dtype, a=one + e, b=one + e, c=-(one + 2 * e))
    assert (rows["fma"][:LANES[dtype]] == e * e).all()


def edges(dtype):
    """Return all pairs of numbers at the edges, as two arrays."""
    tiny, large = np.finfo(dtype).smallest_subnormal, np.finfo(dtype).max
    values = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, tiny, -tiny, 1, -1, large, -large], dtype)
    return np.repeat(values, len(values)), np.tile(values, len(values))


@each_way
@each_dtype
def test_nan_infinity_zero_and_subnormals_are_what_the_rules_say(dtype, way):
    us, vs = edges(dtype)
    for first in range(0, len(us), LANES[dtype]):
        # The last ones again, where they do not fill a vector.
        at = np.minimum(np.arange(first, first + ROW), len(us) - 1)
        rows, *inputs = run(dtype, 0, way, a=us[at], b=vs[at], c=np.full(ROW, 7.0), d=np.full(ROW, 8.0))
        for name, expected in in_numpy(dtype, 0, *inputs).items():
            got = rows[name][:len(expected)]
            np.testing.assert_array_equal(got, expected, err_msg=name)
            if name != "maximum":           # which of two zeros is the larger is not said
                known = ~np.isnan(expected)
                assert (np.signbit(got) == np.signbit(expected))[known].all(), name
        u, v = us[at][:LANES[dtype]], vs[at][:LANES[dtype]]
        assert (np.isnan(rows["maximum"][:len(u)]) == (np.isnan(u) | np.isnan(v))).all()
        with np.errstate(all="ignore"):     # here product and sum are exact, or NaN, or infinite
            np.testing.assert_array_equal(rows["fma"][:len(u)], (u.astype(np.longdouble) * v + 7).astype(dtype))


@each_dtype
@pytest.mark.parametrize("lane", range(16))
def test_nan_and_infinity_stay_in_their_lane(dtype, lane):
    lane %= LANES[dtype]
    for value in (np.nan, np.inf, -np.inf):
        a = np.ones(ROW, dtype)
        a[lane] = value
        rows, *_ = run(dtype, a=a)
        for name in ("load", "fma", "add", "subtract", "multiply", "divide"):
            finite = np.isfinite(rows[name][:LANES[dtype]])
            assert finite.sum() == LANES[dtype] - 1 and not finite[lane], name


@pytest.mark.parametrize("first", range(0, 256, 16))
def test_every_byte_is_stored_as_itself(first):
    for dtype in DTYPES:
        numbers = np.arange(first, first + ROW) % 256
        rows, *_ = run(dtype, d=numbers)
        assert rows["store_bytes"].tolist() == numbers[:LANES[dtype]].tolist() + [9] * (ROW - LANES[dtype])


# ---- Registers of other CPUs -----------------------------------------------------------------------------------------

def with_registers_of(count, *command):
    """Run Python with vectors of `count` bytes and compiled kernels of their own; return what it printed."""
    environment = os.environ | {"MINICNN_VECTOR_BYTES": str(count),
                                "MINICNN_CACHE_DIR": f"{os.environ['MINICNN_CACHE_DIR']}/registers-{count}"}
    done = subprocess.run([sys.executable, *command], env=environment, cwd=Path(__file__).parents[3], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


other_registers = pytest.mark.skipif(os.environ.get("MINICNN_VECTOR_BYTES"), reason="the run with other registers")


@other_registers
@pytest.mark.soak
@pytest.mark.parametrize("count", [count for count in (16, 32, 64) if count != REGISTER_BYTES])
def test_registers_of_another_size_compute_the_same(count):
    # LLVM splits vectors that the CPU does not have, so all three sizes run anywhere.
    said = with_registers_of(count, "-m", "pytest", "-q", "--no-header", "-p", "no:randomly", 
                             "tests/kernels/runtime/test_simd.py", "tests/kernels/test_convolution.py", "-k", "(test_simd or every_kind_of_block) and not float64")
    passed = int(said.rpartition(" passed")[0].split()[-1])
    assert passed > 30 and "failed" not in said, said[-3000:]


@other_registers
def test_the_kernel_cache_knows_the_registers():
    other = 16 if REGISTER_BYTES > 16 else 32
    said = with_registers_of(other, "-c", "from minicnn.kernels.runtime import jit; print(jit.FOLDER.name)")
    assert said.startswith("kernels-") and jit.FOLDER.name != said.strip()
