"""Convolution, alone and fused with ReLU and pooling; Winograd's algorithm; its error, and where a NaN goes."""

import inspect

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from minicnn import reference as ref
from minicnn.kernels.convolution import choice
from minicnn.networks import cov19net
from tests.support.fence import Fences, survives
from tests.support.kernel_checks import (DRAWS, FUSED, NO_PADS, SUMS, check, each_draw,
                                         each_dtype, largest_of_tiles, one_after_another, poisoned, run, uses_winograd, widened)
from tests.support.laws import as_tuple, assert_near_largest, assert_rounded, assert_same_bits
from tests.support.strategies import DTYPES, OPERATIONS, Case, abs_inputs, cases, normals, specified, winograd_cases


CONVOLUTIONS = ["conv2d", "conv2d_input_gradient", "conv2d_weight_gradient", *FUSED]


@each_dtype
@pytest.mark.parametrize("name", CONVOLUTIONS)
@settings(max_examples=12)
@given(case=winograd_cases())
def test_a_block_of_many_channels_computes_what_the_specification_says(name, dtype, case):
    check(name, OPERATIONS[name](case, dtype))


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
def test_a_block_is_bit_for_bit_its_layers_in_turn(name, dtype, case):
    inputs = OPERATIONS[name](case, dtype)
    for got, expected in zip(run(name, inputs), in_turn(name, inputs), strict=True):
        assert_same_bits(got, expected)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_winograds_algorithm_is_used(name, monkeypatch):
    inputs = OPERATIONS[name](Case(4, 12, 12, 128, 128, (3, 3), (1, 1), "valid", 0), np.float32)
    assert uses_winograd(name, inputs)
    first = run(name, inputs)[0].tobytes()
    monkeypatch.setattr(choice, "_tiles", lambda *_: 0)
    assert run(name, inputs)[0].tobytes() != first


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
    assert uses_winograd("conv2d_relu", (x, w, b, (1, 1), pads))
    check("conv2d_relu", (x, w, b, (1, 1), pads))
    check("conv2d_relu_pool", (x, w, b, (1, 1), pads))


WINOGRAD_DRAWS = {name: (draw, draw) for name, draw in DRAWS.items()}
WINOGRAD_DRAWS |= {"feature maps": (feature_maps, DRAWS["normal"])}


@pytest.mark.parametrize("draw_x, draw", WINOGRAD_DRAWS.values(), ids=WINOGRAD_DRAWS)
@pytest.mark.parametrize("C, F", [(16, 100), (32, 32), (48, 16), (64, 100)])
def test_winograds_sums_stay_within_sixteen_eps_of_the_largest_of_their_tile(C, F, draw_x, draw):
    x, w, b = np.ascontiguousarray(draw_x((2, 23, 20, C))), np.ascontiguousarray(draw((3, 3, C, F))), draw((F,)).copy()
    check_winograd(x, w, b)
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
def test_winograds_sums_of_real_radiographs_stay_within_sixteen_eps_of_the_largest_of_their_tile(shared, seed):
    network = cov19net(seed=seed).network
    x = radiographs(shared, 6)
    x = x.astype(np.float32) / np.float32(255) if x.dtype == np.uint8 else x
    weights = [p.value for p in network.parameters]
    first, _ = run("conv2d_relu_pool", (x, *weights[:2], (1, 1), NO_PADS))
    check_winograd(first, *weights[2:4])
    second, _ = run("conv2d_relu_pool", (first, *weights[2:4], (1, 1), NO_PADS))
    check_winograd(second, *weights[4:6])


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


def test_a_plain_float32_gradient_would_be_noticed():
    terms = np.full((2 * 222 * 222, 1), 0.1, np.float32)
    with pytest.raises(AssertionError, match="of the largest, the bar is 1e-05"):
        assert_near_largest(one_after_another(terms), terms.astype(np.float64).sum(axis=0))


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
    reached = held
    if uses_winograd(name, (clean, w, b, (1, 1), pads)):        # a whole tile depends on every number of its patch
        side = 4 // (2 if name.endswith("pool") else 1)
        reached = np.stack([largest_of_tiles(maps, side) for maps in held[:, None].astype(float)])[:, 0] > 0
    assert held.any() and (y == y_clean)[~reached].all(), "an output changed that has nothing to do with the number"
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
