"""What `train` and `evaluate` print, word for word (golden/), and that their JSON gives every value they print."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from minicnn import Sequential
from minicnn.cli.main import main
from minicnn.evaluation.summary import is_summary
from tests.support import golden

GOLDEN = Path(__file__).with_name("golden")
QUICK = ["--epochs", "1", "--steps-per-epoch", "1", "--batch-size", "8", "--quiet"]


def predict(model, dataset, distributed=None):
    """Probabilities that are known to four digits on any CPU: of a fair network, from the names of the files."""
    k = max(2, model.output_shape[-1])
    noise = np.array([[hashlib.sha256(f"{name} {c}".encode()).digest()[0] / 256 for c in range(k)]
                      for name in dataset.names])
    raw = np.exp(3 * noise + 1.2 * np.eye(k)[dataset.labels] + 0.8 * (np.arange(k) == 1))
    p = (raw / raw.sum(axis=1, keepdims=True)).round(4)
    return p[:, 1:].astype(np.float32) if model.output_shape[-1] == 1 else p


def loss(model, dataset):
    """The mean cross-entropy of these probabilities."""
    p, labels = predict(model, dataset).astype(np.float64), dataset.labels
    own = p[np.arange(len(p)), labels] if p.shape[1] > 1 else np.where(labels == 1, p[:, 0], 1 - p[:, 0])
    return {"loss": float(-np.log(own).mean())}


@pytest.fixture
def known(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Sequential, "predict", predict)
    monkeypatch.setattr(Sequential, "evaluate", loss)


@pytest.fixture(scope="module")
def manifests(tmp_path_factory):
    """{"two", "three" or "absent": manifest of 150 radiographs}: views in two spellings, some patients unknown."""
    folder = tmp_path_factory.mktemp("data") / "files"
    assert main(["data", "phantom", str(folder), "--n", "150", "--seed", "3", "--size", "64", "--quiet"]) == 0
    rows = [line.split(",") for line in (folder / "manifest.csv").read_text().splitlines()[1:]]
    for name, classes in (("two", ["covid", "normal"]), ("three", ["covid", "normal", "pneumonia"]),
                          ("absent", ["covid", "normal"])):
        lines = ["path,label,patient_id,view"]
        for i, (path, _, patient, _, view) in enumerate(rows):
            number = int(patient.rpartition("-")[2])
            lines.append(f"{path},{classes[number % len(classes)]},{patient if number % 5 else ''},"
                         f"{view if i % 4 else view.lower()}")
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return {name: folder / f"{name}.csv" for name in ("two", "three", "absent")}


@pytest.mark.parametrize("classes", ["two", "three"])
def test_train_and_evaluate_print_this(classes, manifests, known, capsys):
    other = manifests["two" if classes == "two" else "absent"]
    for name, command in (("train", ["train", "--data", str(manifests[classes]), "--out", "run", *QUICK]),
                          ("evaluate", ["evaluate", "run", "--data", str(other), "--quiet", "--allow-training-images"]
                           )):
        assert main(command) == 0
        text = capsys.readouterr().out
        golden.check(GOLDEN / f"{name}_{classes}.txt", text)
        assert all(len(line) <= 100 or line.endswith(".") for line in text.splitlines())       # sentences may wrap


def counts_of(summary, c):
    """(TP, FP, FN, TN) of class c, from the confusion matrix of a summary."""
    matrix = np.array(summary["confusion"]["matrix"])
    tp, row, column = matrix[c, c], matrix[c].sum(), matrix[:, c].sum()
    return tp, column - tp, row - tp, matrix.sum() - row - column + tp


def rates(tp, fp, fn, tn):
    fractions = {"precision": (tp, tp + fp), "recall": (tp, tp + fn), "specificity": (tn, tn + fp),
                 "f1": (2 * tp, 2 * tp + fp + fn)}
    return {name: part / whole if whole else None for name, (part, whole) in fractions.items()}


def mean(values):
    return None if None in values else sum(values) / len(values)


def check_every_value(told):
    """The confusion matrices in the JSON of a command give every value of the tables that counts images."""
    for summary in told.values():
        assert is_summary(summary)
        matrix, k = np.array(summary["confusion"]["matrix"]), len(summary["confusion"]["classes"])
        assert matrix.sum() == summary["n"] and summary["accuracy"] == pytest.approx(matrix.trace() / matrix.sum())
        each = [rates(*counts_of(summary, c)) for c in range(k)]
        if k > 2:
            assert list(summary["per_class"]) == summary["confusion"]["classes"]
            for c, one in enumerate(summary["per_class"].values()):
                assert one["n"] == matrix[c].sum()
                assert {name: one[name] for name in each[c]} == pytest.approx(each[c])
                assert one["auc"] is None or one["undefined"].get("auc") is None
            expected = {name: mean([one[name] for one in each]) for name in each[0]}
            assert summary["auc"] == pytest.approx(mean([one["auc"] for one in summary["per_class"].values()]))
        else:
            expected = each[1]
            fixed = summary["at_threshold"]
            assert {name: fixed[name] for name in expected} == pytest.approx(rates(*counts_of(fixed, 1)))
        assert {name: summary[name] for name in expected} == pytest.approx(expected)
        for groups in summary.get("groups", {}).values():
            assert sum(np.array(one["confusion"]["matrix"]) for one in groups.values()).tolist() == matrix.tolist()
            for one in groups.values():
                part = np.array(one["confusion"]["matrix"])
                assert one["accuracy"] == pytest.approx(part.trace() / part.sum())
                if k == 2:
                    of = rates(*counts_of(one, 1))
                    assert (one["recall"], one["specificity"]) == pytest.approx((of["recall"], of["specificity"]))


@pytest.mark.parametrize("classes", ["two", "three"])
def test_the_confusion_matrix_gives_every_value(classes, manifests, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["train", "--data", str(manifests[classes]), "--out", str(run), *QUICK, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads((run / "metrics.json").read_text()) and list(told) == ["training", "validation", "test"]
    check_every_value(told)
    other = manifests["two" if classes == "two" else "absent"]
    assert main(["evaluate", str(run), "--data", str(other), "--allow-training-images", "--quiet", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    check_every_value(told)
    if classes == "three":      # no image is of the third class: the values of the others stand
        told = told["evaluation"]
        covid, normal, absent = told["per_class"].values()
        assert absent["recall"] is absent["auc"] is told["recall"] is told["auc"] is None and absent["n"] == 0
        assert all(one[name] is not None for one in (covid, normal) for name in ("recall", "specificity", "auc"))
        assert set(covid["intervals"]) >= {"recall", "specificity", "auc"}


def test_on_real_radiographs_of_three_classes(shared, tmp_path, capsys):
    source = shared / "data" / "chestxray"
    lines = [(source / name).read_text().splitlines() for name in ("manifest.csv", "pneumonia.csv")]
    (tmp_path / "three.csv").write_text("\n".join([*lines[0][::4], *lines[1][1::2]]) + "\n")
    assert main(["train", "--data", str(tmp_path / "three.csv"), "--root", str(source), "--out", str(tmp_path / "run"),
                 "--json", *QUICK]) == 0
    told = json.loads(capsys.readouterr().out)
    check_every_value(told)
    assert told["test"]["confusion"]["classes"] == ["covid", "normal", "pneumonia"]
    assert list(told["test"]["per_class"]) == ["covid", "normal", "pneumonia"]
