"""Evaluation of classifiers: metrics with uncertainty, comparison, calibration, audits, shortcuts and explanations.

    summarize               the metrics of predictions with patient-clustered 95 % intervals, overall and by subgroup
    compare                 two networks on the same images: McNemar's test and differences with intervals
    proportion_interval, f1_interval, auc_interval, bootstrap       patient-clustered intervals
    calibration_line, reliability_curve, brier_score                calibration
    fit_temperature, apply_temperature                              temperature scaling
    fit_operating_point     threshold and abstention interval, chosen on the validation set
    audit                   the problems and confounders of a collection
    check_shortcuts         does a network depend on the border, or on the encoding of files?
    explain                 Grad-CAM, HiResCAM and occlusion
    parameter_randomization, border_check                           sanity checks of explanations
    leave_one_source_out    splits whose test set is a source left out of training
    TrainingDistribution    detection of out-of-distribution images

The functions take arrays, manifests and models; `minicnn.experiment` applies them to runs.

>>> from minicnn import evaluation
>>> result = evaluation.summarize([0, 1, 1, 0], [0.1, 0.9, 0.4, 0.2])
>>> result["accuracy"], result["auc"]
(0.75, 1.0)
"""

from minicnn.evaluation.auditing.auditor import audit
from minicnn.evaluation.calibration import (apply_temperature, brier_score, calibration_line, fit_temperature,
                                            reliability_curve)
from minicnn.evaluation.comparison import compare
from minicnn.evaluation.explanation.gradcam import explain
from minicnn.evaluation.explanation.sanity import border_check, parameter_randomization
from minicnn.evaluation.intervals import auc_interval, bootstrap, f1_interval, proportion_interval
from minicnn.evaluation.operating_point import fit_operating_point
from minicnn.evaluation.out_of_distribution import TrainingDistribution
from minicnn.evaluation.shortcut_test import check_shortcuts
from minicnn.evaluation.source_folds import leave_one_source_out
from minicnn.evaluation.summary import summarize

__all__ = ["summarize", "compare", "proportion_interval", "f1_interval", "auc_interval", "bootstrap",
           "calibration_line", "reliability_curve", "brier_score", "fit_temperature", "apply_temperature",
           "fit_operating_point", "audit", "check_shortcuts", "explain", "parameter_randomization", "border_check",
           "leave_one_source_out", "TrainingDistribution"]
