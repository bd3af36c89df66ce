"""Summaries: every metric agrees with scikit-learn, and has an interval or a reason; subgroups."""

import json

import numpy as np
import pytest
import sklearn.metrics

from minicnn.data import Manifest
from minicnn.evaluation.intervals import auc_interval, threshold_intervals
from minicnn.evaluation.summary import (HEADS, SHARES, age_band, is_summary, patient_clusters, subgroup_columns,
                                        summarize)
from minicnn.metrics import binary_metrics
from minicnn.metrics.categorical import categorical_metrics
from minicnn.reporting.console import table


def predictions(seed=0, n=150):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    return labels, 1 / (1 + np.exp(-(3 * (labels - 0.5) + 1.5 * rng.normal(size=n))))


def test_a_summary_has_the_metrics_and_their_intervals():
    labels, p = predictions()
    told = summarize(labels, p, loss=0.25, threshold=0.3, samples=100)
    assert {name: told[name] for name in (*binary_metrics(labels, p),) if name != "undefined"} == {
        name: value for name, value in binary_metrics(labels, p, loss=0.25).items() if name != "undefined"}
    assert told["average_precision"] == pytest.approx(sklearn.metrics.average_precision_score(labels, p), rel=1e-12)
    assert told["brier"] == pytest.approx(sklearn.metrics.brier_score_loss(labels, p), rel=1e-12)
    assert told["undefined"] == told["no_interval"] == {} and told["approximate"] == []
    assert (told["patients"], told["images_of_unknown_patients"]) == (0, 150)
    assert list(told["intervals"]) == [name for name in HEADS if name != "n"]
    for name, (low, high) in told["intervals"].items():
        if name != "loss":      # the one here is made up
            assert low < told[name] < high, name
    at = binary_metrics(labels, p, 0.3)
    assert told["at_threshold"]["threshold"] == 0.3
    assert all(told["at_threshold"][name] == at[name] for name in SHARES)
    assert json.loads(json.dumps(told, allow_nan=False)) == told and is_summary(told)
    assert summarize(labels, p, loss=0.25, threshold=0.3, samples=100) == told
    assert summarize(labels[:, None], p[:, None].astype(np.float64), loss=0.25, threshold=0.3, samples=100) == told


def test_several_images_of_a_patient_widen_the_intervals():
    labels, p = predictions()
    four, who = np.repeat(np.arange(150), 4), np.repeat(np.arange(150), 4)
    once = summarize(labels, p, samples=200)["intervals"]
    known = summarize(labels[four], p[four], who, samples=200)["intervals"]
    unknown = summarize(labels[four], p[four], samples=200)["intervals"]
    width = lambda bounds: bounds[1] - bounds[0]
    for name in once:
        assert width(known[name]) == pytest.approx(width(once[name]), rel=0.03), name
        assert width(unknown[name]) < 0.65 * width(once[name]), name


def test_undefined_metrics_have_reasons():
    told = summarize([1, 1, 1], [0.9, 0.8, 0.7], samples=50, threshold=0.75)
    assert told["auc"] is told["average_precision"] is told["slope"] is told["specificity"] is None
    assert told["undefined"]["slope"] == told["undefined"]["intercept"] == "all samples have the same label"
    assert {name for name in HEADS if told[name] is None} == set(told["undefined"])
    assert told["accuracy"] == 1 and told["intervals"]["accuracy"][1] == 1
    perfect = summarize([0] * 30 + [1] * 30, [0.1] * 30 + [0.9] * 30, samples=50)
    assert perfect["auc"] == 1 and perfect["intervals"]["auc"][1] == 1 and perfect["intervals"]["auc"][0] < 0.97
    assert perfect["undefined"] == {"slope": "a threshold separates the labels completely"}
    assert perfect["no_interval"]["average_precision"] == "it is the same in all samples drawn with replacement"
    alone = summarize([0, 1, 1], [0.1, 0.9, 0.3], [0, 0, 0], samples=50)
    assert alone["intervals"] == {} and set(alone["no_interval"].values()) <= {
        "all images are of one patient", "the images that it counts are of one patient",
        "all positive images are of one patient"}
    ties = summarize([0, 1] * 30, [0.5] * 60, samples=50)
    assert ties["no_interval"]["auc"] == "the probabilities do not vary between patients"
    for told in (perfect, alone, ties):
        assert is_summary(json.loads(json.dumps(told, allow_nan=False)))
        for name in HEADS:
            assert name == "n" or (name in told["intervals"]) + (name in told["no_interval"]) + (
                name in told["undefined"]) == 1, name
        assert "test: undefined calibration slope" in table({"test": told}) or told["slope"] is not None


