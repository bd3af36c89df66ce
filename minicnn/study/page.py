"""The report of `minicnn reproduce`: one page that needs nothing else, and its Markdown twin.

Both are written from the same chapters (document.py), which are made from the plain values of results.json, and so say
the same in the same order.
"""

from pathlib import Path

from minicnn.core.files import write_whole
from minicnn.reporting.html import WARNING, render
from minicnn.reporting.markdown import markdown
from minicnn.reporting.tables import number
from minicnn.study.chapters.closing import again, checklists, use
from minicnn.study.chapters.data_and_shortcuts import augmentation, data, lungs
from minicnn.study.chapters.paper_comparison import network, table_two
from minicnn.study.chapters.performance import curves, elsewhere, robust
from minicnn.study.chapters.summary import answer
from minicnn.study.checklists.guidelines import STATUSES

__all__ = ["write", "chapters"]

_TITLE = "COV-19Net, reproduced: what the result is worth"


def write(results, folder):
    """Write report.html and report.md of a reproduction.

    Parameters
    ----------
    results : dict; the plain values of results.json
    folder : str or Path; holds the pictures under the names in results["figures"]

    Returns
    -------
    (Path, Path) : the page and its twin

    Raises
    ------
    ImageError : a picture that is missing or is not a PNG file
    CheckpointError : a file could not be written
    MissingExtraError : jinja2 is not installed
    """
    folder, told, about = Path(folder), chapters(results), _about(results)
    page = render(_TITLE, about, told, folder, (*STATUSES, "holds", "fails"), running="COV-19Net, reproduced")
    paths = folder / "report.html", folder / "report.md"
    write_whole(paths[0], page.encode("utf-8"))
    write_whole(paths[1], markdown(_TITLE, WARNING, about, told).encode("utf-8"))
    return paths


def chapters(results):
    """Return the report as a list of document.Chapter, in order."""
    return [make(results) for make in (answer, table_two, network, curves, data, elsewhere, lungs, augmentation, robust,
                                       checklists, use, again)]


def _about(results):
    data, seeds = results["data"], results["settings"]["seeds"]
    return (f"Asif and Amjad (2020) again, on {data['name']}: {number(data['images'])} images of "
            f"{number(data['patients'])} patients, {len(seeds)} seed{'s' if len(seeds) > 1 else ''}, "
            f"{number(results['settings']['epochs'])} epochs.")
