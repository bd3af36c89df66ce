"""`minicnn reproduce`: the study of the paper's network, under the paper's protocol and an honest one, as one page."""

import shlex
import textwrap
from pathlib import Path

from minicnn.cli.options import add_shared, path, show, whole
from minicnn.errors import printable

__all__ = ["HELP", "EXAMPLES", "add_options", "run"]

HELP = "the paper's protocol and an honest one, side by side, as one page"
EXAMPLES = """examples:
  minicnn reproduce                                                         on synthetic radiographs, with no data
  minicnn reproduce --data index.csv --external other-hospital/index.csv
  minicnn reproduce --data index.csv --seeds 5 --out studies/mine
  minicnn reproduce --data index.csv --network mobilenet_v2 --size 96       another network under the same protocols
  mpiexec -n 8 minicnn reproduce --data index.csv --mpi                     eight trainings at a time

It trains the paper's network under the paper's protocol, under an honest one, and with each source of positives held
out, evaluates all of them on the external validation set too, and writes one page with the results. After an
interruption the same command goes on. With fewer epochs, steps or seeds than the defaults, or without --data, it is a
trial: the page says so first and judges nothing. About 20 s a training on two cores.

With --mpi whole trainings are spread over the processes, as many at a time as there are processes; all else is done by
the first one. Data and --out are to be on a disk that all machines see. Any number of processes can go on."""


def add_options(parser):
    add_shared(parser, "--data", "--classes", "--epochs", "--steps-per-epoch", "--network", "--size", "--weights", "--freeze",
               "--head", "--threads", "--mpi", "--quiet", "--json")
    parser.add_argument("--external", type=path, metavar="DATA", help="images of another hospital with the same two "
                        "classes, for external validation: evaluated once, never used to train or to choose")
    parser.add_argument("--seeds", type=whole(1, 100), default=3, metavar="N",
                        help="trainings of each protocol (default: %(default)s)")
    parser.add_argument("--out", type=path, default="reproduction", metavar="DIR",
                        help="the folder of the report and the runs (default: %(default)s)")


def run(options):
    """Carry the study out; print its results and where the report is."""
    start = ["mpiexec", "-n", str(options.group.size)] if options.group.size > 1 else []
    options.go_on = printable(shlex.join([*start, "minicnn", *options.words]))      # after a signal
    if options.group.rank > 0:
        from minicnn.distributed import tasks
        return tasks.work(options.group)
    from minicnn.study.reproduction import reproduce
    from minicnn.study.trainings import Study

    study = Study(options.data, options.external, options.seeds, options.epochs, options.steps_per_epoch,
                  classes=options.classes, columns=options.columns, workers=options.workers,
                  allow_outside_root=options.allow_outside_root, root=options.root, labels=options.labels,
                  network=options.network, size=options.size, weights=options.weights, freeze=options.freeze, head=options.head)
    results, pages = reproduce(study, Path(options.out), progress=not options.quiet, group=options.group)
    show(options, results, lambda results: _text(results, pages))


def _text(results, pages):
    """Return the summary at the top of the report, and where the report is."""
    from minicnn.core.text import grid
    from minicnn.reporting.wording import APPROXIMATE, cell
    from minicnn.study.chapters.summary import measured, summary
    from minicnn.study.results import opening

    said = [*filter(None, [opening(results)]), *summary(results)]
    lines = [line for sentence in said for line in [*textwrap.wrap(printable(sentence), 100), ""]]
    rows = [["measured on", "images", "accuracy", "AUC"]]
    rows += [[printable(name), f"{told['n']:,}", cell(told, "accuracy"), cell(told, "auc")]
             for name, told in measured(results).items()]
    notes = [APPROXIMATE] * any("~" in line for line in grid(rows))
    return "\n".join([*lines, *grid(rows), *notes, "", *map(printable, results["remarks"]),
                      f"Report: {printable(pages[0])}", f"As Markdown: {printable(pages[1])}"])
