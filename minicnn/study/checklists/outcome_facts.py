"""What the results say of how the networks were evaluated and what came out, in sentences, for the checklists.

Of the same form as study_facts.py.
"""

from minicnn.errors import printable
from minicnn.evaluation.summary import HEADS
from minicnn.reporting.tables import join, number, percent
from minicnn.reporting.wording import figure
from minicnn.study.checklists.wording import MAIN, NOT_MEASURED, described, figures, parts_of, sentence, size
from minicnn.study.reading_results import claimed, of

__all__ = ["FACTS"]

_UNSEEN = ("test", "external")
_NO_GROUPS = "The manifest has no columns source, view, sex or age to divide by."


def _metrics(results):
    told = of(results, "honest", "test")
    names = [head for name, head in HEADS.items() if name != "n" and told and name in told]
    plots = {"roc_pr": "ROC and precision by recall", "reliability": "reliability", "confusions": "confusion matrices"}
    drawn = [plot for key, plot in plots.items() if key in results["figures"]]
    return names and (f"Of each part, such as the test part's {number(told['n'])} images: {join(names)}. Plots: "
                      f"{join(drawn) or 'none'}.")


def _uncertainty(results):
    told = of(results, "honest", "test")
    if not told or not told.get("intervals"):
        return None
    approximate = len(told.get("approximate") or [])
    return ("95 % intervals in which patients count, not images: Wilson's on the effective sample size for shares, "
            f"bootstrap over patients for what is a mean over seeds. {len(told['intervals'])} figures of the honest "
            f"test part ({size(told)}) have one, such as accuracy {figure(told, 'accuracy')}; {approximate} are called "
            "approximate. No hypothesis was tested.")


def _robustness(results):
    return sentence(f"AUC on disturbed pictures, {printable(check['name'])}: "
                    + ", ".join(f"{printable(row['condition'])} {number(row['auc'], '{:.3f}')}"
                                for row in check["rows"])
                    for check in results["stress"] if check.get("rows"))


def _explainability(results):
    sanity = results["sanity"]
    if not sanity.get("rows"):
        return None
    rows = ", ".join(f"{printable(row['layer'])} {number(row['correlation'], '{:.2f}')}" for row in sanity["rows"])
    layer = printable(sanity.get("layer", "the last convolution"))
    return (f"Grad-CAM at {layer}: {percent(sanity.get('border_share'))} of the attribution falls on the border, where "
            f"{percent(sanity.get('even_share'))} would by area. Rank correlation with the map after the weights are "
            f"made random, from the last layer on: {rows}.")


def _external(results):
    return results["external"] and described(results, ("external",), ("accuracy", "auc"))


def _internal(results):
    return of(results, "honest", "test") and described(results, ("training", "test"), ("accuracy", "auc"), ("honest",))


def _failures(results):
    worst = results["worst"]
    if not worst:
        return None
    said = "; ".join(f"{printable(one['path'])} ({printable(one['label'])} taken for {printable(one['prediction'])} at "
                     f"{one['probability']:.3f}, {printable(one['part'])} part)" for one in worst)
    return f"The {len(worst)} surest mistakes: {said}."


def _unseen(results):
    return sentence(f"{printable(fold['name'])}, recipe {recipe}: {figures(told, fold['shows'])}"
                    for fold in results["unseen"] for recipe, told in fold["recipes"].items() if told)


def _clusters(results):
    folds = [f"{printable(fold['source'])} ({number(fold['training'])} images to train on, {number(fold['test'])} to "
             "test)" for fold in results["unseen"] if any(fold["recipes"].values())]
    return folds and f"Held out in turn: {join(folds)}. Parameters were not compared among sources."


def _groups(results):
    return sentence(f"{part} part, {column} {printable(word)} ({number(group['n'])} images): accuracy "
                    f"{figure(group, 'accuracy')}" for part, told in parts_of(results, "honest", _UNSEEN).items()
                    for column, words in (told.get("groups") or {}).items() for word, group in words.items())


def _performance(results):
    return described(results, ("validation", "test", "external"), ("accuracy", "auc"))


def _subgroups(results):
    whole = _performance(results)
    return whole and f"{whole} {_groups(results) or _NO_GROUPS}"


def _variability(results):
    found = [text for text in (_robustness(results), _groups(results), _unseen(results)) if text]
    return " ".join(found) + " None of it was registered beforehand." if found else None


def _errors(results):
    return _failures(results) and _groups(results) and f"{_failures(results)} {_groups(results)}"


