"""The first chapter of the report: the results on one screen, in sentences that follow from them."""

from minicnn.core.text import join, number, percent
from minicnn.reporting.document import Bullets, Card, Cards, Chapter, Fold, Heading, Text
from minicnn.reporting.tables import by_row, reasons
from minicnn.reporting.wording import (against_chance, against_reported, difference, generalizes, is_approximate,
                                       value_and_interval, value_text, why_none)
from minicnn.study.forest_plots import headline_rows, key
from minicnn.study.results import (PROTOCOL_NAMES, fold_summary, image_of, not_judged, reported, several_seeds,
                                   summary_of)

__all__ = ["answer", "claimed", "summary", "explanations", "weakest_source", "measured"]

_NAMES = PROTOCOL_NAMES | {"robust": "the honest protocol, recipe robust"}
_ALONE = {"header": "the file header alone", "border": "the image border alone", "source": "the source alone",
          "thumbnail": "an 8 x 8 thumbnail", "manufacturer": "the manufacturer alone", "detector": "the detector alone",
          "photometric": "the photometric interpretation alone", "compression": "lossy compression alone"}


def answer(results):
    """Return the Chapter: a few sentences, the main values, the main plot, its values as a table, explanations."""
    rows = measured(results)
    accuracies = "; ".join(f"{name} {value_text(one, 'accuracy')}" for name, one in rows.items())
    return Chapter("answer", "Summary", [
        *map(Text, summary(results)),
        Cards("Accuracy, with its 95 % interval", _cards(results)),
        image_of(results, "headline", f"The reported and the measured values. {key(headline_rows(results))}",
                 "Forest plot of accuracy and AUC. Accuracies: the paper reports "
                 f"{percent(claimed(results), 2)}; {accuracies}."),
        *reasons(rows, ("accuracy", "auc")),
        Fold("The values of the plot", [
            by_row("The values of the plot", rows, ("accuracy", "auc"), "measured on",
                   None if not_judged(results) else ("AUC against chance", lambda one: against_chance(one, "auc")))]),
        Heading("Why the values differ"), Bullets(explanations(results))])


def claimed(results):
    """Return the accuracy that the paper reports for validation, or None."""
    return reported(results).get("accuracy")


def summary(results):
    """Return sentences on the reported accuracy, the paper's protocol, the honest one and external validation."""
    paper, honest, away = (summary_of(results, *place) for place in
                           (("paper", "validation"), ("honest", "test"), ("honest", "external")))
    n, unjudged = several_seeds(results), not_judged(results)
    runs, what = f"over {n} seeds" if n else "with one seed", "what was run" if unjudged else "its recipe"
    said = [f"The paper reports an accuracy of {percent(claimed(results), 2)}. On these data, {runs}, {what} gives "
            f"{value_text(paper, 'accuracy')} under the paper's protocol, and "
            + (f"{value_text(honest, 'accuracy')} on a test set of other patients." if honest
               else "there is no test set of other patients.")
            + (f" How the paper's value compares is {unjudged}." if unjudged else "")]
    if away and unjudged:
        said.append(f"In external validation on {number(results['external']['images'])} images, the accuracy is "
                    f"{value_text(away, 'accuracy')}{_range_of_seeds(away)} and the AUC {value_text(away, 'auc')}. "
                    f"Whether the network generalizes is {unjudged}.")
    elif away:
        counts = results["external"].get("counts")
        said.append(f"In external validation on {number(results['external']['images'])} images, the accuracy is "
                    f"{value_text(away, 'accuracy')}{_range_of_seeds(away)}: {against_chance(away, counts=counts)}. "
                    f"The AUC is {value_text(away, 'auc')}. {generalizes(honest, away, counts)}")
    else:
        said.append("There was no external validation, so how well the network generalizes is unknown (--external "
                    "takes images of another hospital).")
    return said


def measured(results):
    """Return {name: summary} of all values of ours in the main plot."""
    rows = {"the paper's protocol, validation": summary_of(results, "paper", "validation"),
            "the honest protocol, test": summary_of(results, "honest", "test"),
            f"{_NAMES['robust']}, test": summary_of(results, "robust", "test")}
    rows |= {fold["name"]: fold_summary(fold) for fold in results["unseen"]}
    if results["external"]:
        rows |= {f"external validation, {_NAMES[name]}": summary_of(results, name, "external") for name in _NAMES}
    return {name: one for name, one in rows.items() if one is not None}


