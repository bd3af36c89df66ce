"""The page of `minicnn comparators`: Table III as printed, and as it can be compared; from the plain values of results.json."""

from pathlib import Path

from minicnn.core.files import write_atomic
from minicnn.core.text import join, number, percent
from minicnn.evaluation.summary import images_and_patients
from minicnn.reporting.document import Bullets, Chapter, Command, Fold, Heading, Image, Notice, Table, Text
from minicnn.reporting.html import WARNING, render
from minicnn.reporting.markdown import markdown
from minicnn.reporting.tables import NONE
from minicnn.reporting.wording import against_reported, bounds, cell, value_and_interval
from minicnn.study.forest_plots import estimate, forest, forest_plot
from minicnn.study.systems import SYSTEMS, TABLE_III

__all__ = ["write", "as_markdown", "chapters", "verdicts", "NOT_COMPARABLE"]

_TITLE = "Table III under one protocol"
NOT_COMPARABLE = "All rows of Table III were measured on different data, tasks and splits; none is comparable."
_HEADS = {"accuracy": "accuracy", "recall": "sensitivity", "specificity": "specificity", "auc": "AUC"}
_TASKS = {"two": "Two classes", "all": "All classes"}


def write(results, folder):
    """Write comparators.html, comparators.md and their plots into a folder; return the paths of the two pages."""
    folder, drawings = Path(folder), {}
    for task, told in results["tasks"].items():
        rows = _forest_rows(told)
        forest_plot(rows, folder / f"comparators-{task}.png")
        drawings[task] = [forest(rows)]
    paths = folder / "comparators.html", folder / "comparators.md"
    page = render(_TITLE, _about(results), chapters(results, drawings), folder, running=_TITLE, notice=_notice(results))
    write_atomic(paths[0], page.encode("utf-8"))
    write_atomic(paths[1], as_markdown(results).encode("utf-8"))
    return paths


def as_markdown(results):
    """Return the page as Markdown."""
    return markdown(_TITLE, WARNING, _about(results), chapters(results), _notice(results))


def _notice(results):
    return "The radiographs are synthetic: no value here says anything about the systems. Give radiographs with --data." \
        if results["settings"]["synthetic"] else ""


def chapters(results, drawings=None):
    """Return the page as a list of document.Chapter."""
    return [_answer(results), *(_task(results, name, (drawings or {}).get(name)) for name in results["tasks"]), _outside(results),
            _costs(results), _systems(results), _repeat(results)]


def _about(results):
    told, settings = next(iter(results["tasks"].values())), results["settings"]
    repeats = f"{settings['folds']}-fold cross-validation by patient" if settings["folds"] else \
        f"{settings['seeds']} seed{'s' * (settings['seeds'] > 1)}, each with another split by patient"
    return f"The systems of Asif and Amjad (2020), Table III, and others, trained on {images_and_patients(told)}: {repeats}."


# ---- What can be said ------------------------------------------------------------------------------------------------

def _answer(results):
    table = results["table_iii"]
    two = results["tasks"]["two"]
    found = {row["system"]: row for row in two["rows"] if row["recipe"] == "common"}
    rows = []
    for row in sorted(table, key=lambda row: -row["accuracy"]):
        mine = found.get(TABLE_III[row["study"]])
        rows.append([row["study"], row["what"], percent(row["accuracy"], 2), *(
            [_cell(mine["metrics"], "accuracy"), _difference(mine["difference"], "accuracy") if mine["difference"] else NONE]
            if mine else ["not trained", NONE])])
    return Chapter("answer", "Table III, as printed and as it can be compared", [
        Notice(NOT_COMPARABLE), Bullets(verdicts(results)), *map(Text, _unlearned(results)),
        Table("Table III", ["study", "network", "as printed", "here, recipe common", "difference from COV-19Net"], rows),
        Text("As printed: by the paper, on the data of each study. Here: on the same patients, by the same recipe, with 95 % intervals that "
             "resample patients; differences are paired: of the same images, in percentage points. Intervals do not cover how one training "
             "differs from the next; the repeats below do.")])


def _unlearned(results):
    """Return a sentence on the systems that answer one class for all images, if there are any."""
    found = [f"{row['title']} ({row['recipe']})" for row in results["tasks"]["two"]["rows"]
             if {row["metrics"]["recall"], row["metrics"]["specificity"]} == {0, 1}]
    alone = len(found) == 1
    return [f"{join(found)} {'gives' if alone else 'give'} all images one class: not trained long enough to learn, so that "
            f"{'its place says nothing about the network' if alone else 'their places say nothing about the networks'}."] if found else []


