"""Evaluation of a trained network: what its run measured, or metrics on other images. `minicnn evaluate`.

Under the honest protocol the evaluated weights are those of the epoch with the lowest validation loss, or the averaged
weights of a recipe that averages them; under the paper's protocol they are those of the last epoch.
"""

import os
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from minicnn.core.text import join, spelling
from minicnn.data.manifest import Manifest
from minicnn.data.preprocessing import Preprocessing
from minicnn.errors import CheckpointError, InputError, printable
from minicnn.evaluation.operating_point import OperatingPoint
from minicnn.evaluation.out_of_distribution import of_run
from minicnn.evaluation.shortcut_test import ShortcutCheck, check_shortcuts, examples
from minicnn.evaluation.summary import answers, is_summary, patient_clusters, subgroup_columns, summarize
from minicnn.evaluation.test_access import (access_sentence, altered_copies, check_unseen, copy_hashes, count_access,
                                            data_digest, trained_on)
from minicnn.experiment.config import Config
from minicnn.experiment.recipes import RECIPES
from minicnn.experiment.run_folder import RunFolder
from minicnn.experiment.run_page import page
from minicnn.experiment.run_plots import PLOTS, drawings, read_answers, read_history
from minicnn.model import Sequential
from minicnn.reporting import console
from minicnn.reporting.plots import shortcut_check

__all__ = ["Result", "evaluate", "load_model", "read_data", "evaluated_weights", "summary_of", "preprocessing_of",
           "unseen_images", "note_access", "AVERAGE"]

AVERAGE = "average.safetensors"


@dataclass
class Result:
    """The metrics of a trained network.

    Attributes
    ----------
    folder : Path of a run folder or weights file
    metrics : {set: summary} (evaluation/summary.py)
    protocol : sentence, or None
    plots : list of Path
    notes : list of sentences
    datasets, outputs : {set: ImageDataset} and {set: ndarray (n, k)}, where they were computed
    shortcuts : ShortcutCheck (evaluation/shortcut_test.py), or None
    """

    folder: Path
    metrics: dict
    protocol: str | None = None
    plots: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    datasets: dict = field(default_factory=dict)
    outputs: dict = field(default_factory=dict)
    shortcuts: ShortcutCheck | None = None

    def to_dict(self):
        """Return the metrics of each set, and the shortcut check beside them, as plain JSON."""
        return self.metrics if self.shortcuts is None else self.metrics | {"shortcuts": self.shortcuts.to_dict()}

    def table(self):
        """Return the metrics of each set, and the notes on them, as text for a terminal."""
        lines = [console.table(self.metrics)]
        if self.shortcuts is not None:
            lines += ["", "Shortcut check", self.shortcuts.table()]
        if self.protocol is not None:
            lines += ["", self.protocol]
        return "\n".join(lines + self.notes)


