"""One figure from several seeds: the mean over the trainings, and an interval for it that knows patients.

Each seed gives a network of its own, and where a seed decides who is in the test part, images of its own. Shares of
images (accuracy, recall ...) are those of all seeds' answers taken together; the AUC and what is not a share is the mean
over the seeds, for probabilities of different networks are on scales of their own. A patient whom several seeds tested is
one patient: the intervals draw patients, and with each all answers about them.
"""

from dataclasses import dataclass, replace

import numpy as np

from minicnn.evaluation import intervals
from minicnn.evaluation.summary import GROUPED, HEADS, SHARES, statistic, summarize

__all__ = ["Answers", "over_seeds"]

# As metrics.py says it.
_NOBODY = {"specificity": "no sample is negative", "recall": "no sample is positive",
           "precision": "no sample was predicted positive"}
_DRAWN = ("auc", "average_precision", "brier", "loss", "slope", "intercept")


@dataclass(frozen=True, eq=False)
class Answers:
    """What one network says of n images, of two classes.

    Parameters
    ----------
    labels : ndarray, shape (n,), 0 or 1
    probabilities : ndarray, shape (n,), float64, of class 1
    patients : ndarray, shape (n,), int64; whom each image shows, by the same numbers for all seeds
    columns : {name: n words}; source, view, sex, age
    threshold : float or None; fixed on validation
    loss : float or None; the network's own mean loss, from its logits
    """

    labels: np.ndarray
    probabilities: np.ndarray
    patients: np.ndarray
    columns: dict
    threshold: float | None = None
    loss: float | None = None

    def described(self):
        """Return the description (evaluation/summary.py) of these answers alone."""
        return summarize(self.labels, self.probabilities, self.patients, self.columns, self.threshold, self.loss)

    def subset(self, here):
        """Return the answers for some of the images, without columns."""
        return replace(self, labels=self.labels[here], probabilities=self.probabilities[here],
                       patients=self.patients[here], columns={}, loss=None)


def over_seeds(answers, descriptions, known=False):
    """Return the description of several seeds together.

    Parameters
    ----------
    answers : list of Answers, one for each seed
    descriptions : list of what `Answers.described` says of each
    known : bool; the networks were trained on these images: then no interval means anything, and there is none

    Returns
    -------
    dict: as from `summarize`, and `lowest` and `highest`, {metric: the least and the greatest of the seeds}. n and
    patients are those of one seed, on average

    >>> one = Answers(np.array([0, 0, 1, 1]), np.array([0.1, 0.6, 0.7, 0.9]), np.arange(4), {})
    >>> other = replace(one, probabilities=np.array([0.1, 0.2, 0.7, 0.9]))
    >>> both = over_seeds([one, other], [one.described(), other.described()])
    >>> both["accuracy"], both["lowest"]["accuracy"], both["highest"]["accuracy"], both["n"]
    (0.875, 0.75, 1.0, 4)
    """
    told = _together(_shares_of(answers, [one.probabilities > 0.5 for one in answers]), _means_of(answers, descriptions))
    told["n"] = round(np.mean([one["n"] for one in descriptions]))
    told["patients"] = round(np.mean([one["patients"] for one in descriptions]))
    if known:
        told["intervals"], told["approximate"] = {}, []
        told["no_interval"] = dict.fromkeys((name for name in HEADS if told.get(name) is not None and name != "n"),
                                            "the network was trained on these images")
    for word, choose in (("lowest", min), ("highest", max)):
        values = {name: [one[name] for one in descriptions if one.get(name) is not None] for name in HEADS}
        told[word] = {name: choose(of_seeds) for name, of_seeds in values.items() if of_seeds}
    if all(one.threshold is not None for one in answers):
        fixed = _shares_of(answers, [one.probabilities > one.threshold for one in answers])
        told["at_threshold"] = {"threshold": float(np.mean([one.threshold for one in answers]))} | fixed
    columns = [name for name in answers[0].columns if all(name in one.columns for one in answers)]
    if columns:
        told["groups"] = {name: _by_word(answers, name) for name in columns}
    return told


def _shares_of(answers, predicted):
    """Return the shares of all answers taken together, with their intervals."""
    positive = np.concatenate([one.labels == 1 for one in answers])
    predicted, patients = np.concatenate(predicted), _patients(answers)
    found = intervals.threshold_intervals(positive, predicted, patients)
    told = {name: value for name, (value, _) in found.items()}
    told["undefined"] = {name: _NOBODY.get(name, bounds.reason) for name, (value, bounds) in found.items() if value is None}
    return told | intervals.interval_fields({name: bounds for name, (value, bounds) in found.items() if value is not None})


def _means_of(answers, descriptions, names=_DRAWN):
    """Return the means over the seeds of what is no share; with the shares' intervals and reasons kept beside."""
    told = {name: None if any(one[name] is None for one in descriptions)
            else float(np.mean([one[name] for one in descriptions])) for name in names}
    undefined = {name: next(one["undefined"].get(name, "it is undefined with one of the seeds") for one in descriptions
                            if one[name] is None) for name, value in told.items() if value is None}
    statistics = [statistic(one.labels, one.probabilities, names) for one in answers]
    ends = np.cumsum([len(one.labels) for one in answers])

    def mean(weights):
        return np.mean([of_seed(weights[:, end - len(one.labels):end])
                        for of_seed, end, one in zip(statistics, ends, answers)], axis=0)

    defined = [name for name in names if told[name] is not None]
    bounds = intervals.bootstrap(mean, _patients(answers), names) if defined else {}
    return told | {"undefined": undefined} | intervals.interval_fields({name: bounds[name] for name in defined})


def _together(*parts):
    """Return descriptions of different metrics as one."""
    told = {name: value for part in parts for name, value in part.items()}
    told |= {key: {name: value for part in parts for name, value in part[key].items()}
             for key in ("undefined", "intervals", "no_interval")}
    return told | {"approximate": [name for part in parts for name in part["approximate"]]}


def _by_word(answers, column):
    """Return {word: figures} of the images with each word, the most frequent first."""
    words = np.concatenate([np.array(one.columns[column], object) for one in answers])
    common, counts = np.unique(words.astype(str), return_counts=True)
    return {str(word): _of_group([one.subset(np.array(one.columns[column], object) == word) for one in answers])
            for word in common[np.argsort(-counts, kind="stable")]}


def _of_group(answers):
    answers = [one for one in answers if len(one.labels)]
    aucs = [intervals.auc_interval(one.labels, one.probabilities, one.patients)[0] for one in answers]
    told = _together(_shares_of(answers, [one.probabilities > 0.5 for one in answers]),
                     _means_of(answers, [{"auc": value, "undefined": {"auc": "all samples have the same label"}}
                                         for value in aucs], ("auc",)))
    told |= {key: {name: value for name, value in told[key].items() if name in GROUPED}
             for key in ("undefined", "intervals", "no_interval")}
    told["approximate"] = [name for name in told["approximate"] if name in GROUPED]
    return {name: value for name, value in told.items() if name not in SHARES or name in GROUPED} | {
        "n": round(np.mean([len(one.labels) for one in answers])),
        "patients": round(np.mean([len(np.unique(one.patients)) for one in answers]))}


def _patients(answers):
    return np.unique(np.concatenate([one.patients for one in answers]), return_inverse=True)[1]
