"""Configs of runs: recipes, a source held out, and run folders of other versions."""

import csv
import json
import os
import shutil

import numpy as np
import pytest

from minicnn import experiment
from minicnn.cli.main import main
from minicnn.core.untrusted import csv_text
from minicnn.data.manifest import Manifest, split_rows
from minicnn.errors import InputError, ManifestError
from minicnn.evaluation.source_folds import leave_one_source_out
from minicnn.experiment import RECIPES, Config, Recipe, split, training_run
from minicnn.experiment.evaluation_run import evaluated_weights
from minicnn.experiment.run_folder import RunFolder
from tests.support.interruptions import interrupted_after

SHORT = {"epochs": 2, "steps_per_epoch": 3, "batch_size": 8, "classes": ["normal", "covid"]}


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    """48 small radiographs; the positives come from the sources a and b, the negatives from c and d."""
    folder = tmp_path_factory.mktemp("sources")
    main(["data", "phantom", str(folder / "files"), "--n", "48", "--seed", "5", "--size", "64", "--quiet"])
    with open(folder / "files" / "manifest.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        first = int(row["patient_id"][-1]) % 2 == 0
        row["source"] = ("a" if first else "b") if row["label"] == "covid" else ("c" if first else "d")
    path = folder / "files" / "sources.csv"
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@pytest.fixture(scope="module")
def finished(collection, tmp_path_factory):
    """(folder, Result) of a finished run with a source held out."""
    folder = tmp_path_factory.mktemp("held") / "out"
    result = experiment.train(Config(str(collection), hold_out="a", **SHORT), folder, progress=False)
    return folder, result


ANOTHER = Recipe(RECIPES["paper"].preprocessing, augmentation="none", average=0.5)


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "environment.json"}


