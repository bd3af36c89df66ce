"""The checklists: every item once, filled in only from the results."""

import configparser
import copy
import json
import re
from pathlib import Path

import pytest

import minicnn
from minicnn.study import paper
from minicnn.study.checklists.guidelines import FACTS, GUIDELINES, NOTHING, STATUSES, checklists
from tests.support.reproduction_example import example, renamed

TRIPOD = ("1 2 3a 3b 3c 4 5a 5b 6a 6b 6c 7 8a 8b 8c 9a 9b 9c 10 11 12a 12b 12c 12d 12e 12f 12g 13 14 15 16 17 18a 18b "
          "18c 18d 18e 18f 19 20a 20b 20c 21 22 23a 23b 24 25 26 27a 27b 27c")
STARD = ("1 2 3 4 5 6 7 8 9 10 11 12 13 14 15a 15b 15c 15d 16a 16b 16c 17a 17b 18 19 20 21 22 23 24 25 26a 26b 27 28 "
         "29 30 31 32 33 34 35 36 37 38 39 40a 40b")


@pytest.fixture(scope="module")
def results():
    """Results in which every fact finds what it needs."""
    found = example() | {"paper": paper.facts()}
    people = {"sex": {word: {"n": n, "patients": n, "accuracy": 0.9, "undefined": {}, "intervals": {}}
                      for word, n in (("F", 50), ("M", 73))}}
    for one in found["protocols"].values():
        for told in one["parts"].values():
            told["mean"]["counts"] = {"normal": 60, "covid": 63}
    test = found["protocols"]["honest"]["parts"]["test"]["mean"]
    test["groups"] = test["groups"] | people
    return found


def by_number(lists):
    """Return {guideline: {number: item}}."""
    return {one["name"]: {item["number"]: item for item in one["items"]} for one in lists}


def status(lists, guideline, *numbers):
    return {by_number(lists)[guideline][number]["status"] for number in numbers}


# ---- The lists -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("given", [{}, None])
def test_every_item_of_every_list_appears_once_in_order(results, given):
    lists = checklists(results if given is None else given)
    assert [one["name"] for one in lists] == ["CLAIM 2024", "TRIPOD+AI", "STARD-AI"]
    claim, tripod, stard = ([item["number"] for item in one["items"]] for one in lists)
    assert claim == [str(i) for i in range(1, 45)]
    assert tripod == TRIPOD.split() and len(tripod) == 52
    assert stard == STARD.split() and len(stard) == 48
    for numbers, n in ((tripod, 27), (stard, 40)):
        assert list(dict.fromkeys(int(re.match(r"\d+", number)[0]) for number in numbers)) == list(range(1, n + 1))


def test_each_item_has_a_status_and_says_something(results):
    for one in checklists(results):
        assert re.search(r"20\d\d", one["citation"]) and "checked" in one["citation"]
        assert len({item["topic"] for item in one["items"]}) == len(one["items"])
        for item in one["items"]:
            assert item.keys() == {"number", "topic", "status", "text"} and item["status"] in STATUSES
            assert 0 < len(item["topic"]) < 60 and len(item["text"]) > 15 and item["text"].isprintable()
    assert json.loads(json.dumps(checklists(results))) == checklists(results)


def test_every_fact_is_used_and_known():
    items = [item for guideline in GUIDELINES for item in guideline.items]
    assert {item.fact for item in items} - {""} == set(FACTS)
    assert all(item.words for item in items if item.status != "filled")
    assert all(item.fact for item in items if item.status == "filled")


def test_a_shared_sentence_stands_in_each_item_that_names_it():
    words = [item.words for guideline in GUIDELINES for item in guideline.items]
    assert words.count("No sample size was calculated beforehand: all available images are used.") == 3
    assert not [text for text in [*words, *(one.citation for one in GUIDELINES)] if set("{}") & set(text)]


def test_what_is_read_at_run_time_is_part_of_the_package():
    root, config = Path(minicnn.__file__).parents[1], configparser.ConfigParser()
    config.read(root / "setup.cfg")
    shipped = {path for package, patterns in config["options.package_data"].items() for pattern in patterns.split()
               for path in root.joinpath(*package.split(".")).glob(pattern)}
    for name in ("study/checklists/items.toml", "reporting/page.html", "reporting/page.md", "reporting/page.css"):
        assert root / "minicnn" / name in shipped


def test_items_that_only_authors_can_answer_need_them(results):
    lists = checklists(results)
    assert status(lists, "CLAIM 2024", "1", "8", "11", "14", "44") == {"needs you"}
    assert status(lists, "TRIPOD+AI", "5b", "6b", "17", "18a", "18b", "19") == {"needs you"}
    assert status(lists, "STARD-AI", "6", "7", "16a", "38", "39") == {"needs you"}
    assert status(lists, "CLAIM 2024", "21") == status(lists, "TRIPOD+AI", "12f", "13", "14", "24") == {"not done"}
    assert status(lists, "STARD-AI", "22", "32") == {"not done"}


# ---- Filled from the results, and from nothing else ------------------------------------------------------------------

def other(value):
    """Return results with all their numbers changed, but for whether something is so."""
    if isinstance(value, dict):
        return {key: other(one) for key, one in value.items()}
    if isinstance(value, list):
        return [other(one) for one in value]
    if isinstance(value, (bool, str)) or value is None:
        return value
    return value + 1 if isinstance(value, int) else value * 0.9


