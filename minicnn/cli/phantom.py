"""`minicnn data phantom`: synthetic radiographs as files."""

import shlex

from minicnn.cli.options import add_shared, path, whole
from minicnn.errors import printable

__all__ = ["HELP", "EXAMPLES", "add_options", "run"]

HELP = "write synthetic radiographs as files with a manifest"
EXAMPLES = """example:
  minicnn data phantom phantoms/ --n 820 && minicnn train --data phantoms/manifest.csv"""


def add_options(parser):
    parser.add_argument("folder_out", type=path, metavar="DIR", help="a folder that is empty or does not exist yet")
    parser.add_argument("--n", type=whole(2, 10**7), default=820, metavar="N", help="images (default: %(default)s)")
    parser.add_argument("--size", type=whole(32, 2048), default=256, metavar="PIXELS", help="default: %(default)s")
    add_shared(parser, "--seed", "--quiet")


def run(options):
    """Write the files, and print how to train on them."""
    from minicnn.core.progress import Progress
    from minicnn.core.signals import Interrupted
    from minicnn.data.synthetic import phantom

    where = printable(options.folder_out)
    with Progress(options.n, "images", "image", not options.quiet) as bar:
        bar.say(f"making {options.n:,} synthetic radiographs of {options.size} x {options.size} pixels in {where}")
        try:
            manifest = phantom.write(options.folder_out, n=options.n, seed=options.seed, size=options.size,
                                     progress=bar.advance)
        except Interrupted as signal:
            again = printable(shlex.join(["minicnn", *options.words]))
            raise Interrupted(signal.number, f"interrupted after {bar.done:,} of {options.n:,} radiographs: they were "
                              f"removed, none is in {where}. Begin again: {again}") from None
    print(f"{options.n} synthetic radiographs in {where}\n"
          f"Train on them: minicnn train --data {printable(manifest)}")
