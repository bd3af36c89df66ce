"""Hostile input: it ends in a typed error, costs little, is escaped where it is shown, and runs no code."""

import ast
import csv
import io
import json
import os
import random
import resource
import signal
import socket
import struct
import sys
import time
import warnings
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.reliability import hostile_files as hostile

import minicnn
from minicnn import Adam, AveragePool2D, Dense, Flatten, Sequential, Sigmoid, metrics, weights
from minicnn.cli.main import main
from minicnn.core.untrusted import csv_text
from minicnn.data import Manifest, Preprocessing
from minicnn.data.decoding import read_bytes
from minicnn.data.manifest import split_rows
from minicnn.data.preprocessing import decode
from minicnn.errors import ImageError, ManifestError, MiniCNNError, WeightsError, printable
from minicnn.experiment import Config, load_model
from minicnn.experiment.run_folder import RunFolder
from minicnn.reporting.console import table
from tests.support.source_rules import could_run_data

ALARM = 10      # seconds; what is measured takes hundredths of one


@pytest.fixture(autouse=True)
def surroundings(tmp_path_factory, monkeypatch):
    """A pixel cache of the test's own, the engine that compiles nothing, and an alarm that ends what waits for ever."""
    monkeypatch.setenv("MINICNN_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("MINICNN_ENGINE", "reference")

    def hangs(*_):
        raise TimeoutError("a hang")

    before = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(300)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def picture(path, value=9):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8), value).save(path, "PNG")
    return path


def collection(root):
    """Write a folder with a manifest of two images; return the path of the manifest."""
    picture(root / "images" / "a.png", 1), picture(root / "images" / "b.png", 2)
    (root / "index.csv").write_text("path,label\nimages/a.png,normal\nimages/b.png,covid\n")
    return root / "index.csv"


def small_model(classes=("normal", "covid")):
    model = Sequential([AveragePool2D(8), Flatten(), Dense(1), Sigmoid()], input_shape=(64, 64, 3), classes=classes)
    model.compile(Adam(), "binary_crossentropy")
    return model


@pytest.fixture
def run_folder(tmp_path):
    """A run folder such as `minicnn train` leaves, with a small network."""
    folder = tmp_path / "run"
    folder.mkdir()
    small_model().save(folder / "last.safetensors")
    (folder / "config.json").write_text(json.dumps(asdict(Config(data=str(tmp_path / "nowhere.csv")))))
    report = metrics.binary_metrics([0, 1], [0.1, 0.9], loss=0.2)
    (folder / "metrics.json").write_text(json.dumps({"test": report}))
    return folder


def ends_in_a_sentence(arguments, capsys, codes=(3, 4)):
    """Run a command that must end with one of these codes, a sentence, nothing raw; return the sentence."""
    capsys.readouterr()
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert code in codes and err.startswith("minicnn: ") and "Traceback" not in err
    assert hostile.is_plain(out) and hostile.is_plain(err)
    return err


# ---- D2, D3: images --------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("n", [4000, pytest.param(200_000, marks=pytest.mark.soak)])
def test_damaged_images_are_decoded_or_refused_by_type(n):
    figures = hostile.measure_images(n)
    assert figures["untyped"] == figures["wrong"] == 0
    assert figures["decoded"] > n / 10 and figures["refused"] > n / 10      # else the mutants say nothing
    assert figures["worst_seconds"] < ALARM


def test_the_measuring_sees_a_decoder_that_lets_through(monkeypatch):
    monkeypatch.setattr(hostile, "decode", lambda data: 1 / 0)
    assert hostile.measure_images(8)["untyped"] == 8
    monkeypatch.setattr(hostile, "decode", lambda data: np.array([256.0]))
    assert hostile.measure_images(8)["wrong"] == 8
    monkeypatch.setattr(hostile, "decode", lambda data: os.abort())
    with pytest.raises(AssertionError, match="the child crashed"):
        hostile.measure_images(8)


def test_a_hang_is_seen():
    with pytest.raises(AssertionError, match="the child hung"):
        hostile.in_child(lambda: time.sleep(60), seconds=1)


