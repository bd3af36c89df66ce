"""How good a trained network is: what its run measured, or what is measured on other images. `minicnn evaluate`.

Under the honest protocol the judged network is that of the epoch with the lowest validation loss, or the mean of the
weights of a recipe that averages them; under the paper's it is that of the last epoch.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from minicnn.data.manifest import Manifest
from minicnn.data.preprocessing import Preprocessing
from minicnn.errors import CheckpointError, InputError, printable
from minicnn.evaluation.operating_point import OperatingPoint
from minicnn.evaluation.shortcut_test import ShortcutCheck, check_shortcuts, examples
from minicnn.evaluation.summary import is_summary, patient_clusters, subgroup_columns, summarize
from minicnn.evaluation.test_access import access_sentence, check_unseen, count_access
from minicnn.experiment.config import how_to_resume, plan_of
from minicnn.experiment.recipes import RECIPES
from minicnn.experiment.run_folder import RunFolder
from minicnn.experiment.run_plots import PICTURES, draw
from minicnn.model import Sequential
from minicnn.reporting import console

__all__ = ["Result", "evaluate", "load_model", "judged", "described", "preprocessing_of", "AVERAGE"]

AVERAGE = "average.safetensors"


@dataclass
class Result:
    """What a run has to say.

    Attributes
    ----------
    folder : Path, a run folder or weights file
    metrics : {part: description} (evaluation/summary.py)
    protocol : sentence, or None
    pictures : list of Path
    notes : list of sentences
    sources, outputs : {part: ImageDataset} and {part: ndarray (n, k)}, where they were computed
    shortcuts : ShortcutCheck (evaluation/shortcut_test.py), where it was asked for
    """

    folder: Path
    metrics: dict
    protocol: str | None = None
    pictures: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    sources: dict = field(default_factory=dict)
    outputs: dict = field(default_factory=dict)
    shortcuts: ShortcutCheck | None = None

    def to_dict(self):
        """Return the metrics of each part, and the shortcut check beside them, as plain JSON."""
        return self.metrics if self.shortcuts is None else self.metrics | {"shortcuts": self.shortcuts.to_dict()}

    def table(self):
        """Return the metrics of each part, and the words that belong to them, as text for a terminal."""
        lines = [console.table(self.metrics)]
        if self.shortcuts is not None:
            lines += ["", "Shortcut check", self.shortcuts.table()]
        if self.protocol is not None:
            lines += ["", self.protocol]
        return "\n".join(lines + self.notes)


def evaluate(run, data=None, report=None, columns=None, workers=None, allow_outside_root=False, expect=None,
             allow_training_images=False, progress=True, calibrated=False, shortcuts=False):
    """Measure a trained network: on the images of `data`, or, without, repeat what its run measured.

    Parameters
    ----------
    run : run folder or weights file
    data : folder of class folders, CSV or Manifest, optional
    report : file name of an HTML page to write, optional
    expect : SHA-256 of the weights file, optional; another file is refused
    allow_training_images : bool; measure on images that the network was trained on too, and say so
    calibrated : bool; measure probabilities at the temperature that the run fixed on its validation part; needs `data`
    shortcuts : bool; also ask whether it is the lungs that the network looks at (evaluation/shortcut_test.py); needs `data`

    Raises
    ------
    InputError
        the network was trained on some of the images, or the run is not finished

    Returns
    -------
    Result with one part, "evaluation", or with the parts of the run
    """
    run = Path(run)
    if data is None:
        for asked, what in ((calibrated, "calibrated probabilities are"), (shortcuts, "shortcuts are")):
            if asked:
                raise InputError(f"evaluate: {what} measured on images: say on which with --data.")
        result = _measured_before(run)
    else:
        model = load_model(run, expect)
        manifest = data if isinstance(data, Manifest) else Manifest.read(
            data, classes=model.classes, columns=columns, allow_outside_root=allow_outside_root)
        source = manifest.open(preprocessing_of(model), workers=workers, progress=progress)
        seen = check_unseen(model, source, allow_training_images)
        fixed = OperatingPoint.read(RunFolder(run)) if run.is_dir() else None
        if calibrated and (fixed is None or fixed.temperature is None):
            reason = "there is no decision.json beside it" if fixed is None else fixed.undefined.get("temperature")
            raise InputError(f"{printable(run)}: no temperature was fixed on validation: {reason}. Leave out "
                             "--calibrated.")
        outputs = model.predict(source)
        result = Result(run, {"evaluation": described(model, source, outputs, fixed, calibrated)},
                        notes=[] if seen is None else ["", seen],
                        sources={"evaluation": source}, outputs={"evaluation": outputs})
        if shortcuts:
            result.shortcuts = check_shortcuts(model, source, patients=patient_clusters(source.manifest).astype(str))
    if report is not None:
        _write_page(report, result, run, load_model(run, expect))
    return result


def _measured_before(run):
    """Return the Result that a finished run's folder holds, and count this look at its test part."""
    if not run.is_dir():
        raise InputError(f"{printable(run)}: a file holds no measurements; say on what to measure with --data.")
    folder = RunFolder(run)
    plan = plan_of(folder)
    if not folder.is_finished:
        raise InputError(f"{printable(run)}: this run is not finished. Go on with it: {how_to_resume(run)}; or say on "
                         "what to measure with --data.")
    result = Result(run, _metrics_of(folder), plan.protocol_sentence,
                    [path for name in PICTURES if (path := run / name).exists()])
    if "test" in result.metrics:
        result.notes.append(access_sentence(note_look(run)))
    return result


