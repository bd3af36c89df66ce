"""ROBUST.md, written from robust.json."""

from collections import Counter

from benchmarks.report import table

__all__ = ["page"]

_HEAD = """# Training recipes in leave-one-source-out validation

Written by `python -m benchmarks.robust` from robust.json.

A network, COV-19Net where the table names no other, is trained repeatedly, each time without one source of positives and
without some patients who have only negatives, and evaluated on these images. `--recipe robust` was chosen by the **AUC on
held-out positive sources** among the trainings of COV-19Net, before other networks were tried. Each training follows the
honest protocol: a validation set by patient, augmentation in training only, and the weights of the epoch with the lowest
validation loss unless stated otherwise.
"""

_CAUTION = """**Two limitations.** First, {n} candidates ({networks}) were compared on the
same held-out images, and the best of {n} is partly the luckiest: its value, and its lead, are somewhat optimistic. Rate and
length of the fine-tuning were not varied; they did well on the ordinary split, which has images of all sources. Second, the
held-out negatives come from *known* sources: a network that recognizes the source of the negatives and calls everything
else positive has a high AUC here for the wrong reason. Preprocessing that removes the look of a source, such as a black
border or equalized grey levels (`border`, `equalize`), can lower these values for the right reason. The external set below
has neither limitation, but it is small.
"""


def _number(value, form="{:.3f}"):
    return "" if value is None else form.format(value)


def _interval(result, form="{:.3f}"):
    """Return a mean with its interval, where there is one."""
    low, high = result["interval"]
    return _number(result["mean"], form) + (f" ({form.format(low)} to {form.format(high)})" if low is not None else "")


def _signed(result):
    return _interval(result, "{:+.3f}")


def _range(values):
    return _number(values[0]) if len(values) == 1 else f"{min(values):.3f} to {max(values):.3f}"


def _networks(candidates):
    counts = Counter(candidate.get("network", "cov19net") for candidate in candidates.values())
    return ", ".join(f"{n} of {name}" for name, n in counts.items())


def _best_first(candidates):
    return sorted(candidates.items(), key=lambda item: (-len(item[1]["seeds"]), -item[1]["folds"]["all"]["mean"]))


def _collection(data):
    rows = []
    for source, fold in data["folds"].items():
        negatives = ", ".join(f"{n} {name}" for name, n in fold["negatives"].items())
        rows.append([source, fold["training"], fold["training positives"], fold["positives"], negatives])
    people = f" of {data['people']} patients, as far as names and duplicates tell" if "people" in data else ""
    return (f"`{data['name']}`: {data['images']} images{people}, {' and '.join(data['classes'])}.\n\n"
            + table(["held-out source", "training and validation images", "positives among them", "held-out positives",
                     "held-out negatives, by source"], rows))


def _candidates(candidates, sources):
    """Return the table of the candidates, those with most seeds first, the best of them first."""
    rows = []
    for name, result in _best_first(candidates):
        cells = [_interval(result["folds"][source]) for source in sources]
        everywhere = result["folds"]["all"]
        against = [_signed(result[key]["all"]) if result.get(key) else "" for key in ("against paper", "against robust")]
        what = result["what"] or "COV-19Net as published, augmentation `honest`"
        head = f"**{name}**: {what}" if name == "robust" else name if name == what else f"{name}: {what}"
        rows.append([head, *cells, f"**{_interval(everywhere)}**", _range(everywhere["seeds"]), *against,
                     len(result["seeds"])])
    return table(["recipe: differences from `paper`", *[f"{source} held out" for source in sources],
                  "mean of the sources", "seeds, lowest to highest", "paired difference from paper",
                  "paired difference from robust", "seeds"], rows)


def _readings(candidates, words):
    """Return the table of the same trainings with other weights, and of ensembles over the seeds."""
    rows = []
    for name, result in _best_first(candidates):
        everywhere = result["folds"]["all"]
        rows.append([name, *[_number(everywhere["readings"][reading]) for reading in words],
                     _number(everywhere["ensemble"]) if len(result["seeds"]) > 1 else ""])
    return table(["recipe", *words.values(), "ensemble of all seeds"], rows)


