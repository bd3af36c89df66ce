"""Numbers on another scale than the one trained on are said: floats beyond 1, and 16-bit files that use fewer bits."""

import io
import json
import warnings

import numpy as np
import pytest
from PIL import Image

from minicnn import Adam, Dense, Flatten, Sequential, Sigmoid, weights
from minicnn.cli.main import main
from minicnn.data import Manifest, Preprocessing
from minicnn.data.decoding import ImageWarning
from minicnn.data.preprocessing import decode
from minicnn.errors import InputError, WeightsError
from minicnn.evaluation.auditing.auditor import audit
from minicnn.experiment import Config
from minicnn.experiment.splits import open_split

PIXELS = np.random.default_rng(3).integers(0, 256, (12, 6, 6, 1), np.uint8)
LABELS = np.arange(12) % 2


def trained(x):
    model = Sequential([Flatten(), Dense(1), Sigmoid()], input_shape=(6, 6, 1), engine="reference")
    model.compile(Adam(), loss="binary_crossentropy")
    model.fit(x, LABELS, progress=False)
    return model


# ---- Arrays ----------------------------------------------------------------------------------------------------------

OTHERS = {"0 to 255": (PIXELS.astype(np.float32), "from 0 to 255, .* pixels from 0 to 1.* Pass uint8, or divide by 255"),
          "12 bits": (PIXELS * 16.0, r"from 0 to 4080, .* Divide by 4,095\."),
          "16 bits": (PIXELS.astype(np.float64) * 256, r"from 0 to 65280, .* Divide by 65,535\."),
          "standardized": ((PIXELS - 127.0) / 60, "from -2.* Prepare x as in training"),
          "-1 to 1": (PIXELS / 127.5 - 1, "from -1 to 1, .* Prepare x as in training")}


@pytest.mark.parametrize("before", [PIXELS, PIXELS / 255, (PIXELS / 255).astype(np.float32)], ids=["uint8", "float64", "float32"])
@pytest.mark.parametrize("name", OTHERS)
def test_floats_beyond_the_pixels_trained_on_are_said(name, before, tmp_path):
    model, (x, sentence) = trained(before), OTHERS[name]
    with pytest.warns(ImageWarning, match=f"predict: x holds values {sentence}"):
        model.predict(x)
    with pytest.warns(ImageWarning, match=f"evaluate: x holds values {sentence}"):
        model.evaluate(x, LABELS)
    model.save(tmp_path / "m.safetensors")
    with pytest.warns(ImageWarning, match=f"predict: x holds values {sentence}"):
        Sequential.load(tmp_path / "m.safetensors").predict(x)
    with pytest.warns(ImageWarning, match=f"fit: x holds values {sentence}"):
        model.fit(x, LABELS, progress=False)


def test_validation_on_another_scale_is_said():
    model = Sequential([Flatten(), Dense(1), Sigmoid()], input_shape=(6, 6, 1), engine="reference")
    model.compile(Adam(), loss="binary_crossentropy")
    with pytest.warns(ImageWarning, match="fit, validation: x holds values from 0 to 255"):
        model.fit(PIXELS, LABELS, validation=(PIXELS.astype(np.float32), LABELS), progress=False)


@pytest.mark.parametrize("x", [PIXELS, PIXELS[:2] / 255], ids=["uint8", "floats up to 1"])
def test_fractions_for_a_model_of_large_numbers_are_said(x):
    with pytest.warns(ImageWarning, match="from 0 to .*, but the model was trained on values from 0 to 255"):
        trained(PIXELS.astype(np.float32)).predict(x)


@pytest.mark.parametrize("x, then", [(PIXELS, PIXELS / 255), (PIXELS / 255, PIXELS), (PIXELS, PIXELS / 255 * 1.0005),
                                     (PIXELS * 1.0, PIXELS * 0.5), (PIXELS / 50, PIXELS / 10), (PIXELS - 128.0, PIXELS / 255 - 1),
                                     (PIXELS * 1.0, PIXELS * 0.0)])
def test_the_same_scale_is_not(x, then):
    model = trained(x)
    model.predict(then)
    model.evaluate(then, LABELS)


def test_a_vector_is_no_image():
    model = Sequential([Dense(1), Sigmoid()], input_shape=(3,), engine="reference")
    model.compile(Adam(), loss="binary_crossentropy")
    model.fit(np.eye(3), [0, 1, 0], progress=False)
    model.predict(9 * np.eye(3))
    assert model.input_range is None


def test_a_model_that_was_not_trained_says_nothing_and_writes_nothing(tmp_path):
    model = Sequential([Flatten(), Dense(1), Sigmoid()], input_shape=(6, 6, 1))
    model.predict(PIXELS * 3.0)
    model.save(tmp_path / "m")
    assert "input_range" not in weights.load(tmp_path / "m")[1]


