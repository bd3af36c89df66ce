"""Metrics of a summary (evaluation/summary.py) as text, and sentences on what they show.

All conclusions follow from 95 % intervals. A metric is called better than chance where its whole interval is; two
values are called different where their intervals do not overlap, which is stricter than a test of the difference.
Without a value or an interval there is no conclusion, but the reason why.
"""

from minicnn.core.text import join, number
from minicnn.evaluation.summary import SHARES, heads

__all__ = ["APPROXIMATE", "SHORTCUT_CHECK", "UNKNOWN_PATIENTS", "bounds", "patients_cell", "why_missing",
           "value_and_interval", "is_approximate", "cell", "value_text", "why_none", "against_chance",
           "against_reported", "between", "generalizes", "difference"]

SHORTCUT_CHECK = ("The same images without their border, without their middle (where the lungs are), re-encoded, "
                  "inverted and blurred. A network that relies on the lungs keeps its predictions without the border "
                  "and loses them without the middle.")
APPROXIMATE = "~ approximate: the interval rests on fewer than 50 patients."
UNKNOWN_PATIENTS = ("n + m: n patients and m images of unknown patients, each of which the intervals take for a "
                    "patient of its own.")


def bounds(summary, metric):
    """Return the (low, high) of a metric of a summary, or None."""
    pair = ((summary or {}).get("intervals") or {}).get(metric)
    return None if pair is None else tuple(pair)


def value_and_interval(summary, metric):
    """Return a metric of a summary and its 95 % interval as texts; "" where there is no interval.

    >>> value_and_interval({"accuracy": 0.9, "intervals": {"accuracy": [0.812, 0.95]}}, "accuracy")
    ('90.0 %', '81.2 to 95.0')
    >>> value_and_interval({"auc": None}, "auc"), value_and_interval({"auc": 0.9}, "auc")
    (('undefined', ''), ('0.900', ''))
    """
    value, pair = summary.get(metric), bounds(summary, metric)
    if value is None:
        return "undefined", ""
    scale, form, unit = (100, "{:.1f}", " %") if metric in SHARES else (1, "{:.3f}", "")
    if metric in ("slope", "intercept"):
        form = "{:.2f}"
    text = form.format(scale * value) + unit
    return text, "" if pair is None else " to ".join(form.format(scale * bound) for bound in pair)


def patients_cell(summary):
    """Return the number of patients as a cell of a table, with that of images of unknown patients where there are any.

    >>> patients_cell({"patients": 87, "images_of_unknown_patients": 12}), patients_cell({"n": 3})
    ('87 + 12', 'not known')
    """
    known, unknown = (summary.get(name) for name in ("patients", "images_of_unknown_patients"))
    return "not known" if known is None else number(known) + (f" + {number(unknown)}" if unknown else "")


def why_missing(columns, metrics):
    """Return sentences: why metrics of {name: summary} are undefined or have no interval; what ~ and n + m mean.

    >>> summary = {"accuracy": 0.9, "auc": None, "undefined": {"auc": "all samples have the same label"},
    ...            "no_interval": {"accuracy": "there is one patient"}}
    >>> print(*why_missing({"test": summary, "external": summary}, ["accuracy", "auc"]), sep="\\n")
    test and external: no interval of accuracy, because there is one patient.
    test and external: undefined AUC, because all samples have the same label.
    """
    said, approximate, unknown, head = {}, False, False, heads(*columns.values())
    for name, summary in columns.items():
        unknown |= isinstance(summary, dict) and bool(summary.get("images_of_unknown_patients"))
        for metric in metrics:
            if summary is None or metric not in summary or isinstance(summary[metric], str):
                continue
            kind = "undefined" if summary[metric] is None else "no interval of"
            if kind == "undefined" or metric in (summary.get("no_interval") or {}):
                said.setdefault((name, kind, why_none(summary, metric)), []).append(head[metric])
            approximate |= is_approximate(summary, metric)
    names_of = {}
    for (name, kind, reason), of_reason in said.items():
        names_of.setdefault(f"{kind} {join(of_reason)}, because {reason}.", []).append(name)
    return [f"{join(names)}: {sentence}" for sentence, names in names_of.items()] + [APPROXIMATE] * approximate \
        + [UNKNOWN_PATIENTS] * unknown


