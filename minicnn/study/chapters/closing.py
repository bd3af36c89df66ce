"""The last chapters of the report: checklists of reporting guidelines, intended use and limits, how to repeat it."""

import json
from collections import Counter

from minicnn.reporting.document import Bullets, Chapter, Command, Heading, Table, Text
from minicnn.reporting.tables import join, number
from minicnn.reporting.wording import bounds
from minicnn.study.checklists.guidelines import STATUSES
from minicnn.study.reading_results import of

__all__ = ["checklists", "use", "again"]


def checklists(results):
    """Return the Chapter of the reporting guidelines, each item with its status."""
    lists = results["checklists"]
    if not lists:
        return Chapter("checklists", "Reporting checklists", [Text("None was filled in.")])
    counts = {one["name"]: Counter(item["status"] for item in one["items"]) for one in lists}
    rows = [[name, *(number(count[status]) for status in STATUSES), number(count.total())]
            for name, count in counts.items()]
    blocks = [Text("What a program can fill in is filled in from the figures of this report. What only authors know "
                   "is marked, and so is what was not done."),
              Table("Items by status", ["checklist", *STATUSES, "all"], rows)]
    for one in lists:
        count = counts[one["name"]]
        fold = f"{one['name']}: " + ", ".join(f"{count[status]} {status}" for status in STATUSES)
        blocks += [Heading(one["name"]), Text(one["citation"]),
                   Table(f"{one['name']}, item by item", ["item", "topic", "status", "what is to be said"],
                         [[str(item["number"]), item["topic"], item["status"], item["text"]] for item in one["items"]],
                         figures=False, fold=fold)]
    return Chapter("checklists", "Reporting checklists", blocks)


def use(results):
    """Return the Chapter of intended use and limits."""
    data, external = results["data"], results["external"]
    limits = [f"{number(data['images'])} images of {number(data['patients'])} patients decide as much as the intervals "
              "say.",
              "Who chose these images, and why, is not known to the program; nor whether the labels are right.",
              "Pictures as small as the network's input hold no fine detail.",
              "The intervals cover chance in who is in a part, not a wrong choice of data."]
    if data["synthetic"]:
        limits.insert(0, "The pictures are synthetic: no conclusion about patients follows.")
    if not data["sources"]:
        limits.append("Sources are unknown, so neither sources unseen nor source as a shortcut could be looked into.")
    pair = bounds(of(results, "honest", "external"), "accuracy")
    if not external:
        limits.append("Nothing was measured at another hospital.")
    else:
        limits.append("One other hospital is not the world" + ("." if pair is None else ", and the accuracy's "
                      f"interval there is {100 * (pair[1] - pair[0]):.0f} points wide."))
    return Chapter("use", "Intended use and limits", [
        Text("Teaching how such a network works, and finding out what a published result is worth. It is intended for "
             "those who read, review or repeat such studies.", "For."),
        Text("Deciding anything about a patient: diagnosis, triage, screening.", "Not for."), Bullets(limits)])


def again(results):
    """Return the Chapter with the command, settings, versions and remarks."""
    settings, seeds = results["settings"], results["settings"]["seeds"]
    blocks = [Text("With the same files, versions and machine this gives the same figures to the bit, with any number "
                   "of threads:"), Command(results["command"]),
              Table("Settings", ["setting", "value"], [[name.replace("_", " "), _word(value)] for name, value in
                                                       settings.items() if name != "seeds"]
                    + [["seeds", join(map(str, seeds))]], figures=False),
              Table("Versions", ["what", "version"], [[name, _word(value)] for name, value in
                                                      results["environment"].items()], figures=False),
              Text("The paper's text says 100 steps an epoch in section 3.3 and 200 in section 4; these runs took "
                   f"{number(settings['steps_per_epoch'])}.")]
    if results["remarks"]:
        blocks += [Heading("Remarks on this run"), Bullets(results["remarks"])]
    blocks += [Heading("What is reproduced"), Text(
        "Asif and Amjad, Automatic COVID-19 Detection from chest radiographic images using Convolutional Neural "
        "Network, medRxiv 2020.11.08.20228080 (2020), doi 10.1101/2020.11.08.20228080.")]
    return Chapter("again", "To repeat it", blocks)


def _word(value):
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
