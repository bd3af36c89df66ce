"""A study from beginning to end: read, train, find out, draw, and write it all into one folder."""

import json
import shutil
from dataclasses import replace

from minicnn.data import phantom
from minicnn.files import write_whole
from minicnn.interrupts import Interrupted
from minicnn.report.checklists import checklists
from minicnn.reproduction import findings, pictures
from minicnn.reproduction.study import Collection, carry_out, say
from minicnn.runs import RunFolder

__all__ = ["reproduce"]


def reproduce(study, folder, progress=True):
    """Carry a study out in `folder`, or go on with it there.

    Without `study.data` the radiographs are synthetic ones, which are written into the folder.

    Returns
    -------
    (dict, as results.json holds it; [path of report.html, of report.md])

    Raises
    ------
    ManifestError, InputError, ImageError : see study.Collection
    RunLockedError : another process works in the folder
    Interrupted : after a signal; started again with the same study it goes on
    """
    from minicnn.report import reproduction

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
        checks = findings.shortcut_checks(trainings["honest-0"])
        found = findings.gather(study, collection, trainings, checks, synthetic, progress)
        found["figures"] = pictures.draw(found, collection, trainings, checks, run.path)
        found["checklists"] = checklists(found)
        write_whole(run.path / "results.json", (json.dumps(found, indent=1, allow_nan=False) + "\n").encode("ascii"))
        return found, reproduction.write(found, run.path)


def _phantoms(folder):
    """Write synthetic radiographs with a manifest into a folder, or find them there; return the manifest's path."""
    if not folder.exists():
        half = folder.with_suffix(".unfinished")
        shutil.rmtree(half, ignore_errors=True)
        phantom.write(half)
        half.rename(folder)
    return folder / "manifest.csv"
