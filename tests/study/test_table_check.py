"""The paper's tables, and the checks that any printed table can be put to: right tables pass, wrong ones do not."""

import json
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from minicnn import metrics
from minicnn.errors import InputError
from minicnn.study import paper
from minicnn.study.table_check import (RATES, Range, check_table, find_matrix, least_images, share_by_accuracy,
                                       share_by_precision)

counts = st.tuples(*[st.integers(0, 60)] * 4)       # TP, FP, TN, FN


def printed(matrix, decimals=2, doubt=0.2):
    """Return what a table prints of real predictions with this confusion matrix; what is undefined is not printed."""
    tp, fp, tn, fn = matrix
    labels = np.repeat([1, 0, 0, 1], [tp, fp, tn, fn])
    p = np.repeat([1 - doubt, 0.5 + doubt / 2, doubt, 0.5 - doubt / 2], [tp, fp, tn, fn])
    told = metrics.binary_metrics(labels, p)
    table = {name: round(told[name], decimals + 2) for name in RATES if told[name] is not None}
    return table | {"loss": round(told["loss"], 4), "decimals": decimals}


def failed(checks):
    return {check["name"] for check in checks if not check["holds"]}


# ---- Right tables ----------------------------------------------------------------------------------------------------

@given(counts, st.integers(0, 3), st.booleans(), st.floats(0.001, 0.4))
def test_a_table_of_real_predictions_passes(matrix, decimals, is_n_known, doubt):
    tp, fp, tn, fn = matrix
    n = sum(matrix)
    assume(n)
    share = (max(0, (tp + fn) / n - 0.01), min(1, (tp + fn) / n + 0.01))
    checks = check_table(**printed(matrix, decimals, doubt), n=n if is_n_known else None, share=share)
    assert not failed(checks), [check for check in checks if not check["holds"]]
    if is_n_known and tp and tn:
        assert {check["name"] for check in checks} == {"whole images", "false positives", "weighted mean",
                                                       "harmonic mean", "least loss", "class shares", "one matrix"}


@given(counts)
def test_the_true_share_of_positives_is_among_those_that_are_possible(matrix):
    tp, fp, tn, fn = matrix
    assume(tp and tn)
    a, r, s, p = (Fraction(*part) for part in ((tp + tn, sum(matrix)), (tp, tp + fn), (tn, tn + fp), (tp, tp + fp)))
    share = Fraction(tp + fn, sum(matrix))
    half = Fraction(1, 20_000)
    around = {x: Range(max(x - half, Fraction(0)), min(x + half, Fraction(1))) for x in (a, r, s, p)}
    for found in (share_by_accuracy(around[a], around[r], around[s]),
                  share_by_precision(around[p], around[r], around[s])):
        assert found.low <= share <= found.high
    exact = {x: Range(x, x) for x in around}
    if r != s:
        assert share_by_accuracy(exact[a], exact[r], exact[s]) == (share, share)
    if fp:
        assert share_by_precision(exact[p], exact[r], exact[s]) == (share, share)


# ---- The arithmetic, by trying everything ----------------------------------------------------------------------------

def matrices(n):
    for tp in range(n + 1):
        for fp in range(n + 1 - tp):
            for tn in range(n + 1 - tp - fp):
                yield tp, fp, tn, n - tp - fp - tn


def fits(matrix, rates):
    tp, fp, tn, fn = matrix
    parts = {"accuracy": (tp + tn, sum(matrix)), "specificity": (tn, tn + fp), "precision": (tp, tp + fp),
             "recall": (tp, tp + fn), "f1": (2 * tp, 2 * tp + fp + fn)}
    return all(parts[name][1] and bounds.low <= Fraction(*parts[name]) <= bounds.high for name, bounds in rates.items())


ranges = st.tuples(st.integers(0, 20), st.integers(1, 3)).map(
    lambda given: Range(max(Fraction(0), Fraction(2 * given[0] - given[1], 40)),
                        min(Fraction(1), Fraction(2 * given[0] + given[1], 40))))


@given(st.integers(1, 9), st.dictionaries(st.sampled_from(RATES), ranges), ranges)
def test_a_matrix_is_found_where_there_is_one(n, rates, recall):
    rates = rates | {"recall": recall}
    found = find_matrix(rates, n)
    if found is None:
        assert not any(fits(matrix, rates) for matrix in matrices(n))
    else:
        assert sum(found) == n and min(found) >= 0 and fits(found, rates)


@given(ranges, ranges)
def test_the_least_number_of_images_is_the_least(precision, specificity):
    rates = {"precision": precision, "specificity": specificity}
    least = least_images(precision, specificity)
    for n in range(1, 11):
        assert any(fits(matrix, rates) for matrix in matrices(n)) == (least is not None and n >= least)


# ---- Wrong tables ----------------------------------------------------------------------------------------------------

