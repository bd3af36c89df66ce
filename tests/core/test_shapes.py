"""Shape arithmetic: against windows that are laid out one by one."""

import pytest
from hypothesis import given, strategies as st

from minicnn.core.shapes import PADDINGS, Axis, window
from minicnn.errors import ShapeError

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


def test_the_vocabulary_of_paddings():
    assert PADDINGS == ("valid", "same")
