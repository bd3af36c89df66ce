"""Summaries as text: each metric once, within 100 columns, and what is undefined with its reason."""

import numpy as np
import pytest

from minicnn.evaluation.summary import is_summary, summarize
from minicnn.metrics import binary_metrics
from minicnn.reporting.console import table


def predictions(n, k=2, seed=0):
    """Labels and probabilities of a fair network."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, k, n)
    raw = np.exp(rng.normal(size=(n, k)) + 1.5 * np.eye(k)[labels])
    p = raw / raw.sum(axis=1, keepdims=True)
    return labels, p[:, 1] if k == 2 else p


def test_metrics_of_an_earlier_version_stand_without_intervals():
    perfect = binary_metrics([0, 1], [0.1, 0.9], loss=0.0018)
    other = binary_metrics([0, 0, 1], [0.2, 0.9, 0.6], loss=1.25)
    assert is_summary(perfect) and table({"training": perfect, "validation": other}).splitlines() == [
        "             training   validation", "images       2          3", "patients     not known  not known",
        "Class 1 is positive, and predicted where p > 0.5:",
        "accuracy     100.0 %    66.7 %", "specificity  100.0 %    50.0 %",
        "precision    100.0 %    50.0 %", "recall       100.0 %    100.0 %", "F1           100.0 %    66.7 %",
        "Of the probabilities:", "AUC          1.000      0.500", "loss         0.002      1.250"]
    undefined = table({"test\x1b": binary_metrics([1], [0.9])})
    assert "test\\x1b: undefined specificity, because no sample is negative." in undefined and "\x1b" not in undefined


def test_each_metric_of_each_set_stands_once():
    labels, p = predictions(120)
    view = ["PA", "AP", "AP"] * 20
    told = {"validation": summarize(labels, p, threshold=0.4, samples=50),
            "test": summarize(labels[:60], p[:60], np.arange(60) // 2, {"view": view}, 0.4, samples=50)}
    lines = table(told).splitlines()
    assert lines[0].split() == ["value", "(95", "%", "interval)", "validation", "test"]
    for name in ("AUC", "loss", "Brier score", "calibration slope"):
        assert sum(line.startswith(name) for line in lines) == 1
    assert [line.startswith("accuracy ") for line in lines].count(True) == 2        # at 0.5, and at the threshold
    assert "At p > 0.4, fixed on validation (optimistic there):" in lines
    assert any(line.startswith("test, by view") for line in lines)
    assert "~ approximate: the interval rests on fewer than 50 patients." in lines[-2:]
    assert max(len(line) for line in lines if not line.endswith(".")) <= 100        # sentences may wrap


def test_a_short_training_fits_a_screen():
    """Of 40 lines and 100 columns, with three lines of epochs, two on the run, and the blank lines between."""
    labels, p = predictions(120)
    told = {name: summarize(labels, 0.4 * p, threshold=0.2, samples=50) for name in ("training", "validation", "test")}
    lines = table(told).splitlines()
    assert any("undefined precision" in line for line in lines)
    assert 3 + sum(1 + len(line) // 100 for line in lines) + 5 <= 40


@pytest.mark.parametrize("k", [3, 5])
def test_averages_over_classes_are_called_macro(k):
    labels, p = predictions(90, k)
    whole = summarize(labels, p, classes=[f"class {c}" for c in range(k)], samples=50)
    bare = {name: value for name, value in whole.items() if name not in ("per_class", "confusion")}
    for told in (whole, bare):              # the second as an earlier version wrote it
        lines = table({"test": told}).splitlines()
        for name in ("recall", "precision", "specificity", "F1", "AUC", "average precision"):
            assert any(line.startswith(f"macro {name} ") for line in lines)
            assert not any(line.startswith(f"{name} ") for line in lines)
        assert sum("slope" in line for line in lines) == 1          # the sentence
        assert is_summary(told) and max(len(line) for line in lines if not line.endswith(".")) <= 100
    lines = table({"test": whole}).splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith("test: true (rows)"))
    assert [[int(count) for count in line.split()[2:]] for line in lines[at + 1:at + 1 + k]] == \
        whole["confusion"]["matrix"]


def test_patients_who_are_unknown_are_not_counted_as_patients():
    labels, p = predictions(30)
    who = ["ann", "ann", "bob"] + [""] * 27
    told = summarize(labels, p, columns={"view": ["PA"] * 3 + ["AP"] * 27}, samples=20, patients=who)
    text = table({"test": told})
    assert (told["patients"], told["images_of_unknown_patients"]) == (2, 27)
    assert text.splitlines()[2].split(None, 1) == ["patients", "2 + 27"]
    groups = text[text.index("test, by view"):].splitlines()
    counts = [line.split()[1:4] for line in groups if line[:3] in ("AP ", "PA ")]
    assert counts == [["27", "0", "+"], ["3", "2", "100.0"]]
    assert "n + m: n patients and m images of unknown patients" in text
    known = table({"test": summarize(labels, p, samples=20, patients=[str(i) for i in range(30)])})
    assert "unknown" not in known
