"""One run, from a source of radiographs to a folder with results: what `minicnn train` and its sisters do.

    Plan -> parts (manifest, split by the protocol) -> model.fit -> the model that is judged -> metrics, pictures, tables

Under the honest protocol the judged model is the epoch with the lowest validation loss, and the test part is looked at
once, after training. Under the paper's it is the last epoch, and there is no test part.
"""

import math
import shlex
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import numpy as np

from minicnn import checkpoint, metrics
from minicnn.data import phantom
from minicnn.data.augmentation import Augmentation
from minicnn.data.manifest import Manifest, csv_text
from minicnn.data.images import Preprocessing
from minicnn.errors import InputError, MiniCNNError, MissingExtraError, WeightsError, printable
from minicnn.evaluation import decision, text
from minicnn.evaluation.decision import Decision
from minicnn.evaluation.describe import clusters_of, columns_of, describe, is_description
from minicnn.evaluation.leaks import check_unseen, count_look, looks, looks_sentence, split_digest
from minicnn.files import write_whole
from minicnn.model import Sequential
from minicnn.networks import cov19net
from minicnn.optimizers import Adam
from minicnn.runs import RunFolder, environment

__all__ = ["Plan", "Result", "train", "resume", "unfinished", "how_to_resume", "evaluate", "predict", "load_model",
           "split_table"]

PROTOCOLS = {
    "honest": "70/15/15 by patient; augmentation in training only; the test part is looked at once, after training",
    "paper": "as published: seven versions of every image, then 70/30 by image. It leaks: versions of one radiograph, and "
             "images of one patient, are on both sides, so the validation figures are too good",
}


def _whole(low, high):
    return lambda value: type(value) is int and low <= value <= high, f"a whole number from {low} to {high}"


def _optional(option):
    holds, expected = option
    return lambda value: value is None or holds(value), f"{expected}, or none"


def _one_of(*choices):
    return lambda value: isinstance(value, str) and value in choices, " or ".join(choices)


def _is_text(value):
    return isinstance(value, str) and value != "" and "\0" not in value


_OPTIONS = {
    "data": _optional((_is_text, "the name of a folder or a file")),
    "protocol": _one_of(*PROTOCOLS),
    "augmentation": _optional(_one_of("honest", "paper", "none")),
    "epochs": _whole(1, 2**31 - 1),
    "steps_per_epoch": _whole(1, 2**31 - 1),
    "batch_size": _whole(1, 2**31 - 1),
    "learning_rate": (lambda value: type(value) in (int, float) and 0 < value < math.inf, "a positive number"),
    "seed": _whole(0, 2**64 - 1),
    "classes": _optional((lambda value: isinstance(value, list) and len(value) > 1 and all(map(_is_text, value))
                          and len(set(value)) == len(value), "a list of two or more different names")),
    "columns": _optional((lambda value: isinstance(value, dict) and all(map(_is_text, [*value, *value.values()])),
                          "a table from names to headers")),
    "workers": _optional(_whole(0, 64)),
    "allow_outside_root": (lambda value: type(value) is bool, "true or false"),
}


@dataclass(frozen=True)
class Plan:
    """The options of a run; `config.json` holds them. See `minicnn train --help` for their meaning.

    Raises
    ------
    InputError
        if an option cannot be; a config.json may come from a stranger
    """

    data: str | None = None
    protocol: str = "honest"
    augmentation: str | None = None
    epochs: int = 20
    steps_per_epoch: int = 100
    batch_size: int = 32
    learning_rate: float = 1e-3
    seed: int = 0
    classes: list | None = None
    columns: dict | None = None
    workers: int | None = None
    allow_outside_root: bool = False

    def __post_init__(self):
        for name, (holds, expected) in _OPTIONS.items():
            if not holds(value := getattr(self, name)):
                raise InputError(f"{name}: expected {expected}, got {printable(repr(value))[:80]}.")
        if self.protocol == "paper" and self.augmentation not in (None, "paper"):
            raise InputError(f"augmentation: the paper's protocol brings its own, drawn once; {self.augmentation!r} "
                             "belongs to --protocol honest.")