def evaluate(run, data=None, report=None, columns=None, workers=None, allow_outside_root=False, expect=None,
             allow_training_images=False, progress=True, calibrated=False, shortcuts=False, classes=None, root=None,
             bits=None, labels=None, skip_unreadable=False, leave_out_copies=False):
    """Evaluate a trained network on the images of `data`, or, without, return what its run measured.

    Parameters
    ----------
    run : path of a run folder or weights file
    data : folder of class folders, CSV file or Manifest, optional
    report : path of an HTML page to write, optional
    columns, labels, workers, allow_outside_root, root : how to read `data`; see Config
    expect : SHA-256 of the weights file, optional; another file is refused
    allow_training_images : bool; evaluate on images that the network was trained on too, and say so
    progress : bool; report progress on stderr
    calibrated : bool; evaluate probabilities at the temperature that the run fixed on its validation set; needs `data`
    shortcuts : bool; also check for shortcuts (evaluation/shortcut_test.py); needs `data`
    classes : the labels of `data` in the order of the outputs, optional; by default the classes of the network
    bits : the bits that 16-bit files of `data` use (Preprocessing), optional; by default those of the training images
    skip_unreadable : bool; leave out images that cannot be read, with a warning, and a note in the Result
    leave_out_copies : bool; leave out images that the network was trained on, and altered copies of them

    Returns
    -------
    Result with one set, "evaluation", or with the sets of the run

    Raises
    ------
    InputError : the network was trained on some of the images, or the run is not finished
    """
    run = Path(run)
    if data is None:
        if calibrated or shortcuts:
            what = "calibrated probabilities are" if calibrated else "shortcuts are"
            raise InputError(f"evaluate: {what} measured on images; name them with --data.")
        result = _of_the_run(run)
    else:
        model = load_model(run, expect)
        manifest = read_data(model, data, columns, classes, allow_outside_root, root, labels)
        dataset = manifest.open(preprocessing_of(model, bits), workers=workers, progress=progress,
                                skip_unreadable=skip_unreadable)
        lost = len(manifest) - len(dataset)
        notes = [f"{lost:,} of {len(manifest):,} images could not be read and are left out."] if lost else []
        kept, said = unseen_images(run, model, dataset, allow_training_images, leave_out_copies)
        if len(kept) < len(dataset):
            dataset = dataset.manifest.subset(kept).open(dataset.preprocessing, workers=workers, progress=progress)
        notes += said
        point = OperatingPoint.read(RunFolder(run)) if run.is_dir() else None
        if calibrated and (point is None or point.temperature is None):
            reason = "there is no decision.json beside it" if point is None else point.undefined.get("temperature")
            raise InputError(f"{printable(run)}: no temperature was fixed on validation: {reason}. Leave out "
                             "--calibrated.")
        outputs = answers(model, dataset)
        result = Result(run, {"evaluation": summary_of(model, dataset, outputs, point, calibrated)},
                        notes=["", *notes] if notes else [],
                        datasets={"evaluation": dataset}, outputs={"evaluation": outputs})
        if shortcuts:
            result.shortcuts = check_shortcuts(model, dataset, patients=dataset.manifest.patients,
                                               clusters=patient_clusters(dataset.manifest))
    if report is not None:
        is_of_folds = run.is_dir() and Config.read(RunFolder(run)).is_cross_validation
        classes = load_model(run / "fold-1" if is_of_folds else run, expect).classes
        _write_page(report, result, run, classes or (), _measured(result, run, data))
    return result


def _measured(result, run, data):
    """Return a sentence on what was measured and when, with the first 16 hex digits of `test_access.data_digest`."""
    name = printable("a Manifest" if isinstance(data, Manifest) else data or "")
    if data is not None:
        digest = data_digest(result.datasets["evaluation"])[:16]
        return f"Measured on {name} on {_date()}. The SHA-256 of its images and labels begins with {digest}."
    folder, config = RunFolder(run), Config.read(RunFolder(run))
    kept = folder.read_json("environment.json") if (folder.path / "environment.json").exists() else None
    digests = kept.get("digests") if isinstance(kept, dict) else None
    digests = digests if isinstance(digests, dict) else {}     # an earlier version did not note them
    known = join(f"{name} {printable(digests[name])[:16]}" for name in result.metrics if name in digests)
    return (f"Measured at the end of the training of {printable(run)}, on its own sets of "
            f"{'synthetic radiographs' if config.data is None else printable(config.data)}; this page is of {_date()}."
            + f" The SHA-256 of images and labels begins with: {known}." * bool(known))


def _date():
    """Return the date of now, or of SOURCE_DATE_EPOCH where that is set: pages are then equal to the byte."""
    fixed = os.environ.get("SOURCE_DATE_EPOCH", "")
    return time.strftime("%Y-%m-%d", time.gmtime(int(fixed) if fixed.isdecimal() and len(fixed) < 12 else time.time()))


