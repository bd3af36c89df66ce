"""Decoding: every kind of file against pixels computed by hand, and a typed error for what is not an image."""

import io
import os
import random
import struct
import threading
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st
from PIL import Image

from minicnn.data import decoding
from minicnn.data.augmentation import Augmentation
from minicnn.data.decoding import ImageWarning, quiet, read_bytes
from minicnn.data.preprocessing import Preprocessing, decode, equalized, resize, to_input
from minicnn.errors import ImageError, InputError, ShapeError
from minicnn.evaluation.explanation.border import border_mask

DEEP, BYTE = 255 / 65535, 1.0       # how far a pixel may be off, where white is 255: see the table in decoding.py
GREY = np.array([[0, 10, 200], [255, 128, 64]], np.uint8)
RGB = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [10, 20, 30]]], np.uint8)
RGB_AS_GREY = RGB @ [0.299, 0.587, 0.114]


def saved(array_or_image, format_, mode=None, **options):
    """Return the bytes of an image file that Pillow wrote."""
    image = array_or_image
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    if mode is not None:
        image = image.convert(mode)
    file = io.BytesIO()
    image.save(file, format_, **options)
    return file.getvalue()


def png(width, height, depth, color, scanlines, *chunks):
    """Return a PNG written by hand: scanlines are bytes without their filter byte; chunks come before the pixels."""
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + line for line in scanlines)))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(chunk(*pair) for pair in chunks) + pixels + chunk(b"IEND", b"")


def tiff(width, height, bits, data, photometric=1, sample_format=1, order="<"):
    """Return an uncompressed grey TIFF written by hand."""
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, photometric), (273, 8 + 2 + 12 * 10 + 4), (277, 1),
            (278, height), (279, len(data)), (339, sample_format)]
    head = struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, 8) + struct.pack(order + "H", len(tags))
    return head + b"".join(struct.pack(order + "HHII", tag, 4, 1, value) for tag, value in tags) + bytes(4) + data


def sixteen(values, order="<"):
    return np.asarray(values, order + "u2").tobytes()


# ---- Pixel meaning, by hand ------------------------------------------------------------------------------------------

DEEP_GREY = np.array([[0, 1, 256, 4095], [32768, 40000, 65534, 65535]])
CMYK = np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 128, 255, 51], [9, 9, 9, 255]]], np.uint8)
CMYK_AS_RGB = (255.0 - CMYK[..., :3]) * (255.0 - CMYK[..., 3:]) / 255
PALETTE = b"PLTE", bytes([255, 0, 0, 0, 255, 0, 9, 9, 9])

