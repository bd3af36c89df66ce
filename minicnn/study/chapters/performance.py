"""Chapters of the report on performance: curves and calibration, generalization, the robust recipe."""

from minicnn.core.text import join, number, percent
from minicnn.evaluation.summary import SHARES, images_and_patients
from minicnn.reporting.document import Bullets, Chapter, Fold, Heading, Table, Text
from minicnn.reporting.tables import NONE, by_group, by_metric, lines, reasons
from minicnn.reporting.wording import against_chance, bounds, difference, generalizes, value_text, why_none
from minicnn.study.forest_plots import SOURCE_METRICS, key, source_rows
from minicnn.study.results import (PROTOCOL_NAMES, counts_text, fold_summary, image_of, summary_of, honest_test_groups,
                                   honest_test_seeds, not_judged, several_seeds)

__all__ = ["curves", "generalization", "robust", "calibrated"]

_RANKING = ("auc", "average_precision", "brier", "slope", "intercept", "loss")


def curves(results):
    """Return the Chapter of ROC, precision-recall and reliability curves, confusion matrices and the threshold."""
    sets = {"honest protocol, test": summary_of(results, "honest", "test"),
            "external validation": summary_of(results, "honest", "external")}
    sets, unjudged = {name: summary for name, summary in sets.items() if summary}, not_judged(results)
    return Chapter("curves", "Discrimination and calibration", [
        image_of(results, "roc_pr", "ROC and precision-recall curves with their areas, AUC and AP (average "
                 f"precision){', as mean and range over seeds' * bool(several_seeds(results))}; "
                 "the diagonal is chance.",
                 "Two plots: true positive rate against false positive rate, and precision against recall. "
                 + _listed(sets, "auc", "AUC")),
        image_of(results, "reliability", "Reliability curves: the observed proportion of positives against the "
                 "predicted probability, with 95 % intervals; bars: how many images have it. A calibrated network lies "
                 "on the diagonal.",
                 "A plot of observed proportions against predicted probabilities. " + _listed(sets, "slope", "slope")),
        *([Text(f"The calibration is {unjudged}.")] if unjudged else
          (Text(f"{name}: {calibrated(summary)}") for name, summary in sets.items())),
        Fold("The values of discrimination and calibration", [
            by_metric("Discrimination and calibration", sets, _RANKING), *reasons(sets, _RANKING)]),
        image_of(results, "confusions", "Confusion matrices at a threshold of 0.5"
                 + ", all seeds pooled" * bool(several_seeds(results)) + ".",
                 "Tables of counts, true class by predicted class. " + _listed(sets, "accuracy", "accuracy")),
        *_thresholds(results)])


def generalization(results):
    """Return the Chapter on leave-one-source-out validation, subgroups of the test set, and external validation."""
    return Chapter("elsewhere", "Generalization", [
        Heading("Leave-one-source-out validation"), *_held_out(results),
        Heading("Subgroups: source, view, sex and age"), *_groups(results),
        Heading("External validation"), *_external(results)])


def robust(results):
    """Return the Chapter that compares the robust recipe with the paper's."""
    pairs = {name: (summary_of(results, "honest", key), summary_of(results, "robust", key))
             for name, key in (("test", "test"), ("external validation", "external"))}
    pairs |= {fold["name"]: (fold_summary(fold), fold_summary(fold, "robust")) for fold in results["unseen"]}
    pairs = {name: pair for name, pair in pairs.items() if None not in pair}
    title = "The robust recipe"
    if not pairs:
        return Chapter("robust", title, [Text("The robust recipe was not run.")])
    unjudged = not_judged(results)
    rows = [[name, lines(paper, "accuracy"), lines(better, "accuracy"), lines(paper, "auc"), lines(better, "auc"),
             *([] if unjudged else [difference(paper, better, "auc")])] for name, (paper, better) in pairs.items()]
    columns = {f"{name}, {recipe}": summary for name, pair in pairs.items()
               for recipe, summary in zip(("paper", "robust"), pair)}
    return Chapter("robust", title, [
        Text((results["protocols"].get("robust") or {}).get("what", ""), "Protocol."),
        Text("The network is the paper's; input and training differ. The recipe was selected by leave-one-source-out "
             "validation on public collections; where these are in the data, its results are optimistic. "
             + ("The external images were not used for the selection." if results["external"] else "")),
        Table("The paper's recipe and the robust recipe",
              ["", "accuracy, paper's recipe", "accuracy, robust", "AUC, paper's recipe", "AUC, robust",
               *([] if unjudged else ["AUC of robust"])], rows),
        *([Text(f"Which recipe does better is {unjudged}.")] if unjudged else []),
        *reasons(columns, ("accuracy", "auc"))])


def calibrated(summary):
    """Return a sentence on the calibration slope, which is 1 for calibrated probabilities.

    >>> calibrated({"slope": 0.5, "intervals": {"slope": [0.4, 0.7]}})
    'the probabilities are too extreme (calibration slope 0.50 (0.40 to 0.70), ideal 1).'
    >>> calibrated({"slope": 1.1, "intervals": {"slope": [0.9, 1.3]}})
    'no miscalibration is shown (calibration slope 1.10 (0.90 to 1.30), ideal 1).'
    >>> calibrated({"slope": 0.2, "intervals": {"slope": [-0.5, 0.8]}}).split(" (")[0]
    'the probabilities are not shown to increase with the proportion of positives'
    >>> calibrated({"slope": None, "undefined": {"slope": "the classes do not overlap"}})
    'the calibration cannot be judged: the classes do not overlap.'
    """
    reason, pair = why_none(summary, "slope"), bounds(summary, "slope")
    if reason:
        return f"the calibration cannot be judged: {reason}."
    if pair[1] < 0:
        word = "the probabilities decrease with the proportion of positives"
    elif pair[0] <= 0:
        word = "the probabilities are not shown to increase with the proportion of positives"
    elif pair[1] < 1:
        word = "the probabilities are too extreme"
    else:
        word = "the probabilities are too moderate" if pair[0] > 1 else "no miscalibration is shown"
    return f"{word} (calibration slope {value_text(summary, 'slope')}, ideal 1)."