def _threshold(results):
    told = of(results, "honest", "test")
    at = told and told.get("at_threshold")
    return at and (f"Positive above 0.5; beside it above {at['threshold']:.4g}, fixed on the validation part before "
                   f"the test part was looked at: recall there {figure(at, 'recall')}, specificity "
                   f"{figure(at, 'specificity')}.")


def _output(results):
    threshold = _threshold(results)
    return threshold and f"A probability of the positive class for each picture, by a forward pass. {threshold}"


def _blind(results):
    suspects = [f"{printable(one['name'])} alone {one['auc']:.2f}" for one in results["audit"].get("shortcuts", [])
                if one.get("judged") and one.get("auc") is not None]
    return suspects and ("It was given the pixels alone. What gives labels away without lungs, as AUC: "
                         f"{', '.join(suspects)}.")


def _indeterminate(results):
    told = of(results, "honest", "test")
    return told and (f"There were none: each of the {number(told['n'])} test images got an answer. Undefined figures: "
                     + ("; ".join(f"{HEADS.get(name, name)}: {printable(why)}" for name, why in
                                  (told.get("undefined") or {}).items()) or "0") + ".")


def _confusion(results):
    parts, drawn = parts_of(results, "honest", _UNSEEN), results["figures"].get("confusions")
    said = [f"{name} part ({size(told)}): {figures(told, ('recall', 'specificity', 'precision'))}"
            for name, told in parts.items()]
    return drawn and said and sentence([f"drawn in {printable(drawn)}", *said])


def _headline(results):
    claim = claimed(results)
    said = [described(results, parts, ("accuracy",), (protocol,))
            for protocol, parts in (("paper", ("validation",)), ("honest", _UNSEEN))]
    return claim is not None and any(said) and " ".join([f"The paper prints an accuracy of {percent(claim, 2)}.",
                                                         *filter(None, said)])


def _limits(results):
    flagged = [printable(one["name"]) for one in results["audit"].get("shortcuts", []) if one.get("flagged")]
    said = [f"labels are given away by the {join(flagged)} alone"] if flagged else []
    said += [f"{name} part: accuracy {figure(told, 'accuracy')} on {size(told)}"
             for name, told in parts_of(results, "honest", _UNSEEN).items()]
    return sentence(said + [printable(remark) for remark in results["remarks"]])


def _repeat(results):
    version = results["environment"].get("minicnn")
    command = results["command"]
    return command and version and f"minicnn {printable(version)}, BSD 3-Clause; the command: {printable(command)}"


def _stored(results):
    parts = parts_of(results, "honest")
    kept = join(f"{number(told['n'])} {name}" for name, told in parts.items())
    return parts and (f"Each run folder keeps the probability of every image (predictions.csv: {kept} under the honest "
                      "protocol), the split, the settings, the weights and how often the test part was looked at; "
                      "results.json keeps the rest.")


# Each fact, and what is said where the results do not have it.
FACTS = {
    "metrics": (_metrics, NOT_MEASURED),
    "uncertainty": (_uncertainty, "There are no intervals in the results."),
    "robustness": (_robustness, "The pictures were not disturbed to see what a network needs."),
    "explainability": (_explainability, "No map was made, or none that could be tested."),
    "internal": (_internal, NOT_MEASURED),
    "external": (_external, "There were no images of another place: give them with --external."),
    "performance": (_performance, NOT_MEASURED),
    "subgroups": (_subgroups, NOT_MEASURED),
    "accuracy": (lambda results: of(results, "honest", "test") and described(
        results, ("test", "external"), (*MAIN, "precision", "average_precision", "brier"), ("honest",)), NOT_MEASURED),
    "failures": (_failures, "No mistakes are listed in the results."),
    "unseen": (_unseen, "No source was held out: that needs a column source with two or more sources."),
    "clusters": (_clusters, "No source was held out: that needs a column source with two or more sources."),
    "groups": (_groups, _NO_GROUPS),
    "variability": (_variability, NOT_MEASURED),
    "errors": (_errors, f"Errors by group are not known. {_NO_GROUPS}"),
    "threshold": (_threshold, "No threshold was fixed on the validation part."),
    "output": (_output, "No threshold was fixed on the validation part."),
    "blind": (_blind, "The audit did not look at what gives labels away."),
    "indeterminate": (_indeterminate, NOT_MEASURED),
    "confusion": (_confusion, "No table of answers by label was drawn."),
    "headline": (_headline, NOT_MEASURED),
    "limits": (_limits, NOT_MEASURED),
    "repeat": (_repeat, "The results do not hold the command."),
    "stored": (_stored, NOT_MEASURED),
}
