"""One run, from radiographs to a folder with results: what `minicnn train` does.

    Config -> split (splits.py) -> model.fit -> the evaluated weights (evaluation_run.py) -> metrics, plots, tables

Under the honest protocol the test set is evaluated once, after training. The paper's protocol has no test set.
"""

import hashlib
import os
import shlex
from dataclasses import asdict, replace
from pathlib import Path

from minicnn import checkpoint
from minicnn.core.files import open_regular
from minicnn.core.processes import Alone
from minicnn.core.progress import Progress
from minicnn.core.untrusted import raising, read_table, write_csv
from minicnn.data.sharing import share_dataset
from minicnn.distributed import tasks
from minicnn.errors import InputError, MiniCNNError, WeightsError, printable
from minicnn.evaluation import out_of_distribution
from minicnn.evaluation.operating_point import fit_operating_point
from minicnn.evaluation.summary import answers
from minicnn.evaluation.test_access import access_counts, count_access, data_digest, split_digest
from minicnn.experiment.config import Config
from minicnn.experiment.evaluation_run import AVERAGE, Result, evaluated_weights, summary_of
from minicnn.experiment.prediction_run import prediction_rows
from minicnn.experiment.recipes import RECIPES
from minicnn.experiment.run_folder import RunFolder, environment
from minicnn.experiment.run_plots import draw
from minicnn.experiment.splits import open_split
from minicnn.experiment.transfer import check_memory, initial_model, weights_file
from minicnn.frozen import FrozenFeatures, frozen_features
from minicnn.model import Sequential

__all__ = ["train", "resume", "assist", "train_or_resume", "unfinished"]


