"""Made-up results of `minicnn reproduce`, in the form of results.json, for tests of the report.

The predictions are random, their summaries are computed as in the program, and the images are empty frames.
"""

import copy

import numpy as np
from PIL import Image, ImageDraw

from minicnn.evaluation.shortcut_test import CONDITIONS
from minicnn.evaluation.summary import HEADS, summarize
from minicnn.experiment.run_folder import environment
from minicnn.study import paper

__all__ = ["example", "pictures", "renamed", "FIGURES"]

FIGURES = ("headline", "samples", "convolution", "pooling", "architecture", "curves_paper", "curves_honest",
           "augmentation", "roc_pr", "reliability", "confusions", "stress", "worst", "sources")
CLASSES = ["normal", "covid"]


def answers(n, skill, seed=0, columns=None, labels=None, people=None):
    """Return the summary of n random predictions of a network of some skill (0: chance)."""
    draw = np.random.default_rng(seed)
    labels = np.arange(n) % 2 if labels is None else np.asarray(labels)
    p = 1 / (1 + np.exp(-(draw.normal(0, 1, n) + skill * (2 * labels - 1)) * 1.5))
    patients = np.arange(n) * (people or n) // n
    return summarize(labels, p, patients, columns, threshold=0.4, samples=40)


def parts_of(n, skill, seed, seeds, **given):
    """Return {"seeds": summaries, "mean": one of them with lowest and highest}, as over several trainings."""
    told = [answers(n, skill, seed + i, **given) for i in range(seeds)]
    mean = copy.deepcopy(told[0])
    for word, choose in (("lowest", min), ("highest", max)):
        mean[word] = {name: choose(one[name] for one in told) for name in HEADS
                      if seeds > 1 and all(one[name] is not None for one in told)}
    return {"seeds": told, "mean": mean}


def example(external=True, synthetic=False, good=False, sources=True, one_class=False, short=False):
    """Return made-up results.

    Parameters
    ----------
    external : bool; whether there is external validation
    synthetic : bool; the collection is synthetic
    good : bool; the network generalizes to the external images
    sources : bool; the sources of the images are known
    one_class : bool; all external images are positive, so that metrics are undefined
    short : bool; 3 of 20 epochs and 1 of 3 seeds were run
    """
    def part(n, skill, seed=0, **given):
        return parts_of(n, skill, seed, 1 if short else 3, **given)

    away = 2.0 if good else 0.0
    columns = {"source": ["cohen", "nih", "nih"] * 41, "view": ["AP", "PA", "PA"] * 41} if sources else None
    words = {"labels": np.ones(38, int)} if one_class else {}
    parts = {"training": part(300, 3.0), "validation": part(123, 1.6, 7)}
    beyond = {"external": part(38, away, 20, people=31, **words)} if external else {}
    honest = parts | {"test": part(123, 1.4, 3, columns=columns, people=90)} | beyond
    return {
        "format": "minicnn reproduction 1", "command": "minicnn reproduce --data manifest.csv --seeds 3",
        "environment": environment(),
        "settings": {"epochs": 3 if short else 20, "steps_per_epoch": 100, "batch_size": 32, "learning_rate": 0.001,
                     "seeds": [0] if short else [0, 1, 2]},
        "data": {"name": "manifest.csv", "synthetic": synthetic, "images": 820, "patients": 536, "classes": CLASSES,
                 "counts": {"normal": 410, "covid": 410},
                 "sources": {} if not sources else {"nih": {"normal": 394, "covid": 0},
                                                    "cohen": {"normal": 16, "covid": 410}}},
        "external": None if not external else {
            "name": "external.csv", "images": 38, "patients": 31,
            "counts": {"covid": 38} if one_class else {"normal": 18, "covid": 20}, "sources": {},
            "remark": "15 of 20 positives are AP views and 14 of 18 negatives PA."},
        "audit": audit(flagged=not good, sources=sources),
        "layers": paper.table_i(),
        "protocols": {"paper": {"what": "Versions are made of each image, and then split by image.",
                                "parts": {"training": part(400, 3.2), "validation": part(300, 1.7, 5)} | beyond},
                      "honest": {"what": "Split by patient, then the training set is augmented.",
                                 "parts": honest},
                      "robust": {"what": "The honest protocol with borders masked.", "parts": honest}},
        "unseen": unseen(good) if sources else [],
        "stress": [stress("honest, test")],
        "sanity": {
            "layer": "conv2d_3", "border_share": 0.52, "even_share": 0.4375,
            "rows": [{"layer": "dense_2", "correlation": 0.61, "strength": 0.7},
                     {"layer": "conv2d_1", "correlation": None, "strength": None}]},
        "worst": [{"path": f"images/{i:03}.jpg", "label": "normal", "prediction": "covid",
                   "probability": 0.99 - i / 100, "part": "test", "seed": 0, "source": "nih",
                   "border_share": 0.4 + i / 10} for i in range(4)],
        "paper": paper.facts(), "checklists": checklists(),
        "figures": {key: f"figures/{key}.png" for key in FIGURES},
        "remarks": ["The external set has few images."]}


