"""The operating point of a network: decision threshold, abstention interval and temperature, chosen on validation.

A metric at a threshold that was chosen on the same images is optimistic. All choices are therefore made once, on the
validation set, kept in the run folder as `decision.json`, and only applied afterwards.
"""

from dataclasses import asdict, dataclass, field

import numpy as np

from minicnn import metrics
from minicnn.core.arguments import OrNone, Real, check, check_all
from minicnn.core.text import percent
from minicnn.core.untrusted import check_fields
from minicnn.errors import InputError, printable
from minicnn.evaluation.calibration import apply_temperature, fit_temperature

__all__ = ["OperatingPoint", "fit_operating_point", "FILE", "ABSTAINS"]

FILE = "decision.json"
ABSTAINS = "abstains"
MISSED = 0.05       # the proportion of each label that may lie on the wrong side of the abstention interval
_LIMITS = {"threshold": OrNone(Real(0, 1, "[]")), "temperature": OrNone(Real(0, 1e9, "()"))}
_NAMES = ("threshold", "abstain", "temperature")


@dataclass(frozen=True)
class OperatingPoint:
    """What was chosen on the validation set; None where that was not possible, with the reason in `undefined`.

    Parameters
    ----------
    threshold : float or None; positive where p > threshold
    abstain : (low, high) or None; no decision where low < p <= high; never where they are equal
    temperature : float or None; see `calibration.apply_temperature`
    undefined : {name of one of these: reason}

    Raises
    ------
    InputError : values out of range, since a decision.json may be of unknown origin
    """

    threshold: float | None = None
    abstain: tuple | None = None
    temperature: float | None = None
    undefined: dict = field(default_factory=dict)

    def __post_init__(self):
        owner, bound = "decision", Real(0, 1, "[]")
        check_all(owner, _LIMITS, {name: getattr(self, name) for name in _LIMITS})
        if self.abstain is not None:
            pair = tuple(self.abstain) if isinstance(self.abstain, (list, tuple)) else ()
            if len(pair) != 2 or check(owner, "abstain", pair[0], bound) > check(owner, "abstain", pair[1], bound):
                raise InputError(f"{owner}: abstain must be two bounds in ascending order, got "
                                 f"{printable(self.abstain)[:80]}.")
            object.__setattr__(self, "abstain", pair)
        check_fields(f"{owner}: undefined", self.undefined, (), _NAMES)
        if not all(isinstance(reason, str) and reason.isprintable() for reason in self.undefined.values()):
            raise InputError(f"{owner}: undefined must hold printable reasons.")

    @classmethod
    def read(cls, run):
        """Return the operating point of a RunFolder, or None if it has none: a run of an earlier version."""
        path = run.path / FILE
        if not path.exists():
            return None
        try:
            content = run.read_json(FILE)
            check_fields("decision", content, (), (*_NAMES, "undefined"))
            return cls(**content)
        except InputError as error:
            raise InputError(f"{printable(path)}: {error} Evaluate the weights file instead of the run folder."
                             ) from None

    def write(self, run):
        """Write the operating point to a RunFolder."""
        run.write_json(FILE, asdict(self))

    def calibrated(self, probabilities):
        """Return the probabilities at the temperature, or unchanged without one."""
        return probabilities if self.temperature is None else apply_temperature(probabilities, self.temperature)

    def abstains(self, probabilities):
        """Return for each probability of class 1 whether it lies in the abstention interval: ndarray of bool.

        >>> OperatingPoint(abstain=(0.2, 0.8)).abstains([0.1, 0.5, 0.9])
        array([False,  True, False])
        """
        p = np.asarray(probabilities, np.float64)
        return np.zeros(p.shape, bool) if self.abstain is None else (self.abstain[0] < p) & (p <= self.abstain[1])

    @property
    def bounds(self):
        """(low, high): with two classes the first is decided where p <= low, the second where p > high.

        They are those of the abstention interval, wherever 0.5 lies; else both are the threshold, or 0.5 without one.
        """
        return self.abstain or (0.5 if self.threshold is None else self.threshold,) * 2

    def decisions(self, probabilities, classes):
        """Return the decision for each probability of class 1, before calibration: a class, or "abstains".

        >>> OperatingPoint(abstain=(0.6, 0.8)).decisions([0.55, 0.7, 0.9], ["normal", "covid"])
        ['normal', 'abstains', 'covid']
        """
        return [ABSTAINS if doubtful else classes[int(p > self.bounds[1])]
                for p, doubtful in zip(probabilities, self.abstains(probabilities))]

    def sentences(self, classes, digits=4):
        """Return how decisions are made, and what the probabilities are, as sentences; bounds have so many digits.

        >>> print(*OperatingPoint(threshold=0.3).sentences(["normal", "covid"]), sep="\\n")
        The decision is covid where p_covid > 0.3, otherwise normal: this threshold was fixed on the validation set.
        It never abstains: no interval was fixed.
        The probabilities are not calibrated: no temperature was fixed.
        >>> print(OperatingPoint(temperature=1.5).sentences("abc")[1])
        The probabilities are calibrated, at the temperature 1.5 that was fixed on the validation set.
        """
        if len(classes) == 2:
            rule = self._rule(*map(printable, classes), digits)
        else:
            rule = ["The decision is the class with the largest probability; thresholds and abstention are for two "
                    "classes."]
        reason = self.undefined.get("temperature", "no temperature was fixed")
        said = " either." if reason in rule[-1] else f": {reason}."
        return [*rule, f"The probabilities are not calibrated{said}" if self.temperature is None else "The probabilities "
                f"are calibrated, at the temperature {self.temperature:.4g} that was fixed on the validation set."]

    def _rule(self, first, second, digits):
        low, high = (f"{bound:.{digits}f}".rstrip("0").rstrip(".") for bound in self.calibrated(self.bounds))
        before = "" if self.temperature is None or self.bounds == (0.5, 0.5) else \
            " (before calibration " + " and ".join(f"{bound:.4g}" for bound in dict.fromkeys(self.bounds)) + ")"
        if self.bounds[0] < self.bounds[1]:
            return [f"The decision is {second} where p_{second} > {high}, {first} where p_{second} <= {low}, and none "
                    f"in between, where it abstains: both bounds were fixed on the validation set{before}."]
        rule = f"The decision is {second} where p_{second} > {high}, otherwise {first}: "
        if self.abstain is None and self.threshold is None:
            return [f"{rule}no threshold was fixed on the validation set "
                    f"({self.undefined.get('threshold', 'there is none')})."]
        never = self.undefined.get("abstain", "no interval was fixed") if self.abstain is None else \
            "on the validation set this threshold separates the classes well enough"
        return [f"{rule}this threshold was fixed on the validation set{before}.", f"It never abstains: {never}."]


