"""Run the tests that hold a promise, and count them."""

import subprocess
import sys
import tempfile
from pathlib import Path
from xml.etree import ElementTree

from benchmarks.processes import ROOT

__all__ = ["run_tests"]


def run_tests(tests, quick):
    """Return (kept, sentence, counts) of tests, run in a process of their own.

    Parameters
    ----------
    tests : sequence of str: "file.py::test" or "file.py" for all of its tests, below tests/
    quick : bool; leaves out the tests marked soak
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "junit.xml"
        done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-m", "not soak" if quick else "soak or not soak",
                               *(f"tests/{test}" for test in tests), f"--junitxml={file}"],
                              cwd=ROOT, capture_output=True, text=True)
        if not file.exists():
            raise RuntimeError(done.stdout[-300:] + done.stderr[-300:])
        suite = ElementTree.parse(file).getroot()[0]
    failed = [case.get("name") for case in suite if case.find("failure") is not None or case.find("error") is not None]
    skipped = [case.find("skipped").get("message") for case in suite if case.find("skipped") is not None]
    passed = len(suite.findall("testcase")) - len(failed) - len(skipped)
    sentence = f"{passed:,} test{'s' if passed != 1 else ''} passed, {len(failed)} failed"
    sentence += f" ({', '.join(failed[:5])})" if failed else ""
    sentence += f", {len(skipped)} skipped ({skipped[0][:100]})" if skipped else ""
    # pytest ends with 4 or 5 where a test named here does not exist.
    kept = done.returncode == 0 and passed > 0
    return kept, sentence, {"passed": passed, "failed": failed, "skipped": skipped, "exit code": done.returncode}
