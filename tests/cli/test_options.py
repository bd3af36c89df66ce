"""Options that commands share: labels with other names, and classes of which there is no image."""

import json
import shutil

import pytest

from minicnn import experiment
from minicnn.cli.main import main
from minicnn.data.manifest import Manifest

QUICK = ["--epochs", "1", "--steps-per-epoch", "1", "--batch-size", "8", "--quiet"]
LABELS = ["--labels", 'Covid-19=covid,"Healthy, none"=normal']


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A collection with its own labels, own.csv, and with those of another hospital, other.csv; a run on own.csv."""
    folder = tmp_path_factory.mktemp("labels")
    assert main(["data", "phantom", str(folder / "files"), "--n", "60", "--seed", "3", "--size", "64", "--quiet"]) == 0
    own = (folder / "files" / "manifest.csv").read_text()
    (folder / "files" / "own.csv").write_text(own)
    other = own.replace(",covid,", ",Covid-19,").replace(",normal,", ',"Healthy, none",')
    (folder / "files" / "other.csv").write_text(other)
    assert main(["train", "--data", str(folder / "files" / "own.csv"), "--out", str(folder / "own"), *QUICK]) == 0
    return folder


def test_a_network_is_evaluated_on_labels_with_other_names(folder, capsys):
    capsys.readouterr()
    told = []
    for data in (["own.csv"], ["other.csv", *LABELS]):
        where = ["--data", str(folder / "files" / data[0]), *data[1:], "--allow-training-images", "--quiet", "--json"]
        assert main(["evaluate", str(folder / "own"), *where]) == 0
        told.append(json.loads(capsys.readouterr().out)["evaluation"])
        assert main(["compare", str(folder / "own"), str(folder / "own"), *where]) == 0
        assert json.loads(capsys.readouterr().out)["n"] == 60
    assert told[0]["confusion"] == told[1]["confusion"]


def test_where_labels_do_not_fit_the_network_the_option_is_suggested(folder, capsys):
    other = str(folder / "files" / "other.csv")
    assert main(["evaluate", str(folder / "own"), "--data", other, "--quiet"]) == 3
    error = capsys.readouterr().err.splitlines()
    assert "2 problems, in 60 places" in error[0] and len(error) == 4
    assert "--labels 'Covid-19=covid,\"Healthy, none\"=normal'" in error[-1] or \
        "--labels '\"Healthy, none\"=normal,Covid-19=covid'" in error[-1]
    assert main(["evaluate", str(folder / "own"), "--data", other, "--labels", "Covid-19=covdi", "--quiet"]) == 3
    assert "'Covid-19' is called 'covdi', which is none of the classes normal, covid. Did you mean 'covid'?" in \
        capsys.readouterr().err


def test_a_run_keeps_the_names_of_labels_and_goes_on_with_them(folder, tmp_path, capsys):
    runs = {}
    for name, data in (("own", ["own.csv"]), ("other", ["other.csv", *LABELS])):
        runs[name] = tmp_path / name
        where = ["--data", str(folder / "files" / data[0]), *data[1:], "--out", str(runs[name])]
        assert main(["train", *where, *QUICK]) == 0
    for file in ("best.safetensors", "split.csv", "predictions.csv"):
        assert (runs["own"] / file).read_bytes() == (runs["other"] / file).read_bytes()
    kept = json.loads((runs["other"] / "config.json").read_text())["labels"]
    assert kept == {"Covid-19": "covid", "Healthy, none": "normal"}
    metrics = (runs["other"] / "metrics.json").read_bytes()
    (runs["other"] / "metrics.json").unlink()
    experiment.resume(runs["other"], progress=False, plots=False)
    assert (runs["other"] / "metrics.json").read_bytes() == metrics
    (runs["other"] / "metrics.json").unlink()       # the data has moved, and its labels were renamed
    moved = tmp_path / "moved"
    shutil.copytree(folder / "files", moved)
    (moved / "other.csv").write_text((moved / "other.csv").read_text().replace("Covid-19", "SARS"))
    capsys.readouterr()
    assert main(["train", "--resume", str(runs["other"]), "--data", str(moved / "other.csv"), "--quiet", "--labels",
                 'SARS=covid,"Healthy, none"=normal']) == 0
    assert (runs["other"] / "metrics.json").read_bytes() == metrics


def test_splits_and_audits_are_of_labels_with_other_names_too(folder, tmp_path, capsys):
    other = str(folder / "files" / "other.csv")
    assert main(["data", "split", other, *LABELS, "--quiet", "--out", str(tmp_path / "split.csv")]) == 0
    assert set(Manifest.read(tmp_path / "split.csv", root=folder / "files").classes) == {"normal", "covid"}
    capsys.readouterr()
    assert main(["data", "audit", other, *LABELS, "--quiet", "--json"]) in (0, 1)
    assert json.loads(capsys.readouterr().out)["counts"] == Manifest.read(folder / "files" / "own.csv").counts()
    assert main(["data", "audit", other, "--labels", "Covid19=covid,Sound=normal", "--quiet"]) == 3
    assert "no image is labelled 'Sound'" in capsys.readouterr().err


@pytest.mark.parametrize("command, code, sentence", [
    (["train"], 3, "the training set has no image of other"),
    (["data", "split"], 3, "the training set has no image of other"),
    (["data", "audit"], None, "Not measured: there is no image of other"),
    (["train", "--protocol", "paper"], 3, "the training set has no image of other"),
    (["reproduce"], 3, "expected two classes")])
def test_a_class_without_images_never_crashes(command, code, sentence, folder, tmp_path, capsys):
    data = str(folder / "files" / "own.csv")
    where = [data] if command[0] == "data" else ["--data", data, "--out", str(tmp_path / "out")]
    ended = main([*command, *where, "--classes", "normal,covid,other", "--quiet"])
    said = capsys.readouterr()
    assert sentence in said.out + said.err and (ended == code if code else ended in (0, 1))


def test_a_network_is_measured_on_one_of_its_classes(folder, tmp_path, capsys):
    lines = (folder / "files" / "own.csv").read_text().splitlines()
    lines = [lines[0], *(line for line in lines if ",covid," in line)]
    (folder / "files" / "one.csv").write_text("\n".join(lines) + "\n")
    where = ["--data", str(folder / "files" / "one.csv"), "--allow-training-images", "--quiet"]
    for command in (["evaluate", str(folder / "own")], ["compare", str(folder / "own"), str(folder / "own")]):
        assert main([*command, *where]) == 0 and main([*command, *where, "--json"]) == 0
        json.loads(capsys.readouterr().out.splitlines()[-1])
