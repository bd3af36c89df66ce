"""One run, from a source of radiographs to a folder with results: what `minicnn train` does.

    Plan (config.py) -> parts (splits.py) -> model.fit -> the judged model (evaluation_run.py) -> metrics, pictures, tables

Under the honest protocol the judged model is the epoch with the lowest validation loss, or the mean of the weights
where the recipe averages them, and the test part is looked at once, after training. Under the paper's it is the last
epoch, and there is no test part.
"""

import shlex
from dataclasses import asdict, fields
from pathlib import Path

from minicnn import checkpoint
from minicnn.core.files import write_whole
from minicnn.core.untrusted import csv_text
from minicnn.errors import InputError, MiniCNNError, MissingExtraError, WeightsError, printable
from minicnn.evaluation import operating_point
from minicnn.evaluation.test_access import access_counts, count_access, split_digest
from minicnn.experiment.config import Plan, how_to_resume, is_same, plan_of
from minicnn.experiment.evaluation_run import AVERAGE, Result, described, evaluate, judged, load_model
from minicnn.experiment.prediction_run import answers, predict
from minicnn.experiment.recipes import RECIPES
from minicnn.experiment.run_folder import RunFolder, environment
from minicnn.experiment.run_plots import draw
from minicnn.experiment.splits import open_parts, split_table
from minicnn.model import Sequential

__all__ = ["Plan", "Result", "train", "resume", "complete", "unfinished", "how_to_resume", "evaluate", "predict",
           "load_model", "split_table"]


def train(plan, folder, progress=True, pictures=True):
    """Carry a plan out in a new run folder; return its Result. Without `pictures` none are drawn.

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
        sources, table = open_parts(plan, progress)
        run.write_json("environment.json", environment())
        write_whole(run.path / "split.csv", table.encode("utf-8", "surrogateescape"))
        run.write_json("config.json", asdict(plan))
        return _fit_and_judge(run, plan, sources, progress, False, pictures)


def resume(folder, progress=True, pictures=True):
    """Go on with the run in `folder` from where it stands, with the options it was started with.

    What it leaves behind is, to the bit, what it would have left without the interruption.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{printable(folder)}: no such run folder.")
    with RunFolder(folder) as run:
        plan = plan_of(run)
        sources, _ = open_parts(plan, progress)
        return _fit_and_judge(run, plan, sources, progress, True, pictures)


def complete(plan, folder, progress=True, pictures=True):
    """Return the Result of a plan: begin it in `folder`, or go on where the folder holds this very plan already."""
    run = RunFolder(folder)
    begun = run.is_begun and is_same(plan_of(run), plan)
    return resume(folder, progress, pictures) if begun else train(plan, folder, progress, pictures)


def unfinished(plan, folder):
    """Return what to say where `folder` holds a run of this plan that was interrupted, else None."""
    run = RunFolder(folder)
    try:
        if run.is_begun and not run.is_finished and not run.is_locked and is_same(plan_of(run), plan):
            return _already_there(run, plan)
    except MiniCNNError:
        pass        # whatever it holds, it is not that
    return None


def _already_there(run, plan):
    """Return what to say where a new run of `plan` would take the place of the run in this folder."""
    name, other, go_on = printable(run.path), plan_of(run), f"Go on with it: {how_to_resume(run.path)}"
    if not is_same(other, plan):
        different = [item.name for item in fields(Plan) if getattr(other, item.name) != getattr(plan, item.name)]
        return (f"{name}: already holds a run, with other options ({', '.join(different)}). {go_on}; or choose another "
                "folder with --out.")
    if run.is_finished:
        return (f"{name}: already holds this very run, finished. See it: minicnn evaluate {shlex.quote(name)}; or "
                "choose another folder with --out.")
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


# ---- Training and judging --------------------------------------------------------------------------------------------

def _fit_and_judge(run, plan, sources, progress, resume, pictures):
    """Train what is left of the plan, then measure the judged model on every part, and write and draw the results."""
    recipe = RECIPES[plan.recipe]
    model = recipe.model(plan.seed, sources["training"].classes, plan.learning_rate)
    model.split_digest = split_digest(sources)
    model.fit(sources["training"], validation=sources["validation"], epochs=plan.epochs, batch_size=plan.batch_size,
              steps_per_epoch=plan.steps_per_epoch, callbacks=recipe.callbacks(), run=run.path, resume=resume,
              progress=progress, workers=1 if plan.workers is None else plan.workers)
    history = model.history
    if recipe.average:
        model.save(run.path / AVERAGE)
    model = Sequential.load(judged(run.path, plan))
    _keep_familiarity(run, model, sources)
    result = Result(run.path, {}, plan.protocol_sentence, sources=sources)
    if "test" in sources and not access_counts(run):       # once: after an interruption it is the same look
        count_access(run)
    outputs = result.outputs
    for name, source in sources.items():
        outputs[name] = model.predict(source)
    fixed = operating_point.fit_operating_point(sources["validation"].labels, outputs["validation"])
    fixed.write(run)
    for name, source in sources.items():
        result.metrics[name] = described(model, source, outputs[name], fixed)
    rows = [{"path": path, "part": name, "label": model.classes[label], **answer}
            for name, source in sources.items()
            for path, label, answer in zip(source.names, source.labels, answers(outputs[name], model.classes, fixed))]
    write_whole(run.path / "predictions.csv", csv_text(rows).encode("utf-8", "surrogateescape"))
    try:
        if pictures:
            result.pictures = draw(run.path, model.classes, sources, outputs, result.metrics, history)
    except MissingExtraError as error:
        result.notes.append(f"\nNo pictures: {error}")
    run.write_json("metrics.json", result.metrics)
    return result


def _keep_familiarity(run, model, sources):
    """Keep what `predict` tells pictures unlike the training images by: no image, see evaluation/out_of_distribution.py."""
    from minicnn.evaluation.out_of_distribution import FILE, TrainingDistribution

    TrainingDistribution.fit(model, sources["training"], sources["validation"]).save(run.path / FILE)
