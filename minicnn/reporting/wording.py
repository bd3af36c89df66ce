"""What figures mean, in sentences that follow from them: nothing here is said of a result before it is known.

All of it goes by 95 % intervals. A figure is called better than guessing where its whole interval is; two figures are
called different where their intervals do not meet, which asks for more than a test of the difference would. Where there
is no figure or no interval there is no verdict, and the reason.
"""

from minicnn.evaluation.summary import HEADS, SHARES
from minicnn.reporting.console import cell

__all__ = ["bounds", "figure", "why_none", "against_guessing", "against_claim", "between", "carried_over", "points"]


def bounds(told, metric):
    """Return the (low, high) of a metric of a description, or None."""
    pair = ((told or {}).get("intervals") or {}).get(metric)
    return None if pair is None else tuple(pair)


def figure(told, metric):
    """Return a figure with its interval as words for a sentence.

    >>> figure({"accuracy": 0.9, "intervals": {"accuracy": [0.81, 0.95]}, "approximate": ["accuracy"]}, "accuracy")
    '90.0 % (81.0 to 95.0, approximate)'
    >>> figure({"auc": None, "undefined": {"auc": "all samples have the same label"}}, "auc")
    'undefined (all samples have the same label)'
    """
    if not told or told.get(metric) is None:
        return f"undefined ({why_none(told, metric)})"
    return cell(told, metric).replace(")~", ", approximate)")


def why_none(told, metric):
    """Return why there is no figure, or no interval; "" where there are both."""
    if not told:
        return "it was not measured"
    if told.get(metric) is None:
        return (told.get("undefined") or {}).get(metric, "it was not measured")
    if bounds(told, metric) is None:
        return (told.get("no_interval") or {}).get(metric, "no interval was computed")
    return ""


def against_guessing(told, metric="accuracy", counts=None):
    """Return how a figure stands to guessing: an accuracy to the share of the larger class, an AUC to 0.5.

    Parameters
    ----------
    told : a description (summary.py), or None
    counts : {class: number of images}, where known; else both classes are taken to be as large

    >>> told = {"accuracy": 0.9, "intervals": {"accuracy": [0.8, 0.95]}}
    >>> against_guessing(told)
    'better than a coin'
    >>> against_guessing(told, counts={"normal": 85, "covid": 15})
    'not shown to be better than always answering normal (85.0 % right)'
    >>> against_guessing({"accuracy": 0.5, "intervals": {"accuracy": [0.35, 0.65]}})
    'not shown to be better than a coin'
    >>> against_guessing({"auc": 0.3, "intervals": {"auc": [0.2, 0.4]}}, "auc")
    'worse than a coin'
    >>> against_guessing({"auc": 1.0, "no_interval": {"auc": "all positives score higher"}}, "auc")
    'no verdict: all positives score higher'
    >>> against_guessing(told, counts={"normal": 0, "covid": 38})
    'no verdict: all images are covid'
    """
    reason, pair = why_none(told, metric), bounds(told, metric)
    if reason:
        return f"no verdict: {reason}"
    largest = max(counts, key=counts.get) if counts and metric == "accuracy" else None
    share = 0.5 if largest is None else max(0.5, counts[largest] / max(1, sum(counts.values())))
    if share == 1:
        return f"no verdict: all images are {largest}"
    # Nearly even classes: the larger one's share says no more than a coin does.
    word = "a coin" if share < 0.55 else f"always answering {largest} ({100 * share:.1f} % right)"
    if pair[0] > share:
        return f"better than {word}"
    if pair[1] < 0.5:
        return "worse than a coin"
    return f"not shown to be better than {word}" if pair[1] >= share else f"worse than {word}"


def against_claim(told, claim, metric="accuracy"):
    """Return how a figure printed elsewhere, without an interval, stands to ours.

    >>> told = {"accuracy": 0.938, "intervals": {"accuracy": [0.920, 0.952]}}
    >>> against_claim(told, 0.9945), against_claim(told, 0.93), against_claim(told, 0.8)
    ('above our interval', 'within our interval', 'below our interval')
    """
    reason, pair = why_none(told, metric), bounds(told, metric)
    if reason or claim is None:
        return f"not comparable: {reason or 'none was printed'}"
    return f"{'above' if claim > pair[1] else 'below' if claim < pair[0] else 'within'} our interval"


