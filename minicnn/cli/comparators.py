"""`minicnn comparators`: the systems that the paper compares itself with, trained on the same patients, as one page."""

import shlex
import textwrap

from minicnn.cli.options import add_shared, checked, path, show, whole
from minicnn.errors import printable

__all__ = ["HELP", "EXAMPLES", "add_options", "run"]

HELP = "the systems of the paper's Table III, trained on the same patients"
EXAMPLES = """examples:
  minicnn comparators --data index.csv --external other-hospital/index.csv
  minicnn comparators --data index.csv --third pneumonia.csv --folds 5
  minicnn comparators --data index.csv --only cov19net,resnet50,covid_caps --epochs 5
  minicnn comparators --data index.csv --once vgg19,inception_v3 --size 96
  mpiexec -n 8 minicnn comparators --data index.csv --mpi                     eight trainings at a time

Each system is trained by one recipe that all share, and by its own where that is published. --third adds a second task,
all classes. The page ranks them with paired intervals, and says what can be said of Table III. After an interruption
the same command goes on. Without --data the radiographs are synthetic, and nothing is judged."""

# Those of study/systems.py: written here, for --help imports nothing.
SYSTEMS = ("cov19net", "resnet50", "vgg19", "covid_net", "covid_net_pepx", "mobilenet_v2", "inception_v3", "inception_resnet_v2",
           "covid_caps", "efficientnet_lite0", "efficientnet_lite0_frozen", "efficientnet_lite0_tuned")


def _systems(text):
    names = text.split(",")
    if not set(names) <= set(SYSTEMS):
        raise ValueError
    return names


def add_options(parser):
    add_shared(parser, "--data", "--classes", "--folds", "--threads", "--mpi", "--quiet", "--json")
    names = checked(_systems, f"be names of systems with commas between, out of {', '.join(SYSTEMS)}")
    parser.add_argument("--third", type=path, metavar="DATA", help="images of a third class, such as other pneumonia")
    parser.add_argument("--external", type=path, metavar="DATA", help="images of another hospital with the first two classes: evaluated "
                        "once, after all trainings")
    parser.add_argument("--seeds", type=whole(1, 100), default=3, metavar="N", help="trainings of each system, in the place of folds "
                        "(default: %(default)s)")
    parser.add_argument("--only", type=names, metavar="NAME[,...]", help=f"these systems: {', '.join(SYSTEMS)} (default: all)")
    parser.add_argument("--once", type=names, metavar="NAME[,...]", help="train these once: on two classes, with the first seed or fold alone")
    parser.add_argument("--size", type=whole(18, 4096), default=64, metavar="N", help="height and width of the images; systems that need "
                        "larger ones get their least (default: %(default)s)")
    parser.add_argument("--epochs", type=whole(), metavar="N", help="at most so many (default: as published, or 20)")
    parser.add_argument("--steps-per-epoch", type=whole(), metavar="N", help="batches an epoch (default: as published, or a pass over the "
                        "training images)")
    parser.add_argument("--out", type=path, default="comparators", metavar="DIR", help="the folder of the page and the runs (default: "
                        "%(default)s)")


def run(options):
    """Carry the comparison out; print what can be said, and where the page is."""
    start = ["mpiexec", "-n", str(options.group.size)] if options.group.size > 1 else []
    options.go_on = printable(shlex.join([*start, "minicnn", *options.words]))      # after a signal
    if options.group.rank > 0:
        from minicnn.distributed import tasks
        return tasks.work(options.group)
    from minicnn.study.comparators import Comparators, compare_systems

    chosen = Comparators(**{name: getattr(options, name) for name in Comparators.__dataclass_fields__})
    results, pages = compare_systems(chosen, options.out, progress=not options.quiet, group=options.group)
    show(options, results, lambda results: _text(results, pages))


def _text(results, pages):
    """Return what can be said of Table III, the rankings, and where the page is."""
    from minicnn.core.text import grid
    from minicnn.reporting.wording import cell
    from minicnn.study.comparators_page import NOT_COMPARABLE, verdicts

    said = [NOT_COMPARABLE, *verdicts(results)]
    lines = [line for sentence in said for line in [*textwrap.wrap(printable(sentence), 100), ""]]
    for told in results["tasks"].values():
        rows = [[", ".join(told["classes"]), "recipe", "accuracy", "AUC"]]
        rows += [[row["title"], row["recipe"], cell(row["metrics"], "accuracy"), cell(row["metrics"], "auc")] for row in told["rows"]]
        lines += [*grid(rows), ""]
    return "\n".join([*lines, *map(printable, results["remarks"]), f"Page: {printable(pages[0])}", f"As Markdown: {printable(pages[1])}"])