@dataclass
class Result:
    """What a run has to say."""

    folder: Path
    metrics: dict
    protocol: str | None = None
    pictures: list = field(default_factory=list)
    notes: list = field(default_factory=list)

    def table(self):
        """Return the metrics of each part, and the words that belong to them, as text for a terminal."""
        lines = [text.table(self.metrics)]
        if self.protocol is not None:
            lines += ["", f"Protocol {self.protocol}: {PROTOCOLS[self.protocol]}."]
        return "\n".join(lines + self.notes)


def train(plan, folder, progress=True):
    """Carry a plan out in a new run folder; return its Result.

    Raises
    ------
    InputError
        if the folder already holds a run; the sentence says how far that is, and how to go on with it
    Interrupted
        after a signal: `resume` goes on from there
    """
    with RunFolder(folder) as run:
        if run.is_begun:
            raise InputError(_already_there(run, plan))
        sources, table = _open_parts(plan, progress)
        run.write_json("environment.json", environment())
        write_whole(run.path / "split.csv", table.encode("utf-8"))
        run.write_json("config.json", asdict(plan))
        return _fit_and_judge(run, plan, sources, progress, False)


def resume(folder, progress=True):
    """Go on with the run in `folder` from where it stands, with the options it was started with.

    What it leaves behind is, to the bit, what it would have left without the interruption.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{printable(folder)}: no such run folder.")
    with RunFolder(folder) as run:
        plan = _plan_of(run)
        sources, _ = _open_parts(plan, progress)
        return _fit_and_judge(run, plan, sources, progress, True)


def unfinished(plan, folder):
    """Return what to say where `folder` holds a run of this plan that was interrupted, else None."""
    run = RunFolder(folder)
    try:
        if run.is_begun and not run.is_finished and not run.is_locked and _is_same(_plan_of(run), plan):
            return _already_there(run, plan)
    except MiniCNNError:
        pass        # whatever it holds, it is not that
    return None


def how_to_resume(folder):
    """Return the command that goes on with a run, or None where there is nothing to go on with."""
    return f"minicnn train --resume {shlex.quote(printable(folder))}" if RunFolder(folder).is_begun else None


def evaluate(run, data=None, report=None, columns=None, workers=None, allow_outside_root=False, expect=None,
             allow_training_images=False, progress=True, calibrated=False):
    """Measure a trained network: on the images of `data`, or, without, repeat what its run measured.

    Parameters
    ----------
    run : run folder or weights file
    data : folder of class folders or CSV, optional
    report : file name of an HTML page to write, optional
    expect : SHA-256 of the weights file, optional; another file is refused
    allow_training_images : bool; measure on images that the network was trained on too, and say so
    calibrated : bool; measure probabilities at the temperature that the run fixed on its validation part; needs `data`

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
        if calibrated:
            raise InputError("evaluate: calibrated probabilities are measured on images: say on which with --data.")
        if not run.is_dir():
            raise InputError(f"{printable(run)}: a file holds no measurements; say on what to measure with --data.")
        folder = RunFolder(run)
        plan = _plan_of(folder)
        if not folder.is_finished:
            raise InputError(f"{printable(run)}: this run is not finished. Go on with it: {how_to_resume(run)}; or say on "
                             "what to measure with --data.")
        result = Result(run, _metrics_of(folder), plan.protocol,
                        [path for name in _PICTURES if (path := run / name).exists()])
        if "test" in result.metrics:
            result.notes.append(looks_sentence(count_look(run)))
    else:
        model = load_model(run, expect)
        manifest = Manifest.read(data, classes=model.classes, columns=columns, allow_outside_root=allow_outside_root)
        source = manifest.open(model.preprocessing, workers=workers, progress=progress)
        seen = check_unseen(model, source, allow_training_images)
        fixed = Decision.read(RunFolder(run)) if run.is_dir() else None
        if calibrated and (fixed is None or fixed.temperature is None):
            reason = "there is no decision.json beside it" if fixed is None else fixed.undefined.get("temperature")
            raise InputError(f"{printable(run)}: no temperature was fixed on validation: {reason}. Leave out "
                             "--calibrated.")
        told = _described(model, source, model.predict(source), fixed, calibrated)
        result = Result(run, {"evaluation": told}, notes=[] if seen is None else ["", seen])
    if report is not None:
        _write_page(report, result, run)
    return result


