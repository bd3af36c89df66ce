"""Dropout: what it drops, and what decides that."""

import numpy as np

from minicnn.layers import Dropout, SpatialDropout2D
from tests.support.laws import assert_same_bits
from tests.support.layer_checks import built, each_engine, while_training


@each_engine
def test_dropout_drops_the_share_it_says_and_the_rest_grows(engine):
    layer = built(lambda: while_training(Dropout(0.3)), (50, 50, 4), engine=engine)
    y = layer.forward(np.ones((2, 50, 50, 4))).copy()
    assert set(np.unique(y)) == {0, np.float32(1 / 0.7)}
    assert abs((y == 0).mean() - 0.3) < 3 * np.sqrt(0.3 * 0.7 / y.size)
    dx = layer.backward(np.ones(y.shape))
    assert_same_bits(dx, y)                                         # what was dropped has no gradient
    assert (y[0] != y[1]).any()


@each_engine
def test_spatial_dropout_drops_whole_channels(engine):
    layer = built(lambda: while_training(SpatialDropout2D(0.3)), (3, 5, 4000), engine=engine)
    y = layer.forward(np.ones((2, 3, 5, 4000))).copy()
    assert set(np.unique(y)) == {0, np.float32(1 / 0.7)} and (y == y[:, :1, :1]).all()
    assert abs((y[:, 0, 0] == 0).mean() - 0.3) < 3 * np.sqrt(0.3 * 0.7 / 8000) and (y[0] != y[1]).any()
    assert_same_bits(layer.backward(np.ones(y.shape)), y)


def test_what_is_dropped_depends_on_seed_layer_step_and_place_alone():
    def dropped(seed=0, index=0, step_number=0, n=3):
        layer = while_training(Dropout(0.5))
        layer.configure(seed=seed, index=index)
        layer.build((100,))
        layer.step_number = step_number
        return layer.forward(np.ones((n, 100))).copy()
    first = dropped()
    assert_same_bits(dropped(), first)
    assert_same_bits(dropped(n=2), first[:2])
    for other in (dropped(seed=1), dropped(index=1), dropped(step_number=1)):
        assert (other != first).any()
