"""Augmentation: directions one can see, exact copies, and a kernel that agrees with the specification to the bit."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, strategies as st

from minicnn.core.random import Stream, uniforms, words
from minicnn.data.augmentation import TECHNIQUES, Augmentation, affine_matrices, uniforms_batch
from minicnn.errors import DTypeError, InputError, ShapeError
from minicnn.kernels.augmentation import affine_warp
from minicnn.reference import augmentation as reference_augmentation

PIXELS = np.arange(5 * 6 * 7, dtype=np.uint8).reshape(5, 6, 7)
STRONG = Augmentation(gamma=0.5, blur=1, noise=0.1)
SCALED = (PIXELS / np.float32(255)).astype(np.float32)[..., np.newaxis]


def pixel_art(text):
    """Return an image of 255 where `text` has an x; shape (1, H, W)."""
    return np.array([[[255 * (c == "x") for c in line] for line in text.split()]], np.uint8)


def drawn(pixels, **map_):
    """Return `pixels` through one affine map, as the text of `pixel_art`: x where half lit or more."""
    matrices = affine_matrices(*pixels.shape[1:], **({"rotation": np.zeros(1)} | map_))
    out = reference_augmentation.affine_warp(pixels[..., np.newaxis], matrices, np.ones(1, np.float32), np.zeros(1, np.float32), 1)
    return ["".join("x" if value >= 0.5 else "." for value in line) for line in out[0, ..., 0]]


# ---- Directions ------------------------------------------------------------------------------------------------------

FLAG = pixel_art("..... .x... .xxx. .x... .x... .....")  # a pole with a flag to the right, 6 x 5: centre between rows


def test_rotation_is_counter_clockwise():
    pole = pixel_art("..... ..x.. ..xxx ..... .....")       # up from the centre, and to the right of it
    assert drawn(pole, rotation=np.full(1, 90.0)) == "..x.. ..x.. .xx.. ..... .....".split()   # left, and up
    clock = pixel_art("...x... ....... ....... ....... ....... ....... .......")             # twelve o'clock
    assert drawn(clock, rotation=np.full(1, 90.0))[3] == "x......"                            # nine o'clock
    assert drawn(clock, rotation=np.full(1, -90.0))[3] == "......x"                           # three o'clock


def test_shear_leans_vertical_lines_counter_clockwise_and_leaves_horizontal_ones():
    cross = pixel_art("..x.. ..x.. xxxxx ..x.. ..x..")
    assert drawn(cross, shear=45.0) == "x.... .x... xxxxx ...x. ....x".split()
    assert drawn(cross, shear=-45.0) == "....x ...x. xxxxx .x... x....".split()


def test_zoom_above_one_magnifies():
    square = pixel_art("....... ....... ..xxx.. ..xxx.. ..xxx.. ....... .......")
    assert sum(line.count("x") for line in drawn(square, zoom=5 / 3)) == 25
    assert sum(line.count("x") for line in drawn(square, zoom=1 / 3)) == 1


def test_shift_moves_right_and_up():
    dot = pixel_art("..... ..... ..x.. ..... .....")
    assert drawn(dot, right=2.0, up=1.0) == "..... ....x ..... ..... .....".split()


def test_flips():
    assert drawn(FLAG, horizontal_flip=True) == "..... ...x. .xxx. ...x. ...x. .....".split()
    assert drawn(FLAG, vertical_flip=True) == "..... .x... .x... .xxx. .x... .....".split()


def test_composed_order_is_flip_zoom_shear_rotate_shift():
    """The image's point p arrives at R S z F p + t: checked on the matrix's inverse, in centred coordinates."""
    H, W, a, b, z = 9, 7, np.radians(25), np.radians(10), 1.25
    matrix = affine_matrices(H, W, rotation=np.full(1, 25.0), zoom=z, shear=10.0, right=1.5, up=-0.5,
                             horizontal_flip=True)[0]
    R, S = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]), np.array([[1, -np.tan(b)], [0, 1]])
    p = np.array([2.0, 1.0])
    q = R @ S @ (z * np.array([-1, 1]) * p) + [1.5, -0.5]
    row, column = matrix @ [(H - 1) / 2 - q[1], q[0] + (W - 1) / 2, 1]
    np.testing.assert_allclose([column - (W - 1) / 2, (H - 1) / 2 - row], p, rtol=1e-14)


def test_outside_takes_the_nearest_edge_pixel():
    ramp = np.array([[[10, 20, 30]]], np.uint8)
    matrices = affine_matrices(1, 3, rotation=np.zeros(1), right=2.0)
    out = reference_augmentation.affine_warp(ramp[..., np.newaxis], matrices, np.ones(1, np.float32), np.zeros(1, np.float32), 1)
    np.testing.assert_array_equal((out * 255).round().ravel(), [10, 10, 10])


# ---- Exactness -------------------------------------------------------------------------------------------------------

def test_none_is_pixels_over_255_to_the_bit():
    levels = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    out = Augmentation.none().apply(levels, seed=1, epochs=0, samples=0)
    np.testing.assert_array_equal(out, np.repeat((levels[..., np.newaxis] / 255).astype(np.float32), 3, axis=3))
    assert out.dtype == np.float32


@pytest.mark.parametrize("name, view", [("rescale", np.s_[:]), ("vertical_flip", np.s_[:, ::-1]),
                                        ("horizontal_flip", np.s_[:, :, ::-1])])
def test_flips_copy_pixels_to_the_bit(name, view):
    out = Augmentation.paper().apply(PIXELS, 3, 0, np.arange(5), 1, technique=TECHNIQUES.index(name))
    np.testing.assert_array_equal(out, SCALED[view])


def test_intensity_technique_shifts_all_pixels_by_one_number_and_clips():
    grey = np.full((40, 2, 2), 128, np.uint8)
    aug = Augmentation.paper()
    added = aug.apply(grey, 3, 0, np.arange(40), 1, technique=TECHNIQUES.index("intensity")) - np.float32(128 / 255)
    assert np.ptp(added, axis=(1, 2, 3)).max() == 0
    assert -0.1 <= added.min() < -0.08 and 0.08 < added.max() <= 0.1
    white = aug.apply(np.full((40, 2, 2), 255, np.uint8), 3, 0, np.arange(40), 1, technique=6)
    assert white.max() == 1.0 and white.min() < 0.95


def test_contrast_turns_about_mid_grey():
    aug = Augmentation(contrast=0.5)
    levels = np.tile(np.array([[[64, 127.5, 191]]], np.float32) / 255, (40, 1, 1))
    out = aug.apply(levels, 3, 0, np.arange(40), 1)[..., 0]
    np.testing.assert_allclose(out[:, 0, 1], 0.5, atol=1e-6)
    ratio = (out[:, 0, 2] - out[:, 0, 0]) / (levels[:, 0, 2] - levels[:, 0, 0])
    assert 0.5 <= ratio.min() < 0.6 and 1.4 < ratio.max() <= 1.5


def test_gamma_is_a_power_of_each_image_uniform_in_its_logarithm():
    levels = np.tile(np.array([[[0.0, 0.25, 1.0]]], np.float32), (400, 1, 1))
    out = Augmentation(gamma=1.0).apply(levels, 3, 0, np.arange(400), 1)[..., 0]
    assert (out[:, 0, 0] == 0).all() and (out[:, 0, 2] == 1).all()
    power = np.log(out[:, 0, 1]) / np.log(0.25)
    assert 0.5 <= power.min() < 0.51 and 1.96 < power.max() <= 2 + 1e-6
    assert abs((power < 1).mean() - 0.5) < 0.1


def test_blur_mixes_a_picture_with_its_smooth_self():
    dot = np.zeros((300, 5, 5), np.float32)
    dot[:, 2, 2] = 1
    out = Augmentation(blur=0.8).apply(dot, 3, 0, np.arange(300), 1)[..., 0]
    share = (1 - out[:, 2, 2]) / (1 - 0.25)                         # the middle of the smooth dot is 1/2 x 1/2
    assert 0 <= share.min() < 0.01 and 0.79 < share.max() <= 0.8 + 1e-6
    smooth = np.outer([1, 2, 1], [1, 2, 1]) / 16
    np.testing.assert_allclose(out[:, 1:4, 1:4], dot[:, 1:4, 1:4] + share[:, None, None] * (smooth - dot[:, 1:4, 1:4]),
                               atol=1e-6)
    assert not out[:, [0, 4]].any()
    flat = Augmentation(blur=1).apply(np.full((3, 4, 4), 100, np.uint8), 3, 0, np.arange(3), 1)
    np.testing.assert_allclose(flat, 100 / 255, rtol=1e-6)          # the edge is repeated, not darkened


def test_noise_is_different_in_each_pixel_and_no_wider_than_its_range():
    grey = np.full((50, 32, 32), 0.5, np.float32)
    added = Augmentation(noise=0.2).apply(grey, 3, 0, np.arange(50), 1) - 0.5
    width = np.abs(added).max(axis=(1, 2, 3))
    assert 0.18 < width.max() <= 0.2 and width.min() < 0.02
    assert np.abs(added.mean(axis=(1, 2, 3)) / width).max() < 0.1 and len(np.unique(added[0])) > 1000
    neighbours = np.corrcoef(added[:, :, :-1].ravel(), added[:, :, 1:].ravel())[0, 1]
    assert abs(neighbours) < 0.02
    assert Augmentation(noise=1).apply(grey, 3, 0, np.arange(50), 1).min() == 0


def test_what_is_done_to_grey_is_the_same_in_all_its_channels():
    three = STRONG.apply(PIXELS, 5, 1, np.arange(5))
    np.testing.assert_array_equal(three, np.repeat(STRONG.apply(PIXELS, 5, 1, np.arange(5), 1), 3, axis=3))
    colour = np.stack([PIXELS, PIXELS[:, ::-1], PIXELS[:, :, ::-1]], axis=-1)
    assert STRONG.apply(colour, 5, 1, np.arange(5)).shape == colour.shape


def test_the_later_changes_leave_the_draws_of_the_earlier_ones_alone():
    honest = Augmentation.honest()
    with_none = Augmentation(**honest.to_dict() | {"gamma": 1e-9})
    np.testing.assert_allclose(with_none.apply(PIXELS, 5, 1, np.arange(5)), honest.apply(PIXELS, 5, 1, np.arange(5)),
                               atol=1e-6)


def test_a_technique_alone_is_neither_blurred_nor_developed():
    out = STRONG.apply(PIXELS, 5, 1, np.arange(5), 1, technique=np.array([0, 0, -1, 0, 0]))
    np.testing.assert_array_equal(out[[0, 1, 3, 4]], SCALED[[0, 1, 3, 4]])
    assert (out[2] != SCALED[2]).any()


def test_float_pixels_are_taken_as_they_are():
    for dtype in (np.float32, np.float64, ">f4"):
        np.testing.assert_array_equal(Augmentation.none().apply(SCALED.astype(dtype), 1, 0, 0, 1), SCALED)
    unaligned = np.frombuffer(b"\0" + SCALED.tobytes(), np.uint8)[1:].view(np.float32).reshape(SCALED.shape)
    np.testing.assert_array_equal(Augmentation.none().apply(unaligned, 1, 0, 0, 1), SCALED)


def test_colour_keeps_its_channels():
    colour = np.stack([PIXELS, PIXELS[:, ::-1], PIXELS[:, :, ::-1]], axis=-1)
    aug = Augmentation.honest()
    out = aug.apply(colour, 5, 1, np.arange(5))
    for c in range(3):
        np.testing.assert_array_equal(out[..., c], aug.apply(colour[..., c], 5, 1, np.arange(5), 1)[..., 0])


def test_pixels_of_any_memory_form_give_the_same():
    plain = Augmentation.honest().apply(PIXELS, 5, 1, np.arange(5))
    locked = PIXELS.copy()
    locked.flags.writeable = False
    before = PIXELS.copy()
    for form in (np.asfortranarray(PIXELS), np.repeat(PIXELS, 2, axis=2)[:, :, ::2], PIXELS[:, ::-1].copy()[:, ::-1],
                 locked, PIXELS[..., np.newaxis]):
        np.testing.assert_array_equal(Augmentation.honest().apply(form, 5, 1, np.arange(5)), plain)
    np.testing.assert_array_equal(PIXELS, before)


# ---- Kernel and specification ----------------------------------------------------------------------------------------

@given(N=st.integers(1, 3), H=st.integers(1, 9), W=st.integers(1, 18), C=st.sampled_from([1, 2, 3]), data=st.data())
def test_kernel_agrees_with_reference_to_the_bit(N, H, W, C, data):
    u = uniforms(data.draw(st.integers(0, 2**32)), Stream.AUGMENTATION, 0, 0, N * (H * W * C + 8))
    levels, v = u[:N * H * W * C].reshape(N, H, W, C), u[N * H * W * C:].reshape(8, N)
    matrices = affine_matrices(H, W, rotation=360 * v[0], zoom=0.3 + 2 * v[1], shear=80 * v[2] - 40, right=W * v[3],
                               up=-H * v[4], vertical_flip=v[5] < 0.5, horizontal_flip=v[5] < 0.25)
    gains, offsets = (0.5 + v[6]).astype(np.float32), (v[7] - 0.5).astype(np.float32)
    channels = data.draw(st.integers(1, 4)) if C == 1 else C
    for pixels in ((levels * 256).astype(np.uint8), levels.astype(np.float32)):
        out = np.full((N, H, W, channels), np.nan, np.float32)
        affine_warp(pixels, matrices, gains, offsets, out)
        np.testing.assert_array_equal(out, reference_augmentation.affine_warp(pixels, matrices, gains, offsets, channels))


def test_nan_pixels_stay_nan_in_both():
    pixels = np.full((1, 3, 3, 1), 0.5, np.float32)
    pixels[0, 1, 1] = np.nan
    arguments = pixels, affine_matrices(3, 3, rotation=np.zeros(1)), np.ones(1, np.float32), np.zeros(1, np.float32)
    out = np.zeros((1, 3, 3, 1), np.float32)
    affine_warp(*arguments, out)
    assert np.isnan(out[0, 1, 1, 0])
    np.testing.assert_array_equal(out, reference_augmentation.affine_warp(*arguments, 1))


@given(H=st.integers(1, 8), W=st.integers(1, 8))
def test_reference_agrees_with_a_loop_over_pixels(H, W):
    """The bilinear value once more, as the sum of the four neighbours weighted by the opposite areas."""
    u = uniforms(H, Stream.AUGMENTATION, W, 0, H * W + 5)
    image, v = u[:H * W].reshape(H, W).astype(np.float32), u[H * W:]
    matrix = affine_matrices(H, W, rotation=360 * v[:1], zoom=0.5 + v[1], shear=30 * v[2], right=v[3], up=v[4])
    expected = np.empty((H, W))
    for i in range(H):
        for j in range(W):
            y, x = np.clip(matrix[0] @ [i, j, 1], 0, [H - 1, W - 1])
            expected[i, j] = sum(image[k, l] * max(0, 1 - abs(y - k)) * max(0, 1 - abs(x - l))
                                 for k in range(H) for l in range(W))
    out = reference_augmentation.affine_warp(image[np.newaxis, ..., np.newaxis], matrix, np.ones(1, "f"), np.zeros(1, "f"), 1)
    np.testing.assert_allclose(out[0, ..., 0], expected, atol=1e-6)


# ---- Draws -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("n", [1, 4, 10])
def test_uniforms_batch_gives_the_numbers_of_uniforms(n):
    epochs, samples = [3, 0, 0, 2**63, 1], [9, 2**63, 2, 0, 0]
    got = uniforms_batch(7, Stream.AUGMENTATION, epochs, samples, n)
    expected = [uniforms(7, Stream.AUGMENTATION, epoch, sample, n) for epoch, sample in zip(epochs, samples)]
    np.testing.assert_array_equal(got, expected)
    with pytest.raises(InputError, match="1 epochs for 2 samples"):
        uniforms_batch(7, Stream.AUGMENTATION, [0], [1, 2], n)
    assert words(7, Stream.AUGMENTATION, 3, 9, 1)[0] >> np.uint64(11) == got[0, 0] * 2**53


@pytest.mark.parametrize("aug", [Augmentation.paper(), Augmentation.honest(), STRONG])
def test_neither_batch_nor_order_matters(aug):
    pixels = np.resize(PIXELS, (8, 6, 7))
    epochs, samples = np.arange(8) % 3, np.arange(8) * 5
    whole = aug.apply(pixels, 11, epochs, samples)
    order = np.array([5, 0, 7, 1, 6, 2, 4, 3])
    np.testing.assert_array_equal(aug.apply(pixels[order], 11, epochs[order], samples[order]), whole[order])
    for i in range(8):
        np.testing.assert_array_equal(aug.apply(pixels[i:i + 1], 11, epochs[i], samples[i])[0], whole[i])


def test_each_of_seed_epoch_and_sample_changes_the_draw():
    first = Augmentation.honest().apply(PIXELS[1:2], 1, 1, 1)
    for seed, epoch, sample in ((2, 1, 1), (1, 2, 1), (1, 1, 2)):
        assert (Augmentation.honest().apply(PIXELS[1:2], seed, epoch, sample) != first).any()


def test_paper_draws_one_of_seven_techniques_equally_often():
    N = 1400
    dot = np.zeros((N, 9, 9), np.uint8)
    dot[:, 1, 2], dot[:, 4, 4] = 255, 128
    out = Augmentation.paper().apply(dot, 4, 0, np.arange(N), 1)
    each = [Augmentation.paper().apply(dot, 4, 0, np.arange(N), 1, technique=k) for k in range(7)]
    matches = np.array([(out == other).all(axis=(1, 2, 3)) for other in each])
    assert (matches.sum(axis=0) == 1).all()
    counts = matches.sum(axis=1)
    assert abs(counts - N / 7).max() < 4 * np.sqrt(N * 6 / 49)


def test_draws_reach_their_ranges_and_not_beyond():
    """One pixel's way tells each range: the marked corner of a large image moves as far as the docstring says."""
    N = 400
    u = uniforms_batch(9, Stream.AUGMENTATION, [0] * N, range(N), 10)
    paper, honest = Augmentation.paper(), Augmentation.honest()

    def matrices(aug, name):
        technique = np.full(N, TECHNIQUES.index(name) if name else -1)
        return aug._draw(u, technique, 101, 101)[0]

    rotation = np.degrees(np.arctan2(-matrices(paper, "rotation")[:, 0, 1], matrices(paper, "rotation")[:, 0, 0]))
    zoom = 1 / matrices(paper, "zoom")[:, 0, 0]
    shear = np.degrees(np.arctan(-matrices(paper, "shear")[:, 1, 0]))
    for values, low, high in ((rotation, -20, 20), (zoom, 0.8, 1.2), (shear, -15, 15)):
        assert low <= values.min() < low + 0.03 * (high - low) and high - 0.03 * (high - low) < values.max() <= high
    together = matrices(honest, None)
    moved = together @ [50, 50, 1] - 50       # how far the centre's input position is from the centre
    assert np.abs(moved).max() <= 5.05 * np.sqrt(2) / 0.9 and np.abs(moved).max() > 4.5
    assert not (np.linalg.det(together[:, :, :2]) < 0).any()                    # no flips
    only_rotated = honest._draw(u, np.full(N, TECHNIQUES.index("rotation")), 101, 101)
    np.testing.assert_allclose(only_rotated[0] @ [50, 50, 1], 50)               # a technique alone does not shift
    assert (only_rotated[1] == 1).all() and (only_rotated[2] == 0).all()


