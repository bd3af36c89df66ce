"""How well a label is predicted by what is not the lungs: logistic regression on each suspect alone, judged on patients
that it has not seen.

A network takes whatever tells the classes apart. If the header of the file does, or the border of the picture, or the
hospital it came from, then a high figure on such a collection says nothing about lungs (DeGrave, Janizek & Lee, Nature
Machine Intelligence 2021).
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from minicnn.core.random import Stream, permutation
from minicnn.data.split import split_groups
from minicnn.errors import ManifestError
from minicnn.evaluation import intervals
from minicnn.evaluation.explanation.border import border_mask
from minicnn.evaluation.regression import logistic_regression
from minicnn.reference import sigmoid

__all__ = ["Confounder", "examine", "sample", "logistic_regression", "held_out", "header_features", "border_features",
           "thumbnail_features", "source_features"]

FOLDS, BOUND = 5, 0.60
MOST_IMAGES = 5000          # of a larger collection, a sample of so many decides: the intervals are narrow enough


@dataclass(frozen=True)
class Confounder:
    """What one suspect tells of the label.

    Attributes
    ----------
    name : str, such as "border"
    against : str; the class that is told from the rest
    auc, low, high : float, with its 95 % interval; None where undefined
    reason : str; why, or ""
    judged : bool; an AUC whose lower bound exceeds 0.60 is a flaw of the collection
    approximate : bool; the interval rests on few patients
    """

    name: str
    against: str
    auc: float | None
    low: float | None
    high: float | None
    reason: str
    judged: bool
    approximate: bool = False

    @property
    def is_flagged(self):
        """Whether the collection gives its labels away by this."""
        return self.judged and self.low is not None and self.low > BOUND


def examine(name, features, labels, group, classes, judged=True, reason="", seed=0):
    """Return a Confounder for the positive class, or, of three or more classes, for each against the rest.

    Parameters
    ----------
    features : ndarray, shape (n, p), or None where there is nothing to look at, for the `reason`
    labels : ndarray, shape (n,), int64
    group : ndarray, shape (n,), int64; images of one number stay in one fold
    """
    suspects = []
    for c in range(len(classes)) if len(classes) > 2 else [1]:
        why, auc, low, high, approximate = reason, None, None, None, False
        if features is not None:
            try:
                auc, interval = intervals.auc_interval(labels == c, held_out(features, labels == c, group, seed), group)
                low, high, approximate = interval.low, interval.high, interval.is_approximate
                why = interval.reason or ""
            except ManifestError:
                why = f"too few patients to lay out {FOLDS} folds with both labels in each"
        suspects.append(Confounder(name, classes[c], auc, low, high, why, judged, approximate))
    return suspects


def sample(n, seed=0):
    """Return which of n images decide, in order: all, or `MOST_IMAGES` of them."""
    return np.sort(permutation(seed, Stream.CHECK, 0, n)[:MOST_IMAGES])


def held_out(features, positive, group, seed=0):
    """Return the probability of each image by a regression on the four fifths that its patient is not in: ndarray (n,).

    Raises ManifestError where a fold would lack a label.
    """
    fold = split_groups(group, positive.astype(np.int64), (1 / FOLDS,) * FOLDS, seed)
    scores = np.empty(len(positive))
    for number in range(FOLDS):
        train, test = fold != number, fold == number
        mean, deviation = features[train].mean(axis=0), features[train].std(axis=0)
        varies = deviation > 1e-9
        scaled = (features[:, varies] - mean[varies]) / deviation[varies]
        # A priori the log odds have a variance of about 1, however many features there are: each weight 1 / p of it.
        weights, = logistic_regression(scaled[train], positive[train], penalty=max(1, varies.sum()))
        scores[test] = weights[0] + scaled[test] @ weights[1:]
    return sigmoid(scores)


# ---- The suspects ----------------------------------------------------------------------------------------------------

def header_features(headers):
    """Return what the files' headers say as numbers, (n, p), or None where all say the same.

    Not the length of the file: it depends on what is in the picture.
    """
    sizes = np.array([(header.width, header.height) for header in headers], np.float64)
    plain = np.column_stack([np.log(sizes), np.log(sizes[:, 0] / sizes[:, 1]),
                             [(header.progressive, header.exif, header.icc, header.dpi, header.quality)
                              for header in headers]])
    features = np.hstack([plain, _indicators([header.format for header in headers]),
                          _indicators([header.mode for header in headers]),
                          _indicators([(header.width, header.height) for header in headers], least=5)])
    return features if (features != features[0]).any() else None


def border_features(pictures):
    """Return the outer eighth of each side at half the resolution: (n, 448), from 0 to 1.

    >>> border_features(np.zeros((2, 64, 64), np.uint8)).shape
    (2, 448)
    """
    return _shrunk(pictures, 32)[:, border_mask(32, 32)]


def thumbnail_features(pictures):
    """Return each picture as 8 x 8 means: (n, 64), from 0 to 1."""
    return _shrunk(pictures, 8).reshape(len(pictures), -1)


def source_features(sources):
    """Return a column for each source, (n, p), or None where there is one alone."""
    features = _indicators(list(sources))
    return features if features.shape[1] > 1 else None


def _indicators(words, least=1, most=50):
    """Return a column of 0 and 1 for each of the commonest words, (n, p)."""
    common = [word for word, count in Counter(words).most_common(most) if count >= least]
    places = {word: place for place, word in enumerate(sorted(common))}
    features = np.zeros((len(words), len(places)))
    for i, word in enumerate(words):
        if word in places:
            features[i, places[word]] = 1
    return features


def _shrunk(pictures, side):
    """Return means over equal squares of (n, 64, 64) pictures: (n, side, side), from 0 to 1."""
    n, step = len(pictures), pictures.shape[1] // side
    return pictures.reshape(n, side, step, side, step).mean(axis=(2, 4)) / 255
