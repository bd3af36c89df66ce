"""Tables I to III of the paper, and whether their values are consistent (table_check.py).

Asif & Amjad, "Automatic COVID-19 Detection from chest radiographic images using Convolutional Neural Network", medRxiv
2020.11.08.20228080 (2020). Its numbers are reproduced here as facts, its text is not.
"""

from fractions import Fraction

from minicnn.networks import cov19net
from minicnn.study.table_check import Range, check_table, find_matrix, least_images

__all__ = ["CITATION", "TABLE_I", "TABLE_II", "TABLE_III", "CONTRADICTIONS", "table_i", "checks", "facts"]

CITATION = ("Asif, Amjad: Automatic COVID-19 Detection from chest radiographic images using Convolutional Neural "
            "Network, medRxiv 2020.11.08.20228080 (2020)")

# Table I: output shape and number of parameters of each layer; an activation is part of the layer before it.
TABLE_I = (((62, 62, 32), 896), ((31, 31, 32), 0), ((29, 29, 32), 9_248), ((14, 14, 32), 0), ((12, 12, 32), 9_248),
           ((4608,), 0), ((128,), 589_952), ((1,), 129))

# Table II: percentages with two decimals, except for "100 %" without decimals.
TABLE_II = {
    "training": {"accuracy": 0.9970, "specificity": 0.9968, "precision": 0.9989, "recall": 0.9991, "f1": 0.9970,
                 "loss": 0.0035},
    "validation": {"accuracy": 0.9945, "specificity": 0.9940, "precision": 1.0, "recall": 0.9930, "f1": 0.9943,
                   "loss": 0.0018},
}
IMAGES, TRAINED_ON = 2 * 7 * 410, 0.70          # seven versions of 410 radiographs of each class; the first 70 %
SHARE = (0.45, 0.55)        # equal classes; a random set of 1,722 is outside about once in a million times

# Table III: the best accuracies, as the paper gives them.
TABLE_III = (
    {"study": "Narin et al.", "year": 2020, "what": "ResNet50", "accuracy": 0.985, "source": "Table III",
     "remark": "The text gives Narin et al. a mean of 98 %, Table III 98.5 %."},
    {"study": "Bukhari et al.", "year": 2020, "what": "ResNet50", "accuracy": 0.9818, "source": "Table III",
     "remark": "That Bukhari et al. used ResNet50 is inferred, not stated in the paper."},
    {"study": "Apostolopoulos et al.", "year": 2020, "what": "VGG-19", "accuracy": 0.9678, "source": "Table III",
     "remark": ""},
    {"study": "Wang et al.", "year": 2020, "what": "COVID-Net", "accuracy": 0.924, "source": "Table III", "remark": ""},
    {"study": "Asif, Amjad", "year": 2020, "what": "COV-19Net", "accuracy": 0.9945, "source": "Tables II and III",
     "remark": "The validation images have other versions in the training set."},
)

CONTRADICTIONS = (
    "Narin et al. reach a mean of 98 % in the text and 98.5 % in Table III.",
    "An epoch has 100 steps in section 3.3 and 200 in section 4.",
    "False positives and false negatives are swapped in the text of section 4; the formulas are the usual ones.",
)


def table_i(model=None):
    """Return Table I of a network: a row for each layer with its activation, and a total.

    Parameters
    ----------
    model : Sequential, optional; COV-19Net by default

    Returns
    -------
    list of dict: name, output (list of int; None for the total), parameters

    >>> rows = table_i()
    >>> rows[0], rows[-1]
    ({'name': 'Conv2D, ReLU', 'output': [62, 62, 32], 'parameters': 896}, {'name': 'total', 'output': None,
      'parameters': 609473})
    """
    rows = []
    for row in (cov19net() if model is None else model).summary_rows():
        if rows and not row["parameters"] and row["type"] in ("ReLU", "Sigmoid", "Tanh", "Softmax"):
            rows[-1]["name"] += f", {row['type']}"
        else:
            rows.append({"name": row["type"], "output": list(row["output_shape"]), "parameters": row["parameters"]})
    return [*rows, {"name": "total", "output": None, "parameters": sum(row["parameters"] for row in rows)}]


def checks():
    """Return the checks of Tables I and II, list of dict.

    Keys: part ("Table I", "training" or "validation"), and those of `table_check.check_table`.

    >>> sum(not check["holds"] for check in checks()), len(checks())
    (10, 15)
    """
    sizes = {"training": round(TRAINED_ON * IMAGES)}
    sizes["validation"] = IMAGES - sizes["training"]
    found = [_architecture()]
    for name, printed in TABLE_II.items():
        for check in check_table(**printed, n=sizes[name], share=SHARE):
            if name == "validation":
                check["why"] += _with_whole_percent(check["name"], printed, sizes[name])
            found.append({"part": name} | check | {"claim": f"Table II, {name}: {check['claim']}"})
    return found


def facts():
    """Return the paper in a report: citation, table_i, table_ii, table_iii, contradictions, checks."""
    return {"citation": CITATION, "table_i": [{"output": list(output), "parameters": n} for output, n in TABLE_I],
            "table_ii": {name: dict(printed) for name, printed in TABLE_II.items()},
            "table_iii": [dict(row) for row in TABLE_III], "contradictions": list(CONTRADICTIONS), "checks": checks()}


def _architecture():
    """Compare Table I with the network as built."""
    *layers, total = table_i()
    ours = [(tuple(row["output"]), row["parameters"]) for row in layers]
    return {"part": "Table I", "name": "architecture",
            "claim": "Table I: layers of these shapes have these numbers of parameters.",
            "printed": f"{len(TABLE_I)} layers, {sum(n for _, n in TABLE_I):,} parameters",
            "computed": f"{len(ours)} layers, {total['parameters']:,} parameters",
            "why": "The network is built from its description; shapes and parameters are those of its arrays.",
            "holds": ours == list(TABLE_I)}


def _with_whole_percent(name, printed, n):
    """Return how a check turns out if the precision, printed as "100 %", was rounded to a whole percent."""
    half, precision = Fraction(1, 20_000), Range(Fraction(995, 1000), Fraction(1))
    rates = {rate: Range(Fraction(str(value)) - half, Fraction(str(value)) + half) for rate, value in printed.items()
             if rate not in ("loss", "precision")}
    if name == "false positives":
        least = least_images(precision, rates["specificity"])
        holds, said = least <= n, f"both need {least:,} images"
    elif name == "one matrix":
        holds, said = find_matrix(rates | {"precision": precision}, n) is not None, "all matrices were tried again"
    else:
        return ""
    return (" If the precision was rounded to a whole percent (99.5 to 100 %), this check "
            f"{'holds' if holds else 'fails as well'}: {said}.")
