"""Reproduce the paper: read the data, train, evaluate, plot, and write the report into one folder."""

import json
import shutil
from dataclasses import replace

from minicnn.core.files import write_atomic
from minicnn.core.signals import Interrupted
from minicnn.data.synthetic import phantom
from minicnn.experiment.run_folder import RunFolder
from minicnn.study import page, plots, results
from minicnn.study.checklists.guidelines import checklists
from minicnn.study.trainings import Collection, carry_out, say

__all__ = ["reproduce"]


def reproduce(study, folder, progress=True):
    """Carry out a study in `folder`, or continue it there.

    Without `study.data`, synthetic radiographs are written into the folder and used.

    Returns
    -------
    (dict, as results.json holds it; [path of report.html, of report.md])

    Raises
    ------
    ManifestError, InputError, ImageError : see trainings.Collection
    RunLockedError : another process uses the folder
    Interrupted : after a signal; the same study continues when it is started again
    """
    with RunFolder(folder) as run:
        synthetic = study.data is None
        if synthetic:
            study = replace(study, data=str(_phantoms(run.path / "phantoms")))
        collection = Collection.read(study, progress)
        try:
            trainings = carry_out(study, collection, run.path / "runs", progress)
        except Interrupted as signal:
            raise Interrupted(signal.number, f"{signal} Run the same command again to continue.") from None
        say("audit, shortcut check, explanations, plots", progress)
        checks = results.shortcut_checks(trainings["honest-0"])
        found = results.gather(study, collection, trainings, checks, synthetic, progress)
        found["figures"], drawings = plots.draw(found, collection, trainings, checks, run.path)
        found["checklists"] = checklists(found)
        write_atomic(run.path / "results.json", (json.dumps(found, indent=1, allow_nan=False) + "\n").encode("ascii"))
        return found, page.write(found, run.path, drawings)


def _phantoms(folder):
    """Return the path of the manifest of synthetic radiographs in a folder; write them if it does not exist."""
    if not folder.exists():
        half = folder.with_suffix(".unfinished")
        shutil.rmtree(half, ignore_errors=True)
        phantom.write(half)
        half.rename(folder)
    return folder / "manifest.csv"