def test_three_classes():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 90)
    raw = np.exp(rng.normal(size=(90, 3)) + 2 * np.eye(3)[labels])
    p = raw / raw.sum(axis=1, keepdims=True)
    told = summarize(labels, p, columns={"view": ["PA", "AP", "AP"] * 30}, samples=100, threshold=0.5)
    expected = categorical_metrics(labels, p)
    assert all(told[name] == expected[name] for name in expected if name != "undefined")
    assert told["brier"] == pytest.approx(((p - np.eye(3)[labels]) ** 2).sum(axis=1).mean(), rel=1e-12)
    assert told["average_precision"] == pytest.approx(
        sklearn.metrics.average_precision_score(np.eye(3)[labels], p, average="macro"), rel=1e-12)
    assert told["undefined"] == dict.fromkeys(("slope", "intercept"), "there are more than two classes")
    for name, (low, high) in told["intervals"].items():
        assert low < told[name] < high, name
    assert set(told["intervals"]) == set(HEADS) - {"n", "slope", "intercept"} and "at_threshold" not in told
    assert set(told["groups"]["view"]["AP"]) >= {"n", "patients", "accuracy"} and is_summary(told)
    missing = summarize([0, 1, 1], [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.3, 0.4, 0.3]], samples=20)
    assert missing["average_precision"] is None and missing["undefined"]["average_precision"]


def test_an_absent_class_leaves_the_values_of_the_others_standing():
    p = np.array([[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.3, 0.6, 0.1], [0.0, 0.1, 0.9]])
    without = summarize([0, 1, 0], p[:3], classes="abc", samples=20)
    a, b, c = without["per_class"].values()
    assert (a["recall"], a["precision"], a["specificity"], a["auc"], a["undefined"]) == (0.5, 1, 1, 1, {})
    assert (b["recall"], b["precision"], b["specificity"], b["auc"], b["undefined"]) == (1, 0.5, 0.5, 1, {})
    assert {name: c[name] for name in ("n", "recall", "precision", "specificity", "f1", "auc")} == {
        "n": 0, "recall": None, "precision": None, "specificity": 1.0, "f1": None, "auc": None}
    assert c["undefined"] == {"recall": "no sample is c", "precision": "no sample was predicted c",
                              "f1": "no sample is c or was predicted so", "auc": "no sample is c"}
    assert without["recall"] is None and without["undefined"]["recall"].startswith("no sample is c, and a mean over")
    assert without["undefined"]["average_precision"] == without["undefined"]["auc"]
    assert without["specificity"] == pytest.approx((1 + 0.5 + 1) / 3) and is_summary(without)
    alone = summarize([0, 0], p[:2], samples=20)["per_class"]["0"]
    assert alone["undefined"] == {name: "no sample is of another class" for name in ("specificity", "auc")}


@pytest.mark.parametrize("k", [3, 5])
def test_each_class_is_a_task_of_two_classes(k):
    """Its values and intervals are those of summarize for this class against the rest, clusters included."""
    rng = np.random.default_rng(k)
    labels, clusters = rng.integers(0, k, 120), rng.integers(0, 70, 120)
    raw = np.exp(rng.normal(size=(120, k)) + 2 * np.eye(k)[labels])
    p = raw / raw.sum(axis=1, keepdims=True)
    told = summarize(labels, p, clusters, samples=20)
    assert told["confusion"]["matrix"] == sklearn.metrics.confusion_matrix(labels, p.argmax(axis=1)).tolist()
    for c, one in enumerate(told["per_class"].values()):
        two = threshold_intervals(labels == c, p.argmax(axis=1) == c, clusters) | {
            "auc": auc_interval(labels == c, p[:, c], clusters)}
        for name in ("recall", "precision", "specificity", "f1", "auc"):
            value, interval = two[name]
            assert one[name] == value and one["intervals"][name] == interval.bounds, name
        assert one["auc"] == pytest.approx(sklearn.metrics.roc_auc_score(labels == c, p[:, c]))
        assert one["patients"] == len(np.unique(clusters[labels == c])) and one["n"] == (labels == c).sum()
    for name in ("recall", "precision", "specificity", "f1", "auc"):
        assert told[name] == pytest.approx(np.mean([one[name] for one in told["per_class"].values()]))


def test_spellings_of_a_word_are_one_group():
    manifest = Manifest("", list("abcdef"), [0, 1] * 3, ["n", "p"], views=["AP", "ap", "AP", "PA", "pa", ""],
                        sexes=["m", "M", "F", "f", "M", "M"])
    assert subgroup_columns(manifest) == {"view": ["AP", "AP", "AP", "PA", "PA", "unknown"],
                                          "sex": ["M", "M", "F", "F", "M", "M"]}