HAND = {
    "1 bit": (png(4, 1, 1, 0, [b"\xa0"]), [[255, 0, 255, 0]], 0),
    "2 bits": (png(4, 1, 2, 0, [b"\x1b"]), [[0, 85, 170, 255]], 0),
    "4 bits": (png(2, 1, 4, 0, [b"\x3f"]), [[51, 255]], 0),
    "8 bits": (png(3, 2, 8, 0, [bytes(row) for row in GREY]), GREY, 0),
    "16 bits": (png(4, 2, 16, 0, [sixteen(row, ">") for row in DEEP_GREY]), DEEP_GREY / 257, DEEP),
    "16 bits, one value transparent": (
        png(4, 2, 16, 0, [sixteen(row, ">") for row in DEEP_GREY], (b"tRNS", sixteen([40000], ">"))),
        np.where(DEEP_GREY == 40000, 0, DEEP_GREY) / 257, DEEP),
    "8 bits, one value transparent": (png(3, 1, 8, 0, [bytes([9, 200, 9])], (b"tRNS", b"\0\x09")), [[0, 200, 0]], 0),
    "grey and alpha": (png(2, 1, 8, 4, [bytes([200, 255, 200, 51])]), [[200, 40]], 1e-4),
    "grey and alpha, 16 bits": (png(2, 1, 16, 4, [sixteen([51400, 65535, 51400, 13107], ">")]), [[200, 40]], BYTE),
    "RGB": (png(2, 2, 8, 2, [row.tobytes() for row in RGB]), RGB_AS_GREY, 1e-4),
    "RGB, 16 bits": (png(2, 1, 16, 2, [sixteen([65535, 0, 0, 257, 514, 771], ">")]), [[76.245, 1.815]], BYTE),
    "RGB, one colour transparent": (png(2, 1, 8, 2, [bytes([1, 2, 3, 50, 50, 50])], (b"tRNS", b"\0\1\0\2\0\3")),
                                    [[0, 50]], 1e-4),
    "RGBA": (png(2, 1, 8, 6, [bytes([255, 0, 0, 255, 100, 100, 100, 51])]), [[76.245, 20]], 1e-4),
    "palette": (png(3, 1, 8, 3, [bytes([0, 1, 2])], PALETTE), [[76.245, 149.685, 9]], 1e-4),
    "palette, entries transparent": (png(3, 1, 8, 3, [bytes([0, 1, 2])], PALETTE, (b"tRNS", bytes([0, 51]))),
                                     [[0, 29.937, 9]], 1e-3),
    "palette of 1 bit": (png(8, 1, 1, 3, [b"\x50"], PALETTE), [[76.245, 149.685] * 2 + [76.245] * 4], 1e-3),
    "BMP of 1 bit": (saved(Image.fromarray(GREY > 100), "BMP"), np.where(GREY > 100, 255, 0), 0),
    "BMP, grey": (saved(GREY, "BMP"), GREY, 0),
    "BMP, colour": (saved(RGB, "BMP"), RGB_AS_GREY, 1e-4),
    "WebP, lossless": (saved(RGB, "WEBP", lossless=True), RGB_AS_GREY, 1e-4),
    "JPEG, flat grey": (saved(np.full((8, 8), 77, np.uint8), "JPEG"), np.full((8, 8), 77), 0),
    "JPEG, CMYK": (saved(Image.fromarray(np.full((8, 8, 4), [0, 255, 255, 0], np.uint8), "CMYK"), "JPEG", quality=100),
                   np.full((8, 8), 76.245), 3 * BYTE),
    "TIFF, 1 bit": (saved(Image.fromarray(GREY > 100), "TIFF"), np.where(GREY > 100, 255, 0), 0),
    "TIFF, white is zero": (tiff(3, 2, 8, GREY.tobytes(), photometric=0), 255 - GREY.astype(int), 0),
    "TIFF, 16 bits": (tiff(4, 2, 16, sixteen(DEEP_GREY)), DEEP_GREY / 257, DEEP),
    "TIFF, 16 bits, big-endian": (tiff(4, 2, 16, sixteen(DEEP_GREY, ">"), order=">"), DEEP_GREY / 257, DEEP),
    "TIFF, 16 bits, white is zero": (tiff(4, 2, 16, sixteen(DEEP_GREY), photometric=0), (65535 - DEEP_GREY) / 257, DEEP),
    "TIFF, 16 bits, signed": (tiff(2, 1, 16, sixteen([0, 32767]), sample_format=2), [[0, 32767 / 257]], DEEP),
    "TIFF, 12 bits": (tiff(2, 1, 12, b"\xff\xf8\x00"), [[255, 2048 / 4095 * 255]], DEEP),
    "TIFF, 32 bits": (tiff(2, 1, 32, np.array([257, 65535], "<u4").tobytes()), [[1, 255]], DEEP),
    "TIFF, floats": (tiff(3, 1, 32, np.array([0, 0.5, 1], "<f4").tobytes(), sample_format=3), [[0, 127.5, 255]], 1e-4),
    "TIFF, floats, white is zero": (tiff(2, 1, 32, np.array([0, 0.25], "<f4").tobytes(), 0, 3), [[255, 191.25]], 1e-4),
    "TIFF, CMYK": (saved(Image.fromarray(CMYK, "CMYK"), "TIFF"), CMYK_AS_RGB @ [0.299, 0.587, 0.114], 1e-3),
    "TIFF, RGBA": (saved(np.array([[[255, 0, 0, 255], [100, 100, 100, 51]]], np.uint8), "TIFF"), [[76.245, 20]], 1e-4),
}
TRANSPARENT = [name for name in HAND if "transparent" in name or "alpha" in name or "RGBA" in name]


