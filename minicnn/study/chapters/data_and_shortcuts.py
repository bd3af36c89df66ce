"""Chapters of the report on what the networks were shown and what they look at: data, shortcuts, augmentation."""

from minicnn.evaluation.auditing.auditor import WHAT as KINDS
from minicnn.evaluation.auditing.confounders import BOUND, FOLDS
from minicnn.reporting.audit_text import SUSPECTS
from minicnn.reporting.document import Bullets, Chapter, Heading, Table, Text
from minicnn.reporting.shortcut_section import WHAT, shortcut_check
from minicnn.reporting.tables import NONE, counted, number, percent
from minicnn.study.reading_results import counts_of, drawn

__all__ = ["data", "lungs", "augmentation", "given_away", "border_verdict"]

_MOST = 12      # findings of one kind that are written out


def data(results):
    """Return the Chapter on the data: counts, sources, and the audit."""
    told, audit = results["data"], results["audit"]
    blocks = [Text(f"{told['name']}: {number(told['images'])} images of {number(told['patients'])} patients; "
                   f"{counts_of(told['counts'])}. Positive is {told['classes'][-1]}.")]
    if told["sources"]:
        blocks.append(counted("Images by source and class", "source", told["sources"]))
    else:
        blocks.append(Text("Where the images come from is not known: there is no source column."))
    blocks += [Heading("What gives the labels away"), *_suspects(audit)]
    blocks += [Heading("Problems"), *_findings(audit.get("problems", []), "The audit found no problem. It sees what it "
               "looks for, and no shortcut within the field of the lungs.")]
    blocks += [Heading("Remarks"), *_findings(audit.get("remarks", []), "None.")]
    unusual = audit.get("unusual", [])
    blocks += [Heading("Unusual, look at these"),
               Text(f"Unlike the rest: {number(len(unusual))}. That is no verdict." if unusual
                    else "No picture is far from the rest."), *_findings(unusual, "")[:1 if unusual else 0]]
    tables = [counted(f"Images by {name}", name, table, f"Labels by {name}")
              for name, table in audit.get("tables", {}).items() if name != "source"]
    return Chapter("data", "The data, audited", blocks + tables)


def lungs(results):
    """Return the Chapter on whether a network looks at lungs: shortcut check, the maps' sanity, the worst errors."""
    return Chapter("lungs", "Does it look at lungs?", [
        Heading("The shortcut check"), *_stress(results),
        Heading("Do the maps depend on what was learnt?"), *_sanity(results["sanity"]),
        Heading("The surest mistakes"), *_worst(results)])


def augmentation(results):
    """Return the Chapter of the augmentation's contact sheet."""
    return Chapter("augmentation", "What augmentation does to a radiograph", [
        drawn(results, "augmentation", "The paper's seven techniques on the same pictures.",
              "A sheet of pictures: one row for each technique, rescaling, vertical and horizontal flip, rotation, "
              "zoom, shear and intensity shift."),
        Text("A vertical flip puts the diaphragm above the lungs, a horizontal flip the heart on the right, and a "
             "shear slants the spine: no patient looks like that but for the rare one with situs inversus. The paper "
             "uses all three, so they are drawn and used under its protocol.", "Not anatomy.")])


# ---- The audit -------------------------------------------------------------------------------------------------------

def given_away(suspect):
    """Return what a suspect's AUC means, in a sentence's words.

    >>> given_away({"auc": 0.99, "low": 0.98, "high": 1.0, "judged": True, "flagged": True})
    'gives the label away'
    >>> given_away({"auc": 0.62, "low": 0.57, "high": 0.67, "judged": True, "flagged": False})
    'tells something of the label, less than is a problem'
    >>> given_away({"auc": 0.55, "low": 0.48, "high": 0.62, "judged": True, "flagged": False})
    'is not shown to tell the label'
    >>> given_away({"auc": None, "low": None, "high": None, "judged": True, "flagged": False, "reason": "no column"})
    'cannot be judged: no column'
    """
    if suspect["low"] is None:
        return f"cannot be judged: {suspect.get('reason') or 'there is no interval'}"
    if suspect.get("flagged"):
        return "gives the label away"
    if suspect["low"] <= 0.5:
        return "is not shown to tell the label"
    return "tells something of the label" + (", less than is a problem" if suspect["judged"] else "")


def _suspects(audit):
    suspects = audit.get("shortcuts", [])
    if not suspects:
        return [Text("Not looked into.")]
    several = len({suspect["against"] for suspect in suspects}) > 1
    rows = [[SUSPECTS.get(s["name"], s["name"]) + (f", {s['against']} against the rest" if several else ""),
             number(s["auc"], "{:.2f}"), NONE if s["low"] is None else f"{s['low']:.2f} to {s['high']:.2f}"
             + ("~" if s.get("approximate") else ""), given_away(s)] for s in suspects]
    flagged = [suspect for suspect in suspects if suspect.get("flagged")]
    said = ("A flag means: the label can be told without looking at lungs, and the traces of a file's origin are in "
            "its pixels. So a high figure on a held-out part of these data does not say that a network sees an "
            "illness. Measure on another hospital that holds both classes, and hold out whole sources." if flagged else
            "Nothing is flagged. That is no proof that nothing gives the labels away: it may lie between the lungs.")
    return [Text(f"Logistic regression on each suspect alone, {FOLDS} folds by patient, {number(audit['sampled'])} "
                 f"images. 0.50 is guessing; (a), (b) and (d) are flagged where the lower bound exceeds {BOUND:.2f}."),
            Table("How well the label is predicted without looking at lungs", ["suspect", "AUC", "95 % interval", "it"],
                  rows, figures=False), Text(said)]


