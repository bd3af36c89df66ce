"""The kernels: what the specification says, for any shape, in any number of threads, and inside their arrays.

Every kernel of the fast engine goes through the same tests, with the inputs that `strategies.OPERATIONS` draws.
"""

import ast
import inspect
import shutil
from pathlib import Path

import numpy as np
import pytest
from fence import Fences, survives
from hypothesis import given, settings, strategies as st
from laws import as_tuple, assert_near_largest, assert_rounded, assert_same_bits, digest
from strategies import DTYPES, OPERATIONS, Case, abs_inputs, cases, normals, separated, specified, winograd_cases

from minicnn import kernels, reference as ref
from minicnn.data.augmentation import affine_matrices
from minicnn.kernels.augmentation import affine_warp
from minicnn.kernels.convolution import winograd
from minicnn.kernels.runtime import jit, threads
from minicnn.kernels.runtime.jit import kernel
from minicnn.kernels.runtime.work_queue import TICKET
from minicnn.networks import cov19net

pytestmark = pytest.mark.usefixtures("same_threads")

NO_PADS = (0, 0, 0, 0)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)
each_kernel = pytest.mark.parametrize("name", kernels.__all__)

# Kernels that do the very operations of the reference, in its order: equal to the last bit.
EXACT = ["max_pool2d", "relu", "relu_gradient", "sigmoid_gradient", "tanh_gradient", "dropout", "adam", "sgd"]
# Sums of products: how many units in the last place of the sum of magnitudes they may be off. Weight gradients add up
# to 128 terms in a row.
SUMS = dict.fromkeys(["conv2d", "conv2d_input_gradient", "dense", "dense_input_gradient", "max_pool2d_gradient",
                      "average_pool2d", "average_pool2d_gradient"], 8) \
    | dict.fromkeys(["conv2d_relu", "dense_relu"], 8) \
    | dict.fromkeys(["conv2d_weight_gradient", "dense_weight_gradient", "dense_relu_gradient", "conv2d_relu_gradient",
                     "conv2d_relu_pool_gradient"], 24)


FUSED = ["conv2d_relu", "conv2d_relu_pool", "conv2d_relu_gradient", "conv2d_relu_pool_gradient"]


def poisoned(results):
    """Return arrays like `results` that hold NaN, or the largest whole number: what a kernel leaves out will show."""
    return tuple(np.full_like(r, np.nan if r.dtype.kind == "f" else np.iinfo(r.dtype).max) for r in as_tuple(results))


def run(name, inputs, outputs=None):
    """Return what a kernel writes, as a tuple."""
    if outputs is None:
        with np.errstate(all="ignore"):
            outputs = poisoned(specified(name)(*inputs))
    getattr(kernels, name)(*inputs, *outputs)
    return outputs


def widened(inputs):
    return [a.astype(np.float64) if isinstance(a, np.ndarray) and a.dtype == np.float32 else a for a in inputs]


# ---- The same operation under the same name --------------------------------------------------------------------------

OUTPUTS = {"conv2d_weight_gradient": "dw db", "dense_weight_gradient": "dw db", "max_pool2d": "y switches",
           "conv2d_relu_pool": "y switches", "conv2d_relu_gradient": "dx dw db",
           "conv2d_relu_pool_gradient": "dx dw db",
           "dense_relu_gradient": "dx dw db",
           "adam": "w_new m_new v_new", "sgd": "w_new velocity_new"} \
    | dict.fromkeys(["binary_crossentropy", "categorical_crossentropy", "mean_squared_error"], "losses dz")


@each_kernel
def test_a_kernel_takes_the_inputs_of_the_specification_and_then_its_outputs(name):
    outputs = OUTPUTS.get(name, "dx" if name.endswith("gradient") else "y").split()
    expected = list(inspect.signature(specified(name)).parameters) + outputs
    assert list(inspect.signature(getattr(kernels, name)).parameters) == expected


def test_every_operation_has_a_kernel():
    assert set(kernels.__all__) == set(OPERATIONS)
    assert set(EXACT) | set(SUMS) | {"sigmoid", "tanh", "softmax", "softmax_gradient", "binary_crossentropy",
                                     "categorical_crossentropy", "mean_squared_error",
                                     "conv2d_relu_pool"} == set(OPERATIONS)