@pytest.mark.parametrize("name", HAND)
def test_pixels_mean_what_they_mean(name):
    data, expected, tolerance = HAND[name]
    with pytest.warns(ImageWarning, match="the image is not opaque") if name in TRANSPARENT else \
            warnings.catch_warnings():
        pixels = decode(data)
    assert pixels.dtype == np.float32 and pixels.shape == np.shape(expected)
    assert np.abs(pixels - np.asarray(expected)).max() <= tolerance


def test_grey_in_three_equal_channels_is_the_same_grey_to_the_bit():
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(decode(saved(np.stack([ramp] * 3, axis=-1), "PNG")), ramp)


def test_rgb_keeps_its_channels_and_grey_is_repeated():
    np.testing.assert_array_equal(decode(saved(RGB, "PNG"), "rgb"), RGB)
    np.testing.assert_array_equal(decode(saved(GREY, "PNG"), "rgb"), np.stack([GREY] * 3, axis=-1))
    np.testing.assert_allclose(decode(saved(Image.fromarray(CMYK, "CMYK"), "TIFF"), "rgb"), CMYK_AS_RGB, atol=1e-4)
    deep = decode(HAND["16 bits"][0], "rgb")
    np.testing.assert_array_equal(deep[..., 0], deep[..., 2])
    with pytest.warns(ImageWarning, match="not opaque"):
        pixels = decode(saved(np.array([[[250, 50, 100, 102]]], np.uint8), "PNG"), "rgb")
    np.testing.assert_allclose(pixels, [[[100, 20, 40]]], atol=1e-4)


def test_an_opaque_alpha_channel_is_no_remark():
    opaque = np.concatenate([RGB, np.full((2, 2, 1), 255, np.uint8)], axis=-1)
    np.testing.assert_allclose(decode(saved(opaque, "PNG")), RGB_AS_GREY, atol=1e-4)


# ---- Orientation -----------------------------------------------------------------------------------------------------

UPRIGHT = {1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: np.transpose,
           6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a.T, 2), 8: np.rot90}


