"""`minicnn evaluate`: the metrics of a run, or of its network on other images."""

from minicnn.cli.options import add_shared, path, show
from minicnn.errors import printable

__all__ = ["HELP", "EXAMPLES", "add_options", "run"]

HELP = "evaluate a trained network"
EXAMPLES = """examples:
  minicnn evaluate runs/001                              the metrics at the end of training
  minicnn evaluate runs/001 --data hospital/index.csv    on other images
  minicnn evaluate runs/001 --data hospital/ --shortcuts does it look at the lungs?
  minicnn evaluate runs/001 --report page.html           as a page with plots"""


def add_options(parser):
    add_shared(parser, "run_folder", "--data", "--bits", "--skip-unreadable", "--classes", "--allow-training-images",
               "--leave-out-copies", "--expect-sha256", "--threads", "--quiet", "--json")
    parser.add_argument("--calibrated", action="store_true", help="evaluate the probabilities at the temperature that "
                        "the run fixed on its validation set (with --data)")
    parser.add_argument("--shortcuts", action="store_true",
                        help="also check whether the network looks at the lungs: the same images without border, "
                             "without middle, re-encoded, inverted and blurred (with --data); exits with 1 if it finds "
                             "a shortcut")
    parser.add_argument("--report", type=path, metavar="FILE.html", help="write a self-contained page")


def run(options):
    """Print the metrics; return 1 if a shortcut was found."""
    from minicnn import experiment

    result = experiment.evaluate(
        options.run_folder, data=options.data, report=options.report, columns=options.columns, classes=options.classes,
        workers=options.workers, allow_outside_root=options.allow_outside_root, root=options.root,
        expect=options.expect_sha256, allow_training_images=options.allow_training_images,
        progress=not options.quiet, calibrated=options.calibrated, shortcuts=options.shortcuts, bits=options.bits,
        labels=options.labels, skip_unreadable=options.skip_unreadable,
        leave_out_copies=options.leave_out_copies)
    page = f"\n\nReport: {printable(options.report)}" if options.report else ""
    show(options, result.to_dict(), lambda facts: result.table() + page)
    return 1 if result.shortcuts is not None and result.shortcuts.findings else 0