def test_composed_flips_happen_in_half_of_the_images():
    aug = Augmentation(horizontal_flip=True)
    out = aug.apply(np.resize(PIXELS[1], (400, 6, 7)), 6, 0, np.arange(400), 1)[..., 0]
    flipped = (out == SCALED[1, :, ::-1, 0]).all(axis=(1, 2))
    assert ((out == SCALED[1, ..., 0]).all(axis=(1, 2)) ^ flipped).all()
    assert 160 < flipped.sum() < 240


def test_out_is_filled_and_returned():
    out = np.full((5, 6, 7, 3), np.nan, np.float32)
    assert Augmentation.paper().apply(PIXELS, 1, 0, np.arange(5), out=out) is out
    assert not np.isnan(out).any()
    assert Augmentation.paper().apply(PIXELS[:0], 1, 0, np.arange(0)).shape == (0, 6, 7, 3)


# ---- Arguments -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("values, message", [
    ({"rotation": -1}, r"Augmentation: rotation must lie in \[0, 180\], got -1"),
    ({"zoom": 1.0}, r"Augmentation: zoom must lie in \[0, 0\.9\], got 1\.0"),
    ({"shear": float("nan")}, r"Augmentation: shear must lie in \[0, 80\], got nan"),
    ({"shift": "5 %"}, r"Augmentation: shift must lie in \[0, 1\], got '5 %'"),
    ({"intensity": True}, r"Augmentation: intensity must lie in \[0, 1\], got True"),
    ({"contrast": float("inf")}, r"Augmentation: contrast must lie in \[0, 0\.9\], got inf"),
    ({"vertical_flip": 1}, "vertical_flip must be True or False, got 1"),
    ({"gamma": 9.5}, r"Augmentation: gamma must lie in \[0, 9\], got 9\.5"),
    ({"blur": 1.5}, r"Augmentation: blur must lie in \[0, 1\], got 1\.5"),
    ({"noise": -0.5}, r"Augmentation: noise must lie in \[0, 1\], got -0\.5"),
    ({"one_technique": True, "noise": 0.1}, r"noise must be 0 with one_technique, got 0\.1"),
    ({"one_technique": True, "shift": 0.1}, r"shift must be 0 with one_technique, got 0\.1"),
])
def test_bad_ranges(values, message):
    with pytest.raises(InputError, match=message):
        Augmentation(**values)