def check(name, inputs):
    """The kernel writes what the specification says, as exactly as it can, and nothing to its inputs."""
    before = [digest(a) for a in inputs if isinstance(a, np.ndarray)]
    outputs = run(name, inputs)
    assert [digest(a) for a in inputs if isinstance(a, np.ndarray)] == before
    operation = specified(name)
    exact = as_tuple(operation(*widened(inputs)))
    if name in EXACT:
        for got, expected in zip(outputs, as_tuple(operation(*inputs)), strict=True):
            assert_same_bits(got, expected)
    elif name in SUMS:
        for got, expected, magnitude in zip(outputs, exact, as_tuple(operation(*abs_inputs(inputs))), strict=True):
            assert_rounded(got, expected, magnitude, SUMS[name])
    elif name == "conv2d_relu_pool":
        check_maxima(inputs, *outputs, exact[0])
    elif name == "softmax_gradient":
        dy, y = map(np.abs, widened(inputs))
        assert_rounded(outputs[0], exact[0], y * (dy + (dy * y).sum(axis=-1, keepdims=True)))
    elif name in ("sigmoid", "tanh"):
        assert_rounded(outputs[0], exact[0], np.abs(exact[0]), 4)
    elif name == "softmax":
        # exp passes on the rounding of its argument, whose size is its distance from the largest
        x, = inputs
        assert_rounded(outputs[0], exact[0], exact[0] * (1 + np.abs(x - x.max(axis=-1, keepdims=True))), 4)
    else:
        losses, dz = outputs
        z, t, scale = widened(inputs)
        np.testing.assert_allclose(losses, exact[0], rtol=1e-13, atol=1e-300)
        assert_rounded(dz, exact[1], (2 + np.abs(z) + np.abs(t)) * scale[:, None])