@pytest.mark.parametrize("format_, options", [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True}), ("JPEG", {})])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation_is_applied(format_, options, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.kron(np.array([[0, 80, 160], [240, 40, 120]], np.uint8), np.ones((8, 8), np.uint8))
    pixels = decode(saved(stored, format_, exif=exif, **options))
    assert np.abs(pixels - UPRIGHT[orientation](stored)).max() <= (3 if format_ == "JPEG" else 0)


@pytest.mark.parametrize("exif", [b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\1\x12"])
def test_an_unreadable_exif_block_counts_as_upright(exif):
    np.testing.assert_array_equal(decode(saved(np.full((8, 8), 7, np.uint8), "JPEG", exif=exif)), np.full((8, 8), 7))


def test_an_orientation_out_of_range_counts_as_upright():
    exif = Image.Exif()
    exif[0x0112] = 9
    np.testing.assert_array_equal(decode(saved(GREY, "PNG", exif=exif)), GREY)


# ---- Kinds of files --------------------------------------------------------------------------------------------------

def test_progressive_is_baseline():
    noise = np.random.default_rng(1).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decode(saved(noise, "JPEG", progressive=True)), decode(saved(noise, "JPEG")))


@pytest.mark.parametrize("format_", ["TIFF", "PNG", "WEBP", "MPO"])
def test_of_several_frames_the_first_is_taken(format_):
    first, second = np.full((8, 8), 50, np.uint8), np.full((8, 8), 200, np.uint8)
    options = {"lossless": True} if format_ == "WEBP" else {}
    data = saved(first, format_, save_all=True, append_images=[Image.fromarray(second)], **options)
    with pytest.warns(ImageWarning, match="the image holds several frames: the first was taken"):
        np.testing.assert_array_equal(decode(data), first)


def test_content_decides_and_not_the_name(tmp_path):
    path = tmp_path / "scan.jpg"
    path.write_bytes(saved(GREY, "PNG"))
    np.testing.assert_array_equal(decode(path), GREY)
    np.testing.assert_array_equal(decode(str(path)), GREY)


@pytest.mark.parametrize("height, width", [(1, 1), (1, 500), (500, 1)])
def test_thin_pictures(height, width):
    data = saved(np.full((height, width), 9, np.uint8), "PNG")
    assert decode(data).shape == (height, width)
    assert (resize(decode(data), Preprocessing()) == 9).all()


# The sizes and modes of ../shared/data/raw/README.md; the mean of each was read off once, from Pillow's own conversion.
RAW = {"01": (655, 651), "02": (972, 1151), "03": (973, 1050), "04": (648, 872), "05": (941, 1024), "06": (473, 630),
       "07": (437, 424), "08": (611, 695), "09": (1200, 1143), "10": (1474, 1500), "11": (1080, 1080), "12": (841, 1107),
       "13": (585, 800), "14": (874, 880), "15": (484, 455), "16": (480, 480), "17": (804, 890), "18": (362, 439),
       "19": (648, 768), "20": (1264, 1399), "21": (1390, 2000)}


@pytest.mark.parametrize("number", RAW)
def test_real_files_of_every_kind(shared, number):
    path = next((shared / "data" / "raw").glob(f"{number}_*"))
    pixels = decode(path)       # a remark would be an error: the alpha channels of these are opaque
    assert pixels.shape == RAW[number]
    with Image.open(path) as image:
        np.testing.assert_allclose(pixels, np.asarray(image.convert("RGB")) @ [0.299, 0.587, 0.114], atol=1e-3)
    small = resize(pixels, Preprocessing())
    assert small.shape == (64, 64) and small.dtype == np.uint8 and 20 < small.mean() < 220 and small.std() > 15


# ---- What cannot be read ---------------------------------------------------------------------------------------------

def bomb(width, height):
    return png(width, height, 8, 0, [b""])


WRONG = {
    "empty": (b"", "the image: PNG, JPEG, WebP, BMP, TIFF and DICOM files are read, this is none of them"),
    "text": (b"hello", "this is none of them. Convert it, for instance to PNG"),
    "GIF": (saved(GREY, "GIF"), "this is a GIF. Convert it"),
    "PDF": (b"%PDF-1.7 ...", "this is a PDF"),
    "web page": (b"\n <!DOCTYPE html><html>", "this is a web page or XML"),
    "JPEG 2000": (b"\0\0\0\x0cjP  \r\n\x87\n", "this is a JPEG 2000 file"),
    "DICOM": (bytes(128) + b"DICM" + bytes(50), "the image: is a DICOM file"),
    "HEIC": (b"\0\0\0\x18ftypheic", "this is a HEIC or AVIF file"),
    "half a PNG": (saved(GREY, "PNG")[:20], "starts like a PNG, but is damaged|cannot be decoded"),
    "half a JPEG": (saved(np.tile(GREY, (50, 50)), "JPEG")[:900], r"cannot be decoded \(image file is truncated"),
    "half a WebP": (saved(GREY, "WEBP")[:25], "starts like a WebP, but is damaged|cannot be decoded"),
    "changed pixels": (saved(np.tile(GREY, (9, 9)), "PNG")[:60] + bytes(30), "cannot be decoded"),
    "0 pixels wide": (tiff(0, 1, 8, b""), "starts like a TIFF, but is damaged"),
    "400 million pixels": (bomb(20000, 20000), "has more than the limit of 64,000,000 pixels. Scale it down"),
    "100 million pixels": (bomb(10000, 10000), "has more than the limit of 64,000,000 pixels"),
    "64 million pixels and some": (bomb(8000, 8001), "has 8000 x 8001 pixels; the limits are 1 and 64,000,000 in all"),
    "NaN": (tiff(1, 1, 32, np.float32(np.nan).tobytes(), sample_format=3),
            r"holds pixels from nan to nan; floats must lie between 0 \(black\) and 1 \(white\). Scale them first"),
    "infinity": (tiff(1, 1, 32, np.float32(np.inf).tobytes(), sample_format=3), "holds pixels from inf to inf"),
    "floats up to 255": (tiff(2, 1, 32, np.array([0, 255], "<f4").tobytes(), sample_format=3), "from 0.0 to 255.0; floats"),
    "32 bits, too large": (tiff(1, 1, 32, np.uint32(70000).tobytes()),
                           r"from 70000 to 70000; whole numbers must lie between 0 \(black\) and 65535 \(white\)"),
    "negative": (tiff(1, 1, 16, np.int16(-1).tobytes(), sample_format=2), "from -1 to -1; whole numbers"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_picture_is_a_typed_sentence(name):
    data, sentence = WRONG[name]
    with pytest.raises(ImageError, match=sentence):
        decode(data)


def test_files_that_cannot_be_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "empty.png").touch()
    (tmp_path / "loop.png").symlink_to("loop.png")
    with pytest.raises(ImageError, match=r"none.png: cannot be read \(No such file or directory\). Check the path"):
        decode(tmp_path / "none.png")
    for name, reason in {"pipe.png": "not a regular file", ".": "not a regular file", "a\0b": "null", "x" * 256: "too long",
                         "loop.png": "symbolic links"}.items():
        with pytest.raises(ImageError, match=rf"cannot be read \(.*{reason}"):
            read_bytes(f"{tmp_path}/{name}")
    with pytest.raises(ImageError, match=r"/dev/zero: cannot be read \(not a regular file\)"):
        read_bytes("/dev/zero")
    with pytest.raises(ImageError, match="empty.png: is empty"):
        decode(tmp_path / "empty.png")


def test_a_file_too_large_is_not_read(tmp_path):
    with open(tmp_path / "large.png", "wb") as file:
        file.truncate(256 * 2**20 + 1)      # sparse
    with pytest.raises(ImageError, match="large.png: has 268,435,457 bytes, more than the limit of 268,435,456"):
        read_bytes(tmp_path / "large.png")


def test_names_cannot_write_to_the_terminal(tmp_path):
    path = tmp_path / "a\n\x1b[2J\u202e.png"
    path.write_bytes(b"no picture")
    with pytest.raises(ImageError) as error:
        decode(path)
    assert str(error.value).isprintable() and r"\x1b[2J\u202e.png" in str(error.value)


MUTATED = {"PNG": {}, "JPEG": {}, "TIFF": {"compression": "tiff_lzw"}, "WEBP": {}}


@pytest.mark.parametrize("format_", MUTATED)
def test_mutants_are_decoded_or_refused_by_type(format_, capfd):
    data = saved(np.random.default_rng(2).integers(0, 256, (24, 20, 3), dtype=np.uint8), format_, **MUTATED[format_])
    draw, refused = random.Random(3), 0
    for _ in range(50):
        mutant = bytearray(data)
        for _ in range(draw.randint(1, 8)):
            mutant[draw.randrange(len(mutant))] = draw.randrange(256)
        if draw.random() < 0.3:
            del mutant[draw.randrange(len(mutant)):]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ImageWarning)
                pixels = decode(bytes(mutant))
            assert np.isfinite(pixels).all() and pixels.min() >= 0 and pixels.max() <= 255
        except ImageError as error:
            assert str(error).startswith("the image: ") and str(error).isprintable()
            refused += 1
    assert refused >= 5
    out, err = capfd.readouterr()
    assert out == "" and (err == "" or format_ == "TIFF")       # libtiff, in C, complains on stderr by itself


def test_pillows_own_warnings_stay_inside():
    exif = b"Exif\0\0II*\0\x08\0\0\0\1\0\x0e\x01\2\0\xff\xff\0\0\xff\xff\xff\x0f"
    decode(saved(np.zeros((8, 8), np.uint8), "JPEG", exif=exif))        # any warning is an error here


def test_quiet_leaves_the_filters_as_they_were_whoever_leaves_last():
    before, inside, leave = warnings.filters[:], threading.Event(), threading.Event()

    def other():
        with quiet():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=other)
    with quiet():
        thread.start()
        assert inside.wait(10)
    assert warnings.filters[:] != before        # the other one is still inside
    leave.set()
    thread.join()
    assert warnings.filters[:] == before and decoding._decoding == 0


# ---- Size and scale --------------------------------------------------------------------------------------------------

def area_weights(n, m):
    """Return the (m, n) weights of the antialiased triangle filter: each row's centre is (i + 1/2) n/m, its reach n/m."""
    scale = max(n / m, 1.0)
    at = (np.arange(m)[:, None] + 0.5) * n / m
    weights = np.clip(1 - np.abs(np.arange(n) + 0.5 - at) / scale, 0, None)
    return weights / weights.sum(axis=1, keepdims=True)


@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 2**32 - 1))
def test_resize_is_the_antialiased_triangle(height, width, seed):
    pixels = np.random.default_rng(seed).uniform(0, 255, (height, width)).astype(np.float32)
    expected = area_weights(height, 16) @ pixels @ area_weights(width, 12).T
    small = resize(pixels, Preprocessing(16, 12))
    assert small.shape == (16, 12) and np.abs(small - expected).max() <= 0.5 + 1e-3


