"""DICOM files: every one that comes with pydicom against pydicom's own pipeline, and each step against its definition."""

import io
import logging
import re
import struct
import sys
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from benchmarks.reliability import hostile_files as hostile
from minicnn.cli import doctor
from minicnn.data import dicom
from minicnn.data.decoding import DECODER_VERSION, ImageWarning
from minicnn.data.dicom import _coded_size, open_dicom, read_tags
from minicnn.data.file_kinds import is_dicom, is_image
from minicnn.data.manifest import Manifest, ManifestWarning
from minicnn.data.preprocessing import Preprocessing, decode
from minicnn.errors import ImageError, InputError, ManifestError
from tests.support.dicom_files import made, shipped

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("data_store"), pytest.importorskip("openjpeg"), pytest.importorskip("libjpeg")
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, get_decoder, pixel_array  # noqa: E402

SHIPPED = shipped()
RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)


def quietly(data, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return decode(data, **options)


def file(name):
    """Return the bytes of the file of pydicom or pydicom-data with this name."""
    (path,) = [path for key, path in SHIPPED.items() if key.endswith("/" + name) or key == name]
    return path.read_bytes()


# ---- Every file against pydicom --------------------------------------------------------------------------------------

# What is refused, by what is said. Color3D and examples_ybr are films; the last five of these are damaged on purpose.
REFUSED = {
    "^the image: holds [0-9]+ frames: a film, a volume or several views. To take one": [
        "SC_rgb_2frame", "SC_rgb_16bit_2frame", "SC_rgb_32bit_2frame", "SC_rgb_expb_2frame", "SC_rgb_expb_16bit_2frame",
        "SC_rgb_expb_32bit_2frame", "SC_rgb_rle_2frame", "SC_rgb_rle_16bit_2frame", "SC_rgb_rle_32bit_2frame", "OBXXXX1A_2frame",
        "OBXXXX1A_expb_2frame", "OBXXXX1A_rle_2frame", "color3d_jpeg_baseline", "eCT_Supplemental", "emri_small", "emri_small_RLE",
        "emri_small_big_endian", "emri_small_jpeg_2k_lossless", "emri_small_jpeg_ls_lossless", "examples_ybr_color", "liver",
        "liver_expb", "rtdose", "rtdose_expb", "rtdose_rle"],
    "lookup table .RedPaletteColorLookupTableDescriptor. is missing or damaged. .Segmented ones are not read": [
        "gdcm-US-ALOKA-16", "gdcm-US-ALOKA-16_big"],
    "less than expected .8130 vs 8192 bytes": ["MR_truncated"],
    "its coded image is of 3722445056 x 1024 pixels of 1 samples, where the header says 256 x 1024 of 1": [
        "JPEG2000-embedded-sequence-delimiter"],
    "cannot be decoded .Unable to decode .*A misplaced marker segment was found": ["JPEG-lossy"],
    "its NumberOfFrames is '1A', and must be a whole number": ["badVR"],
    "without an image": ["emri_small_jpeg_2k_lossless_too_short"],
    "its Columns is missing, and must be a whole number": ["meta_missing_tsyntax", "nested_priv_SQ"],
}


def ends(ds, values):
    """Return what pydicom's VOI step makes of black and of white."""
    if ds.get("VOILUTSequence"):
        return 0, 2**ds.VOILUTSequence[0].LUTDescriptor[2] - 1
    signed, bits = ds.PixelRepresentation, ds.BitsStored
    range_ = np.array([-(2**(bits - 1)) if signed else 0, 2**(bits - 1) - 1 if signed else 2**bits - 1], float)
    if "WindowWidth" in ds or bits <= 8:
        item = (ds.get("ModalityLUTSequence") or [None])[0]
        return (0, 2**item.LUTDescriptor[2] - 1) if item else apply_modality_lut(range_, ds)
    low, high = np.quantile(values, [0.005, 0.995], method="inverted_cdf")
    return (low, high) if low < high else (values.min(), values.max())


def expected(data, frame):
    """Return the pixels of a file by pydicom alone: 0 to 255, (H, W) or (H, W, 3)."""
    ds = pydicom.dcmread(io.BytesIO(data), force=True)
    if "TransferSyntaxUID" not in ds.file_meta:
        implicit, little = ds.original_encoding
        ds.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2" + ("" if implicit else ".1" if little else ".2")
    pixels = pixel_array(ds, index=frame)
    if ds.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.50":      # decoders of lossy JPEG round in their own ways
        other, pixels = pixels, pixel_array(ds, index=frame, decoding_plugin="pillow")
        apart = np.abs(pixels.astype(int) - other)
        assert apart.max() <= 5 and apart.mean() < 0.2        # seen: 5 and 0.12; another colour space is apart by tens
    if ds.PhotometricInterpretation.startswith("MONOCHROME"):
        values = apply_modality_lut(pixels, ds)
        low, high = ends(ds, values)
        seen = apply_voi_lut(values, ds).astype(float)
        seen = np.clip((seen - low) / (float(high) - low), 0, 1) if high > low else np.zeros(values.shape)
        return 255 * (1 - seen if ds.PhotometricInterpretation == "MONOCHROME1" else seen)
    if ds.PhotometricInterpretation == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, ds)[..., :3]
    return pixels * (255 / (2.0**(8 * pixels.itemsize) - 1))


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.filterwarnings("ignore")
def test_every_file_is_as_pydicom_shows_it_or_refused(name):
    data = SHIPPED[name].read_bytes()
    stem = name.rpartition("/")[2].removesuffix(".dcm")
    said = next((said for said, stems in REFUSED.items() if stem in stems), None)
    if said is None and b"\xe0\x7f\x10\0" not in data and b"\x7f\xe0\0\x10" not in data and name.rpartition("/")[2] != "image_dfl.dcm":
        said = "without an image"
    if said is not None:
        with pytest.raises(ImageError, match=said):
            decode(data)
    if said is None or "frames" in said:
        if "OBXXXX1A_expb" in name:     # pydicom reads its table of big-endian words as little-endian
            want = expected(file("OBXXXX1A.dcm"), 0)
        else:
            want = expected(data, 0)
        # decode() gives what a palette or a colour is in grey, or the same grey three times
        got = decode(data, color="rgb", frame=0)
        np.testing.assert_allclose(got if want.ndim == 3 else got[..., 0], want, atol=0.01)
        if want.ndim == 2:
            assert (got[..., :1] == got).all()