def verdicts(results):
    """Return three sentences on the order of Table III, which the intervals allow.

    They are of other patients, not of other trainings: an order of a system that was trained once is not judged.
    """
    told = results["tasks"]["two"]
    trainings = {row["system"]: row["trainings"] for row in told["rows"] if row["recipe"] == "common"}
    held, turned, unknown, once, n = [], [], [], [], len(told["table_iii"])
    for pair in told["table_iii"]:
        low, high = pair["intervals"].get("accuracy") or (0, 0)
        kept = once if min(trainings[pair["above"]], trainings[pair["below"]]) == 1 else \
            held if low > 0 else turned if high < 0 else unknown
        kept.append(f"{SYSTEMS[pair['above']].title} above {SYSTEMS[pair['below']].title}")
    if not n:
        order = "Of the order of Table III nothing can be said: fewer than two of its systems were trained."
    else:
        parts = [f"{len(kept)} {word[len(kept) > 1]} ({join(kept)})" for kept, word in (
            (held, ("holds here", "hold here")), (turned, ("turns round", "turn round")),
            (unknown, ["cannot be told, for the interval of the paired difference contains 0"] * 2),
            (once, ("is not judged, for one of the two was trained once", "are not judged, for one of the two was trained once"))) if kept]
        order = f"Of the {n} order{'s' * (n > 1)} between two systems of Table III that were trained here, {join(parts)}."
    first, *others = told["rows"]
    alike = [f"{row['title']} ({row['recipe']})" for row in others
             if (bounds(row["metrics"], "accuracy") or (0, 0))[1] >= first["metrics"]["accuracy"]]
    top = (f"The highest accuracy here is that of {first['title']}, recipe {first['recipe']}: {cell(first['metrics'], 'accuracy')}; "
           + (f"it lies within the interval of {join(alike)} too." if alike else "it lies above the intervals of all others."))
    rows = {row["system"]: row for row in told["rows"] if row["recipe"] == "common"}
    places = [against_reported(rows[TABLE_III[row["study"]]]["metrics"], row["accuracy"]) for row in results["table_iii"]
              if TABLE_III[row["study"]] in rows]
    counts = [f"{places.count(place)} {'lies' if places.count(place) == 1 else 'lie'} {place}" for place in dict.fromkeys(places)]
    printed = f"Of the {len(places)} accuracies that Table III prints for systems trained here, {join(counts)}." if places else \
        "Of the accuracies that Table III prints, none is of a system that was trained here."
    return [order, top, printed]


# ---- A task ----------------------------------------------------------------------------------------------------------

def _task(results, name, drawing):
    told = results["tasks"][name]
    heads = ["system", "recipe", "repeats", *_HEADS.values(), "accuracy, difference", "AUC, difference", "p"]
    rows = [[row["title"], row["recipe"], str(row["trainings"]), *(_cell(row["metrics"], metric) for metric in _HEADS),
             *(_difference(row["difference"], metric) for metric in ("accuracy", "auc")), _p_value(row["difference"])] for row in told["rows"]]
    counts = join(f"{n:,} {word}" for word, n in told["counts"].items())
    what = f"{told['classes'][1]} against {told['classes'][0]}" if len(told["classes"]) == 2 else \
        f"{', '.join(told['classes'])}; sensitivity, specificity and AUC are of {told['classes'][1]} against all others"
    caption = "Accuracy and AUC of each system, with 95 % intervals; points are the repeats."
    return Chapter(f"task-{name}", f"{_TASKS[name]}: {join(told['classes'])}", [
        Text(f"{what[0].upper()}{what[1:]}. {images_and_patients(told)}: {counts}. Ranked by accuracy. Differences are from COV-19Net, recipe "
             "common, on the same images: accuracy in percentage points. p is McNemar's test of the accuracy, by patient; it is not "
             "corrected for the number of rows."),
        Image(f"comparators-{name}.png", caption, "A forest plot: for each system its accuracy and AUC with their intervals.", drawing),
        Table(f"The ranking: {_TASKS[name].lower()}", heads, rows)])


def _forest_rows(told):
    rows = []
    for row in told["rows"]:
        name, _, form = row["title"].partition(" (")
        rows.append({"group": "", "name": name, "note": ", ".join(filter(None, [form.rstrip(")"), f"recipe {row['recipe']}"]))} | {
            metric: estimate({"mean": row["metrics"], "seeds": row["repeats"]}, metric) for metric in ("accuracy", "auc")})
    return rows


def _cell(summary, metric):
    """Return a value and its interval as the two lines of a cell."""
    value, interval = value_and_interval(summary, metric)
    return (value, interval) if interval else value


def _difference(told, metric):
    if told is None or told[metric] is None:
        return NONE
    scale, form = (100, "{:+.1f}") if metric != "auc" else (1, "{:+.3f}")
    pair = told["intervals"].get(metric)
    value = form.format(scale * told[metric])
    return value if pair is None else (value, " to ".join(form.format(scale * bound) for bound in pair))


