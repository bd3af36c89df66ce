"""`minicnn data phantom`: synthetic radiographs as files."""

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
    from minicnn.data.synthetic import phantom

    with Progress(options.n, "images", "image", not options.quiet) as bar:
        manifest = phantom.write(options.folder_out, n=options.n, seed=options.seed, size=options.size,
                                 progress=bar.advance)
    print(f"{options.n} synthetic radiographs in {printable(options.folder_out)}\n"
          f"Train on them: minicnn train --data {printable(manifest)}")
