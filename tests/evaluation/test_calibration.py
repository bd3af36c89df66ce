"""Calibration and operating points: the values of scikit-learn where it has them, and reasons where undefined."""

import json

import numpy as np
import pytest
import sklearn.calibration
import sklearn.linear_model
import sklearn.metrics
from hypothesis import given, strategies as st
from scipy.optimize import brentq, minimize_scalar

from minicnn.errors import InputError
from minicnn.evaluation import calibration, operating_point
from minicnn.evaluation.calibration import (apply_temperature, brier_score, calibration_line, calibration_lines,
                                            fit_temperature, logits, reliability_curve)
from minicnn.evaluation.operating_point import OperatingPoint, fit_operating_point
from minicnn.experiment.run_folder import RunFolder
from minicnn.metrics import auc, bce_from_probabilities, binary_metrics
from minicnn.metrics.categorical import cce_from_probabilities

SCORES = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0]) | st.floats(0, 1, width=32)
BINARY = st.lists(st.tuples(st.integers(0, 1), SCORES), min_size=2, max_size=40).map(
    lambda pairs: tuple(np.array(column) for column in zip(*pairs)))


def predictions(seed, n=400, extreme=1.0):
    """Return labels and probabilities whose true slope is 1 / extreme."""
    rng = np.random.default_rng(seed)
    z = 2 * rng.normal(size=n)
    return (rng.random(n) < 1 / (1 + np.exp(-z))).astype(int), 1 / (1 + np.exp(-extreme * z))


