"""Phrases that study_facts.py and outcome_facts.py share."""

from minicnn.errors import printable
from minicnn.evaluation.summary import HEADS, images_and_patients
from minicnn.reporting.wording import value_text
from minicnn.study.results import PROTOCOL_NAMES, summary_of

__all__ = ["NOT_MEASURED", "MAIN", "SPLIT", "values_text", "size", "sets_of", "described", "sentence", "protocol_text",
           "seeds_of"]

MAIN = ("accuracy", "recall", "specificity", "auc")
SPLIT = ("training", "validation", "test")
NOT_MEASURED = "Not measured in this study."


def values_text(summary, metrics=MAIN):
    """Return metrics of a summary with their intervals, as text."""
    return ", ".join(f"{HEADS[name]} {value_text(summary, name)}" for name in metrics)


def size(summary):
    return images_and_patients(summary)


def sets_of(results, protocol, names=(*SPLIT, "external")):
    """Return {set: summary}, mean over the seeds, of the sets that a protocol has."""
    return {name: summary for name in names if (summary := summary_of(results, protocol, name)) is not None}


def described(results, names, metrics=MAIN, protocols=PROTOCOL_NAMES):
    """Return the metrics of these sets under these protocols as a sentence; None where there are none."""
    return sentence(f"{PROTOCOL_NAMES[protocol]}, {name} ({size(summary)}): {values_text(summary, metrics)}"
                    for protocol in protocols for name, summary in sets_of(results, protocol, names).items())


def sentence(parts):
    """Return texts as one sentence, or None where there are none.

    >>> sentence(["the test set: 12 images", "no more."]), sentence([])
    ('The test set: 12 images; no more.', None)
    """
    text = "; ".join(part.rstrip(".") for part in parts)
    return f"{text[0].upper()}{text[1:]}." if text else None


def protocol_text(results, protocol):
    """Return the description of a protocol, without the full stop."""
    return printable(results["protocols"][protocol]["what"]).rstrip(".")


def seeds_of(results):
    seeds = results["settings"].get("seeds")
    if not seeds:
        return None
    return f"{len(seeds)} seeds ({', '.join(map(str, seeds))})" if len(seeds) > 1 else f"one seed ({seeds[0]})"
