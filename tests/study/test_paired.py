"""Metrics over repeats and paired differences: against what other parts of the package compute, and by hand."""

import numpy as np
import pytest

from minicnn import metrics
from minicnn.evaluation.comparison import compare
from minicnn.evaluation.summary import summarize
from minicnn.study.paired import METRICS, Predictions, difference, measured


def predictions(seed, n=90, classes=1, repeats=1, skill=1.0):
    """Return Predictions of n images, three of each patient, in each repeat."""
    draw = np.random.default_rng(seed)
    labels = np.tile(np.arange(n) // 3 % max(2, classes), repeats)
    logits = draw.normal(size=(n * repeats, classes))
    if classes == 1:
        outputs = 1 / (1 + np.exp(-logits - skill * (2 * labels[:, np.newaxis] - 1)))
    else:
        logits += 2 * skill * (labels[:, np.newaxis] == np.arange(classes))
        outputs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    names = [f"{i}.png" for i in range(n)] * repeats
    return Predictions(names, np.repeat(np.arange(repeats), n), np.tile(np.arange(n) // 3, repeats), labels, outputs)


def test_one_repeat_of_two_classes_is_measured_as_by_summarize():
    one = predictions(1)
    told, whole = measured(one), summarize(one.labels, one.outputs, one.patients)
    for name in METRICS:
        assert told[name] == pytest.approx(whole[name]) and told["intervals"][name] == pytest.approx(whole["intervals"][name])
    assert (told["n"], told["patients"]) == (90, 30)


def test_of_three_classes_the_second_is_against_the_others_and_accuracy_is_of_all():
    one = predictions(2, classes=3)
    told, predicted = measured(one), one.outputs.argmax(axis=1)
    assert told["accuracy"] == pytest.approx(np.mean(predicted == one.labels))
    assert told["recall"] == pytest.approx(np.mean(predicted[one.labels == 1] == 1))
    assert told["specificity"] == pytest.approx(np.mean(predicted[one.labels != 1] != 1))
    assert told["auc"] == pytest.approx(metrics.auc(one.labels == 1, one.outputs[:, 1]))


def test_over_repeats_the_auc_is_a_mean_and_proportions_are_pooled():
    both = predictions(3, repeats=2)
    each = [measured(both.take(np.flatnonzero(both.repeats == repeat))) for repeat in (0, 1)]
    told = measured(both)
    for name in METRICS:
        assert told[name] == pytest.approx(np.mean([one[name] for one in each]))
        assert told["intervals"][name][0] < told[name] < told["intervals"][name][1]
    shifted = Predictions(both.names, both.repeats, both.patients, both.labels, both.outputs * np.where(both.repeats, 1, 1e-3)[:, np.newaxis])
    assert measured(shifted)["auc"] == pytest.approx(told["auc"])       # each network has a scale of its own


def test_paired_differences_are_those_of_compare():
    a, b = predictions(4), predictions(5, skill=0.3)
    told, whole = difference(a, b), compare(a.labels, a.outputs, b.outputs, a.patients)
    for name in METRICS:
        assert told[name] == pytest.approx(whole["difference"][name])
        assert told["intervals"][name] == pytest.approx(whole["intervals"][name], abs=0.03)     # 1,000 samples there 2,000
    assert told["p_value"] == pytest.approx(whole["mcnemar"]["p_value"])
    back = difference(b, a)
    assert [back[name] for name in METRICS] == pytest.approx([-told[name] for name in METRICS])


def test_only_what_both_have_is_compared_whatever_its_order():
    a, b = predictions(6, repeats=3), predictions(7, repeats=3)
    few = b.take(np.flatnonzero(b.repeats == 1)[::-1])
    told = difference(a, few)
    assert told["n"] == 90
    of_one = a.take(np.flatnonzero(a.repeats == 1))
    assert told["accuracy"] == pytest.approx(measured(of_one)["accuracy"] - measured(few)["accuracy"])
    assert difference(of_one, b.take(np.flatnonzero(b.repeats == 2))) is None


def test_what_is_undefined_says_so():
    one = predictions(8)
    alone = one.take(np.flatnonzero(one.labels == 0))
    told = measured(alone)
    assert told["auc"] is None and told["recall"] is None and "auc" in told["undefined"] and told["accuracy"] is not None
    assert difference(one, one)["p_value"] is None and difference(one, one)["auc"] == 0
