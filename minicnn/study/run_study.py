"""A study from beginning to end: read, train, find out, draw, and write it all into one folder."""

import json
import shutil
from dataclasses import replace

from minicnn.core.files import write_whole
from minicnn.core.signals import Interrupted
from minicnn.data.synthetic import phantom
from minicnn.experiment.run_folder import RunFolder
from minicnn.study import results, plots
from minicnn.study.checklists.guidelines import checklists
from minicnn.study.reproduction import Collection, carry_out, say

__all__ = ["reproduce"]


def reproduce(study, folder, progress=True):
    """Carry a study out in `folder`, or go on with it there.

    Without `study.data` the radiographs are synthetic ones, which are written into the folder.

    Returns
    -------
    (dict, as results.json holds it; [path of report.html, of report.md])

    Raises
    ------
    ManifestError, InputError, ImageError : see reproduction.Collection
    RunLockedError : another process works in the folder
    Interrupted : after a signal; started again with the same study it goes on
    """
    from minicnn.study import page

    with RunFolder(folder) as run:
        synthetic = study.data is None
        if synthetic:
            study = replace(study, data=str(_phantoms(run.path / "phantoms")))
        collection = Collection.read(study, progress)
        try:
            trainings = carry_out(study, collection, run.path / "runs", progress)
        except Interrupted as signal:
            raise Interrupted(signal.number, f"{signal} The same command, started again, goes on from there.") from None
        say("audit, shortcut check, explanations, pictures", progress)
        checks = results.shortcut_checks(trainings["honest-0"])
        found = results.gather(study, collection, trainings, checks, synthetic, progress)
        found["figures"] = plots.draw(found, collection, trainings, checks, run.path)
        found["checklists"] = checklists(found)
        write_whole(run.path / "results.json", (json.dumps(found, indent=1, allow_nan=False) + "\n").encode("ascii"))
        return found, page.write(found, run.path)


def _phantoms(folder):
    """Write synthetic radiographs with a manifest into a folder, or find them there; return the manifest's path."""
    if not folder.exists():
        half = folder.with_suffix(".unfinished")
        shutil.rmtree(half, ignore_errors=True)
        phantom.write(half)
        half.rename(folder)
    return folder / "manifest.csv"