def predict(run, files, csv=None, expect=None):
    """Return [{"path", "prediction", "probability", "warning"}] for image files, in order; write them to a CSV if asked.

    The probability is that of the positive class with two classes, of the predicted one with more. The warning says in
    what a picture is unlike those the network was trained on; it is "" where nothing was noticed.
    """
    from minicnn.evaluation.familiarity import of_run

    model = load_model(run, expect)
    if len(model.output_shape) != 1:
        raise InputError(f"{printable(run)}: this network does not classify: its outputs have the shape "
                         f"{model.output_shape}.")
    classes = model.classes or [str(number) for number in range(max(2, *model.output_shape))]
    outputs = model.predict([str(file) for file in files])
    known = of_run(run)
    warned = [["not checked: what is known of the training images is in a run folder"]] * len(files) if known is None \
        else known.warnings(model, [str(file) for file in files])
    rows = [{"path": str(path), **answer, "warning": "; ".join(sentences)}
            for path, answer, sentences in zip(files, _answers(outputs, classes), warned)]
    if csv is not None:
        write_whole(csv, csv_text(rows).encode("utf-8", "surrogateescape"))
    return rows


def load_model(run, expect=None):
    """Return the network of a run (the one its protocol judges) or of a weights file; `expect` is the file's SHA-256."""
    run = Path(run)
    return Sequential.load(_judged(run, _plan_of(RunFolder(run))) if run.is_dir() else run, expect=expect)


def split_table(data, protocol="honest", seed=0, classes=None, columns=None, allow_outside_root=False, workers=None,
                out=None, progress=True):
    """Return how a source falls into parts, as text; write it as a manifest with a `split` column if asked."""
    plan = Plan(data=data, protocol=protocol, seed=seed, classes=classes, columns=columns, workers=workers,
                allow_outside_root=allow_outside_root)
    parts = _parts(plan, progress)
    if out is not None:
        write_whole(out, _split_csv(parts).encode("utf-8", "surrogateescape"))
    names = parts["training"].classes
    rows = [("part", *names, "images", "patients")]
    for name, part in parts.items():
        counts = np.bincount(part.labels, minlength=len(names))
        rows.append((name, *map(str, counts), str(len(part)), str(len({p for p in part.patients if p}))))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths)))
             for row in rows]
    return "\n".join(lines + ["", f"Protocol {protocol}: {PROTOCOLS[protocol]}."])


# ---- What a folder holds ---------------------------------------------------------------------------------------------

def _plan_of(run):
    config, name = run.read_json("config.json"), printable(run.path / "config.json")
    if not isinstance(config, dict) or not set(config) <= {item.name for item in fields(Plan)}:
        raise InputError(f"{name}: not the options of this version of minicnn.")
    try:
        return Plan(**config)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None


def _metrics_of(run):
    """Return the content of metrics.json, which may come from a stranger."""
    parts = run.read_json("metrics.json")
    for part in parts.values() if isinstance(parts, dict) else [parts]:
        if not is_description(part):
            raise InputError(f"{printable(run.path / 'metrics.json')}: not the metrics of this version of minicnn.")
    return parts


def _is_same(plan, other):
    """Whether two plans have the same results: the number of workers changes none."""
    return replace(plan, workers=None) == replace(other, workers=None)


