"""Chapters of the report on the data and on what the networks rely on: audit, shortcut check, augmentation."""

from minicnn.core.text import join, number, percent
from minicnn.evaluation.summary import images_and_patients
from minicnn.reporting.audit_text import MEANING, METHOD, NO_PROBLEM, confounder_rows, findings_by_kind
from minicnn.reporting.document import Bullets, Chapter, Fold, Heading, Table, Text
from minicnn.reporting.tables import counted, shortcut_table
from minicnn.reporting.wording import SHORTCUT_CHECK
from minicnn.study.results import counts_text, image_of, not_judged

__all__ = ["data", "shortcuts", "augmentation", "border_verdict"]


def data(results):
    """Return the Chapter on the data: counts, sources, and the audit."""
    about, audit = results["data"], results["audit"]
    blocks = [Text(f"{about['name']}: {images_and_patients(about)}; "
                   f"{counts_text(about['counts'])}. The positive class is {about['classes'][-1]}.")]
    blocks.append(counted("Images by source and class", "source", about["sources"]) if about["sources"]
                  else Text("The sources of the images are unknown: there is no source column."))
    blocks += [Heading("Confounders"), *_confounders(audit)]
    for heading, key, none in (("Problems", "problems", NO_PROBLEM), ("Remarks", "remarks", "None."),
                               ("Unusual images", "unusual", "No image is far from the rest.")):
        items = [line for kind, sentences in findings_by_kind(audit.get(key, []), "minicnn data audit --json lists all")
                 for line in [kind, *sentences] if line]
        blocks.append(Fold(f"{heading}: {number(len(audit[key]))}", [Bullets(items)]) if items
                      else Text(none, f"{heading}."))
    tables = {name: counted(f"Images by {name}", name, table)
              for name, table in audit.get("tables", {}).items() if name != "source"}
    return Chapter("data", "Data audit", blocks + ([Fold(f"Labels by {join(tables)}", list(tables.values()))] if tables
                                                   else []))


def shortcuts(results):
    """Return the Chapter on what the network relies on: shortcut check, sanity check of the maps, worst errors."""
    return Chapter("lungs", "Does the network rely on the lungs?", [
        Heading("Shortcut check"), *_shortcut_check(results),
        Heading("Sanity check of the maps"), *_sanity(results["sanity"], not_judged(results)),
        Heading("Errors with the highest probability"), *_errors(results)])


def augmentation(results):
    """Return the Chapter of the augmentation's contact sheet."""
    return Chapter("augmentation", "Data augmentation", [
        Fold("The seven techniques on the same images", [image_of(
            results, "augmentation", "The seven augmentation techniques of the paper, applied to the same images.",
            "A sheet of images: one row for each technique, rescaling, vertical and horizontal flip, rotation, zoom, "
            "shear and intensity shift.")]),
        Text("A vertical flip puts the diaphragm above the lungs, a horizontal flip puts the heart on the right, and "
             "shear slants the spine: no patient looks like that, except for rare cases of situs inversus. The paper "
             "uses all three, so they are part of its protocol here.", "Not anatomical.")])


# ---- The audit -------------------------------------------------------------------------------------------------------

def _confounders(audit):
    confounders = audit.get("shortcuts", [])
    if not confounders:
        return [Text("Not examined.")]
    return [Table("How well the label is predicted without the lungs",
                  ["confounder", "AUC", "95 % interval", "the confounder"], confounder_rows(confounders),
                  numeric=False),
            Fold("How this is measured", [Text(METHOD.format(number(audit["sampled"])))]),
            Text(MEANING if any(one.get("flagged") for one in confounders) else
                 "No confounder is flagged. This does not prove that there is none: it may lie within the lungs.")]


# ---- Shortcut check, maps, errors ------------------------------------------------------------------------------------

