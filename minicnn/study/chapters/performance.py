"""Chapters of the report on how well the networks do: curves, other places and other people, the robust recipe."""

from minicnn.evaluation.summary import SHARES
from minicnn.reporting.document import Bullets, Chapter, Heading, Table, Text
from minicnn.reporting.tables import by_group, by_metric, lines, number, percent, reasons
from minicnn.reporting.wording import against_guessing, bounds, carried_over, figure, points, why_none
from minicnn.study.reading_results import PROTOCOLS, counts_of, drawn, of, recipe_of

__all__ = ["curves", "elsewhere", "robust", "calibrated"]

_SURE = ("average_precision", "brier", "slope", "intercept")


def curves(results):
    """Return the Chapter of ROC, precision and recall, reliability, confusion matrices and the chosen threshold."""
    parts = {"honest protocol, test": of(results, "honest", "test"),
             "another hospital": of(results, "honest", "external")}
    parts = {name: told for name, told in parts.items() if told}
    return Chapter("curves", "How well it ranks, and how sure it is", [
        drawn(results, "roc_pr", "ROC and precision against recall. The thin line is guessing.",
              "Two charts of curves: true positive rate against false positive rate, and precision against recall. "
              + _listed(parts, "auc", "AUC")),
        drawn(results, "reliability", "Reliability: of the pictures given about this probability, the share that is "
              "positive. On the diagonal a probability means what it says.",
              "A chart of observed shares against given probabilities. " + _listed(parts, "slope", "slope")),
        *(Text(f"{name}: {calibrated(told)}") for name, told in parts.items()),
        by_metric("Ranking and calibration", parts, ("auc", *_SURE, "loss")), *reasons(parts, ("auc", *_SURE, "loss")),
        drawn(results, "confusions", "Confusion matrices at a probability above 0.5, all seeds together.",
              "Tables of counts, true class by answer. " + _listed(parts, "accuracy", "accuracy")),
        *_thresholds(results)])


def elsewhere(results):
    """Return the Chapter on sources unseen, on groups of the honest test part, and on the external set."""
    return Chapter("elsewhere", "Other sources, other people, another hospital", [
        Heading("Sources that the network has never seen"), *_unseen(results),
        Heading("By source, view, sex and age"), *_groups(results),
        Heading("Another hospital"), *_external(results)])


def robust(results):
    """Return the Chapter on the recipe robust beside the paper's."""
    pairs = {"test": (of(results, "honest", "test"), of(results, "robust", "test")),
             "another hospital": (of(results, "honest", "external"), of(results, "robust", "external"))}
    pairs |= {fold["name"]: (recipe_of(fold), recipe_of(fold, "robust")) for fold in results["unseen"]}
    pairs = {name: pair for name, pair in pairs.items() if None not in pair}
    if not pairs:
        return Chapter("robust", "Can it be done better?", [Text("The recipe robust was not run.")])
    rows = [[name, lines(paper, "accuracy"), lines(better, "accuracy"), lines(paper, "auc"), lines(better, "auc"),
             points(paper, better, "auc")] for name, (paper, better) in pairs.items()]
    columns = {f"{name}, {recipe}": told for name, pair in pairs.items()
               for recipe, told in zip(("paper", "robust"), pair)}
    return Chapter("robust", "Can it be done better?", [
        Text((results["protocols"].get("robust") or {}).get("what", ""), "The recipe robust."),
        Text("The network is the paper's; only what it is shown and how it is trained differ. The recipe was chosen "
             "by what it does on unseen sources of public collections; where these are in the data, they flatter it. "
             + ("Images of another hospital had no say in it." if results["external"] else "")),
        Table("The paper's recipe and the recipe robust",
              ["", "accuracy, paper's recipe", "accuracy, robust", "AUC, paper's recipe", "AUC, robust",
               "robust's AUC is"], rows),
        *reasons(columns, ("accuracy", "auc"))])


def calibrated(told):
    """Return a sentence on the calibration slope, which is 1 where probabilities are as far apart as they should be.

    >>> calibrated({"slope": 0.5, "intervals": {"slope": [0.4, 0.7]}})
    'its probabilities are too extreme (calibration slope 0.500 (0.400 to 0.700), 1 would be right).'
    >>> calibrated({"slope": 1.1, "intervals": {"slope": [0.9, 1.3]}})
    'no want of calibration is shown (calibration slope 1.100 (0.900 to 1.300), 1 would be right).'
    >>> calibrated({"slope": 0.2, "intervals": {"slope": [-0.5, 0.8]}}).split(" (")[0]
    'its probabilities are not shown to rise with the share of positives'
    >>> calibrated({"slope": None, "undefined": {"slope": "the classes do not overlap"}})
    'calibration cannot be judged: the classes do not overlap.'
    """
    reason, pair = why_none(told, "slope"), bounds(told, "slope")
    if reason:
        return f"calibration cannot be judged: {reason}."
    if pair[1] < 0:
        word = "its probabilities point the wrong way"
    elif pair[0] <= 0:
        word = "its probabilities are not shown to rise with the share of positives"
    elif pair[1] < 1:
        word = "its probabilities are too extreme"
    else:
        word = "its probabilities are too timid" if pair[0] > 1 else "no want of calibration is shown"
    return f"{word} (calibration slope {figure(told, 'slope')}, 1 would be right)."