def test_dict_is_closed():
    for aug in (Augmentation.paper(), Augmentation.honest(), Augmentation.none()):
        assert Augmentation.from_dict(aug.to_dict()) == aug
    good = Augmentation.paper().to_dict()
    with pytest.raises(InputError, match=r"Augmentation: unknown field 'rotatoin'\. Did you mean 'rotation'\?"):
        Augmentation.from_dict(good | {"rotatoin": 3})
    with pytest.raises(InputError, match=r"Augmentation: missing field shear\."):
        Augmentation.from_dict({name: value for name, value in good.items() if name != "shear"})
    with pytest.raises(InputError, match=r"Augmentation: .* fields rotation, .*, got list"):
        Augmentation.from_dict([])
    with pytest.raises(InputError, match=r"Augmentation: zoom must lie in \[0, 0\.9\], got 7"):
        Augmentation.from_dict(good | {"zoom": 7})


@pytest.mark.parametrize("changed, error, message", [
    ({"pixels": PIXELS[0]}, ShapeError, r"pixels: expected shape \(N, H, W\), .*, got \(6, 7\)\.$"),
    ({"pixels": np.zeros((2, 3, 8, 8), np.uint8)}, ShapeError, r"got \(2, 3, 8, 8\)\. Images are channels-last; try "),
    ({"pixels": np.zeros((2, 0, 8), np.uint8)}, ShapeError, r"pixels: expected shape .*, got \(2, 0, 8, 1\)\."),
    ({"pixels": PIXELS.astype(np.int64)}, DTypeError, r"pixels: expected uint8, or float32 .*, got int64\."),
    ({"pixels": PIXELS.astype(complex)}, DTypeError, r"pixels: expected uint8, or float32 .*, got complex128\."),
    ({"pixels": PIXELS.astype(np.float32)}, InputError, r"pixels: expected floats from 0 to 1, got 0 to 209\. Divide"),
    ({"pixels": np.full((5, 2, 2), np.nan)}, InputError, r"pixels: expected floats from 0 to 1, got nan to nan\."),
    ({"seed": -1}, InputError, r"seed must be a whole number from 0 to 2\*\*64 - 1, got -1\."),
    ({"epochs": 0.5}, DTypeError, r"epochs: expected whole numbers, got float64\."),
    ({"samples": np.arange(4)}, ShapeError, r"samples: expected one number, or one for each of the 5 images, got"),
    ({"samples": -1}, InputError, r"samples: expected numbers from 0, got -1\."),
    ({"technique": 7}, InputError, r"technique: expected -1 or one of 0 \(rescale\), 3 \(rotation\), .*, got 7\."),
    ({"technique": 1}, InputError, r"technique: expected -1 or one of 0 \(rescale\), 3 \(rotation\), .*, got 1\."),
    ({"technique": -2}, InputError, r"technique: expected numbers from -1, got -2\."),
    ({"channels": 2}, InputError, r"channels: expected 1 or 3 for pixels of shape \(5, 6, 7, 1\), got 2\."),
    ({"pixels": np.zeros((5, 2, 2, 3), np.uint8), "channels": 1}, InputError, r"channels: expected 3 for pixels"),
    ({"out": np.zeros((5, 6, 7, 1), np.float32)}, ShapeError, r"out .* must be an array of shape \(5, 6, 7, 3\), got"),
    ({"out": np.zeros((5, 6, 7, 3))}, DTypeError, r"out is filled with float32, got float64\."),
    ({"out": np.broadcast_to(np.float32(0), (5, 6, 7, 3))}, InputError, r"out .* must be a C-contiguous, .* writable"),
    ({"out": np.zeros((5, 6, 7, 3), np.float32, order="F")}, InputError, r"out .* must be a C-contiguous, .* writable"),
])
def test_bad_arguments(changed, error, message):
    arguments = {"pixels": PIXELS, "seed": 1, "epochs": 0, "samples": np.arange(5)} | changed
    with pytest.raises(error, match=message):
        Augmentation.honest().apply(**arguments)


def test_importing_augmentation_does_not_import_numba():
    code = "import sys, minicnn.data.augmentation; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
