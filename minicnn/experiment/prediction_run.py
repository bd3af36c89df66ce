"""Prediction on image files: decision, calibrated probability of every class, out-of-distribution warnings."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from minicnn.core.text import grid
from minicnn.core.untrusted import write_csv
from minicnn.data.loader import image_files, open_dataset
from minicnn.errors import InputError, printable
from minicnn.evaluation.operating_point import FILE, OperatingPoint
from minicnn.evaluation.out_of_distribution import of_run
from minicnn.evaluation.summary import answers
from minicnn.experiment.evaluation_run import load_model, preprocessing_of
from minicnn.experiment.run_folder import RunFolder

__all__ = ["Predictions", "predict", "prediction_rows"]


@dataclass
class Predictions:
    """What a network predicts for image files.

    Attributes
    ----------
    rows : list of dict, in the order of the files: path; decision (the name of a class, or "abstains"); p_<class> for
        each class (its probability, calibrated where a temperature was fixed on validation); at_0.5 (with two classes,
        what the threshold 0.5 would decide, where that differs from the decision); warning (why the image is out of the
        training distribution, or ""); error (why the file cannot be read, or ""); probability (of the positive class
        with two classes, of the most probable one with more, before calibration); calibrated (the same, calibrated).
        What there is not is None: all but path, warning and error of a file that cannot be read, for instance
    point : OperatingPoint; empty, with the reason in `undefined`, where nothing was fixed on validation
    classes : list of str
    remarks : list of sentences: how the decisions are made, and what was not checked
    """

    rows: list
    point: OperatingPoint
    classes: list
    remarks: list

    @property
    def unreadable(self):
        """How many files could not be read."""
        return sum(row["error"] != "" for row in self.rows)

    def to_dict(self):
        """Return plain JSON.

        threshold and abstain are of probabilities before calibration, as `evaluate` has them; bounds are of the
        p_<class> of the second of two classes, which is decided above the upper one, and the first up to the lower one.
        """
        point, two = self.point, len(self.classes) == 2
        return {"threshold": point.threshold, "abstain": point.abstain, "temperature": point.temperature,
                "bounds": [float(bound) for bound in point.calibrated(point.bounds)] if two else None,
                "remarks": self.remarks, "files": self.rows}

    def table(self):
        """Return a line for each file, then errors, warnings and remarks, as text for a terminal."""
        names, digits = [f"p_{name}" for name in self.classes], _digits(self.rows, self.classes, self.point)
        more = ["at_0.5"] if any(row["at_0.5"] for row in self.rows) else []
        rows = [["file", "decision", *map(printable, names), *(name.replace("_", " ") for name in more)]]
        for row in self.rows:
            values = ("-" if row[name] is None else f"{row[name]:.{digits}f}" for name in names)
            rows.append([printable(row["path"]), printable(row["decision"] or "not read"), *values,
                         *(printable(row[name] or "") for name in more)])
        said = ["at 0.5: what the threshold 0.5 would decide, where that differs.", ""] if more else []
        said += [f"NOT READ: {row['error']}" for row in self.rows if row["error"]]
        said += [f"WARNING: {printable(row['path'])}: {row['warning']}." for row in self.rows if row["warning"]]
        return "\n".join([*grid(rows, numbers=range(2, 2 + len(names))), "", *said, *self.remarks])


def predict(run, files, csv=None, expect=None, bits=None, progress=True):
    """Return the Predictions of a run, or of a weights file, for image files.

    Parameters
    ----------
    run : path of a run folder or weights file
    files : list of paths of image files, of folders (all images in them, sorted) and patterns such as "scans/*.png";
        each file is decoded once. One that cannot be read is a row with its error
    csv : path of a CSV file to write with one row a file, optional
    expect : SHA-256 of the weights file, optional; another file is refused
    bits : the bits that 16-bit files use (Preprocessing), optional; by default those of the training images
    progress : bool; report progress on stderr

    Raises
    ------
    InputError : a network that does not classify images; a folder without images, a pattern that matches nothing
    """
    run, files = Path(run), image_files(files)
    model = load_model(run, expect)
    if len(model.output_shape) != 1:
        raise InputError(f"{printable(run)}: this network does not classify: its outputs have the shape "
                         f"{model.output_shape}.")
    classes = list(model.classes or map(str, range(max(2, *model.output_shape))))
    unreadable = {}
    dataset = open_dataset(files, preprocessing_of(model, bits), model.classes, "predict", progress=progress,
                           unreadable=unreadable)
    known, point = (of_run(run), OperatingPoint.read(RunFolder(run))) if run.is_dir() else (None, None)
    if point is None:
        reason = (f"this run has no {FILE}: it is not finished, or an earlier version of minicnn made it"
                  if run.is_dir() else f"a weights file alone has none; give the folder of its run, which has {FILE}")
        point = OperatingPoint(undefined={"threshold": reason, "temperature": reason})
    rows = [{"path": path, "decision": None, **dict.fromkeys(f"p_{name}" for name in classes), "at_0.5": None,
             "warning": "", "error": unreadable.get(number, ""), "probability": None, "calibrated": None}
            for number, path in enumerate(files)]
    if dataset is not None:
        found = prediction_rows(answers(model, dataset), classes, point)
        warnings = [[]] * len(found) if known is None else known.warnings(model, dataset)
        for row, told, warned in zip((row for row in rows if not row["error"]), found, warnings):
            at_half = told.pop("prediction")
            row |= told | {"warning": "; ".join(warned),
                           "at_0.5": at_half if len(classes) == 2 and at_half != told["decision"] else None}
    remarks = point.sentences(classes, _digits(rows, classes, point))
    if known is None:
        remarks.append("The images were not checked for being out-of-distribution: the training distribution is in the "
                       "folder of a finished run.")
    if csv is not None:
        write_csv(csv, rows)
    return Predictions(rows, point, classes, remarks)


def prediction_rows(outputs, classes, point):
    """Return what an OperatingPoint makes of each row of a network's outputs: list of dict.

    Their keys: prediction (with two classes that at p > 0.5, with more the most probable one), probability (of the
    positive class with two classes, of the prediction with more), calibrated (the same, None without a temperature),
    decision, and p_<class> for each class: its probability, calibrated where there is a temperature.
    """
    alone = outputs.shape[1] == 1           # one output, of the second of two classes
    raw, best = (np.concatenate([1 - p, p], axis=1) if alone else p
                 for p in (outputs.astype(np.float64), np.asarray(point.calibrated(outputs), np.float64)))
    predicted = raw.argmax(axis=1)
    decisions = point.decisions(outputs[:, 0], classes) if alone else [classes[k] for k in predicted]
    rows = []
    for k, before, after, decision in zip(predicted, raw.tolist(), best.tolist(), decisions):
        told = 1 if alone else k
        rows.append({"prediction": classes[k], "probability": round(before[told], 6),
                     "calibrated": None if point.temperature is None else round(after[told], 6), "decision": decision,
                     **{f"p_{name}": round(p, 6) for name, p in zip(classes, after)}})
    return rows


def _digits(rows, classes, point):
    """Return the fewest digits, from 4 to 6, with which each decision follows from the probabilities that are shown."""
    def shows(row, digits):
        p = [round(row[f"p_{name}"], digits) for name in classes]
        if len(classes) > 2:
            return p.count(max(p)) == 1 and classes[p.index(max(p))] == row["decision"]
        told = p[1] <= round(low, digits), p[1] > round(high, digits), p[1] > 0.5
        at_half = row["at_0.5"] or row["decision"]
        return told == (*(name == row["decision"] for name in classes), classes[1] == at_half)

    low, high = point.calibrated(point.bounds)
    return next((digits for digits in (4, 5) if all(shows(row, digits) for row in rows if not row["error"])), 6)
