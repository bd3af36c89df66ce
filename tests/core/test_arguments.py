"""What arguments may be: each constraint with what it takes, what it does not, and its sentence."""

import math

import numpy as np
import pytest

from minicnn.core.arguments import Flag, OneOf, OrNone, Pair, Real, Text, Whole, check, check_all
from minicnn.errors import InputError

SEED = Whole(0, 2**64 - 1)


@pytest.mark.parametrize("constraint, value, taken", [
    (Whole(), 1, 1), (Whole(), 2**31 - 1, 2**31 - 1), (Whole(), np.int8(3), 3), (Whole(), np.array(3), 3), (SEED, 2**64 - 1, 2**64 - 1),
    (Real(0, 1), 0, 0.0), (Real(0, 1), np.float32(0.5), 0.5), (Real(0, 1, "[]"), 1, 1.0), (Real(0, brackets="()"), 1e308, 1e308),
    (OneOf(("valid", "same")), "same", "same"), (Pair(), 3, (3, 3)), (Pair(), [1, 2], (1, 2)), (Flag(), np.True_, True),
    (Text("a name"), "x", "x"), (OrNone(Whole()), None, None), (OrNone(Whole()), 2, 2)])
def test_what_a_constraint_takes_has_its_type_from_then_on(constraint, value, taken):
    got = check("Conv2D", "filters", value, constraint)
    assert got == taken and type(got) is type(taken)


@pytest.mark.parametrize("constraint, values, sentence", [
    (Whole(), [0, -1, 2**31, 1.0, "3", None, True, np.float32(2), np.array([1, 2]), np.array(1.5)], "be a whole number from 1 to 2**31 - 1"),
    (Whole(0, 64), [65, -1, math.nan], "be a whole number from 0 to 64"), (SEED, [2**64, -1], "be a whole number from 0 to 2**64 - 1"),
    (Real(0, 1), [1, -0.1, math.nan, math.inf, "0.5", None, True, 1j, [0.5]], "lie in [0, 1)"),
    (Real(0, brackets="()"), [0, math.inf], "lie in (0, inf)"),
    (OneOf(("valid", "same")), ["full", None, ["same"], np.array(["same", "same"]), 0], "be one of valid, same"),
    (Pair(), [0, (1, 0), (), (1,), (1, 2, 3), 2.0, "22", None], "be one whole number or two, each from 1 to 2**31 - 1"),
    (Flag(), [0, 1, "yes", None], "be True or False"), (Text("the name of a file"), ["", "a\0", 3, None], "be the name of a file"),
    (OrNone(Whole()), [0, "None"], "be a whole number from 1 to 2**31 - 1, or be None")])
def test_anything_else_is_an_error_that_names_the_argument(constraint, values, sentence):
    for value in values:
        with pytest.raises(InputError) as caught:
            check("Conv2D 'c'", "filters", value, constraint)
        assert str(caught.value).startswith(f"Conv2D 'c': filters must {sentence}, got {value!r}.")


def test_the_nearest_word_is_offered_and_strangers_are_printable():
    with pytest.raises(InputError, match="Did you mean 'valid'"):
        check("Conv2D", "padding", "vald", OneOf(("valid", "same")))
    with pytest.raises(InputError) as caught:
        check("", "padding", "\x1b[2J" + 10**4 * "x", OneOf(("valid", "same")))
    assert str(caught.value).isprintable() and len(str(caught.value)) < 200


def test_a_table_is_checked_in_the_order_of_the_arguments():
    table = {"filters": Whole(), "rate": Real(0, 1)}
    assert list(check_all("Layer", table, {"rate": 0, "filters": 3}).items()) == [("rate", 0.0), ("filters", 3)]
    with pytest.raises(InputError, match="Layer: filters"):
        check_all("Layer", table, {"filters": 0, "rate": 2})