def weakest_source(results):
    """Return (fold, number of folds): the held-out positive source with the lowest AUC; (None, 0) without any."""
    folds = [fold for fold in results["unseen"] if "auc" in fold["shows"]
             and (fold_summary(fold) or {}).get("auc") is not None]
    return min(folds, key=lambda fold: fold_summary(fold)["auc"], default=None), len(folds)


def explanations(results):
    """Return a Text for each measured cause of the differences between the values."""
    paper, honest = summary_of(results, "paper", "validation"), summary_of(results, "honest", "test")
    said, unjudged = [], not_judged(results)
    if unjudged:
        said.append(Text("That alone can explain the differences. What leakage, held-out sources and shortcuts add is "
                         f"{unjudged}.", "Not the paper's recipe."))
    elif paper and honest:
        said.append(Text("The paper augments each radiograph and splits afterwards, so versions of one image are in "
                         "the training and in the validation set. With a split by patient, the accuracy is "
                         f"{difference(paper, honest)}.", "Leakage."))
    confounders = results["audit"].get("shortcuts", [])
    if flagged := [one for one in confounders if one.get("flagged")]:
        names = join(f"{_ALONE.get(one['name'], one['name'])} (AUC {number(one['auc'], '{:.2f}')})" for one in flagged)
        said.append(Text(f"Without the lungs, the labels are predicted by {names}. A network can learn such a "
                         "shortcut, so a high accuracy on these data does not show that it recognizes a disease.",
                         "Confounders."))
    elif confounders:
        said.append(Text("File header, image border and source are not shown to predict the labels.", "Confounders."))
    fold, count = weakest_source(results)
    if fold and not unjudged:
        one, which = fold_summary(fold), f"the weakest of the {count} sources" if count > 1 else "the only source"
        said.append(Text(f"Trained without {fold['source']}, {which} that could be held out, the network "
                         f"separates the classes there with an AUC of {value_text(one, 'auc')}: "
                         f"{against_chance(one, 'auc')}.", "Leave-one-source-out validation."))
    if results["stress"] and not unjudged:
        said += [Text(finding, "Shortcut check.") for finding in results["stress"][0]["findings"]]
    checks = results["paper"].get("checks", [])
    if failed := sum(not check["holds"] for check in checks):
        said.append(Text(f"{failed} of {len(checks)} consistency checks of the paper's own values fail: whatever the "
                         "data, they cannot all be correct.", "The paper's table."))
    return said


def _range_of_seeds(one):
    low, high = ((one.get(end) or {}).get("accuracy") for end in ("lowest", "highest"))
    return "" if None in (low, high) or low == high else f", {percent(low)} to {percent(high)} over seeds"


def _cards(results):
    paper, honest, away = (summary_of(results, *place) for place in
                           (("paper", "validation"), ("honest", "test"), ("honest", "external")))
    claim, external, unjudged = claimed(results), results["external"], not_judged(results)
    cards = [Card("Reported by the paper", percent(claim, 2), "no interval reported",
                  f"validation; the comparison is {unjudged}" if unjudged else
                  f"validation; {against_reported(paper, claim)} under its protocol"),
             _card("Paper's protocol", paper, "validation; versions of its images are in the training set"),
             _card("Honest protocol", honest, "test set of other patients")]
    fold, count = weakest_source(results)
    if fold:
        source = fold["source"] + (f", the weakest of {count}" if count > 1 else "")
        cards.append(_card("Held-out source", fold_summary(fold), source if unjudged else
                           f"{source}; AUC {against_chance(fold_summary(fold), 'auc')}"))
    cards.append(_card("External validation", away, f"{number(external['images'])} images" + ("" if unjudged else
                       f"; {against_chance(away, counts=external.get('counts'))}")) if external
                 else Card("External validation", "not done", "no images were given", "needed to show generalization"))
    return cards


def _card(label, one, remark):
    if not one or one.get("accuracy") is None:
        return Card(label, "undefined", why_none(one, "accuracy"), remark)
    value, interval = value_and_interval(one, "accuracy")
    approximate = ", approximate" * is_approximate(one, "accuracy")
    return Card(label, value, interval + approximate if interval else why_none(one, "accuracy"), remark)
