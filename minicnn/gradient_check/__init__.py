"""Checks of gradients, optimizers and determinism, for the layers of minicnn and your own.

Read `check` first, then `elementwise`, `verdicts` and `finite_differences`; `problems` and `subjects` define subjects.
"""

from minicnn.gradient_check.check import assert_gradients, gradcheck
from minicnn.gradient_check.determinism import check_determinism
from minicnn.gradient_check.optimizers import check_optimizer
from minicnn.gradient_check.report import Finding, Report

__all__ = ["gradcheck", "assert_gradients", "check_optimizer", "check_determinism", "Report", "Finding"]
