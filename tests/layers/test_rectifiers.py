"""The numbers of activations, and ReLU as it always was."""

import pytest

from minicnn.errors import InputError
from minicnn.layers import ELU, LAYERS, LeakyReLU, ReLU, Swish


@pytest.mark.parametrize("make, sentence", [
    (lambda: ReLU(0), r"ReLU: max_value must lie in \(0, inf\), or be None, got 0"),
    (lambda: ReLU("six"), "ReLU: max_value must lie in"),
    (lambda: LeakyReLU(0), r"LeakyReLU: negative_slope must lie in \(0, inf\), got 0"),
    (lambda: LeakyReLU(None), r"LeakyReLU: negative_slope must lie in"),
    (lambda: ELU(-1), r"ELU: alpha must lie in \[0, inf\), got -1")])
def test_what_cannot_be_used_is_said(make, sentence):
    with pytest.raises(InputError, match=sentence):
        make()


def test_a_plain_relu_is_kept_and_printed_as_ever():
    assert (ReLU(name="a").config(), repr(ReLU())) == ({"type": "ReLU", "name": "a"}, "ReLU()")
    assert (ReLU(6).config(), repr(ReLU(6))) == ({"type": "ReLU", "name": None, "max_value": 6.0}, "ReLU(max_value=6.0)")
    assert LAYERS["ReLU"](max_value=None).operation == "relu"


def test_the_defaults_are_those_of_keras():
    assert [repr(layer) for layer in (LeakyReLU(), ELU(), Swish())] == [
        "LeakyReLU(negative_slope=0.3)", "ELU(alpha=1.0)", "Swish()"]