def test_a_held_out_source_is_in_the_test_set_alone(collection, finished):
    folder, result = finished
    with open(folder / "split.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["split"] for row in rows if row["source"] == "a"} == {"test"}
    people = {}
    assert all(people.setdefault(row["patient_id"], row["split"] == "test") == (row["split"] == "test") for row in rows)
    manifest = Manifest.read(collection, classes=SHORT["classes"])
    fold = next(fold for fold in leave_one_source_out(manifest.prepared()) if fold.source == "a")
    assert [row["path"] for row in rows if row["split"] == "test"] == [manifest.names[i] for i in fold.test]
    assert {label for row in rows if row["split"] == "test" for label in [row["label"]]} == {"normal", "covid"}
    assert "source a held out: the test set is all of this source" in result.table()
    assert [len(result.datasets[name]) for name in result.metrics] == [one["n"] for one in result.metrics.values()]
    outputs = experiment.load_model(folder).predict(result.datasets["test"])
    np.testing.assert_array_equal(result.outputs["test"], outputs)


def test_data_split_shows_a_source_held_out(collection, tmp_path, capsys):
    assert main(["data", "split", str(collection), "--hold-out", "a", "--out", str(tmp_path / "s.csv"), "--quiet"]) == 0
    assert "source a held out" in capsys.readouterr().out
    assert (tmp_path / "s.csv").read_text() == csv_text(split_rows(split(Config(str(collection), hold_out="a"))))


@pytest.mark.parametrize("recipe", ["paper", "robust"])
def test_an_interrupted_run_with_a_source_held_out_goes_on_to_the_same_bytes(recipe, collection, tmp_path, monkeypatch):
    """The averaging recipe stands in for "robust": its mean must come through an interruption too."""
    monkeypatch.setitem(RECIPES, "robust", ANOTHER)
    monkeypatch.setattr(training_run, "draw", lambda *arguments: [])
    config = Config(str(collection), hold_out="b", recipe=recipe, **SHORT)
    whole = experiment.train_or_resume(config, tmp_path / "whole", progress=False)
    with interrupted_after(4, monkeypatch):                  # in epoch 2, after batch 1 of 3
        experiment.train_or_resume(config, tmp_path / "cut", progress=False)
    experiment.train_or_resume(config, tmp_path / "cut", progress=False)
    assert files_of(tmp_path / "cut") == files_of(tmp_path / "whole")
    again = experiment.train_or_resume(config, tmp_path / "cut", progress=False)        # nothing is left to be done
    assert again.metrics == whole.metrics and files_of(tmp_path / "cut") == files_of(tmp_path / "whole")
    averaged = "average.safetensors" in files_of(tmp_path / "whole")
    assert averaged == (recipe == "robust")
    evaluated = evaluated_weights(tmp_path / "whole", config).name
    assert evaluated == ("average.safetensors" if averaged else "best.safetensors")
    with pytest.raises(InputError, match="already holds a run, with other options .hold_out.. Go on with it"):
        experiment.train_or_resume(Config(str(collection), hold_out="a", recipe=recipe, **SHORT), tmp_path / "cut")


def test_images_that_cannot_be_read_are_an_error_or_are_left_out_before_the_split(collection, tmp_path, monkeypatch):
    """Left out, they change nothing: the run is, to the byte, that of a manifest without them, also where it was resumed."""
    folder = tmp_path / "files"
    shutil.copytree(collection.parent, folder)
    rows = (folder / "sources.csv").read_text().splitlines()
    damaged = [rows[number].split(",")[0] for number in (3, 20, 33)]
    for name in damaged:
        (folder / name).write_bytes((folder / name).read_bytes()[:200])
    config = Config(str(folder / "sources.csv"), **SHORT)
    with pytest.raises(ManifestError, match=r"images that cannot be read: .* 3 places\n(.*\n)*.*--skip-unreadable"):
        experiment.train(config, tmp_path / "refused", progress=False)
    assert not (tmp_path / "refused").exists()
    skipping = Config(str(folder / "sources.csv"), skip_unreadable=True, **SHORT)
    names = ", ".join(damaged)
    with pytest.warns(UserWarning, match=f"3 of 48 images cannot be read and are left out: {names}"):
        experiment.train(skipping, tmp_path / "skipped", progress=False)
    with interrupted_after(4, monkeypatch), pytest.warns(UserWarning, match="3 of 48"):
        experiment.train(skipping, tmp_path / "cut", progress=False)
    with pytest.warns(UserWarning, match="3 of 48"):
        experiment.resume(tmp_path / "cut", progress=False)
    assert files_of(tmp_path / "cut") == files_of(tmp_path / "skipped")
    (folder / "sources.csv").write_text("\n".join(row for row in rows if row.split(",")[0] not in damaged) + "\n")
    experiment.train(config, tmp_path / "without", progress=False)
    same = set(files_of(tmp_path / "without")) - {"config.json"}
    assert {name: files_of(tmp_path / "without")[name] for name in same} == \
        {name: files_of(tmp_path / "skipped")[name] for name in same}
    assert len((tmp_path / "skipped" / "split.csv").read_text().splitlines()) == 1 + 45


def test_a_run_does_not_go_on_without_an_image_that_it_had(collection, tmp_path, monkeypatch):
    """Skipping is decided when a run begins: an image that cannot be read any more is not lost silently."""
    folder = tmp_path / "files"
    shutil.copytree(collection.parent, folder)
    config = Config(str(folder / "sources.csv"), skip_unreadable=True, **SHORT)
    for steps, run in ((0, tmp_path / "begun"), (4, tmp_path / "cut")):         # without a checkpoint, and with one
        with interrupted_after(steps, monkeypatch):
            experiment.train(config, run, progress=False)
    name = (tmp_path / "cut" / "split.csv").read_text().splitlines()[1].split(",")[0]
    (folder / name).write_bytes(b"")
    for run in ("begun", "cut"):
        with pytest.warns(UserWarning, match=f"1 of 48 images cannot be read and are left out: {name}. "), \
                pytest.raises(InputError, match=f"does not hold the images of .*{run}"):
            experiment.resume(tmp_path / run, progress=False)


def test_evaluate_leaves_out_what_cannot_be_read_and_counts_it(collection, finished, tmp_path, capsys):
    folder = tmp_path / "files"
    shutil.copytree(collection.parent, folder)
    (folder / "images" / "000007.png").write_bytes(b"no image")
    command = ["evaluate", str(finished[0]), "--data", str(folder / "sources.csv"), "--allow-training-images", "--quiet"]
    assert main(command) == 3 and "000007.png: PNG, JPEG" in capsys.readouterr().err
    with pytest.warns(UserWarning, match="^1 of 48 images cannot be read and are left out: images/000007.png. "):
        assert main([*command, "--skip-unreadable", "--report", str(tmp_path / "page.html")]) == 0
    assert capsys.readouterr().out.count("1 of 48 images could not be read and are left out.") == 1
    assert "1 of 48 images could not be read" in (tmp_path / "page.html").read_text()
    with pytest.warns(UserWarning, match="1 of 48"):
        told = experiment.evaluate(finished[0], folder / "sources.csv", allow_training_images=True, skip_unreadable=True,
                                   progress=False)
    assert told.metrics["evaluation"]["n"] == 47 == len(told.outputs["evaluation"])


@pytest.mark.parametrize("options, sentence", [
    ({"hold_out": "e"}, "hold_out: there is no source 'e'. The sources are a, b, c, d."),
    ({"hold_out": "a", "columns": {"source": "view"}}, "hold_out: there is no source 'a'. The sources are AP, PA."),
    ({"hold_out": "a", "protocol": "paper"}, "splits images, not sources: hold_out 'a' needs the protocol honest"),
    ({"hold_out": ""}, "hold_out must be the name of a source, or be None, got ''"),
    ({"recipe": "robust", "protocol": "paper"}, "by the paper's recipe: recipe 'robust' needs the protocol honest"),
    ({"recipe": "secret"}, "recipe must be one of paper, common, robust, covid-net, covid-caps"),
    ({"recipe": ["paper"]}, "recipe must be one of paper")])
def test_what_does_not_go_together_is_refused(options, sentence, collection, monkeypatch):
    monkeypatch.setitem(RECIPES, "robust", ANOTHER)
    with pytest.raises(InputError, match=sentence):
        split(Config(str(collection), **options))


def table(collection, path, change):
    """Write the rows of the collection as `change` makes them, those that are not None."""
    with open(collection, newline="") as file:
        rows = [row for row in map(change, csv.DictReader(file)) if row is not None]
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


@pytest.mark.parametrize("change, options, sentence", [
    (lambda row: {k: v for k, v in row.items() if k != "source"}, {"hold_out": "a"},
     "leave one source out: there is no source column"),
    (lambda row: row | {"source": "a"}, {"hold_out": "a"}, "there are fewer than two known sources"),
    (lambda row: row | {"source": "a" if row["label"] == "covid" else row["source"]}, {"hold_out": "a"},
     "positive source held out: a: without it there is no image of .*covid to train on"),
    (lambda row: row if row["label"] == "covid" else None, {}, "there is one class only, 'covid'; two are needed"),
    (lambda row: row if row["label"] == "covid" else None, {"classes": ["normal", "covid"]},
     "the training set has no image of normal. Add some, or name the classes"),
    (lambda row: row | {"split": {"a": "validation", "b": "test"}.get(row["source"], "train")}, {},
     "the training set has no image of covid"),
    (lambda row: row | {"split": "train"}, {}, "the split column .* validation"),
    (lambda row: row | {"patient_id": row["label"]}, {}, "split: .* no image of class 'normal'.* 1 patients")])
def test_sets_that_cannot_be_made_are_refused(change, options, sentence, collection, tmp_path):
    data = table(collection, collection.parent / f"{tmp_path.name}.csv", change)
    with pytest.raises(ManifestError, match=sentence):
        split(Config(data, **options))


# ---- Folders of other versions ---------------------------------------------------------------------------------------

def test_a_config_of_before_still_reads(finished, tmp_path):
    config = json.loads((finished[0] / "config.json").read_text())
    assert Config.read(RunFolder(finished[0])) == Config(**config)
    for name in ("recipe", "hold_out"):
        del config[name]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert Config.read(RunFolder(tmp_path)) == Config(**config, recipe="paper", hold_out=None)
    (tmp_path / "config.json").write_text(json.dumps(config | {"teacher": "ann", "zoom\x1b": 1}))
    with pytest.raises(InputError, match="config.json: not the options of this version of minicnn, which does not know "
                                         "teacher, zoom.*a later version"):
        experiment.evaluate(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config | {"recipe": "of tomorrow"}))
    with pytest.raises(InputError, match="config.json: Config: recipe must be one of paper"):
        experiment.resume(tmp_path)


