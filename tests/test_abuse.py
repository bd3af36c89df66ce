"""No way from Python to a kernel with wrong arrays: abuses at random, each in a typed error or in right numbers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def abuses(count, log, *options):
    """Run the program in a process of its own: what it abuses may kill it."""
    return subprocess.run([sys.executable, "-m", "tests.support.abuse", str(count), log, *options], cwd=ROOT,
                          capture_output=True, text=True,
                          env=os.environ | {"MINICNN_ENGINE": "fast", "HYPOTHESIS_STORAGE_DIRECTORY": str(log.parent)})


@pytest.mark.parametrize("count", [1000, pytest.param(50_000, marks=pytest.mark.soak)])
def test_no_crash_no_wrong_number(count, tmp_path):
    done = abuses(count, tmp_path / "log")
    assert done.returncode == 0, f"{(tmp_path / 'log').read_text()}\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    counted = json.loads(done.stdout)
    right, refused = counted.pop("right"), counted.pop("refused")
    assert right + refused == count and min(right, refused) > count / 4
    assert len(counted) == 13 and all(min(numbers) > 0 for numbers in counted.values()), counted


@pytest.mark.parametrize("hole", ["value", "strides", "out"])
def test_what_is_to_be_found_is_found(hole, tmp_path):
    done = abuses(1000, tmp_path / "log", hole)
    assert done.returncode < 0 or "Failing test case" in done.stderr, done.stderr       # killed, or an assertion of the program
