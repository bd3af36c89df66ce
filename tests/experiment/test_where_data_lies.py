"""Runs and where their data lies: the run folder inside the data, and data that moves while a run is interrupted."""

import csv
import json
import os
import shutil
from contextlib import nullcontext

import pytest

from minicnn import experiment
from minicnn.cli.main import main
from minicnn.data.manifest import Manifest, ManifestWarning
from minicnn.data.synthetic import phantom
from minicnn.errors import InputError, ManifestError, RunLockedError
from minicnn.experiment import Config, training_run
from minicnn.experiment.run_folder import RunFolder, make_next
from tests.support.interruptions import interrupted_after

SHORT = {"epochs": 2, "steps_per_epoch": 2, "batch_size": 4}
OPTIONS = ["--epochs", "1", "--steps-per-epoch", "1", "--batch-size", "4", "--quiet"]


def collect(root):
    """Write 24 radiographs as one folder for each class."""
    made = root.with_name(f"{root.name}-made")
    manifest = Manifest.read(phantom.write(made, n=24, seed=2, size=64))
    for path, name, label in zip(manifest.paths, manifest.names, manifest.labels):
        folder = root / manifest.classes[label]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / os.path.basename(name))
    return made / "manifest.csv"


@pytest.fixture(autouse=True)
def _no_plots(monkeypatch):
    monkeypatch.setattr(training_run, "draw", lambda *arguments: [])


def interrupted(config, folder, monkeypatch, after=3):
    """Train until a signal comes, after so many steps."""
    with interrupted_after(after, monkeypatch):
        experiment.train(config, folder, progress=False)
    return folder


# ---- The run folder --------------------------------------------------------------------------------------------------

def test_in_the_folder_of_the_data_one_run_after_the_other_is_trained(tmp_path, monkeypatch, capsys):
    collect(tmp_path / "data")
    monkeypatch.chdir(tmp_path / "data")
    for number in (1, 2):
        with pytest.warns(ManifestWarning) if number > 1 else nullcontext():
            # without plots there are no images in a run: this stands for one
            assert main(["train", "--data", ".", *OPTIONS]) == 0
        assert f"Run folder: runs/00{number}" in capsys.readouterr().out
        shutil.copy("covid/" + os.listdir("covid")[0], f"runs/00{number}/roc.png")
    for path in ("runs/001", "runs/002"):
        with open(f"{path}/split.csv", newline="") as file:
            assert {row["label"] for row in csv.DictReader(file)} == {"normal", "covid"}
    assert Config.read(RunFolder("runs/001")).data == "."


def test_data_that_cannot_be_read_leaves_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "normal").mkdir(parents=True)
    assert main(["train", "--data", "data", *OPTIONS]) == 3
    assert main(["train", "--data", "data", "--out", "mine", *OPTIONS]) == 3
    assert sorted(os.listdir(tmp_path)) == ["data"]


def test_what_is_against_a_folder_is_said_before_the_data_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(training_run, "open_split", lambda *arguments: pytest.fail("it was read"))
    config = Config(data="nowhere")
    with RunFolder(tmp_path / "held"), pytest.raises(RunLockedError):
        experiment.train(config, tmp_path / "held", progress=False)
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "config.json").write_text(json.dumps({"seed": 5}))
    with pytest.raises(InputError, match="already holds a run, with other options"):
        experiment.train(config, tmp_path / "begun", progress=False)


def test_two_that_begin_at_once_have_two_folders(tmp_path, monkeypatch):
    from minicnn.experiment import run_folder
    ahead, first = run_folder.next_folder, []

    def overtaken(parent):
        folder = ahead(parent)
        if not first:           # another process makes it between our look and our mkdir
            first.append(folder)
            folder.mkdir(parents=True)
        return folder

    monkeypatch.setattr(run_folder, "next_folder", overtaken)
    assert make_next(tmp_path / "runs").name == "002" and first[0].name == "001"


# ---- Data that was moved ---------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(the folder of the data, its manifest, the folder of a run that was not interrupted)."""
    root = tmp_path_factory.mktemp("whole")
    manifest = collect(root / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_run, "draw", lambda *arguments: [])
        experiment.train(Config(str(root / "data"), **SHORT), root / "run", progress=False)
    return root / "data", manifest, root / "run"


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "config.json"}


