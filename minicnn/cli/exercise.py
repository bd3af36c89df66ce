"""`minicnn exercise`: a function to write, and its tests."""

import shlex

from minicnn.cli.options import path
from minicnn.errors import printable

__all__ = ["HELP", "EXAMPLES", "NAMES", "add_options", "run"]

HELP = "write an exercise and its tests into a folder"
NAMES = ("im2col", "conv-forward", "conv-backward", "max-pool-backward", "bce", "adam", "dense-backward")

EXAMPLES = """examples:
  minicnn exercise im2col                 writes exercises/im2col.py, to fill in, and its tests
  minicnn exercise adam homework/         into a folder of your choice
  python homework/test_adam.py            what is right, and the first mistake
  python -m pytest homework/              grades every exercise in it (pip install pytest)"""


def add_options(parser):
    parser.add_argument("name", metavar="NAME", choices=NAMES, help="one of " + ", ".join(NAMES))
    parser.add_argument("folder_out", nargs="?", type=path, default="exercises", metavar="DIR",
                        help="where to write; no file there is overwritten (default: %(default)s)")


def run(options):
    """Write an exercise and say how to check it."""
    from minicnn.teaching.exercises import write

    stub, tests = write(options.name, options.folder_out)
    print(f"Fill in {printable(stub)}, and check it: python {shlex.quote(printable(tests))}")