def test_bombs_are_refused_before_they_cost_anything():
    figures = hostile.measure_bombs()
    assert figures["wrong"] == [] and figures["untyped"] == 0 and figures["refused"] == figures["files"] >= 20
    assert figures["worst_seconds"] < ALARM and figures["grown_bytes"] < 64 * 2**20     # one of them decoded has 400 MB


@pytest.mark.parametrize("name, sentence", [
    ("JPEG, 10,000 scans", r"is a JPEG of 4000 x 4000 pixels in 10,0\d\d scans; decoding it would take minutes"),
    ("JPEG, EXIF in 400,000 parts", "its EXIF block is in 400,000 parts, the limit is 100. Save it again without EXIF"),
    ("TIFF, 400,000 strips", "is a TIFF of 9 tags, the longest with 400,000 numbers; the limits are 4,096 and"),
    ("TIFF, 60,000 tags", "is a TIFF of 60,009 tags"),
    ("WebP, a canvas of 20,000", "has more than the limit of 64,000,000 pixels"),
    ("PNG, text of 100 MB in a chunk", "cannot be decoded .Decompressed data too large"),
])
def test_bombs_have_their_sentences(name, sentence):
    with pytest.raises(ImageError, match="^the image: " + sentence):
        decode(hostile.bombs()[name])


def test_big_tiffs_are_counted_too():
    good = hostile.saved(np.full((9, 9), 7, np.uint8), "TIFF", big_tiff=True)
    np.testing.assert_array_equal(decode(good), np.full((9, 9), 7))
    data = bytearray(good)
    first = struct.unpack_from("<Q", data, 8)[0] + 8
    entry = next(i for i in range(first, len(data), 20) if struct.unpack_from("<H", data, i)[0] == 273)
    data[entry + 4:entry + 12] = struct.pack("<Q", 2**40)
    with pytest.raises(ImageError, match="the longest with 1,099,511,627,776 numbers"):
        decode(bytes(data))


def test_what_is_below_the_limits_is_decoded():
    tall = hostile.saved(np.full((30_000, 2), 7, np.uint8), "TIFF", tiffinfo={278: 1})      # a strip for each row
    np.testing.assert_array_equal(decode(tall), np.full((30_000, 2), 7))
    jpeg = hostile.saved(np.full((9, 9), 7, np.uint8), "JPEG", progressive=True)
    scan = jpeg[jpeg.rindex(b"\xff\xda"):-2]
    assert decode(jpeg[:-2] + scan * 200 + jpeg[-2:]).shape == (9, 9)       # a small picture costs little however often


def test_an_outsized_exif_block_counts_as_upright():
    turned = Image.Exif()
    turned[0x0112] = 3
    block, stored = turned.tobytes(), np.arange(6, dtype=np.uint8).reshape(2, 3)
    np.testing.assert_array_equal(decode(hostile.saved(stored, "PNG", exif=block)), stored[::-1, ::-1])
    np.testing.assert_array_equal(decode(hostile.saved(stored, "PNG", exif=block + bytes(2**20))), stored)


# ---- D5: manifests ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("n", [2000, pytest.param(50_000, marks=pytest.mark.soak)])
def test_drawn_manifests_are_read_or_refused_by_type(n, tmp_path):
    figures = hostile.measure_manifests(n, tmp_path)
    assert figures["untyped"] == figures["wrong"] == 0 and figures["worst_seconds"] < ALARM
    assert figures["read"] > n / 10 and figures["refused"] > n / 10


def test_many_rows_are_read_right(tmp_path):
    assert hostile.measure_rows(20_000, tmp_path)["rows"] == 20_000


@pytest.mark.soak
def test_a_million_rows(tmp_path):
    figures = hostile.measure_rows_alone(10**6, tmp_path)
    assert figures["seconds"] < 10 and figures["peak_bytes"] < 600 * 10**6, figures


