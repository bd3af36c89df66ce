"""Metrics: those of scikit-learn where it defines them, None and a reason where undefined."""

import json

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, strategies as st

from minicnn.errors import DTypeError, InputError, ShapeError
from minicnn.metrics import auc, bce_from_probabilities, binary_metrics, confusion
from minicnn.metrics.categorical import categorical_metrics, cce_from_probabilities
from minicnn.metrics.curves import roc

# Few distinct values, so that ties and p = threshold happen.
SCORES = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]) | st.floats(0, 1, width=32)
BINARY = st.lists(st.tuples(st.integers(0, 1), SCORES), min_size=1, max_size=40).map(lambda pairs: tuple(zip(*pairs)))


@st.composite
def categorical(draw):
    """Draw (labels, probabilities) of 3 or 4 classes, with ties and absent classes."""
    k, n = draw(st.integers(3, 4)), draw(st.integers(1, 25))
    labels = draw(st.lists(st.integers(0, k - 1), min_size=n, max_size=n))
    raw = np.array(draw(st.lists(st.lists(st.integers(0, 4), min_size=k, max_size=k).filter(any),
                                 min_size=n, max_size=n)), float)
    return np.array(labels), raw / raw.sum(axis=1, keepdims=True)


def nan_to_none(values):
    return [None if np.isnan(value) else float(value) for value in np.atleast_1d(values)]


@given(BINARY)
def test_binary_metrics_are_those_of_scikit_learn(pairs):
    labels, p = np.array(pairs[0]), np.array(pairs[1])
    predicted = (p > 0.5).astype(int)
    got = binary_metrics(labels, p)
    np.testing.assert_array_equal(confusion(labels, predicted, 2),
                                  sklearn.metrics.confusion_matrix(labels, predicted, labels=[0, 1]))
    expected = {
        "accuracy": sklearn.metrics.accuracy_score(labels, predicted),
        "specificity": sklearn.metrics.recall_score(labels, predicted, pos_label=0, zero_division=np.nan),
        "precision": sklearn.metrics.precision_score(labels, predicted, zero_division=np.nan),
        "recall": sklearn.metrics.recall_score(labels, predicted, zero_division=np.nan),
        "f1": sklearn.metrics.f1_score(labels, predicted, zero_division=np.nan),
        "auc": sklearn.metrics.roc_auc_score(labels, p) if 0 < labels.mean() < 1 else np.nan,
        "loss": sklearn.metrics.log_loss(labels, np.clip(p, 1e-7, 1 - 1e-7), labels=[0, 1])}
    for key, value in expected.items():
        assert (got[key] is None) == bool(np.isnan(value)), key
        assert (key in got["undefined"]) == (got[key] is None)
        assert got[key] is None or got[key] == pytest.approx(value, rel=1e-9), key
    assert got["n"] == len(labels)
    json.dumps(got, allow_nan=False)


@given(BINARY)
def test_auc_counts_pairs_and_the_roc_has_its_area(pairs):
    labels, p = np.array(pairs[0]), np.array(pairs[1])
    positives, negatives = p[labels == 1], p[labels == 0]
    if not positives.size or not negatives.size:
        assert auc(labels, p) is None
        with pytest.raises(InputError, match=r"labels: an ROC curve needs both labels, got only [01]\."):
            roc(labels, p)
        return
    wins = (positives[:, None] > negatives).sum() + 0.5 * (positives[:, None] == negatives).sum()
    assert auc(labels, p) == wins / (positives.size * negatives.size)
    x, y = roc(labels, p)
    expected_x, expected_y, _ = sklearn.metrics.roc_curve(labels, p, drop_intermediate=False)
    np.testing.assert_allclose(x, expected_x, rtol=1e-15)
    np.testing.assert_allclose(y, expected_y, rtol=1e-15)
    assert np.trapezoid(y, x) == pytest.approx(auc(labels, p), rel=1e-12)


@given(categorical())
def test_categorical_metrics_are_the_means_of_one_class_against_the_rest(drawn):
    labels, p = drawn
    k, predicted = p.shape[1], p.argmax(axis=1)
    got = categorical_metrics(labels, p)
    arguments = dict(labels=range(k), average=None, zero_division=np.nan)
    each = {
        "precision": sklearn.metrics.precision_score(labels, predicted, **arguments),
        "recall": sklearn.metrics.recall_score(labels, predicted, **arguments),
        "f1": sklearn.metrics.f1_score(labels, predicted, **arguments),
        "specificity": [sklearn.metrics.recall_score(labels != c, predicted != c, zero_division=np.nan)
                        for c in range(k)],
        "auc": [sklearn.metrics.roc_auc_score(labels == c, p[:, c]) if 0 < (labels == c).mean() < 1 else np.nan
                for c in range(k)]}
    for key, values in each.items():
        mean = np.mean(values)
        assert (got[key] is None) == bool(np.isnan(mean)), key
        assert (key in got["undefined"]) == (got[key] is None)
        assert got[key] is None or got[key] == pytest.approx(mean, rel=1e-12), key
    assert got["accuracy"] == sklearn.metrics.accuracy_score(labels, predicted)
    assert got["loss"] == pytest.approx(-np.log(np.clip(p[np.arange(len(p)), labels], 1e-7, 1 - 1e-7)).mean())
    json.dumps(got, allow_nan=False)
    assert list(got) == list(binary_metrics([0, 1], [0, 1]))


