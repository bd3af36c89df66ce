"""`minicnn predict`: the predictions of a trained network for image files."""

from minicnn.cli.options import add_shared, lost, path, show

__all__ = ["HELP", "EXAMPLES", "add_options", "run"]

HELP = "predict the class of images"
EXAMPLES = """examples:
  minicnn predict runs/001 scan.png
  minicnn predict runs/001 scans/ --csv out.csv              all images in a folder and its folders
  minicnn predict runs/001 scans/*.png *.jpg --json"""


def add_options(parser):
    add_shared(parser, "run_folder", "files", "--bits", "--expect-sha256", "--threads", "--quiet", "--json")
    parser.add_argument("--csv", type=path, metavar="OUT", help="also write a CSV file with one row a file, in order")


def run(options):
    """Print a line for each file; return 3 if one could not be read."""
    from minicnn import experiment

    predictions = experiment.predict(options.run_folder, options.files, options.csv, options.expect_sha256,
                                     options.bits, not options.quiet)
    show(options, predictions.to_dict(), lambda facts: predictions.table())
    return lost(predictions.unreadable, len(predictions.rows))
