"""The tile in registers, and the product that is made of it: every number of rows and columns, from anywhere in memory."""

import numpy as np
import pytest

from minicnn.kernels.runtime.jit import kernel
from minicnn.kernels.runtime.microkernel import (BLOCK, ROWS, cell_sums, columns_of, finished_tile, pack,
                                                 product_row, product_tile, row_terms, window_terms)
from minicnn.kernels.runtime.simd import REGISTER_BYTES, load, pointer, splat, width
from minicnn.kernels.runtime.tile import add_tile, multiply_add, no_sums, rows_of, store_tile
from tests.support.laws import assert_rounded
from tests.support.strategies import DTYPES, normals

each_dtype = pytest.mark.parametrize("dtype", DTYPES)


@kernel
def one_tile(x, at, w, y):
    """Write x[at + 1] w[:2 vectors] to the first three rows of y, add it to the next three."""
    rows = rows_of(pointer(at, 0), 3)
    tile = multiply_add(no_sums(pointer(x, 0), rows, 2), pointer(x, 0), rows, 1, pointer(w, 0), 0)
    step = len(y) // 6
    store_tile(pointer(y, 0), 0, step, tile)
    add_tile(pointer(y, 0), 3 * step, step, tile)


@each_dtype
def test_a_tile_multiplies_each_row_with_each_column(dtype):
    x, at, panel = normals(0, (50,), dtype), np.array([40, 0, 7]), columns_of(np.dtype(dtype))
    w, y = normals(1, (panel,), dtype), np.full((6, panel + 3), 9, dtype)
    one_tile(x, at, w, y.reshape(-1))
    expected = x[at + 1][:, None] * w
    np.testing.assert_array_equal(y[:3, :panel], expected)
    np.testing.assert_array_equal(y[3:, :panel], expected + dtype(9))
    assert (y[:, panel:] == 9).all()


@kernel
def product(x, at, count, terms, w, stride, columns, fresh, out):
    panel = len(out) // ROWS
    product_tile(pointer(x, 0), pointer(at, 0), count, pointer(terms, 0), len(terms), pointer(w, 0), stride, columns,
                 pointer(out, 0), panel, fresh)


@kernel
def finished(x, at, count, terms, w, stride, columns, places, ends, low, out):
    L = width(x)
    end = load(ends, 0), load(ends, L), load(ends, 2 * L), load(ends, 3 * L), splat(x, low)
    finished_tile(pointer(x, 0), pointer(at, 0), count, pointer(terms, 0), len(terms), pointer(w, 0), stride, columns, 0,
                  pointer(out, 0), pointer(places, 0), end)


