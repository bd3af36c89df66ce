"""Intervals: their coverage, agreement with slow oracles and classic formulas, and reasons where undefined."""

import math
from statistics import NormalDist

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, strategies as st

from minicnn.errors import InputError, ShapeError
from minicnn.evaluation import intervals

NORMAL = NormalDist()

# Few distinct scores, so that ties happen; few patients, so that they have several images, of both labels too.
IMAGES = st.lists(st.tuples(st.integers(0, 1), st.sampled_from([0.0, 0.2, 0.4, 0.6, 0.8, 1.0]), st.integers(0, 6)),
                  min_size=4, max_size=30)


def clustered(rng, patients):
    """Return (patient of each image, label of each image): 1 to 3 images of one label each."""
    clusters = np.repeat(np.arange(patients), rng.integers(1, 4, patients))
    return clusters, (rng.random(patients) < 0.5)[clusters]


def scores_of(rng, clusters, positive, correlation, truth):
    """Return normal scores with this correlation within a patient and this AUC between patients."""
    people = rng.normal(size=clusters.max() + 1)[clusters]
    noise = np.sqrt(correlation) * people + np.sqrt(1 - correlation) * rng.normal(size=len(clusters))
    return np.sqrt(2) * NORMAL.inv_cdf(truth) * positive + noise


def hits_of(rng, clusters, correlation, truth):
    """Return answers that are right with this probability and have this correlation within a patient."""
    common = (rng.random(clusters.max() + 1) < truth)[clusters]
    return np.where(rng.random(len(clusters)) < np.sqrt(correlation), common, rng.random(len(clusters)) < truth)


def coverage(patients, correlation, truth, sets):
    """Return the percentages of simulated test sets whose intervals hold the truth."""
    rng = np.random.default_rng([patients, int(10 * correlation), int(100 * truth)])
    held = dict.fromkeys(("accuracy", "recall", "precision", "f1", "auc"), 0)
    for _ in range(sets):
        clusters, positive = clustered(rng, patients)
        hits = hits_of(rng, clusters, correlation, truth)
        predicted = np.where(hits, positive, ~positive)     # half are positive: every share of these is the truth
        scores = scores_of(rng, clusters, positive, correlation, truth)
        found = {"accuracy": intervals.proportion_interval(hits, hits | True, clusters),
                 "recall": intervals.proportion_interval(predicted, positive, clusters),
                 "precision": intervals.proportion_interval(positive, predicted, clusters),
                 "f1": intervals.f1_interval(positive, predicted, clusters),
                 "auc": intervals.auc_interval(positive, 1 / (1 + np.exp(-scores)), clusters)}
        for name, (_, interval) in found.items():
            held[name] += interval.low <= truth <= interval.high
    return {name: 100 * count / sets for name, count in held.items()}


@pytest.mark.parametrize("patients, correlation, truth", [(150, 0.0, 0.80), (150, 0.4, 0.95), (500, 0.0, 0.90),
                                                          (500, 0.4, 0.85)])
def test_intervals_cover(patients, correlation, truth):
    """300 sets: the percentage has a standard deviation of 1.3, so the band is 91 to 99."""
    for name, percent in coverage(patients, correlation, truth, 300).items():
        assert 91 <= percent <= 99, (name, percent)


@pytest.mark.soak
@pytest.mark.parametrize("truth", [0.80, 0.85, 0.90, 0.95])
@pytest.mark.parametrize("correlation", [0.0, 0.4])
@pytest.mark.parametrize("patients", [150, 500])
def test_intervals_cover_in_two_thousand_sets(patients, correlation, truth):
    percents = coverage(patients, correlation, truth, 2000)
    print(patients, correlation, truth, percents)
    assert 93 <= percents.pop("auc") <= 97
    for name, percent in percents.items():
        assert 92 <= percent <= 98, (name, percent)


def test_intervals_without_clusters_are_too_narrow():
    """The tester is tested: with correlated images of one patient, counting images undercovers."""
    rng, held, sets = np.random.default_rng(5), [0, 0], 300
    for _ in range(sets):
        clusters = np.repeat(np.arange(100), 8)
        hits = hits_of(rng, clusters, 0.4, 0.85)
        for i, known in enumerate((clusters, None)):
            _, interval = intervals.proportion_interval(hits, hits | True, known)
            held[i] += interval.low <= 0.85 <= interval.high
    assert held[0] >= 0.91 * sets and held[1] < 0.80 * sets


