"""Two networks compared: McNemar's exact test by patient, and a paired bootstrap."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import stats

from minicnn.errors import ShapeError
from minicnn.evaluation.comparison import DIFFERENCES, compare, mcnemar, verdict
from minicnn.evaluation.summary import summarize


@given(st.integers(0, 30), st.integers(0, 30), st.integers(0, 5))
def test_with_one_image_per_patient_it_is_mcnemars_exact_test(only_a, only_b, both):
    a = [1] * only_a + [0] * only_b + [1] * both
    b = [0] * only_a + [1] * only_b + [1] * both
    told = mcnemar(np.array(a, bool), np.array(b, bool))
    assert (told["only_a"], told["only_b"]) == (only_a, only_b)
    if only_a + only_b == 0:
        assert told["p_value"] is None and "equally many images of every patient" in told["undefined"]
    else:
        assert told["p_value"] == pytest.approx(stats.binomtest(only_a, only_a + only_b, 0.5).pvalue, rel=1e-9)


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 5)), min_size=1, max_size=25))
def test_by_patient_it_equals_the_enumeration_of_all_exchanges(images):
    """Against all 2^k exchanges of the two networks' predictions, patient by patient."""
    a, b, clusters = (np.array(column) for column in zip(*images))
    told, people = mcnemar(a, b, clusters), sorted(set(clusters.tolist()))
    d = [int((a[clusters == i].astype(int) - b[clusters == i]).sum()) for i in people]
    if not any(d):
        assert told["p_value"] is None
        return
    sums = [abs(sum(sign * x for sign, x in zip(signs, d))) for signs in itertools.product((-1, 1), repeat=len(d))]
    assert told["p_value"] == pytest.approx(np.mean([s >= abs(sum(d)) for s in sums]), rel=1e-9)
    assert told["p_value"] == mcnemar(b, a, clusters)["p_value"]


def test_images_of_one_patient_are_not_independent():
    """Twelve images that only A classifies correctly are significant if of twelve patients, and not if of one."""
    assert mcnemar([1] * 12, [0] * 12)["p_value"] < 0.001
    assert mcnemar([1] * 12, [0] * 12, [0] * 12)["p_value"] == 1.0
    with pytest.raises(ShapeError, match=r"mcnemar: .* got shapes \(1,\) and \(2,\)"):
        mcnemar([1], [0, 1])


def predictions(seed, patients=120):
    rng = np.random.default_rng(seed)
    clusters = np.repeat(np.arange(patients), rng.integers(1, 4, patients))
    labels = (rng.random(patients) < 0.5)[clusters].astype(int)
    common = rng.normal(size=patients)[clusters] + rng.normal(size=len(labels))
    better, worse = (1 / (1 + np.exp(-(2 * s * (labels - 0.5) + common))) for s in (2.5, 0.5))
    return labels, better, worse, clusters


def test_differences_agree_with_summaries_and_change_sign_with_the_order():
    labels, better, worse, clusters = predictions(1)
    told, turned = compare(labels, better, worse, clusters, 300), compare(labels, worse, better, clusters, 300)
    of = [summarize(labels, p, clusters, samples=20) for p in (better, worse)]
    for name in DIFFERENCES:
        assert told["a"][name] == pytest.approx(of[0][name], rel=1e-9)
        assert told["difference"][name] == pytest.approx(of[0][name] - of[1][name], abs=1e-9)
        low, high = told["intervals"][name]
        assert low < told["difference"][name] < high
        np.testing.assert_allclose(turned["intervals"][name], [-high, -low], atol=1e-9)
    assert told["intervals"]["auc"][0] > 0 and told["mcnemar"]["p_value"] < 0.001
    json.dumps(told, allow_nan=False)


