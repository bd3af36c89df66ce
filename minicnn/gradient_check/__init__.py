"""Checks of gradients, optimizers and repeatability: public, and for your own layers too.

Read `gradients` first, then `rows`, `verdicts` and `differences`; `problems` and `subjects` say what may be checked.
"""

from minicnn.gradient_check.check import assert_gradients, gradcheck
from minicnn.gradient_check.determinism import check_determinism
from minicnn.gradient_check.optimizers import check_optimizer
from minicnn.gradient_check.report import Finding, Report

__all__ = ["gradcheck", "assert_gradients", "check_optimizer", "check_determinism", "Report", "Finding"]