def between(first, second, metric="accuracy"):
    """Return "higher", "lower", "alike" or "unknown": how the second figure stands to the first, by their intervals.

    >>> a, b = ({"auc": 0.9, "intervals": {"auc": pair}} for pair in ([0.85, 0.95], [0.96, 0.99]))
    >>> between(a, b, "auc"), between(b, a, "auc"), between(a, a, "auc"), between(a, None, "auc")
    ('higher', 'lower', 'alike', 'unknown')
    """
    a, b = bounds(first, metric), bounds(second, metric)
    if a is None or b is None:
        return "unknown"
    return "higher" if b[0] > a[1] else "lower" if b[1] < a[0] else "alike"


def carried_over(home, away, counts=None):
    """Return a sentence on whether what was learnt on some images holds on those of another place.

    An accuracy asks whether 0.5 is the right threshold there, an AUC whether the classes are told apart at all.

    >>> def told(value, low, high):
    ...     return {name: value for name in ("accuracy", "auc")} | {"intervals": {"accuracy": [low, high],
    ...                                                                           "auc": [low, high]}}
    >>> home = told(0.92, 0.88, 0.95)
    >>> carried_over(home, told(0.5, 0.35, 0.65))
    'What the network has learnt at home is not shown to hold elsewhere.'
    >>> carried_over(home, told(0.3, 0.2, 0.4))
    'What the network has learnt at home points the wrong way elsewhere: negatives rank above positives.'
    >>> carried_over(home, told(0.9, 0.85, 0.94))
    'What the network has learnt at home holds elsewhere, as far as these images can show.'
    >>> carried_over(home, told(0.7, 0.6, 0.8))
    'Part of what the network has learnt at home holds elsewhere: better than guessing there, and worse than at home.'
    >>> carried_over(home, told(0.7, 0.6, 0.8) | {"accuracy": 0.5, "intervals": {"accuracy": [0.4, 0.6],
    ...                                                                          "auc": [0.6, 0.8]}})
    'It ranks positives above negatives there, but its threshold of 0.5 does not hold elsewhere.'
    """
    verdicts = {metric: against_guessing(away, metric, counts) for metric in ("accuracy", "auc")}
    better = [metric for metric, verdict in verdicts.items() if verdict.startswith("better")]
    judged = [metric for metric, verdict in verdicts.items() if not verdict.startswith("no verdict")]
    if not judged:
        return f"Whether what the network has learnt holds elsewhere cannot be said ({verdicts['accuracy']})."
    if not better and verdicts["auc"].startswith("worse"):
        return "What the network has learnt at home points the wrong way elsewhere: negatives rank above positives."
    if not better:
        return "What the network has learnt at home is not shown to hold elsewhere."
    if better == ["auc"] and "accuracy" in judged:
        return "It ranks positives above negatives there, but its threshold of 0.5 does not hold elsewhere."
    if better == ["accuracy"] and "auc" in judged:
        return ("It is right more often there than by guessing, but is not shown to rank positives above negatives: "
                "what the network has learnt at home is not shown to hold elsewhere.")
    if "lower" in (between(home, away, metric) for metric in better):
        return ("Part of what the network has learnt at home holds elsewhere: better than guessing there, and worse "
                "than at home.")
    return "What the network has learnt at home holds elsewhere, as far as these images can show."


def points(first, second, metric="accuracy"):
    """Return the difference of two figures as words, and whether it is more than chance may do.

    >>> a = {"accuracy": 0.938, "intervals": {"accuracy": [0.92, 0.952]}}
    >>> b = {"accuracy": 0.915, "intervals": {"accuracy": [0.88, 0.94]}}
    >>> points(a, b)
    '2.3 points lower, which may be chance: the intervals meet'
    >>> points(b, a), points(a, {"accuracy": 0.5, "intervals": {"accuracy": [0.4, 0.6]}})
    ('2.3 points higher, which may be chance: the intervals meet', '43.8 points lower, more than chance would do')
    """
    if not first or not second or None in (first.get(metric), second.get(metric)):
        return "not comparable: one of them is undefined"
    change = second[metric] - first[metric]
    size = f"{abs(100 * change):.1f} points" if metric in SHARES else f"{abs(change):.3f}"
    if float(size.split()[0]) == 0:
        return f"the same {HEADS[metric]}"
    said = f"{size} {'higher' if change > 0 else 'lower'}"
    how = between(first, second, metric)
    if how == "unknown":
        return f"{said}; without both intervals chance cannot be judged"
    return f"{said}, " + ("which may be chance: the intervals meet" if how == "alike" else "more than chance would do")
