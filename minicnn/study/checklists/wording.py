"""The words that facts about results share (study_facts.py, outcome_facts.py)."""

from minicnn.errors import printable
from minicnn.evaluation.summary import HEADS
from minicnn.reporting.tables import number
from minicnn.reporting.wording import figure
from minicnn.study.reading_results import PROTOCOLS, of

__all__ = ["NOT_MEASURED", "MAIN", "LEARNT_AND_HELD", "figures", "size", "parts_of", "described", "sentence",
           "what_of", "seeds_of"]

MAIN = ("accuracy", "recall", "specificity", "auc")
LEARNT_AND_HELD = ("training", "validation", "test")
NOT_MEASURED = "It was not measured in this run."


def figures(told, metrics=MAIN):
    """Return figures of a description with their intervals, as words."""
    return ", ".join(f"{HEADS[name]} {figure(told, name)}" for name in metrics)


def size(told):
    return f"{number(told['n'])} images of {number(told.get('patients'))} patients"


def parts_of(results, protocol, names=("training", "validation", "test", "external")):
    """Return {part: description}, mean over the seeds, of the parts that a protocol has."""
    return {name: told for name in names if (told := of(results, protocol, name)) is not None}


def described(results, names, metrics=MAIN, protocols=PROTOCOLS):
    """Return the figures of these parts under these protocols as a sentence; None where there are none."""
    said = [f"{PROTOCOLS[protocol]}, {name} ({size(told)}): {figures(told, metrics)}" for protocol in protocols
            for name, told in parts_of(results, protocol, names).items()]
    return sentence(said)


def sentence(parts):
    """Return texts as one sentence, or None where there are none.

    >>> sentence(["the test part: 12 images", "no more."]), sentence([])
    ('The test part: 12 images; no more.', None)
    """
    text = "; ".join(part.rstrip(".") for part in parts)
    return f"{text[0].upper()}{text[1:]}." if text else None


def what_of(results, protocol):
    """Return what a protocol is, without the full stop."""
    return printable(results["protocols"][protocol]["what"]).rstrip(".")


def seeds_of(results):
    seeds = results["settings"].get("seeds")
    return None if not seeds else f"{len(seeds)} seeds ({', '.join(map(str, seeds))})" if len(seeds) > 1 else \
        f"one seed ({seeds[0]})"
