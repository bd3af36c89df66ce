"""The last chapters of the report: reporting checklists, intended use and limitations, how to repeat the study."""

import json
from collections import Counter

from minicnn.core.text import join, number
from minicnn.evaluation.summary import images_and_patients
from minicnn.reporting.document import Bullets, Chapter, Command, Fold, Heading, Table, Text
from minicnn.reporting.wording import bounds
from minicnn.study.checklists.guidelines import STATUSES
from minicnn.study.paper import CITATION
from minicnn.study.results import departures, summary_of

__all__ = ["checklists", "intended_use", "repeat"]


def checklists(results):
    """Return the Chapter of the reporting guidelines, each item with its status."""
    lists = results["checklists"]
    if not lists:
        return Chapter("checklists", "Reporting checklists", [Text("No checklist was filled in.")])
    rows, details = [], []
    for one in lists:
        count = Counter(item["status"] for item in one["items"])
        rows.append([one["name"], *(number(count[status]) for status in STATUSES), number(count.total())])
        details.append(Fold(f"{one['name']}, item by item", [Text(one["citation"]), Table(
            f"{one['name']}: " + ", ".join(f"{count[status]} {status}" for status in STATUSES),
            ["item", "topic", "status", "text"],
            [[str(item["number"]), item["topic"], item["status"], item["text"]] for item in one["items"]],
            numeric=False)]))
    return Chapter("checklists", "Reporting checklists", [
        Text("Items that follow from the results are filled in. Items that only the authors can answer, and those that "
             "were not done, are marked."),
        Table("Items by status", ["checklist", *STATUSES, "all"], rows), *details])


def intended_use(results):
    """Return the Chapter of intended use and limitations."""
    data, external = results["data"], results["external"]
    limits = [f"This does not repeat the paper: {', and '.join(clauses)}."] if (clauses := departures(results)) else []
    limits += [f"The sample size is {images_and_patients(data)}; the "
               "intervals show the resulting uncertainty.",
               "How these images were selected is unknown to the program, and so is whether the labels are right.",
               "Images at the input size of the network hold no fine detail.",
               "The intervals cover the sampling of patients, not a biased selection of data."]
    if not data["sources"]:
        limits.append("Sources are unknown, so neither leave-one-source-out validation nor the source as a confounder "
                      "could be evaluated.")
    pair = bounds(summary_of(results, "honest", "external"), "accuracy")
    if not external:
        limits.append("There was no external validation.")
    else:
        limits.append("External validation covers one data set" + ("." if pair is None else "; the interval of its "
                      f"accuracy is {100 * (pair[1] - pair[0]):.0f} percentage points wide."))
    return Chapter("use", "Intended use and limitations", [
        Text("Teaching how such a network works, and assessing a published result. The intended users read, review or "
             "repeat such studies.", "Intended use."),
        Text("Any decision about a patient: diagnosis, triage, screening.", "Not intended."), Bullets(limits)])


def repeat(results):
    """Return the Chapter with the command, options, versions and remarks."""
    settings, seeds = results["settings"], results["settings"]["seeds"]
    options = [[name.replace("_", " "), _word(value)] for name, value in settings.items() if name != "seeds"]
    blocks = [Text("With the same files, versions and machine, this command gives the same results to the bit, with "
                   "any number of threads:"), Command(results["command"]),
              Fold("Options and versions", [
                  Table("Options", ["option", "value"], [*options, ["seeds", join(map(str, seeds))]], numeric=False),
                  Table("Versions", ["software", "version"], [[name, _word(value)] for name, value in
                                                              results["environment"].items()], numeric=False)]),
              Text("The paper gives 100 steps per epoch in section 3.3 and 200 in section 4; these runs used "
                   f"{number(settings['steps_per_epoch'])}.")]
    if results["remarks"]:
        blocks += [Heading("Remarks on this run"), Bullets(results["remarks"])]
    return Chapter("again", "How to repeat this study", [
        *blocks, Heading("The reproduced paper"), Text(f"{CITATION}, doi 10.1101/2020.11.08.20228080.")])


def _word(value):
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
