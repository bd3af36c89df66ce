"""`minicnn predict`: order, probability and decision of each image, and what was not fixed on validation."""

import csv
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from minicnn import Dense, Flatten, Sequential, Sigmoid, Softmax, cov19net
from minicnn.cli.main import main
from minicnn.core.untrusted import safe_cell
from minicnn.data import pixel_cache
from minicnn.evaluation.operating_point import OperatingPoint
from minicnn.experiment import predict
from minicnn.experiment.prediction_run import prediction_rows
from minicnn.experiment.run_folder import RunFolder


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
    assert out.count("an interval fixed on the validation set") == 1 == out.count("at the temperature 2, fixed on")
    rows = rows_of(tmp_path / "out.csv")
    assert [row["path"] for row in rows] == files
    expected = np.where(p <= low, "normal", np.where(p <= high, "abstains", "covid"))
    assert [row["decision"] for row in rows] == expected.tolist() and len(set(expected)) == 3
    assert [row["prediction"] for row in rows] == np.where(p > 0.5, "covid", "normal").tolist()
    z = np.log(p / (1 - p)) / 2
    np.testing.assert_allclose([float(row["calibrated"]) for row in rows], 1 / (1 + np.exp(-z)), atol=2e-6)
    assert main(["predict", str(folder), *files, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["threshold"], told["abstain"], told["temperature"]) == (0.5, [low, high], 2.0)
    assert [row["decision"] for row in told["files"]] == expected.tolist()


def test_what_was_not_fixed_is_said(run, tmp_path):
    folder, files = run
    one = decided(folder, tmp_path, undefined={"abstain": "it was full moon", "temperature": "of the tide"})
    predictions = predict(one, files[:2])
    assert {row["decision"] for row in predictions.rows} == {row["calibrated"] for row in predictions.rows} == {None}
    assert "It never abstains: it was full moon." in predictions.table()
    assert "No calibrated probabilities: of the tide." in predictions.table()
    OperatingPoint(threshold=0.0).write(RunFolder(one))
    assert {row["decision"] for row in predict(one, files[:2]).rows} == {"covid"}
    OperatingPoint(threshold=1.0, abstain=(1.0, 1.0)).write(RunFolder(one))
    predictions = predict(one, files[:2])
    assert {row["decision"] for row in predictions.rows} == {"normal"}
    assert "It never abstains: on the validation set p > 1 separates the labels well enough." in predictions.table()
    os.remove(one / "decision.json")
    predictions = predict(one, files[:2], tmp_path / "old.csv")
    assert "this run has no decision.json: it is not finished, or an earlier" in predictions.table()
    assert predictions.to_dict()["abstain"] is None and rows_of(tmp_path / "old.csv")[0]["decision"] == ""
    predictions = predict(folder / "best.safetensors", files[:2])
    assert "a weights file alone has none; give the folder of its run" in predictions.table()
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


def test_three_classes_have_a_temperature_and_no_interval(run, tmp_path):
    folder, files = run
    model = Sequential([Flatten(), Dense(3), Softmax()], (64, 64, 3), classes=("a", "b", "c"))
    outputs = model.predict(files[:4])
    fixed = OperatingPoint(temperature=3.0, undefined={"abstain": "three classes"})
    rows = prediction_rows(outputs, model.classes, fixed)
    z = np.exp(np.log(outputs) / 3)
    np.testing.assert_allclose([row["calibrated"] for row in rows], (z / z.sum(axis=1, keepdims=True)).max(axis=1),
                               atol=1e-6)
    assert [row["decision"] for row in rows] == [None] * 4
    assert [row["prediction"] for row in rows] == ["abc"[k] for k in outputs.argmax(axis=1)]


def test_networks_without_a_preprocessing_or_images(run, tmp_path, capsys):
    _, files = run
    cov19net(seed=1).save(tmp_path / "nameless.safetensors")
    assert [row["prediction"] in "01" for row in predict(tmp_path / "nameless.safetensors", files[:2]).rows]
    Sequential([Dense(1), Sigmoid()], (5,)).save(tmp_path / "numbers.safetensors")
    assert main(["predict", str(tmp_path / "numbers.safetensors"), files[0]]) == 3
    assert "this network does not take images of 1 or 3 channels" in capsys.readouterr().err
