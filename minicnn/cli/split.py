"""`minicnn data split`: which image is in which set."""

from minicnn.cli.options import add_shared, path

__all__ = ["HELP", "EXAMPLES", "add_options", "run"]

HELP = "show, and write, which image is in which set"
EXAMPLES = """examples:
  minicnn data split radiographs/index.csv                  how many images and patients each set has
  minicnn data split radiographs/index.csv --out split.csv  and a manifest with a split column"""


def add_options(parser):
    add_shared(parser, "data", "--bits", "--skip-unreadable", "--protocol", "--seed", "--classes", "--hold-out",
               "--quiet")
    parser.add_argument("--out", type=path, metavar="FILE.csv", help="write a manifest with a split column")


def run(options):
    """Print the table of the sets."""
    from minicnn import experiment

    config = experiment.Config(**{name: getattr(options, name) for name in (
        "data", "protocol", "seed", "classes", "columns", "workers", "allow_outside_root", "hold_out", "root", "bits",
        "labels", "skip_unreadable")})
    print(experiment.split_table(config, options.out, not options.quiet))
