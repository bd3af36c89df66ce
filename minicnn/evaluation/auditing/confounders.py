"""Confounders: how well the label is predicted without the lungs (logistic regression, cross-validation by patient).

A network learns whatever separates the classes. If the file header does, or the image border, or the source, then good
metrics on the collection say nothing about lungs (DeGrave, Janizek & Lee, Nature Machine Intelligence 2021).
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np

from minicnn.core.random import Stream, permutation
from minicnn.data.split import split_groups
from minicnn.errors import ManifestError, printable
from minicnn.evaluation import intervals
from minicnn.evaluation.explanation.border import border_mask
from minicnn.evaluation.regression import logistic_regression
from minicnn.reference import sigmoid

__all__ = ["Confounder", "examine", "sample", "logistic_regression", "held_out", "header_features", "border_features",
           "thumbnail_features", "source_features"]

FOLDS, BOUND = 5, 0.60
MOST_IMAGES = 5000          # a larger collection is sampled: the intervals are narrow enough


@dataclass(frozen=True)
class Confounder:
    """How well one property of the files predicts the label.

    Attributes
    ----------
    name : str, such as "border"
    against : str; the class that is predicted against the rest
    auc, low, high : float, the AUC and its 95 % interval; None where undefined
    reason : str; why undefined, or ""
    judged : bool; whether a lower bound above 0.60 is a problem of the collection
    approximate : bool; whether the interval is estimated from few patients
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
        """Whether this is a problem of the collection."""
        return self.judged and self.low is not None and self.low > BOUND


def examine(name, features, labels, group, classes, judged=True, reason="", seed=0, advance=lambda n=1: None):
    """Return a list of Confounder: one for the positive class, or, of three or more classes, one for each.

    Parameters
    ----------
    features : ndarray, shape (n, p), or None where there is a reason
    labels : ndarray, shape (n,), int64
    group : ndarray, shape (n,), int64; the images of one group are in one fold
    reason : why there are no features, or ""
    advance : function that is called with numbers of folds done: `FOLDS` in all for each Confounder
    """
    found = []
    for c in range(len(classes)) if len(classes) > 2 else [1]:
        why, auc, low, high, approximate = _one_label(labels == c, classes[c]) or reason, None, None, None, False
        if why:
            advance(FOLDS)
        else:
            try:
                scores = held_out(features, labels == c, group, seed, advance)
                auc, interval = intervals.auc_interval(labels == c, scores, group)
                low, high, approximate = interval.low, interval.high, interval.is_approximate
                why = interval.reason or ""
            except ManifestError:
                advance(FOLDS)
                held = [len(np.unique(group[those])) for those in (labels == c, labels != c)]
                why = (f"too few patients for {FOLDS} folds with both labels in each: {held[0]:,} of "
                       f"{printable(classes[c])}, {held[1]:,} of the rest")
        found.append(Confounder(name, classes[c], auc, low, high, why, judged, approximate))
    return found


def _one_label(positive, name):
    """Return why nothing can be told apart, or an empty text."""
    return "" if len(np.unique(positive)) > 1 else \
        f"{'all images are' if positive[0] else 'there is no image'} of {printable(name)}"


def sample(n, seed=0):
    """Return the numbers of at most `MOST_IMAGES` of n images, ascending."""
    return np.sort(permutation(seed, Stream.CHECK, 0, n)[:MOST_IMAGES])


def held_out(features, positive, group, seed=0, advance=lambda n=1: None):
    """Return the probability of each image by a regression on the other folds: ndarray (n,).

    Raises
    ------
    ManifestError : a fold would lack a label
    """
    fold = split_groups(group, positive.astype(np.int64), (1 / FOLDS,) * FOLDS, seed)
    scores = np.empty(len(positive))
    for number in range(FOLDS):
        train, test = fold != number, fold == number
        mean, deviation = features[train].mean(axis=0), features[train].std(axis=0)
        varies = deviation > 1e-9
        scaled = (features[:, varies] - mean[varies]) / deviation[varies]
        # A prior under which the log odds have a variance of about 1 for any number of features p: 1 / p each.
        weights, = logistic_regression(scaled[train], positive[train], penalty=max(1, varies.sum()))
        scores[test] = weights[0] + scaled[test] @ weights[1:]
        advance()
    return sigmoid(scores)


# ---- Features --------------------------------------------------------------------------------------------------------

def header_features(headers):
    """Return the files' headers as numbers, (n, p), or None where all are the same.

    The length of the file is not used: it depends on the content of the image.
    """
    sizes = np.array([(header.width, header.height) for header in headers], np.float64)
    plain = np.column_stack([np.log(sizes), np.log(sizes[:, 0] / sizes[:, 1]),
                             [(header.progressive, header.exif, header.icc, header.dpi, header.quality)
                              for header in headers]])
    features = np.hstack([plain, _indicators([header.format for header in headers]),
                          _indicators([header.mode for header in headers]),
                          _indicators([(header.width, header.height) for header in headers], least=5)])
    return features if (features != features[0]).any() else None


def border_features(images):
    """Return the outer eighth of each side at half the resolution: (n, 448), from 0 to 1.

    >>> border_features(np.zeros((2, 64, 64), np.uint8)).shape
    (2, 448)
    """
    return _shrunk(images, 32)[:, border_mask(32, 32)]


def thumbnail_features(images):
    """Return each image as 8 x 8 means: (n, 64), from 0 to 1."""
    return _shrunk(images, 8).reshape(len(images), -1)


def source_features(sources):
    """Return a column for each source, (n, p), or None where there is only one."""
    features = _indicators(list(sources))
    return features if features.shape[1] > 1 else None


def _indicators(words, least=1, most=50):
    """Return a column of 0 and 1 for each of the commonest words, (n, p)."""
    common = sorted(word for word, count in Counter(words).most_common(most) if count >= least)
    return np.array([[word == one for one in common] for word in words], np.float64)


def _shrunk(images, side):
    """Return means over equal squares of (n, 64, 64) images: (n, side, side), from 0 to 1."""
    n, step = len(images), images.shape[1] // side
    return images.reshape(n, side, step, side, step).mean(axis=(2, 4)) / 255