def fit_operating_point(labels, probabilities):
    """Return the OperatingPoint for these images, those of the validation set.

    Threshold: maximises recall + specificity (Youden, Cancer 3 (1950)); of equal ones the nearest to 0.5, halfway
    between two probabilities, or 0.5 itself. Abstention: at most 5 % of the positives lie at or below the lower bound,
    at most 5 % of the negatives above the upper one; where one threshold satisfies both, the network never abstains.
    Temperature: see `calibration.fit_temperature`.

    Parameters
    ----------
    labels : array-like, shape (n,); classes from 0
    probabilities : array-like, shape (n,) or (n, 1) of class 1; or (n, k), for which there is a temperature only

    Raises
    ------
    ShapeError, InputError : as `metrics.auc`

    >>> fit_operating_point([0, 0, 1, 0, 1, 1], [0.05, 0.2, 0.3, 0.4, 0.7, 0.9])
    OperatingPoint(threshold=0.5, abstain=(0.25, 0.5), temperature=0.705..., undefined={})
    """
    p = np.asarray(probabilities, np.float64)
    temperature, reason = fit_temperature(labels, p)
    undefined = {} if reason is None else {"temperature": reason}
    missing = None
    if p.ndim == 2 and p.shape[1] > 1:
        missing = "there are more than two classes" if p.shape[1] > 2 else "the network has an output for each class"
    elif metrics.auc(labels, p) is None:
        missing = "all images of the validation set have the same label"
    if missing:
        return OperatingPoint(None, None, temperature, dict.fromkeys(("threshold", "abstain"), missing) | undefined)
    labels, p = np.asarray(labels).reshape(-1), p.reshape(-1)
    cuts, recall, specificity = _cuts(labels == 1, p)
    youden = recall + specificity
    best = cuts[youden >= youden.max() - 1e-12]
    threshold = float(best[np.abs(best - 0.5).argmin()])
    if recall[0] < 1 - MISSED:
        reason = f"more than {percent(MISSED, 0)} of the positives of the validation set have the probability 0"
        return OperatingPoint(threshold, None, temperature, undefined | {"abstain": reason})
    low, high = cuts[recall >= 1 - MISSED].max(), cuts[specificity >= 1 - MISSED].min()
    abstain = (float(low), float(high)) if low < high else (threshold, threshold)
    return OperatingPoint(threshold, abstain, temperature, undefined)


def _cuts(positive, p):
    """Return all distinct thresholds, from 0 to 1, and recall and specificity at each: three ndarrays."""
    distinct = np.unique(p)
    lower, upper = np.concatenate([[0.0], distinct]), np.concatenate([distinct, [1.0]])
    # p > t is the same prediction for all lower <= t < upper; below the lowest probability all are positive.
    cuts = np.where((lower <= 0.5) & (0.5 < upper), 0.5, (lower + upper) / 2)
    held = np.sort(p[positive]), np.sort(p[~positive])
    below, right = (np.searchsorted(scores, cuts, "right") / len(scores) for scores in held)
    return cuts, 1 - below, right
