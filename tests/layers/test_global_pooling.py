"""Global pooling takes images, and knows what it sees of them."""

import pytest

from minicnn.core.receptive_field import Field
from minicnn.errors import InputError, ShapeError
from minicnn.layers import GlobalAveragePooling2D, GlobalMaxPooling2D, SpatialDropout2D
from tests.support.layer_checks import built

each_pooling = pytest.mark.parametrize("kind", [GlobalAveragePooling2D, GlobalMaxPooling2D])


@each_pooling
def test_other_inputs_and_arguments_are_refused(kind):
    with pytest.raises(ShapeError, match=rf"{kind.__name__}: expected images, \(H, W, C\), got inputs of shape \(3, 4\)"):
        kind().build((3, 4))
    with pytest.raises(InputError, match=f"{kind.__name__}: keepdims must be True or False, got 1"):
        kind(keepdims=1)
    with pytest.raises(ShapeError, match="SpatialDropout2D: expected images"):
        SpatialDropout2D(0.5).build((8,))


@each_pooling
def test_its_cost_and_its_receptive_field(kind):
    layer = built(kind, (5, 4, 3))
    assert layer.flops() == 19 * 3
    assert layer.receptive_field(Field((3, 3), (2, 2), (0, 0))) == Field((11, 9), (0, 0), (0, 0))
