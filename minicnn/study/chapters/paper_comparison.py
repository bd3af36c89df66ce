"""Chapters of the report that stand the paper's tables and figures beside ours."""

from minicnn.evaluation.summary import SHARES
from minicnn.reporting.document import Bullets, Chapter, Heading, Table, Text
from minicnn.reporting.tables import METRICS, NONE, by_metric, lines, number, percent, reasons
from minicnn.reporting.wording import against_claim, bounds
from minicnn.study.reading_results import drawn, layers_of, of, printed

__all__ = ["table_two", "network"]


def table_two(results):
    """Return the Chapter of Table II, of what is wrong in it, and of Table III."""
    columns = {f"paper, {part}": _as_printed(results, part) for part in ("training", "validation")}
    columns |= {f"{name} protocol, {part}": of(results, protocol, part)
                for protocol, name in (("paper", "its"), ("honest", "honest"))
                for part in ("training", "validation", "test") if of(results, protocol, part)}
    what = [Text(results["protocols"][name]["what"], lead) for name, lead in
            (("paper", "Its protocol."), ("honest", "The honest protocol.")) if results["protocols"].get(name)]
    return Chapter("table-2", "Table II: the paper's figures and ours", [
        *what, Text(_how(results)), by_metric("Table II, with 95 % intervals and [the range over seeds]", columns),
        *reasons(columns), Text(_table_verdict(results)),
        Heading("What is wrong in the paper's table"), *_checks(results["paper"]),
        Heading("Table III: the figures it compares itself with"), *_table_three(results)])


def network(results):
    """Return the Chapter of Table I and of Figures 2 to 8."""
    layers = layers_of(results)
    rows = [[layer["name"], " x ".join(map(str, layer["output"] or [])) or NONE, number(layer["parameters"])]
            for layer in layers]
    total = sum(layer["parameters"] for layer in layers)
    return Chapter("network", "The network: Table I and Figures 2 to 8", [
        Table("Table I: the layers, made from the network itself", ["layer", "output", "parameters"],
              [*rows, ["total", "", number(total)]]),
        *(drawn(results, key, caption, alt) for key, (caption, alt) in _figures(results).items())])


def _figures(results):
    """Return {key: (caption, alt)} of Figures 2 to 8."""
    classes = " and ".join(results["data"]["classes"])
    return {
        "samples": (f"Figure 2. Pictures of both classes, {classes}, as the network is given them.",
                    f"Small pictures of the data in rows, one row for each of {classes}."),
        "convolution": ("Figure 3. What convolution does: filters of the trained network on a picture of the test "
                        "part, and one sum written out.",
                        "A picture, filters of the first layer, the maps that they make of it, and a patch of pixels "
                        "multiplied with a filter, number by number."),
        "pooling": ("Figure 4. What pooling does: the largest of each two by two numbers is kept.",
                    "A map before and after pooling, and a small grid of numbers with its maxima."),
        "architecture": ("Figures 5 and 6. The architecture, drawn from the network itself.",
                         "The layers from left to right with their shapes: "
                         + "; ".join(layer["name"] for layer in layers_of(results)) + "."),
        "curves_paper": ("Figures 7 and 8. Loss and accuracy by epoch under the paper's protocol; thin lines are "
                         "seeds. The validation part holds versions of pictures that are trained on.",
                         "Two charts of curves by epoch, loss and accuracy, of the training and the validation part."),
        "curves_honest": ("Figures 7 and 8 under the honest protocol: nobody of the validation part is trained on.",
                          "Two charts of curves by epoch, loss and accuracy, of the training and the validation part."),
    }


# ---- Table II --------------------------------------------------------------------------------------------------------

def _as_printed(results, part):
    """Return {metric: text} of what the paper prints for a part, for tables.by_metric."""
    values = printed(results, part)
    return {name: (percent(values[name], 2) if name in SHARES else f"{values[name]:g}") if name in values else NONE
            for name in METRICS}


def _how(results):
    seeds = results["settings"]["seeds"]
    runs = f"Our figures are means over {len(seeds)} seeds" if len(seeds) > 1 else "Our figures are of one seed"
    return (f"{runs}; below it stand its 95 % interval, made by drawing patients and not images, and in brackets, of "
            "several seeds, the lowest and the highest. All are taken at a probability above 0.5. Training figures "
            "are on the pictures that were trained on: they say how well the network remembers.")


def _table_verdict(results):
    claims, ours = _claims(results), of(results, "paper", "validation")
    if not ours or not claims:
        return "The paper's validation figures have nothing of ours to be compared with."
    places = {name: against_claim(ours, value, name) for name, value in claims.items() if ours.get(name) is not None}
    inside = [name for name, place in places.items() if place.startswith("within")]
    said = (f"Of the {len(places)} validation figures that the paper prints, {len(inside)} "
            f"{'lies' if len(inside) == 1 else 'lie'} within the interval of ours under its own protocol. ")
    fit, seen = of(results, "honest", "training"), of(results, "honest", "test")
    pair = bounds(seen, "accuracy")
    if not fit or pair is None:
        return said
    if fit["accuracy"] > pair[1]:
        return said + "Under the honest protocol the network does better on what it was trained on than on others."
    return said + "Under the honest protocol new patients are not shown to be harder than those trained on."


def _claims(results):
    values = printed(results)
    return {name: values[name] for name in METRICS if values.get(name) is not None}


def _checks(paper):
    checks, besides = paper.get("checks"), paper.get("contradictions") or []
    if not checks:
        return [Text("The paper's table was not checked.")]
    failed = sum(not check["holds"] for check in checks)
    return [Text(f"{failed} of {len(checks)} checks fail. Each takes the printed figures with their rounding and asks "
                 "whether any counts of right and wrong answers could give them; it needs no data, only arithmetic."),
            Table("The paper's own figures against each other", ["claim", "printed", "computed", "verdict", "why"],
                  [[check["claim"], check["printed"], check["computed"], "holds" if check["holds"] else "fails",
                    check["why"]] for check in checks], figures=False),
            *([Text("Besides, the paper contradicts itself in words:"), Bullets(besides)] if besides else [])]


def _table_three(results):
    studies = results["paper"].get("table_iii") or []
    rows = [[study["study"], study["what"], percent(study["accuracy"], 2), study["source"]] for study in studies]
    ours = {"paper's protocol, validation": of(results, "paper", "validation"),
            "honest protocol, test": of(results, "honest", "test"),
            "another hospital": of(results, "honest", "external")}
    rows += [[f"this report: {name}", "COV-19Net", lines(told, "accuracy")[:2], "computed here"]
             for name, told in ours.items() if told]
    return [Table("Table III of the paper, with what its network does here",
                  ["study", "network", "accuracy", "source"], rows, figures=False),
            Bullets(["These are figures on other data, other tasks and other splits: they say little about which "
                     "network is the better one.", *(study["remark"] for study in studies if study.get("remark"))])]