def test_resize_makes_the_stored_shape():
    noise = np.random.default_rng(4).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    for color, stored in ("grey", (20, 30)), ("rgb", (20, 30, 3)):
        how = Preprocessing(20, 30, 3, color)
        assert resize(decode(saved(noise, "PNG"), color), how).shape == stored == how.stored_shape


def test_resize_keeps_black_white_and_its_argument():
    white = np.full((30, 40), 255, np.float32)
    assert (resize(white, Preprocessing()) == 255).all() and (resize(white - 255, Preprocessing()) == 0).all()
    overshoot = np.array([[-5.0, 300.0]])
    overshoot.setflags(write=False)
    assert resize(overshoot, Preprocessing(1, 2)).tolist() == [[0, 255]]


@pytest.mark.parametrize("shape, color", [((4,), "grey"), ((4, 4, 3), "grey"), ((4, 4), "rgb"), ((4, 4, 4), "rgb"),
                                          ((0, 4), "grey")])
def test_resize_refuses_other_shapes(shape, color):
    with pytest.raises(ShapeError, match=r"resize: expected pixels of shape \(H, W.*got \("):
        resize(np.zeros(shape), Preprocessing(color=color))


def test_to_input_is_what_augmentation_none_makes():
    pixels = np.arange(2 * 6 * 5, dtype=np.uint8).reshape(2, 6, 5) * 4
    x = to_input(pixels, Preprocessing(6, 5))
    assert x.dtype == np.float32 and x.shape == (2, 6, 5, 3)
    np.testing.assert_array_equal(x, Augmentation.none().apply(pixels, 0, 0, np.arange(2)))
    assert to_input(pixels, Preprocessing(6, 5, 1), np.float64)[1, 5, 4, 0] == np.float64(236) / 255
    color = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    np.testing.assert_array_equal(to_input(color, Preprocessing(2, 2, color="rgb")), color / np.float32(255))