def _verdict(difference, better="robust", worse="paper"):
    """Return the sentence about the difference of two recipes."""
    low, high = difference["interval"]
    if low is None:
        return "There is no interval, so which recipe is better is undecided."
    if low > 0:
        return f"**{better.capitalize()} is better**: by {_signed(difference)}."
    if high < 0:
        return f"**{better.capitalize()} is worse**: by {_signed(difference)}."
    return (f"**Not significant**: {better} minus {worse} is {_signed(difference)}, and the interval contains 0."
            + (f" On these images {better} was not better." if difference["mean"] <= 0 else ""))


def _chance(bounds):
    """Return the sentence about the recipes whose interval contains 0.5."""
    names = [name for name, (low, high) in bounds.items() if low is None or low <= 0.5 <= high]
    if not names:
        return ""
    words = ", ".join(f"`{name}`" for name in names[:-1]) + " and " * (len(names) > 1) + f"`{names[-1]}`"
    return (f" An AUC of 0.5 is chance: on these images {words} cannot be distinguished from chance, "
            "whatever the values on the held-out sources.")


def _final(final):
    rows, chosen = [], final.get("chosen", "robust")
    names = list(dict.fromkeys(["paper", "robust", chosen]))
    for name in names:
        outside = final[name]["external"]
        rows.append([name, _range(final[name]["test"]), _interval(outside), _range(outside["seeds"]),
                     _number(outside["ensemble"]), _range(outside["accuracy"])])
    counts = " and ".join(f"{n} {name}" for name, n in final["counts"].items())
    verdicts = [_verdict(final["difference"])]
    if chosen != "robust":
        verdicts += [f"The chosen against robust: {_verdict(final['difference of the chosen'], chosen, 'robust')}"]
    return (f"The whole collection, split by patient, {len(final['seeds'])} seeds; {final['images']} images of "
            f"{final['patients']} patients of another hospital, {counts}, which played no part in any choice. Only "
            f"these {len(names)} were evaluated on them, each after it was chosen.\n\n"
            + table(["recipe", "AUC, own test set", "AUC, external", "seeds", "ensemble", "accuracy, external"], rows)
            + "\n" + " ".join(verdicts) + _chance({name: final[name]["external"]["interval"] for name in names}) + "\n")


def page(results):
    """Return the text of ROBUST.md.

    Parameters
    ----------
    results : dict, the content of robust.json (benchmarks/robust.py)
    """
    from benchmarks.robust import READINGS

    candidates, texts = results["candidates"], [_HEAD]
    if "data" in results:
        sources, settings = list(results["data"]["folds"]), results["settings"]
        texts += ["## The images\n", _collection(results["data"]), "## The recipes\n",
                  f"{settings['epochs']} epochs of {settings['steps_per_epoch']} batches of {settings['batch_size']}, "
                  f"learning rate {settings['learning_rate']:g}, where a row names no others. AUC, the mean over the seeds, with its "
                  "patient-clustered 95 % interval (1,000 bootstrap samples). All were tried with one seed first; the best, and `paper`, "
                  "which is `--recipe paper` under the honest protocol, were then trained with more. Differences are on the "
                  "same images and seeds. A row without a difference from `robust` was measured with an earlier version of the library, and "
                  "its difference from `paper` is that from the `paper` of the same version.\n",
                  _candidates(candidates, sources), _CAUTION.format(n=len(candidates), networks=_networks(candidates))]
        if "robust" in candidates:
            texts += ["`robust` against `paper`, mean of the sources, on the same images: "
                      + _verdict(candidates["robust"]["against paper"]["all"]) + "\n"]
            best, result = _best_first(candidates)[0]
            if result.get("against robust"):
                texts += [f"The best, `{best}`, against `robust`: {_verdict(result['against robust']['all'], best, 'robust')}\n"]
        texts += ["## Other weights, and ensembles\n",
                  "The same trainings, mean of the sources. The mean of the epochs is `WeightAverage`; an ensemble of "
                  "seeds does not fit into one run folder and is shown for comparison.\n", _readings(candidates, READINGS)]
    texts += ["## External validation\n", _final(results["final"]) if "final" in results else "Not done yet.\n"]
    return "\n".join(texts)
