"""Prediction on image files: class, calibrated probability, abstention, and warnings of out-of-distribution images."""

from dataclasses import dataclass
from pathlib import Path

from minicnn.core.text import grid
from minicnn.core.untrusted import write_csv
from minicnn.data.loader import open_dataset
from minicnn.errors import InputError, printable
from minicnn.evaluation.operating_point import FILE, OperatingPoint
from minicnn.evaluation.out_of_distribution import of_run
from minicnn.experiment.evaluation_run import load_model, preprocessing_of
from minicnn.experiment.run_folder import RunFolder

__all__ = ["Predictions", "predict", "prediction_rows"]


@dataclass
class Predictions:
    """What a network predicts for image files.

    Attributes
    ----------
    rows : list of dict, in the order of the files: path, prediction (at p > 0.5), probability (of the positive class
        with two classes, of the predicted one with more), calibrated (the same at the temperature fixed on validation),
        decision (a class's name, or "abstains"), warning (why the image is out of the training distribution, or "").
        calibrated and decision are None where they were not fixed
    point : OperatingPoint, or None where there is none
    remarks : list of sentences on what was fixed on validation, or why nothing was
    """

    rows: list
    point: OperatingPoint | None
    remarks: list

    def to_dict(self):
        """Return plain JSON."""
        point = OperatingPoint() if self.point is None else self.point
        return {"threshold": point.threshold, "abstain": point.abstain, "temperature": point.temperature,
                "remarks": self.remarks, "files": self.rows}

    def table(self):
        """Return a line for each file, then warnings and remarks, as text for a terminal."""
        rows = [["file", "prediction", "probability", "calibrated", "decision"]]
        for row in self.rows:
            values = ("-" if row[name] is None else f"{row[name]:.4f}" for name in ("probability", "calibrated"))
            rows.append([printable(row["path"]), printable(row["prediction"]), *values,
                         printable(row["decision"] or "-")])
        warned = [f"WARNING: {printable(row['path'])}: {row['warning']}." for row in self.rows if row["warning"]]
        return "\n".join([*grid(rows), "", *warned, *self.remarks])


def predict(run, files, csv=None, expect=None, bits=None):
    """Return the Predictions of a run, or of a weights file, for image files.

    Parameters
    ----------
    run : path of a run folder or weights file
    files : list of paths of image files; each is decoded once
    csv : path of a CSV file to write with one row a file, optional
    expect : SHA-256 of the weights file, optional; another file is refused
    bits : the bits that 16-bit files use (Preprocessing), optional; by default those of the training images

    Raises
    ------
    InputError, ImageError : a network that does not classify images, and files that are not images
    """
    run, files = Path(run), [str(file) for file in files]
    model = load_model(run, expect)
    if len(model.output_shape) != 1:
        raise InputError(f"{printable(run)}: this network does not classify: its outputs have the shape "
                         f"{model.output_shape}.")
    classes = model.classes or [str(number) for number in range(max(2, *model.output_shape))]
    dataset = open_dataset(files, preprocessing_of(model, bits), model.classes, "predict")
    known, point = of_run(run), OperatingPoint.read(RunFolder(run)) if run.is_dir() else None
    warnings = [[]] * len(files) if known is None else known.warnings(model, dataset)
    rows = [{"path": path, **row, "warning": "; ".join(warned)}
            for path, row, warned in zip(files, prediction_rows(model.predict(dataset), classes, point), warnings)]
    if point is not None:
        remarks = point.sentences()
    else:
        reason = (f"this run has no {FILE}: it is not finished, or an earlier version of minicnn made it"
                  if run.is_dir() else f"a weights file alone has none; give the folder of its run, which has {FILE}")
        remarks = [f"No calibrated probabilities and no interval of abstention: {reason}."]
    if known is None:
        remarks.append("The images were not checked for being out-of-distribution: the training distribution is in the "
                       "folder of a finished run.")
    if csv is not None:
        write_csv(csv, rows)
    return Predictions(rows, point, remarks)


def prediction_rows(outputs, classes, point=None):
    """Return the prediction and probability of each row of outputs, and the decision of `point`, an OperatingPoint."""
    two = outputs.shape[1] == 1
    predicted = (outputs[:, 0] > 0.5).astype(int) if two else outputs.argmax(axis=1)
    p = outputs[:, 0] if two else outputs.max(axis=1)
    calibrated, decisions = [None] * len(p), [None] * len(p)
    if point is not None and point.temperature is not None:
        tempered = point.calibrated(outputs)
        calibrated = [round(float(row[0] if two else row[k]), 6) for row, k in zip(tempered, predicted)]
    if point is not None and two:
        decisions = point.decisions(p, classes)
    return [{"prediction": classes[k], "probability": round(float(value), 6), "calibrated": better, "decision": word}
            for k, value, better, word in zip(predicted, p, calibrated, decisions)]
