"""Nodes: what layers make of them, blocks and names, and the errors."""

import pickle
from copy import deepcopy

import numpy as np
import pytest

from minicnn import (Adam, Add, Concatenate, Conv2D, Dense, Flatten, Input, InputError, Model, Multiply, ReLU, Residual, Sequential,
                     ShapeError)
from minicnn.layers.nodes import ordered


def names(model):
    return [layer.name for layer in model.layers]


def test_layers_run_in_an_order_in_which_each_comes_after_what_it_takes():
    x = Input((4, 4, 2))
    a, b = Conv2D(2, 1, name="a")(x), Conv2D(2, 1, name="b")(x)
    c = Add(name="c")([b, a])
    model = Model(x, Multiply(name="d")([c, b]))
    assert names(model) == ["b", "a", "c", "d"]
    assert model.network.sources == ((0,), (0,), (1, 2), (3, 1)) and not model.network.is_chain
    assert ordered([c])[0] is x


def test_a_deep_chain_needs_no_deep_stack():
    y = Input((2,))
    for _ in range(3000):
        y = ReLU()(y)
    assert len(ordered([y])) == 3001


def test_blocks_name_their_layers():
    def twice(x):
        return Add()([Conv2D(4, 3, padding="same")(x), x])

    parts = [Conv2D(4, 3), twice, Residual([Conv2D(4, 1), Residual([ReLU(name="r")])]), twice, Flatten()]
    expected = ["conv2d_1", "twice_1/conv2d_1", "twice_1/add_1", "residual_1/conv2d_1", "residual_1/residual_1/r",
                "residual_1/residual_1/add_1", "residual_1/add_1", "twice_2/conv2d_1", "twice_2/add_1", "flatten_1"]
    assert names(Sequential(parts, input_shape=(6, 6, 3))) == expected


def test_a_model_is_a_block():
    inner = Sequential([Conv2D(4, 3), Residual([ReLU()])], input_shape=(6, 6, 3))
    outer = Sequential([inner, Flatten(), Dense(1)], input_shape=(6, 6, 3), seed=3)
    assert names(outer)[:3] == ["sequential_1/conv2d_1", "sequential_1/residual_1/relu_1", "sequential_1/residual_1/add_1"]
    with pytest.raises(InputError, match="built again"):
        inner.predict(np.zeros((1, 6, 6, 3), np.float32))


def test_layers_in_blocks_begin_with_different_weights():
    model = Sequential([Residual([Conv2D(3, 3, padding="same"), Conv2D(3, 3, padding="same")])], input_shape=(5, 5, 3), seed=1)
    first, _, second, _ = model.get_weights()
    assert not np.array_equal(first, second)


def test_a_layer_called_on_a_batch_answers():
    x = np.ones((2, 3), np.float32)
    layer = Dense(4)
    assert np.array_equal(layer(x), layer.forward(x)) and layer(x).shape == (2, 4)


def test_shapes_are_known_where_nodes_are_made():
    assert Conv2D(5, 3, strides=2, padding="same")(Input((9, 9, 2))).shape == (None, 5, 5, 5)