REAL = printed((430, 30, 480, 70)) | {"n": 1010, "loss": 0.27}


@pytest.mark.parametrize("change, fails", [
    ({}, set()),
    ({"f1": 0.9058}, {"harmonic mean", "one matrix"}),
    ({"accuracy": 0.9505}, {"weighted mean", "class shares", "one matrix"}),
    ({"accuracy": 0.9005}, {"whole images", "class shares", "one matrix"}),
    ({"loss": 0.0685}, {"least loss"}),
    ({"share": (0.3, 0.4)}, {"class shares"}),
    ({"precision": 1.0, "f1": 0.9247}, {"false positives", "class shares", "one matrix"}),
    ({"specificity": 1.0}, {"false positives", "class shares", "one matrix"}),
    ({"n": 13}, {"whole images", "false positives", "one matrix"}),
])
def test_a_wrong_number_is_found_by_the_checks_that_can(change, fails):
    assert failed(check_table(**(REAL | change))) == fails


def test_what_is_not_printed_is_not_checked():
    assert check_table(accuracy=0.9) == check_table(recall=0.5) == check_table() == []
    assert [check["name"] for check in check_table(accuracy=0.9, loss=0.3)] == ["least loss"]
    # So many images that any number is near one of theirs: no matrix is looked for.
    names = [check["name"] for check in check_table(accuracy=0.9, recall=0.8, n=10**6)]
    assert names == ["whole images"]


@pytest.mark.parametrize("table, sentence", [
    ({"accuracy": 99.45}, r"accuracy .*\[0, 1\], got 99.45"),
    ({"recall": math.nan}, r"recall .*\[0, 1\], got nan"),
    ({"f1": True}, r"f1 .*\[0, 1\], got True"),
    ({"loss": -1}, "loss .*, got -1"),
    ({"precision": 0.99451}, "precision: 0.99451 has more decimals"),
    ({"accuracy": 0.9, "decimals": 2.5}, "decimals .* from 0 to 6, got 2.5"),
    ({"accuracy": 0.9, "n": 0}, "check_table: n must be a whole number from 1"),
    ({"share": (0.6, 0.4)}, r"share: .*, got \(0.6, 0.4\)"),
])
def test_what_cannot_be_a_table_is_said(table, sentence):
    with pytest.raises(InputError, match=sentence):
        check_table(**table)


# ---- The paper -------------------------------------------------------------------------------------------------------

def test_what_is_wrong_in_table_ii():
    checks = paper.checks()
    wrong = {part: failed(check for check in checks if check["part"] == part)
             for part in ("Table I", "training", "validation")}
    assert wrong == {"Table I": set(), "training": {"harmonic mean", "class shares", "one matrix"},
                     "validation": {"whole images", "false positives", "weighted mean", "harmonic mean", "least loss",
                                    "class shares", "one matrix"}}
    said = {(check["part"], check["name"]): check["computed"] for check in checks}
    assert said["validation", "whole images"] == "1,712 of 1,722 are 99.419 %, 1,713 of 1,722 are 99.477 %"
    assert said["validation", "false positives"] == "both need at least 20,165 images"
    assert said["validation", "harmonic mean"] == "F1 from 99.644 to 99.651 %"
    assert said["training", "harmonic mean"] == "F1 from 99.895 to 99.905 %"
    assert said["validation", "least loss"] == "loss at least 0.005450 x ln 2 = 0.00378"
    assert "by accuracy 8.7 % (4.3 to 13.0 %); by precision 74.4 %" in said["training", "class shares"]
    assert said["validation", "one matrix"] == "none of the 854,004,950 confusion matrices of 1,722 images"
    assert math.comb(1722 + 3, 3) == 854_004_950


def test_one_hundred_percent_without_decimals_is_read_both_ways():
    why = {check["name"]: check["why"] for check in paper.checks() if check["part"] == "validation"}
    assert "this check holds: both need 365 images" in why["false positives"]
    assert "this check fails as well" in why["one matrix"]


def test_table_i_is_that_of_the_network():
    rows = paper.table_i()
    assert [(tuple(row["output"]), row["parameters"]) for row in rows[:-1]] == list(paper.TABLE_I)
    assert rows[-1] == {"name": "total", "output": None, "parameters": 609_473}


def test_the_facts_are_plain_values_of_their_own():
    facts = paper.facts()
    assert json.loads(json.dumps(facts)) == facts
    facts["table_ii"]["validation"]["accuracy"] = 0
    facts["table_iii"][0]["accuracy"] = 0
    assert paper.facts()["table_ii"]["validation"]["accuracy"] == 0.9945
    assert [row["accuracy"] for row in paper.facts()["table_iii"]] == [0.985, 0.9818, 0.9678, 0.924, 0.9945]
    assert all({"claim", "printed", "computed", "why"} <= check.keys() and isinstance(check["holds"], bool)
               for check in facts["checks"])
