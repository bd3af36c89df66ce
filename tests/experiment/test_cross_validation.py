"""Cross-validation by patient: which images are tested when, what the networks predict together, interruptions, the command."""

import csv
import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from minicnn import experiment
from minicnn.cli.main import main
from minicnn.errors import InputError, ManifestError
from minicnn.experiment import cross_validation
from minicnn.experiment.run_folder import RunFolder
from tests.study.test_reproduction import collection
from tests.support.processes import finish, start

SHORT = {"epochs": 1, "steps_per_epoch": 2, "batch_size": 8, "size": 18}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return collection(tmp_path_factory.mktemp("folds"), "own", n=60)


@pytest.fixture(scope="module")
def config(data):
    return experiment.Config(data, folds=3, **SHORT)


@pytest.fixture(scope="module")
def done(config, tmp_path_factory):
    return experiment.cross_validate(config, tmp_path_factory.mktemp("runs") / "whole", progress=False)


def rows_of(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def files(folder):
    """Return the bytes of what a cross-validation leaves, but what names its machine."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*")
            if path.is_file() and path.name not in ("environment.json", "run.lock")}


def test_each_image_is_tested_once_and_no_patient_is_on_two_sides(config):
    tested = Counter()
    for fold in (1, 2, 3):
        sets = experiment.split(replace(config, fold=fold))
        people = {name: set(one.patients) for name, one in sets.items()}
        assert not people["test"] & (people["training"] | people["validation"]) and not people["training"] & people["validation"]
        assert sum(map(len, sets.values())) == 60 and len(sets["test"]) in range(17, 24)
        tested.update(sets["test"].paths)
        assert all(np.array_equal(one.paths, again.paths) for one, again in zip(
            sets.values(), experiment.split(replace(config, fold=fold)).values()))
    assert len(tested) == 60 and set(tested.values()) == {1}
    other = experiment.split(replace(config, fold=1, seed=1))["test"]
    assert set(other.paths) != set(experiment.split(replace(config, fold=1))["test"].paths)


def test_the_predictions_are_those_of_each_fold_and_the_metrics_are_of_all_together(done):
    folder, told = done.folder, done.metrics["test"]
    rows = rows_of(folder / "predictions.csv")
    assert list(done.metrics) == ["test"] and told["n"] == len(rows) == 60 and Counter(row["fold"] for row in rows).keys() == {"1", "2", "3"}
    right = sum(row["label"] == row["prediction"] for row in rows)
    assert told["accuracy"] == pytest.approx(right / 60) and sum(map(sum, told["confusion"]["matrix"])) == 60
    for fold in (1, 2, 3):
        own = [row for row in rows_of(folder / f"fold-{fold}" / "predictions.csv") if row["part"] == "test"]
        assert {row["path"]: row["probability"] for row in own} == {row["path"]: row["probability"] for row in rows if row["fold"] == str(fold)}
    assert json.loads((folder / "metrics.json").read_text()) == done.metrics
    assert "3-fold cross-validation by patient" in done.protocol and "By fold: accuracy" in done.notes[0]


@pytest.mark.parametrize("reached", [0, 1, 2])
def test_after_an_interruption_the_files_are_the_same(done, config, tmp_path, monkeypatch, reached):
    """Before the first network, between two, and in the middle of one."""
    train, begun = cross_validation.train, []

    def stops(one, folder, *others):
        begun.append(folder)
        if len(begun) > reached:
            if reached == 2:
                train(one, folder, *others)
                (folder / "metrics.json").unlink()      # trained, not evaluated
            raise KeyboardInterrupt
        return train(one, folder, *others)
    with monkeypatch.context() as patch:
        patch.setattr(cross_validation, "train", stops)
        with pytest.raises(KeyboardInterrupt):
            experiment.cross_validate(config, tmp_path / "run", progress=False)
    assert not RunFolder(tmp_path / "run").is_finished
    experiment.resume_folds(tmp_path / "run", progress=False)
    assert files(tmp_path / "run") == files(done.folder)


def test_it_goes_on_where_the_data_was_moved(done, config, data, tmp_path):
    shutil.copytree(done.folder, tmp_path / "run")
    shutil.copytree(data.rpartition("/")[0], tmp_path / "moved")
    (tmp_path / "run" / "metrics.json").unlink()
    again = experiment.resume_folds(tmp_path / "run", progress=False, data=str(tmp_path / "moved" / "manifest.csv"))
    assert again.metrics == done.metrics
    kept = [experiment.Config.read(RunFolder(tmp_path / "run" / name)) for name in ("", "fold-2")]
    assert [one.data for one in kept] == [str(tmp_path / "moved" / "manifest.csv")] * 2


def test_what_is_no_cross_validation_is_refused(config, done, tmp_path):
    for options in ({"folds": 1}, {"folds": 3, "fold": 4}, {"fold": 1}, {"folds": 3, "hold_out": "north"}, {"folds": 3, "protocol": "paper"}):
        with pytest.raises(InputError, match="fold"):
            experiment.Config(**options)
    with pytest.raises(InputError, match="no folds"):
        experiment.cross_validate(replace(config, folds=None), tmp_path / "x")
    with pytest.raises(InputError, match="fold=1 to fold=3"):
        experiment.train(config, tmp_path / "x", progress=False)
    with pytest.raises(InputError, match="already holds a run.*--resume"):
        experiment.cross_validate(config, done.folder, progress=False)
    with pytest.raises(InputError, match="has 3 networks. Name the folder of one, such as .*fold-1"):
        experiment.load_model(done.folder)
    with pytest.raises(ManifestError, match="would have no image of class"):
        experiment.cross_validate(replace(config, folds=100), tmp_path / "x", progress=False)
    assert not (tmp_path / "x" / "metrics.json").exists()


def test_the_command(data, done, tmp_path, capsys):
    short = ["--epochs", "1", "--steps-per-epoch", "2", "--batch-size", "8", "--size", "18", "--quiet"]
    words = ["train", "--data", data, "--folds", "3", *short]
    assert main([*words, "--out", str(tmp_path / "a"), "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out) == done.metrics and "By fold" in told.err
    assert main(["train", "--resume", str(tmp_path / "a"), "--quiet"]) == 0
    assert main(["evaluate", str(tmp_path / "a"), "--report", str(tmp_path / "page.html")]) == 0
    assert "By fold" in capsys.readouterr().out and "3-fold cross-validation" in (tmp_path / "page.html").read_text()
    assert main(["evaluate", str(tmp_path / "a" / "fold-2")]) == 0
    assert main(["predict", str(tmp_path / "a"), str(Path(data).parent / "images")]) == 3
    assert "fold-1" in capsys.readouterr().err
    assert main([*words, "--hold-out", "north"]) == 3


def test_processes_share_the_folds(data, done, tmp_path):
    words = ["-m", "minicnn", "train", "--data", data, "--folds", "3", "--epochs", "1", "--steps-per-epoch", "2", "--batch-size", "8",
             "--size", "18", "--mpi", "--quiet", "--json", "--out", tmp_path / "a"]
    code, out, err = finish(start(2, *words))
    assert code == 0, err
    assert json.loads(out) == done.metrics
    assert {name: content for name, content in files(tmp_path / "a").items() if name.suffix in (".csv", ".safetensors")} == \
        {name: content for name, content in files(done.folder).items() if name.suffix in (".csv", ".safetensors")}
