"""Promises with what was measured, and the same accidents for minicnn and its peers.

    __main__    the program: python -m benchmarks.reliability
    tables      RELIABILITY.md and the README's table, from reliability.json
    promises    the table of promises; how each is measured is in crashes (B, C) and strangers (D, E)
    peers       accidents by name; what happens to files is in saving, what happens to training in training
"""

import sys

from benchmarks.processes import ROOT

sys.path.append(str(ROOT / "tests"))        # the accidents themselves are there: crash.py, hostile.py, runs_harness.py