def test_metrics_of_another_version(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished[0], folder)
    metrics = json.loads((folder / "metrics.json").read_text())
    old = {"n": 9, "accuracy": 0.5, "specificity": None, "precision": 0.5, "recall": 0.5, "f1": 0.5, "auc": 0.5,
           "loss": 0.7, "undefined": {"specificity": "no sample is negative"}}
    (folder / "metrics.json").write_text(json.dumps({"training": old, "test": old}))
    os.remove(folder / "decision.json")
    text = experiment.evaluate(folder, report=tmp_path / "old.html").table()
    assert "undefined specificity, because no sample is negative." in text and "95 % interval" not in text
    assert "no sample is negative" in (tmp_path / "old.html").read_text()
    (folder / "metrics.json").write_text(json.dumps({"test": metrics["test"] | {"charm": 1.0}}))
    with pytest.raises(InputError, match="metrics.json: not the metrics of this version of minicnn"):
        experiment.evaluate(folder)
    for point in ({}, metrics["test"]["reliability"][0] | {"n": 0}, metrics["test"]["reliability"][0] | {"low": "x"}):
        (folder / "metrics.json").write_text(json.dumps({"test": metrics["test"] | {"reliability": [point]}}))
        with pytest.raises(InputError, match="metrics.json: not the metrics of this version of minicnn"):
            experiment.evaluate(folder)


# ---- Other images ----------------------------------------------------------------------------------------------------

def outside(collection, path, change):
    """The images of the source that was held out, which the network has not seen."""
    return table(collection, path, lambda row: change(row) if row["source"] == "a" else None)


def test_images_with_other_labels_or_one_are_measured_as_far_as_they_go(collection, finished, tmp_path, capsys):
    folder, _ = finished
    data = outside(collection, collection.parent / "other.csv", lambda row: row | {"label": "pneumonia"})
    assert main(["evaluate", str(folder), "--data", data]) == 3
    assert "the label 'pneumonia' is none of the classes normal, covid." in capsys.readouterr().err
    data = outside(collection, collection.parent / "one.csv", lambda row: row)
    page = tmp_path / "one.html"
    assert main(["evaluate", str(folder), "--data", data, "--report", str(page), "--shortcuts", "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "evaluation: undefined specificity, because no sample is negative." in out
    assert "evaluation: undefined AUC, average precision, calibration slope and calibration intercept, because" in out
    assert "No verdict: the AUC is undefined" in out
    assert "undefined AUC, because all samples have the same label" in page.read_text()
    assert main(["evaluate", str(folder), "--shortcuts"]) == 3
    assert "shortcuts are measured on images; name them with --data." in capsys.readouterr().err
