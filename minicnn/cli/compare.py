"""`minicnn compare`: how two runs differ, on the images that both held out, or on other images."""

from minicnn.cli.options import add_shared, path, show

__all__ = ["HELP", "EXAMPLES", "add_options", "run"]

HELP = "compare two runs: one verdict on their accuracy, and intervals of the differences"
EXAMPLES = """examples:
  minicnn compare runs/001 runs/002                            on the images that both held out
  minicnn compare runs/001 runs/002 --data hospital/index.csv  on other images

The verdict is on the accuracy at p > 0.5: one run is more accurate where McNemar's exact test, by patient, gives
p < 0.05. The intervals of the differences show sizes and decide nothing; where they seem to say something else, the
output says why."""


def add_options(parser):
    parser.add_argument("a", type=path, metavar="RUN", help="a run folder; A in the output")
    parser.add_argument("b", type=path, metavar="RUN", help="another; B")
    add_shared(parser, "--data", "--bits", "--classes", "--allow-training-images", "--leave-out-copies",
               "--quiet", "--json")


def run(options):
    """Print how two runs differ."""
    from minicnn import experiment

    told = experiment.compare(
        options.a, options.b, data=options.data, columns=options.columns, classes=options.classes,
        workers=options.workers, allow_outside_root=options.allow_outside_root, root=options.root,
        allow_training_images=options.allow_training_images, progress=not options.quiet, bits=options.bits,
        labels=options.labels, leave_out_copies=options.leave_out_copies)
    show(options, told.to_dict(), lambda facts: told.table())
