"""What a trained network says of pictures: label, calibrated probability, whether to abstain, and what is strange."""

from dataclasses import dataclass
from pathlib import Path

from minicnn.core.files import write_whole
from minicnn.core.untrusted import csv_text
from minicnn.data.loader import open_dataset
from minicnn.errors import InputError, printable
from minicnn.evaluation import operating_point
from minicnn.evaluation.operating_point import OperatingPoint
from minicnn.experiment.evaluation_run import load_model, preprocessing_of
from minicnn.experiment.run_folder import RunFolder
from minicnn.reporting import console

__all__ = ["Answers", "predict", "answers"]


@dataclass
class Answers:
    """What a network says of image files.

    Attributes
    ----------
    rows : list of dict, in the order of the files: path, prediction (at p > 0.5), probability (of the positive class
        with two classes, of the predicted one with more), calibrated (the same at the temperature fixed on validation),
        decision (a class's name, or "abstains"), warning (in what the picture is unlike those trained on, or "").
        calibrated and decision are None where they were not fixed
    fixed : OperatingPoint, or None where there is none
    remarks : list of sentences on what was fixed on validation, or why nothing was
    """

    rows: list
    fixed: OperatingPoint | None
    remarks: list

    def to_dict(self):
        """Return plain JSON."""
        known = OperatingPoint() if self.fixed is None else self.fixed
        return {"threshold": known.threshold, "abstain": known.abstain, "temperature": known.temperature,
                "remarks": self.remarks, "files": self.rows}

    def table(self):
        """Return a line for each file, and what belongs to them, as text for a terminal."""
        rows = [["file", "prediction", "probability", "calibrated", "decision"]]
        for row in self.rows:
            figures = ("-" if row[name] is None else f"{row[name]:.4f}" for name in ("probability", "calibrated"))
            rows.append([printable(row["path"]), printable(row["prediction"]), *figures,
                         printable(row["decision"] or "-")])
        warned = [f"WARNING: {printable(row['path'])}: {row['warning']}." for row in self.rows if row["warning"]]
        return "\n".join([*console.grid(rows), "", *warned, *self.remarks])


def predict(run, files, csv=None, expect=None):
    """Return the Answers of a run, or of a weights file, about image files; write their rows to a CSV if asked.

    The files are decoded once. See `Answers` for what a row holds.
    """
    from minicnn.evaluation.out_of_distribution import of_run

    run, files = Path(run), [str(file) for file in files]
    model = load_model(run, expect)
    if len(model.output_shape) != 1:
        raise InputError(f"{printable(run)}: this network does not classify: its outputs have the shape "
                         f"{model.output_shape}.")
    classes = model.classes or [str(number) for number in range(max(2, *model.output_shape))]
    source = open_dataset(files, preprocessing_of(model), model.classes, "predict")
    known, fixed = of_run(run), OperatingPoint.read(RunFolder(run)) if run.is_dir() else None
    outputs = model.predict(source)
    rows = answers(outputs, classes, fixed)
    sentences = [[]] * len(files) if known is None else known.warnings(model, source)
    rows = [{"path": path, **row, "warning": "; ".join(said)} for path, row, said in zip(files, rows, sentences)]
    remarks = _why_not_fixed(run) if fixed is None else fixed.sentences()
    if known is None:
        remarks = remarks + ["Whether the pictures are like those trained on was not checked: what is known of these "
                             "is in the folder of a finished run."]
    if csv is not None:
        write_whole(csv, csv_text(rows).encode("utf-8", "surrogateescape"))
    return Answers(rows, fixed, remarks)


def answers(outputs, classes, fixed=None):
    """Return the prediction and probability of each row of outputs, and the answer of `fixed`, an OperatingPoint."""
    two = outputs.shape[1] == 1
    predicted = (outputs[:, 0] > 0.5).astype(int) if two else outputs.argmax(axis=1)
    p = outputs[:, 0] if two else outputs.max(axis=1)
    calibrated, words = [None] * len(p), [None] * len(p)
    if fixed is not None and fixed.temperature is not None:
        tempered = fixed.calibrated(outputs)
        calibrated = [round(float(row[0] if two else row[k]), 6) for row, k in zip(tempered, predicted)]
    if fixed is not None and two:
        words = fixed.words(p, classes)
    return [{"prediction": classes[k], "probability": round(float(value), 6), "calibrated": better, "decision": word}
            for k, value, better, word in zip(predicted, p, calibrated, words)]


def _why_not_fixed(run):
    if run.is_dir():
        reason = f"this run has no {operating_point.FILE}: it is not finished, or an earlier version of minicnn made it"
    else:
        reason = f"a weights file alone has none; give the folder of its run, which has {operating_point.FILE}"
    return [f"No calibrated probabilities and no interval of abstention: {reason}."]
