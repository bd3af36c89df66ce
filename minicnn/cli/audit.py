"""`minicnn data audit`: problems of a collection that make metrics on it too good."""

from minicnn.cli.options import add_shared, show
from minicnn.core.signals import Interrupted

__all__ = ["HELP", "EXAMPLES", "add_options", "run"]

HELP = "look for problems that make metrics on a collection too good"
EXAMPLES = """examples:
  minicnn data audit radiographs/index.csv
  minicnn data audit radiographs/ --json > audit.json

It exits with 1 if it finds a problem: files that cannot be read, slices or lateral views, the same image twice, a
patient in two sets, or a label that the file header, the image border or the source predicts."""


def add_options(parser):
    add_shared(parser, "data", "--bits", "--classes", "--seed", "--quiet", "--json")


def run(options):
    """Print the audit; return 1 if it found a problem."""
    from minicnn.data.manifest import Manifest
    from minicnn.evaluation.auditing.auditor import audit
    from minicnn.reporting.audit_text import text

    manifest = Manifest.read(options.data, classes=options.classes, columns=options.columns,
                             allow_outside_root=options.allow_outside_root, root=options.root, labels=options.labels)
    try:
        result = audit(manifest, options.workers, not options.quiet, options.seed, options.data, options.bits)
    except Interrupted as signal:
        raise Interrupted(signal.number, "the audit was interrupted; the same command begins it again.") from None
    show(options, result.to_dict(), lambda facts: text(result))
    return 0 if result else 1