def load_model(run, expect=None):
    """Return the network of a run (the one its protocol judges) or of a weights file, with the SHA-256 `expect`."""
    run = Path(run)
    return Sequential.load(judged(run, plan_of(RunFolder(run))) if run.is_dir() else run, expect=expect)


def judged(folder, plan):
    """Return the weights file that is judged: what protocol and recipe say (see above), as far as it is there yet."""
    names = {"paper": ["last.safetensors"], "honest": ["best.safetensors", "last.safetensors"]}[plan.protocol]
    if RECIPES[plan.recipe].average:
        names.insert(0, AVERAGE)
    return next((folder / name for name in names if (folder / name).exists()), folder / names[-1])


def preprocessing_of(model):
    """Return how pictures become a network's input, by its size alone where it was trained on none; None without one."""
    images = len(model.input_shape) == 3 and model.input_shape[2] in (1, 3)
    return model.preprocessing or (Preprocessing(*model.input_shape) if images else None)


def described(model, source, outputs, fixed, calibrated=False):
    """Return the description of a network's outputs for a source (evaluation/summary.py).

    The loss is the network's own, from its logits; that of calibrated probabilities, and of a network that was not
    compiled, is taken from the probabilities.
    """
    if calibrated:
        outputs = fixed.calibrated(outputs)
    loss = None if calibrated or model.loss is None else model.evaluate(source)["loss"]
    threshold = None if fixed is None else fixed.threshold
    if calibrated and threshold is not None:
        threshold = float(fixed.calibrated([threshold])[0])
    return summarize(source.labels, outputs, patient_clusters(source.manifest), subgroup_columns(source.manifest),
                     threshold, loss, model.classes)


def _metrics_of(run):
    """Return the content of metrics.json, which may come from a stranger."""
    parts = run.read_json("metrics.json")
    for part in parts.values() if isinstance(parts, dict) else [parts]:
        if not is_summary(part):
            raise InputError(f"{printable(run.path / 'metrics.json')}: not the metrics of this version of minicnn.")
    return parts


def _write_page(path, result, run, model):
    """Write the page of a Result; where it has no pictures of a run folder, they are drawn for it and not kept."""
    from minicnn.experiment.run_page import page

    with TemporaryDirectory(prefix="minicnn-page-") as folder:
        pictures = result.pictures
        if result.outputs:
            pictures = draw(Path(folder), model.classes, result.sources, result.outputs, result.metrics)
        figures = {PICTURES[picture.name]: picture for picture in pictures}
        if result.shortcuts is not None:
            from minicnn.plotting.explanation import shortcut_check
            name, source = next(iter(result.sources.items()))
            path = Path(folder) / "shortcuts.png"
            shortcut_check({name: result.shortcuts}, examples(source.batch(np.arange(1))[0]), path)
            figures["What each disturbance does, and the AUC under it"] = path
        config = asdict(plan_of(RunFolder(run))) if run.is_dir() else {}
        notes = [note for note in [result.protocol, *result.notes] if note]
        page(path, "COV-19Net: how well it does", result.metrics, figures, config, model.classes or (), notes,
             None if result.shortcuts is None else result.shortcuts.to_dict())


def note_look(folder, part="test"):
    """Count one more look at a part of the run in `folder`; return how many there are, or None where none can be noted."""
    try:
        with RunFolder(folder) as locked:
            return count_access(locked, part)
    except CheckpointError:     # read-only: to look is still allowed
        return None
