"""`minicnn data import`: the manifest of a public collection, or of a folder of DICOM files."""

import os
import textwrap
from collections import Counter

from minicnn.cli.options import add_shared, path, show
from minicnn.errors import InputError, ManifestError, printable

__all__ = ["HELP", "EXAMPLES", "add_options", "run"]

HELP = "write the manifest of a public collection, as unpacked, or of a folder of DICOM files"
EXAMPLES = """examples:
  minicnn data import cohen covid-chestxray-dataset/           writes covid-chestxray-dataset/minicnn.csv
  minicnn data import cohen cohen/ --pneumonia --out all.csv   other pneumonias too
  minicnn data import nih nih/ --add all.csv                   joins the two: train on all.csv
  minicnn data import dicom scans/                             the folders in scans/ are the labels
  minicnn data import dicom scans/ --labels-from labels.csv --columns label=Target,PatientID=patientId

Kinds: cohen (metadata.csv), radiography (COVID-19 Radiography Database), covidx (train*.txt, test*.txt),
nih (Data_Entry*.csv), cxnet (COVID-CXNet). dicom (any folder of DICOM files: frontal CR and DX of the chest; patients are
hashed under the salt in minicnn.salt beside the manifest, which is secret). Frontal radiographs only; what is left out
is counted, by finding. Nothing is downloaded."""


_MOST_FINDINGS = 30


def add_options(parser):
    parser.add_argument("kind", metavar="KIND", choices=["cohen", "radiography", "covidx", "nih", "cxnet", "dicom"],
                        help="cohen, radiography, covidx, nih, cxnet or dicom")
    parser.add_argument("folder_in", type=path, metavar="DIR", help="the folder of the unpacked collection")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--out", type=path, metavar="FILE.csv", help="the manifest (default: minicnn.csv in DIR)")
    where.add_argument("--add", type=path, metavar="FILE.csv", help="add the rows to a manifest of this command")
    parser.add_argument("--pneumonia", action="store_true",
                        help="keep pneumonias that are not COVID-19 too, as a third class; of cohen the bacterial, viral "
                        "and fungal ones")
    parser.add_argument("--labels-from", type=path, metavar="FILE.csv",
                        help="of dicom: a file with the column label and one of path (or the name of a file), SOPInstanceUID, "
                        "StudyInstanceUID, AccessionNumber, PatientID; without it the folders in DIR are the labels")
    add_shared(parser, "--columns", "--quiet", "--json")


def run(options):
    """Write the manifest; print how many images it has, how many were left out and why."""
    from minicnn.data.collections import LABELS, import_collection

    kept = [label for label in LABELS if label != "pneumonia" or options.pneumonia]
    target = options.add or options.out or os.path.join(options.folder_in, "minicnn.csv")
    if options.add is None and os.path.lexists(target):
        raise InputError(f"{printable(target)}: exists already, and is not replaced. Name another file with --out, or "
                         "add to it with --add.")
    if options.kind == "dicom":
        result = _dicom(options, target)
    elif options.labels_from or options.columns:
        raise InputError(f"--labels-from and --columns are for dicom; {options.kind} has labels of its own.")
    else:
        result = import_collection(options.kind, options.folder_in, kept)
    earlier = _earlier(target) if options.add else []
    rows, outside = _placed(result, options.folder_in, target, earlier)
    if outside:
        result.notes.append("some images lie outside of the manifest's folder: use it with --allow-outside-root.")
    _write(target, earlier + rows)
    facts = {"manifest": target, "images": len(rows), "labels": dict(Counter(row["label"] for row in rows)),
             "patients": len({row["patient_id"] for row in rows} - {""}),
             "sources": dict(Counter(row["source"] for row in rows).most_common()), "excluded": dict(result.excluded),
             "findings": {reason: dict(counts.most_common()) for reason, counts in result.findings.items()},
             "notes": result.notes}
    classes = _classes({row["label"] for row in earlier + rows})
    show(options, facts, lambda facts: _text(facts) + classes)


