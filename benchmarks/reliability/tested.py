"""Promises that have no number to measure: the tests that hold them are run, and counted."""

import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from benchmarks.processes import ROOT

__all__ = ["tested", "also"]


def tested(*tests, quick=True):
    """Return what came of tests, run in a process of their own: (kept, sentence, figures); `file.py::test` each."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "junit.xml"
        said = subprocess.run([sys.executable, "-m", "pytest", "-q", "-m", "not soak" if quick else "soak or not soak",
                               *(f"tests/{test}" for test in tests), f"--junitxml={file}"],
                              cwd=ROOT, capture_output=True, text=True)
        if not file.exists():
            raise RuntimeError(said.stdout[-300:] + said.stderr[-300:])
        suite = ElementTree.parse(file).getroot()[0]
    failed = [case.get("name") for case in suite if case.find("failure") is not None or case.find("error") is not None]
    skipped = [case.find("skipped").get("message") for case in suite if case.find("skipped") is not None]
    passed = len(suite.findall("testcase")) - len(failed) - len(skipped)
    sentence = f"{passed:,} test{'s' if passed != 1 else ''} passed, {len(failed)} failed"
    sentence += f" ({', '.join(failed[:5])})" if failed else ""
    sentence += f", {len(skipped)} left out ({skipped[0][:100]})" if skipped else ""
    # pytest ends with 4 or 5 where a test that is named here is there no more.
    kept = said.returncode == 0 and passed > 0
    return kept, sentence, {"passed": passed, "failed": failed, "skipped": skipped, "exit code": said.returncode}


def also(result, *tests, quick=True):
    """Return a measured result together with the tests that hold the rest of the promise."""
    kept, sentence, figures = result
    tests_kept, told, counts = tested(*tests, quick=quick)
    return kept and tests_kept, f"{sentence}; {told}", figures | {"tests": counts}
