"""Facts for the checklists on evaluation and results, of the same form as study_facts.py."""

from minicnn.core.text import join, number, percent
from minicnn.errors import printable
from minicnn.evaluation.summary import HEADS
from minicnn.reporting.wording import value_text
from minicnn.study.checklists.wording import MAIN, NOT_MEASURED, described, sentence, sets_of, size, values_text
from minicnn.study.results import not_judged, reported, several_seeds, summary_of

__all__ = ["FACTS"]

_HELD_OUT = ("test", "external")
_NO_GROUPS = "The manifest has no columns source, view, sex or age that define subgroups."
_NO_SOURCES = "No source was held out: this needs a column source with two or more sources."
_NO_THRESHOLD = "No threshold was fixed on the validation set."


def _metrics(results):
    summary = summary_of(results, "honest", "test")
    names = [head for name, head in HEADS.items() if name != "n" and summary and name in summary]
    plots = {"roc_pr": "ROC and precision-recall curves", "reliability": "reliability curves",
             "confusions": "confusion matrices"}
    drawn = [plot for key, plot in plots.items() if key in results["figures"]]
    return names and (f"On each set, such as the test set of {number(summary['n'])} images: {join(names)}. Plots: "
                      f"{join(drawn) or 'none'}.")


def _uncertainty(results):
    summary = summary_of(results, "honest", "test")
    if not summary or not summary.get("intervals"):
        return None
    others = "means over seeds" if several_seeds(results) else "the rest"
    return ("95 % patient-clustered intervals: Wilson's with the effective sample size for proportions, bootstrap over "
            f"patients for {others}. {len(summary['intervals'])} metrics of the honest test set "
            f"({size(summary)}) have one, such as accuracy {value_text(summary, 'accuracy')}; "
            f"{len(summary.get('approximate') or [])} are approximate. No hypothesis was tested.")


def _robustness(results):
    return sentence(f"AUC on disturbed images, {printable(check['name'])}: "
                    + ", ".join(f"{printable(row['condition'])} {number(row['auc'], '{:.3f}')}"
                                for row in check["rows"])
                    for check in results["stress"] if check.get("rows"))


def _explainability(results):
    sanity = results["sanity"]
    if not sanity.get("rows"):
        return None
    rows = ", ".join(f"{printable(row['layer'])} {number(row['correlation'], '{:.2f}')}" for row in sanity["rows"])
    layer = printable(sanity.get("layer", "the last convolution"))
    return (f"Grad-CAM at {layer}: {percent(sanity.get('border_share'))} of the attribution is on the border, compared "
            f"with {percent(sanity.get('even_share'))} in a uniform map. Rank correlation with the map after the "
            f"weights are randomized, from the last layer on: {rows}.")


def _failures(results):
    worst = results["worst"]
    errors = "; ".join(f"{printable(one['path'])} ({printable(one['label'])} predicted as "
                       f"{printable(one['prediction'])} with {one['probability']:.3f}, {printable(one['part'])} set)"
                       for one in worst)
    return worst and f"The {len(worst)} errors with the highest probability: {errors}."


def _held_out(results):
    return sentence(f"{printable(fold['name'])}, recipe {recipe}: {values_text(summary, fold['shows'])}"
                    for fold in results["unseen"] for recipe, summary in fold["recipes"].items() if summary)


def _clusters(results):
    folds = [f"{printable(fold['source'])} ({number(fold['training'])} training images, {number(fold['test'])} test "
             "images)" for fold in results["unseen"] if any(fold["recipes"].values())]
    return folds and f"Held out in turn: {join(folds)}. Parameters were not compared between sources."


def _groups(results):
    return sentence(f"{name} set, {column} {printable(word)} ({number(group['n'])} images): accuracy "
                    f"{value_text(group, 'accuracy')}"
                    for name, summary in sets_of(results, "honest", _HELD_OUT).items()
                    for column, words in (summary.get("groups") or {}).items() for word, group in words.items())


def _performance(results):
    return described(results, ("validation", *_HELD_OUT), ("accuracy", "auc"))


def _subgroups(results):
    whole = _performance(results)
    return whole and f"{whole} {_groups(results) or _NO_GROUPS}"


def _variability(results):
    found = [text for text in (_robustness(results), _groups(results), _held_out(results)) if text]
    return " ".join(found) + " None of it was preregistered." if found else None


def _errors(results):
    return _failures(results) and _groups(results) and f"{_failures(results)} {_groups(results)}"


def _threshold(results):
    summary = summary_of(results, "honest", "test")
    at = summary and summary.get("at_threshold")
    return at and (f"Positive above 0.5, and above {at['threshold']:.4g}, which was fixed on the validation set before "
                   f"the test set was evaluated: recall {value_text(at, 'recall')}, specificity "
                   f"{value_text(at, 'specificity')}.")


