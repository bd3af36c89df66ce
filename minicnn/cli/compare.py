"""`minicnn compare`: the difference of two runs on the images that both held out, or on other images."""

import math
from pathlib import Path

from minicnn.cli.options import add_shared, path, show
from minicnn.core.arguments import Real, check
from minicnn.errors import InputError, printable

__all__ = ["HELP", "EXAMPLES", "add_options", "run"]

HELP = "compare two runs, with intervals and a test of the difference"
EXAMPLES = """examples:
  minicnn compare runs/001 runs/002                            on the images that both held out
  minicnn compare runs/001 runs/002 --data hospital/index.csv  on other images"""


def add_options(parser):
    parser.add_argument("a", type=path, metavar="RUN", help="a run folder; A in the output")
    parser.add_argument("b", type=path, metavar="RUN", help="another; B")
    parser.add_argument("--data", type=path, metavar="DATA", help="a folder with one folder per class, or a CSV file; "
                        "`minicnn evaluate` checks whether a network was trained on these images")
    add_shared(parser, "--quiet", "--json")


def run(options):
    """Print how two runs differ."""
    from minicnn.evaluation.comparison import compare

    if options.data is None:
        labels, a, b, clusters, where = _held_out_by_both(options.a, options.b)
    else:
        labels, a, b, clusters, where = _on_other_images(options)
    show(options, compare(labels, a, b, clusters), lambda told: _text(told, where, options))


def _text(told, where, options):
    from minicnn.evaluation.comparison import DIFFERENCES
    from minicnn.evaluation.intervals import FEW
    from minicnn.evaluation.summary import HEADS, SHARES
    from minicnn.core.text import grid, number, percent

    rows = [["", "A", "B", "A - B", "95 % interval of A - B"]]
    for name in DIFFERENCES:
        form, digits = (percent, 2) if name in SHARES else (number, "{:.4f}")
        bounds = told["intervals"].get(name)
        rows.append([HEADS[name], *(form(told[of][name], digits) for of in ("a", "b", "difference")),
                     told["no_interval"].get(name, "none") if bounds is None
                     else " to ".join(form(bound, digits) for bound in bounds)])
    test = told["mcnemar"]
    verdict = f"p = {test['p_value']:.3g}" if test["p_value"] is not None else f"no p: {test['undefined']}"
    few = [f"Approximate: fewer than {FEW} patients."] if told["patients"] < FEW else []
    return "\n".join([
        f"A is {printable(options.a)}, B is {printable(options.b)}; on {told['n']} images of {told['patients']} "
        f"patients, {where}.", "", *grid(rows), "",
        f"Images that only A predicts correctly: {test['only_a']}; only B: {test['only_b']}; {verdict} (McNemar's "
        "exact test, by patient).", *few])


def _on_other_images(options):
    """Return (labels, probabilities of A, of B, clusters, where) of other images."""
    from minicnn.data.manifest import Manifest
    from minicnn.evaluation.summary import patient_clusters
    from minicnn.experiment.evaluation_run import load_model, preprocessing_of

    models = [load_model(folder) for folder in (options.a, options.b)]
    _check_classes([model.classes for model in models])
    manifest = Manifest.read(options.data, classes=models[0].classes)
    outputs = [model.predict(manifest.open(preprocessing_of(model), progress=not options.quiet))[:, 0]
               for model in models]
    return manifest.labels, *outputs, patient_clusters(manifest), f"in {printable(options.data)}"


def _held_out_by_both(a, b):
    """Return (labels, probabilities of A, of B, clusters, where) of the images in the last set of both runs."""
    import numpy as np

    from minicnn.data.split import groups
    from minicnn.experiment import load_model

    classes = [load_model(folder).classes for folder in (a, b)]
    _check_classes(classes)
    tables = [_held_out(folder) for folder in (a, b)]
    shared = [key for key in tables[0] if key in tables[1]]
    if not shared:
        raise InputError(f"{printable(a)} and {printable(b)}: no image is held out by both. Train both on the same "
                         "data with the same --seed, or name other images with --data.")
    rows = [[table[key] for key in shared] for table in tables]
    for x, y in zip(*rows):
        if x["label"] != y["label"] or x["label"] not in classes[0]:
            raise InputError(f"{printable(x['path'])}: is {printable(x['label'])} in {printable(a)} and "
                             f"{printable(y['label'])} in {printable(b)}. Compare them with --data, with correct "
                             "labels.")
    labels = np.array([classes[0].index(row["label"]) for row in rows[0]])
    clusters = groups([row["patient_id"] or f"\0{row['path']}" for row in rows[0]])
    p = [np.array([_probability(row) for row in table]) for table in rows]
    most = max(map(len, tables))
    where = "the set that each held out" if len(shared) == most else f"those of up to {most} that both held out"
    return labels, *p, clusters, where


def _check_classes(classes):
    if classes[0] != classes[1] or classes[0] is None:
        raise InputError("compare: both networks must have the same classes, in the same order; they have "
                         + " and ".join(", ".join(map(printable, names or ["none"])) for names in classes) + ".")
    if len(classes[0]) > 2:
        raise InputError(f"compare: the networks must have two classes, they have {len(classes[0])}: "
                         f"{', '.join(map(printable, classes[0]))}.")


def _held_out(folder):
    """Return {(path, technique): row} of the set that a run held out: test, or the paper's protocol's validation."""
    split, predictions = (_rows(Path(folder) / name) for name in ("split.csv", "predictions.csv"))
    if [(row["path"], row["split"]) for row in split] != [(row["path"], row["part"]) for row in predictions]:
        raise InputError(f"{printable(folder)}: split.csv and predictions.csv do not hold the same images in the same "
                         "order: one of them was changed. Compare with --data.")
    last = "test" if any(row["part"] == "test" for row in predictions) else "validation"
    return {(x["path"], x.get("technique", "")): {"patient_id": x.get("patient_id", ""), **y}
            for x, y in zip(split, predictions) if y["part"] == last}


def _rows(path):
    """Return the rows of a CSV file of a run, which may be of unknown origin."""
    from minicnn.core.untrusted import raising, read_table

    needed = ("path", "split") if path.name == "split.csv" else ("path", "part", "label", "probability")
    with raising(InputError, path):
        try:
            return list(read_table(path, needed, "surrogateescape"))
        except FileNotFoundError:
            raise InputError(f"{printable(path.parent)}: has no {path.name}: this run is not finished, or not a run. "
                             "Finish it: minicnn train --resume RUN.") from None


def _probability(row):
    try:
        value = float(row["probability"])
    except ValueError:
        value = math.nan
    return check(f"predictions.csv: {printable(row['path'])}", "the probability", value, Real(0, 1, "[]"))