def _dicom(options, target):
    """Return the Imported of a folder of DICOM files; their patients are hashed under the salt beside the manifest."""
    from minicnn.data.dicom_folder import import_dicom, salt_in

    if options.pneumonia:
        raise InputError("--pneumonia is for public collections; of dicom all labels are kept.")
    return import_dicom(options.folder_in, salt_in(os.path.dirname(target) or "."), options.labels_from, options.columns,
                        not options.quiet)


def _placed(result, folder, target, earlier):
    """Return (rows with paths relative to the manifest's folder, whether any is outside); count what it has already.

    Raises
    ------
    ManifestError : an image is in the manifest already, with another label
    """
    from minicnn.core.untrusted import Problems

    root, rows = os.path.realpath(os.path.dirname(target) or "."), []
    known, problems = {os.path.normpath(row["path"]): row["label"] for row in earlier}, Problems(printable(target))
    for row in result.rows:
        place = os.path.relpath(os.path.realpath(os.path.join(folder, row["path"])), root)
        if place not in known:
            known[place] = row["label"]
            rows.append(row | {"path": place})
            continue
        result.excluded["in the manifest already"] += 1
        if known[place] != row["label"]:
            problems.add(f"{printable(place)} is labelled {printable(known[place])!r} already, and {row['label']!r} by "
                         "the import. Correct one, or write another manifest with --out.", kind=known[place])
    problems.raise_any()
    return rows, any(row["path"].startswith("..") for row in rows)


def _classes(labels):
    """Return the option that names the classes where the labels alone do not tell them, or an empty text."""
    from minicnn.data.collections import LABELS
    from minicnn.data.labels import class_order

    try:
        class_order(labels)
        return ""
    except ManifestError:
        labels = labels if len(labels) > 1 else labels | {"normal" if labels & {"covid", "pneumonia"} else "covid"}
        return f" --classes {','.join(sorted(labels, key=[*LABELS, *sorted(labels)].index))}"


def _write(target, rows):
    """Write the columns that are not empty; of a split column no cell may be."""
    from minicnn.core.untrusted import write_csv

    used = [column for column in rows[0] if column in ("path", "label")
            or (all if column == "split" else any)(row[column] for row in rows)]
    write_csv(target, [{column: row[column] for column in used} for row in rows])


def _earlier(target):
    """Return the rows of a manifest that this command wrote, with all columns."""
    from minicnn.core.untrusted import raising, read_table
    from minicnn.data.manifest_reader import COLUMNS

    with raising(ManifestError, target, "It must be a manifest of this command; write a new one with --out."):
        rows = list(read_table(target, ["path", "label"]))
        if rows and not set(rows[0]) <= set(COLUMNS):
            raise ValueError(f"its columns are not those of a manifest, {', '.join(COLUMNS)}")
    return [dict.fromkeys(COLUMNS, "") | row for row in rows]


def _text(facts):
    def counted(table):
        return ", ".join(f"{count:,} {printable(name)}" for name, count in table.items())

    sources = list(facts["sources"].items())
    lines = [f"{printable(facts['manifest'])}: {facts['images']:,} images added ({counted(facts['labels']) or 'none'})"
             f" of {facts['patients']:,} known patients",
             f"sources: {counted(dict(sources[:6]))}{', ...' if len(sources) > 6 else ''}",
             "left out: " + (", ".join(f"{reason} {count:,}" for reason, count in facts["excluded"].items()) or "none")]
    for reason, findings in facts["findings"].items():
        rare, keeps = len(findings) - _MOST_FINDINGS, " (--pneumonia keeps them)" * (reason == "labelled pneumonia")
        told = ", ".join(f"{printable(name)} {count:,}".replace(" ", "\0") for name, count in
                         list(findings.items())[:_MOST_FINDINGS])
        told += f" and {rare:,} rarer findings (--json lists all)" if rare > 0 else ""
        lines += [line.replace("\0", " ") for line in textwrap.wrap(
            f"{reason}{keeps}: {told}", 118, initial_indent="  ", subsequent_indent="    ", break_long_words=False,
            break_on_hyphens=False)]
    lines += [f"note: {printable(note)}" for note in facts["notes"]]
    return "\n".join(lines + [f"Next: minicnn data audit {printable(facts['manifest'])}"])
