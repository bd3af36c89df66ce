"""The affine warp stays inside its arrays."""

import numpy as np
import pytest

from minicnn.data.augmentation import affine_matrices
from minicnn.kernels.augmentation import affine_warp
from tests.support.fence import Fences, survives


@pytest.mark.parametrize("at_end", [True, False])
def test_the_warp_stays_inside_its_arrays(at_end, tmp_path):
    def work(say):
        fences, rng = Fences(at_end), np.random.default_rng(0)
        for i in range(100):
            H, W, C = rng.integers(1, 10, 3)
            say((H, W, C, i))
            pixels = rng.integers(0, 256, (2, H, W, C)).astype(np.uint8 if i % 2 else np.float32)
            matrices = affine_matrices(H, W, rotation=rng.uniform(-720, 720, 2), zoom=rng.uniform(0.1, 9, 2))
            inputs = pixels, matrices, *rng.random((2, 2), np.float32)
            affine_warp(*(fences.copy(np.ascontiguousarray(a), locked=True) for a in inputs),
                        fences.copy(np.full((2, H, W, C), np.nan, np.float32)))
            fences.clear()
    alive, said = survives(work, tmp_path / "log")
    assert alive, said