@pytest.mark.filterwarnings("ignore:Line search of Newton solver")      # scikit-learn's, where labels nearly separate
@given(BINARY)
def test_slope_and_brier_score_are_those_of_scikit_learn(pairs):
    labels, p = pairs
    assert brier_score(labels, p) == pytest.approx(sklearn.metrics.brier_score_loss(labels, p, labels=[0, 1]), abs=1e-12)
    values, reasons = calibration_line(labels, p)
    assert {name for name, value in values.items() if value is None} == set(reasons)
    z = logits(p)
    if values["intercept"] is not None:
        wanted = brentq(lambda a: (1 / (1 + np.exp(-(a + z)))).sum() - labels.sum(), -60, 60, xtol=1e-12)
        assert values["intercept"] == pytest.approx(wanted, abs=1e-6)
    if values["slope"] is not None and abs(values["slope"]) < 20:
        model = sklearn.linear_model.LogisticRegression(C=np.inf, tol=1e-10, max_iter=100_000, solver="newton-cholesky")
        assert values["slope"] == pytest.approx(model.fit(z[:, None], labels).coef_[0, 0], rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("extreme, slope", [(1.0, 1.0), (3.0, 1 / 3), (0.5, 2.0)])
def test_slope_and_intercept_of_known_miscalibration(extreme, slope):
    labels, p = predictions(1, 20_000, extreme)
    values, _ = calibration_line(labels, p)
    assert values["slope"] == pytest.approx(slope, rel=0.05) and abs(values["intercept"]) < 0.1
    shifted, _ = calibration_line(labels, 1 / (1 + np.exp(-(logits(p) - 1))))
    assert shifted["slope"] == pytest.approx(values["slope"], rel=1e-3)   # where p was not clipped
    assert shifted["intercept"] > values["intercept"] + 0.5
    T, reason = fit_temperature(labels, p)
    assert reason is None and T == pytest.approx(1 / slope, rel=0.05)


def test_undefined_slope_and_intercept_have_reasons():
    both = {"slope", "intercept"}
    assert calibration_line([1, 1], [0.2, 0.3])[1] == dict.fromkeys(both, "all samples have the same label")
    for p in ([0.1, 0.2, 0.8, 0.9], [0.9, 0.8, 0.2, 0.1], [0.1, 0.5, 0.5, 0.9], [0.0, 0.0, 1.0, 1.0]):
        values, reasons = calibration_line([0, 0, 1, 1], p)
        assert values["slope"] is None and values["intercept"] is not None
        assert reasons == {"slope": "a threshold separates the labels completely"}
    assert calibration_line([0, 1, 1], [0.5, 0.5, 0.5])[1] == {"slope": "all samples have the same probability"}


def test_weights_are_equivalent_to_repeated_images():
    labels, p = predictions(3, 60)
    weights = np.random.default_rng(0).integers(0, 3, (20, 60))
    found = calibration_lines(labels == 1, logits(p), weights.astype(float))
    for row, (slope, intercept) in zip(weights, found):
        values, _ = calibration_line(np.repeat(labels, row), np.repeat(p, row))
        assert slope == pytest.approx(values["slope"], rel=1e-6)
        assert intercept == pytest.approx(values["intercept"], abs=1e-6)
    nobody = calibration_lines(labels == 1, logits(p), np.stack([labels, 1.0 - labels]).astype(float))
    assert np.isnan(nobody).all()


@given(BINARY, st.integers(1, 12))
def test_the_reliability_curve_is_that_of_scikit_learn(pairs, bins):
    labels, p = pairs
    rows = reliability_curve(labels, p, bins=bins)
    observed, predicted = sklearn.calibration.calibration_curve(labels, p, n_bins=bins)
    np.testing.assert_allclose([row["observed"] for row in rows], observed)
    np.testing.assert_allclose([row["predicted"] for row in rows], predicted)
    assert sum(row["n"] for row in rows) == len(labels)
    for row in rows:
        assert row["interval"].reason or row["interval"].low <= row["observed"] <= row["interval"].high
    with pytest.raises(InputError, match="reliability_curve: bins must be a whole number from 1 to 1000, got 0"):
        reliability_curve(labels, p, bins=0)
    with pytest.raises(InputError, match="probabilities: expected values from 0 to 1, got -3 to 2. Are these logits?"):
        reliability_curve([0, 1], [-3.0, 2.0])


@given(BINARY)
def test_the_temperature_minimises_the_loss(pairs):
    labels, p = pairs
    T, reason = fit_temperature(labels, p)
    if T is None:
        assert reason
        return
    inner = np.clip(p, calibration.EPS, 1 - calibration.EPS)
    loss = lambda log_t: bce_from_probabilities(labels, apply_temperature(inner, float(np.exp(log_t))), eps=1e-300)
    best = minimize_scalar(loss, bounds=(np.log(T) - 3, np.log(T) + 3), method="bounded")
    assert loss(np.log(T)) <= best.fun + 1e-9


def test_a_temperature_keeps_the_order_and_the_predictions():
    labels, p = predictions(5, extreme=4.0)
    T, _ = fit_temperature(labels, p)
    cooler = apply_temperature(p, T)
    assert T > 2 and auc(labels, cooler) == auc(labels, p)
    np.testing.assert_array_equal(cooler > 0.5, p > 0.5)
    assert bce_from_probabilities(labels, cooler) < bce_from_probabilities(labels, p)
    np.testing.assert_allclose(apply_temperature(p, 1.0), p, atol=1e-7)
    assert apply_temperature(p[:, None], T).shape == (400, 1)


def test_temperature_with_three_classes():
    rng = np.random.default_rng(0)
    z = 2 * rng.normal(size=(2000, 3))
    share = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    labels = (rng.random(2000)[:, None] > share.cumsum(axis=1)).sum(axis=1)
    extreme = np.exp(3 * z) / np.exp(3 * z).sum(axis=1, keepdims=True)
    T, _ = fit_temperature(labels, extreme)
    assert T == pytest.approx(3, rel=0.15)
    assert cce_from_probabilities(labels, apply_temperature(extreme, T)) < cce_from_probabilities(labels, extreme)
    two, _ = fit_temperature(labels > 0, np.stack([share[:, 0], 1 - share[:, 0]], axis=1))
    assert two == pytest.approx(fit_temperature(labels > 0, 1 - share[:, 0])[0], rel=1e-3)
    assert brier_score(labels, np.eye(3)[labels]) == 0 and brier_score([0], [[0.0, 1.0, 0.0]]) == 2


def test_an_undefined_temperature_has_a_reason():
    assert fit_temperature([0, 1], [0.2, 0.9])[1].startswith("every prediction on the validation set is correct")
    assert fit_temperature([0, 1], [0.9, 0.2])[1].endswith("no better than chance")
    assert fit_temperature([0, 0, 0], [0.9, 0.8, 0.7])[1].endswith("no better than chance")


# ---- Operating point -------------------------------------------------------------------------------------------------

@given(BINARY)
def test_the_threshold_is_optimal_on_validation(pairs):
    labels, p = pairs
    fixed = fit_operating_point(labels, p)
    if len(set(labels.tolist())) < 2:
        reason = "all images of the validation set have the same label"
        assert fixed.threshold is fixed.abstain is None and fixed.undefined["threshold"] == reason
        return

    def youden(threshold):
        found = binary_metrics(labels, p, float(threshold))
        return found["recall"] + found["specificity"]

    best = max(youden(t) for t in [0.0, *p])
    assert youden(fixed.threshold) >= best - 1e-9
    if youden(0.5) >= best - 1e-9:
        assert fixed.threshold == 0.5
    if fixed.abstain is None:
        assert (p[labels == 1] == 0).mean() > 0.05
        assert fixed.undefined["abstain"].startswith("more than 5 % of the positives of the validation set have the")
        return
    low, high = fixed.abstain
    assert 0 <= low <= high <= 1
    if low < high:
        assert (p[labels == 1] <= low).mean() <= 0.05 and (p[labels == 0] > high).mean() <= 0.05
        assert fixed.abstains(p).tolist() == ((p > low) & (p <= high)).tolist()
    else:
        assert low == fixed.threshold and not fixed.abstains(p).any()


def test_the_operating_point_is_saved_in_the_run_folder(tmp_path):
    fixed = fit_operating_point(*predictions(4))
    assert fixed.abstain[0] < fixed.threshold < fixed.abstain[1] and fixed.undefined == {}
    with RunFolder(tmp_path) as run:
        assert OperatingPoint.read(run) is None
        fixed.write(run)
        assert OperatingPoint.read(run) == fixed
        several = fit_operating_point([0, 1, 2], np.eye(3) * 0.4 + 0.2)
        assert several.undefined["threshold"] == "there are more than two classes"
        several.write(run)
        assert OperatingPoint.read(run) == several
    np.testing.assert_array_equal(OperatingPoint().calibrated(np.array([0.2])), [0.2])
    assert not OperatingPoint().abstains([0.5]).any()


@pytest.mark.parametrize("content", [[], {"more": 1}, {"threshold": "0.5"}, {"threshold": 2}, {"threshold": True},
                                     {"abstain": [0.5]}, {"abstain": [0.9, 0.1]}, {"abstain": 7},
                                     {"abstain": [None, 1]},
                                     {"temperature": 0}, {"temperature": "x"}, {"undefined": []},
                                     {"undefined": {"threshold": "\x1b[2J"}}, {"undefined": {"more": "x"}}])
def test_an_invalid_operating_point_is_refused(content, tmp_path):
    (tmp_path / operating_point.FILE).write_text(json.dumps(content))
    with pytest.raises(InputError, match="decision"):
        OperatingPoint.read(RunFolder(tmp_path))