def test_the_last_frame_is_another_one():
    data = file("emri_small.dcm")
    first, last = (quietly(data, frame=frame) for frame in (0, 9))
    assert not (first == last).all()
    np.testing.assert_array_equal(last, quietly(file("emri_small_jpeg_ls_lossless.dcm"), frame=9))
    with pytest.raises(ImageError, match="has no frame 10: it holds 10, numbered from 0"):
        decode(data, frame=10)
    with pytest.raises(InputError, match="frame must be a whole number from 0"):
        decode(data, frame=-1)
    with pytest.raises(ImageError, match="frame=0 is for DICOM files, which this is not"):
        decode(hostile.IMAGES["PNG"], frame=0)


@pytest.mark.parametrize("names", [
    ("MR_small.dcm", "MR_small_implicit.dcm", "MR_small_bigendian.dcm", "MR_small_expb.dcm", "MR_small_RLE.dcm",
     "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_padded.dcm"),
    ("RG1_UNCR.dcm", "RG1_J2KR.dcm"), ("RG3_UNCR.dcm", "RG3_J2KR.dcm"), ("693_UNCR.dcm", "693_J2KR.dcm"),
    ("MR2_UNCR.dcm", "MR2_J2KR.dcm"), ("US1_UNCR.dcm", "US1_J2KR.dcm"),
    ("OBXXXX1A.dcm", "OBXXXX1A_expb.dcm", "OBXXXX1A_rle.dcm"), ("rtdose_1frame.dcm", "rtdose_expb_1frame.dcm", "rtdose_rle_1frame.dcm"),
    ("SC_rgb_16bit.dcm", "SC_rgb_expb_16bit.dcm", "SC_rgb_rle_16bit.dcm"), ("liver_1frame.dcm", "liver_expb_1frame.dcm")],
    ids=lambda names: names[0])
def test_lossless_codings_of_one_image_give_the_same_bits(names):
    first, *others = [quietly(file(name), color="rgb") for name in names]
    for other in others:
        np.testing.assert_array_equal(first, other)


def test_a_lossy_coding_is_close():
    """UNCI is J2KI decoded by another program."""
    exact, lossy = quietly(file("RG1_UNCR.dcm")), quietly(file("RG1_J2KI.dcm"))
    np.testing.assert_array_equal(lossy, quietly(file("RG1_UNCI.dcm")))
    assert 0 < np.abs(exact - lossy).max() < 5


# ---- Radiographs: bones are white ------------------------------------------------------------------------------------