def check_maxima(inputs, y, switches, exact):
    """Outputs y of conv2d_relu_pool are as near as sums may be, and each switch leads to as good as the largest.

    What wins is at most the rounding of the two below the largest: that of the window that should win, and that of the
    one that did.
    """
    def in_cells(maps):
        N, OH, OW, F = maps.shape
        maps = maps[:, :OH // 2 * 2, :OW // 2 * 2].reshape(N, OH // 2, 2, OW // 2, 2, F)
        return maps.transpose(0, 1, 3, 5, 2, 4).reshape(*y.shape, 4)

    def at(cells, places):
        return np.take_along_axis(cells, places[..., None].astype(np.intp), axis=-1)[..., 0]
    assert switches.dtype == np.uint8 and switches.max() <= 3
    sums, magnitudes = in_cells(ref.conv2d(*widened(inputs))), in_cells(ref.conv2d(*abs_inputs(inputs)))
    of_largest, of_chosen = at(magnitudes, sums.argmax(axis=-1)), at(magnitudes, switches)
    assert_rounded(y, exact, np.maximum(of_largest, of_chosen))
    assert_rounded(at(sums, switches).astype(y.dtype), sums.max(axis=-1), of_largest + of_chosen)
    chosen = np.where(y > 0, at(sums, switches), 0)
    assert_rounded(y, chosen, np.where(y > 0, of_chosen, 0))


@each_dtype
@each_kernel
@settings(max_examples=60)
@given(case=cases())
def test_a_kernel_computes_what_the_specification_says(name, dtype, case):
    check(name, OPERATIONS[name](case, dtype))


@each_dtype
@pytest.mark.parametrize("name", FUSED)
@settings(max_examples=25)
@given(case=winograd_cases())
def test_a_block_of_many_channels_computes_what_the_specification_says(name, dtype, case):
    inputs = OPERATIONS[name](case, dtype)
    if name != "conv2d_relu_gradient":
        check(name, inputs)
        return
    # Winograd's transforms mix the gradients of a tile: as exact as A4 asks, not as a sum of each element's own terms.
    for got, expected in zip(run(name, inputs), specified(name)(*widened(inputs)), strict=True):
        assert_near_largest(got, expected, 84 * np.finfo(dtype).eps)


def in_turn(name, inputs):
    """Return what the kernels of single layers write that `name` stands for."""
    outputs = run(name.partition("_relu")[0], inputs)
    if name.endswith("pool"):
        outputs = run("max_pool2d", (*outputs, (2, 2), (2, 2), NO_PADS))
    return *run("relu", outputs[:1]), *(switches.astype(np.uint8) for switches in outputs[1:])


@each_dtype
@pytest.mark.parametrize("name", ["conv2d_relu", "conv2d_relu_pool", "dense_relu"])
@settings(max_examples=60)
@given(case=cases() | winograd_cases())
def test_a_block_is_bit_for_bit_its_layers_in_turn_but_for_winograds_algorithm(name, dtype, case):
    inputs = OPERATIONS[name](case, dtype)
    if name != "dense_relu" and winograd.suits(inputs[1], case.strides):
        assert case.kernel == (3, 3) and case.strides == (1, 1) and min(case.C, case.F) >= 16
        return
    for got, expected in zip(run(name, inputs), in_turn(name, inputs), strict=True):
        assert_same_bits(got, expected)


@pytest.mark.parametrize("name", ["conv2d_relu", "conv2d_relu_pool"])
def test_winograds_algorithm_is_used(name):
    inputs = OPERATIONS[name](Case(2, 12, 12, 32, 32, (3, 3), (1, 1), "valid", 0), np.float32)
    assert winograd.suits(inputs[1], (1, 1))
    assert run(name, inputs)[0].tobytes() != in_turn(name, inputs)[0].tobytes()


@each_dtype
@pytest.mark.parametrize("name", [*FUSED, "dense_relu", "dense_relu_gradient"])
@pytest.mark.parametrize("case", [Case(2, 13, 12, 3, 32, (3, 3), (1, 1), "valid", 1),
                                  Case(2, 11, 13, 32, 32, (3, 3), (1, 1), "valid", 2),
                                  Case(1, 12, 11, 48, 17, (3, 3), (1, 1), "same", 3),
                                  Case(3, 9, 10, 5, 7, (5, 4), (2, 1), "same", 4)], ids=str)
def test_every_kind_of_block(name, case, dtype):
    # A few cases for the runs with registers of other sizes, which compile everything anew (test_simd.py).
    check(name, OPERATIONS[name](case, dtype))


@each_dtype
@pytest.mark.parametrize("name", FUSED)
@settings(max_examples=30)
@given(case=cases(channels=st.sampled_from([1, 3, 4, 33])))
def test_pixels_are_what_they_are_as_numbers_from_0_to_1(name, dtype, case):
    pixels = np.random.default_rng(case.seed).integers(0, 256, OPERATIONS["conv2d_relu_pool"](case, dtype)[0].shape)
    numbers = (pixels.astype(np.float32) / np.float32(255)).astype(dtype)
    inputs = list(OPERATIONS[name.removesuffix("_gradient")](case, dtype))
    numbers = numbers[:, :inputs[0].shape[1], :inputs[0].shape[2]].copy()
    inputs[0] = numbers
    if name.endswith("gradient"):
        outputs = run(name.removesuffix("_gradient"), inputs)
        inputs = [case.normals(*outputs[0].shape, dtype=dtype), *outputs, numbers, inputs[1], *inputs[3:]]
    expected = run(name, inputs)
    as_pixels = [pixels[:, :a.shape[1], :a.shape[2]].astype(np.uint8) if a is numbers else a for a in inputs]
    for got, right in zip(run(name, as_pixels, poisoned(expected)), expected, strict=True):
        assert_same_bits(got, right)


@each_dtype
@pytest.mark.parametrize("name", ["conv2d_relu_gradient", "conv2d_relu_pool_gradient", "dense_relu_gradient"])
@settings(max_examples=30)
@given(case=cases())
def test_dx_need_not_be_computed(name, dtype, case):
    inputs = OPERATIONS[name](case, dtype)
    exact, magnitudes = specified(name)(*widened(inputs)), specified(name)(*abs_inputs(inputs))
    dx, *outputs = poisoned(specified(name)(*inputs))
    run(name, inputs, (None, *outputs))
    for got, expected, magnitude in zip(outputs, exact[1:], magnitudes[1:], strict=True):
        assert_rounded(got, expected, magnitude, SUMS[name])


@each_dtype
@pytest.mark.parametrize("name", ["relu", "sigmoid", "tanh", "softmax"])
def test_activations_at_the_edges(name, dtype):
    tiny = np.finfo(dtype).smallest_subnormal
    x = np.array([[-np.inf, -1e4, -88, -30, -tiny, -0.0, 0, tiny, 30, 88, 1e4], [np.inf] + [0] * 10,
                  [np.nan] + [0] * 10, [0] * 5 + [np.nan] * 6], dtype)
    with np.errstate(all="ignore"):
        expected = specified(name)(x)
    got, = run(name, (x,))
    np.testing.assert_allclose(got, expected, rtol=4 * np.finfo(dtype).eps, atol=4 * tiny)


@each_dtype
def test_max_pooling_takes_the_first_of_equals_and_any_nan(dtype):
    rng = np.random.default_rng(0)
    x = rng.integers(-1, 2, (40, 6, 6, 5)).astype(dtype)
    x[rng.random(x.shape) < 0.05] = np.nan
    x[rng.random(x.shape) < 0.3] = -np.inf
    for pool, strides, pads in [((2, 2), (2, 2), NO_PADS), ((3, 2), (1, 2), (1, 1, 0, 0)), ((6, 6), (6, 6), NO_PADS)]:
        inputs = x, pool, strides, pads
        y, switches = run("max_pool2d", inputs)
        expected_y, expected_switches = ref.max_pool2d(*inputs)
        np.testing.assert_array_equal(y, expected_y)
        known = ~np.isnan(y)
        assert (switches[known] == expected_switches[known]).all()
        windows = ref.im2col(x, *inputs[1:]).reshape(*y.shape[:3], -1, x.shape[3])
        chosen = np.take_along_axis(windows, switches[:, :, :, None].astype(int), axis=3)[:, :, :, 0]
        assert np.isnan(chosen[~known]).all()


# ---- Rounding --------------------------------------------------------------------------------------------------------

LONGEST = 27 * 27 * 32


def sums_of(K, draw):
    """Return x (1, K), w (K, 100), b (100,) for 100 sums of K products each."""
    return [np.ascontiguousarray(draw(shape)) for shape in ((1, K), (K, 100), (100,))]


def constants(shape):
    """Return one positive constant a column: equal terms, whose rounding errors may all have one sign."""
    row = np.random.default_rng(shape[-1]).uniform(0.5, 2, shape[-1])
    return np.broadcast_to(row if shape[-1] == 100 else row[0], shape).astype(np.float32)


DRAWS = {"constants": constants, "uniform": lambda shape: np.random.default_rng(1).random(shape, np.float32),
         "normal": lambda shape: np.random.default_rng(2).standard_normal(shape, np.float32)}
each_draw = pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)