# ---- Border and grey levels ------------------------------------------------------------------------------------------

def evened(pixels):
    """Return the share of the other pixels that is no brighter than each, with the darkest at 0: pixel by pixel."""
    n, darkest = pixels.size, (pixels == pixels.min()).sum()
    ranks = np.array([(pixels <= level).sum() for level in pixels.ravel()], float).reshape(pixels.shape)
    return pixels if darkest == n else np.rint(255 * (ranks - darkest) / (n - darkest))


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 256), st.integers(0, 99))
def test_equalisation_is_a_rank(height, width, levels, seed):
    pixels = np.random.default_rng(seed).integers(0, levels, (height, width), dtype=np.uint8)
    before = pixels.copy()
    np.testing.assert_array_equal(equalized(pixels), evened(pixels))
    assert (pixels == before).all() and equalized(pixels).dtype == np.uint8


def test_equalisation_forgets_brightness_contrast_and_gamma():
    pixels = np.random.default_rng(3).integers(0, 128, (20, 20), dtype=np.uint8)
    curve = np.sort(np.random.default_rng(5).permutation(256)[:128]).astype(np.uint8)       # it rises, somehow
    for other in (pixels + 40, 2 * pixels, curve[pixels]):
        np.testing.assert_array_equal(equalized(other), equalized(pixels))
    even = np.bincount(equalized(pixels).ravel() // 64, minlength=4) / 400
    assert np.abs(even - 0.25).max() < 0.05


def test_the_border_is_black_and_the_middle_as_it_was():
    noise = np.random.default_rng(4).integers(1, 256, (64, 64)).astype(np.float32)
    masked = resize(noise, Preprocessing(border=1 / 8))
    border = border_mask(64, 64)
    assert not masked[border].any() and (masked[~border] == noise[~border]).all()
    small = resize(noise[:40, :24], Preprocessing(40, 24, border=0.2))
    assert (small[8:32, 4:20] == noise[8:32, 4:20]).all() and np.count_nonzero(small) == 24 * 16


def test_equalisation_does_not_look_at_the_border():
    noise = np.random.default_rng(4).integers(0, 256, (64, 64)).astype(np.float32)
    tagged = noise.copy()
    tagged[:8] = 255
    how = Preprocessing(border=1 / 8, equalize=True)
    np.testing.assert_array_equal(resize(noise, how), resize(tagged, how))
    np.testing.assert_array_equal(resize(noise, how)[8:56, 8:56], evened(noise[8:56, 8:56]))


def test_colours_are_evened_out_one_by_one():
    colour = np.random.default_rng(4).integers(0, 256, (16, 16, 3)).astype(np.float32)
    how = Preprocessing(16, 16, color="rgb", equalize=True, border=1 / 8)
    for c in range(3):
        one = resize(colour[..., c], Preprocessing(16, 16, equalize=True, border=1 / 8))
        np.testing.assert_array_equal(resize(colour, how)[..., c], one)


# ---- Preprocessing ---------------------------------------------------------------------------------------------------

def test_preprocessing_round_trips_as_a_dict():
    how = Preprocessing(32, 48, 1)
    assert how.to_dict() == {"height": 32, "width": 48, "channels": 1, "color": "grey", "resample": "bilinear", "decoder": 1,
                             "equalize": False, "border": 0.0}
    assert Preprocessing.from_dict(how.to_dict()) == how and how.shape == (32, 48, 1)


@pytest.mark.parametrize("change, sentence", [
    ({"height": 0}, "height must be a whole number from 1.*got 0"),
    ({"height": True}, "height must be a whole number"),
    ({"width": 4097}, "width must be a whole number from 1 to 4096, got 4097"),
    ({"width": 2**70}, "width must be a whole number"),
    ({"width": "64"}, "width must be a whole number"),
    ({"channels": 2}, "channels must be 1 or 3 .*got 2"),
    ({"channels": 3.0}, "channels must be a whole number .*got 3.0"),
    ({"color": "rgb", "channels": 1}, "channels must be 3 .*got 1"),
    ({"color": ["grey"]}, r"color must be one of grey, rgb, got \['grey'\]"),
    ({"resample": "nearest"}, "resample must be .*bilinear, got 'nearest'"),
    ({"decoder": 2}, ".* version 1, not by version 2"),
    ({"decoder": True}, ".*not by version True"),
    ({"equalize": 1}, "equalize must be True or False, got 1"),
    ({"border": 0.5}, r"border must lie in \[0, 0.45\], got 0.5"),
    ({"border": -0.1}, r"border must lie in \[0, 0.45\], got -0.1"),
    ({"border": "1/8"}, r"border must lie in \[0, 0.45\], got '1/8'"),
    ({"border": True}, r"border must lie in \[0, 0.45\], got True"),
    ({"border": float("nan")}, r"border must lie in \[0, 0.45\], got nan"),
    ({"heigth": 3}, "unknown field 'heigth'. Did you mean 'height'?"),
    ({"\x1b[2J": 3}, r"unknown field '\\\\x1b\[2J'"),
])
def test_fields_are_checked(change, sentence):
    with pytest.raises(InputError, match="Preprocessing: " + sentence):
        Preprocessing.from_dict(Preprocessing().to_dict() | change)


def test_files_of_before_have_neither_border_nor_equalisation():
    before = {"height": 64, "width": 64, "channels": 3, "color": "grey", "resample": "bilinear", "decoder": 1}
    assert Preprocessing.from_dict(before) == Preprocessing()
    assert Preprocessing(border=0).to_dict()["border"] == 0.0


def test_fields_must_be_complete():
    with pytest.raises(InputError, match="Preprocessing: missing field color, decoder"):
        Preprocessing.from_dict({"height": 64, "width": 64, "channels": 3, "resample": "bilinear"})
    with pytest.raises(InputError, match="Preprocessing: expected a dict with the fields height.*got list"):
        Preprocessing.from_dict([])


def test_color_is_checked(tmp_path):
    with pytest.raises(InputError, match="decode: color must be one of grey, rgb, got 'gray'"):
        decode(Path(tmp_path), color="gray")