def _already_there(run, plan):
    """Return what to say where a new run of `plan` would take the place of the run in this folder."""
    name, other, go_on = printable(run.path), _plan_of(run), f"Go on with it: {how_to_resume(run.path)}"
    if not _is_same(other, plan):
        different = [item.name for item in fields(Plan) if getattr(other, item.name) != getattr(plan, item.name)]
        return (f"{name}: already holds a run, with other options ({', '.join(different)}). {go_on}; or choose another "
                "folder with --out.")
    if run.is_finished:
        return (f"{name}: already holds this very run, finished. See it: minicnn evaluate {shlex.quote(name)}; or choose "
                "another folder with --out.")
    return f"{name}: already holds this very run, interrupted {_how_far(run, plan)}. {go_on}"


def _how_far(run, plan):
    try:
        content = checkpoint.read(run.last)
    except WeightsError:
        return "before its first checkpoint"
    done, position = len(content.history), content.position
    if position is None:
        return f"after epoch {done} of {plan.epochs}"
    return f"in epoch {done + 1} of {plan.epochs}, batch {position.batch} of {position.steps}"


# ---- The parts -------------------------------------------------------------------------------------------------------


def _parts(plan, progress):
    """Return {"training": Manifest, "validation": ..., "test": ...} of a plan, augmentation attached."""
    if plan.data is None:
        made = phantom.generate(seed=plan.seed)
        manifest = Manifest.from_arrays(made.images, made.labels, made.classes, patients=made.patients, names=made.names)
    else:
        manifest = Manifest.read(plan.data, classes=plan.classes, columns=plan.columns,
                                 allow_outside_root=plan.allow_outside_root)
    if plan.protocol == "paper":
        training, validation = manifest.paper_split(seed=plan.seed, workers=plan.workers, progress=progress)
        return {"training": training, "validation": validation}
    training, validation, test = manifest.split(0.70, 0.15, 0.15, seed=plan.seed, workers=plan.workers,
                                                progress=progress)
    augmentation = getattr(Augmentation, plan.augmentation or "honest")()
    return {"training": training.augment(augmentation), "validation": validation, "test": test}


def _open_parts(plan, progress):
    """Return ({part: ImageSource}, the text of split.csv)."""
    parts = _parts(plan, progress)
    sources = {name: part.open(Preprocessing(), workers=plan.workers, progress=progress) for name, part in parts.items()}
    return sources, _split_csv(parts)


def _split_csv(parts):
    """Return the rows of all parts as CSV text: path, label, patient_id, split (and technique under the paper's)."""
    rows = [row | {"split": name} for name, part in parts.items() for row in part.rows()]
    return csv_text(rows)


# ---- Training and judging --------------------------------------------------------------------------------------------

_PICTURES = ("curves.png", "roc.png", "confusion.png", "samples.png")


def _fresh_model(plan, classes):
    model = cov19net(plan.seed, classes=classes)
    model.compile(Adam(plan.learning_rate),
                  loss="binary_crossentropy" if len(classes) == 2 else "categorical_crossentropy")
    return model


def _fit_and_judge(run, plan, sources, progress, resume):
    """Train what is left of the plan, then measure the judged model on every part, and write and draw the results."""
    model = _fresh_model(plan, sources["training"].classes)
    model.split_digest = split_digest(sources)
    model.fit(sources["training"], validation=sources["validation"], epochs=plan.epochs, batch_size=plan.batch_size,
              steps_per_epoch=plan.steps_per_epoch, run=run.path, resume=resume, progress=progress,
              workers=1 if plan.workers is None else plan.workers)
    history = model.history
    model = Sequential.load(_judged(run.path, plan))
    _keep_familiarity(run, model, sources)
    result = Result(run.path, {}, plan.protocol)
    if "test" in sources and not looks(run.path):       # once: after an interruption it is the same look
        count_look(run)
    outputs = {}
    for name, source in sources.items():
        outputs[name] = model.predict(source)
    fixed = decision.fix(sources["validation"].labels, outputs["validation"])
    fixed.write(run)
    for name, source in sources.items():
        result.metrics[name] = _described(model, source, outputs[name], fixed)
    rows = [{"path": path, "part": name, "label": model.classes[label], **answer}
            for name, source in sources.items()
            for path, label, answer in zip(source.names, source.labels, _answers(outputs[name], model.classes))]
    write_whole(run.path / "predictions.csv", csv_text(rows).encode("utf-8", "surrogateescape"))
    try:
        result.pictures = _draw(run.path, model, history, sources, outputs)
    except MissingExtraError as error:
        result.notes.append(f"\nNo pictures: {error}")
    run.write_json("metrics.json", result.metrics)
    return result