def _output(results):
    threshold = _threshold(results)
    return threshold and f"The probability of the positive class of each image, by a forward pass. {threshold}"


def _blind(results):
    found = [f"{printable(one['name'])} alone {one['auc']:.2f}" for one in results["audit"].get("shortcuts", [])
             if one.get("judged") and one.get("auc") is not None]
    return found and f"The network received only the pixels. AUC of confounders: {', '.join(found)}."


def _indeterminate(results):
    summary = summary_of(results, "honest", "test")
    undefined = "; ".join(f"{HEADS.get(name, name)}: {printable(why)}"
                          for name, why in ((summary or {}).get("undefined") or {}).items())
    return summary and (f"None: each of the {number(summary['n'])} test images has a prediction. Undefined metrics: "
                        f"{undefined or '0'}.")


def _confusion(results):
    sets, drawn = sets_of(results, "honest", _HELD_OUT), results["figures"].get("confusions")
    said = [f"{name} set ({size(summary)}): {values_text(summary, ('recall', 'specificity', 'precision'))}"
            for name, summary in sets.items()]
    return drawn and said and sentence([f"plotted in {printable(drawn)}", *said])


def _headline(results):
    accuracy = reported(results).get("accuracy")
    said = [described(results, names, ("accuracy",), (protocol,))
            for protocol, names in (("paper", ("validation",)), ("honest", _HELD_OUT))]
    if any(said) and (unjudged := not_judged(results)):
        said.append(f"How they compare is {unjudged}.")
    return accuracy is not None and any(said) and " ".join([f"The paper reports an accuracy of {percent(accuracy, 2)}.",
                                                            *filter(None, said)])


def _limits(results):
    flagged = [printable(one["name"]) for one in results["audit"].get("shortcuts", []) if one.get("flagged")]
    said = [f"the labels are predicted by the {join(flagged)} alone"] if flagged else []
    said += [f"{name} set: accuracy {value_text(summary, 'accuracy')} on {size(summary)}"
             for name, summary in sets_of(results, "honest", _HELD_OUT).items()]
    unjudged = not_judged(results)
    return sentence([f"the paper's recipe is {unjudged}"] * bool(unjudged) + said
                    + [printable(remark) for remark in results["remarks"]])


def _repeat(results):
    version, command = results["environment"].get("minicnn"), results["command"]
    return command and version and f"minicnn {printable(version)}, BSD 3-Clause; command: {printable(command)}"


def _stored(results):
    sets = sets_of(results, "honest")
    kept = join(f"{number(summary['n'])} {name}" for name, summary in sets.items())
    return sets and (f"Each run folder holds the probability of every image (predictions.csv: {kept} under the honest "
                     "protocol), the split, the options, the weights and the number of evaluations on the test set; "
                     "results.json holds the rest.")


# Each fact, and what is said where the results do not have it.
FACTS = {
    "metrics": (_metrics, NOT_MEASURED),
    "uncertainty": (_uncertainty, "There are no intervals in the results."),
    "robustness": (_robustness, "The images were not disturbed to test the network."),
    "explainability": (_explainability, "There is no map that could be tested."),
    "internal": (lambda results: summary_of(results, "honest", "test") and described(
        results, ("training", "test"), ("accuracy", "auc"), ("honest",)), NOT_MEASURED),
    "external": (lambda results: results["external"] and described(results, ("external",), ("accuracy", "auc")),
                 "There was no external validation: give images with --external."),
    "performance": (_performance, NOT_MEASURED),
    "subgroups": (_subgroups, NOT_MEASURED),
    "accuracy": (lambda results: summary_of(results, "honest", "test") and described(
        results, _HELD_OUT, (*MAIN, "precision", "average_precision", "brier"), ("honest",)), NOT_MEASURED),
    "failures": (_failures, "There are no errors in the results."),
    "unseen": (_held_out, _NO_SOURCES),
    "clusters": (_clusters, _NO_SOURCES),
    "groups": (_groups, _NO_GROUPS),
    "variability": (_variability, NOT_MEASURED),
    "errors": (_errors, f"Errors by subgroup are unknown. {_NO_GROUPS}"),
    "threshold": (_threshold, _NO_THRESHOLD),
    "output": (_output, _NO_THRESHOLD),
    "blind": (_blind, "Confounders were not examined."),
    "indeterminate": (_indeterminate, NOT_MEASURED),
    "confusion": (_confusion, "There is no plot of confusion matrices."),
    "headline": (_headline, NOT_MEASURED),
    "limits": (_limits, NOT_MEASURED),
    "repeat": (_repeat, "The command is not in the results."),
    "stored": (_stored, NOT_MEASURED),
}