# ---- D6: paths -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("swap", ["file", "folder"])
@pytest.mark.parametrize("system_tells", [True, False])
def test_a_link_put_in_place_after_the_check_does_not_lead_out(tmp_path, swap, system_tells, monkeypatch):
    manifest = Manifest.read(collection(tmp_path / "root"))
    picture(tmp_path / "secret" / "a.png"), picture(tmp_path / "secret" / "b.png")
    if swap == "file":
        (tmp_path / "root/images/a.png").unlink()
        (tmp_path / "root/images/a.png").symlink_to(tmp_path / "secret" / "a.png")
    else:
        (tmp_path / "root/images").rename(tmp_path / "root/before")
        (tmp_path / "root/images").symlink_to(tmp_path / "secret")
    if not system_tells:
        def no_proc(path, *_, real=os.readlink, **__):
            if str(path).startswith("/proc"):
                raise FileNotFoundError(path)
            return real(path)
        monkeypatch.setattr(os, "readlink", no_proc)
    with pytest.raises(ManifestError, match=f"1 problem{'' if swap == 'file' else ', in 2 places'}.*\n.*a.png.*: leads outside of "
                                            f"{tmp_path}/root"):
        manifest.open(Preprocessing(8, 8))
    with pytest.raises(ManifestError, match="leads outside of"):
        manifest.subset([0]).open(Preprocessing(8, 8))
    allowed = Manifest.read(tmp_path / "root/index.csv", allow_outside_root=True)
    assert len(allowed.open(Preprocessing(8, 8))) == 2


def test_links_inside_of_the_root_are_fine(tmp_path):
    index = collection(tmp_path / "root")
    (tmp_path / "root/images/b.png").rename(tmp_path / "root/other.png")
    (tmp_path / "root/images/b.png").symlink_to("../other.png")
    (tmp_path / "link").symlink_to("root")
    for path in (index, tmp_path / "link" / "index.csv"):
        assert len(Manifest.read(path).open(Preprocessing(8, 8))) == 2


def test_a_root_that_only_begins_alike_is_another(tmp_path):
    with pytest.raises(ImageError, match="leads outside of"):
        read_bytes(picture(tmp_path / "root2" / "a.png"), root=str(tmp_path / "root"))
    assert read_bytes(picture(tmp_path / "root" / "a.png"), root=str(tmp_path / "root"))


def test_a_folder_whose_real_name_is_no_text_is_refused(tmp_path):
    index = collection(tmp_path / "root")
    os.rename(tmp_path / "root/images", os.fsencode(tmp_path / "root") + b"/\xff")
    os.symlink(b"\xff", os.fsencode(tmp_path / "root/images"))
    with pytest.raises(ManifestError, match="line 2: images/a.png: its name is not UTF-8. Rename it"):
        Manifest.read(index)


def test_twins_are_two_files(tmp_path):
    composed, decomposed = "\u00e9.png", "e\u0301.png"
    picture(tmp_path / composed, 1), picture(tmp_path / decomposed, 2)
    (tmp_path / "index.csv").write_text(f"path,label\n{composed},0\n{decomposed},1\n", encoding="utf-8")
    manifest = Manifest.read(tmp_path / "index.csv")
    assert manifest.names == [composed, decomposed]
    assert len(set(manifest.open(Preprocessing(8, 8)).batch(np.arange(2))[:, 0, 0, 0])) == 2


def no_files(folder):
    """Make things that are no image files, under their names; return {name: what the sentence says of it}."""
    os.mkfifo(folder / "pipe.png")
    (folder / "folder.png").mkdir()
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "dangling.png").symlink_to("nowhere")
    (folder / "zero.png").symlink_to("/dev/zero")
    (folder / "a\n\x1b[2J\u202e.png").write_bytes(b"no picture")
    with open(os.fsencode(folder) + b"/\xff\x9b.png", "wb") as file:
        file.write(b"no picture")
    before = Path.cwd()
    os.chdir(folder)        # the path of a socket is short
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind("socket.png")
    os.chdir(before)
    return {"pipe.png": "not a regular file", "folder.png": "not a regular file", "loop.png": "symbolic links",
            "dangling.png": "No such file", "zero.png": "not a regular file", "socket.png": "No such device",
            "x" * 256: "too long", "a\n\x1b[2J\u202e.png": "this is none of them",
            os.fsdecode(b"\xff\x9b.png"): "this is none of them"}


