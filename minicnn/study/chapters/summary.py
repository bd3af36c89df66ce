"""The first chapter of the report of `minicnn reproduce`: the answer, on one screen, in sentences that follow from the
figures."""

from minicnn.reporting.document import Bullets, Card, Cards, Chapter, Heading, Notice, Text
from minicnn.reporting.tables import by_row, join, number, percent, reasons
from minicnn.reporting.wording import against_claim, against_guessing, carried_over, figure, points, why_none
from minicnn.study.reading_results import PROTOCOLS, claimed, drawn, of, recipe_of

__all__ = ["answer", "claimed", "summary", "why", "weakest_unseen", "measured"]

_NAMES = PROTOCOLS | {"robust": "the honest protocol, recipe robust"}


def answer(results):
    """Return the Chapter: two or three sentences, the figures side by side, the picture, the table, the why."""
    rows = measured(results)
    return Chapter("answer", "The answer", [
        *_notices(results),
        *(Text(sentence) for sentence in summary(results)),
        Cards("Accuracy, with its 95 % interval", _cards(results)),
        drawn(results, "headline", "The claim and what became of it. Each mark is a figure with its 95 % interval; "
              "small dots are the seeds; the line at 0.5 is a coin.", _alt(results, rows)),
        by_row("The same in numbers", rows, ("accuracy", "auc"), "measured on",
               ("against guessing (AUC)", lambda told: against_guessing(told, "auc"))),
        *reasons(rows, ("accuracy", "auc")),
        Heading("Why the figures differ"), Bullets(why(results))])


def summary(results):
    """Return the two or three sentences that a reader needs.

    They compare the claim, the paper's protocol, an honest test and, where there is one, another hospital.
    """
    paper, honest = of(results, "paper", "validation"), of(results, "honest", "test")
    away = of(results, "honest", "external")
    n = len(results["settings"]["seeds"])
    runs = f"mean of {n} runs" if n > 1 else "one run"
    said = [f"The paper reports an accuracy of {percent(claimed(results), 2)}. Its recipe under its own protocol gives "
            f"{figure(paper, 'accuracy')} on these data ({runs}), and "
            + ("the same recipe tested honestly, on patients whom the network has never seen, "
               f"{figure(honest, 'accuracy')}." if honest else "there was no honest test to set beside it.")]
    if away:
        said.append(f"On the {number(results['external']['images'])} images of another hospital the honestly trained "
                    f"network is right in {figure(away, 'accuracy')}{_of_seeds(away)}: "
                    f"{against_guessing(away, counts=results['external'].get('counts'))}. Its AUC is "
                    f"{figure(away, 'auc')}. {carried_over(honest, away, results['external'].get('counts'))}")
    else:
        said.append("No images of another hospital were given, so nothing here says how the network does elsewhere "
                    "(--external takes them).")
    return said


def measured(results):
    """Return {name: description} of all that the picture at the top shows and the program measured itself."""
    rows = {"the paper's protocol, validation": of(results, "paper", "validation"),
            "the honest protocol, test": of(results, "honest", "test"),
            f"{_NAMES['robust']}, test": of(results, "robust", "test")}
    rows |= {fold["name"]: recipe_of(fold) for fold in results["unseen"]}
    if results["external"]:
        rows |= {f"another hospital, {_NAMES[name]}": of(results, name, "external") for name in _NAMES}
    return {name: told for name, told in rows.items() if told is not None}


def weakest_unseen(results):
    """Return (fold, how many there are): the positive source that, unseen, is told from the negatives worst by its AUC.

    (None, 0) where there is none.
    """
    folds = [fold for fold in results["unseen"] if "auc" in fold["shows"]
             and (recipe_of(fold) or {}).get("auc") is not None]
    return min(folds, key=lambda fold: recipe_of(fold)["auc"], default=None), len(folds)