def test_macro_auc_is_that_of_scikit_learn():
    p = np.array([[0.8, 0.1, 0.1], [0.2, 0.6, 0.2], [0.3, 0.5, 0.2], [0.5, 0.1, 0.4], [0.1, 0.5, 0.4]])
    labels = [0, 1, 2, 2, 1]
    assert categorical_metrics(labels, p)["auc"] == pytest.approx(
        sklearn.metrics.roc_auc_score(labels, p, multi_class="ovr"))


def test_half_is_not_positive():
    assert binary_metrics([1], [0.5])["recall"] == 0.0
    assert binary_metrics([1], [np.nextafter(0.5, 1)])["recall"] == 1.0
    assert binary_metrics([1, 0], [0.3, 0.2], threshold=0.25)["accuracy"] == 1.0


def test_each_undefined_metric_has_a_reason():
    assert binary_metrics([0, 0], [0.1, 0.2])["undefined"] == {
        "precision": "no sample was predicted positive", "recall": "no sample is positive",
        "f1": "no sample is positive or was predicted so", "auc": "all samples have the same label"}
    assert binary_metrics([1], [0.9])["undefined"] == {
        "specificity": "no sample is negative", "auc": "all samples have the same label"}
    missed = binary_metrics([0, 1], [0.1, 0.2])
    assert missed["f1"] == 0.0 and missed["precision"] is None
    reason = categorical_metrics([0, 1], [[0.9, 0.1, 0.0], [0.1, 0.9, 0.0]], classes=["a", "b", "sick\n"])["undefined"]
    assert reason["recall"] == reason["auc"] and reason["auc"].startswith(r"no sample is sick\n, and a mean over")


def test_losses_from_probabilities():
    assert bce_from_probabilities([1, 1], [1.0, 0.0]) == pytest.approx((-np.log(1 - 1e-7) - np.log(1e-7)) / 2)
    assert bce_from_probabilities([0], [1.0], eps=1e-3) == pytest.approx(-np.log(1e-3))
    assert cce_from_probabilities([2], [[1.0, 0.0, 0.0]]) == pytest.approx(-np.log(1e-7))
    assert binary_metrics([0, 1], [0.1, 0.2], loss=0.123)["loss"] == 0.123
    assert categorical_metrics([0, 1], np.eye(3)[:2], loss=np.float32(0.5))["loss"] == 0.5


def test_shapes_and_types_that_models_return_are_accepted():
    labels, p = [0, 1, 1], np.array([0.2, 0.8, 0.4], np.float32)
    expected = binary_metrics(labels, p)
    assert binary_metrics(np.array(labels, np.float32)[:, None], p[:, None]) == expected
    assert binary_metrics(np.array(labels, bool), p.astype(">f4")) == expected
    column = np.array(labels)
    column.flags.writeable = False
    assert binary_metrics(column, p) == expected


@pytest.mark.parametrize("call, error, message", [
    (lambda: confusion([0, 2], [0, 1], 2), InputError, r"labels: expected classes from 0 to 1, got 2\."),
    (lambda: confusion([0, 1], [0, -1], 2), InputError, r"predictions: expected classes from 0 to 1, got -1\."),
    (lambda: confusion([0, 0.5], [0, 1], 2), InputError, r"labels: expected classes from 0 to 1, got 0\.5\."),
    (lambda: confusion([0, np.nan], [0, 1], 2), InputError, r"labels: expected classes from 0 to 1, got nan\."),
    (lambda: confusion([0, 1], [0], 2), ShapeError, r"predictions: expected as many as labels, 2, got 1\."),
    (lambda: confusion([], [], 2), ShapeError, r"labels: expected shape \(n,\) or \(n, 1\) with n >= 1, got \(0,\)\."),
    (lambda: confusion(["a"], [0], 2), DTypeError, r"metrics: labels must hold real numbers"),
    (lambda: confusion(1, 1, 2), ShapeError, r"labels: expected shape .*, got \(\)\."),
    (lambda: binary_metrics([[0, 1]], [0.5]), ShapeError, r"labels: expected shape .*, got \(1, 2\)\."),
    (lambda: binary_metrics([0, 1], [0.5]), ShapeError, r"probabilities: expected as many as labels, 2, got 1\."),
    (lambda: binary_metrics([0], [[0.5, 0.5]]), ShapeError, r"probabilities: expected shape .*, got \(1, 2\)\."),
    (lambda: binary_metrics([0], [2.5]), InputError, r"from 0 to 1, got 2\.5 to 2\.5\. Are these logits\? Apply the s"),
    (lambda: binary_metrics([0], [np.nan]), InputError, r"metrics: probabilities holds nan at \[0\]"),
    (lambda: binary_metrics([0], [0.5], threshold=2), InputError, r"threshold must lie in "),
    (lambda: binary_metrics([0], [0.5], loss=np.nan), InputError, r"loss must lie in .*got nan"),
    (lambda: binary_metrics([0], [0.5], loss=np.inf), InputError, r"loss must lie in .*got inf"),
    (lambda: categorical_metrics([0], [0.5]), ShapeError, r"probabilities: expected shape \(n, k\) with n >= 1 and k"),
    (lambda: categorical_metrics([3], [[0.5, 0.25, 0.25]]), InputError, r"labels: expected classes from 0 to 2, got 3"),
    (lambda: categorical_metrics([0], [[0.5, 0.2, 0.2]]), InputError, r"rows that sum to 1, got sums from 0\.9 to"),
    (lambda: categorical_metrics([0], [[5, -2, -2]]), InputError, r"Are these logits\? Apply the softmax first\."),
    (lambda: categorical_metrics([0, 1], np.eye(2), classes=["a"]), InputError, r"classes: expected 2 names, .* got 1"),
])
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()
