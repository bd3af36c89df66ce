"""Summaries over several seeds: means over the trainings, with patient-clustered intervals.

Each seed gives another network and, where the seed decides the split, another test set. Proportions of images
(accuracy, recall ...) are those of all predictions pooled. The AUC and metrics that are no proportions are means over
the seeds, because the probabilities of different networks are on different scales. A patient tested by several seeds is
one patient: the intervals resample patients, each with all predictions about them.
"""

from dataclasses import dataclass, replace

import numpy as np

from minicnn.evaluation import intervals
from minicnn.evaluation.summary import GROUPED, HEADS, SHARES, count_patients, statistic, summarize
from minicnn.metrics import REASONS

__all__ = ["Answers", "over_seeds"]

_PATIENTS = ("patients", "images_of_unknown_patients")
_MEANS = ("auc", "average_precision", "brier", "loss", "slope", "intercept")


@dataclass(frozen=True, eq=False)
class Answers:
    """The predictions of one network for n images of two classes.

    Parameters
    ----------
    labels : ndarray, shape (n,), 0 or 1
    probabilities : ndarray, shape (n,), float64, of class 1
    patients : ndarray, shape (n,), int64; the cluster of each image: its patient, with the same numbers for all seeds
    columns : {name: n words}; source, view, sex, age
    threshold : float or None; fixed on validation
    loss : float or None; the mean loss of the network, from its logits
    names : ndarray, shape (n,), of str, "" where the patient is unknown; None: all patients are known
    """

    labels: np.ndarray
    probabilities: np.ndarray
    patients: np.ndarray
    columns: dict
    threshold: float | None = None
    loss: float | None = None
    names: np.ndarray | None = None

    def summary(self):
        """Return the summary (evaluation/summary.py) of these answers alone."""
        return summarize(self.labels, self.probabilities, self.patients, self.columns, self.threshold, self.loss,
                         patients=self.names)

    def subset(self, here):
        """Return the answers for some of the images, without columns."""
        return replace(self, labels=self.labels[here], probabilities=self.probabilities[here],
                       patients=self.patients[here], columns={}, loss=None,
                       names=None if self.names is None else self.names[here])


def over_seeds(answers, summaries, trained_on=False):
    """Return the summary of several seeds together.

    Parameters
    ----------
    answers : list of Answers, one for each seed
    summaries : list of dict; `Answers.summary` of each
    trained_on : bool; the networks were trained on these images, so intervals would mean nothing and are left out

    Returns
    -------
    dict: a summary, with `lowest` and `highest`, {metric: the lowest and the highest value of the seeds}, which are
    empty with one seed: it has no spread. n and patients are means over the seeds

    >>> one = Answers(np.array([0, 0, 1, 1]), np.array([0.1, 0.6, 0.7, 0.9]), np.arange(4), {})
    >>> other = replace(one, probabilities=np.array([0.1, 0.2, 0.7, 0.9]))
    >>> both = over_seeds([one, other], [one.summary(), other.summary()])
    >>> both["accuracy"], both["lowest"]["accuracy"], both["highest"]["accuracy"], both["n"]
    (0.875, 0.75, 1.0, 4)
    """
    told = _merged(_proportions(answers, [one.probabilities > 0.5 for one in answers]), _means(answers, summaries))
    told |= {name: round(np.mean([one[name] for one in summaries])) for name in ("n", *_PATIENTS)}
    if trained_on:
        told["intervals"], told["approximate"] = {}, []
        told["no_interval"] = dict.fromkeys((name for name in HEADS if told.get(name) is not None and name != "n"),
                                            "the network was trained on these images")
    for word, choose in (("lowest", min), ("highest", max)):
        values = {name: [one[name] for one in summaries if one.get(name) is not None] for name in HEADS}
        told[word] = {name: choose(of_seeds) for name, of_seeds in values.items() if of_seeds and len(answers) > 1}
    if all(one.threshold is not None for one in answers):
        fixed = _proportions(answers, [one.probabilities > one.threshold for one in answers])
        told["at_threshold"] = {"threshold": float(np.mean([one.threshold for one in answers]))} | fixed
    columns = [name for name in answers[0].columns if all(name in one.columns for one in answers)]
    if columns:
        told["groups"] = {name: _by_word(answers, name) for name in columns}
    return told


def _proportions(answers, predicted, names=SHARES):
    """Return the proportions among all predictions pooled, with their intervals."""
    positive = np.concatenate([one.labels == 1 for one in answers])
    found = intervals.threshold_intervals(positive, np.concatenate(predicted), _patients(answers))
    found = {name: found[name] for name in found if name in names}
    told = {name: value for name, (value, _) in found.items()}
    told["undefined"] = {name: REASONS[name].format(this="positive", other="negative")
                         for name in found if told[name] is None}
    return told | intervals.interval_fields({name: found[name][1] for name in found if told[name] is not None})


def _means(answers, summaries, names=_MEANS):
    """Return the means of metrics over the seeds, with their intervals."""
    told = {name: None if any(one[name] is None for one in summaries)
            else float(np.mean([one[name] for one in summaries])) for name in names}
    undefined = {name: next(one["undefined"].get(name, "it is undefined with one of the seeds") for one in summaries
                            if one[name] is None) for name, value in told.items() if value is None}
    statistics = [statistic(one.labels, one.probabilities, names) for one in answers]
    ends = np.cumsum([len(one.labels) for one in answers])

    def mean(weights):
        return np.mean([of_seed(weights[:, end - len(one.labels):end])
                        for of_seed, end, one in zip(statistics, ends, answers)], axis=0)

    defined = [name for name in names if told[name] is not None]
    bounds = intervals.bootstrap(mean, _patients(answers), names) if defined else {}
    return told | {"undefined": undefined} | intervals.interval_fields({name: bounds[name] for name in defined})


def _merged(first, second):
    """Return two summaries of different metrics as one."""
    nested = {key: first[key] | second[key] for key in ("undefined", "intervals", "no_interval")}
    return first | second | nested | {"approximate": first["approximate"] + second["approximate"]}


def _by_word(answers, column):
    """Return {word: summary} of the images with each word, the most frequent first."""
    words = np.concatenate([np.array(one.columns[column], object) for one in answers])
    common, counts = np.unique(words.astype(str), return_counts=True)
    return {str(word): _of_group([one.subset(np.array(one.columns[column], object) == word) for one in answers])
            for word in common[np.argsort(-counts, kind="stable")]}


def _of_group(answers):
    answers = [one for one in answers if len(one.labels)]
    aucs = [{"auc": intervals.auc_interval(one.labels, one.probabilities, one.patients)[0],
             "undefined": {"auc": "all samples have the same label"}} for one in answers]
    counted = [{"n": len(one.labels)} | count_patients(one.names, one.patients, len(one.labels)) for one in answers]
    return _merged(_proportions(answers, [one.probabilities > 0.5 for one in answers], GROUPED),
                   _means(answers, aucs, ("auc",))) | {
        name: round(np.mean([one[name] for one in counted])) for name in ("n", *_PATIENTS)}


def _patients(answers):
    return np.unique(np.concatenate([one.patients for one in answers]), return_inverse=True)[1]
