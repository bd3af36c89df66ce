"""Reproduce the paper: read the data, train, evaluate, plot, and write the report into one folder."""

import json
import shutil
from dataclasses import replace

from minicnn.core.files import write_atomic
from minicnn.core.processes import Alone
from minicnn.core.progress import Progress
from minicnn.core.signals import Interrupted
from minicnn.data.synthetic import phantom
from minicnn.distributed import tasks
from minicnn.errors import printable
from minicnn.experiment.run_folder import RunFolder
from minicnn.study import page, plots, results
from minicnn.study.checklists.guidelines import checklists
from minicnn.study.trainings import Collection, carry_out

__all__ = ["reproduce", "phantoms"]

_PHANTOMS, _REPORTING = 820, 3          # images of a study without data; what is done after the trainings


def reproduce(study, folder, progress=True, group=Alone()):
    """Carry out a study in `folder`, or continue it there.

    Without `study.data`, synthetic radiographs are written into the folder and used. The trainings are spread over the
    processes of a group; this is its rank 0, the others call distributed.tasks.work.

    Returns
    -------
    (dict, as results.json holds it; [path of report.html, of report.md])

    Raises
    ------
    ManifestError, InputError, ImageError : see trainings.Collection
    RunLockedError : another process uses the folder
    Interrupted : after a signal; the same study continues when it is started again. The sentence says where it was, and
        how many trainings are finished
    """
    with RunFolder(folder) as run:
        try:
            return _reproduce(study, run.path, progress, group)
        except Interrupted as signal:
            finished = sum(RunFolder(one).is_finished for one in (run.path / "runs").glob("*"))
            kept = "No training is finished yet." if not finished else "1 training is finished and kept." \
                if finished == 1 else f"{finished} trainings are finished and kept."
            raise Interrupted(signal.number, f"{signal} {kept}") from None


def _reproduce(study, folder, progress, group):
    synthetic = study.data is None
    if synthetic:
        study = replace(study, data=str(phantoms(folder / "phantoms", progress)))
    collection = Collection.read(study, progress)
    configs = study.configs(collection.folds, collection.labels)
    with Progress(len(configs) + _REPORTING, "trainings", "part", progress) as bar:
        trainings = carry_out(configs, collection, folder / "runs", bar, progress, group)
        bar.begin("shortcut check")
        checks = results.shortcut_checks(trainings["honest-0"])
        bar.advance()
        bar.begin("intervals over the seeds, audit and saliency maps")
        found = results.gather(study, collection, trainings, checks, synthetic, progress)
        bar.advance()
        bar.begin("plots and report")
        found["figures"], drawings = plots.draw(found, collection, trainings, checks, folder)
        found["checklists"] = checklists(found)
        write_atomic(folder / "results.json", (json.dumps(found, indent=1, allow_nan=False) + "\n").encode("ascii"))
        pages = page.write(found, folder, drawings)
    tasks.dismiss(group)
    return found, pages


def phantoms(folder, progress):
    """Return the path of the manifest of synthetic radiographs in a folder; write them if it does not exist."""
    if not folder.exists():
        half = folder.with_suffix(".unfinished")
        shutil.rmtree(half, ignore_errors=True)
        with Progress(_PHANTOMS, "synthetic radiographs", "image", progress) as bar:
            bar.say(f"making {_PHANTOMS} synthetic radiographs in {printable(folder)}")
            phantom.write(half, n=_PHANTOMS, progress=bar.advance)
        half.rename(folder)
    return folder / "manifest.csv"