@kernel
def cell(x, at, terms, w, stride, out):
    sums = cell_sums(pointer(x, 0), pointer(at, 0), pointer(terms, 0), len(terms), pointer(w, 0), stride)
    store_tile(pointer(out, 0), 0, len(out) // 4, sums)


@kernel
def row(x, at, terms, w, stride, panels, out):
    product_row(pointer(x, 0), pointer(at, 0), pointer(terms, 0), len(terms), pointer(w, 0), stride, panels, pointer(out, 0))


@each_dtype
@pytest.mark.parametrize("n", [1, 47, 48, 49, 200, BLOCK])
def test_a_product_of_any_rows_columns_and_terms(dtype, n):
    rng, panel = np.random.default_rng(n), columns_of(np.dtype(dtype))
    x, w = normals(0, (3000,), dtype), normals(1, (n, panel + 5), dtype)
    at, terms = rng.integers(0, 1500, ROWS), rng.integers(0, 1500, n)
    exact = x[at[:, None] + terms].astype(float) @ w.astype(float)
    sizes = np.abs(x[at[:, None] + terms]).astype(float) @ np.abs(w).astype(float)
    bits = {}
    for count in range(1, ROWS + 1):
        for columns in (1, panel // 2, panel // 2 + 1, panel):
            for fresh in (True, False):
                out = np.full(ROWS * panel, np.nan if fresh else 0, dtype)
                product(x, at, count, terms, w.reshape(-1), panel + 5, columns, fresh, out)
                got = out.reshape(ROWS, panel)[:count, :columns]
                assert_rounded(got, exact[:count, :columns], sizes[:count, :columns])
                bits[got[0, 0].tobytes()] = count, columns
    assert len(bits) == 1, "how a product is cut into tiles decides a bit"
    wide = normals(2, (n, 4 * panel), dtype)
    sums = np.full((ROWS, panel), np.nan, dtype)
    product(x, at, ROWS, terms, wide.reshape(-1), 4 * panel, panel, True, sums.reshape(-1))
    for panels in (1, 4):
        out = np.full(panels * panel, np.nan, dtype)
        row(x, at, terms, wide.reshape(-1), 4 * panel, panels, out)
        np.testing.assert_array_equal(out[:panel], sums[0])
    out = np.full((4, panel), np.nan, dtype)
    cell(x, at, terms, wide.reshape(-1), 4 * panel, out.reshape(-1))
    np.testing.assert_array_equal(out, sums[:4])


@each_dtype
def test_a_tile_is_finished_where_it_belongs(dtype):
    """With scale, bias and lower bound, NaN for NaN; numbers between are not touched, and a row past the last is the last again."""
    panel, n = columns_of(np.dtype(dtype)), 30
    rng, w, bias = np.random.default_rng(0), normals(1, (n, panel), dtype), normals(2, (panel,), dtype)
    x, scale = normals(3, (300,), dtype), np.resize(np.array([1, -2, 0.5], dtype), panel)       # products are exact
    x[7] = np.nan
    for count in range(1, ROWS + 1):
        at = rng.integers(8, 200, ROWS)
        at[0] = 0                               # its sums are NaN
        places = rng.permutation(ROWS) * (panel + 3)
        at[count:], places[count:] = at[count - 1], places[count - 1]
        sums = np.empty((ROWS, panel), dtype)
        product(x, at, ROWS, row_terms(n), w.reshape(-1), panel, panel, True, sums.reshape(-1))
        for columns in (panel // 2, panel):
            for low in (0, -np.inf):
                out, expected = (np.full(ROWS * (panel + 3), 9, dtype) for _ in range(2))
                finished(x, at, count, row_terms(n), w.reshape(-1), panel, columns, places, np.concatenate([scale, bias]), low, out)
                for r in range(count):
                    expected[places[r]:places[r] + columns] = np.maximum(sums[r] * scale + bias, dtype(low))[:columns]
                np.testing.assert_array_equal(out, expected)
                assert not np.signbit(out[out == 0]).any()


def test_equal_numbers_do_not_drift():
    """The worst of many constants, at the largest block: what a chain of 96 terms fails."""
    worst, panel, n = 0.0, columns_of(np.dtype(np.float32)), BLOCK
    at, terms = np.zeros(ROWS, int), row_terms(n)
    for seed in range(60):
        x = np.full(n, np.random.default_rng(seed).uniform(0.5, 1), np.float32)
        w = np.random.default_rng(seed + 1000).uniform(0.5, 1, panel).astype(np.float32)
        out = np.empty(ROWS * panel, np.float32)
        product(x, at, ROWS, terms, np.tile(w, n), panel, panel, True, out)
        exact = n * x[0].astype(float) * w
        worst = max(worst, (np.abs(out[:panel] - exact) / exact).max() / np.finfo(np.float32).eps)
    assert 1 < worst < 8


@kernel
def packed(w, terms, stride, columns, out):
    pack(pointer(w, 0), terms, stride, columns, pointer(out, 0))


@each_dtype
def test_panels_hold_each_column_once_and_zeros_behind_the_last(dtype):
    panel = columns_of(np.dtype(dtype))
    for columns in range(1, panel + 1):
        w, out = normals(0, (5, columns), dtype), np.full((5, panel), np.nan, dtype)
        packed(w.reshape(-1), 5, columns, columns, out.reshape(-1))
        np.testing.assert_array_equal(out, np.pad(w, [(0, 0), (0, panel - columns)]))


def test_the_terms_of_a_window_are_where_its_elements_lie():
    image = np.arange(6 * 7 * 3).reshape(6, 7, 3)
    terms = window_terms((0, 2), (0, 1, 4), 3, 21)
    np.testing.assert_array_equal(terms, image[np.ix_([0, 2], [0, 1, 4])].reshape(-1))
    assert REGISTER_BYTES in (16, 32, 64)
