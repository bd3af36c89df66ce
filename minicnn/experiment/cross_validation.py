"""Cross-validation by patient: `minicnn train --folds 5`.

The patients are divided into k parts. Each of k networks is trained without one part, in a run folder of its own, fold-1 to fold-k,
and tested on it. So each image is predicted once, by a network that has seen no image of its patient, and the metrics are those of
all predictions together, with patient-clustered intervals. The networks differ a little in the scale of their probabilities, which
costs some AUC and calibration.
"""

import os
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from minicnn.core.processes import Alone
from minicnn.core.progress import Progress
from minicnn.core.untrusted import write_csv
from minicnn.data.manifest import split_rows
from minicnn.distributed.tasks import dismiss, spread
from minicnn.errors import InputError, printable
from minicnn.evaluation.operating_point import OperatingPoint
from minicnn.evaluation.summary import patient_clusters, subgroup_columns, summarize
from minicnn.evaluation.test_access import access_counts, count_access
from minicnn.experiment.config import Config
from minicnn.experiment.evaluation_run import Result
from minicnn.experiment.prediction_run import prediction_rows
from minicnn.experiment.run_folder import RunFolder, environment
from minicnn.experiment.run_plots import draw
from minicnn.experiment.splits import read_images
from minicnn.experiment.training_run import resume, train

__all__ = ["cross_validate", "resume_folds"]


def cross_validate(config, folder, progress=True, plots=True, group=Alone()):
    """Train and test the networks of a Config with `folds` in a new folder; return the Result of their predictions together.

    Parameters
    ----------
    config, folder, progress, plots : as for `train`
    group : distributed.MPI; whole networks are spread over its processes. This is rank 0, the others call `assist`

    Returns
    -------
    Result with one set, "test": all images

    Raises
    ------
    InputError : no folds; the folder already holds a run
    Interrupted : after a signal: `resume_folds` goes on from there
    """
    if not config.is_cross_validation:
        raise InputError("cross_validate: the config has no folds, or names one of them: give it folds=5, say, and no fold.")
    images = read_images(config, progress)
    with RunFolder(folder() if callable(folder) else folder) as run:
        if run.is_begun:
            raise InputError(f"{printable(run.path)}: already holds a run. Go on with it: {run.resume_command}; or choose another "
                             "folder with --out.")
        run.write_json("environment.json", environment())
        run.write_json("config.json", asdict(config))
        return _carry_out(run, config, images, progress, plots, group, {})


def resume_folds(folder, progress=True, plots=True, group=Alone(), **moved):
    """Go on with the cross-validation in `folder`; return the Result. Files are as after one without interruption.

    `moved` are data, columns, labels, allow_outside_root and root, where the data was moved, as for `resume`.
    """
    with RunFolder(folder) as run:
        config = Config.read(run)
        if moved:
            config = replace(config, **{name: os.fspath(value) if name == "data" else value for name, value in moved.items()
                                        if value is not None or name == "root"})
        images = read_images(config, progress)
        if moved:
            run.write_json("config.json", asdict(config))
        return _carry_out(run, config, images, progress, plots, group, moved)


def _carry_out(run, config, images, progress, plots, group, moved):
    """Train the networks that are left; write what they predict together; return the Result."""
    folds = {f"fold-{number}": replace(config, fold=number) for number in range(1, config.folds + 1)}
    say = Progress(0, "", enabled=progress).say
    if group.size > 1:
        left = {name: (one, run.path / name, False, moved) for name, one in folds.items() if not RunFolder(run.path / name).is_finished}
        spread(group, _fold, left, lambda done, name, rank: say(f"{done} of {len(left)} done: {name}, by rank {rank}"))
        dismiss(group)
    outputs, numbers, each = None, np.zeros(len(images), int), []
    rows = {path: row for row, path in enumerate(images.paths)}
    for number, (name, one) in enumerate(folds.items(), 1):
        say(f"fold {number} of {config.folds}")
        result = _fold(one, run.path / name, progress, moved)
        found, held_out = result.outputs["test"], [rows[path] for path in result.datasets["test"].manifest.paths]
        outputs = np.zeros((len(images), found.shape[1]), found.dtype) if outputs is None else outputs
        outputs[held_out], numbers[held_out] = found, number
        each.append(result.metrics["test"])
    return _together(run, config, images, outputs, numbers, each, plots)


def _fold(config, folder, progress, moved):
    """Return the Result of one network: trained, gone on with, or, where it is finished, evaluated again."""
    if RunFolder(folder).is_begun:
        return resume(folder, progress, False, **moved)
    return train(config, Path(folder), progress, False)


def _together(run, config, images, outputs, numbers, each, plots):
    """Write and draw what all networks predict; return its Result.

    Parameters
    ----------
    outputs : ndarray (n, k); of each image the output of the network that was tested on it
    numbers : ndarray (n,), int; the fold of each image
    each : the summary of each fold
    """
    assert numbers.all(), "an image was in no fold"
    dataset = images.open(config.preprocessing, workers=config.workers)
    told = summarize(images.labels, outputs, patient_clusters(images), subgroup_columns(images), classes=images.classes,
                     patients=images.patients)
    notes = [f"By fold: accuracy {_span(each, 'accuracy', 100)} %, AUC {_span(each, 'auc')}. Each fold is a run folder, "
             f"{printable(run.path / 'fold-1')} to fold-{config.folds}, that evaluate, predict and explain take."]
    result = Result(run.path, {"test": told}, config.protocol_sentence, notes=notes, datasets={"test": dataset}, outputs={"test": outputs})
    if not access_counts(run):
        count_access(run)
    by_fold = [{"fold": int(number)} for number in numbers]
    write_csv(run.path / "split.csv", [row | fold for row, fold in zip(split_rows({"test": images}), by_fold)], private=True)
    write_csv(run.path / "predictions.csv", [
        {"path": path, "part": "test", "label": images.classes[label], **row, **fold} for path, label, row, fold in
        zip(dataset.names, dataset.labels, prediction_rows(outputs, list(images.classes), OperatingPoint()), by_fold)], private=True)
    if plots:
        result.plots = draw(run.path, images.classes, result.datasets, result.outputs, result.metrics, (), result.notes)
    run.write_json("metrics.json", result.metrics)
    return result


def _span(each, metric, scale=1):
    """Return the lowest and the highest value of a metric over the folds, as text."""
    values = [scale * one[metric] for one in each if one[metric] is not None]
    form = "{:.1f} to {:.1f}" if scale == 100 else "{:.3f} to {:.3f}"
    return form.format(min(values), max(values)) if values else "undefined"