@pytest.mark.parametrize("make, error, facts", [
    (lambda x: Add()([x, Conv2D(2, 3, name="small")(x)]), ShapeError, ["(4, 4, 2)", "(2, 2, 2)", "Conv2D 'small'", "Input"]),
    (lambda x: Concatenate()([x, Conv2D(2, 3)(x)]), ShapeError, ["(4, 4, 2)", "(2, 2, 2)"]),
    (lambda x: Multiply()([x, Flatten()(x)]), ShapeError, ["(4, 4, 2)", "(32,)"]),
    (lambda x: Add()(x), InputError, ["Add", "two or more"]),
    (lambda x: Add()([x]), InputError, ["Add", "got 1"]),
    (lambda x: ReLU(name="r")([x, x]), InputError, ["ReLU 'r'", "got 2"]),
    (lambda x: Add()([x, "x"]), InputError, ["Add", "str"]),
    (lambda x: Sequential([lambda node: 3], input_shape=(4, 4, 2)), InputError, ["<lambda>", "int"]),
    (lambda x: Sequential([3], input_shape=(4, 4, 2)), InputError, ["layer 0", "3"]),
    (lambda x: Residual([]), InputError, ["Residual"]),
    (lambda x: Input(5), InputError, ["5"]),
    (lambda x: Model(x, x), InputError, ["input"]),
    (lambda x: Model(x, Conv2D(2, 1)(Input((4, 4, 2)))), InputError, ["another input"]),
    (lambda x: Model(x, Add()([x, Input((4, 4, 2))])), InputError, ["another input"]),
    (lambda x: Model([x, x], ReLU()(x)), InputError, ["inputs", "twice"]),
    (lambda x: Model(x, []), InputError, ["outputs", "none"]),
    (lambda x: Model(x, [ReLU()(x), 3]), InputError, ["outputs", "int"]),
    (lambda x: Model([x, Input((3,), "age")], ReLU()(x)), InputError, ["no layer that takes", "(None, 3)"]),
    (lambda x: Model([x, Input((3,), "age")], [ReLU()(x), x]), InputError, ["no layer that takes"]),
    (lambda x: (lambda layer: Model(x, layer(layer(x))))(Conv2D(2, 1, name="again")), InputError, ["two places"]),
    (lambda x: Sequential([ReLU(), x], input_shape=(4, 4, 2)), InputError, ["layer 1", "Input"]),
    (lambda x: Sequential([ReLU()]), InputError, ["input_shape", "Input"]),
    (lambda x: Sequential().add(ReLU()), InputError, ["Input"]),
])
def test_errors_name_layers_and_shapes(make, error, facts):
    with pytest.raises(error) as raised:
        make(Input((4, 4, 2)))
    assert all(fact in str(raised.value) for fact in facts), raised.value


def test_layers_are_added_one_at_a_time():
    model = Sequential(seed=5)
    for part in (Input((6, 6, 1)), Conv2D(2, 3), ReLU(), Residual([Conv2D(2, 1)])):
        model.add(part)
    kernel = model.get_weights()[0] + 1
    model.set_weights([kernel, *model.get_weights()[1:]])
    model.add(Flatten()), model.add(Dense(1))
    assert np.array_equal(model.get_weights()[0], kernel)
    same = Sequential([Input((6, 6, 1)), Conv2D(2, 3), ReLU(), Residual([Conv2D(2, 1)]), Flatten(), Dense(1)], seed=5)
    assert names(same) == names(model)
    assert all(np.array_equal(a, b) for a, b in zip(same.get_weights()[1:], model.get_weights()[1:]))
    model.compile(Adam(), loss="mean_squared_error")
    with pytest.raises(InputError, match="compile"):
        model.add(ReLU())


def test_a_sequential_without_layers_says_so():
    model = Sequential()
    assert repr(model) == "<Sequential of 0 layers>"
    for ask in (model.summary, model.get_weights, lambda: model.compile("adam", "mse"), lambda: model.predict(np.zeros((1, 2)))):
        with pytest.raises(InputError, match="no layers yet"):
            ask()


def test_a_copy_takes_more_layers_and_leaves_functions_behind(tmp_path):
    plain = Sequential([Conv2D(2, 1, activation="relu"), Flatten()], input_shape=(2, 2, 1), seed=1)
    plain.save(tmp_path / "m.safetensors")
    for copy in (Model.load(tmp_path / "m.safetensors"), pickle.loads(pickle.dumps(plain)), deepcopy(plain)):
        copy.add(Dense(3))
        assert names(copy) == ["conv2d_1", "conv2d_1_activation", "flatten_1", "dense_1"] and copy.output_shape == (3,)
        assert all(np.array_equal(a, b) for a, b in zip(plain.get_weights(), copy.get_weights()))
    assert plain.output_shape == (8,)
    blocks = Sequential([lambda x: Add()([x, ReLU()(x)]), Flatten()], input_shape=(2, 2, 1))
    copy, x = pickle.loads(pickle.dumps(blocks)), np.ones((1, 2, 2, 1), np.float32)
    assert np.array_equal(copy.predict(x), blocks.predict(x))
    with pytest.raises(InputError, match="blocks"):
        copy.add(Dense(1))


def test_names_in_a_model_that_is_a_block_allow_no_others():
    inner = Sequential([Residual([ReLU()])], input_shape=(4,))
    with pytest.raises(InputError, match="a/b"):
        Sequential([inner, Dense(1, name="a/b")], input_shape=(4,))


def test_the_summary_counts_what_is_trained():
    model = Sequential([Dense(3), Dense(1)], input_shape=(2,))
    assert "Total parameters: 13 (all trainable" in model.summary_text()
    model.layers[0].trainable = False
    assert "Total parameters: 13 (4 trainable" in model.summary_text()