def _findings(findings, none):
    """Return a table of how many findings there are of each kind, and their sentences, folded."""
    if not findings:
        return [Text(none)]
    items = []
    for what in dict.fromkeys(finding["what"] for finding in findings):
        of_kind = [finding["sentence"] for finding in findings if finding["what"] == what]
        items += [f"{KINDS.get(what, what)}: {number(len(of_kind))}."] if what in KINDS and len(of_kind) > 1 else []
        items += of_kind[:_MOST]
        if len(of_kind) > _MOST:
            items.append(f"... and {number(len(of_kind) - _MOST)} more (minicnn data audit lists them).")
    return [Bullets(items)]


# ---- Stress, maps, mistakes ------------------------------------------------------------------------------------------

def _stress(results):
    checks = results["stress"]
    if not checks:
        return [Text("Not made.")]
    none = ["Nothing here points at the border or the encoding. That is no proof that there is no shortcut."]
    return [WHAT, drawn(results, "stress", "AUC under each disturbance.", "A chart of the AUC under each disturbance: "
                        + "; ".join(f"{row['condition']} {number(row['auc'], '{:.2f}')}" for row in checks[0]["rows"])
                        + "."),
            *(block for one in checks for block in
              shortcut_check(one["name"], one | {"sentences": one.get("sentences") or one["findings"] or none}))]


def _sanity(sanity):
    rows = sanity.get("rows", [])
    blocks = [Text("Grad-CAM shows where an answer comes from. Its maps are made again while the layers lose what "
                   "they learnt, from the last to the first. Maps that stay the same show the picture, not the "
                   "network. The strength is the mean size of the rank correlation with the trained network's maps; "
                   "unrelated smooth maps have some tenths of it.")]
    if rows:
        blocks.append(Table("Maps after one more layer has lost what it learnt", ["layer", "correlation", "strength"],
                            [[row["layer"], number(row["correlation"], "{:.2f}"), number(row["strength"], "{:.2f}")]
                             for row in rows]))
    check = sanity.get("border_check")
    if not check:
        return blocks + [Text(border_verdict(sanity))]
    return blocks + [Text(check["sentence"]), Text(
        f"Plain Grad-CAM has {percent(sanity.get('border_share'), 0)} there. It weighs a map by a mean over all "
        "places, so behind dense layers, which weigh each place on its own, it shows less well where the answer comes "
        "from.")]


def border_verdict(sanity):
    """Return a sentence on how much of the maps lies on the border, beside what an even map has there.

    >>> border_verdict({"border_share": 0.61, "even_share": 0.4375})
    'Of what speaks for the answers 61 % lies on the border, more than of an even map (44 %): what stands there counts.'
    >>> border_verdict({"border_share": 0.31, "even_share": 0.4375})
    'Of what speaks for the answers 31 % lies on the border, less than of an even map (44 %).'
    >>> border_verdict({"border_share": 0.439, "even_share": 0.4375})
    'Of what speaks for the answers 44 % lies on the border, as of an even map.'
    >>> border_verdict({"border_share": None, "even_share": 0.4375})
    'How much of the maps lies on the border is undefined: they are empty.'
    """
    share, even = sanity.get("border_share"), sanity.get("even_share")
    if share is None or even is None:
        return "How much of the maps lies on the border is undefined: they are empty."
    said = f"Of what speaks for the answers {percent(share, 0)} lies on the border, "
    if percent(share, 0) == percent(even, 0):
        return said + "as of an even map."
    if share > even:
        return said + f"more than of an even map ({percent(even, 0)}): what stands there counts."
    return said + f"less than of an even map ({percent(even, 0)})."


def _worst(results):
    if not results["worst"]:
        return [Text("The network made no mistake on these parts.")]
    rows = [[row["path"], row["label"], row["prediction"], number(row["probability"], "{:.3f}"), row["part"],
             row.get("source") or "unknown", str(row["seed"]), percent(row["border_share"], 0)]
            for row in results["worst"]]
    return [drawn(results, "worst", "The surest mistakes, each with its Grad-CAM map. A map shows where an answer "
                  "comes from, not why.", f"The {len(rows)} surest mistakes, each picture beside its map."),
            Table("The surest mistakes", ["file", "labelled", "answer", "probability", "part", "source", "seed",
                                          "map on the border"], rows, figures=False)]