def _of_the_run(run):
    """Return the Result that the folder of a finished run holds, and count this access to its test set."""
    if not run.is_dir():
        raise InputError(f"{printable(run)}: a weights file holds no metrics; name the images to evaluate with --data.")
    folder = RunFolder(run)
    config = Config.read(folder)
    if not folder.is_finished:
        raise InputError(f"{printable(run)}: this run is not finished. Go on with it: {folder.resume_command}; or name "
                         "the images to evaluate with --data.")
    metrics = folder.read_json("metrics.json")
    if not isinstance(metrics, dict) or not metrics or not all(map(is_summary, metrics.values())):
        raise InputError(f"{printable(run / 'metrics.json')}: not the metrics of this version of minicnn.")
    result = Result(run, metrics, config.protocol_sentence, [path for name in PLOTS if (path := run / name).exists()])
    if "test" in metrics:
        result.notes.append(access_sentence(note_access(run)))
    return result


def load_model(run, expect=None):
    """Return the network of a run, with the weights that are evaluated, or of a weights file.

    `expect` is the SHA-256 of the file, optional; another file is refused.
    """
    run = Path(run)
    config = Config.read(RunFolder(run)) if run.is_dir() else None
    if config is not None and config.is_cross_validation:
        raise InputError(f"{printable(run)}: a cross-validation has {config.folds} networks. Name the folder of one, such as "
                         f"{printable(run / 'fold-1')}.")
    return Sequential.load(run if config is None else evaluated_weights(run, config), expect=expect)


def read_data(model, data, columns=None, classes=None, allow_outside_root=False, root=None, labels=None):
    """Return the Manifest of `data`, with labels in the order of the network's outputs; arguments as for `evaluate`."""
    if classes is not None:
        n = max(2, model.output_shape[-1])
        if len(classes) != n:
            raise InputError(f"classes: the network tells {n} classes apart, got {len(classes)} labels: "
                             f"{', '.join(map(printable, classes))}.")
        own, given = [list(map(spelling, names)) for names in (model.classes or (), classes)]
        if own != given and set(own) == set(given):
            raise InputError(f"classes: the network's are {', '.join(map(printable, model.classes))}, in this order; got "
                             f"{', '.join(map(printable, classes))}.")
    if isinstance(data, Manifest):
        return data
    manifest = Manifest.read(data, classes=model.classes if classes is None else classes, columns=columns,
                             allow_outside_root=allow_outside_root, root=root, labels=labels)
    return manifest if model.classes is None else replace(manifest, classes=model.classes)


def unseen_images(run, model, dataset, allowed=False, leave_out=False):
    """Return (numbers of the images to evaluate on, sentences): what of a dataset the network of a run was trained on.

    Parameters
    ----------
    run : Path of a run folder, which keeps hashes of its training images, or of a weights file, which does not
    allowed : bool; accept images that the network was trained on
    leave_out : bool; leave them and their altered copies out

    Raises
    ------
    InputError : there are such images, and that is not allowed; all images are left out
    """
    n, exact, known = len(dataset), trained_on(model, dataset), of_run(run)
    known = None if known is None else known.hashes
    copies = np.zeros(n, bool) if known is None else ~exact & altered_copies(copy_hashes(dataset), known)
    if leave_out:
        kept = np.flatnonzero(~(exact | copies))
        if not len(kept):
            raise InputError(f"{printable(run)}: the network was trained on all {n:,} images, or on copies of them. Name "
                             "others with --data.")
        notes = [f"{exact.sum():,} of {n:,} images, which the network was trained on, and {copies.sum():,} altered copies "
                 "of such images are left out."]
    else:
        kept, seen = np.arange(n), check_unseen(model, dataset, allowed)
        notes = [] if seen is None else [seen]
        if copies.any():
            notes.append(f"{copies.sum():,} of these {n:,} images are altered copies (saved again, resized, mirrored, of "
                         "another exposure) of images that the network was trained on, the first is "
                         f"{printable(dataset.names[copies.argmax()])}: the metrics are optimistic. Leave them out with "
                         "leave_out_copies=True (--leave-out-copies).")
        elif known is not None and seen is None:
            notes.append("None of these images is one that the network was trained on, or an altered copy of one (saved "
                         "again, resized, mirrored, of another exposure).")
    if known is None:
        reason = "this run, of an earlier version of minicnn," if run.is_dir() else "a weights file without its run"
        notes.append(f"Altered copies of training images are not looked for: {reason} has no hashes of them. "
                     "`minicnn data audit` of both collections together finds them.")
    return kept, notes