@pytest.mark.parametrize("text", ["[0.0]", "[1.0, 0.0]", '["a", "b"]', "[0.0, 1]", "5"])
def test_the_range_in_a_file_is_checked(tmp_path, text):
    trained(PIXELS).save(tmp_path / "m")
    tensors, metadata = weights.load(tmp_path / "m")
    assert json.loads(metadata["input_range"]) == [0.0, 1.0]
    metadata.pop("sha256", None)
    weights.save(tmp_path / "m", tensors, metadata | {"input_range": text})
    with pytest.raises(WeightsError, match="input_range"):
        Sequential.load(tmp_path / "m")


# ---- Files -----------------------------------------------------------------------------------------------------------

def write(folder, bits, n=4, mode="png", seed=0):
    """Write n 16-bit files for each of two classes, of values up to 2**bits - 1; return the pixels."""
    written = {}
    for label in ("normal", "covid"):
        (folder / label).mkdir(parents=True, exist_ok=True)
        for i in range(n):
            pixels = np.random.default_rng((seed, i, label == "covid")).integers(0, 2**bits, (64, 64)).astype(np.uint16)
            pixels[0, 0] = 2**bits - 1
            Image.fromarray(pixels).save(folder / label / f"{bits}-{i}.{mode}")
            written[f"{label}/{bits}-{i}.{mode}"] = pixels
    return written


@pytest.mark.parametrize("bits, said, mode", [(12, 12, "png"), (10, 10, "tiff"), (8, 8, "png"), (14, 14, "png"), (11, 12, "tiff"),
                                              (9, 10, "png")])
def test_unused_bits_are_found_by_training_and_audit_and_mended(tmp_path, bits, said, mode):
    written = write(tmp_path, bits, mode=mode)
    sentence = f"8 of 8 16-bit images use at most {said} bits .*--bits {said}"
    manifest = Manifest.read(tmp_path)
    for _ in range(2):      # from the files, then from the cache
        with pytest.warns(ImageWarning, match=sentence):
            manifest.open()
    findings = [one for one in audit(manifest).problems if one.what == "scale"]
    assert len(findings) == 1 and len(findings[0].files) == 8 and f"at most {said} bits" in findings[0].sentence
    mended = manifest.open(Preprocessing(bits=bits))
    assert mended.batch(np.arange(8)).mean() == pytest.approx(0.5, abs=0.02)
    assert not [one for one in audit(manifest, bits=bits).problems if one.what == "scale"]
    for name, pixels in written.items():
        np.testing.assert_allclose(decode(tmp_path / name, bits=bits), pixels / (2**bits - 1) * 255, rtol=1e-6)


def test_a_collection_in_which_some_do_is_found_and_mended(tmp_path):
    written = write(tmp_path, 12, 3) | write(tmp_path, 16, 5)
    manifest = Manifest.read(tmp_path)
    with pytest.warns(ImageWarning, match="6 of 16 16-bit images use at most 12 bits"):
        dark = manifest.open().batch(np.arange(16)).mean(axis=(1, 2, 3))
    assert sorted(np.rint(dark * 32).astype(int)) == [1] * 6 + [16] * 10
    with pytest.warns(ImageWarning, match="10 of 16 16-bit images use more than 12 bits: their white stays 65,535"):
        mended = manifest.open(Preprocessing(bits=12)).batch(np.arange(16)).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(mended, 0.5, atol=0.02)
    assert len(written) == 16


@pytest.mark.parametrize("bits", [15, 16])
def test_files_that_use_their_bits_are_not_found(tmp_path, bits):
    write(tmp_path, bits)
    manifest = Manifest.read(tmp_path)
    manifest.open()
    assert not [one for one in audit(manifest).problems if one.what == "scale"]


def test_8_bits_floats_and_black_images_are_not_found(tmp_path):
    for label in ("normal", "covid"):
        (tmp_path / label).mkdir()
        Image.new("L", (64, 64), 9).save(tmp_path / label / "dark.png")
        Image.fromarray(np.full((64, 64), 0.05, np.float32)).save(tmp_path / label / "float.tiff")
        Image.fromarray(np.zeros((64, 64), np.uint16)).save(tmp_path / label / "black.png")
    Manifest.read(tmp_path).open()


def test_white_is_zero_keeps_its_meaning(tmp_path):
    pixels = np.array([[0, 1000], [3000, 4095]], np.uint16)
    Image.fromarray(pixels).save(tmp_path / "a.tiff", tiffinfo={262: 0})
    np.testing.assert_allclose(decode(tmp_path / "a.tiff", bits=12), 255 - pixels / 4095 * 255, rtol=1e-5, atol=1e-4)


def colour_of_16_bits(values):
    """Return a PNG of 16-bit colour, which Pillow reads and does not write."""
    import struct
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    height, width, _ = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)) \
        + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_16_bit_colour_is_found_too():
    values = np.full((40, 40, 3), 2048)
    values[0] = 4095
    with pytest.warns(ImageWarning, match="1 of 1 16-bit images use at most 12 bits"):
        assert decode(colour_of_16_bits(values)).max() < 16
    assert decode(colour_of_16_bits(values), bits=12).max() > 235
    decode(colour_of_16_bits(values * 16))