def test_subgroups_are_those_of_the_columns():
    labels, p = predictions(1, 90)
    view = ["PA", "AP", "AP"] * 30
    told = summarize(labels, p, columns={"view": view}, samples=20)
    assert list(told["groups"]["view"]) == ["AP", "PA"]
    here = np.array(view) == "AP"
    expected = binary_metrics(labels[here], p[here])
    group = told["groups"]["view"]["AP"]
    assert all(group[name] == expected[name] for name in ("n", "accuracy", "specificity", "recall", "auc"))
    assert "accuracy" in told["groups"]["view"]["PA"]["approximate"] and "accuracy" not in group["approximate"]
    one = summarize(labels, p, columns={"source": np.where(labels, "a", "b").tolist()}, samples=20)["groups"]["source"]
    assert one["a"]["specificity"] is None and one["a"]["undefined"]["auc"] == "all samples have the same label"
    many = summarize(labels, p, columns={"source": [str(i) for i in range(90)]}, samples=20)["groups"]["source"]
    assert len(many) == 12 and many["others"]["n"] == 79
    strange = summarize(labels, p, columns={"source": ["\x1b[2J" + "x" * 10**5, "b"] * 45}, samples=20)
    assert is_summary(strange) and max(map(len, strange["groups"]["source"])) == 60


def test_the_columns_and_patients_of_a_manifest():
    manifest = Manifest("", ["a", "b", "c", "d"], [0, 1, 0, 1], ["n", "p"], patients=["ann", "", "ann", ""],
                        sources=["x", "", "x", "y"], views=["PA"] * 4, ages=["34", "early 40s", "", "7 months"])
    assert patient_clusters(manifest).tolist() == [0, 1, 0, 2]
    assert subgroup_columns(manifest) == {"source": ["x", "unknown", "x", "y"],
                                    "age": ["18 to 39", "40 to 59", "unknown", "under 18"]}
    versions = manifest.subset([1, 1, 3])
    assert patient_clusters(versions).tolist() == [0, 0, 1]
    pixels = np.zeros((3, 32, 32), np.uint8)
    pixels[2] = 9
    copies = Manifest.from_arrays(pixels, [0, 1, 1], ["n", "p"], patients=["ann", "bob", "cyd"])
    assert patient_clusters(copies).tolist() == [0, 0, 1] and subgroup_columns(copies) == {}


@pytest.mark.parametrize("text, band", [("17", "under 18"), ("18", "18 to 39"), ("79.9", "60 to 79"),
                                        ("80+", "80 and over"), ("67+", "60 to 79"), ("Y45", "40 to 59"),
                                        ("003D", "under 18"), ("1958", ""), ("200", ""), ("", ""), ("elderly", "")])
def test_age_bands(text, band):
    assert age_band(text) == band


@pytest.mark.parametrize("change", [
    {"intervals": {"auc": [0.1]}}, {"intervals": {"auc": [None, 1]}}, {"intervals": []},
    {"intervals": {"more": [0, 1]}}, {"intervals": {"auc": ["a", "b"]}}, {"approximate": "auc"},
    {"approximate": ["\x1b"]}, {"patients": -1}, {"patients": 1.5}, {"no_interval": {"auc": "\n"}},
    {"undefined": {"more": "x"}}, {"groups": []},
    {"groups": {"view": {"PA": {"more": 1}}}}, {"groups": {"view": {"\x1b[2J": {}}}}, {"groups": {"view": 1}},
    {"at_threshold": {"auc": 1}}, {"at_threshold": 7}, {"brier": 10**400}, {"slope": "1"}, {"more": 1},
    {"groups": {"view": {"PA": {}}}}, {"groups": {}}, {"at_threshold": {}}, {"images_of_unknown_patients": None},
    {"per_class": 1}, {"per_class": {"a": {"more": 1}}}, {"confusion": []}, {"confusion": {"classes": ["a", "b"]}},
    {"confusion": {"classes": ["a", "b"], "matrix": [[1, 2]]}}, {"confusion": {"classes": ["a"], "matrix": [[1]]}},
    {"confusion": {"classes": ["a", "\n"], "matrix": [[1, 2], [3, 4]]}},
    {"confusion": {"classes": ["a", "b"], "matrix": [[1, 2], [3, 4.5]]}}])
def test_an_invalid_summary_is_refused(change):
    told = summarize(*predictions(3, 20), samples=20)
    assert is_summary(told) is True
    refused = not is_summary(told | change)
    assert refused == (change != {"groups": {}})


def test_on_the_real_collection(shared):
    """820 images of 536 patients: what phantoms do not have, such as patients with both labels and ages in words."""
    manifest = Manifest.read(shared / "data" / "chestxray" / "manifest.csv")
    clusters, columns = patient_clusters(manifest), subgroup_columns(manifest)
    assert set(columns) == {"source", "view", "sex", "age"} and clusters.max() + 1 == 536
    rng = np.random.default_rng(0)
    p = 1 / (1 + np.exp(-(4 * (manifest.labels - 0.5) + 1.5 * rng.normal(size=len(manifest)))))
    told = summarize(manifest.labels, p, clusters, columns, samples=100)
    assert told["patients"] == 536 and sum(group["n"] for group in told["groups"]["source"].values()) == 820
    assert told["groups"]["source"]["cxnet"]["specificity"] is None and is_summary(told)
