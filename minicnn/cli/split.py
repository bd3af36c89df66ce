"""`minicnn data split`: which image is in which set."""

from minicnn.cli.options import PROTOCOLS, add_classes, add_data, add_hold_out, add_quiet, path, seed

__all__ = ["HELP", "EXAMPLES", "add_options", "run"]

HELP = "show, and write, which image is in which set"
EXAMPLES = """examples:
  minicnn data split radiographs/index.csv                  how many images and patients each set has
  minicnn data split radiographs/index.csv --out split.csv  and a manifest with a split column"""


def add_options(parser):
    """Add the options of the command to an argparse parser."""
    add_data(parser, required=True)
    parser.add_argument("--protocol", choices=PROTOCOLS, default="honest", help="default: %(default)s")
    parser.add_argument("--seed", type=seed, default=0, metavar="N", help="default: %(default)s")
    add_classes(parser)
    add_hold_out(parser)
    parser.add_argument("--out", type=path, metavar="FILE.csv", help="write a manifest with a split column")
    add_quiet(parser)


def run(options):
    """Print the table of the sets."""
    from minicnn import experiment

    config = experiment.Config(**{name: getattr(options, name) for name in (
        "data", "protocol", "seed", "classes", "columns", "workers", "allow_outside_root", "hold_out")})
    print(experiment.split_table(config, options.out, not options.quiet))
