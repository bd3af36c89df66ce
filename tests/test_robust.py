"""The table of recipes is what was measured, its values are right, and no training is done twice."""

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks import robust
from benchmarks.robust_candidates import Candidate
from benchmarks.robust_report import page
from minicnn.data.augmentation import Augmentation
from minicnn.data.synthetic import phantom
from minicnn.experiment.recipes import RECIPES
from minicnn.frozen import FrozenFeatures

ROOT = Path(__file__).parents[1]
STORED = json.loads((ROOT / "benchmarks" / "robust.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    """(manifest of phantoms with three sources, manifest of others)."""
    folder, paths = tmp_path_factory.mktemp("phantoms"), []
    for name, n, seed in (("all", 60, 3), ("external", 10, 4)):
        path = phantom.write(folder / name, n=n, seed=seed)
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
        for i, row in enumerate(rows):
            row["source"] = "n" if row["label"] == "normal" else "ab"[i % 2]
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        paths.append(str(path))
    return paths


# ---- What is stored --------------------------------------------------------------------------------------------------

def test_the_page_is_what_was_measured():
    assert (ROOT / "benchmarks" / "ROBUST.md").read_text(encoding="utf-8") == page(STORED)


def test_the_shipped_recipe_is_the_best_of_cov19net_and_the_chosen_the_best_of_all():
    """By the criterion of the choice, among those of as many seeds."""
    tried = {name: told for name, told in STORED["candidates"].items() if len(told["seeds"]) >= 3}
    assert {"paper", "robust", robust.CHOSEN} <= set(tried) and len(STORED["candidates"]) >= 10

    def best(names):
        return max(names, key=lambda name: tried[name]["folds"]["all"]["mean"])

    assert best(tried) == robust.CHOSEN == STORED["final"]["chosen"]
    assert best([name for name in tried if robust.CANDIDATES[name].network == "cov19net"]) == "robust"
    assert robust.CANDIDATES["robust"].recipe == RECIPES["robust"]
    assert robust.CANDIDATES["paper"].recipe == RECIPES["paper"]
    for name, told in STORED["candidates"].items():
        assert told["what"] == robust.described(robust.CANDIDATES[name])


# ---- How it is measured ----------------------------------------------------------------------------------------------

def test_aucs_are_those_of_scikit_learn():
    draw = np.random.default_rng(5)
    positive, p = draw.random(80) < 0.5, draw.random((3, 80)).round(1)
    places = {"a": slice(0, 50), "b": slice(50, 80)}
    images = robust.HeldOut(positive, np.arange(80), places)
    told = robust.with_intervals(p, images)
    each = {source: np.mean([roc_auc_score(positive[place], row[place]) for row in p]) for source, place in places.items()}
    for source, expected in (each | {"all": np.mean(list(each.values()))}).items():
        low, high = told[source]["interval"]
        assert told[source]["mean"] == pytest.approx(expected, rel=1e-12) and low < expected < high
    difference = robust.with_intervals(p, images, 1 - p)
    assert difference["all"]["mean"] == pytest.approx(2 * told["all"]["mean"] - 1)


def test_the_whole_of_it_on_phantoms(collection, tmp_path, capsys, monkeypatch):
    data, external = collection
    arguments = ["--data", data, "--runs", str(tmp_path / "runs"), "--out", str(tmp_path), "--epochs", "1", "--steps", "1",
                 "--jobs", "1"]
    assert robust.main([*arguments, "--only", "border", "--screen"]) == 0
    told, text = (json.loads((tmp_path / "robust.json").read_text(encoding="utf-8")),
                  (tmp_path / "ROBUST.md").read_text(encoding="utf-8"))
    assert list(told["candidates"]) == ["paper", "robust", "border"] and list(told["data"]["folds"]) == ["a", "b"]
    assert text == page(told) and "| border: border 0.125 |" in text and "Not done yet." in text
    assert len(list((tmp_path / "runs").iterdir())) == 6
    assert all(told["candidates"]["border"][f"against {other}"]["all"]["interval"] for other in robust.BASELINES)
    monkeypatch.setattr(robust, "answers", lambda *arguments: pytest.fail("trained again"))
    assert robust.main([*arguments, "--only", "border", "--screen"]) == 0
    assert json.loads((tmp_path / "robust.json").read_text(encoding="utf-8")) == told
    monkeypatch.undo()
    monkeypatch.setattr(robust, "CHOSEN", "border")
    assert robust.main([*arguments, "--final", "--external", external, "--seeds", "1"]) == 0
    final = json.loads((tmp_path / "robust.json").read_text(encoding="utf-8"))
    assert final["candidates"] == told["candidates"] and final["final"]["images"] == 10
    assert all(0 <= final["final"][name]["external"]["mean"] <= 1 for name in ("paper", "robust", "border"))
    assert "The chosen against robust: " in page(final) and "Only these 3 were" in page(final)
    with pytest.raises(SystemExit):
        robust.main([*arguments, "--final"])
    assert "--final needs --external" in capsys.readouterr().err


def test_the_seed_and_what_is_trained_name_the_file_and_what_is_judged_does_not(collection):
    def name(candidate, rows=(0, 1), seed=0, settings=robust.SETTINGS):
        return robust.key(candidate, collection[0], [np.array(rows)], seed, settings)

    names = [name("paper"), name("border"), name("paper", (0, 2)), name("paper", seed=1),
             name("paper", settings=robust.SETTINGS | {"epochs": 1})]
    assert len(set(names)) == len(names)
    assert name("average") == name("paper")     # the same training, judged by other weights


def test_a_training_of_two_stages_begins_with_the_weights_of_the_first(collection):
    """The first stage trains the head of a smaller COV-19Net on features of its trunk, the second next to nothing."""
    first = Candidate(RECIPES["robust"], Augmentation.none(), {"size": 32, "freeze": "trunk"})
    second = Candidate(first.recipe, Augmentation.honest(), {"size": 32, "learning_rate": 1e-12}, first)
    settings, whole = robust.SETTINGS | {"epochs": 2, "steps_per_epoch": 2}, robust.collection(collection[0])[0]
    sets = whole.split(seed=0)
    before, weights, data = robust.trained(first, 3, list(sets), settings)
    assert all(isinstance(images, FrozenFeatures) for images in data)
    alone = robust.trained(replace(second, first=None), 3, list(sets), settings)[0].get_weights()
    after = robust.trained(second, 3, list(sets), settings)[0]
    assert after.input_shape == (32, 32, 3) and any(np.any(a != b) for a, b in zip(alone, weights["mean"]))
    for mine, theirs in zip(after.get_weights(), weights["mean"]):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-7)


def test_what_is_new_of_a_candidate_is_in_its_digest_and_its_words_and_an_older_one_keeps_its_digest():
    frozen, tuned = robust.CANDIDATES["lite0 160"], robust.CANDIDATES["lite0 160, tuned"]
    assert len({json.dumps(each.digest(), sort_keys=True) for each in (
        frozen, tuned, replace(frozen, options={}), replace(tuned, first=None), robust.CANDIDATES["robust"],
        replace(tuned, first=replace(frozen, recipe=replace(frozen.recipe, average=0.0))))}) == 6
    assert robust.described(tuned).startswith(f"{robust.described(frozen)}; then freeze normalization, ")
    assert set(robust.CANDIDATES["paper"].digest()) == {"preprocessing", "augmentation", "average"}


@pytest.mark.parametrize("low, high, mean, words", [
    (0.01, 0.1, 0.05, "Robust is better"), (-0.1, -0.01, -0.05, "Robust is worse"),
    (-0.1, 0.05, -0.02, "Not significant.*On these images robust was not better"), (None, None, 0.3, "undecided")])
def test_the_sentence_says_what_the_interval_says(low, high, mean, words):
    told = json.loads(json.dumps(STORED))
    told["final"]["difference"] = {"mean": mean, "interval": [low, high]}
    assert re.search(words, page(told).split("## External validation")[1], re.DOTALL)
