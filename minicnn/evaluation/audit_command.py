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
    from minicnn.evaluation.audit import audit
    from minicnn.evaluation.audit_text import text

    where = {"columns": options.columns, "allow_outside_root": options.allow_outside_root}
    manifest = Manifest.read(options.data, classes=options.classes, **where)
    result = audit(manifest, _modalities(options.data, **where), options.workers, not options.quiet, options.seed,
                   options.data)
    print(json.dumps(result.to_dict(), allow_nan=False) if options.json else text(result))
    return 0 if result else 1


def _modalities(source, columns, allow_outside_root):
    """Return the `modality` column of a CSV, or None. A manifest has no place for it: it is read in the view's."""
    import os

    from minicnn.data.reading import read_csv
    from minicnn.errors import Problems

    if os.path.isdir(source):
        return None
    table = read_csv(source, None, {**(columns or {}), "view": "modality"}, allow_outside_root, Problems(source))
    return table.columns.get("view")
