"""Metrics of systems that were trained repeatedly on the same patients, and their paired differences.

A repeat is a seed, whose test set is a part of the images, or all folds of a cross-validation, which together are all images once.
Accuracy is that of all classes; recall, specificity and AUC are of the second class, against all others. Proportions are those of
all predictions together, the AUC is the mean over the repeats. Intervals resample patients, each with all predictions about them.
"""

from dataclasses import dataclass

import numpy as np

from minicnn.evaluation.comparison import mcnemar
from minicnn.evaluation.intervals import aucs, auc_interval, bootstrap, interval_fields, proportion_interval, ratios

__all__ = ["METRICS", "Predictions", "measured", "difference"]

METRICS = ("accuracy", "recall", "specificity", "auc")


@dataclass(frozen=True, eq=False)
class Predictions:
    """What the networks of a system predict for images that they have not seen.

    Parameters
    ----------
    names : list of n str; the image of each prediction
    repeats : ndarray (n,), int
    patients : ndarray (n,), int; the cluster of each image
    labels : ndarray (n,), int
    outputs : ndarray (n, k); probabilities of k classes, or of the second of two
    """

    names: list
    repeats: np.ndarray
    patients: np.ndarray
    labels: np.ndarray
    outputs: np.ndarray

    @property
    def predicted(self):
        """The number of the predicted class, (n,)."""
        return (self.outputs[:, 0] > 0.5).astype(int) if self.outputs.shape[1] == 1 else self.outputs.argmax(axis=1)

    @property
    def scores(self):
        """The probability of the second class, (n,)."""
        return self.outputs[:, -1 if self.outputs.shape[1] == 1 else 1].astype(np.float64)

    @property
    def clusters(self):
        """The patients, as numbers from 0."""
        return np.unique(self.patients, return_inverse=True)[1]

    def take(self, rows):
        """Return the predictions with these numbers."""
        return Predictions([self.names[row] for row in rows], *(column[rows] for column in (
            self.repeats, self.patients, self.labels, self.outputs)))

    def statistic(self):
        """Return the function from weights (see intervals.py) to METRICS: ndarray (b, 4)."""
        positive, predicted, scores = self.labels == 1, self.predicted, self.scores
        parts = [np.flatnonzero(self.repeats == repeat) for repeat in np.unique(self.repeats)]

        def values(weights):
            area = np.mean([aucs(positive[part], scores[part], weights[:, part]) for part in parts], axis=0)
            return np.column_stack([ratios(predicted == self.labels, np.ones(len(scores)), weights),
                                    ratios(positive & (predicted == 1), positive, weights),
                                    ratios(~positive & (predicted != 1), ~positive, weights), area])
        return values


def measured(told):
    """Return a summary (evaluation/summary.py) of Predictions: METRICS with their intervals, n, patients.

    >>> one = Predictions(list("abcd"), np.zeros(4), np.arange(4), np.array([0, 0, 1, 1]), np.array([[0.1], [0.6], [0.7], [0.9]]))
    >>> measured(one)["accuracy"], measured(one)["auc"]
    (0.75, 1.0)
    """
    positive, predicted, clusters = told.labels == 1, told.predicted, told.clusters
    values = dict(zip(METRICS, told.statistic()(np.ones((1, len(told.labels))))[0]))
    bounds = {"accuracy": proportion_interval(predicted == told.labels, positive | True, clusters)[1],
              "recall": proportion_interval(predicted == 1, positive, clusters)[1],
              "specificity": proportion_interval(predicted != 1, ~positive, clusters)[1],
              "auc": auc_interval(positive, told.scores, clusters)[1] if len(np.unique(told.repeats)) == 1 else
              bootstrap(lambda weights: told.statistic()(weights)[:, 3:], clusters, ["auc"])["auc"]}
    known = {name: float(value) if np.isfinite(value) else None for name, value in values.items()}
    return {"n": len(told.labels), "patients": int(clusters.max()) + 1, "images_of_unknown_patients": 0, **known,
            "undefined": {name: "a class is missing" for name, value in known.items() if value is None},
            **interval_fields({name: bounds[name] for name in METRICS if known[name] is not None})}


def difference(a, b):
    """Return how two systems differ on the predictions that both have, of the same repeat and image.

    Returns
    -------
    dict: n, METRICS ({metric: a - b or None}), intervals, no_interval, approximate; p_value of McNemar's test of the accuracy by patient
    (None where no patient tells them apart); None where they share no image

    >>> one = Predictions(list("abcd"), np.zeros(4), np.arange(4), np.array([0, 0, 1, 1]), np.array([[0.1], [0.6], [0.7], [0.9]]))
    >>> difference(one, one)["accuracy"], difference(one, one)["p_value"]
    (0.0, None)
    """
    places = {key: row for row, key in enumerate(zip(b.repeats.tolist(), b.names))}
    shared = [(row, places[key]) for row, key in enumerate(zip(a.repeats.tolist(), a.names)) if key in places]
    if not shared:
        return None
    a, b = (one.take(np.array(rows)) for one, rows in zip((a, b), zip(*shared)))
    of_a, of_b, clusters = a.statistic(), b.statistic(), a.clusters
    values = (of_a(np.ones((1, len(shared)))) - of_b(np.ones((1, len(shared)))))[0]
    known = {name: float(value) if np.isfinite(value) else None for name, value in zip(METRICS, values)}
    found = bootstrap(lambda weights: of_a(weights) - of_b(weights), clusters, METRICS)
    return {"n": len(shared), **known, **interval_fields({name: found[name] for name in METRICS if known[name] is not None}),
            "p_value": mcnemar(a.predicted == a.labels, b.predicted == b.labels, clusters)["p_value"]}
