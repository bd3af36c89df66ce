"""The tables of reliability are what was measured, and the accidents happen to those they should happen to."""

import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks.measure import OURS
from benchmarks.reliability.children import outcomes
from benchmarks.reliability.file_accidents import LIBRARIES, Library, flips, full_disk, kills, truncations
from benchmarks.reliability.promise_tests import run_tests
from benchmarks.reliability.promises import PROMISES, Promise, measured
from benchmarks.reliability.tables import ACCIDENTS, compose, kept_in_words, read, readme_table
from benchmarks.report import readme_section, write_readme

ROOT = Path(__file__).parents[1]
STORED = read(ROOT / "benchmarks")


# ---- The tables ------------------------------------------------------------------------------------------------------

def test_the_readmes_table_is_what_was_measured():
    assert readme_section("reliability")[1] == readme_table(STORED)


def test_the_page_is_what_was_measured():
    assert (ROOT / "benchmarks" / "RELIABILITY.md").read_text(encoding="utf-8") == compose(STORED)


def test_all_was_measured_and_often_enough():
    assert STORED["promises"].keys() == PROMISES.keys() and STORED["accidents"].keys() == ACCIDENTS.keys()
    for each in [*STORED["promises"].values(), *STORED["accidents"].values()]:
        assert not each["quick"]
    assert all(OURS in accident["found"] for accident in STORED["accidents"].values())


def test_a_promise_that_was_not_kept_stands_in_the_tables():
    broken = STORED | {"promises": STORED["promises"] | {"C3": STORED["promises"]["C3"] | {"kept": False}}}
    for text in (readme_table(broken), compose(broken), kept_in_words(broken)):
        assert "not kept: " in text and "C3" in text.partition("not kept: ")[2].partition("\n")[0]
    assert "NOT KEPT" in compose(broken)


def test_a_table_needs_its_place(tmp_path):
    (tmp_path / "a.md").write_text("no markers")
    with pytest.raises(SystemExit, match="a.md.*a: begin.*a: end"):
        write_readme("a", "x", tmp_path / "a.md")
    assert (tmp_path / "a.md").read_text() == "no markers"
    (tmp_path / "a.md").write_text("before <!-- a: begin -->\nold<!-- a: end --> after")
    write_readme("a", "x\n", tmp_path / "a.md")
    assert (tmp_path / "a.md").read_text() == "before <!-- a: begin -->\nx\n<!-- a: end --> after"


def test_a_test_that_fails_or_does_not_exist_keeps_no_promise():
    assert run_tests(["test_reliability.py::test_a_table_needs_its_place"], quick=True)[0]
    assert not run_tests(["test_reliability.py::test_that_nobody_wrote"], quick=True)[0]


def test_the_tests_of_each_promise_exist():
    for number, promise in PROMISES.items():
        assert promise.measure or promise.tests, number
        for test in promise.tests:
            file, _, name = test.partition("::")
            text = (ROOT / "tests" / file).read_text(encoding="utf-8")
            assert f"\ndef {name}(" in text if name else text, f"{number}: {test}"


def test_a_promise_is_kept_where_its_measurement_and_its_tests_keep_it(tmp_path):
    good, bad = ["test_reliability.py::test_a_table_needs_its_place"], ["test_reliability.py::test_that_nobody_wrote"]
    for result, tests, kept in ((True, good, True), (False, good, False), (True, bad, False), (True, [], True)):
        found = measured(Promise("", "", lambda quick, folder: (result, "1 of 1", {"n": 1}), tests), True, tmp_path)
        assert found["kept"] is kept and found["measured"].startswith("1 of 1") and found["figures"]["n"] == 1


# ---- The accidents ---------------------------------------------------------------------------------------------------

def in_place(path, value, size):
    np.full(size, value, np.float32).tofile(path)


CARELESS = Library((), ".raw", lambda: (in_place, lambda path, size: np.fromfile(path, np.float32)))
CAREFUL = LIBRARIES[OURS]


def test_a_full_disk_shows_who_writes_in_place():
    try:
        careful, careless = full_disk(CAREFUL, 2), full_disk(CARELESS, 2)
    except SystemExit as error:
        pytest.skip(str(error))
    assert (careful["old"], careful["lost"], careful["silent"]) == (2, 0, 0)
    assert (careless["old"], careless["lost"]) == (0, 2)


def test_kills_show_who_writes_in_place():
    assert kills(CAREFUL, 5, size=100_000)["whole"] == 5
    careless = kills(CARELESS, 20, size=1_000_000)
    assert careless["lost"] > 0 and careless["mid_save"] > 0 and careless["lost"] + careless["whole"] == 20


@pytest.mark.parametrize("damage", [flips, truncations])
def test_damage_shows_who_does_not_look(damage):
    assert damage(CAREFUL, 50)["noticed"] == 50
    careless = damage(CARELESS, 50)
    assert careless["changed"] == 50 - careless["noticed"] > 25     # a length of no whole number of float32 is noticed


def test_a_library_that_crashes_or_hangs_is_counted(monkeypatch):
    monkeypatch.setattr("benchmarks.reliability.children.HUNG", 1)
    assert outcomes(lambda i: os.abort() if i == 1 else "fine", 3) == ["fine", "crashed", "fine"]
    assert outcomes(lambda i: os.read(os.pipe()[0], 1) if i == 0 else "fine", 2) == ["hung", "fine"]


def test_a_judge_that_fails_is_no_count(capfd):
    with pytest.raises(RuntimeError, match="the judge failed"):
        outcomes(lambda i: 1 / 0, 1)
    assert "ZeroDivisionError" in capfd.readouterr().err