def test_a_model_keeps_its_bits_and_files_without_them_stay_as_they_were(tmp_path):
    assert "bits" not in Preprocessing().to_dict() and Preprocessing(bits=12).to_dict()["bits"] == 12
    assert Preprocessing.from_dict(Preprocessing(bits=12).to_dict()) == Preprocessing(bits=12)
    for bits in (7, 17, 12.5, "12", True):
        with pytest.raises(InputError, match="Preprocessing: bits must be a whole number from 8 to 16"):
            Preprocessing(bits=bits)
    write(tmp_path, 12)
    model = Sequential([Flatten(), Dense(1), Sigmoid()], input_shape=(64, 64, 1))
    model.compile(Adam(), loss="binary_crossentropy")
    model.fit(Manifest.read(tmp_path).open(Preprocessing(64, 64, 1, bits=12)), progress=False)
    model.save(tmp_path / "m.safetensors")
    file = str(tmp_path / "covid" / "12-0.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = Sequential.load(tmp_path / "m.safetensors")
        assert loaded.preprocessing.bits == 12 and loaded.predict([file]) == model.predict([file])


def test_the_command_says_it_and_takes_the_bits(tmp_path, capsys):
    write(tmp_path, 12, 10)
    with pytest.warns(ImageWarning, match="20 of 20 16-bit images use at most 12 bits"):
        assert main(["data", "split", str(tmp_path), "--quiet"]) == 0
    assert main(["data", "split", str(tmp_path), "--quiet", "--bits", "12"]) == 0
    capsys.readouterr()
    assert main(["data", "audit", str(tmp_path), "--quiet"]) == 1
    assert "images on another scale: 1" in capsys.readouterr().out
    assert main(["data", "audit", str(tmp_path), "--quiet", "--bits", "12"]) == 0
    with pytest.raises(SystemExit):
        main(["data", "split", str(tmp_path), "--bits", "3"])


@pytest.mark.parametrize("how", [{}, {"protocol": "paper"}, {"recipe": "robust"}])
@pytest.mark.parametrize("given", [True, False], ids=["split column", "none"])
def test_training_says_it_once(tmp_path, how, given):
    files = list(write(tmp_path, 12, 12))
    rows = [f"{name},{name.partition('/')[0]},{('training', 'validation', 'test')[i % 3]}" for i, name in enumerate(files)]
    (tmp_path / "index.csv").write_text("\n".join([f"path,label,{'split' if given else 'other'}", *rows, ""]))
    with pytest.warns(ImageWarning) as said:
        open_split(Config(str(tmp_path / "index.csv"), **how), progress=False)
    assert len(said) == 1 and "24 of 24 16-bit images" in str(said[0].message)
    open_split(Config(str(tmp_path / "index.csv"), bits=12, **how), progress=False)


def test_a_network_is_evaluated_on_files_of_other_bits_than_it_was_trained_on(tmp_path, capsys):
    write(tmp_path, 12)
    model = Sequential([Flatten(), Dense(1), Sigmoid()], input_shape=(64, 64, 1), classes=("normal", "covid"))
    model.compile(Adam(), loss="binary_crossentropy")
    model.save(tmp_path / "m.safetensors")
    name, right = str(tmp_path / "m.safetensors"), model.predict(Manifest.read(tmp_path).open(Preprocessing(64, 64, 1, bits=12)))
    files = Manifest.read(tmp_path).paths.tolist()
    for command in (["evaluate", name, "--data", str(tmp_path), "--quiet"], ["predict", name, *files]):
        with pytest.warns(ImageWarning, match="8 of 8 16-bit images use at most 12 bits"):
            assert main([*command, "--json"]) == 0
        dark = json.loads(capsys.readouterr().out)
        assert main([*command, "--json", "--bits", "12"]) == 0
        mended = json.loads(capsys.readouterr().out)
        assert mended != dark
    np.testing.assert_allclose([file["probability"] for file in mended["files"]], right[:, 0], atol=1e-6)


# ---- Files that cannot be read ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("workers", [0, 2])
def test_all_files_that_cannot_be_read_are_named_at_once(tmp_path, workers):
    write(tmp_path, 16, 8)
    good = (tmp_path / "covid" / "16-0.png").read_bytes()
    buffer = io.BytesIO()
    Image.new("L", (9, 9)).save(buffer, "GIF")
    bad = {"covid/16-1.png": b"", "covid/16-2.png": good[:3000], "normal/16-3.png": bytes(128) + b"DICM",
           "normal/16-4.png": b"<html>", "normal/16-5.png": good[:60], "normal/16-6.png": buffer.getvalue(), "normal/16-7.png": b""}
    for name, content in bad.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(Exception, match="images that cannot be read: [5-7] problems(, in 7 places)?\n") as error:
        Manifest.read(tmp_path).open(workers=workers)
    assert all(name in str(error.value) for name in bad)
    assert "DICOM" in str(error.value) and "GIF" in str(error.value)
