"""What a network says beyond a probability: the threshold, when to abstain, the temperature. All fixed on validation.

A figure at a threshold that was chosen on the same images is too good. So whatever can be chosen is chosen once, on the
validation part, is kept in the run folder as `decision.json`, and is only used afterwards.
"""

from dataclasses import asdict, dataclass, field, fields

import numpy as np

from minicnn import metrics
from minicnn.errors import InputError, printable
from minicnn.evaluation.calibration import apply_temperature, fit_temperature

__all__ = ["OperatingPoint", "fit_operating_point", "FILE", "ABSTAINS"]

FILE = "decision.json"
ABSTAINS = "abstains"
MISSED = 0.05       # the share of each label that may lie on the wrong side of the interval of abstention


@dataclass(frozen=True)
class OperatingPoint:
    """What was fixed on validation; None where it could not be, with the reason in `undefined`.

    Parameters
    ----------
    threshold : float or None; positive where p > threshold
    abstain : (low, high) or None; no answer where low < p <= high; never where they are equal
    temperature : float or None; see `calibration.apply_temperature`
    undefined : {name of one of these: reason}

    Raises
    ------
    InputError : values that cannot be; a decision.json may come from a stranger
    """

    threshold: float | None = None
    abstain: tuple | None = None
    temperature: float | None = None
    undefined: dict = field(default_factory=dict)

    def __post_init__(self):
        if self.abstain is not None:
            object.__setattr__(self, "abstain", tuple(self.abstain) if isinstance(self.abstain, (list, tuple)) else ())
        bounds = () if self.abstain is None else self.abstain
        possible = (_is_share(self.threshold) and (self.abstain is None or len(bounds) == 2)
                    and all(bound is not None and _is_share(bound) for bound in bounds)
                    and list(bounds) == sorted(bounds)
                    and (self.temperature is None or _is_number(self.temperature) and 0 < self.temperature < 1e9)
                    and isinstance(self.undefined, dict)
                    and set(self.undefined) <= {item.name for item in fields(self)} - {"undefined"}
                    and all(isinstance(reason, str) and reason.isprintable() for reason in self.undefined.values()))
        if not possible:
            raise InputError("decision: expected a threshold and abstention bounds from 0 to 1, a positive temperature "
                             "and reasons for what is missing. Evaluate the weights file instead of the run folder.")

    @classmethod
    def read(cls, run):
        """Return the decision of a RunFolder, or None where there is none: a run of an earlier version."""
        if not (run.path / FILE).exists():
            return None
        content = run.read_json(FILE)
        if not isinstance(content, dict) or not set(content) <= {item.name for item in fields(cls)}:
            raise InputError(f"{printable(run.path / FILE)}: not the decision of this version of minicnn.")
        try:
            return cls(**content)
        except InputError as error:
            raise InputError(f"{printable(run.path / FILE)}: {error}") from None

    def write(self, run):
        """Write the decision into a RunFolder."""
        run.write_json(FILE, asdict(self))

    def calibrated(self, probabilities):
        """Return the probabilities at the temperature, or as they are where there is none."""
        return probabilities if self.temperature is None else apply_temperature(probabilities, self.temperature)

    def abstains(self, probabilities):
        """Return for each probability of class 1 whether the network should rather give no answer: ndarray of bool.

        >>> OperatingPoint(abstain=(0.2, 0.8)).abstains([0.1, 0.5, 0.9])
        array([False,  True, False])
        """
        p = np.asarray(probabilities, np.float64)
        return np.zeros(p.shape, bool) if self.abstain is None else (self.abstain[0] < p) & (p <= self.abstain[1])

    def words(self, probabilities, classes):
        """Return what to say of each probability of class 1: a class, "abstains", or None where nothing is fixed.

        Below the interval of abstention the answer is the first class and above it the second, wherever 0.5 lies; where
        there is no interval the threshold divides.

        >>> OperatingPoint(abstain=(0.6, 0.8)).words([0.55, 0.7, 0.9], ["normal", "covid"])
        ['normal', 'abstains', 'covid']
        """
        if self.abstain is None and self.threshold is None:
            return [None] * len(probabilities)
        above = self.threshold if self.abstain is None else self.abstain[1]
        return [ABSTAINS if doubtful else classes[int(p > above)]
                for p, doubtful in zip(probabilities, self.abstains(probabilities))]

    def sentences(self):
        """Return what was fixed on validation, as sentences; of what was not, why.

        >>> print(*OperatingPoint(abstain=(0.2, 0.8), temperature=1.5).sentences(), sep="\\n")
        It abstains where 0.2 < p <= 0.8: an interval fixed on the validation part.
        Calibrated probabilities are at the temperature 1.5, fixed on the validation part.
        """
        if self.abstain is None:
            said = [f"It never abstains: {self.undefined.get('abstain', 'no interval was fixed')}."]
        elif self.abstain[0] == self.abstain[1]:
            said = [f"It never abstains: on the validation part p > {self.abstain[1]:.4g} divides the labels well "
                    "enough."]
        else:
            said = [f"It abstains where {self.abstain[0]:.4g} < p <= {self.abstain[1]:.4g}: an interval fixed on the "
                    "validation part."]
        if self.temperature is None:
            reason = self.undefined.get("temperature", "no temperature was fixed")
            return said + [f"No calibrated probabilities: {reason}."]
        return said + [f"Calibrated probabilities are at the temperature {self.temperature:.4g}, fixed on the "
                       "validation part."]