@each_draw
@pytest.mark.parametrize("K", [1, 15, 27, 288, 4608, 16384, LONGEST])
def test_float32_sums_stay_within_eight_eps(K, draw):
    inputs = sums_of(K, draw)
    assert_rounded(run("dense", inputs)[0], ref.dense(*widened(inputs)), ref.dense(*abs_inputs(inputs)))


@each_draw
def test_long_windows_and_long_input_gradients_stay_within_eight_eps(draw):
    for C, F in [(32, 3), (3, 32)]:
        x, w, b = (np.ascontiguousarray(draw(shape)) for shape in ((1, 28, 28, C), (27, 27, C, F), (F,)))
        inputs = x, w, b, (1, 1), NO_PADS
        assert_rounded(run("conv2d", inputs)[0], ref.conv2d(*widened(inputs)), ref.conv2d(*abs_inputs(inputs)))
        inputs = np.ascontiguousarray(draw((1, 2, 2, F))), w, (28, 28), (1, 1), NO_PADS
        assert_rounded(run("conv2d_input_gradient", inputs)[0], ref.conv2d_input_gradient(*widened(inputs)),
                       ref.conv2d_input_gradient(*abs_inputs(inputs)))


def feature_maps(shape):
    """Return what a convolution sees behind another: half of it 0, three of four channels too, an edge of 1000 to 1."""
    x = np.maximum(np.random.default_rng(3).standard_normal(shape, np.float32), 0)
    x[:, :, 10:] *= np.float32(1e-3)
    x[..., shape[-1] // 4:] = 0
    return x


def check_winograd(x, w, b, pads=NO_PADS):
    assert winograd.suits(w, (1, 1))
    check("conv2d_relu", (x, w, b, (1, 1), pads))
    check("conv2d_relu_pool", (x, w, b, (1, 1), pads))


WINOGRAD_DRAWS = {name: (draw, draw) for name, draw in DRAWS.items()}
WINOGRAD_DRAWS |= {"feature maps": (feature_maps, DRAWS["normal"])}


@pytest.mark.parametrize("draw_x, draw", WINOGRAD_DRAWS.values(), ids=WINOGRAD_DRAWS)
@pytest.mark.parametrize("C, F", [(16, 100), (32, 32), (48, 16), (64, 100)])
def test_winograds_sums_stay_within_eight_eps(C, F, draw_x, draw):
    # Not where one or two channels of many are live: then products cancel that no other channel outweighs.
    x, w, b = np.ascontiguousarray(draw_x((2, 23, 20, C))), np.ascontiguousarray(draw((3, 3, C, F))), draw((F,)).copy()
    check_winograd(x, w, b)
    if draw is not constants or C < 100:    # beside a border the same products cancel, with the rounding of their sums
        check_winograd(x, w, b, (1, 1, 1, 1))
    check_winograd(x, np.random.default_rng(0).choice([1, -1], w.shape).astype(np.float32) * w, b)


def radiographs(shared, count):
    """Return the first real radiographs as (count, 64, 64, 3) pixels."""
    from minicnn.data.loader import open_dataset
    from minicnn.data.manifest import Manifest
    from minicnn.data.preprocessing import Preprocessing
    manifest = Manifest.read(shared / "data" / "chestxray" / "manifest.csv")
    return open_dataset(manifest, Preprocessing(64, 64, 3), None, "test").batch(np.arange(count))


@pytest.mark.parametrize("seed", range(2))
def test_winograds_sums_of_real_radiographs_stay_within_eight_eps(shared, seed):
    network = cov19net(seed=seed).network
    x = radiographs(shared, 6)
    x = x.astype(np.float32) / np.float32(255) if x.dtype == np.uint8 else x
    weights = [p.value for p in network.parameters]
    first, _ = run("conv2d_relu_pool", (x, *weights[:2], (1, 1), NO_PADS))
    check_winograd(first, *weights[2:4])
    second, _ = run("conv2d_relu_pool", (first, *weights[2:4], (1, 1), NO_PADS))
    check_winograd(second, *weights[4:6])


def one_after_another(terms):
    """Sum float32 terms in their order: what a plain loop in float32 does, and a kernel must not."""
    return np.cumsum(terms, axis=0, dtype=np.float32)[-1]


def test_a_plain_float32_sum_would_be_noticed():
    x, w, b = sums_of(4608, constants)
    with pytest.raises(AssertionError, match="eps of the magnitude, the bound is 8"):
        assert_rounded(one_after_another(x.T * w)[None], ref.dense(*widened((x, w, b * 0))),
                       ref.dense(*abs_inputs((x, w, b * 0))))


FULL = (2, 222, 222, 3)
FULL_DRAWS = DRAWS | {"constants": lambda shape: np.full(shape, 0.1, np.float32)}


@pytest.mark.parametrize("draw", FULL_DRAWS.values(), ids=FULL_DRAWS)
def test_gradients_of_full_images_stay_within_1e5_of_the_largest(draw):
    x, w, dy = draw(FULL), draw((3, 3, 3, 8)), draw((2, 220, 220, 8))
    for name, inputs in [("conv2d_weight_gradient", (dy, x, (3, 3), (1, 1), NO_PADS)),
                         ("conv2d_input_gradient", (dy, w, FULL[1:3], (1, 1), NO_PADS)),
                         ("dense_weight_gradient", (dy.reshape(-1, 8), x.reshape(-1, 3)[:2 * 220 * 220])),
                         ("average_pool2d_gradient", (dy, (222, 222), (3, 3), (1, 1), NO_PADS))]:
        exact = as_tuple(specified(name)(*widened(inputs)))
        for got, expected in zip(run(name, inputs, [np.full(e.shape, np.nan, np.float32) for e in exact]), exact,
                                 strict=True):
            assert_near_largest(got, expected)


@pytest.mark.parametrize("draw", FULL_DRAWS.values(), ids=FULL_DRAWS)
@pytest.mark.parametrize("name", ["conv2d_relu_gradient", "conv2d_relu_pool_gradient"])
@pytest.mark.parametrize("shape, F, kernel", [((2, 222, 222, 3), 8, (3, 3)), ((2, 222, 222, 3), 5, (5, 5)),
                                              ((2, 222, 222, 3), 32, (3, 3)), ((2, 40, 40, 64), 64, (3, 3)),
                                              ((1, 40, 40, 64), 128, (3, 3)), ((1, 40, 40, 64), 32, (5, 5))], ids=str)
def test_gradients_of_blocks_stay_within_1e5_of_the_largest(shape, F, kernel, name, draw):
    pool = 2 if "pool" in name else 1
    dy = draw((shape[0], (shape[1] - kernel[0] + 1) // pool, (shape[2] - kernel[1] + 1) // pool, F))
    inputs = draw(shape), draw((*kernel, shape[3], F)), (1, 1), NO_PADS
    y = np.ones(dy.shape, np.float32)           # every ReLU is on: as many terms as there may be
    if pool == 2:
        inputs = np.random.default_rng(F).integers(0, 4, y.shape).astype(np.uint8), *inputs
    exact = specified(name)(*widened((dy, y, *inputs)))
    for first in (0, 1):                        # with dx and without
        outputs = [np.full(e.shape, np.nan, np.float32) for e in exact[first:]]
        run(name, (dy, y, *inputs), (*[None][:first], *outputs))
        for got, expected in zip(outputs, exact[first:], strict=True):
            assert_near_largest(got, expected)


def test_one_pixel_that_wins_thousands_of_windows_gets_their_sum():
    x = np.zeros((1, 63, 63, 1), np.float32)
    x[0, 31, 31] = 1
    window = (32, 32), (1, 1), NO_PADS
    y, switches = run("max_pool2d", (x, *window))
    assert (y == 1).all()
    inputs = np.full(y.shape, 0.1, np.float32), switches, (63, 63), *window
    assert_near_largest(run("max_pool2d_gradient", inputs)[0], ref.max_pool2d_gradient(*widened(inputs)), 1e-6)


def test_a_plain_float32_gradient_would_be_noticed():
    terms = np.full((2 * 222 * 222, 1), 0.1, np.float32)
    with pytest.raises(AssertionError, match="of the largest, the bar is 1e-05"):
        assert_near_largest(one_after_another(terms), terms.astype(np.float64).sum(axis=0))


# ---- NaN -------------------------------------------------------------------------------------------------------------

def nan_everywhere(shape, dtype):
    """Return as many samples of `shape` as a sample has numbers, the i-th with a NaN in place i."""
    n = int(np.prod(shape))
    x = separated(0, (n, n), dtype)
    np.fill_diagonal(x, np.nan)
    return x.reshape(n, *shape)


@pytest.mark.parametrize("channels", range(1, 34))
def test_nan_at_any_place_reaches_all_that_it_contributes_to_and_no_other_sample(channels):
    x = nan_everywhere((3, 2, channels), np.float32)
    n, window = len(x), ((2, 2), (1, 1), NO_PADS)
    w, b = normals(0, (2, 2, channels, 3), np.float32), np.zeros(3, np.float32)
    rows = np.ascontiguousarray(x.reshape(n, -1))
    calls = {"conv2d": (x, w, b, *window[1:]), "max_pool2d": (x, *window), "average_pool2d": (x, *window),
             "dense": (rows, normals(1, (n, 3), np.float32), b), "relu": (x,), "sigmoid": (x,), "tanh": (x,),
             "softmax": (x,), "dropout": (x, x != 0.01, 0.5),
             "conv2d_input_gradient": (x, np.ascontiguousarray(w.transpose(0, 1, 3, 2)), (4, 3), *window[1:]),
             "average_pool2d_gradient": (x, (4, 3), *window)}
    for name, inputs in calls.items():
        with np.errstate(all="ignore"):
            expected = as_tuple(specified(name)(*inputs))
        got, expected = run(name, inputs, poisoned(expected))[0], expected[0]
        assert np.isnan(expected).any(axis=tuple(range(1, expected.ndim))).all(), name
        # The specification says which numbers: with zeros for weights NaN spreads as NumPy has it, 0 x NaN = NaN.
        assert (np.isnan(got) == np.isnan(expected)).all(), name


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e38])
@pytest.mark.parametrize("name", ["conv2d_relu", "conv2d_relu_pool"])
@pytest.mark.parametrize("shape, F, pads", [((7, 6, 16), 16, NO_PADS), ((6, 7, 16), 19, (1, 1, 1, 1)),
                                            ((7, 7, 3), 5, (1, 1, 1, 1)), ((6, 8, 5), 16, NO_PADS)], ids=str)
def test_a_number_changes_no_output_whose_window_does_not_hold_it(name, shape, F, pads, value):
    n = int(np.prod(shape))
    clean, w = normals(0, (1, *shape), np.float32), normals(1, (3, 3, shape[2], F), np.float32)
    b = np.ones(F, np.float32)
    x = np.repeat(clean.reshape(1, n), n, axis=0)
    np.fill_diagonal(x, value)
    y, *_ = run(name, (x.reshape(n, *shape), w, b, (1, 1), pads), poisoned(sized(name, n, shape, F, pads)))
    y_clean, *_ = run(name, (clean, w, b, (1, 1), pads))
    # Which windows hold place i: those whose sum is not 0 where only place i is not 0.
    held = ref.conv2d(np.eye(n).reshape(n, *shape), np.ones((*w.shape[:3], 1)), np.zeros(1), (1, 1), pads)
    if name.endswith("pool"):
        held = ref.max_pool2d(held, (2, 2), (2, 2), NO_PADS)[0]
    held = np.broadcast_to(held > 0, y.shape)
    assert held.any() and (y == y_clean)[~held].all(), "an output changed that has nothing to do with the number"
    if np.isnan(value):
        assert np.isnan(y)[held].all()
    if value == np.inf and name == "conv2d_relu":       # times a negative weight it is -inf, of which ReLU makes 0
        assert (~np.isfinite(y) | (y == 0))[held].all() and not np.isfinite(y).all()


def sized(name, n, shape, F, pads):
    """Return empty outputs of a 3x3 convolution with stride 1, or of such a block with pooling."""
    H, W = shape[0] + pads[0] + pads[1] - 2, shape[1] + pads[2] + pads[3] - 2
    if name == "conv2d_relu":
        return np.empty((n, H, W, F), np.float32)
    return np.empty((n, H // 2, W // 2, F), np.float32), np.empty((n, H // 2, W // 2, F), np.uint8)


@pytest.mark.parametrize("name", ["conv2d_relu_gradient", "conv2d_relu_pool_gradient"])
@pytest.mark.parametrize("C, F", [(3, 5), (16, 16), (32, 17)])
def test_nan_in_the_gradient_of_a_block_reaches_its_filter_and_its_image(name, C, F):
    case = Case(3, 7, 8, C, F, (3, 3), (1, 1), "valid", 0)
    dy, y, *rest = OPERATIONS[name](case, np.float32)
    on = np.argwhere(y > 0)
    for place in on[::max(1, len(on) // 40)]:
        sick, (n, *_, f) = dy.copy(), place
        sick[tuple(place)] = np.nan
        dx, dw, db = run(name, (sick, y, *rest))
        others = np.arange(F) != f
        assert np.isnan(dw[..., f]).all() and np.isnan(db[f])
        assert np.isfinite(dw[..., others]).all() and np.isfinite(db[others]).all()
        assert np.isnan(dx[n]).any() and np.isfinite(np.delete(dx, n, axis=0)).all()
        assert (np.isnan(dx) >= np.isnan(specified(name)(sick, y, *rest)[0])).all()


@each_dtype
def test_nan_at_any_place_of_a_gradient_reaches_the_weights_and_of_a_logit_the_loss(dtype):
    dy = nan_everywhere((2, 3, 2), dtype)
    for n in range(len(dy)):
        x = normals(0, (1, 3, 4, 2), dtype)
        dw, db = run("conv2d_weight_gradient", (dy[n:n + 1], x, (2, 2), (1, 1), NO_PADS))
        assert np.isnan(dw[..., n % 2]).all() and np.isnan(db[n % 2]) and np.isfinite(dw[..., 1 - n % 2]).all()
    z = nan_everywhere((5,), dtype)
    for name in ("binary_crossentropy", "categorical_crossentropy", "mean_squared_error"):
        losses, dz = run(name, (z, np.eye(5, dtype=dtype), np.ones(5)))
        assert np.isnan(losses).all() and np.isnan(np.diag(dz)).all()


def test_a_maximum_that_loses_nan_would_be_noticed():
    x = nan_everywhere((2, 2, 1), np.float32)
    assert np.isnan(np.fmax.reduce(x.reshape(4, 4), axis=1)).sum() == 0
    assert np.isnan(ref.max_pool2d(x, (2, 2), (2, 2), NO_PADS)[0]).all()


# ---- Neither the batch nor the threads decide a bit ------------------------------------------------------------------

BY_SAMPLE = ["conv2d", "conv2d_input_gradient", "max_pool2d", "max_pool2d_gradient", "average_pool2d",
             "average_pool2d_gradient", "dense", "dense_input_gradient", "relu", "relu_gradient", "sigmoid",
             "sigmoid_gradient", "tanh", "tanh_gradient", "softmax", "softmax_gradient", "binary_crossentropy",
             "categorical_crossentropy", "mean_squared_error", "conv2d_relu", "conv2d_relu_pool", "dense_relu",
             "conv2d_relu_gradient", "conv2d_relu_pool_gradient", "dense_relu_gradient"]
BATCHED = {"x", "dy", "y", "switches", "z", "t", "scale"}       # the inputs that have a row for each sample
WINOGRAD = Case(2, 9, 8, 32, 33, (3, 3), (1, 1), "same", 0)


@each_dtype
@pytest.mark.parametrize("name, case", [(name, Case(2, 7, 6, 17, 18, (3, 2), (2, 1), "same", 0)) for name in BY_SAMPLE]
                         + [(name, WINOGRAD) for name in FUSED], ids=lambda value: str(value)[:30])
@pytest.mark.parametrize("n", [2, 3, 7, 16, 33])
def test_a_sample_does_not_depend_on_its_company(name, case, n, dtype):
    inputs = OPERATIONS[name](case._replace(N=n), dtype)
    batched = [key in BATCHED for key in inspect.signature(specified(name)).parameters]
    of_samples = 1 if "relu_" in name and name.endswith("gradient") else None       # dw and db are sums of all samples
    whole = run(name, inputs)[:of_samples]

    def of(samples):
        chosen = [a[samples].copy() if by_sample else a for a, by_sample in zip(inputs, batched, strict=True)]
        return run(name, chosen)[:of_samples]
    order = np.random.default_rng(n).permutation(n)
    for together, shuffled in zip(whole, of(order), strict=True):
        assert_same_bits(shuffled, together[order])
    for i in {0, 1, n // 2, n - 1}:
        for together, alone in zip(whole, of(slice(i, i + 1)), strict=True):
            assert_same_bits(alone, together[i:i + 1])


# Large enough that every kernel divides its work among four: elements by 16384, rows of a softmax by 2048, rows of a
# dense layer's weights by 256 and by 64, images one by one, or by rows of the image.
LARGE = Case(21, 37, 29, 6, 34, (3, 3), (2, 1), "same", 0)
LARGE_DENSE = Case(20, 60, 20, 20, 50, (1, 1), (1, 1), "valid", 0)
LARGE_PARAMETER = Case(1, 1, 1, 300, 400, (1, 1), (1, 1), "valid", 0)
NOT_DIVIDED = ["binary_crossentropy", "categorical_crossentropy", "mean_squared_error", "tanh"]     # tanh is NumPy's
DIVIDED = [(name, LARGE_DENSE if name.startswith("dense") else LARGE_PARAMETER if name in ("adam", "sgd") else LARGE)
           for name in kernels.__all__] + [(name, WINOGRAD._replace(N=5, H=31)) for name in FUSED]


@each_dtype       # float64 too: partial sums are float64, and rounding to float32 would hide that they differ
@pytest.mark.parametrize("name, case", DIVIDED, ids=lambda value: str(value)[:30])
def test_the_number_of_threads_does_not_decide_a_bit(name, case, dtype):
    inputs, results = OPERATIONS[name](case, dtype), []
    outputs = poisoned(specified(name)(*inputs))
    for count in (1, 2, 3, 4):
        threads.set_thread_count(count)
        results.append([digest(a) for a in run(name, inputs, tuple(a.copy() for a in outputs))])
        divided = threads._pool is not None and threads._pool.queue[TICKET] > 0
        assert divided == (count > 1 and name not in NOT_DIVIDED)
    assert results.count(results[0]) == 4


def test_adam_may_write_over_its_inputs():
    w, m, v, dw, *rest = OPERATIONS["adam"](Case(1, 1, 1, 3, 5, (2, 2), (1, 1), "valid", 0), np.float32)
    apart = run("adam", (w, m, v, dw, *rest))
    kernels.adam(w, m, v, dw, *rest, w, m, v)
    for over, expected in zip((w, m, v), apart, strict=True):
        assert_same_bits(over, expected)


# ---- Compiled code ---------------------------------------------------------------------------------------------------

def test_compiled_code_is_not_used_after_any_file_of_the_room_changed(tmp_path, monkeypatch):
    # numba looks only at the date of the kernel's own file, not at those of the helpers inlined into it.
    monkeypatch.setenv("MINICNN_CACHE_DIR", str(tmp_path))
    kernels = shutil.copytree(Path(jit.__file__).parents[1], tmp_path / "kernels")
    monkeypatch.setattr(jit, "__file__", str(kernels / "runtime" / "jit.py"))
    before = jit.cache_folder()
    assert jit.cache_folder() == before and before.parent == tmp_path
    with open(kernels / "runtime" / "microkernel.py", "a", encoding="utf-8") as file:
        file.write("# another way to add\n")
    assert jit.cache_folder() != before


def compiled_and_tuples(folder):
    """Return {function: how many arguments} of what @kernel and @device compile, {NamedTuple: how many fields}."""
    arguments, fields = {}, {}
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = {ast.unparse(d) for d in [*getattr(node, "decorator_list", []), *getattr(node, "bases", [])]}
            if isinstance(node, ast.FunctionDef) and names & {"kernel", "device"}:
                all_of_them = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                arguments[path.stem, node.name] = len(all_of_them)
            elif isinstance(node, ast.ClassDef) and "NamedTuple" in names:
                fields[path.stem, node.name] = sum(isinstance(line, ast.AnnAssign) for line in node.body)
    return arguments, fields


def test_no_kernel_takes_more_than_twelve_arguments():
    arguments, fields = compiled_and_tuples(Path(kernels.__file__).parent)
    assert len(arguments) > 70 and arguments["direct", "_bands"] == 11 and len(fields) > 3
    assert not {name: count for name, count in arguments.items() if count > 12}
    assert 20 not in fields.values(), "CPython 3.11 keeps tuples of exactly twenty and does not use them again"


# ---- In bounds -------------------------------------------------------------------------------------------------------

@each_kernel
def test_a_kernel_stays_inside_its_arrays(name, tmp_path):
    def work(say):
        both = Fences(at_end=True), Fences(at_end=False)

        @settings(max_examples=100)
        @given(cases(), st.sampled_from(DTYPES))
        def check(case, dtype):
            inputs = OPERATIONS[name](case, dtype)
            outputs = poisoned(specified(name)(*inputs))
            for fences in both:
                say(f"{case} {dtype.__name__} at_end={fences.at_end}")
                fenced = [fences.copy(a, locked=True) if isinstance(a, np.ndarray) else a for a in inputs]
                written = run(name, fenced, [fences.copy(a) for a in outputs])
                assert all(np.isfinite(a).all() for a in written)
                fences.clear()
        check()
    alive, said = survives(work, tmp_path / "log")
    assert alive, f"read or wrote outside its arrays, or to an input: {said}"


@pytest.mark.parametrize("pixels", [False, True])
@pytest.mark.parametrize("name", FUSED)
def test_a_block_stays_inside_its_arrays(name, pixels, tmp_path):
    def work(say):
        both = Fences(at_end=True), Fences(at_end=False)

        @settings(max_examples=40)
        @given(cases() if pixels else winograd_cases(), st.sampled_from(DTYPES), st.booleans())
        def check(case, dtype, without_dx):
            inputs = OPERATIONS[name](case, dtype)
            outputs = list(poisoned(specified(name)(*inputs)))
            if pixels:
                x = list(inspect.signature(specified(name)).parameters).index("x")
                inputs = [(abs(a) * 50).astype(np.uint8) if i == x else a for i, a in enumerate(inputs)]
            if without_dx and name.endswith("gradient"):
                outputs[0] = None
            for fences in both:
                say(f"{case} {dtype.__name__} at_end={fences.at_end} without dx={without_dx}")
                fenced = [fences.copy(a, locked=True) if isinstance(a, np.ndarray) else a for a in inputs]
                written = run(name, fenced, [a if a is None else fences.copy(a) for a in outputs])
                assert all(a is None or np.isfinite(a).all() for a in written)
                fences.clear()
        check()
    alive, said = survives(work, tmp_path / "log")
    assert alive, f"read or wrote outside its arrays, or to an input: {said}"


@pytest.mark.parametrize("at_end", [True, False])
def test_the_warp_stays_inside_its_arrays(at_end, tmp_path):
    def work(say):
        fences, rng = Fences(at_end), np.random.default_rng(0)
        for i in range(100):
            H, W, C = rng.integers(1, 10, 3)
            say((H, W, C, i))
            pixels = rng.integers(0, 256, (2, H, W, C)).astype(np.uint8 if i % 2 else np.float32)
            matrices = affine_matrices(H, W, rotation=rng.uniform(-720, 720, 2), zoom=rng.uniform(0.1, 9, 2))
            inputs = pixels, matrices, *rng.random((2, 2), np.float32)
            affine_warp(*(fences.copy(np.ascontiguousarray(a), locked=True) for a in inputs),
                        fences.copy(np.full((2, H, W, C), np.nan, np.float32)))
            fences.clear()
    alive, said = survives(work, tmp_path / "log")
    assert alive, said


@kernel
def one_too_far(x, y):
    for i in range(len(x)):
        y[i] = x[i] + x[i + 1]


@kernel
def one_too_early(x, y):
    for i in range(len(x)):
        y[i] = x[i] + x[np.uint64(i) - np.uint64(1)]       # unsigned: no wrapping round to the end


@kernel
def writes_to_its_input(x, y):
    for i in range(len(x)):
        x[i] = y[i]


@pytest.mark.parametrize("wrong, at_end", [(one_too_far, True), (one_too_early, False), (writes_to_its_input, True)])
def test_the_fence_kills_who_touches_it(wrong, at_end, tmp_path):
    def work(say):
        fences = Fences(at_end)
        say("started")
        wrong(fences.copy(np.ones(5, np.float32), locked=True), fences.copy(np.ones(5, np.float32)))
    assert survives(work, tmp_path / "log") == (False, "started")