def test_predict_refuses_what_is_no_file_without_waiting(run_folder, tmp_path, capsys):
    (tmp_path / "files").mkdir()
    expected = no_files(tmp_path / "files")
    image = picture(tmp_path / "image.png")
    names = [str(tmp_path / "files" / name) for name in expected if name != "folder.png"]
    assert main(["predict", str(run_folder), *names, "/dev/zero", str(image), "--json"]) == 3
    *rows, zero, last = json.loads(capsys.readouterr().out)["files"]
    assert [row["path"] for row in rows] == names
    for row in rows:
        name = os.path.basename(row["path"])
        assert expected[name] in row["error"] and printable(name)[:200] in row["error"] and hostile.is_plain(row["error"])
    assert "not a regular file" in zero["error"] and last["error"] == "" and last["decision"]


def test_predict_and_its_csv_show_odd_names_in_escapes(run_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["=1+1.png", "+.png", "-x.png", "@a.png", "\t=2.png", "\n=3.png", "a\n\x1b[2J\u202e.png",
             os.fsdecode(b"\xff.png")]
    for name in names:
        picture(tmp_path / name)
    assert main(["predict", str(run_folder), "--csv", "out.csv", "--", *names]) == 0
    out, err = capsys.readouterr()
    table, remarks = out.split("\n\n")
    assert hostile.is_plain(out) and len(table.splitlines()) == 1 + len(names) and len(remarks.splitlines()) == 3
    assert err == ""
    assert main(["predict", str(run_folder), "--json", "--", *names]) == 0
    assert [row["path"] for row in json.loads(capsys.readouterr().out)["files"]] == names
    with open("out.csv", newline="", encoding="utf-8", errors="surrogateescape") as file:
        cells = list(csv.reader(file))
    assert_no_formulas(cells)
    assert [os.path.normpath(row[0]) for row in cells[1:]] == names     # still the paths they were


def test_predict_wants_answers_that_are_classes(tmp_path, capsys):
    images = Sequential([AveragePool2D(8)], input_shape=(64, 64, 3))
    images.save(tmp_path / "images.safetensors")
    image = picture(tmp_path / "a.png")
    said = ends_in_a_sentence(["predict", tmp_path / "images.safetensors", image], capsys, codes=(3,))
    assert "this network does not classify: its outputs have the shape (8, 8, 3)" in said
    small_model(classes=None).save(tmp_path / "nameless.safetensors")
    assert main(["predict", str(tmp_path / "nameless.safetensors"), str(image)]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[1] in ("0", "1")


@pytest.mark.parametrize("command", [["train", "--out", "r", "--data"], ["data", "split"],
                                     ["evaluate", "RUN", "--data"]])
def test_hostile_folders_and_tables_end_every_command_in_a_sentence(command, run_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = [str(run_folder) if word == "RUN" else word for word in command]
    for label in ("normal", "covid"):
        picture(tmp_path / "source" / label / "a.png")
    no_files(tmp_path / "source" / "normal")
    (tmp_path / "source" / "covid" / "out.png").symlink_to(picture(tmp_path / "secret.png"))
    (tmp_path / "source" / "link\x1b[2J").symlink_to("/")
    said = ends_in_a_sentence([*command, tmp_path / "source"], capsys)
    assert "covid/out.png lies outside of" in said and r"link\x1b[2J is a link" in said and "secret.png" not in said
    for name in ("pipe.png", "socket.png", "loop.png", "zero.png"):
        assert "cannot be read" in ends_in_a_sentence([*command, tmp_path / "source" / "normal" / name], capsys)
    (tmp_path / "t.csv").write_bytes(b"path,label\n\x1b[2J,a\n\xe2\x80\xae,b\n../secret.png,\x1b]0;x\x07\n")
    assert "lies outside of" in ends_in_a_sentence([*command, tmp_path / "t.csv"], capsys)
    assert not (tmp_path / "r" / "config.json").exists()


def test_warnings_show_odd_names_in_escapes(tmp_path):
    name = "a\n\x1b[2J\u202e.png"
    Image.new("LA", (8, 8), (9, 9)).save(tmp_path / name)
    (tmp_path / "t\x1b[2J.csv").write_text("path,label\nb.png,0\nb.png,0\nc.png,1\n")
    picture(tmp_path / "b.png"), picture(tmp_path / "c.png", 2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        decode(tmp_path / name)
        Manifest.read(tmp_path / "t\x1b[2J.csv")
    said = [str(warning.message) for warning in caught]
    assert len(said) == 2 and all(map(str.isprintable, said))
    assert "is not opaque" in said[0] and "1 rows repeat an earlier one" in said[1]


# ---- D7: pages, tables and exports -----------------------------------------------------------------------------------

def assert_no_formulas(rows):
    assert [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))] == []


def test_no_cell_of_a_table_is_a_formula(tmp_path):
    words = [payload.encode("utf-8", "ignore").decode() for payload in hostile.PAYLOADS]
    manifest = Manifest(tmp_path, [word.replace("\0", "") or "x" for word in words], np.arange(len(words)) % 2,
                        ["normal", "covid"], patients=words, sources=words, views=words, sexes=words, ages=words)
    manifest.write_csv(tmp_path / "plain.csv")
    manifest.write_csv(tmp_path / "split.csv", {"training": manifest, "test": manifest})
    for name, n in (("plain.csv", 1), ("split.csv", 2)):
        with open(tmp_path / name, newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
        assert len(rows) == 1 + n * len(words) and {len(row) for row in rows} == {6 + n}
        assert_no_formulas(rows)
    assert hostile.is_plain(repr(manifest))


def test_the_runs_tables_hold_no_formula(tmp_path):
    words = [payload.encode("utf-8", "ignore").decode() for payload in hostile.PAYLOADS]
    manifest = Manifest(tmp_path, [word or "x" for word in words], np.arange(len(words)) % 2, ["normal", "covid"],
                        patients=words)
    rows = [{"path": word, "part": "test", "label": "normal", "prediction": word, "probability": 0.5}
            for word in words]
    for text in (csv_text(split_rows({"training": manifest})), csv_text(rows)):
        cells = list(csv.reader(io.StringIO(text, newline="")))
        assert len(cells) == 1 + len(words)
        assert_no_formulas(cells)


def test_tables_for_the_terminal_show_every_name_in_escapes():
    report = metrics.binary_metrics([0, 0], [0.1, 0.2], loss=0.5)
    for payload in hostile.PAYLOADS:
        text = table({payload: report | {"undefined": {"auc": payload}}})
        assert hostile.is_plain(text) and printable(payload) in text


def test_json_is_of_the_rfc_whatever_names_it_holds(run_folder, tmp_path):
    content = {payload: [payload] for payload in hostile.PAYLOADS}
    with RunFolder(tmp_path / "r") as run:
        run.write_json("x.json", content)
        text = (run.path / "x.json").read_text(encoding="utf-8")

        def refuse(word):
            raise AssertionError(f"{word} is not JSON")
        assert json.loads(text, parse_constant=refuse) == content == run.read_json("x.json")
        with pytest.raises(ValueError, match="not JSON compliant"):
            run.write_json("y.json", {"loss": float("nan")})


# ---- Forged models and run folders -----------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def whole_model(tmp_path_factory):
    """The tensors and the metadata of a good model file."""
    path = tmp_path_factory.mktemp("model") / "m.safetensors"
    model = Sequential([Flatten(), Dense(1), Sigmoid()], input_shape=(2, 2, 1), classes=["normal", "covid"],
                       engine="reference")
    model.compile(Adam(), "binary_crossentropy")
    model.fit(np.zeros((2, 2, 2, 1)), [0, 1], progress=False)
    model.save(path)
    return weights.load(path)


@pytest.mark.parametrize("name", hostile.FORGERIES)
def test_a_forged_model_is_refused_at_once(name, whole_model, tmp_path):
    path = tmp_path / "m.safetensors"
    weights.save(path, *whole_model)
    assert Sequential.load(path).classes == ("normal", "covid")
    weights.save(path, *hostile.forged(name, *whole_model))

    def work():
        before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
        try:
            Sequential.load(path)
            said = "it was loaded"
        except WeightsError as error:
            said = str(error)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        return {"said": said, "seconds": time.perf_counter() - began, "grown_kilobytes": grown}

    figures = hostile.in_child(work)
    assert figures["said"].startswith(printable(path)) and figures["said"].isprintable()
    assert figures["seconds"] < ALARM and figures["grown_kilobytes"] < 32 * 1024


ODD = ("x", "\x1b[2J", -1, 0.5, True, 10**30, [], ["\x1b[2J"], {}, {"label": 5}, json.loads("[" * 900 + "]" * 900))


@pytest.mark.parametrize("field", ["data", "protocol", "augmentation", "epochs", "steps_per_epoch", "batch_size",
                                   "learning_rate", "seed", "classes", "columns", "workers", "allow_outside_root"])
def test_odd_options_in_a_run_folder_end_in_a_sentence(field, run_folder, capsys):
    config = json.loads((run_folder / "config.json").read_text())
    for value in ODD:
        (run_folder / "config.json").write_text(json.dumps(config | {field: value}))
        # Where the option will do, there is no data.
        ends_in_a_sentence(["train", "--resume", run_folder, "--quiet"], capsys)
        code = main(["evaluate", str(run_folder), "--report", str(run_folder / "page.html")])
        out, err = capsys.readouterr()
        assert code in (0, 3) and hostile.is_plain(out) and hostile.is_plain(err)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "7", '"x"', "[" * 100_000, '{"x": 1}', '{"epochs": NaN}',
                                  '{"\\u001b": 1}'])
def test_no_options_at_all_end_in_a_sentence(text, run_folder, capsys):
    (run_folder / "config.json").write_text(text)
    for command in (["train", "--resume", run_folder], ["evaluate", run_folder], ["predict", run_folder, "x.png"]):
        assert "config.json" in ends_in_a_sentence(command, capsys, codes=(3,))


REPORT = metrics.binary_metrics([0, 1], [0.1, 0.9], loss=0.2)


@pytest.mark.parametrize("content", [
    [], None, 7, {"x": 1}, {"x": {}}, {"\x1b[2J": {}}, {"t": REPORT | {"accuracy": "x"}}, {"t": REPORT | {"n": []}},
    {"t": REPORT | {"n": 10**400}}, {"t": REPORT | {"undefined": {"zzz": "x"}}},
    {"t": REPORT | {"undefined": {"auc": 1}}},
    {"t": REPORT | {"loss": "x"}}, {"t": REPORT | {"loss": float("nan")}}, {"t": REPORT | {"more": 1}}])
def test_odd_metrics_in_a_run_folder_end_in_a_sentence(content, run_folder, tmp_path, capsys):
    (run_folder / "metrics.json").write_text(json.dumps(content))
    for more in ([], ["--json"], ["--report", tmp_path / "page.html"]):
        assert "metrics.json" in ends_in_a_sentence(["evaluate", run_folder, *more], capsys, codes=(3,))


def test_names_of_parts_reach_terminal_and_page_in_escapes(run_folder, tmp_path, capsys):
    (run_folder / "metrics.json").write_text(json.dumps({"\x1b[2J\u202e": REPORT}))
    assert main(["evaluate", str(run_folder), "--report", str(tmp_path / "page.html")]) == 0
    out, err = capsys.readouterr()
    assert hostile.is_plain(out) and r"\x1b[2J\u202e" in out and hostile.is_plain((tmp_path / "page.html").read_text())


# A picture that leads nowhere is none, and the page does without: so no loop.png for curves.png.
@pytest.mark.parametrize("name, kind", [(name, kind) for name in ("config.json", "metrics.json", "curves.png")
                                        for kind in ("pipe.png", "folder.png", "loop.png", "zero.png", "socket.png")
                                        if (name, kind) != ("curves.png", "loop.png")])
def test_what_is_no_file_in_a_run_folder_is_not_waited_for(name, kind, run_folder, tmp_path, capsys):
    (tmp_path / "files").mkdir()
    no_files(tmp_path / "files")
    (run_folder / name).unlink(missing_ok=True)
    (run_folder / name).symlink_to(tmp_path / "files" / kind)
    assert name in ends_in_a_sentence(["evaluate", run_folder, "--report", tmp_path / "page.html"], capsys, codes=(3,))


def test_a_lock_that_is_a_link_does_not_write_where_it_leads(run_folder, tmp_path, capsys):
    (tmp_path / "precious").write_text("precious")
    (run_folder / "run.lock").symlink_to(tmp_path / "precious")
    ends_in_a_sentence(["train", "--resume", run_folder], capsys, codes=(4,))
    assert (tmp_path / "precious").read_text() == "precious"
    (run_folder / "run.lock").unlink()
    os.mkfifo(run_folder / "run.lock")
    ends_in_a_sentence(["train", "--resume", run_folder], capsys, codes=(4,))


def test_a_run_in_a_folder_whose_name_is_no_text(tmp_path, capsys):
    folder = tmp_path / os.fsdecode(b"\xff")
    index = collection(folder)
    said = ends_in_a_sentence(["train", "--data", index, "--out", tmp_path / "r"], capsys, codes=(3,))
    assert "split: set" in said        # two patients are too few


# ---- D8: nothing runs ------------------------------------------------------------------------------------------------

ROOT = Path(minicnn.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_could_run_data(path):
    assert not could_run_data(ast.parse(path.read_text(encoding="utf-8")), str(path.relative_to(ROOT)))


@pytest.mark.parametrize("code", [
    "import pickle", "def f():\n from subprocess import run", "import os.path, socket", "eval('1')", "os.system('ls')",
    "os.execv('a', [])", "os.posix_spawn('a', [], {})", "import importlib", "np.load(f)", "load(f, allow_pickle=True)",
    "from urllib.request import urlopen", "import tarfile", "shutil.unpack_archive(f)",
    "x = ImageFile.LOAD_TRUNCATED_IMAGES"])
def test_the_tester_sees_what_could(code):
    assert could_run_data(ast.parse(code), "model.py")
    assert not could_run_data(ast.parse("import numpy as np\nimport re\nre.compile('a')\nmodel.compile(SGD())"), "model.py")


def attacks(folder, whole_model):
    """Write one file of each kind of attack; return [(function that reads it, path)]."""
    (folder / "images").mkdir()
    (folder / "models").mkdir()
    found = []
    images = dict(hostile.bombs())
    images |= {f"{i:04d}": data for i, (_, data) in enumerate(hostile.damaged(800, seed=8))}
    images |= {f"{kind} {side}": hostile.sized(kind, side, side) for kind in hostile.IMAGES for side in (0, 1, 20_000)}
    for i, data in enumerate(images.values()):
        path = folder / "images" / str(i)
        path.write_bytes(data)
        found.append((decode, path))
    for i, name in enumerate(hostile.FORGERIES):
        path = folder / "models" / str(i)
        weights.save(path, *hostile.forged(name, *whole_model))
        found += [(Sequential.load, path), (weights.load, path)]
        damaged = bytearray(path.read_bytes())
        damaged[i * 7 % len(damaged)] ^= 1
        (folder / "models" / f"{i} damaged").write_bytes(damaged)
        found.append((Sequential.load, folder / "models" / f"{i} damaged"))
    hostile.hostile_folder(folder / "root")
    draw = random.Random(9)
    for i in range(200):
        path = folder / "root" / f"{i}.csv"
        path.write_bytes(hostile.drawn_manifest(draw))
        found.append((Manifest.read, path))
    no_files(folder / "images")
    found += [(decode, path) for path in (folder / "images").iterdir()] + [(Manifest.read, folder)]
    for i, text in enumerate(["", "[]", "[" * 100_000, '{"data": "x"}', '{"__class__": "os.system"}']):
        run = folder / f"run{i}"
        run.mkdir()
        (run / "config.json").write_text(text)
        found.append((load_model, run))
    return found


def test_no_attack_runs_imports_connects_or_writes(tmp_path, whole_model):
    found = attacks(tmp_path, whole_model)
    outside = Path(sys.prefix) / "nothing"

    def work():
        warnings.simplefilter("ignore")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)

        def read_all():
            counts = {"read": 0, "refused": 0, "untyped": []}
            for read, path in found:
                try:
                    read(path)
                    counts["read"] += 1
                except MiniCNNError:
                    counts["refused"] += 1
                except Exception as error:
                    counts["untyped"].append(f"{path}: {error!r}")
            return counts

        read_all()                      # decoders are imported, regular expressions compiled
        seen = hostile.forbid_effects()
        counts, effects = read_all(), list(seen)
        for harmful in (lambda: open(outside, "w"), lambda: eval("1"), lambda: os.system("true"), socket.socket):
            try:
                harmful()
            except AssertionError:
                pass
        return counts | {"effects": effects, "caught": len(seen) - len(effects)}

    figures = hostile.in_child(work)
    assert figures["effects"] == [] and figures["untyped"] == []
    assert figures["caught"] >= 4           # the hook works
    assert figures["read"] > 50 and figures["refused"] > 500
