"""`minicnn data audit`: the options of the command, and what it does. Everything else is imported when it runs."""

import json

__all__ = ["EXAMPLES", "add_options", "run"]

EXAMPLES = """examples:
  minicnn data audit radiographs/index.csv
  minicnn data audit radiographs/ --json > audit.json

It exits with 1 where it found a problem: files that cannot be read, slices or lateral views, the same picture twice, a
patient in two parts, or a label that the file header, the image border or the source gives away."""


def add_options(command):
    """Add what this command has beside the options of every SOURCE."""
    command.add_argument("--seed", type=int, default=0, metavar="N", help="of the folds (default: %(default)s)")
    command.add_argument("--quiet", action="store_true", help="no progress on stderr")
    command.add_argument("--json", action="store_true", help="print JSON on stdout")


def run(options):
    """Print the audit; return 1 where it found a problem."""
    from minicnn.data.manifest import Manifest
    from minicnn.evaluation.auditing.auditor import audit
    from minicnn.reporting.audit_text import text

    manifest = Manifest.read(options.data, classes=options.classes, columns=options.columns,
                             allow_outside_root=options.allow_outside_root)
    result = audit(manifest, options.workers, not options.quiet, options.seed, options.data)
    print(json.dumps(result.to_dict(), allow_nan=False) if options.json else text(result))
    return 0 if result else 1