def evaluated_weights(folder, config):
    """Return the weights file that protocol and recipe evaluate (see above), of those that are there yet."""
    names = {"paper": ["last.safetensors"], "honest": ["best.safetensors", "last.safetensors"]}[config.protocol]
    if RECIPES[config.recipe].average:
        names.insert(0, AVERAGE)
    return next((folder / name for name in names if (folder / name).exists()), folder / names[-1])


def preprocessing_of(model, bits=None):
    """Return how images become a network's input; by its input shape if it was not trained on images, None if it has no
    such shape. `bits` are those that 16-bit files use, by default as in training."""
    is_image = len(model.input_shape) == 3 and model.input_shape[2] in (1, 3)
    preprocessing = model.preprocessing or (Preprocessing(*model.input_shape) if is_image else None)
    return preprocessing if bits is None or preprocessing is None else replace(preprocessing, bits=bits)


def summary_of(model, dataset, outputs, point, calibrated=False):
    """Return the summary of a network's outputs on a dataset (evaluation/summary.py).

    The loss is the network's own, from its logits; that of calibrated probabilities, and of a network that was not
    compiled, is computed from the probabilities.
    """
    if calibrated:
        outputs = point.calibrated(outputs)
    loss = None if calibrated or model.loss is None else model.evaluate(dataset)["loss"]
    threshold = None if point is None else point.threshold
    if calibrated and threshold is not None:
        threshold = float(point.calibrated([threshold])[0])
    return summarize(dataset.labels, outputs, patient_clusters(dataset.manifest), subgroup_columns(dataset.manifest),
                     threshold, loss, model.classes, patients=dataset.manifest.patients)


def _write_page(path, result, run, classes, measured):
    """Write the page of a Result, with the plots of its run where the page cannot draw them itself."""
    dataset, history = None, ()
    if result.outputs:
        told = {name: (one.labels, result.outputs[name]) for name, one in result.datasets.items()}
        dataset = list(result.datasets.values())[-1]
    else:
        told, history = read_answers(run, classes), read_history(run)
    shown = drawings(classes, result.metrics, told, history, dataset)
    files = {PLOTS[plot.name]: plot for plot in result.plots if plot.name not in shown}
    shown, check = {name.removesuffix(".png"): (PLOTS[name], drawing) for name, drawing in shown.items()}, None
    if result.shortcuts is not None:
        (name, dataset), check = next(iter(result.datasets.items())), result.shortcuts.to_dict()
        shown["shortcuts"] = ("AUC under each disturbance, one image of which is shown. Line: 95 % interval. Dotted: 0.5, "
                              "chance.", shortcut_check([check | {"name": name}], examples(dataset.batch(np.arange(1))[0])))
    config = asdict(Config.read(RunFolder(run))) if run.is_dir() else {}
    notes = [note for note in [result.protocol, *result.notes] if note]
    network = config.get("network", "the network")
    page(path, f"{'COV-19Net' if network == 'cov19net' else network}: evaluation", result.metrics, files, config, classes, notes, check, shown, measured)


def note_access(folder, name="test"):
    """Count one more access to a set of the run in `folder`; return their number, or None if it cannot be written."""
    try:
        with RunFolder(folder) as locked:
            return count_access(locked, name)
    except CheckpointError:     # a read-only folder can still be evaluated
        return None
