"""`minicnn predict`: decision and probabilities, what was not fixed on validation, files that cannot be read."""

import csv
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from minicnn import Dense, Flatten, Sequential, Sigmoid, Softmax, cov19net
from minicnn.cli.main import main
from minicnn.core.untrusted import safe_cell, write_csv
from minicnn.data import Preprocessing, pixel_cache
from minicnn.data.loader import open_dataset
from minicnn.evaluation.operating_point import OperatingPoint, fit_operating_point
from minicnn.evaluation.out_of_distribution import TrainingDistribution
from minicnn.experiment import compare, predict
from minicnn.experiment.prediction_run import prediction_rows
from minicnn.experiment.run_folder import RunFolder
from tests.support import golden


@pytest.fixture(scope="module")
def run(collection, finished):
    """(folder of a finished run, paths of its images)."""
    return finished, sorted(str(path) for path in (collection.parent / "images").iterdir())


def rows_of(path):
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def decided(run, tmp_path, **fixed):
    """Return a copy of a run in which this, and nothing else, was fixed on validation."""
    shutil.copytree(run, tmp_path / "decided")
    OperatingPoint(**fixed).write(RunFolder(tmp_path / "decided"))
    return tmp_path / "decided"


def test_each_decision_is_what_was_fixed_on_validation(run, tmp_path, capsys):
    folder, files = run
    p = np.array([row["probability"] for row in predict(folder, files).rows])
    low, high = float(np.quantile(p, 0.3)), float(np.quantile(p, 0.7))
    folder = decided(folder, tmp_path, threshold=0.5, abstain=(low, high), temperature=2.0)
    assert main(["predict", str(folder), *files, "--csv", str(tmp_path / "out.csv")]) == 0
    out = capsys.readouterr().out
    assert out.count("both bounds were fixed on the validation set") == 1 == out.count("at the temperature 2 that was fixed")
    rows = rows_of(tmp_path / "out.csv")
    assert [row["path"] for row in rows] == files
    expected = np.where(p <= low, "normal", np.where(p <= high, "abstains", "covid"))
    assert [row["decision"] for row in rows] == expected.tolist() and len(set(expected)) == 3
    at_half = np.where(p > 0.5, "covid", "normal")
    assert [row["at_0.5"] for row in rows] == np.where(at_half == expected, "", at_half).tolist()
    z = np.log(p / (1 - p)) / 2
    np.testing.assert_allclose([float(row["p_covid"]) for row in rows], 1 / (1 + np.exp(-z)), atol=2e-6)
    np.testing.assert_allclose([float(row["p_normal"]) for row in rows], 1 / (1 + np.exp(z)), atol=2e-6)
    assert [row["calibrated"] for row in rows] == [row["p_covid"] for row in rows]
    assert main(["predict", str(folder), *files, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["threshold"], told["abstain"], told["temperature"]) == (0.5, [low, high], 2.0)
    assert [row["decision"] for row in told["files"]] == expected.tolist()
    below, above = told["bounds"]                   # of the calibrated probabilities beside them
    assert [("normal" if row["p_covid"] <= below else "covid" if row["p_covid"] > above else "abstains")
            for row in told["files"]] == expected.tolist()


def shown(text):
    """Return the rows of a printed table: {file: [decision, *values]}, and the bound or bounds of the rule below it."""
    table, said = text.split("\n\n", 1)
    rule = next(line for line in said.splitlines() if line.startswith("The decision is"))
    return {line.split()[0]: line.split()[1:] for line in table.splitlines()[1:]}, \
        [float(word) for word in re.findall(r"p_covid (?:>|<=) ([\d.]+\d)", rule)], table.splitlines()[0].split()


@pytest.mark.parametrize("fixed", [dict(threshold=0.3, abstain=(0.3, 0.3), temperature=2.5), dict(threshold=0.3),
                                   dict(threshold=0.62, temperature=0.5), dict(temperature=3.0), {}])
def test_what_is_printed_does_not_contradict_itself(fixed, run, tmp_path, monkeypatch):
    """The decision follows from the probability and the threshold that are printed, to the digits that are printed."""
    folder, files = run
    p = np.linspace(0.02, 0.98, len(files), dtype=np.float32)
    t = fixed.get("threshold", 0.5)
    p[:4] = t, np.nextafter(np.float32(t), np.float32(1)), t + 2e-5, t - 2e-5       # as near as can be told apart
    monkeypatch.setattr(Sequential, "predict", lambda self, x: p[:len(x), None])
    predictions = predict(decided(folder, tmp_path, **fixed), files)
    rows, (bound,), head = shown(predictions.table())
    decisions = [row["decision"] for row in predictions.rows]
    assert decisions == np.where(p > t, "covid", "normal").tolist()
    assert ("at" in head) == (t != 0.5)
    for file, row, value in list(zip(files, predictions.rows, p.tolist()))[2:]:
        decision, p_normal, p_covid, *at_half = rows[file]
        assert decision == row["decision"] == ("covid" if float(p_covid) > bound else "normal")
        assert abs(float(p_normal) + float(p_covid) - 1) < 2e-4
        assert at_half == ([] if (value > 0.5) == (value > t) else ["covid" if value > 0.5 else "normal"])


def test_what_was_not_fixed_is_said(run, tmp_path):
    folder, files = run
    one = decided(folder, tmp_path, undefined={"threshold": "it was full moon", "temperature": "of the tide"})
    predictions = predict(one, files[:2])
    assert {row["calibrated"] for row in predictions.rows} == {None} == {row["at_0.5"] for row in predictions.rows}
    assert [row["decision"] for row in predictions.rows] == ["covid" if row["probability"] > 0.5 else "normal"
                                                             for row in predictions.rows]
    assert [row["p_covid"] for row in predictions.rows] == [row["probability"] for row in predictions.rows]
    assert "p_covid > 0.5, otherwise normal: no threshold was fixed on the validation set (it was full moon)." \
        in predictions.table()
    assert "The probabilities are not calibrated: of the tide." in predictions.table()
    OperatingPoint(threshold=0.0, undefined={"abstain": "of the fog"}).write(RunFolder(one))
    predictions = predict(one, files[:2])
    assert {row["decision"] for row in predictions.rows} == {"covid"}
    assert "It never abstains: of the fog." in predictions.table()
    OperatingPoint(threshold=1.0, abstain=(1.0, 1.0)).write(RunFolder(one))
    predictions = predict(one, files[:2])
    assert {row["decision"] for row in predictions.rows} == {"normal"}
    assert "p_covid > 1, otherwise normal: this threshold was fixed on the validation set." in predictions.table()
    os.remove(one / "decision.json")
    predictions = predict(one, files[:2], tmp_path / "old.csv")
    assert predictions.table().count("this run has no decision.json: it is not finished, or an earlier") == 1
    assert "The probabilities are not calibrated either." in predictions.table()
    assert predictions.to_dict()["abstain"] is None and predictions.to_dict()["bounds"] == [0.5, 0.5]
    predictions = predict(folder / "best.safetensors", files[:2])
    assert predictions.table().count("a weights file alone has none; give the folder of its run") == 1
    assert "The images were not checked for being out-of-distribution" in predictions.table()


def test_the_files_are_decoded_once_and_keep_their_order(run, tmp_path, monkeypatch):
    folder, files = run
    odd = tmp_path / "=1+1.png"
    Image.open(files[0]).resize((200, 64)).save(odd)
    paths, decoded, original = [files[3], str(odd), files[1], files[3]], [], pixel_cache.open_planes
    monkeypatch.setenv("MINICNN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(pixel_cache, "open_planes", lambda *arguments: decoded.append(arguments[1]) or original(*arguments))
    predictions = predict(folder, paths, tmp_path / "out.csv")
    assert sorted(decoded) == sorted(paths)
    assert [row["path"] for row in predictions.rows] == paths and predictions.rows[0] == predictions.rows[3]
    assert "its width is 3.12 of its height" in predictions.rows[1]["warning"]
    assert f"WARNING: {odd}: " in predictions.table()
    assert [row["path"] for row in rows_of(tmp_path / "out.csv")] == [safe_cell(path) for path in paths]


def test_three_classes_have_every_probability_and_one_sentence_about_thresholds(run, tmp_path):
    folder, files = run
    model = Sequential([Flatten(), Dense(3), Softmax()], (64, 64, 3), classes=("a", "b", "c"))
    outputs = model.predict(files[:4])
    fixed = OperatingPoint(temperature=3.0, undefined=fit_operating_point([0, 1, 2, 0], outputs).undefined)
    rows = prediction_rows(outputs, model.classes, fixed)
    z = np.exp(np.log(outputs.astype(float)) / 3)
    expected = z / z.sum(axis=1, keepdims=True)
    np.testing.assert_allclose([[row[f"p_{name}"] for name in "abc"] for row in rows], expected, atol=1e-6)
    np.testing.assert_allclose([row["calibrated"] for row in rows], expected.max(axis=1), atol=1e-6)
    assert [row["decision"] for row in rows] == [row["prediction"] for row in rows] == \
        ["abc"[k] for k in outputs.argmax(axis=1)]
    model.save(tmp_path / "three.safetensors")
    predictions = predict(tmp_path / "three.safetensors", files[:4], tmp_path / "out.csv")
    assert list(rows_of(tmp_path / "out.csv")[0])[:5] == ["path", "decision", "p_a", "p_b", "p_c"]
    np.testing.assert_allclose([[row[f"p_{name}"] for name in "abc"] for row in predictions.rows], outputs, atol=1e-6)
    assert predictions.table().count("threshold") == 1 and predictions.table().count("not calibrated") == 1
    assert predictions.to_dict()["bounds"] is None


def test_the_largest_of_three_probabilities_is_seen_to_be_the_largest(run, tmp_path, monkeypatch):
    _, files = run
    Sequential([Flatten(), Dense(3), Softmax()], (64, 64, 3), classes=("a", "b", "c")).save(tmp_path / "three.safetensors")
    monkeypatch.setattr(Sequential, "predict", lambda self, x: np.array([[0.400012, 0.400021, 0.199967]], np.float32))
    head, row = predict(tmp_path / "three.safetensors", files[:1]).table().splitlines()[:2]
    assert row.split()[1:] == ["b", "0.40001", "0.40002", "0.19997"]


def test_two_outputs_are_decided_like_one(run, tmp_path):
    _, files = run
    model = Sequential([Flatten(), Dense(2), Softmax()], (64, 64, 3), classes=("normal", "covid"))
    outputs = model.predict(files[:3])
    rows = prediction_rows(outputs, model.classes, fit_operating_point([0, 1, 0], outputs))
    assert [row["decision"] for row in rows] == ["covid" if row["p_covid"] > 0.5 else "normal" for row in rows]
    model.save(tmp_path / "two.safetensors")
    assert {row["at_0.5"] for row in predict(tmp_path / "two.safetensors", files[:3]).rows} == {None}


def test_the_run_says_of_its_images_what_predict_says_of_them(run, collection):
    """predictions.csv has the columns that it had, and the probability of every class under predict's names."""
    folder, files = run
    kept = {row["path"]: row for row in rows_of(folder / "predictions.csv")}
    assert list(next(iter(kept.values()))) == ["path", "part", "label", "prediction", "probability", "calibrated",
                                               "decision", "p_normal", "p_covid"]
    for row in predict(folder, files).rows:
        before = kept[os.path.relpath(row["path"], collection.parent)]
        assert row["decision"] == before["decision"] and (row["at_0.5"] or row["decision"]) == before["prediction"]
        for name in ("probability", "calibrated", "p_normal", "p_covid"):
            assert row[name] == float(before[name])


def test_a_run_of_before_is_compared_as_it_was(run, tmp_path):
    """predictions.csv without a probability for every class, as earlier versions wrote it."""
    before = tmp_path / "before"
    shutil.copytree(run[0], before)
    rows = rows_of(before / "predictions.csv")
    write_csv(before / "predictions.csv", [{name: row[name] for name in row if not name.startswith("p_")} for row in rows])
    assert compare(before, run[0]).metrics["a"] == compare(run[0], run[0]).metrics["a"]


# ---- Files that cannot be read, folders and patterns ------------------------------------------------------------------

def test_a_file_that_cannot_be_read_is_a_row_and_not_the_loss_of_the_others(run, tmp_path, capsys):
    folder, files = run
    scans = tmp_path / "scans"
    scans.mkdir()
    for name, file in zip(("a.png", "c.png"), files):
        shutil.copy(file, scans / name)
    (scans / "b.png").write_bytes(b"no image")
    (scans / "locked.png").write_bytes(b"")
    csv_file = tmp_path / "out.csv"
    for given in ([str(scans), "none.png"], [str(scans / "*.png"), "none.png"]):
        assert main(["predict", str(folder), *given, "--csv", str(csv_file)]) == 3
        told = capsys.readouterr()
        assert "minicnn: 3 of 5 files could not be read" in told.err and told.out.count("NOT READ: ") == 3
        rows = rows_of(csv_file)
        assert [os.path.basename(row["path"]) for row in rows] == ["a.png", "b.png", "c.png", "locked.png", "none.png"]
        assert [row["error"] != "" for row in rows] == [False, True, False, True, True]
        assert [row["p_covid"] == "" for row in rows] == [row["decision"] == "" for row in rows] == \
            [row["error"] != "" for row in rows]
        assert rows[2]["p_covid"] == str(predict(folder, files[1:2]).rows[0]["p_covid"])
    assert main(["predict", str(folder), str(scans / "b.png"), "--json"]) == 3
    (row,) = json.loads(capsys.readouterr().out)["files"]
    assert "b.png: PNG, JPEG" in row["error"] and row["p_covid"] is row["decision"] is row["probability"] is None
    assert main(["predict", str(folder), str(scans / "q*.png"), str(scans)]) == 3
    told = capsys.readouterr()
    assert "q*.png: no file matches this pattern" in told.err and told.out == ""


def test_explain_goes_on_after_a_file_that_cannot_be_read(run, tmp_path, capsys):
    folder, files = run
    scans = tmp_path / "scans"
    scans.mkdir()
    (scans / "a.png").write_bytes(b"no image")
    shutil.copy(files[0], scans / "b.png")
    command = ["explain", str(folder), str(scans), "--out", str(tmp_path / "out")]
    assert main([*command, "--json"]) == 3
    told = json.loads(capsys.readouterr().out)["files"]
    assert "a.png: PNG, JPEG" in told[0]["error"] and told[0]["picture"] is None
    assert told[1]["error"] == "" and os.listdir(tmp_path / "out") == ["b-gradcam.png"]
    assert main(command) == 3
    told = capsys.readouterr()
    assert "1 of 2 files could not be read" in told.err and told.out.count("NOT READ: ") == 1 == told.out.count("not read")
    os.remove(scans / "b.png")
    assert main(command) == 3 and "no file can be read\n" in capsys.readouterr().err


# ---- The prose: what a person reads ----------------------------------------------------------------------------------

def brightness(classes, slopes, shifts):
    """Return a network whose scores follow the brightness of an image's right half: its outputs are known on any CPU."""
    last = Softmax() if len(slopes) > 1 else Sigmoid()
    model = Sequential([Flatten(), Dense(len(slopes)), last], (16, 16, 1), classes=classes)
    weights = np.zeros((16, 16, len(slopes)))
    weights[:, 8:] = np.divide(slopes, 128)
    for parameter, value in zip(model.layers[1].parameters, (weights.reshape(256, -1), shifts)):
        parameter.value = np.asarray(value, np.float32)
    return model


def picture(share, width=16):
    """Return an image that is this bright on the right."""
    row = np.where(np.arange(16) < 8, 90, round(255 * share)).astype(np.uint8)
    return Image.fromarray(np.tile(row, (16, 1))).resize((width, 16))


def scene(folder):
    """Make two runs, of two and of three classes, and a folder of scans."""
    (folder / "scans" / "old").mkdir(parents=True)
    images = [str(folder / f"{i}.png") for i in range(8)]
    for i, path in enumerate(images):
        picture(0.2 + 0.08 * i).save(path)
    seen = open_dataset(images, Preprocessing(16, 16, 1))
    for name, classes, slopes, shifts, fixed in (
            ("two", ["normal", "covid"], [8], [-4], dict(threshold=0.3, abstain=(0.3, 0.3), temperature=1.5)),
            ("sure", ["normal", "covid"], [8], [-4], dict(threshold=0.3, abstain=(0.3, 0.7), temperature=1.5)),
            ("three", ["normal", "covid", "pneumonia"], [-4, 4, 0], [2, -2, 0.2],
             dict(temperature=0.8, undefined=dict.fromkeys(["threshold", "abstain"], "there are more than two classes")))):
        model = brightness(classes, slopes, shifts)
        (folder / name).mkdir()
        run = RunFolder(folder / name)
        run.write_json("config.json", {})
        model.save(run.path / "best.safetensors")
        OperatingPoint(**fixed).write(run)
        known = TrainingDistribution.fit(Sequential.load(run.path / "best.safetensors"), seen, seen)
        known.save(run.path / "familiarity.safetensors")
    for name, share in (("ann.png", 0.3), ("bob.png", 0.45), ("old/cleo.png", 0.7)):
        picture(share).save(folder / "scans" / name)
    picture(0.6, width=48).save(folder / "scans" / "photo.png")
    (folder / "scans" / "void.png").touch()


def test_what_a_person_reads_is_what_was_reviewed(tmp_path, monkeypatch, capsys):
    """Two and three classes, a decision that 0.5 would not make, abstention, an odd image, files that cannot be read."""
    monkeypatch.chdir(tmp_path)
    scene(tmp_path)
    said = ""
    for command in ("predict two scans", "predict sure scans/*.png", "predict three scans",
                    "predict three/best.safetensors scans/bob.png scans/nobody.png",
                    "predict two/best.safetensors scans/ann.png"):
        code = main(command.split())
        told = capsys.readouterr()
        said += f"$ minicnn {command}\n{told.out}{told.err}(exit code {code})\n\n"
    golden.check(Path(__file__).parents[1] / "cli" / "golden" / "predict.txt", said)


def test_networks_without_a_preprocessing_or_images(run, tmp_path, capsys):
    _, files = run
    cov19net(seed=1).save(tmp_path / "nameless.safetensors")
    assert all(row["decision"] in "01" and {"p_0", "p_1"} < set(row)
               for row in predict(tmp_path / "nameless.safetensors", files[:2]).rows)
    Sequential([Dense(1), Sigmoid()], (5,)).save(tmp_path / "numbers.safetensors")
    assert main(["predict", str(tmp_path / "numbers.safetensors"), files[0]]) == 3
    assert "this network does not take images of 1 or 3 channels" in capsys.readouterr().err
