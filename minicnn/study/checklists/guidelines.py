"""The checklists of three reporting guidelines, filled in from the results: CLAIM 2024, TRIPOD+AI and STARD-AI.

Every item of every list appears once, in order, with a status:

    filled      the results answer it: the text quotes their numbers
    needs you   only the authors can answer it: the text says what to write, and what the results know
    not done    it was not done or is unknown: the text says why

The items are in items.toml, the facts from the results in study_facts.py and outcome_facts.py.
"""

import tomllib
from pathlib import Path
from typing import NamedTuple

from minicnn.study.checklists import outcome_facts, study_facts

__all__ = ["checklists", "STATUSES", "GUIDELINES", "Guideline", "Item"]

STATUSES = ("filled", "needs you", "not done")
FACTS = study_facts.FACTS | outcome_facts.FACTS


class Item(NamedTuple):
    """One item. `words`: what to write, or why it is not done; `of_people`: it does not apply without patients."""

    number: str
    topic: str
    status: str
    words: str = ""
    fact: str = ""
    of_people: bool = False


class Guideline(NamedTuple):
    """A checklist: its name, where it was published, and its items in order."""

    name: str
    citation: str
    items: tuple


def _guidelines():
    """Return the guidelines of items.toml; a name in braces stands for a shared sentence."""
    told = tomllib.loads(Path(__file__).with_name("items.toml").read_text("utf-8"))
    shared = told["sentences"]
    return tuple(
        Guideline(one["name"], one["citation"].format_map(shared),
                  tuple(Item(**item | {"words": item.get("words", "").format_map(shared)}) for item in one["items"]))
        for one in told["guidelines"])


GUIDELINES = _guidelines()

# The keys of results, empty.
NOTHING = {"data": {}, "external": None, "audit": {}, "layers": [], "protocols": {}, "unseen": [], "stress": [],
           "sanity": {}, "worst": [], "paper": {}, "figures": {}, "remarks": [], "settings": {}, "environment": {},
           "command": ""}
_NOBODY = "The images are synthetic: there are no patients, so the item does not apply."


def checklists(results):
    """Fill in the three checklists.

    Parameters
    ----------
    results : dict, as in the results.json of `minicnn reproduce`; items without results are "not done"

    Returns
    -------
    list of dict: name, citation, items ([{number, topic, status, text}, ...])

    >>> claim = checklists({"external": None})[0]
    >>> claim["name"], len(claim["items"])
    ('CLAIM 2024', 44)
    >>> claim["items"][32]
    {'number': '33', 'topic': 'test on external data', 'status': 'not done',
     'text': 'There was no external validation: give images with --external.'}
    """
    results = NOTHING | {name: value for name, value in results.items() if value is not None}
    synthetic = bool(results["data"].get("synthetic"))
    return [{"name": guideline.name, "citation": guideline.citation,
             "items": [{"number": item.number, "topic": item.topic} | _answer(item, results, synthetic)
                       for item in guideline.items]} for guideline in GUIDELINES]


def _answer(item, results, synthetic):
    """Return the status and the text of one item."""
    if item.of_people and synthetic:
        return {"status": "not done", "text": _NOBODY}
    said, why_not = "", ""
    if item.fact:
        fact, why_not = FACTS[item.fact]
        said = fact(results) or ""
    if item.status == "filled":
        return {"status": "filled", "text": said} if said else {"status": "not done", "text": why_not}
    if item.status == "not done":
        return {"status": "not done", "text": f"{item.words} {said}".strip()}
    return {"status": "needs you", "text": f"{item.words} Known from this run: {said}" if said else item.words}
