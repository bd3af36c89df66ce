"""`minicnn exercise`: the options of the command, and what it does. Everything else is imported when it runs."""

from minicnn.errors import printable

__all__ = ["EXAMPLES", "NAMES", "add_options", "run"]

NAMES = ("im2col", "conv-forward", "conv-backward", "max-pool-backward", "bce", "adam", "dense-backward")

EXAMPLES = """examples:
  minicnn exercise im2col                 writes exercises/im2col.py, to fill in, and its tests
  minicnn exercise adam homework/         into a folder of your choice
  python -m pytest homework/              every exercise in it; with --junitxml=grades.xml for a grader"""


def add_options(command):
    """Add the options of `minicnn exercise` to its parser."""
    command.add_argument("name", metavar="NAME", help="one of " + ", ".join(NAMES))
    command.add_argument("folder_out", nargs="?", default="exercises", metavar="DIR",
                         help="where to write; no file there is overwritten (default: %(default)s)")


def run(options):
    """Write an exercise and say how to check it."""
    from minicnn.teaching.exercises import write

    stub, tests = write(options.name, options.folder_out)
    print(f"Fill in {printable(stub)}, and check it: python -m pytest {printable(tests)}")