def train(config, folder, progress=True, plots=True, group=Alone()):
    """Train and evaluate in a new run folder; return the Result.

    Parameters
    ----------
    config : Config
    folder : path of the run folder, which is made once the data was read; or a function that returns it then
    progress : bool; report progress on stderr
    plots : bool; draw learning curves, ROC, reliability, confusion matrix and samples
    group : distributed.MPI, of the processes that train together: this is rank 0, the others call `assist`

    Raises
    ------
    InputError
        if the folder already holds a run; the sentence says how far that is, and how to go on with it
    RunLockedError, CheckpointError
        another process uses the folder; the folder cannot be written to
    Interrupted
        after a signal: `resume` goes on from there
    """
    if not callable(folder) and os.path.lexists(folder):
        with RunFolder(folder) as run:      # what is against the folder is said before the data is read
            _check_free(run, config)
    if config.network_sentence:             # and what is against the network
        check_memory(initial_model(config, ("one", "other")), -(-config.batch_size // group.size))
    datasets, rows = open_split(config, progress)
    with RunFolder(folder() if callable(folder) else folder) as run:
        _check_free(run, config)
        run.write_json("environment.json", environment() | {
            "images": _digest(datasets), "digests": {name: data_digest(data) for name, data in datasets.items()}}
            | ({} if config.weights is None else {"weights": _file_digest(weights_file(config))}))
        write_csv(run.path / "split.csv", rows, private=True)
        run.write_json("config.json", asdict(config))
        return _fit_and_evaluate(run, config, datasets, progress, False, plots, group)


def resume(folder, progress=True, plots=True, data=None, columns=None, allow_outside_root=None, root=None,
           labels=None, group=Alone()):
    """Go on with the run in `folder`, with the options it was begun with; return the Result.

    The files at the end are, to the byte, those of a run without interruption.

    Parameters
    ----------
    data : path of the data, where it was moved since. It must hold the same images, by their digests, in the same order
        and sets; names may differ. The run folder then names the new place
    columns, labels, allow_outside_root, root : how to read the moved data, as for Config; by default as before, without
        a root
    group : as for `train`; a run can go on with any number of processes
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{printable(folder)}: no such run folder.")
    with RunFolder(folder) as run:
        config = Config.read(run)
        if data is not None:
            how = {"columns": columns, "labels": labels, "allow_outside_root": allow_outside_root}
            config = replace(config, data=os.fspath(data), root=root,
                             **{name: value for name, value in how.items() if value is not None})
        elif config.data is not None and not os.path.exists(config.data):
            seen = "" if os.path.isabs(config.data) else f", seen from {printable(os.getcwd())}"
            raise InputError(f"{printable(folder)}: its data is not at {printable(config.data)}{seen}. If it was moved, "
                             "say where it is: data='...' (--data).")
        datasets, rows = open_split(config, progress)
        if data is not None or config.skip_unreadable:      # one more that cannot be read is not left out silently
            _check_same(run, datasets, rows, config.data)
        if data is not None:
            write_csv(run.path / "split.csv", rows, private=True)
            run.write_json("config.json", asdict(config))
        return _fit_and_evaluate(run, config, datasets, progress, True, plots, group)


def _check_free(run, config):
    """Raise InputError if there is a run in a locked RunFolder."""
    if run.is_begun:
        raise InputError(_already_there(run, config))


def _file_digest(path):
    """Return the SHA-256 of a file."""
    with raising(WeightsError, path):
        file, _ = open_regular(path)
        with file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(datasets):
    """Return the SHA-256 of the images of each set, in their order, as 64 hex digits."""
    parts = [f"{name} {len(data)}\n".encode() + bytes(data.digests) for name, data in datasets.items()]
    return hashlib.sha256(b"".join(parts)).hexdigest()


def _check_same(run, datasets, rows, data):
    """Raise InputError unless these are the images of a run, in its order and sets."""
    kept = run.read_json("environment.json")
    if isinstance(kept, dict) and "images" in kept:
        is_same = kept["images"] == _digest(datasets)
    else:       # an earlier version did not note them: by their names here, by their digests in the checkpoint
        with raising(InputError, run.path / "split.csv"):
            before = [(row["path"], row["split"]) for row in read_table(run.path / "split.csv", ("path", "split"))]
        is_same = before == [(row["path"], row["split"]) for row in rows]
    if not is_same:
        raise InputError(f"{printable(os.fspath(data))}: does not hold the images of {printable(run.path)}, by their "
                         "digests, in the same order and sets. Name the moved data as it was, or begin a new run.")


def train_or_resume(config, folder, progress=True, plots=True):
    """Return the Result of a config: train in `folder`, or go on if the folder holds a run of this config already."""
    run = RunFolder(folder)
    if run.is_begun and not Config.read(run).differences(config):
        return resume(folder, progress, plots)
    return train(config, folder, progress, plots)


def unfinished(config, folder):
    """Return a sentence if `folder` holds an interrupted run of this config, else None."""
    run = RunFolder(folder)
    try:
        if run.is_begun and not run.is_finished and not run.is_locked and not Config.read(run).differences(config):
            return _already_there(run, config)
    except MiniCNNError:
        pass        # a folder that cannot be read holds no such run
    return None


def _already_there(run, config):
    """Return why a new run of `config` cannot take the place of the run in this folder."""
    name, go_on = printable(run.path), f"Go on with it: {run.resume_command}"
    if different := Config.read(run).differences(config):
        return (f"{name}: already holds a run, with other options ({', '.join(different)}). {go_on}; or choose another "
                "folder with --out.")
    if run.is_finished:
        return (f"{name}: already holds this very run, finished. See it: minicnn evaluate {shlex.quote(name)}; or "
                "choose another folder with --out.")
    try:
        content = checkpoint.read(run.last)
    except WeightsError:
        reached = "before its first checkpoint"
    else:
        done, position = len(content.history), content.position
        reached = f"after epoch {done} of {config.epochs}" if position is None else \
            f"in epoch {done + 1} of {config.epochs}, batch {position.batch} of {position.steps}"
    return f"{name}: already holds this very run, interrupted {reached}. {go_on}"


# ---- Training and evaluation -----------------------------------------------------------------------------------------

def assist(group):
    """Train and predict with rank 0 of a group, which calls `train` or `resume`; or train what `cross_validate` hands out."""
    order = group.broadcast()
    if isinstance(order, bool):
        return tasks.work(group, order)
    config, digest, sets, path, resume = order
    datasets = {name: share_dataset(group) for name in sets}
    model, taken = _fit(config, digest, datasets, path, resume, False, group)
    model.set_weights(group.broadcast())
    for name in sets:
        model.predict(taken[name], distributed=group)


def _fit(config, digest, datasets, path, resume, progress, group):
    """Return the model of a run, trained until it has all its epochs, and {set: dataset} of images, or of frozen features."""
    model = group.broadcast(_begun(config, datasets["training"].classes, path, resume) if group.rank == 0 else None)
    model.split_digest = digest
    taken = datasets
    if config.freeze is not None and (config.drawn == "none" or config.protocol == "paper"):    # each epoch has the same images
        features = {name: frozen_features(model, dataset, group, progress) for name, dataset in datasets.items()}
        taken = features if all(isinstance(one, FrozenFeatures) for one in features.values()) else datasets
    model.fit(taken["training"], validation=taken["validation"], epochs=config.epochs,
              batch_size=config.batch_size, steps_per_epoch=config.steps_per_epoch,
              class_weight=RECIPES[config.recipe].class_weight, callbacks=RECIPES[config.recipe].callbacks(), run=path, resume=resume,
              progress=progress,
              workers=1 if config.workers is None else config.workers, distributed=group)
    return model, taken


def _begun(config, classes, path, resume):
    """Return the model of a run before `fit`: with its initial weights, or, where those are of a file, of a checkpoint of the run."""
    if config.weights is not None and resume:
        for name in ("last.safetensors", "previous.safetensors"):
            try:
                return initial_model(config, classes, Path(path) / name)
            except WeightsError:        # none yet, or damaged: `fit` says so
                pass
        before = RunFolder(path).read_json("environment.json").get("weights")
        if before != _file_digest(weights_file(config)):
            raise InputError(f"{printable(config.weights)}: not the weights that {printable(path)} was begun with, by their "
                             "SHA-256. Put those there, or begin a new run.")
    return initial_model(config, classes)


def _fit_and_evaluate(run, config, datasets, progress, resume, plots, group):
    """Train the epochs that are left, then evaluate on every set, and write and draw the results."""
    digest = split_digest(datasets)
    group.broadcast((config, digest, list(datasets), run.path, resume))
    for dataset in datasets.values():
        share_dataset(group, dataset)
    model, taken = _fit(config, digest, datasets, run.path, resume, progress, group)
    history = model.history
    if RECIPES[config.recipe].average:
        checkpoint.save(run.path / AVERAGE, model)
    model = Sequential.load(evaluated_weights(run.path, config))
    group.broadcast(model.get_weights())
    outputs = {name: answers(model, dataset, distributed=group) for name, dataset in taken.items()}
    out_of_distribution.TrainingDistribution.fit(model, datasets["training"], datasets["validation"]).save(
        run.path / out_of_distribution.FILE)
    result = Result(run.path, {}, config.protocol_sentence, datasets=datasets, outputs=outputs)
    if "test" in datasets and not access_counts(run):       # once: after an interruption it is the same access
        count_access(run)
    with Progress(len(datasets), "evaluating", "set", progress) as bar:
        point = fit_operating_point(datasets["validation"].labels, outputs["validation"])
        point.write(run)
        for name, dataset in datasets.items():
            result.metrics[name] = summary_of(model, taken[name], outputs[name], point)
            bar.advance()
    rows = [{"path": path, "part": name, "label": model.classes[label], **row}
            for name, dataset in datasets.items() for path, label, row in
            zip(dataset.names, dataset.labels, prediction_rows(outputs[name], model.classes, point))]
    write_csv(run.path / "predictions.csv", rows, private=True)
    if plots:
        result.plots = draw(run.path, model.classes, datasets, outputs, result.metrics, history, result.notes)
    run.write_json("metrics.json", result.metrics)
    return result
