"""Shape arithmetic: against windows that are laid out one by one."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from minicnn.core.shapes import PADDINGS, Axis, pair, parameter_count, positive_int, window
from minicnn.errors import InputError, ShapeError

sizes = st.integers(1, 40)


def places(size, kernel, stride):
    """Return every start of a window that lies wholly in `size` samples, by trying all."""
    return [start for start in range(0, size, stride) if start + kernel <= size]


@given(sizes, sizes, sizes)
def test_valid_windows_lie_wholly_inside_and_none_is_missing(size, kernel, stride):
    if size < kernel:
        with pytest.raises(ShapeError, match=rf"a window of {kernel} does not fit into {size}: \(size - kernel\) // "
                                             rf"stride \+ 1 = \({size} - {kernel}\) // {stride} \+ 1 < 1"):
            window(size, kernel, stride, "valid")
    else:
        assert window(size, kernel, stride, "valid") == Axis(len(places(size, kernel, stride)), 0, 0)


@given(sizes, sizes, sizes)
def test_same_windows_start_at_each_stride_with_the_least_padding(size, kernel, stride):
    axis = window(size, kernel, stride, "same")
    assert axis.out == len(range(0, size, stride))
    padded = axis.before + size + axis.after
    assert len(places(padded, kernel, stride)) == axis.out
    assert 0 <= axis.after - axis.before <= 1                                      # the odd one after, as in Keras
    least = min(p for p in range(kernel + stride + 1) if len(places(size + p, kernel, stride)) >= axis.out)
    assert axis.before + axis.after == least
    # No window lies wholly in the padding: an average or a maximum over it would be of nothing.
    assert axis.before < kernel and (axis.out - 1) * stride - axis.before < size


def test_sizes_of_the_paper():
    size = 64
    for kernel, stride, out in [(3, 1, 62), (2, 2, 31), (3, 1, 29), (2, 2, 14), (3, 1, 12)]:
        size = window(size, kernel, stride, "valid").out
        assert size == out


@pytest.mark.parametrize("value", [1, 2**31 - 1, np.int8(3), np.array(3)])
def test_whole_numbers_of_any_kind_are_taken(value):
    assert positive_int(value, "Conv2D", "filters") == int(value)
    assert type(positive_int(value, "Conv2D", "filters")) is int


@pytest.mark.parametrize("value", [0, -1, 2**31, 1.0, "3", None, True, np.float32(2), np.array([1, 2]), np.array(1.5)])
def test_anything_else_is_an_error_that_names_the_argument(value):
    with pytest.raises(InputError, match=r"Conv2D: filters must be a whole number of at least 1 and below 2\*\*31"):
        positive_int(value, "Conv2D", "filters")


@given(st.integers(1, 9), st.integers(1, 9))
def test_pairs(height, width):
    assert pair(height, "Conv2D", "strides") == (height, height)
    assert pair((height, width), "Conv2D", "strides") == pair([height, width], "Conv2D", "strides") == (height, width)


@pytest.mark.parametrize("value", [(), (1,), (1, 2, 3)])
def test_pairs_have_two_numbers(value):
    with pytest.raises(InputError, match="Conv2D: strides must be one whole number or two, got"):
        pair(value, "Conv2D", "strides")


def test_both_of_a_pair_are_checked():
    with pytest.raises(InputError, match="Conv2D: strides must be a whole number of at least 1 .* got 0"):
        pair((1, 0), "Conv2D", "strides")


@given(st.lists(st.lists(st.integers(1, 6), max_size=4)))
def test_parameters_are_counted_as_numpy_counts(shapes):
    assert parameter_count(shapes) == sum(np.zeros(shape).size for shape in shapes)


def test_counts_do_not_overflow():
    assert parameter_count([(2**31 - 1,) * 4]) == (2**31 - 1) ** 4


def test_the_vocabulary_of_paddings():
    assert PADDINGS == ("valid", "same")