def _listed(sets, metric, word):
    return "; ".join(f"{name}: {word} {value_text(summary, metric)}" for name, summary in sets.items()) + "."


def _thresholds(results):
    """Return the proportions at 0.5 and at the threshold that was fixed on validation, of each seed."""
    seeds = zip(results["settings"]["seeds"], honest_test_seeds(results))
    rows = [[f"seed {seed}, {where}", (percent(at["threshold"]),), *(lines(at, name)[:2] for name in SHARES)]
            for seed, summary in seeds if summary.get("at_threshold") for where, at in
            (("at 0.5", summary | {"threshold": 0.5}), ("fixed on validation", summary["at_threshold"]))]
    if not rows:
        return [Text("No threshold was fixed on validation.")]
    return [Heading("Threshold"),
            Text("The threshold is fixed on the validation set. A threshold chosen on the test set would give "
                 "optimistic results."),
            Fold("The values at both thresholds", [
                Table("Honest protocol, test set, at 0.5 and at the threshold fixed on validation",
                      ["", "threshold", "accuracy", "specificity", "precision", "recall", "F1"], rows)])]


# ---- Generalization --------------------------------------------------------------------------------------------------

def _held_out(results):
    folds = results["unseen"]
    if not folds:
        return [Text("No source could be held out: the sources are unknown, or there is only one.")]
    metrics = ("accuracy", "recall", "specificity", "auc")
    summaries = {fold["name"]: fold_summary(fold) for fold in folds if fold_summary(fold)}
    rows = [[fold["name"], number(fold["training"]), number(fold["test"]),
             *(lines(fold_summary(fold), metric) if metric in ("accuracy", *fold["shows"]) else (NONE,)
               for metric in metrics)] for fold in folds]
    notes = [f"{fold['name']}: not trained, because {fold['reason']}." for fold in folds if fold["reason"]]
    unjudged = not_judged(results)
    notes += [f"Whether the networks generalize to held-out sources is {unjudged}."] if unjudged else [
        f"{name}: by AUC {against_chance(summary, 'auc')}." for name, summary in summaries.items()
        if summary.get("auc") is not None]
    return [Text("Each source is held out in turn, together with some of the patients who have only negative images: "
                 "the network is trained on all others and tested on these. A source with one class gives recall or "
                 "specificity alone."),
            image_of(results, "sources", "Held-out sources, and the honest test set by source. "
                     + key(source_rows(results), SOURCE_METRICS),
                     "Forest plot by source. " + _listed(summaries, "auc", "AUC")),
            *([Bullets(notes)] if notes else []),
            Fold("The values of the held-out sources", [
                Table("Held-out sources, the paper's recipe", ["held out", "training images", "test images", "accuracy",
                                                               "recall", "specificity", "AUC"], rows),
                *reasons(summaries, metrics[:3])])]


def _groups(results):
    groups, seeds = honest_test_groups(results)
    if not groups:
        return [Text("There are no subgroups: the data have no column source, view, sex or age with more than one "
                     "value. Name such columns with --columns.")]
    blocks = [Text("Small subgroups have wide intervals, and a subgroup of one class has no AUC. Subgroups may differ "
                   "in other respects too, so a difference between them has no single cause.")]
    for column, words in groups.items():
        blocks.append(Fold(f"By {column}: {join(words)}", [
            by_group(f"Honest protocol, test set by {column}, {seeds}", column, words),
            *reasons({f"{column} {word}": summary for word, summary in words.items()},
                     ("accuracy", "specificity", "recall", "auc"))]))
    return blocks


def _external(results):
    external = results["external"]
    if not external:
        return [Text("Not done: no external images were given (--external). Without them, how well the network "
                     "generalizes is unknown.")]
    rows = {name: summary for protocol, name in PROTOCOL_NAMES.items()
            if (summary := summary_of(results, protocol, "external"))}
    internal, away = summary_of(results, "honest", "test"), summary_of(results, "honest", "external")
    unjudged = not_judged(results)
    verdict = f"Whether the network generalizes is {unjudged}." if unjudged else (
        f"Under the honest protocol the accuracy is {value_text(away, 'accuracy')}: "
        f"{against_chance(away, counts=external['counts'])}. The AUC is {value_text(away, 'auc')}: "
        f"{against_chance(away, 'auc')}. {generalizes(internal, away, external['counts'])}")
    blocks = [Text(f"{images_and_patients(external)} "
                   f"({counts_text(external['counts'])}), not used for training or selection."),
              Fold("All metrics of the external validation", [by_metric("External validation", rows),
                                                              *reasons(rows)]),
              Text(verdict)]
    if external.get("remark"):
        blocks.append(Text(external["remark"], "Note."))
    groups = (away or {}).get("groups") or {}
    return blocks + [Fold(f"External validation by {column}: {join(words)}",
                          [by_group(f"External validation by {column}", column, words)])
                     for column, words in groups.items()]
