"""Chapters of the report that compare the tables and figures of the paper with ours."""

from minicnn.core.text import number, percent
from minicnn.evaluation.summary import SHARES
from minicnn.reporting.document import Bullets, Chapter, Fold, Heading, Table, Text
from minicnn.reporting.tables import METRICS, NONE, by_metric, lines, reasons
from minicnn.reporting.wording import against_reported, bounds
from minicnn.study.results import image_of, layers_of, not_judged, reported, several_seeds, summary_of

__all__ = ["table_two", "network"]


def table_two(results):
    """Return the Chapter of Table II, of the contradictions in it, and of Table III."""
    columns = {f"paper, {name}": _as_reported(results, name) for name in ("training", "validation")}
    columns |= {f"{words} protocol, {name}": summary
                for protocol, words in (("paper", "paper's"), ("honest", "honest"))
                for name in ("training", "validation", "test") if (summary := summary_of(results, protocol, name))}
    protocols = [Text(results["protocols"][name]["what"], lead) for name, lead in
                 (("paper", "The paper's protocol."), ("honest", "The honest protocol."))
                 if results["protocols"].get(name)]
    return Chapter("table-2", "Table II: reported and measured metrics", [
        *protocols, Text(_methods(results)),
        by_metric("Table II, with 95 % intervals" + " and [the range over seeds]" * bool(several_seeds(results)),
                  columns),
        *reasons(columns),
        Text(_conclusion(results)), Heading("Contradictions in the paper's table"), *_checks(results["paper"]),
        Fold("Table III: results of other studies", _table_three(results))])


def network(results):
    """Return the Chapter of Table I and of Figures 2 to 8."""
    layers = layers_of(results)
    rows = [[layer["name"], " x ".join(map(str, layer["output"] or [])) or NONE, number(layer["parameters"])]
            for layer in layers]
    images = {key: image_of(results, key, caption, alt) for key, (caption, alt) in _figures(results).items()}
    inside = [images.pop(key) for key in ("architecture", "convolution", "pooling")]
    return Chapter("network", "The network: Table I and Figures 2 to 8", [
        *images.values(),
        Fold("Table I and Figures 3 to 6: the layers, and what convolution and pooling compute", [
            Table("Table I: the layers of the network", ["layer", "output", "parameters"],
                  [*rows, ["total", "", number(sum(layer["parameters"] for layer in layers))]]), *inside])])


def _figures(results):
    """Return {key: (caption, alt)} of Figures 2 to 8."""
    classes = " and ".join(results["data"]["classes"])
    curves = "Two plots by epoch, loss and accuracy, of the training and the validation set."
    thin = "; thin lines are seeds" * bool(several_seeds(results))
    return {
        "samples": (f"Figure 2. Images of both classes, {classes}, as input to the network.",
                    f"Small images of the data in rows, one row for each of {classes}."),
        "convolution": ("Figure 3. Convolution: filters of the trained network applied to an image of the test set, "
                        "with one sum written out.",
                        "An image, filters of the first layer, the feature maps they produce, and a patch of pixels "
                        "multiplied by a filter, number by number."),
        "pooling": ("Figure 4. Pooling: the largest of each two by two values is kept.",
                    "A feature map before and after pooling, and a small grid of numbers with its maxima."),
        "architecture": ("Figures 5 and 6. The architecture.",
                         "The layers from left to right with their shapes: "
                         + "; ".join(layer["name"] for layer in layers_of(results)) + "."),
        "curves_paper": (f"Figures 7 and 8. Loss and accuracy by epoch under the paper's protocol{thin}. The "
                         "validation set holds versions of images in the training set.", curves),
        "curves_honest": ("Figures 7 and 8 under the honest protocol: no patient of the validation set is in the "
                          "training set.", curves),
    }


# ---- Table II --------------------------------------------------------------------------------------------------------

def _as_reported(results, name):
    """Return {metric: text} of what the paper reports for a set, for tables.by_metric."""
    values = reported(results, name)
    return {metric: (percent(values[metric], 2) if metric in SHARES else f"{values[metric]:g}") if metric in values
            else NONE for metric in METRICS}


def _methods(results):
    n = several_seeds(results)
    runs = (f"Our values are means over {n} seeds; below each are its 95 % patient-clustered interval and, in "
            "brackets, the range over several seeds" if n else
            "Our values are of one seed; below each is its 95 % patient-clustered interval")
    return (f"{runs}. The classification threshold is a probability of 0.5. Training metrics are computed on the "
            "images that the network was trained on: they measure memorization.")


def _conclusion(results):
    ours = summary_of(results, "paper", "validation")
    values = {name: value for name in METRICS if (value := reported(results).get(name)) is not None}
    if unjudged := not_judged(results):
        return f"Whether these are the paper's values is {unjudged}."
    if not ours or not values:
        return "There are no values of ours to compare with the paper's validation metrics."
    places = [against_reported(ours, value, name) for name, value in values.items() if ours.get(name) is not None]
    inside = sum(place.startswith("within") for place in places)
    text = (f"Of the {len(places)} validation metrics that the paper reports, {inside} "
            f"{'lies' if inside == 1 else 'lie'} within our interval under the same protocol. ")
    fitted, pair = summary_of(results, "honest", "training"), bounds(summary_of(results, "honest", "test"), "accuracy")
    if not fitted or pair is None:
        return text
    if fitted["accuracy"] > pair[1]:
        return text + "Under the honest protocol, the accuracy on the training set is higher than on the test set."
    return text + ("Under the honest protocol, the accuracy on the training set is not shown to be higher than on the "
                   "test set.")


def _checks(paper):
    checks, contradictions = paper.get("checks"), paper.get("contradictions") or []
    if not checks:
        return [Text("The paper's table was not checked.")]
    failed = sum(not check["holds"] for check in checks)
    return [Text(f"{failed} of {len(checks)} checks fail. Each check takes the reported values with their rounding and "
                 "tests whether any confusion matrix can give them. It needs only arithmetic, no data."),
            Fold("The checks, and further contradictions in the text" if contradictions else "The checks", [
                Table("The paper's values checked against each other",
                      ["claim", "reported", "computed", "verdict", "why"],
                      [[check["claim"], check["printed"], check["computed"], "holds" if check["holds"] else "fails",
                        check["why"]] for check in checks], numeric=False),
                *([Text("The text of the paper has further contradictions:"), Bullets(contradictions)]
                  if contradictions else [])])]


def _table_three(results):
    studies = results["paper"].get("table_iii") or []
    rows = [[study["study"], study["what"], percent(study["accuracy"], 2), study["source"]] for study in studies]
    ours = {"paper's protocol, validation": summary_of(results, "paper", "validation"),
            "honest protocol, test": summary_of(results, "honest", "test"),
            "external validation": summary_of(results, "honest", "external")}
    rows += [[f"this report: {name}", results["settings"].get("network", "COV-19Net").partition(",")[0], lines(summary, "accuracy")[:2], "this report"]
             for name, summary in ours.items() if summary]
    return [Table("Table III of the paper, with the results of this report", ["study", "network", "accuracy", "source"],
                  rows, numeric=False),
            Bullets(["The studies differ in data, task and split, so these values do not rank the networks.",
                     *(study["remark"] for study in studies if study.get("remark"))])]