def why(results):
    """Return a Text each on what makes the figures differ, as far as it was measured."""
    paper, honest = of(results, "paper", "validation"), of(results, "honest", "test")
    said = []
    if paper and honest:
        said.append(Text("The paper makes versions of each radiograph and only then divides them, so versions of one "
                         "picture are trained on and tested. Tested honestly, the accuracy is "
                         f"{points(paper, honest)}.", "The leak."))
    given = [suspect for suspect in results["audit"].get("shortcuts", []) if suspect.get("flagged")]
    if given:
        said.append(Text("Without looking at lungs the labels are told by "
                         + join(f"{_ALONE.get(s['name'], s['name'])} (AUC {number(s['auc'], '{:.2f}')})" for s in given)
                         + ". A network takes whatever tells the classes apart, so a high figure on such data does "
                         "not say that it sees an illness.", "The labels are given away."))
    elif results["audit"].get("shortcuts"):
        said.append(Text("Neither file headers, nor image borders, nor sources are shown to give them away.",
                         "The labels."))
    fold, count = weakest_unseen(results)
    if fold:
        told = recipe_of(fold)
        which = f"the weakest of {count} sources held out" if count > 1 else "the one source that could be held out"
        said.append(Text(f"Trained without {fold['source']}, {which}, the network tells its positives from negatives "
                         f"with an AUC of {figure(told, 'auc')}: {against_guessing(told, 'auc')}.", "Sources."))
    if results["stress"]:
        said += [Text(finding, "The shortcut check.") for finding in results["stress"][0]["findings"]]
    failed = [check for check in results["paper"].get("checks", []) if not check["holds"]]
    if failed:
        said.append(Text(f"{len(failed)} of {len(results['paper']['checks'])} checks of the paper's own figures "
                         "against each other fail: they cannot all be right, whatever the data.", "The table."))
    return said


_ALONE = {"header": "the file header alone", "border": "the image border alone", "source": "the source alone",
          "thumbnail": "an 8 x 8 thumbnail"}


def _notices(results):
    if not results["data"]["synthetic"]:
        return []
    return [Notice("These pictures are drawn by a program. The figures say that minicnn works; about patients, the "
                   "paper or an illness they say nothing. Give radiographs with --data.", "No radiograph was seen.")]


def _of_seeds(told):
    low, high = ((told.get(end) or {}).get("accuracy") for end in ("lowest", "highest"))
    if None in (low, high):
        return ""
    return f", {percent(low)} to {percent(high)} from seed to seed"


def _cards(results):
    claim, external = claimed(results), results["external"]
    paper, honest = of(results, "paper", "validation"), of(results, "honest", "test")
    away = of(results, "honest", "external")
    cards = [Card("The paper's claim", percent(claim, 2), "no interval given",
                  f"validation; {against_claim(paper, claim)} of its own protocol"),
             _card("Its protocol, on these data", paper, "validation; versions of the same pictures were trained on"),
             _card("An honest test", honest, "patients never seen")]
    fold, count = weakest_unseen(results)
    if fold:
        told = recipe_of(fold)
        which = fold["source"] + (f", the weakest of {count}" if count > 1 else "")
        cards.append(_card("A source never seen", told, f"{which}; by AUC {against_guessing(told, 'auc')}"))
    if external:
        cards.append(_card("Another hospital", away, f"{number(external['images'])} images; "
                           f"{against_guessing(away, counts=external.get('counts'))}"))
    else:
        cards.append(Card("Another hospital", "not measured", "no images were given", "the question that matters most"))
    return cards


def _card(label, told, remark):
    if not told or told.get("accuracy") is None:
        return Card(label, "undefined", why_none(told, "accuracy"), remark)
    value, _, interval = figure(told, "accuracy").partition(" (")
    return Card(label, value, interval.rstrip(")") or why_none(told, "accuracy"), remark)


def _alt(results, rows):
    return (f"Forest plot of accuracy and AUC. Accuracies: the paper's claim {percent(claimed(results), 2)}; "
            + "; ".join(f"{name} {figure(told, 'accuracy')}" for name, told in rows.items()) + ".")