def _listed(parts, metric, word):
    return "; ".join(f"{name}: {word} {figure(told, metric)}" for name, told in parts.items()) + "."


def _thresholds(results):
    """Return the shares at 0.5 and at the threshold that was fixed on validation, of each seed."""
    part = (results["protocols"].get("honest") or {}).get("parts", {}).get("test", {})
    seeds = list(zip(results["settings"]["seeds"], part.get("seeds") or []))
    rows = [[f"seed {seed}, {where}", (percent(at["threshold"]),), *(lines(at, name)[:2] for name in SHARES)]
            for seed, told in seeds if told.get("at_threshold") for where, at in
            (("at 0.5", told | {"threshold": 0.5}), ("fixed on validation", told["at_threshold"]))]
    if not rows:
        return [Text("No threshold was fixed on validation.")]
    return [Heading("The threshold"),
            Text("The threshold is fixed on validation, never on test: what the test part gives at the best threshold "
                 "of its own would be better than the truth."),
            Table("Honest test at 0.5 and at the threshold fixed on validation",
                  ["", "positive above", "accuracy", "specificity", "precision", "recall", "F1"], rows)]


# ---- Elsewhere -------------------------------------------------------------------------------------------------------

def _unseen(results):
    folds = results["unseen"]
    if not folds:
        return [Text("No source could be held out: where images come from is not known, or all come from one place.")]
    blocks = [Text("Each source is held out in turn, with a part of the negatives' patients: the network is trained "
                   "on all others and tested on people and a place that it does not know. A source with one class "
                   "shows recall or specificity alone.")]
    rows = [[fold["name"], number(fold["training"]), number(fold["test"]),
             *(_of_fold(fold, name) for name in ("accuracy", "recall", "specificity", "auc"))] for fold in folds]
    told = {fold["name"]: recipe_of(fold) for fold in folds if recipe_of(fold)}
    blocks += [drawn(results, "sources", "Sources unseen, and the honest test part by source, with "
                     "95 % intervals.",
                     "Forest plot by source. " + _listed(told, "auc", "AUC")),
               Table("Sources unseen, the paper's recipe", ["held out", "trained on", "tested on", "accuracy", "recall",
                                                            "specificity", "AUC"], rows)]
    said = [f"{fold['name']}: not trained, for {fold['reason']}." for fold in folds if fold["reason"]]
    said += [f"{name}: by AUC {against_guessing(one, 'auc')}." for name, one in told.items()
             if one.get("auc") is not None]
    return [*blocks, *reasons(told, ("accuracy", "recall", "specificity")), *([Bullets(said)] if said else [])]


def _of_fold(fold, metric):
    told = recipe_of(fold)
    return lines(told, metric) if told and (metric == "accuracy" or metric in fold["shows"]) else lines(None, metric)


def _groups(results):
    part = (results["protocols"].get("honest") or {}).get("parts", {}).get("test", {})
    of_mean = (part.get("mean") or {}).get("groups")
    groups = of_mean or next((told["groups"] for told in part.get("seeds") or [] if told.get("groups")), {})
    if not groups:
        return [Text("The data have no column source, view, sex or age with more than one word in it, so groups "
                     "cannot be compared. Name such columns with --columns.")]
    whose = "all seeds" if of_mean else f"seed {results['settings']['seeds'][0]}"
    blocks = [Text("Small groups have wide intervals; a group of one class has no AUC. Groups that differ in figures "
                   "may differ in what else they are: these tables compare, they do not explain.")]
    for column, words in groups.items():
        blocks += [by_group(f"Honest test by {column}, {whose}", column, words),
                   *reasons({f"{column} {word}": told for word, told in words.items()},
                            ("accuracy", "specificity", "recall", "auc"))]
    return blocks


def _external(results):
    external = results["external"]
    if not external:
        return [Text("Not measured: no images of another hospital were given (--external takes a CSV). Without them "
                     "nobody knows how the network does elsewhere.")]
    rows = {name: of(results, protocol, "external") for protocol, name in PROTOCOLS.items()}
    rows = {name: told for name, told in rows.items() if told}
    home, away = of(results, "honest", "test"), of(results, "honest", "external")
    blocks = [Text(f"{number(external['images'])} images of {number(external['patients'])} patients "
                   f"({counts_of(external['counts'])}), which no network was trained or chosen on."),
              by_metric("Another hospital", rows), *reasons(rows),
              Text(f"The honest protocol's accuracy there is {figure(away, 'accuracy')}: "
                   f"{against_guessing(away, counts=external['counts'])}. Its AUC is {figure(away, 'auc')}: "
                   f"{against_guessing(away, 'auc')}. {carried_over(home, away, external['counts'])}")]
    if external.get("remark"):
        blocks.append(Text(external["remark"], "Beware."))
    groups = (away or {}).get("groups") or {}
    return blocks + [by_group(f"Another hospital by {column}", column, words) for column, words in groups.items()]
