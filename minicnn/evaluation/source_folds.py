"""Leave one source out: how well a network does on a collection that it has never seen a part of.

Where positives and negatives come from different places, most sources have one label only, and to hold one out alone
shows recall or specificity alone. So each source with positives is held out together with a part of the negatives'
patients:

    positive source unseen      test: all images of the source, and its share of the patients who have only negatives
                                training: everybody else. Recall is that of a source never seen; specificity that of
                                patients never seen, from sources that may be known
    negative source unseen      test: all images of a source without positives. Specificity alone is defined
"""

from dataclasses import dataclass

import numpy as np

from minicnn.core.random import Stream, check_seed, permutation
from minicnn.data.near_duplicates import clusters
from minicnn.data.split import groups, split_groups
from minicnn.errors import InputError, ManifestError, printable

__all__ = ["SourceFold", "leave_one_source_out", "patient_groups"]

_ROUND = 1      # the `epoch` word of our random numbers; the split by patient has 0


@dataclass(frozen=True, eq=False)
class SourceFold:
    """One source held out.

    Attributes
    ----------
    name : str, such as "positive source held out: cohen"
    source : str
    training, test : ndarrays of rows of the manifest, ascending; no patient and no picture is in both
    left_out : int; images in neither, for they are of people in the test part, or of an unknown source
    shows : tuple; of "recall", "specificity" and "auc" what the test part can show
    reason : str; why there is nothing to train on, or ""
    group : ndarray, shape (n,), int64; of all rows of the manifest: whom each image shows
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
        """Return (training, validation, test), three manifests; the first two by patient, from the training rows.

        Raises
        ------
        ManifestError : nothing to train on, or too few patients for two parts
        """
        if self.reason:
            raise ManifestError(f"{self.name}: {self.reason}.")
        _, group = np.unique(self.group[self.training], return_inverse=True)
        part = split_groups(group, manifest.labels[self.training], (1 - validation, validation), seed, manifest.classes)
        return (manifest.subset(self.training[part == 0]), manifest.subset(self.training[part == 1]),
                manifest.subset(self.test))


def patient_groups(manifest, preprocessing=None, workers=None, progress=False):
    """Return the group of each image: patients, joined where they have the same picture, exact, altered or mirrored."""
    whole = manifest.prepared(preprocessing, workers, progress)
    return groups(whole.patients, clusters(whole.pixels))


def leave_one_source_out(manifest, group=None, seed=0):
    """Return a SourceFold for each source: those with positives first, then those with negatives alone, by name.

    The patients who have only negatives are shuffled and shared out among the sources with positives: each is held out
    with one of these, and with the source of their own images. Images of an unknown source may be from the one held
    out: they are in no part.

    Parameters
    ----------
    manifest : Manifest of two classes, with sources
    group : ndarray, shape (n,), int64, optional; by default `patient_groups(manifest)`
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
        raise ManifestError(f"leave one source out: there {held}. Name where each image comes from in a column source "
                            "(--columns source=...).")
    group = patient_groups(manifest) if group is None else np.unique(group, return_inverse=True)[1]
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
    """Return (rows,) the number of the share of each image of those who have only negatives, -1 for the others.

    Shares are of equal numbers of images, as nearly as the patients allow.
    """
    n_groups = int(group.max()) + 1
    ill = np.zeros(n_groups, bool)
    ill[group[positive]] = True
    size, order = np.bincount(group, minlength=n_groups), permutation(seed, Stream.SPLIT, _ROUND, n_groups)
    order = order[~ill[order]]
    share = np.full(n_groups, -1)
    middle = np.cumsum(size[order]) - size[order] / 2
    share[order] = np.minimum(middle * n / max(1, size[order].sum()), n - 1).astype(int)
    return share[group]


def _fold(manifest, group, source, kind, test, held):
    """Return the SourceFold of a source, given which rows are tested and which show somebody who is."""
    positive = manifest.labels == 1
    training = ~held & (manifest.sources != "") & (manifest.sources != source)
    lacking = [manifest.classes[label] for label in (0, 1) if not (manifest.labels[training] == label).any()]
    shows = (("recall",) if positive[test].any() else ()) + (("specificity",) if not positive[test].all() else ())
    reason = f"without it there is no image of {' and of '.join(lacking)} to train on" if lacking else ""
    return SourceFold(f"{kind} source held out: {printable(source)}", source, np.flatnonzero(training),
                      np.flatnonzero(test), int((~training & ~test).sum()),
                      shows + (("auc",) if len(shows) == 2 else ()), reason, group)