def _p_value(told):
    return NONE if told is None or told["p_value"] is None else f"{told['p_value']:.2g}"


# ---- External validation, cost, systems ------------------------------------------------------------------------------

def _outside(results):
    outside = results["external"]
    if outside is None:
        return Chapter("external", "External validation", [Text("There was no external set: give one with --external.")])
    blocks = [Text(f"{outside['name']}: {images_and_patients(outside)}, {join(f'{n:,} {word}' for word, n in outside['counts'].items())}. It "
                   "played no part in any training or choice, and was evaluated once, after all trainings. Differences are from COV-19Net, "
                   "recipe common."), *map(Text, results["remarks"])]
    for name, told in results["tasks"].items():
        rows = [[row["title"], row["recipe"], *(_cell(row["external"], metric) for metric in ("recall", "specificity", "auc")),
                 _difference(row["apart"], "auc")] for row in sorted(told["rows"], key=lambda row: -(row["external"]["auc"] or 0))]
        blocks.append(Table(f"External validation: networks of {_TASKS[name].lower()}", [
            "system", "recipe", "sensitivity", "specificity", "AUC", "AUC, difference"], rows))
    return Chapter("external", "External validation", blocks)


def _costs(results):
    blocks = [Text("Seconds as they were measured on this machine, with whatever else it did: to train and evaluate, the mean of the "
                   "trainings; to answer, of one image, and of each in a batch of 32. FLOPs are of the forward pass of an image.")]
    for name, told in results["tasks"].items():
        rows = []
        for row in told["rows"]:
            cost = results["cost"][name][f"{row['system']}, {row['recipe']}"]
            rows.append([row["title"], row["recipe"], f"{row['size']} x {row['size']}", number(row["parameters"]),
                         NONE if row["flops"] is None else f"{row['flops'] / 1e6:,.0f}", f"{cost['train']:.0f}", f"{1000 * cost['one']:.2f}",
                         f"{1000 * cost['many']:.2f}"])
        blocks.append(Table(f"Cost: {_TASKS[name].lower()}", ["system", "recipe", "images", "parameters", "MFLOP", "s to train",
                                                              "ms for one", "ms each of 32"], rows))
    return Chapter("cost", "Cost", blocks)


def _systems(results):
    settings, told = results["settings"], results["tasks"]["two"]
    rows = []
    for row in sorted(told["rows"], key=lambda row: list(SYSTEMS).index(row["system"])):
        fewer = f" of {row['epochs_published']}" if row["epochs"] < row["epochs_published"] else ""
        rows.append([row["title"], SYSTEMS[row["system"]].cited or NONE, row["recipe"],
                     f"{row['epochs']}{fewer} epochs of {row['steps']} batches of {row['batch']}, learning rate {row['learning_rate']:g}"])
    seen = dict.fromkeys(row["system"] for row in told["rows"])
    once = [SYSTEMS[name].title for name in settings["once"]]
    cut = [f"{join(once)} {'was' if len(once) == 1 else 'were'} trained once, on two classes, where others were "
           f"{settings['folds'] or settings['seeds']} times on each task, to save time (--once)."] * bool(once)
    cut += [f"Not trained: {join(SYSTEMS[name].title for name in settings['left_out'])} (--only)."] * bool(settings["left_out"])
    cut += [f"All trainings had at most {settings['epochs']} epoch{'s' * (settings['epochs'] != 1)} (--epochs): recipes that need more are "
            "judged early."] * bool(settings["epochs"])
    return Chapter("systems", "The systems and their recipes", [
        Text("Adam and cross-entropy, or the margin loss for capsules; the weights of the epoch with the lowest validation loss; splits by "
             "patient, 70/15/15, or folds. Recipe common: the augmentation of the honest protocol, and batch normalizations whose moving "
             "statistics follow in ten batches, for trainings are short. Published: what a paper or its authors' "
             "repository says. Of the other systems no recipe could be read, and they have the common one alone."),
        Bullets([f"{SYSTEMS[name].title}: {SYSTEMS[name].note}" for name in seen if SYSTEMS[name].note]),
        *([Heading("What was cut"), Bullets(cut)] if cut else []),
        Fold("The trainings of each system", [Table("Recipes", ["system", "used by", "recipe", "training"], rows, numeric=False)]),
        Text("Zhang et al.'s anomaly detector decides by a rule over two outputs and gives no probability of a class: it is in "
             "minicnn.networks, and not ranked here.")])


def _repeat(results):
    return Chapter("repeat", "Repeat it", [Command(results["command"]), Text(
        "The same command goes on after an interruption; finished trainings are not repeated.")])
