"""ROBUST.md, made from robust.json and from nothing else."""

from benchmarks.report import table

__all__ = ["page"]

_HEAD = """# Sources that it has never seen

Written by `python -m benchmarks.robust`; figures are in robust.json, and nothing here is typed by hand.

COV-19Net is trained again and again, each time with one source of positives left out altogether, together with a part of
the negatives' patients, and then asked about these. The **AUC on positive sources unseen** is what the recipe that ships
as `--recipe robust` was chosen by. Each training is the honest protocol's: a validation part by patient, augmentation in
training alone, the weights of the epoch with the lowest validation loss unless said otherwise.
"""

_CAUTION = """**Read these figures with two cautions.** {n} recipes were tried on the same images held out, and the best of
{n} is partly the luckiest: the figure of the chosen one, and its lead, are somewhat too good. And the negatives held out
are of *known* sources: a network that recognises the source of the negatives, and calls all else positive, does well here
for the wrong reason. What takes a source's look away, such as a black border or evened grey levels (`border`,
`equalize`), can lower these figures for the right one. The external set below has neither fault, but it is small.
"""


def _figure(value):
    return "" if value is None else f"{value:.3f}"


def _interval(told):
    low, high = told["interval"]
    return f"{_figure(told['mean'])} ({_figure(low)} to {_figure(high)})" if low is not None else _figure(told["mean"])


def _range(values):
    return _figure(values[0]) if len(values) == 1 else f"{min(values):.3f} to {max(values):.3f}"


def _signed(told):
    low, high = told["interval"]
    return f"{told['mean']:+.3f} ({low:+.3f} to {high:+.3f})" if low is not None else f"{told['mean']:+.3f}"


def _best_first(candidates):
    return sorted(candidates.items(), key=lambda item: (-len(item[1]["seeds"]), -item[1]["folds"]["all"]["mean"]))


def _collection(data):
    rows = []
    for source, fold in data["folds"].items():
        negatives = ", ".join(f"{n} {name}" for name, n in fold["negatives"].items())
        rows.append([source, fold["training"], fold["training positives"], fold["positives"], negatives])
    people = f" of {data['people']} people, as far as names and copies of one picture tell" if "people" in data else ""
    return (f"`{data['name']}`: {data['images']} images{people}, {' and '.join(data['classes'])}.\n\n"
            + table(["source unseen", "images to train and validate on", "of them positive", "positives held out",
                     "negatives held out, by source"], rows))


def _candidates(candidates, sources):
    """Return the table: a row a candidate, those of most seeds first, the best of them first."""
    rows = []
    for name, told in _best_first(candidates):
        cells = [_interval(told["folds"][source]) for source in sources]
        everywhere = told["folds"]["all"]
        against = _signed(told["against paper"]["all"]) if told["against paper"] else ""
        what = told["what"] or "COV-19Net as published, augmentation `honest`"
        head = f"**{name}**: {what}" if name == "robust" else name if name == what else f"{name}: {what}"
        rows.append([head, *cells, f"**{_interval(everywhere)}**", _range(everywhere["seeds"]), against,
                     len(told["seeds"])])
    return table(["recipe: in what it differs from `paper`", *[f"{source} unseen" for source in sources], "mean of the sources",
                  "seeds, lowest to highest", "minus paper, in pairs", "seeds"], rows)


def _readings(candidates, words):
    """Return the table of what became of the same trainings, judged by other weights, and of seeds together."""
    rows = []
    for name, told in _best_first(candidates):
        everywhere = told["folds"]["all"]
        rows.append([name, *[_figure(everywhere["readings"][reading]) for reading in words],
                     _figure(everywhere["ensemble"]) if len(told["seeds"]) > 1 else ""])
    return table(["recipe", *words.values(), "probabilities of all seeds, averaged"], rows)


def _verdict(told):
    """Return the sentence about the difference of two recipes."""
    low, high = told["interval"]
    if low is None:
        return "No interval could be computed, so nothing is said of which is better."
    if low > 0:
        return f"**Robust is better**: by {_signed(told)}."
    if high < 0:
        return f"**Robust is worse**: by {_signed(told)}."
    return (f"**Which is better cannot be told**: robust minus paper is {_signed(told)}, and the interval holds 0."
            + (" On these images robust was not better." if told["mean"] <= 0 else ""))


def _guessing(told):
    """Return the sentence about the recipes whose interval holds 0.5."""
    names = [name for name in ("paper", "robust")
             if told[name]["external"]["interval"][0] is None
             or told[name]["external"]["interval"][0] <= 0.5 <= told[name]["external"]["interval"][1]]
    if not names:
        return ""
    return (f" An AUC of 0.5 is guessing: on these images {' and '.join(names)} cannot be told from it, whatever the "
            "figures on the sources above.")


def _final(told):
    rows = []
    for name in ("paper", "robust"):
        outside = told[name]["external"]
        rows.append([name, _range(told[name]["test"]), _interval(outside), _range(outside["seeds"]),
                     _figure(outside["ensemble"]), _range(outside["accuracy"])])
    counts = " and ".join(f"{n} {name}" for name, n in told["counts"].items())
    seeds = len(told["seeds"])
    return (f"The whole collection, split by patient, {seeds} seeds each; {told['images']} images of {told['patients']} "
            f"patients of another hospital, {counts}, that nothing was chosen by. They were looked at for these two recipes, "
            "when the choice was made.\n\n"
            + table(["recipe", "AUC, own test part", "AUC, external", "seeds", "averaged probabilities",
                     "accuracy, external"], rows) + "\n" + _verdict(told["difference"]) + _guessing(told) + "\n")


def page(told):
    """Return the text of ROBUST.md.

    Parameters
    ----------
    told : dict, the content of robust.json (benchmarks/robust.py)
    """
    from benchmarks.robust import READINGS

    candidates, parts = told["candidates"], [_HEAD]
    if "data" in told:
        sources, settings = list(told["data"]["folds"]), told["settings"]
        parts += ["## The images\n", _collection(told["data"]), "## What was tried\n",
                  f"{settings['epochs']} epochs of {settings['steps_per_epoch']} batches of {settings['batch_size']}, learning "
                  f"rate {settings['learning_rate']:g}. AUC, the mean over the seeds, with its 95 % interval (patients drawn "
                  "with replacement, 1,000 times). Those of one seed were looked through first; the best of them, and "
                  "`paper`, which is what `--recipe paper` trains under the honest protocol, were trained with more.\n",
                  _candidates(candidates, sources),
                  _CAUTION.format(n=len(candidates))]
        if "robust" in candidates:
            parts += ["`robust` against `paper`, the mean of the sources, the same images: "
                      + _verdict(candidates["robust"]["against paper"]["all"]) + "\n"]
        parts += ["## Other weights, and several seeds together\n",
                  "The same trainings, mean of the sources. The mean of the epochs is `WeightAverage`; an ensemble of seeds "
                  "does not fit into one run folder and is shown for comparison.\n", _readings(candidates, READINGS)]
    parts += ["## The external set\n", _final(told["final"]) if "final" in told else "Not looked at yet.\n"]
    return "\n".join(parts)