def is_approximate(summary, metric):
    """Return whether the interval of a metric rests on few patients."""
    return metric in (summary.get("approximate") or ())


def cell(summary, metric):
    """Return a metric of a summary with its 95 % interval as text; ~ where that is approximate.

    >>> cell({"accuracy": 0.9, "intervals": {"accuracy": [0.812, 0.95]}, "approximate": ["accuracy"]}, "accuracy")
    '90.0 % (81.2 to 95.0)~'
    """
    value, interval = value_and_interval(summary, metric)
    return f"{value} ({interval}){'~' if is_approximate(summary, metric) else ''}" if interval else value


def value_text(summary, metric):
    """Return a metric with its interval as text for a sentence.

    >>> value_text({"accuracy": 0.9, "intervals": {"accuracy": [0.81, 0.95]}, "approximate": ["accuracy"]}, "accuracy")
    '90.0 % (81.0 to 95.0, approximate)'
    >>> value_text({"auc": None, "undefined": {"auc": "all samples have the same label"}}, "auc")
    'undefined (all samples have the same label)'
    """
    if not summary or summary.get(metric) is None:
        return f"undefined ({why_none(summary, metric)})"
    return cell(summary, metric).replace(")~", ", approximate)")


def why_none(summary, metric):
    """Return why there is no value, or no interval; "" where there are both."""
    if not summary:
        return "it was not measured"
    if summary.get(metric) is None:
        return (summary.get("undefined") or {}).get(metric, "it was not measured")
    if bounds(summary, metric) is None:
        return (summary.get("no_interval") or {}).get(metric, "no interval was computed")
    return ""


def against_chance(summary, metric="accuracy", counts=None):
    """Return how a metric compares with chance: an accuracy with the share of the larger class, an AUC with 0.5.

    Parameters
    ----------
    summary : a summary (evaluation/summary.py), or None
    counts : {class: number of images}; where None, both classes are taken to be of equal size

    >>> summary = {"accuracy": 0.9, "intervals": {"accuracy": [0.8, 0.95]}}
    >>> against_chance(summary)
    'better than chance'
    >>> against_chance(summary, counts={"normal": 85, "covid": 15})
    'not shown to be better than always predicting normal (85.0 %)'
    >>> against_chance({"accuracy": 0.5, "intervals": {"accuracy": [0.35, 0.65]}})
    'not shown to be better than chance'
    >>> against_chance({"auc": 0.3, "intervals": {"auc": [0.2, 0.4]}}, "auc")
    'worse than chance'
    >>> against_chance({"auc": 1.0, "no_interval": {"auc": "all positives score higher"}}, "auc")
    'no conclusion: all positives score higher'
    >>> against_chance(summary, counts={"normal": 0, "covid": 38})
    'no conclusion: all images are covid'
    """
    reason, pair = why_none(summary, metric), bounds(summary, metric)
    if reason:
        return f"no conclusion: {reason}"
    largest = max(counts, key=counts.get) if counts and metric == "accuracy" else None
    share = 0.5 if largest is None else max(0.5, counts[largest] / max(1, sum(counts.values())))
    if share == 1:
        return f"no conclusion: all images are {largest}"
    # With nearly equal classes, the share of the larger one is that of chance.
    baseline = "chance" if share < 0.55 else f"always predicting {largest} ({100 * share:.1f} %)"
    if pair[0] > share:
        return f"better than {baseline}"
    if pair[1] < 0.5:
        return "worse than chance"
    return f"not shown to be better than {baseline}" if pair[1] >= share else f"worse than {baseline}"


def against_reported(summary, reported, metric="accuracy"):
    """Return how a value reported elsewhere, without an interval, compares with ours.

    >>> summary = {"accuracy": 0.938, "intervals": {"accuracy": [0.920, 0.952]}}
    >>> against_reported(summary, 0.9945), against_reported(summary, 0.93), against_reported(summary, 0.8)
    ('above our interval', 'within our interval', 'below our interval')
    """
    reason, pair = why_none(summary, metric), bounds(summary, metric)
    if reason or reported is None:
        return f"not comparable: {reason or 'no value was reported'}"
    return f"{'above' if reported > pair[1] else 'below' if reported < pair[0] else 'within'} our interval"