def fit_operating_point(labels, probabilities):
    """Return the OperatingPoint that these images, the validation part, call for.

    Threshold: the greatest sum of recall and specificity (Youden, Cancer 3 (1950)); of equals the one nearest to 0.5,
    halfway between two probabilities, or 0.5 itself. Abstention: at most 5 % of the positives lie at or below the lower
    bound, at most 5 % of the negatives above the upper one; where one threshold does for both, the network always
    answers. Temperature: see `calibration.fit_temperature`.

    Parameters
    ----------
    labels : array-like, shape (n,); classes from 0
    probabilities : array-like, shape (n,) or (n, 1) of class 1; or (n, k), for which there is a temperature alone

    >>> fit_operating_point([0, 0, 1, 0, 1, 1], [0.05, 0.2, 0.3, 0.4, 0.7, 0.9])
    OperatingPoint(threshold=0.5, abstain=(0.25, 0.5), temperature=0.705..., undefined={})
    """
    p = np.asarray(probabilities, np.float64)
    temperature, reason = fit_temperature(labels, p)
    undefined = {} if reason is None else {"temperature": reason}
    if p.ndim == 2 and p.shape[1] > 1:
        several = dict.fromkeys(("threshold", "abstain"), "there are more than two classes")
        return OperatingPoint(None, None, temperature, several | undefined)
    labels, p = np.asarray(labels).reshape(-1), p.reshape(-1)
    if metrics.auc(labels, p) is None:
        one = dict.fromkeys(("threshold", "abstain"), "all images of the validation part have the same label")
        return OperatingPoint(None, None, temperature, one | undefined)
    cuts, recall, specificity = _cuts(labels == 1, p)
    best = cuts[_largest(recall + specificity)]
    threshold = float(best[np.abs(best - 0.5).argmin()])
    if recall[0] < 1 - MISSED:
        reason = f"more than {MISSED:.0%} of the positives of the validation part have the probability 0"
        return OperatingPoint(threshold, None, temperature, undefined | {"abstain": reason.replace("%", " %")})
    low, high = cuts[recall >= 1 - MISSED].max(), cuts[specificity >= 1 - MISSED].min()
    abstain = (float(low), float(high)) if low < high else (threshold, threshold)
    return OperatingPoint(threshold, abstain, temperature, undefined)


def _cuts(positive, p):
    """Return all thresholds that differ, from 0 to 1, and recall and specificity at each: three ndarrays."""
    distinct = np.unique(p)
    lower, upper = np.concatenate([[0.0], distinct]), np.concatenate([distinct, [1.0]])
    # p > t is the same answer for all lower <= t < upper; below the lowest probability everything is positive.
    cuts = np.where((lower <= 0.5) & (0.5 < upper), 0.5, (lower + upper) / 2)
    held = np.sort(p[positive]), np.sort(p[~positive])
    below, right = (np.searchsorted(scores, cuts, "right") / len(scores) for scores in held)
    return cuts, 1 - below, right


def _largest(values):
    return values >= values.max() - 1e-12


def _is_number(value):
    return type(value) in (int, float)


def _is_share(value):
    return value is None or _is_number(value) and 0 <= value <= 1