def truths(mu):
    """Return average precision and Brier score of scores N(0, 1) and N(mu, 1), half and half, by integration."""
    x = np.linspace(-9, 9 + mu, 100_001)
    negative, positive = (0.5 * np.exp(-(x - m) ** 2 / 2) / np.sqrt(2 * np.pi) * (x[1] - x[0]) for m in (0, mu))
    p = 1 / (1 + np.exp(-(mu * x - mu * mu / 2)))
    above = [density[::-1].cumsum()[::-1] for density in (positive, negative)]
    precision = above[0] / np.maximum(above[0] + above[1], 1e-300)
    return (2 * positive * precision).sum(), (negative * p**2 + positive * (1 - p) ** 2).sum(), 1.0, 0.0


def bootstrap_coverage(patients, correlation, truth, sets, samples):
    """Return the percentages for average precision, Brier score, slope and intercept of calibrated probabilities."""
    from minicnn.evaluation.calibration import calibration_lines, logits, squared_errors

    mu, held = math.sqrt(2) * NORMAL.inv_cdf(truth), np.zeros(4)
    rng, true = np.random.default_rng([patients, int(10 * correlation), sets]), truths(mu)
    for _ in range(sets):
        clusters, positive = clustered(rng, patients)
        p = 1 / (1 + np.exp(mu * mu / 2 - mu * scores_of(rng, clusters, positive, correlation, truth)))
        z, squares, ones = logits(p), squared_errors(positive, p), np.ones(len(p))

        def statistic(weights):
            return np.column_stack([intervals.average_precisions(positive, p, weights),
                                    intervals.ratios(squares, ones, weights), calibration_lines(positive, z, weights)])
        found = intervals.bootstrap(statistic, clusters, ["ap", "brier", "slope", "intercept"], samples)
        held += [interval.low <= value <= interval.high for interval, value in zip(found.values(), true)]
    return dict(zip(found, (100 * held / sets).tolist()))


def test_bootstrap_intervals_cover():
    """60 sets of 150 patients: the percentage has a standard deviation of 2.8, so the band begins at 86."""
    for name, percent in bootstrap_coverage(150, 0.4, 0.85, 60, 200).items():
        assert percent >= 86, (name, percent)


@pytest.mark.soak
@pytest.mark.parametrize("correlation", [0.0, 0.4])
@pytest.mark.parametrize("truth", [0.80, 0.95])
def test_bootstrap_intervals_cover_in_six_hundred_sets(truth, correlation):
    percents = bootstrap_coverage(150, correlation, truth, 600, 400)
    print(truth, correlation, percents)
    for name, percent in percents.items():
        assert 91.5 <= percent <= 98, (name, percent)


# ---- DeLong and Obuchowski -------------------------------------------------------------------------------------------

def slow_variance(labels, scores, clusters):
    """Obuchowski (1997), word by word, with loops."""
    X = [(s, c) for l, s, c in zip(labels, scores, clusters) if l == 1]
    Y = [(s, c) for l, s, c in zip(labels, scores, clusters) if l == 0]
    psi = lambda x, y: 1.0 if x > y else 0.5 if x == y else 0.0
    theta = sum(psi(x, y) for x, _ in X for y, _ in Y) / (len(X) * len(Y))
    V10 = [(sum(psi(x, y) for y, _ in Y) / len(Y), c) for x, c in X]
    V01 = [(sum(psi(x, y) for x, _ in X) / len(X), c) for y, c in Y]
    people = sorted(set(clusters))
    of_x = {i: sum(v for v, c in V10 if c == i) - theta * sum(c == i for _, c in X) for i in people}
    of_y = {i: sum(v for v, c in V01 if c == i) - theta * sum(c == i for _, c in Y) for i in people}
    I10, I01, I = len({c for _, c in X}), len({c for _, c in Y}), len(people)
    S10 = I10 / ((I10 - 1) * len(X)) * sum(v**2 for v in of_x.values())
    S01 = I01 / ((I01 - 1) * len(Y)) * sum(v**2 for v in of_y.values())
    S11 = I / (I - 1) * sum(of_x[i] * of_y[i] for i in people)
    return S10 / len(X) + S01 / len(Y) + 2 * S11 / (len(X) * len(Y))