def test_a_chest_radiograph_is_no_negative():
    image = quietly(file("RG1_UNCI.dcm"))
    spine, lung, air = image[800:1500, 880:960], image[500:900, 550:700], image[60:110, 60:110]
    assert spine.mean() > lung.mean() + 50 and air.mean() < lung.mean()
    assert image.shape == (1955, 1841) and image.min() > 20 and image.max() < 250


@pytest.mark.parametrize("name", ["CR1/6154", "CR2/6247", "CR3/6278"])
def test_what_is_stored_as_a_large_number_is_dark_in_monochrome1(name):
    data = file(name)
    stored = pydicom.dcmread(io.BytesIO(data)).pixel_array.astype(float)
    shown = decode(data)
    assert np.corrcoef(stored.ravel(), shown.ravel())[0, 1] < -0.999
    # By hand: window 1600/2800 after 0.684 x + 200, then inverted.
    np.testing.assert_allclose(shown, 255 * (1 - ((0.684 * stored + 200 - 1599.5) / 2799 + 0.5)), atol=1e-3)


@pytest.mark.parametrize("tags", [{"color": "MONOCHROME1"}, {"color": "MONOCHROME1", "PresentationLUTShape": "INVERSE"},
                                  {"PresentationLUTShape": "INVERSE"}])
def test_it_is_inverted_once_and_after_the_window(tags):
    shown = decode(made(RAMP, 12, WindowCenter=1000.5, WindowWidth=1001, **tags))
    plain = decode(made(RAMP, 12, WindowCenter=1000.5, WindowWidth=1001))
    np.testing.assert_allclose(shown, 255 - plain, atol=1e-4)
    assert plain[0, 0] == 0 and plain.max() == 255


# ---- Steps, each against its definition ------------------------------------------------------------------------------

def test_linear_windows():
    """PS3.3 C.11.2.1.2.1 gives two: center 2048 and width 4096 is the identity of 12 bits, 2048 and 1 a threshold."""
    np.testing.assert_allclose(decode(made(RAMP, 12, WindowCenter=2048, WindowWidth=4096)), RAMP * (255 / 4095), atol=1e-3)
    np.testing.assert_array_equal(decode(made(RAMP, 12, WindowCenter=2048, WindowWidth=1)), np.where(RAMP > 2047, 255, 0))
    np.testing.assert_allclose(decode(made(RAMP, 12, WindowCenter=2000, WindowWidth=100, VOILUTFunction="LINEAR_EXACT")),
                               255 * np.clip((RAMP - 1950.0) / 100, 0, 1), atol=1e-3)
    np.testing.assert_allclose(decode(made(RAMP, 12, WindowCenter=2000, WindowWidth=100, VOILUTFunction="SIGMOID")),
                               255 / (1 + np.exp(-4 * (RAMP - 2000.0) / 100)), atol=1e-3)
    with pytest.raises(ImageError, match="its VOI LUT Function is 'CUBIC', and must be LINEAR, LINEAR_EXACT or SIGMOID"):
        decode(made(RAMP, 12, WindowCenter=2000, WindowWidth=100, VOILUTFunction="CUBIC"))


def test_the_first_of_several_windows_is_taken():
    np.testing.assert_array_equal(decode(made(RAMP, 12, WindowCenter=[100, 2000], WindowWidth=[50, 4000])),
                                  decode(made(RAMP, 12, WindowCenter=100, WindowWidth=50)))


def table(first, entries, depth, kind="US"):
    """Return the item of a lookup table that is a Dataset."""
    item = pydicom.Dataset()
    item.add_new("LUTDescriptor", kind, [len(entries) % 65536, first, depth])
    item.add_new("LUTData", "OW", np.asarray(entries, "<u2").tobytes())
    return item


def test_a_voi_lut_comes_before_a_window():
    entries = np.linspace(0, 1023, 2048).astype(int)[::-1]
    data = made(RAMP, 12, WindowCenter=100, WindowWidth=50, VOILUTSequence=[table(1000, entries, 10), table(0, [0, 1], 16)])
    want = entries[np.clip(RAMP.astype(int) - 1000, 0, 2047)] * (255 / 1023)
    np.testing.assert_allclose(decode(data), want, atol=1e-3)


