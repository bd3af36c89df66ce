"""Validation of arrays, and where the bytes of parameters and workspaces live. More in tests/layers."""

import tracemalloc
from contextlib import nullcontext as nothing

import numpy as np
import pytest

from minicnn.core.memory import Buffers
from minicnn.core.parameter import Parameter, Parameters, check_apart
from minicnn.core.validation import all_finite, as_array, check_finite
from minicnn.errors import DTypeError, InputError, ShapeError


def test_a_plain_array_is_taken_as_it_is():
    x = np.ones((2, 3), np.float32)
    assert as_array(x, "a", "x", np.float32) is x


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble])
@pytest.mark.parametrize("size", [1, 9_999, 10_001, 40_000])
@pytest.mark.parametrize("step", [1, 2, -1])
def test_one_number_that_is_not_finite_is_enough(dtype, size, step):
    """Also among numbers whose sum, or sum of squares, is too large for the dtype; and nobody warns."""
    x = np.full(2 * size, np.finfo(dtype).max, dtype)[::step][:size]
    assert all_finite(x) and all_finite(np.zeros_like(x))
    for value in (np.nan, np.inf, -np.inf):
        for place in (0, size // 2, size - 1):
            before, x[place] = x[place], value
            assert not all_finite(x)
            x[place] = before


def test_looking_for_numbers_that_are_not_finite_copies_nothing():
    images = np.zeros((16, 3, 100, 100), np.float32).transpose(0, 2, 3, 1)
    for x in (images, images[:, ::10, ::10], images[::-1]):
        tracemalloc.start()
        assert all_finite(x)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 64_000 + x.nbytes // 8


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
    assert sum(array.nbytes for array in buffers._arrays.values()) == 2 * 12 * 4
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


@pytest.mark.parametrize("given", [[1, 2, 3], np.arange(1, 4), np.array([1.0, 2.0, 3.0]), np.array([1, 2, 3], ">f4"),
                                   np.array([3.0, 2.0, 1.0])[::-1], np.array([1, 2, 3], np.float16)])
def test_what_is_set_is_converted_and_copied_into_place(given):
    parameter = Parameter("bias", memory := np.zeros(3, np.float32))
    parameter.value = parameter.grad = given
    if isinstance(given, np.ndarray):
        given[...] = 0                                  # nobody else's array can change it later
    for array in (parameter.value, parameter.grad):
        assert array.tolist() == [1, 2, 3] and array.dtype == np.float32 and array.flags.carray
    assert memory.tolist() == [1, 2, 3]


@pytest.mark.parametrize("attribute", ["value", "grad"])
@pytest.mark.parametrize("given, error, sentence", [
    (np.ones(4), ShapeError, r"Parameter: its bias has shape \(3,\), the .* \(4,\)"), (1.0, ShapeError, r"\(3,\), the .* \(\)"),
    (np.ones((3, 1)), ShapeError, r"\(3,\), the .* \(3, 1\)"), (None, DTypeError, "bias.* must hold real numbers"),
    (np.ones(3) * 1j, DTypeError, "got dtype complex128"), (["a", "b", "c"], DTypeError, "bias.* must hold real numbers"),
    ([[1], [1, 2]], ShapeError, "rows have different lengths"), (np.ma.array(np.ones(3), mask=True), InputError, "masked")])
def test_what_does_not_fit_a_parameter_is_refused(given, error, sentence, attribute):
    parameter = Parameter("bias", np.arange(3.0), np.arange(3.0) + 3)
    with pytest.raises(error, match=sentence):
        setattr(parameter, attribute, given)
    assert parameter.value.tolist() == [0, 1, 2] and parameter.grad.tolist() == [3, 4, 5]


def test_the_shape_of_a_parameter_cannot_be_changed_in_place():
    parameter = Parameter("kernel", np.zeros((2, 3)))
    flat = parameter.value.reshape(-1)
    flat[0] = 1                                         # its numbers can
    with pytest.warns(DeprecationWarning) if np.lib.NumpyVersion(np.__version__) >= "2.5.0" else nothing():
        parameter.value.shape = (6,)
    assert parameter.value.shape == (2, 3) and parameter.value[0, 0] == 1


def test_a_first_value_settles_the_dtype():
    dtypes = [Parameter("a", value).value.dtype for value in (np.ones(2, np.float32), np.ones(2, ">f4"), [1, 2], np.ones(2, bool),
                                                              np.ones(2, np.float16))]
    assert dtypes == [np.float32, np.float32, np.float64, np.float64, np.float64]
    with pytest.raises(DTypeError, match="Parameter: a.value must hold real numbers, got dtype complex128"):
        Parameter("a", np.ones(2) * 1j)
    with pytest.raises(ShapeError, match=r"its a has shape \(2,\), the gradient \(3,\)"):
        Parameter("a", np.ones(2), np.ones(3))
    both = np.ones(2)
    with pytest.raises(InputError, match="'a' has one piece of memory as value and as gradient"):
        Parameter("a", both, both)


def test_parameters_that_share_memory_are_named():
    memory = np.zeros(6)
    one, other = Parameter("one", memory[:4]), Parameter("other", memory[3:])
    with pytest.raises(InputError, match=r"x other shares memory with a parameter before it \(one\)"):
        check_apart([("x one", one), ("x other", other)])
    check_apart([("x one", one), ("x other", Parameter("other", memory[4:]))])


def test_a_parameter_left_in_place_is_looked_at_before_kernels_take_it():
    memory = np.zeros((2, 3))
    parameters = Parameters([Parameter("a", memory)])
    assert [value.shape for value, _ in parameters.pieces()] == [(2, 3)]
    memory.flags.writeable = False
    with pytest.raises(InputError, match=r"the array of its a has become \(2, 3\) float64, read-only or strided"):
        list(parameters.pieces())