@given(IMAGES)
def test_the_variance_of_the_auc_is_that_of_the_slow_formula(images):
    labels, scores, clusters = (np.array(column) for column in zip(*images))
    value, interval = intervals.auc_interval(labels, scores, clusters)
    if min(len(set(clusters[labels == c])) for c in (0, 1)) < 2:
        assert interval.low is None and interval.reason
        return
    assert value == pytest.approx(sklearn.metrics.roc_auc_score(labels, scores), rel=1e-12)
    numbers = intervals.as_clusters(clusters, len(labels))
    fast = intervals.auc_variance(labels == 1, scores, numbers)
    assert fast == pytest.approx(slow_variance(labels, scores, clusters.tolist()), rel=1e-9, abs=1e-14)
    if interval.low is not None:
        assert 0 <= interval.low <= value <= interval.high <= 1


@given(IMAGES)
def test_without_clusters_it_is_delongs(images):
    labels, scores, _ = (np.array(column) for column in zip(*images))
    if min((labels == 0).sum(), (labels == 1).sum()) < 2:
        return
    x, y = scores[labels == 1], scores[labels == 0]
    wins = (x[:, None] > y) + 0.5 * (x[:, None] == y)
    classic = wins.mean(axis=1).var(ddof=1) / len(x) + wins.mean(axis=0).var(ddof=1) / len(y)
    assert intervals.auc_variance(labels == 1, scores, np.arange(len(labels))) == pytest.approx(classic, abs=1e-14)


def test_repeated_images_add_no_information():
    """Every patient's only image, five times: the same interval as once, for proportions, AUC and bootstrap."""
    rng = np.random.default_rng(2)
    labels, scores = rng.integers(0, 2, 80), rng.random(80)
    scores = np.clip(scores + 0.3 * labels, 0, 1.3) / 1.3
    five, who = np.repeat(np.arange(80), 5), np.repeat(np.arange(80), 5)
    np.testing.assert_allclose(intervals.auc_interval(labels[five], scores[five], who)[1][:2],
                               intervals.auc_interval(labels, scores)[1][:2], rtol=1e-9)
    hits = (scores > 0.5) == labels
    many, once = (intervals.proportion_interval(h, h | True, c)[1] for h, c in ((hits[five], who), (hits, None)))
    np.testing.assert_allclose(many[:2], once[:2], atol=2e-3)
    mean = lambda values: lambda weights: intervals.ratios(values, np.ones(len(values)), weights)[:, np.newaxis]
    many, once = (intervals.bootstrap(mean(s), c, ["x"], 300)["x"]
                  for s, c in ((scores[five], who), (scores, np.arange(80))))
    np.testing.assert_allclose(many[:2], once[:2], rtol=1e-9)


@given(st.integers(1, 40), st.integers(1, 40))
def test_a_proportion_without_clusters_is_wilsons(hits, misses):
    n = hits + misses
    _, interval = intervals.proportion_interval([1] * hits + [0] * misses, [1] * n)
    for q in interval[:2]:      # both ends lie t standard errors of their own from the share
        t = abs(hits / n - q) / math.sqrt(q * (1 - q) / n)
        assert t == pytest.approx(intervals._student(n - 1), rel=1e-9)


def test_students_t_is_scipys():
    from scipy import stats
    for degrees in (1, 2, 3, 4, 7, 20, 100, 10_000):
        assert intervals._student(degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=2e-3)


# ---- Degenerate cases ------------------------------------------------------------------------------------------------

def test_degenerate_cases_are_defined_or_have_reasons():
    two = [0, 0, 0, 1, 1, 1]
    assert intervals.auc_interval([1, 1], [0.2, 0.3]) == (None, (None, None, 2, "all samples have the same label"))
    assert intervals.auc_interval(two, [0.5] * 6)[1].reason == "the probabilities do not vary between patients"
    assert intervals.auc_interval(two, [0.1, 0.5, 0.3, 0.4, 0.9, 0.8], [0, 1, 2, 3, 3, 3])[1].reason == \
        "all positive images are of one patient"
    assert intervals.auc_interval(two, [0.1, 0.5, 0.3, 0.4, 0.9, 0.8], [3, 3, 3, 0, 1, 2])[1].reason == \
        "all negative images are of one patient"
    value, interval = intervals.proportion_interval([1, 1, 0], [1, 1, 1], [4, 4, 4])
    assert value == pytest.approx(2 / 3) and interval[:2] == (None, None)
    assert interval.reason == "the images that it counts are of one patient"
    assert intervals.proportion_interval([1, 0], [0, 0]) == (None, (None, None, 0, "no image is counted"))
    assert intervals.f1_interval([0, 0], [0, 0]) == (None, (None, None, 0, "no sample is positive or was predicted so"))
    constant = lambda weights: np.ones((len(weights), 1))
    assert intervals.bootstrap(constant, np.arange(9), ["x"])["x"].reason == \
        "it is the same in all samples drawn with replacement"
    assert intervals.bootstrap(constant, np.zeros(9, np.int64), ["x"])["x"].reason == "all images are of one patient"
    never = lambda weights: np.full((len(weights), 1), np.nan)
    assert intervals.bootstrap(never, np.arange(9), ["x"], 40)["x"].reason == \
        "it is undefined in 40 of 40 samples drawn with replacement"