def _shortcut_check(results):
    checks = results["stress"]
    if not checks:
        return [Text("Not done.")]
    none = ["No reliance on the border or on the encoding is shown. This does not prove that there is no shortcut."]
    aucs = "; ".join(f"{row['condition']} {number(row['auc'], '{:.2f}')}" for row in checks[0]["rows"])
    blocks = [Text(SHORTCUT_CHECK), image_of(results, "stress", "AUC under each disturbance, one image of "
                                             "which is shown. Line: 95 % interval. Dotted: 0.5, chance.",
                                             f"A plot of the AUC under each disturbance: {aucs}.")]
    unjudged = not_judged(results)
    for check in checks:
        blocks.append(Fold(f"The values of the shortcut check: {check['name']}",
                           [shortcut_table(check["name"], check)]))
        if not unjudged:
            blocks.append(Bullets(check.get("sentences") or check["findings"] or none))
    return blocks + ([Text(f"Whether the network relies on a shortcut is {unjudged}.")] if unjudged else [])


def _sanity(sanity, unjudged):
    blocks = [Text("Grad-CAM shows which pixels support a prediction. The maps are computed again while the layers are "
                   "randomized, from the last to the first. Maps that stay the same depend on the image, not on the "
                   "trained network. The strength is the mean absolute rank correlation with the maps of the trained "
                   "network; unrelated smooth maps reach some tenths.")]
    if sanity.get("rows"):
        blocks = [Fold("How the maps change while layers are randomized", [
            *blocks, Table("Maps after one more layer is randomized", ["layer", "correlation", "strength"],
                           [[row["layer"], number(row["correlation"], "{:.2f}"), number(row["strength"], "{:.2f}")]
                            for row in sanity["rows"]])])]
    check = sanity.get("border_check")
    if unjudged:
        return blocks + [Text(f"What the maps say about the border is {unjudged}.")]
    if not check:
        return blocks + [Text(border_verdict(sanity))]
    return blocks + [Text(check["sentence"]), Text(
        f"Plain Grad-CAM puts {percent(sanity.get('border_share'), 0)} there. It weighs each feature map by a mean "
        "over all positions, so it localizes less well in front of dense layers, which weigh each position.")]


def border_verdict(sanity):
    """Return a sentence that compares the share of the maps on the border with that of a uniform map.

    >>> border_verdict({"border_share": 0.61, "even_share": 0.4375})
    '61 % of the evidence lies on the border, more than in a uniform map (44 %): the border influences the predictions.'
    >>> border_verdict({"border_share": 0.31, "even_share": 0.4375})
    '31 % of the evidence lies on the border, less than in a uniform map (44 %).'
    >>> border_verdict({"border_share": 0.439, "even_share": 0.4375})
    '44 % of the evidence lies on the border, as in a uniform map.'
    >>> border_verdict({"border_share": None, "even_share": 0.4375})
    'The share of the maps on the border is undefined: the maps are empty.'
    """
    share, even = sanity.get("border_share"), sanity.get("even_share")
    if share is None or even is None:
        return "The share of the maps on the border is undefined: the maps are empty."
    text = f"{percent(share, 0)} of the evidence lies on the border, "
    if percent(share, 0) == percent(even, 0):
        return text + "as in a uniform map."
    if share > even:
        return text + f"more than in a uniform map ({percent(even, 0)}): the border influences the predictions."
    return text + f"less than in a uniform map ({percent(even, 0)})."


def _errors(results):
    if not results["worst"]:
        return [Text("The network made no errors on these sets.")]
    rows = [[row["path"], row["label"], row["prediction"], number(row["probability"], "{:.3f}"), row["part"],
             row.get("source") or "unknown", str(row["seed"]), percent(row["border_share"], 0)]
            for row in results["worst"]]
    return [image_of(results, "worst", "The errors with the highest probability, each with its Grad-CAM map, which "
                     "shows the pixels that support a prediction, not why. The dashed line marks the border; below, "
                     "the share of the map that lies on it.",
                     f"The {len(rows)} errors with the highest probability, each image beside its map."),
            Fold("The files of these errors", [
                Table("The errors with the highest probability", ["file", "label", "prediction", "probability", "set",
                                                                  "source", "seed", "map on the border"], rows,
                      numeric=False)])]
