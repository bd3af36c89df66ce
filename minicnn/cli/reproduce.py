"""`minicnn reproduce`: the options of the command, and what it does. Everything else is imported when it runs."""

import json
import textwrap
from pathlib import Path

from minicnn.errors import printable

__all__ = ["EXAMPLES", "add_options", "run"]

EXAMPLES = """examples:
  minicnn reproduce                                                         on synthetic radiographs, with no data
  minicnn reproduce --data index.csv --external other-hospital/index.csv
  minicnn reproduce --data index.csv --seeds 5 --out studies/mine

It trains the paper's network under the paper's protocol, under an honest one, and with each source of positives unseen,
measures all of them on the external set too, and writes one page that says what came out. Stopped, it goes on when it is
started again with the same options. About 20 s a training on two cores."""


def add_options(command):
    """Add what this command has beside the options of every SOURCE."""
    command.add_argument("--external", metavar="SOURCE", help="images of another place with the same two classes: looked "
                                                              "at once, never trained on or chosen by")
    command.add_argument("--seeds", type=int, default=3, metavar="N", help="trainings of each protocol (default: "
                                                                           "%(default)s)")
    command.add_argument("--out", default="reproduction", metavar="DIR", help="where the report and the run folders go "
                                                                              "(default: %(default)s)")
    command.add_argument("--epochs", type=int, default=20, metavar="N", help="default: %(default)s, as in the paper")
    command.add_argument("--steps-per-epoch", type=int, default=100, metavar="N", help="default: %(default)s")
    command.add_argument("--threads", type=int, metavar="N", help="threads that compute; never changes a result")
    command.add_argument("--quiet", action="store_true", help="no progress on stderr")
    command.add_argument("--json", action="store_true", help="print the findings as JSON on stdout")


def run(options):
    """Carry a study out; print the answer and where its report is."""
    from minicnn.study.reproduction import Study
    from minicnn.study.run_study import reproduce

    study = Study(options.data, options.external, options.seeds, options.epochs, options.steps_per_epoch,
                  classes=options.classes, columns=options.columns, workers=options.workers,
                  allow_outside_root=options.allow_outside_root)
    found, pages = reproduce(study, Path(options.out), progress=not options.quiet)
    print(json.dumps(found, allow_nan=False) if options.json else _text(found, pages))


def _text(found, pages):
    """Return the answer for a terminal: the sentences and figures at the top of the report, and where that is."""
    from minicnn.reporting.console import cell, grid
    from minicnn.study.chapters.summary import measured, summary

    lines = [line for sentence in summary(found) for line in [*textwrap.wrap(printable(sentence), 100), ""]]
    rows = [["measured on", "images", "accuracy", "AUC"]]
    rows += [[printable(name), f"{told['n']:,}", cell(told, "accuracy"), cell(told, "auc")]
             for name, told in measured(found).items()]
    return "\n".join([*lines, *grid(rows), "", *(f"{printable(remark)}" for remark in found["remarks"]),
                      f"Report: {printable(pages[0])}", f"As Markdown: {printable(pages[1])}"])