def audit(flagged, sources):
    """Return what an audit found, as Audit.to_dict has it."""
    none = {"auc": None, "low": None, "high": None, "reason": "there is no source column", "flagged": False}
    found = {"auc": 0.99, "low": 0.98, "high": 1.0, "reason": "", "flagged": flagged}
    confounders = [{"name": name, "against": "covid", "judged": name != "thumbnail", "approximate": False, **of_name}
                   for name, of_name in (("header", found),
                                         ("border", found | {"auc": 0.7, "low": 0.55, "flagged": False}),
                                         ("thumbnail", found | {"auc": 0.9, "flagged": False}),
                                         ("source", found if sources else none))]
    finding = {"what": "duplicate", "files": ["a.png", "b.png"], "sentence": "a.png and b.png are the same image."}
    return {"source": "manifest.csv", "images": 820, "readable": 820, "patients": 536, "sampled": 820,
            "counts": {"normal": 410, "covid": 410}, "problems": [finding] * 15, "unusual": [],
            "remarks": [{"what": "odd file", "files": ["c.png"], "sentence": "c.png is a palette image."}],
            "shortcuts": confounders, "tables": {"format": {"JPEG, 8-bit grey": {"normal": 410, "covid": 410}}}}


def unseen(good):
    """Return two folds of one source each, and one that has nothing to train on."""
    fold = {"name": "positive source held out: cohen", "source": "cohen", "shows": ["recall", "specificity", "auc"],
            "training": 500, "test": 300, "left_out": 2, "reason": "",
            "recipes": {"paper": answers(300, 1.5 if good else 0.3, 1), "robust": answers(300, 0.6, 2)}}
    lone = fold | {"name": "negative source held out: nih", "source": "nih", "shows": ["specificity"],
                   "recipes": {"paper": answers(60, 1.0, 4, labels=np.zeros(60, int)), "robust": None}}
    return [fold, lone, fold | {"name": "positive source held out: own", "source": "own", "recipes": {
        "paper": None, "robust": None}, "reason": "without it there is no image of covid to train on"}]


def stress(name):
    """Return a shortcut check with one finding."""
    rows = [{"condition": word, "what": what, "accuracy": 0.9 - i / 20, "recall": 0.9, "specificity": 0.8,
             "auc": 0.95 - i / 20, "interval": [0.9 - i / 20, 0.97 - i / 20], "change": -i / 20 if i else None,
             "change_interval": [-i / 20 - 0.05, -i / 20 + 0.02] if i else None}
            for i, (word, what) in enumerate(CONDITIONS.items())]
    return {"name": name, "rows": rows, "findings": ["SHORTCUT: with the middle of the pictures black it still knows."],
            "patients": 90}


def checklists():
    """Return two short checklists with an item of each status."""
    told = [("Title", "filled", "820 images of 536 patients."), ("Ethics", "needs you", "Name the board."),
            ("Prospective evaluation", "not done", "The images were collected before.")]
    items = [{"number": str(number), "topic": topic, "status": status, "text": text}
             for number, (topic, status, text) in enumerate(told, 1)]
    return [{"name": name, "citation": f"{name}, a guideline.", "items": copy.deepcopy(items)}
            for name in ("CLAIM 2024", "TRIPOD+AI")]


def pictures(folder, size=(160, 90)):
    """Write an empty frame for each of FIGURES."""
    (folder / "figures").mkdir()
    for key in FIGURES:
        picture = Image.new("RGB", size, "white")
        draw = ImageDraw.Draw(picture)
        draw.rectangle([0, 0, size[0] - 1, size[1] - 1], outline="#0072B2", width=2)
        draw.text((6, 6), key, fill="#222222")
        picture.save(folder / "figures" / f"{key}.png", dpi=(160, 160))


def renamed(results, word):
    """Return results in which every untrusted name is `word`."""
    results = copy.deepcopy(results)
    classes = [f"{word}0", f"{word}1"]
    results["data"] |= {"name": word, "classes": classes, "counts": dict.fromkeys(classes, 410),
                        "sources": {word: dict.fromkeys(classes, 205)}}
    results["external"] |= {"name": word, "counts": dict.fromkeys(classes, 19), "remark": word}
    results["audit"] |= {"tables": {"format": {word: dict.fromkeys(classes, 1)}}, "problems": [
        {"what": "duplicate", "files": [word], "sentence": word}]}
    for confounder in results["audit"]["shortcuts"]:
        confounder["against"] = word
    for fold in results["unseen"]:
        fold |= {"name": f"positive source held out: {word}", "source": word}
    for error in results["worst"]:
        error |= {"path": word, "label": word, "prediction": word, "source": word}
    results["stress"][0]["findings"] = [word]
    for told in (results["protocols"]["honest"]["parts"]["test"]["mean"],
                 *results["protocols"]["honest"]["parts"]["test"]["seeds"]):
        told["groups"] = {"source": {word: told["groups"]["source"]["nih"]}}
    results["remarks"], results["command"] = [word], f"minicnn reproduce --data {word}"
    results["layers"][0]["name"] = word
    return results