def test_the_same_network_twice_and_a_single_label():
    labels, p, _, clusters = predictions(2)
    same = compare(labels, p, p, clusters, 50)
    assert same["verdict"]["same"] == "predictions" and same["verdict"]["better"] is None
    assert set(same["difference"].values()) == {0.0} and same["mcnemar"]["p_value"] is None
    assert set(same["no_interval"].values()) == {"it is the same in all samples drawn with replacement",
                                                 "the predictions differ on images of 0 patients only"}
    other = p.copy()
    other[clusters == 0] = 1 - p[clusters == 0]
    near = compare(labels, p, other, clusters, 50)
    assert near["no_interval"]["recall" if labels[0] else "specificity"] == \
        "the predictions differ on images of 1 patient only"
    assert "auc" in near["intervals"] and "accuracy" not in near["intervals"]
    one = compare([1] * 30, p[:30], 1 - p[:30], samples=50)
    assert one["difference"]["auc"] is None and one["difference"]["specificity"] is None
    assert "auc" not in one["intervals"] and "auc" not in one["no_interval"] and "recall" in one["intervals"]
    with pytest.raises(ShapeError, match="probabilities: expected as many as labels"):
        compare(labels, p, p[:-1])


def measured(p_value, patients=20, **intervals):
    """Return what `verdict` reads: a test, and intervals of A - B; the accuracy of A is the higher one."""
    return {"difference": {"accuracy": 0.05}, "intervals": intervals, "mcnemar": {
        "only_a": 9, "only_b": 4, "patients": patients, "p_value": p_value, "undefined": "they are alike"}}


@pytest.mark.parametrize("told, better, remarks", [
    (measured(0.01, accuracy=(0.01, 0.09), auc=(0.01, 0.09)), "a", []),
    (measured(0.3, accuracy=(-0.01, 0.09), auc=(-0.01, 0.09)), None, []),
    (measured(0.06, accuracy=(0.001, 0.09)), None, ["The interval of the accuracy leaves 0 out"]),
    (measured(0.049, accuracy=(0.0, 0.09)), "a", ["The interval of the accuracy includes 0"]),
    (measured(0.3, auc=(0.01, 0.09), loss=(-0.2, -0.1), recall=(-0.2, -0.1)), None,
     ["By their intervals A is better in AUC and loss and B is better in recall. These measure"]),
    (measured(0.01, accuracy=(0.01, 0.09), brier=(0.01, 0.02)), "a", ["By their intervals B is better in Brier score. "]),
    (measured(0.0625, patients=5, accuracy=(0.001, 0.09)), None, ["The interval of the accuracy leaves 0 out"]),
    (measured(None, patients=0), None, [])])
def test_one_criterion_decides_and_intervals_that_differ_are_explained(told, better, remarks):
    found = verdict(told)
    assert found["better"] == better and found["sentence"].startswith("A is more accurate" if better else "no difference")
    assert [said[:len(begins)] for said, begins in zip(found["remarks"], remarks)] == remarks
    assert len(found["remarks"]) == len(remarks)
    assert ("p = " in found["sentence"]) == (told["mcnemar"]["patients"] > 5)


def test_no_verdict_where_none_could_have_been():
    """Five patients on whom only A is right give p = 0.0625: with fewer than six no difference can be shown."""
    for patients, better in ((5, None), (6, "a")):
        told = compare([0, 1] * 40, [0.2, 0.8] * 40,
                       [1 - p if i < patients else p for i, p in enumerate([0.2, 0.8] * 40)], samples=50)
        assert told["verdict"]["better"] == better
        assert ("needs six patients" in told["verdict"]["sentence"]) == (better is None)


@given(st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1), st.floats(0, 1)), min_size=8, max_size=30))
def test_the_verdict_is_the_tests_and_turns_with_the_order(images):
    labels, a, b = zip(*images)
    told, turned = compare(labels, a, b, samples=20), compare(labels, b, a, samples=20)
    shown = told["mcnemar"]["p_value"] is not None and told["mcnemar"]["p_value"] < 0.05
    assert (told["verdict"]["better"] is not None) == shown
    assert {"a": "b", "b": "a", None: None}[told["verdict"]["better"]] == turned["verdict"]["better"]
    if shown:
        higher = "a" if told["a"]["accuracy"] > told["b"]["accuracy"] else "b"
        assert told["verdict"]["better"] == higher


def test_a_paired_bootstrap_is_narrower_than_two_separate_ones():
    """Two networks that mostly err on the same images: shared errors do not widen the interval of the difference."""
    labels, p, _, clusters = predictions(3)
    near = np.clip(p + 0.02 * np.random.default_rng(0).normal(size=len(p)), 0, 1)
    low, high = compare(labels, p, near, clusters, 300)["intervals"]["auc"]
    alone = summarize(labels, p, clusters, samples=20)["intervals"]["auc"]
    assert high - low < 0.5 * (alone[1] - alone[0])
