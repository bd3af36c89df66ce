"""Leave-one-source-out splits: the test set is a source that the training set does not contain.

Where positives and negatives come from different sources, most sources have one label only, and holding one out gives
recall or specificity alone. Each source with positives is therefore held out together with some patients who have only
negative images:

    positive source held out    test: all images of the source, and its share of the patients with only negatives;
                                training: all others. Recall is that of the source left out; specificity that of other
                                patients, whose sources may occur in training
    negative source held out    test: all images of a source without positives. Only specificity is defined
"""

from dataclasses import dataclass

import numpy as np

from minicnn.core.random import Stream, check_seed, permutation
from minicnn.data.split import split_groups
from minicnn.errors import InputError, ManifestError, printable

__all__ = ["SourceFold", "leave_one_source_out"]

_ROUND = 1      # the `epoch` word of our random numbers; the split by patient has 0


@dataclass(frozen=True, eq=False)
class SourceFold:
    """One source held out.

    Attributes
    ----------
    name : str, such as "positive source held out: cohen"
    source : str
    training, test : ndarrays of rows of the manifest, ascending; no patient and no image is in both
    left_out : int; images in neither: of patients in the test set, or of an unknown source
    shows : tuple; those of "recall", "specificity" and "auc" that the test set defines
    reason : str; why training is not possible, or ""
    group : ndarray, shape (n,), int64; the patient of each row of the manifest
    """

    name: str
    source: str
    training: np.ndarray
    test: np.ndarray
    left_out: int
    shows: tuple
    reason: str
    group: np.ndarray

    def parts(self, manifest, validation=0.15, seed=0):
        """Return (training, validation, test), three manifests; the training rows are split by patient.

        Raises
        ------
        ManifestError : training is not possible, or too few patients for two sets
        """
        if self.reason:
            raise ManifestError(f"{self.name}: {self.reason}.")
        _, group = np.unique(self.group[self.training], return_inverse=True)
        part = split_groups(group, manifest.labels[self.training], (1 - validation, validation), seed, manifest.classes)
        return (manifest.subset(self.training[part == 0]), manifest.subset(self.training[part == 1]),
                manifest.subset(self.test))


def leave_one_source_out(manifest, group=None, seed=0):
    """Return a SourceFold for each source: first those with positives, then those with negatives only, by name.

    The patients with only negatives are shuffled and distributed among the sources with positives: each is held out
    with one of these, and with the source of their own images. Images of an unknown source may come from the source
    held out, so they are in no set.

    Parameters
    ----------
    manifest : Manifest of two classes, with sources
    group : ndarray, shape (n,), int64, optional; by default `manifest.patient_groups()`
    seed : int

    Raises
    ------
    InputError : other than two classes
    ManifestError : no source column, or one source only
    """
    if len(manifest.classes) != 2:
        raise InputError(f"leave one source out: expected two classes, got {', '.join(manifest.classes)}.")
    if manifest.sources is None or len(set(manifest.sources) - {""}) < 2:
        held = "is no source column" if manifest.sources is None else "are fewer than two known sources"
        raise ManifestError(f"leave one source out: there {held}. Give the source of each image in a column source "
                            "(--columns source=...).")
    group = manifest.patient_groups() if group is None else np.unique(group, return_inverse=True)[1]
    positive = manifest.labels == 1
    with_positives = sorted(set(manifest.sources[positive]) - {""})
    share = _shares(group, positive, len(with_positives), check_seed(seed))
    folds = []
    for number, source in enumerate(with_positives):
        held = np.isin(group, group[(manifest.sources == source) | (share == number)])
        test = (manifest.sources == source) | (held & (share == number) & (manifest.sources != ""))
        folds.append(_fold(manifest, group, source, "positive", test, held))
    for source in sorted(set(manifest.sources) - {"", *with_positives}):
        test = manifest.sources == source
        folds.append(_fold(manifest, group, source, "negative", test, np.isin(group, group[test])))
    return folds


def _shares(group, positive, n, seed):
    """Return the share, from 0 to n - 1, of each image of a patient with only negatives, -1 for the others: (rows,).

    Shares have about equal numbers of images.
    """
    n_groups = int(group.max()) + 1
    has_positives = np.zeros(n_groups, bool)
    has_positives[group[positive]] = True
    size, order = np.bincount(group, minlength=n_groups), permutation(seed, Stream.SPLIT, _ROUND, n_groups)
    order = order[~has_positives[order]]
    share = np.full(n_groups, -1)
    middle = np.cumsum(size[order]) - size[order] / 2
    share[order] = np.minimum(middle * n / max(1, size[order].sum()), n - 1).astype(int)
    return share[group]


def _fold(manifest, group, source, kind, test, held):
    """Return the SourceFold of a source, from the masks of the test rows and of all rows of their patients."""
    positive = manifest.labels == 1
    training = ~held & (manifest.sources != "") & (manifest.sources != source)
    lacking = [manifest.classes[label] for label in (0, 1) if not (manifest.labels[training] == label).any()]
    shows = (("recall",) if positive[test].any() else ()) + (("specificity",) if not positive[test].all() else ())
    reason = f"without it there is no image of {' and of '.join(lacking)} to train on" if lacking else ""
    return SourceFold(f"{kind} source held out: {printable(source)}", source, np.flatnonzero(training),
                      np.flatnonzero(test), int((~training & ~test).sum()),
                      shows + (("auc",) if len(shows) == 2 else ()), reason, group)