def test_a_perfect_score_has_an_interval():
    value, interval = intervals.proportion_interval([1] * 40, [1] * 40)
    assert value == 1 and interval.high == 1 and 0.85 < interval.low < 0.93
    _, fewer = intervals.proportion_interval([1] * 40, [1] * 40, np.repeat(np.arange(10), 4))     # 40 images of 10 patients
    assert 0.60 < fewer.low < 0.75
    value, interval = intervals.auc_interval([0] * 20 + [1] * 20, [0.1] * 20 + [0.9] * 20)
    assert value == 1 and interval.high == 1 and 0.80 < interval.low < 0.96
    value, turned = intervals.auc_interval([1] * 20 + [0] * 20, [0.1] * 20 + [0.9] * 20)
    assert value == 0 and turned.low == 0 and turned.high == pytest.approx(1 - interval.low)
    assert intervals.auc_interval([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9])[1].low < 0.5
    assert intervals.f1_interval([1] * 40, [1] * 40)[1].low > intervals.proportion_interval([1] * 40, [1] * 40)[1].low


def test_few_patients_are_approximate():
    assert intervals.proportion_interval([1, 0] * 25, [1] * 50)[1].is_approximate is False
    assert intervals.proportion_interval([1, 0] * 25, [1] * 50, np.arange(50) // 2)[1].is_approximate is True


def test_the_bootstrap_draws_whole_patients_and_the_same_each_time():
    clusters = np.array([0, 0, 1, 2, 2, 2])
    weights = np.concatenate(list(intervals.resamples(clusters, 200, seed=3)))
    assert weights.shape == (200, 6) and (weights[:, 0] == weights[:, 1]).all()
    assert (weights[:, [0, 2, 3]].sum(axis=1) == 3).all() and len(np.unique(weights, axis=0)) == 10
    np.testing.assert_array_equal(weights, np.concatenate(list(intervals.resamples(clusters, 200, seed=3))))
    assert (weights != np.concatenate(list(intervals.resamples(clusters, 200, seed=4)))).any()


def test_invalid_clusters_are_refused():
    with pytest.raises(ShapeError, match=r"clusters: expected one number for each of the 3 images, got shape \(2,\)"):
        intervals.auc_interval([0, 1, 1], [0.1, 0.2, 0.3], [0, 1])
    with pytest.raises(InputError, match="clusters: expected whole numbers. For names of patients see"):
        intervals.proportion_interval([1, 0], [1, 1], [0.5, 1])
    with pytest.raises(ShapeError, match=r"proportion_interval: expected hits and counted .* got \(2,\) and"):
        intervals.proportion_interval([1, 0], [1])


@given(IMAGES, st.integers(0, 2**32 - 1))
def test_weights_are_equivalent_to_repeated_images(images, seed):
    """A row of weights gives what repeating the images gives: against scikit-learn, ties and all."""
    labels, scores, _ = (np.array(column) for column in zip(*images))
    weights = np.random.default_rng(seed).integers(0, 4, len(labels))
    repeated = np.repeat(np.arange(len(labels)), weights)
    row = weights[np.newaxis].astype(float)
    area = intervals.aucs(labels == 1, scores, row)[0]
    ap = intervals.average_precisions(labels == 1, scores, row)[0]
    if len(set(labels[repeated])) < 2:
        assert np.isnan(area) and np.isnan(ap)
        return
    assert area == pytest.approx(sklearn.metrics.roc_auc_score(labels[repeated], scores[repeated]), rel=1e-12)
    assert ap == pytest.approx(sklearn.metrics.average_precision_score(labels[repeated], scores[repeated]), rel=1e-12)