def test_filled_texts_quote_the_numbers_of_these_results(results):
    changed = other(results)
    changed["environment"]["minicnn"] = "9.9"
    before, after = by_number(checklists(results)), by_number(checklists(changed))
    filled = [(name, number) for name, items in before.items() for number, item in items.items()
              if item["status"] == "filled"]
    assert len(filled) > 50
    for name, number in filled:
        text = before[name][number]["text"]
        assert re.search(r"\d", text), (name, number)
        assert after[name][number]["status"] == "filled" and after[name][number]["text"] != text, (name, number)


def test_the_values_are_those_of_the_results(results):
    items = by_number(checklists(results))
    honest = results["protocols"]["honest"]["parts"]
    told = honest["test"]["mean"]
    low, high = told["intervals"]["accuracy"]
    accuracy = f"accuracy {100 * told['accuracy']:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
    for name, number in (("CLAIM 2024", "38"), ("TRIPOD+AI", "23a"), ("STARD-AI", "31")):
        assert accuracy in items[name][number]["text"]
    used = sum(honest[part]["mean"]["n"] for part in ("training", "validation", "test"))
    assert f"uses {used:,} of the 820 images" in items["CLAIM 2024"]["10"]["text"]
    assert "609,473 parameters" in items["CLAIM 2024"]["22"]["text"]
    assert "Test set, sex: F 50 images, M 73 images." == items["CLAIM 2024"]["36"]["text"]
    assert "60 normal and 63 covid" in items["TRIPOD+AI"]["21"]["text"]
    assert "header alone 0.99, border alone 0.70, source alone 0.99" in items["STARD-AI"]["17a"]["text"]


def test_without_results_nothing_is_filled():
    assert not [item for one in checklists({}) for item in one["items"] if item["status"] == "filled"]


@pytest.mark.parametrize("key", sorted(NOTHING))
def test_missing_results_fill_in_nothing_more(results, key):
    less, empty = ({name: value for name, value in results.items() if name != key}, results | {key: None})
    assert checklists(less) == checklists(empty)
    whole, lists = by_number(checklists(results)), by_number(checklists(less))
    filled = {(name, number) for name, items in lists.items() for number, item in items.items()
              if item["status"] == "filled"}
    assert all(whole[name][number]["status"] == "filled" for name, number in filled)


# What is lost with it: (what is missing, guideline, items that are not done then).
@pytest.mark.parametrize("key, guideline, numbers", [
    ("external", "CLAIM 2024", "33"), ("external", "TRIPOD+AI", "16 20c"), ("external", "STARD-AI", "29"),
    ("unseen", "TRIPOD+AI", "12d 23b"), ("audit", "CLAIM 2024", "12"), ("audit", "STARD-AI", "17a 20"),
    ("stress", "CLAIM 2024", "30"), ("sanity", "CLAIM 2024", "31"), ("worst", "CLAIM 2024", "39"),
    ("worst", "STARD-AI", "23"), ("layers", "CLAIM 2024", "22"), ("layers", "TRIPOD+AI", "9a 22"),
    ("settings", "CLAIM 2024", "24 25 26 27"), ("environment", "CLAIM 2024", "23"), ("figures", "STARD-AI", "30"),
    ("protocols", "CLAIM 2024", "19 20 28 29 32 36 37 38"), ("data", "CLAIM 2024", "5 9 10"),
    ("command", "TRIPOD+AI", "18f"), ("paper", "CLAIM 2024", "6"),
])
def test_what_is_missing_turns_its_items_to_not_done(results, key, guideline, numbers):
    numbers = numbers.split()
    assert status(checklists(results), guideline, *numbers) == {"filled"}
    assert status(checklists(results | {key: None}), guideline, *numbers) == {"not done"}


def test_without_external_validation_none_is_mentioned(results):
    alone = copy.deepcopy(results) | {"external": None}
    for protocol in alone["protocols"].values():
        protocol["parts"].pop("external", None)
    lists = checklists(alone)
    assert status(lists, "CLAIM 2024", "33") == {"not done"}
    assert not [item for one in lists for item in one["items"] if "38 images" in item["text"]]


def test_unknown_sources_are_not_mentioned(results):
    without = results | {"data": results["data"] | {"sources": {}}}
    known, unknown = (by_number(checklists(found))["CLAIM 2024"]["7"]["text"] for found in (results, without))
    assert "From nih: 394 normal and 0 covid" in known and "Known from this run" not in unknown


def test_undefined_metrics_have_their_reason():
    text = by_number(checklists(example(one_class=True)))["STARD-AI"]["31"]["text"]
    assert "AUC undefined (all samples have the same label)" in text
    assert "specificity undefined (no sample is negative)" in text


def test_synthetic_images_have_no_patients(results):
    items = by_number(checklists(results | {"data": results["data"] | {"synthetic": True}}))
    assert items["TRIPOD+AI"]["17"]["status"] == items["STARD-AI"]["6"]["status"] == "not done"
    assert "synthetic" in items["STARD-AI"]["6"]["text"] and "synthetic" in items["CLAIM 2024"]["5"]["text"]
    assert items["CLAIM 2024"]["44"]["status"] == "needs you"


def test_untrusted_names_become_printable(results):
    named = renamed(copy.deepcopy(results), "x\x1b[2J\u202e<b>")
    for one in checklists(named):
        assert all(item["text"].isprintable() for item in one["items"])