@pytest.mark.parametrize("how", ["renamed", "copied deep", "through the command"])
def test_a_run_whose_data_moved_goes_on_to_the_same_bytes(whole, how, tmp_path, monkeypatch):
    before, after = tmp_path / "before", tmp_path / ("after" if how == "renamed" else "some/other/place")
    shutil.copytree(whole[0], before)
    run = interrupted(Config(str(before), **SHORT), tmp_path / "run", monkeypatch)
    shutil.copytree(before, after)
    shutil.rmtree(before)
    with pytest.raises(InputError, match=r"its data is not at .*before\. If it was moved, say where it is.*--data"):
        experiment.resume(run, progress=False)
    if how == "through the command":
        assert main(["train", "--resume", str(run), "--data", str(after), "--quiet"]) == 0
    else:
        experiment.resume(run, progress=False, data=after)
    assert files_of(run) == files_of(whole[2])
    assert Config.read(RunFolder(run)).data == str(after)
    experiment.resume(run, progress=False)      # from now on it knows the place


def test_renamed_files_are_the_same_images(whole, tmp_path, monkeypatch):
    run = interrupted(Config(str(whole[0]), **SHORT), tmp_path / "run", monkeypatch)
    for path in sorted(whole[0].rglob("*.png")):
        new = tmp_path / "data" / path.parent.name / f"scan {path.name}"
        new.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, new)
    result = experiment.resume(run, progress=False, data=tmp_path / "data")
    name = "predictions.csv"
    assert (run / "last.safetensors").read_bytes() == (whole[2] / "last.safetensors").read_bytes()
    assert (run / name).read_bytes().replace(b"/scan ", b"/") == (whole[2] / name).read_bytes()
    assert result.metrics["test"]["n"] and b"scan " in (run / "split.csv").read_bytes()


def test_a_csv_may_have_moved_with_other_headers(whole, tmp_path, monkeypatch):
    run = interrupted(Config(str(whole[1]), **SHORT), tmp_path / "run", monkeypatch)
    with open(whole[1], newline="") as file:
        rows = list(csv.DictReader(file))
    with open(tmp_path / "moved.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "finding", "patient_id"])
        writer.writerows([row["path"], row["label"], row["patient_id"]] for row in rows)
    assert main(["train", "--resume", str(run), "--data", str(tmp_path / "moved.csv"), "--columns", "label=finding",
                 "--root", str(whole[1].parent), "--quiet"]) == 0
    assert Config.read(RunFolder(run)).columns == {"label": "finding"}


OTHER = {"another image": lambda files: files[0].write_bytes(files[1].read_bytes()),
         "one less": lambda files: files[0].unlink(),
         "another order": lambda files: files[0].rename(files[0].with_name("zz.png")),
         "another class": lambda files: files[0].rename(files[-1].with_name("zz.png"))}


@pytest.mark.parametrize("what", OTHER)
def test_other_images_are_refused_and_nothing_is_written(whole, what, tmp_path, monkeypatch):
    run = interrupted(Config(str(whole[0]), **SHORT), tmp_path / "run", monkeypatch)
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    shutil.copytree(whole[0], tmp_path / "data")
    OTHER[what](sorted((tmp_path / "data").rglob("*.png")))
    with pytest.raises((InputError, ManifestError), match="does not hold the images of .*, by their digests"):
        experiment.resume(run, progress=False, data=tmp_path / "data")
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_a_run_of_an_earlier_version_is_compared_by_names_and_checkpoint(whole, tmp_path, monkeypatch):
    run = interrupted(Config(str(whole[0]), **SHORT), tmp_path / "run", monkeypatch)
    about = json.loads((run / "environment.json").read_text())
    assert len(about.pop("images")) == 64
    (run / "environment.json").write_text(json.dumps(about))
    shutil.copytree(whole[0], tmp_path / "data")
    file = sorted((tmp_path / "data").rglob("*.png"))[0]
    moved = file.rename(file.with_name("zz.png"))
    with pytest.raises(InputError, match="does not hold the images"):
        experiment.resume(run, progress=False, data=tmp_path / "data")
    moved.rename(file)
    experiment.resume(run, progress=False, data=tmp_path / "data")
    assert (run / "last.safetensors").read_bytes() == (whole[2] / "last.safetensors").read_bytes()


def test_only_where_the_data_is_can_be_said_anew(whole, tmp_path, capsys):
    for given in (["--columns", "label=x"], ["--data", "x", "--seed", "3"], ["--data", "x", "--bits", "12"]):
        assert main(["train", "--resume", str(whole[2]), *given]) == 2
        assert f"leave out {given[-2]}" in capsys.readouterr().err
