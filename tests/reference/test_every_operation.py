"""What holds for every operation of the specification: dtypes, untouched inputs, one rounding."""

import numpy as np
import pytest
from hypothesis import given, settings

from minicnn import reference as ref
from minicnn.reference import fusion
from tests.support.laws import as_tuple, assert_same_bits, digest
from tests.support.reference_checks import each_dtype
from tests.support.strategies import LINEAR, OPERATIONS, cases, specified


def test_the_registry_knows_every_operation_of_the_specification():
    apart = {"im2col", "col2im"}            # of the reference alone: test_windows.py
    elsewhere = {"grey_planes"}             # tests/test_fusion.py
    assert set(OPERATIONS) | apart | elsewhere == set(ref.__all__) | set(fusion.__all__)


@each_dtype
@pytest.mark.parametrize("name", OPERATIONS)
@settings(max_examples=20)
@given(case=cases())
def test_inputs_stay_as_they_are_and_dtypes_are_kept(name, dtype, case):
    inputs = OPERATIONS[name](case, dtype)
    arrays = [a for a in inputs if isinstance(a, np.ndarray)]
    before = [digest(a) for a in arrays]
    for i, result in enumerate(as_tuple(specified(name)(*inputs))):
        wide = (i == 0 and name.endswith(("entropy", "squared_error", "margin", "deviation"))        # losses and statistics are float64
                or name == "batch_statistics" or i > 0 and name in ("layer_norm", "routing"))
        switches = {"max_pool2d": np.uint16, "conv2d_relu_pool": np.uint8, "conv2d_scaled_relu_pool": np.uint8, "global_max_pool2d": np.uint32}.get(name) if i == 1 else None
        assert result.dtype == (np.float64 if wide else switches or dtype)
        assert not any(np.shares_memory(result, a) for a in arrays)
    assert [digest(a) for a in arrays] == before


@pytest.mark.parametrize("name", LINEAR)
@settings(max_examples=30)
@given(case=cases())
def test_float32_is_float64_rounded_once(name, case):
    operation, inputs = specified(name), OPERATIONS[name](case, np.float32)
    wide = [a.astype(np.float64) if isinstance(a, np.ndarray) and a.dtype == np.float32 else a for a in inputs]
    for narrow, exact in zip(as_tuple(operation(*inputs)), as_tuple(operation(*wide)), strict=True):
        assert_same_bits(narrow, exact.astype(np.float32))
