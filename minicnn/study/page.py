"""The report of `minicnn reproduce`: one self-contained page, and the same as Markdown.

Both are written from the same chapters (document.py), made from the plain values of results.json.
"""

from pathlib import Path

from minicnn.core.files import write_atomic
from minicnn.reporting.html import WARNING, render
from minicnn.reporting.markdown import markdown
from minicnn.core.text import number
from minicnn.evaluation.summary import images_and_patients
from minicnn.study import forest_plots
from minicnn.study.chapters.closing import checklists, intended_use, repeat
from minicnn.study.chapters.data_and_shortcuts import augmentation, data, shortcuts
from minicnn.study.chapters.paper_comparison import network, table_two
from minicnn.study.chapters.performance import curves, generalization, robust
from minicnn.study.chapters.summary import answer
from minicnn.study.checklists.guidelines import STATUSES
from minicnn.study.results import opening

__all__ = ["write", "chapters"]

_RUNNING = "Reproduction of COV-19Net"


def write(results, folder, drawings=None):
    """Write report.html and report.md of a reproduction.

    Parameters
    ----------
    results : dict; the plain values of results.json
    folder : str or Path; holds the images under the names in results["figures"]
    drawings : {key of results["figures"]: what the page draws in the place of the file}, of `plots.draw`,
        optional

    Returns
    -------
    (Path, Path) : the page and the Markdown file

    Raises
    ------
    ImageError : an image that is missing or is not a PNG file
    CheckpointError : a file that cannot be written
    MissingExtraError : jinja2 is not installed
    """
    results = results | {"drawings": forest_plots.forests(results) | (drawings or {})}
    folder, content, about = Path(folder), chapters(results), _about(results)
    notice, network = opening(results), results["settings"].get("network")
    title = _RUNNING if network is None else f"The study of COV-19Net, with {network.partition(',')[0]}"
    page = render(title, about, content, folder, (*STATUSES, "holds", "fails"), running=_RUNNING * (network is None), notice=notice)
    paths = folder / "report.html", folder / "report.md"
    write_atomic(paths[0], page.encode("utf-8"))
    write_atomic(paths[1], markdown(title, WARNING, about, content, notice).encode("utf-8"))
    return paths


def chapters(results):
    """Return the report as a list of document.Chapter, in order."""
    return [make(results) for make in (answer, table_two, network, curves, data, generalization, shortcuts,
                                       augmentation, robust, checklists, intended_use, repeat)]


def _about(results):
    data, seeds, epochs = results["data"], results["settings"]["seeds"], results["settings"]["epochs"]
    return (f"The network of Asif and Amjad (2020), trained on {data['name']}: "
            f"{images_and_patients(data)}, {len(seeds)} "
            f"seed{'s' if len(seeds) > 1 else ''}, {number(epochs)} epoch{'s' if epochs > 1 else ''}.")