def test_a_voi_lut_of_8_bits_may_have_more_than_256_entries():
    """Detectors write this; pydicom 3.0 keeps positions in as many bits as entries have."""
    entries = np.arange(4096) // 16
    np.testing.assert_allclose(decode(made(RAMP, 12, VOILUTSequence=[table(0, entries, 8)])), RAMP // 16, atol=1e-3)


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1"])
def test_a_modality_lut_and_its_first_value_below_zero(syntax):
    pixels = (RAMP.astype(np.int16) - 2048)
    data = made(pixels, 12, syntax=syntax, ModalityLUTSequence=[table(-2048, np.arange(4096)[::-1], 16, "SS")], WindowCenter=2048,
                WindowWidth=4096)
    np.testing.assert_allclose(decode(data), 255 - RAMP * (255 / 4095), atol=1e-3)


def test_rescaling_comes_before_the_window():
    data = made(RAMP, 12, RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=100.5, WindowWidth=201)
    np.testing.assert_allclose(decode(data), 255 * np.clip(2.0 * RAMP - 1000, 0, 200) / 200, atol=1e-3)


def test_bits_that_are_not_stored_are_dropped():
    """Overlays used to be there."""
    with_overlay = RAMP | np.uint16(0xA000)
    np.testing.assert_array_equal(decode(made(with_overlay, 12, WindowCenter=2048, WindowWidth=4096)),
                                  decode(made(RAMP, 12, WindowCenter=2048, WindowWidth=4096)))
    signed = (RAMP.astype(np.int16) - 2048) & np.int16(0x0FFF)     # of 12 bits, not extended to 16
    np.testing.assert_allclose(decode(made(signed, 12, WindowCenter=0, WindowWidth=4096)), RAMP * (255 / 4095), atol=1e-3)


def test_overlays_are_not_drawn():
    data = retold({0x60000010: ("US", 64), 0x60000011: ("US", 64), 0x60000040: ("CS", "G"), 0x60000050: ("SS", [1, 1]),
                   0x60000100: ("US", 1), 0x60000102: ("US", 0), 0x60003000: ("OW", b"\xff" * 512)})
    np.testing.assert_array_equal(decode(data), decode(made(RAMP, 12, WindowCenter=2048, WindowWidth=4096)))


@pytest.mark.parametrize("bits", [1, 6, 8])
def test_up_to_8_bits_without_a_window_are_as_a_png(bits):
    pixels = np.arange(2**bits, dtype=np.uint8).reshape(2, -1)
    np.testing.assert_allclose(decode(made(pixels, bits)), pixels * (255 / (2**bits - 1)), atol=1e-4)
    if bits == 8:
        image = io.BytesIO()
        Image.fromarray(pixels).save(image, "PNG")
        np.testing.assert_array_equal(decode(made(pixels)), decode(image.getvalue()))
        np.testing.assert_allclose(decode(made(pixels, RescaleSlope=-1, RescaleIntercept=0)), 255.0 - pixels, atol=1e-4)


def test_without_a_window_percentiles_are_black_and_white():
    pixels = np.full((100, 100), 1000, np.uint16)
    pixels[:98] = np.linspace(500, 1500, 98)[:, None]
    pixels[0, 0], pixels[0, 1] = 0, 65535       # a defect of two pixels, and a border of padding
    pixels[99] = 65000
    with pytest.warns(ImageWarning, match="is a DICOM file without a window: its 0.5th and 99.5th percentile are black and white"):
        shown = decode(made(pixels, PixelPaddingValue=65000))
    kept = np.sort(pixels[:99].ravel())
    black, white = kept[int(np.ceil(0.005 * kept.size)) - 1], kept[int(np.ceil(0.995 * kept.size)) - 1]
    assert (black, white) == (500, 1500)
    np.testing.assert_allclose(shown, 255 * np.clip((pixels - float(black)) / (float(white) - black), 0, 1), atol=1e-3)


@pytest.mark.parametrize("tags", [{"WindowCenter": 5, "WindowWidth": 0}, {"WindowCenter": 5, "WindowWidth": -3}, {"WindowCenter": 5},
                                  {"WindowCenter": None, "WindowWidth": None}, {}])
def test_a_window_that_is_none_counts_as_missing(tags):
    tags = {keyword: value for keyword, value in tags.items() if value is not None}
    with pytest.warns(ImageWarning, match="without a window"):
        shown = decode(made(RAMP, 12, **tags))
    assert shown[0, 0] == 0 and shown[-1, -1] == 255


def test_a_constant_image_is_black_where_nothing_says_what_is_white():
    assert (quietly(made(np.full((4, 5), 700, np.uint16), 12)) == 0).all()


def test_colours():
    rgb = np.random.default_rng(3).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    np.testing.assert_allclose(decode(made(rgb, color="RGB"), color="rgb"), rgb, atol=1e-4)
    np.testing.assert_allclose(decode(made(rgb, color="RGB")), rgb @ [0.299, 0.587, 0.114], atol=1e-3)
    deep = rgb.astype(np.uint16) * 257
    np.testing.assert_allclose(decode(made(deep, color="RGB"), color="rgb"), rgb, atol=1e-3)
    grey = np.full((4, 4, 3), [90, 128, 128], np.uint8)
    np.testing.assert_allclose(decode(made(grey, color="YBR_FULL")), 90, atol=1e-3)
    with pytest.raises(ImageError, match="cannot be decoded|its pixels are"):
        decode(made(rgb, color="YBR_PARTIAL_420"))


def test_32_bits():
    pixels = (RAMP.astype(np.uint32) * 100_000)
    np.testing.assert_allclose(decode(made(pixels, WindowCenter=204_750_000.5, WindowWidth=409_500_001)), RAMP * (255 / 4095), atol=1e-3)


# ---- What is said ----------------------------------------------------------------------------------------------------

SAID = {"is a DICOM file of another modality than radiography, such as CT": {"Modality": "CT"},
        "is a DICOM file of raw values .FOR PROCESSING., which are not meant for display": {"PresentationIntentType": "FOR PROCESSING"},
        "is a DICOM file that declares text in its pixels": {"BurnedInAnnotation": "YES"}}


@pytest.mark.parametrize("sentence", SAID)
def test_what_is_doubtful_is_said(sentence):
    with pytest.warns(ImageWarning, match="the image " + sentence):
        decode(made(RAMP, 12, WindowCenter=2048, WindowWidth=4096, **SAID[sentence]))


def test_a_radiograph_needs_no_remark():
    decode(made(RAMP, 12, WindowCenter=2048, WindowWidth=4096, PresentationIntentType="FOR PRESENTATION", BurnedInAnnotation="NO"))


def test_a_ct_slice_among_radiographs_is_counted(tmp_path, monkeypatch):
    monkeypatch.setenv("MINICNN_CACHE_DIR", str(tmp_path / "cache"))
    for i in range(4):
        folder = tmp_path / "data" / ("covid" if i % 2 else "normal")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{i}.dcm").write_bytes(made(RAMP + np.uint16(i), WindowCenter=2048, WindowWidth=4096, Modality="CT" if i == 3 else "CR"))
    for _ in range(2):              # decoded, then from the cache
        with pytest.warns(ImageWarning, match="1 of 4 images: each is a DICOM file of another modality"):
            Manifest.read(tmp_path / "data").open(Preprocessing(8, 8))


def test_pydicom_is_silent(caplog):
    """Warnings are errors here; its log would hold a stack trace for each file that a decoder refuses."""
    level = logging.getLogger("pydicom").level
    with pytest.raises(ImageError):
        decode(hostile.dicom(hostile.saved(np.zeros((20, 24), np.uint8), "JPEG")[:-300], (24, 20), "4.50", 1, 8))
    decode(made(np.zeros((3, 3), np.uint8), PixelData=bytes(50)))
    assert not caplog.records and logging.getLogger("pydicom").level == level


# ---- Files, folders and manifests ------------------------------------------------------------------------------------

@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"])
@pytest.mark.parametrize("preamble", [True, False])
def test_files_are_told_by_content(tmp_path, syntax, preamble):
    data = made(RAMP, 12, syntax=syntax, preamble=preamble, WindowCenter=2048, WindowWidth=4096)
    assert is_dicom(data) and data.startswith(bytes(128)) == preamble
    np.testing.assert_allclose(decode(data), RAMP * (255 / 4095), atol=1e-3)
    for name in ("IM0001", "1.2.840.113619.2.1", "scan.dcm", "scan.DICOM", "scan.png"):     # a wrong extension is no matter
        (tmp_path / name).write_bytes(data)
        assert is_image(tmp_path / name)
        assert decode(tmp_path / name).shape == (64, 64)
    (tmp_path / "notes.txt").write_bytes(data)
    (tmp_path / "DICOMDIR").write_bytes(data)
    (tmp_path / "README").write_bytes(b"\x08 is no tag")
    assert not any(is_image(tmp_path / name) for name in ("notes.txt", "DICOMDIR", "README", "missing"))


def test_folders_and_manifests_mix_kinds(tmp_path):
    shades = {"normal/a.png": 10, "normal/IM1": 20, "covid/1.2.3": 30, "covid/c.dcm": 40}
    for name, shade in shades.items():
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("png"):
            Image.new("L", (8, 8), shade).save(path)
        else:
            path.write_bytes(made(np.full((8, 8), shade, np.uint8)))
    (tmp_path / "data/covid/notes").write_text("no image")
    with pytest.warns(ManifestWarning, match="1 files were skipped"):
        folder = Manifest.read(tmp_path / "data")
    (tmp_path / "index.csv").write_text("path,label\n" + "".join(f"data/{name},{name.split('/')[0]}\n" for name in shades))
    for manifest in (folder, Manifest.read(tmp_path / "index.csv")):
        seen = manifest.open(Preprocessing(8, 8)).batch(np.arange(4))[:, 0, 0, 0] * 255
        assert {name.removeprefix("data/"): round(value) for name, value in zip(manifest.names, seen.tolist())} == shades


def test_the_cache_of_other_formats_is_as_before():
    assert DECODER_VERSION == 1
    assert Preprocessing().to_dict() == {"height": 64, "width": 64, "channels": 3, "color": "grey", "resample": "bilinear", "decoder": 1,
                                         "equalize": False, "border": 0.0}


# ---- What is missing -------------------------------------------------------------------------------------------------

def test_without_pydicom_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pydicom.filereader", None)
    monkeypatch.setattr(dicom, "_parser", dicom._parser.__wrapped__)
    sentence = r'is a DICOM file; reading it needs pydicom, which is not installed. Install it with: pip install "minicnn\[dicom\]"'
    with pytest.raises(ImageError, match="^the image: " + sentence):
        decode(made(RAMP, 12))
    for name in ("normal/a.dcm", "covid/b.dcm"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(made(RAMP, 12))
    with pytest.raises(ManifestError, match="images that cannot be read.*\n.*" + sentence):
        Manifest.read(tmp_path).open(Preprocessing(8, 8))


@pytest.mark.parametrize("name, sentence", [
    ("MR_small_jp2klossless.dcm", r'is coded in JPEG 2000 Image Compression \(Lossless Only\); decoding it needs pylibjpeg-openjpeg, which is '
     r'not installed. Install it with: pip install "minicnn\[dicom\]"'),
    ("JPEG-LL.dcm", r'is coded in JPEG Lossless.*; decoding it needs pylibjpeg-libjpeg \(licence: GPL 3\), which is not installed. Install it '
     r'with: pip install "minicnn\[dicom-jpeg\]"'),
    ("JPGExtended.dcm", r"is coded in JPEG Extended.*needs pylibjpeg-libjpeg")])
def test_a_coding_without_its_plugin_says_what_to_install(name, sentence, monkeypatch):
    monkeypatch.setattr(type(get_decoder("1.2.840.10008.1.2.4.90")), "available_plugins", ("pillow", "gdcm", "pyjpegls"))
    with pytest.raises(ImageError, match=sentence):
        quietly(file(name))


def test_a_coding_that_nothing_reads():
    data = made(RAMP, 12).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.7\0")
    with pytest.raises(ImageError, match="is coded in 1.2.840.10008.1.2.7, which is not read. Save it uncompressed"):
        decode(data)


def test_decoders_that_damage_brings_down_are_not_used(monkeypatch):
    used = []
    for uid in ("5", "4.50", "4.51", "4.57", "4.70", "4.80", "4.81", "4.90", "4.91"):
        monkeypatch.setattr(get_decoder("1.2.840.10008.1.2." + uid), "as_array", lambda ds, *, index, decoding_plugin: used.append(
            decoding_plugin) or 1 / 0)
    for name in ("MR_small_RLE.dcm", "SC_rgb_jpeg_dcmtk.dcm", "JPGExtended.dcm", "JPEG-LL.dcm", "MR_small_jpeg_ls_lossless.dcm",
                 "MR_small_jp2klossless.dcm", "693_J2KI.dcm"):
        with pytest.raises(ImageError, match="division by zero"):
            decode(file(name))
    assert used == ["pydicom", "pillow", "pylibjpeg", "pylibjpeg", "pylibjpeg", "pylibjpeg", "pylibjpeg"]


def test_doctor_lists_the_extras():
    assert {"pydicom": "dicom", "openjpeg": "dicom", "libjpeg": "dicom-jpeg"}.items() <= {
        name: extra for name, (_, extra) in doctor._EXTRAS.items()}.items()


# ---- Damaged and hostile files ---------------------------------------------------------------------------------------

def test_damaged_codestreams_are_decoded_or_refused_by_type(monkeypatch):
    """The codings that hostile_files cannot write: JPEG-LS, lossless JPEG, 12 bits; tables, words of other orders."""
    names = ("MR_small_jpeg_ls_lossless.dcm", "JPGExtended.dcm", "SC_rgb_jls_lossy_line.dcm", "MR_small_bigendian.dcm", "MR_small_implicit.dcm",
             "image_dfl.dcm", "OBXXXX1A.dcm", "liver_1frame.dcm", "JPEG-LL.dcm", "vlut_04.dcm", "CR1/6154")
    monkeypatch.setattr(hostile, "IMAGES", {name: file(name) for name in names})
    figures = hostile.measure_images(440)
    assert figures["untyped"] == figures["wrong"] == 0 and figures["worst_seconds"] < 10
    assert figures["decoded"] > 40 and figures["refused"] > 40


WRONG = {
    "2**31 rows": ({"Rows": 2**31}, "has 64 x 2147483648 pixels; the limits are 1 and 64,000,000"),
    "no rows": ({"Rows": None}, "its Rows is missing, and must be a whole number of at least 1"),
    "rows that are text": ({"Rows": "many"}, "its Rows is 'many', and must be a whole number"),
    "0 rows": ({"Rows": 0}, "its Rows is 0, and must be"),
    "no pixels": ({"PixelData": None}, "is a DICOM file without an image .Digital X-Ray|without an image"),
    "too few pixels": ({"PixelData": bytes(100)}, "less than expected .100 vs 8192 bytes"),
    "no frames": ({"NumberOfFrames": 0}, "its NumberOfFrames is '?0'?, and must be"),
    "more bits stored than there are": ({"BitsStored": 40}, "A .0028,0101. 'Bits Stored' value of '40' is invalid"),
    "13 bits allocated": ({"BitsAllocated": 13}, "'Bits Allocated' value of '13' is invalid"),
    "7 samples": ({"SamplesPerPixel": 7}, "'Samples per Pixel' value of '7' is invalid"),
    "an unknown colour": ({"PhotometricInterpretation": "OCHRE"}, "Unknown .0028,0004. 'Photometric Interpretation' value 'OCHRE'"),
    "a slope that is text": ({"RescaleSlope": "steep", "RescaleIntercept": 0}, "its RescaleSlope is no number but 'steep'"),
    "a palette that is missing": ({"PhotometricInterpretation": "PALETTE COLOR"}, "its lookup table .*Descriptor. is missing"),
    "a table that is short": ({"VOILUTSequence": [table(0, [1, 2, 3], 16)]}, None),
    "escapes in a text": ({"VOILUTFunction": "\x1b[2J"}, r"its VOI LUT Function is '\\\\X1B\[2J'"),
}


def retold(tags):
    """Return a file in which tags have these values, whatever their type should be."""
    ds = pydicom.dcmread(io.BytesIO(made(RAMP, 12, WindowCenter=2048, WindowWidth=4096)))
    for keyword, value in tags.items():
        if value is None:
            del ds[keyword]
        elif isinstance(value, tuple):
            ds.add_new(keyword, *value)
        elif isinstance(value, str):
            ds.add_new(keyword, "UT", value)
        elif keyword == "Rows":
            ds.add_new(keyword, "UL", value)
        else:
            setattr(ds, keyword, value)
    file = io.BytesIO()
    ds.save_as(file, enforce_file_format=True)
    return file.getvalue()


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_wrong_tags_are_a_typed_sentence(name):
    tags, sentence = WRONG[name]
    if name == "a table that is short":
        tags["VOILUTSequence"][0].LUTDescriptor = [4096, 0, 16]
        sentence = "its lookup table has 6 bytes for 4,096 entries of 16 bits"
    with pytest.raises(ImageError, match="^the image: .*" + sentence):
        decode(retold(tags))


def test_infinite_numbers_are_refused_or_ignored():
    small, deep = (24, 20), np.arange(480, dtype="<u2").tobytes()

    def window(*numbers):
        return b"".join(hostile.element(0x28, 0x1050 + i, b"DS", number) for i, number in enumerate(numbers))

    assert np.isfinite(quietly(hostile.dicom(deep, small, more=window(b"nan", b"100")))).all()
    assert np.isfinite(quietly(hostile.dicom(deep, small, more=window(b"5", b"inf")))).all()
    for slope in (b"1e308", b"-1e308", b"nan"):
        more = window(b"5", b"100", slope if b"n" in slope else b"1e308", slope)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                assert 0 <= decode(hostile.dicom(deep, small, more=more)).min()
            except ImageError as error:
                assert "gives no numbers" in str(error)


def test_deflated_files_are_inflated_up_to_a_limit(monkeypatch):
    pixels = np.arange(480, dtype="<u2").tobytes()
    plain, deflated = (quietly(hostile.dicom(pixels, (24, 20), syntax)) for syntax in ("1", "1.99"))
    np.testing.assert_array_equal(plain, deflated)
    with pytest.raises(ImageError, match="is cut off"):
        decode(hostile.dicom(pixels, (24, 20), "1.99")[:-40])
    with pytest.raises(ImageError, match="inflates to more than the limit of 268,435,456 bytes. Scale it down first"):
        decode(hostile.dicom(pixels, (24, 20), "1.99", megabytes=257))
    with pytest.raises(ImageError, match="names a transfer syntax in the wrong place"):
        decode(hostile.dicom(pixels, (24, 20), more=hostile.element(0x28, 0x4000, b"LT", b"1.2.840.10008.1.2.1.99")))
    with pytest.raises(ImageError, match="cannot be decoded .Error -3"):
        data = hostile.dicom(pixels, (24, 20), "1.99")
        at = data.index(b"1.2.840.10008.1.2.1.99") + 22
        decode(data[:at] + b"\xff" * 50)


def test_the_size_of_a_codestream_is_that_of_the_header():
    jpeg = hostile.saved(np.zeros((20, 24), np.uint8), "JPEG")
    assert _coded_size(jpeg) == (24, 20, 1) and _coded_size(b"") is None and _coded_size(jpeg[:30]) is None
    j2k = hostile.saved(np.zeros((20, 24), np.uint8), "JPEG2000", no_jp2=False)
    assert _coded_size(j2k) == (24, 20, 1) and _coded_size(j2k[:60]) is None
    with pytest.raises(ImageError, match="its coded image is of 24 x 20 pixels of 1 samples, where the header says 24 x 30 of 1"):
        decode(hostile.dicom(jpeg, (24, 30), "4.50", 1, 8))
    with pytest.raises(ImageError, match="its coded image has no beginning, where the header says 24 x 20 of 1"):
        decode(hostile.dicom(b"\xff\xd8\xff\xda\0\0\0\0\0\0\0\0\0", (24, 20), "4.50", 1, 8))
    scans = hostile.saved(np.zeros((20, 24), np.uint8), "JPEG", progressive=True)
    scan = scans[scans.rindex(b"\xff\xda"):-2]
    with pytest.raises(ImageError, match="is a JPEG in 1[0-9]{2} scans, the limit is 100"):
        decode(hostile.dicom(scans[:-2] + scan * 100 + scans[-2:], (24, 20), "4.50", 1, 8))


def test_a_header_is_read_without_the_pixels():
    data = made(RAMP, 12, PatientID="p1", StudyDescription="x" * 60, ManufacturerModelName="a\tb")
    tags = read_tags(io.BytesIO(data), len(data), "a.dcm")
    wanted = {"PatientID": "p1", "Rows": "64", "ManufacturerModelName": "a b", "ViewPosition": "", "": "pixels"}
    assert wanted.items() <= tags.items()
    # Tags that do not end within the first part that is read.
    private = b"".join(hostile.element(0x9, 0x1000 + i, b"UT", b"x" * 60_000) for i in range(30))
    modality = hostile.element(8, 0x60, b"CS", b"DX")
    late = hostile.dicom(bytes(960), (24, 20)).replace(modality, modality + private)
    tags = read_tags(io.BytesIO(late), len(late), "a.dcm")
    assert (tags["Modality"], tags["Columns"], tags[""]) == ("DX", "24", "pixels")
    with pytest.raises(ImageError, match="a.dcm: its PatientID has 5,000 bytes, the limit is 4,096"):
        data = hostile.dicom(bytes(960), (24, 20), before=hostile.element(0x10, 0x20, b"UT", b"x" * 5000))
        read_tags(io.BytesIO(data), len(data), "a.dcm")


def test_run_lengths_beyond_what_the_image_can_have():
    data = hostile.dicom(struct.pack("<16L", 2, 64, 64, *[0] * 13) + bytes(3000), (24, 20), "5")
    with pytest.raises(ImageError, match="has 3,064 bytes of run lengths, the limit is 1,984. Save it uncompressed"):
        decode(data)


def test_open_dicom_says_what_it_found():
    data = made(RAMP, 12, WindowCenter=2048, WindowWidth=4096, Modality="MR", BurnedInAnnotation="YES")
    picture = open_dicom(data, "a.dcm", 10_000)
    assert (picture.is_radiograph, picture.is_raw, picture.is_windowed, picture.is_burned_in) == (False, False, True, True)
    assert picture.pixels.dtype == np.float32
    with pytest.raises(ImageError, match="a.dcm: has 64 x 64 pixels; the limits are 1 and 4,095 in all"):
        open_dicom(data, "a.dcm", 4095)
    assert not re.search(r"\n", str(pytest.raises(ImageError, decode, zlib.compress(data)).value))