def _described(model, source, outputs, fixed, calibrated=False):
    """Return the description of a network's outputs for a source (evaluation/describe.py).

    The loss is the network's own, from its logits; that of calibrated probabilities is taken from these.
    """
    if calibrated:
        outputs = fixed.calibrated(outputs)
    loss = None if calibrated else model.evaluate(source)["loss"]
    threshold = None if fixed is None else fixed.threshold
    if calibrated and threshold is not None:
        threshold = float(fixed.calibrated([threshold])[0])
    return describe(source.labels, outputs, clusters_of(source.manifest), columns_of(source.manifest), threshold, loss,
                    model.classes)


def _keep_familiarity(run, model, sources):
    """Keep what `predict` tells pictures unlike the training images by: no image, see evaluation/familiarity.py."""
    from minicnn.evaluation.familiarity import FILE, Familiarity

    files, root = sources["training"].files
    Familiarity.fit(model, sources["training"], sources["validation"], list(dict.fromkeys(files)),
                    root).save(run.path / FILE)


def _judged(folder, plan):
    """Return the weights file that the protocol judges: the last epoch, or the lowest validation loss."""
    best = folder / "best.safetensors"
    return best if plan.protocol == "honest" and best.exists() else folder / "last.safetensors"


def _answers(outputs, classes):
    """Return {"prediction", "probability"} of each row of outputs."""
    if outputs.shape[1] == 1:
        return [{"prediction": classes[int(p > 0.5)], "probability": round(float(p), 6)} for p in outputs[:, 0]]
    return [{"prediction": classes[int(row.argmax())], "probability": round(float(row.max()), 6)} for row in outputs]


def _draw(folder, model, history, sources, outputs):
    """Draw curves, ROC, confusion matrix and sample grid; return their paths. The last part is the one that counts."""
    from minicnn import figures

    part = list(sources)[-1]
    source, p, classes = sources[part], outputs[part], model.classes
    predicted = (p[:, 0] > 0.5).astype(int) if p.shape[1] == 1 else p.argmax(axis=1)
    figures.curves(history, folder / "curves.png")
    figures.confusion_matrix(metrics.confusion(source.labels, predicted, len(classes)), classes,
                             folder / "confusion.png")
    if len(classes) == 2:
        curves = {}
        for name in sources:
            score = outputs[name][:, 0]
            if len(set(sources[name].labels.tolist())) == 2:
                curves[name] = (*metrics.roc(sources[name].labels, score)[:2],
                                metrics.auc(sources[name].labels, score))
        if curves:
            figures.roc(curves, folder / "roc.png")
    # Versions of one image follow one another: take the samples from the whole length.
    chosen = np.linspace(0, len(source) - 1, min(24, len(source))).astype(int)
    figures.sample_grid(source.batch(chosen), source.labels[chosen], predicted[chosen], p[chosen], classes,
                        folder / "samples.png")
    return [folder / name for name in _PICTURES if (folder / name).exists()]


def _write_page(path, result, run):
    from minicnn.report.page import page

    config = asdict(_plan_of(RunFolder(run))) if run.is_dir() else {}
    captions = {"curves.png": "Loss and accuracy by epoch", "roc.png": "ROC curve", "confusion.png": "Confusion matrix",
                "samples.png": "Images of the last part with the network's answers"}
    page(path, "COV-19Net: how well it does", result.metrics,
         figures={captions[picture.name]: picture for picture in result.pictures}, config=config,
         classes=load_model(run).classes,
         notes=[f"Protocol {result.protocol}: {PROTOCOLS[result.protocol]}."] if result.protocol else result.notes)
