"""Dropout keeps the expected value."""

import numpy as np

from minicnn import reference as ref


def test_dropout_keeps_the_expected_value():
    assert ref.dropout(np.array([4.0, 4.0, np.nan, -4.0]), np.array([True, False, False, True]), 0.75).tolist() == \
        [16, 0, 0, -16]
