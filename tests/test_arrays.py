"""The door for arrays, and where the bytes of parameters and workspaces live. More of the door: test_layers.py."""

import numpy as np
import pytest

from minicnn.arrays import as_array, check_finite
from minicnn.errors import InputError
from minicnn.buffers import Buffers
from minicnn.parameter import Parameter


def test_a_plain_array_is_taken_as_it_is():
    x = np.ones((2, 3), np.float32)
    assert as_array(x, "a", "x", np.float32) is x


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_number_that_is_not_finite_is_named_by_its_place(value):
    x = np.zeros((2, 3, 4))
    check_finite(x, "fit", "x")
    x[1, 0, 2] = x[1, 2, 3] = value
    with pytest.raises(InputError, match=rf"fit: x holds {value} at \[1, 0, 2\]\. Remove or replace NaN and infinite"):
        check_finite(x, "fit", "x")
    with pytest.raises(InputError, match=rf"fit: x holds {value} at \[\]"):
        check_finite(np.array(value), "fit", "x")


def test_a_buffer_is_one_piece_of_memory_under_one_name():
    buffers = Buffers()
    large = buffers.get("y", (4, 3), np.float32)
    small = buffers.get("y", (2, 5), np.float32)
    assert np.shares_memory(large, small) and small.shape == (2, 5) and small.flags.c_contiguous
    assert not np.shares_memory(large, buffers.get("dx", (4, 3), np.float32))
    assert buffers.nbytes == 2 * 12 * 4
    assert not np.shares_memory(large, buffers.get("y", (13,), np.float32))        # grown
    assert buffers.get("y", (2, 2), np.float64).dtype == np.float64
    assert buffers.get("y", (0, 7), np.float64).shape == (0, 7)


def test_a_parameter_has_a_gradient_of_its_own_shape():
    parameter = Parameter("kernel", np.ones((2, 3), np.float32, order="F"))
    assert parameter.value.flags.c_contiguous
    assert parameter.grad.tolist() == [[0] * 3] * 2 and parameter.grad.dtype == np.float32
    assert repr(parameter) == "Parameter('kernel', shape=(2, 3), dtype=float32)"
    value, grad = np.zeros(3), np.ones(3)
    parameter = Parameter("bias", value, grad)          # a layer may go on computing with the arrays that it made
    assert np.shares_memory(parameter.value, value) and np.shares_memory(parameter.grad, grad)