def between(first, second, metric="accuracy"):
    """Return "higher", "lower", "alike" or "unknown": how the second value compares with the first, by their intervals.

    >>> a, b = ({"auc": 0.9, "intervals": {"auc": pair}} for pair in ([0.85, 0.95], [0.96, 0.99]))
    >>> between(a, b, "auc"), between(b, a, "auc"), between(a, a, "auc"), between(a, None, "auc")
    ('higher', 'lower', 'alike', 'unknown')
    """
    a, b = bounds(first, metric), bounds(second, metric)
    if a is None or b is None:
        return "unknown"
    return "higher" if b[0] > a[1] else "lower" if b[1] < a[0] else "alike"


def generalizes(internal, external, counts=None):
    """Return a sentence on whether a network that performs well on its test set generalizes to external images.

    The accuracy depends on the threshold of 0.5, the AUC does not.

    >>> def summary(value, low, high):
    ...     return {name: value for name in ("accuracy", "auc")} | {"intervals": {"accuracy": [low, high],
    ...                                                                           "auc": [low, high]}}
    >>> internal = summary(0.92, 0.88, 0.95)
    >>> generalizes(internal, summary(0.5, 0.35, 0.65))
    'The network is not shown to generalize to the external images.'
    >>> generalizes(internal, summary(0.3, 0.2, 0.4))
    'The network does not generalize to the external images: it ranks negatives above positives.'
    >>> generalizes(internal, summary(0.9, 0.85, 0.94))
    'The network generalizes to the external images: no loss of performance is shown.'
    >>> generalizes(internal, summary(0.7, 0.6, 0.8))
    'The network generalizes in part: better than chance on the external images, and worse than on its test set.'
    >>> generalizes(internal, summary(0.7, 0.6, 0.8) | {"accuracy": 0.5, "intervals": {"accuracy": [0.4, 0.6],
    ...                                                                                   "auc": [0.6, 0.8]}})
    'The network ranks positives above negatives on the external images, but its threshold of 0.5 does not generalize.'
    """
    verdicts = {metric: against_chance(external, metric, counts) for metric in ("accuracy", "auc")}
    better = [metric for metric, verdict in verdicts.items() if verdict.startswith("better")]
    judged = [metric for metric, verdict in verdicts.items() if not verdict.startswith("no conclusion")]
    if not judged:
        return f"Whether the network generalizes cannot be judged ({verdicts['accuracy']})."
    if not better and verdicts["auc"].startswith("worse"):
        return "The network does not generalize to the external images: it ranks negatives above positives."
    if not better:
        return "The network is not shown to generalize to the external images."
    if better == ["auc"] and "accuracy" in judged:
        return ("The network ranks positives above negatives on the external images, but its threshold of 0.5 does not "
                "generalize.")
    if better == ["accuracy"] and "auc" in judged:
        return ("The network is not shown to generalize to the external images: its accuracy there is better than "
                "chance, but its AUC is not shown to be.")
    if "lower" in (between(internal, external, metric) for metric in better):
        return ("The network generalizes in part: better than chance on the external images, and worse than on its "
                "test set.")
    return "The network generalizes to the external images: no loss of performance is shown."


def difference(first, second, metric="accuracy"):
    """Return how much higher or lower the second value is than the first, and whether their intervals overlap.

    >>> a = {"accuracy": 0.938, "intervals": {"accuracy": [0.92, 0.952]}}
    >>> b = {"accuracy": 0.915, "intervals": {"accuracy": [0.88, 0.94]}}
    >>> difference(a, b)
    '2.3 percentage points lower (the intervals overlap)'
    >>> difference(a, {"accuracy": 0.5, "intervals": {"accuracy": [0.4, 0.6]}})
    '43.8 percentage points lower (the intervals do not overlap)'
    """
    if not first or not second or None in (first.get(metric), second.get(metric)):
        return "not comparable: a value is undefined"
    change = second[metric] - first[metric]
    size = f"{abs(100 * change):.1f} percentage points" if metric in SHARES else f"{abs(change):.3f}"
    if float(size.split()[0]) == 0:
        return "the same"
    overlap = {"unknown": "an interval is missing", "alike": "the intervals overlap"}
    return (f"{size} {'higher' if change > 0 else 'lower'} "
            f"({overlap.get(between(first, second, metric), 'the intervals do not overlap')})")
