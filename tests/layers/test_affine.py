"""Activations that follow a layer, and biases that are left out: as the layers written one by one, to the bit."""

import copy
import pickle

import numpy as np
import pytest

from minicnn import (ELU, L2, Adam, Conv2D, Dense, DepthwiseConv2D, Flatten, Input, InputError, MaxPool2D, Model, ReLU,
                     SeparableConv2D, Sequential, ShapeError, Sigmoid, Swish, Tanh, gradcheck, set_thread_count)
from minicnn.core.backend import ENGINES
from tests.support.laws import assert_same_bits
from tests.support.layer_checks import batch, built, passed

SHAPE = 12, 12, 3


def short():
    """Return layers with activations of their own."""
    return [Conv2D(8, 3, activation="relu"), MaxPool2D(2), Conv2D(6, 3, activation="relu", use_bias=False),
            DepthwiseConv2D(3, padding="same", depth_multiplier=2, activation="silu"),
            SeparableConv2D(4, 2, activation="elu"),
            Conv2D(4, 2, groups=2, dilation_rate=2, activation="tanh", padding="same"), Flatten(),
            Dense(9, activation="relu", use_bias=False), Dense(1, activation="sigmoid")]


def long():
    """Return the same layers, each activation written as a layer."""
    return [Conv2D(8, 3), ReLU(), MaxPool2D(2), Conv2D(6, 3, use_bias=False), ReLU(),
            DepthwiseConv2D(3, padding="same", depth_multiplier=2), Swish(),
            SeparableConv2D(4, 2), ELU(), Conv2D(4, 2, groups=2, dilation_rate=2, padding="same"), Tanh(),
            Flatten(), Dense(9, use_bias=False), ReLU(), Dense(1), Sigmoid()]


def trained(layers, engine="fast"):
    model = Sequential(layers, SHAPE, seed=3, engine=engine)
    model.compile(Adam(), loss="binary_crossentropy")
    rng = np.random.default_rng(0)
    model.fit(rng.random((6, *SHAPE), np.float32), np.arange(6) % 2, epochs=2, batch_size=4, progress=False)
    return model


@pytest.mark.parametrize("engine", ENGINES)
def test_equal_networks_written_both_ways_have_equal_bits(engine, tmp_path):
    ours, written_out = trained(short(), engine), trained(long(), engine)
    assert [type(layer) for layer in ours.layers] == [type(layer) for layer in written_out.layers]
    for one, other in zip(ours.get_weights(), written_out.get_weights(), strict=True):
        assert_same_bits(one, other)
    plans = [[len(step) for step in model.network.plan(model.loss.heads)] for model in (ours, written_out)]
    assert plans[0] == plans[1] and (engine == "reference" or plans[0][:2] == [3, 2])
    ours.save(tmp_path / "m.safetensors")
    again, x = Sequential.load(tmp_path / "m.safetensors", engine=engine), np.ones((2, *SHAPE), np.float32)
    assert [layer.config() for layer in again.layers] == [layer.config() for layer in ours.layers]
    assert_same_bits(again.predict(x), ours.predict(x))


@pytest.mark.usefixtures("same_threads")
def test_resumed_and_with_any_number_of_threads_the_bytes_are_those_of_one_run(tmp_path):
    rng = np.random.default_rng(1)
    x, t = rng.random((12, *SHAPE), np.float32), np.arange(12) % 2

    def fit(run, epochs, **settings):
        model = Sequential(short(), SHAPE, seed=3)
        model.compile(Adam(), loss="binary_crossentropy")
        model.fit(x, t, epochs=epochs, batch_size=5, run=tmp_path / run, progress=False, **settings)
        return (tmp_path / run / "last.safetensors").read_bytes()
    whole = fit("whole", 2)
    fit("parts", 1)
    assert fit("parts", 2, resume=True) == whole
    for count in (1, 2, 3, 4):
        set_thread_count(count)
        assert fit(f"threads {count}", 2) == whole


def test_names_say_whose_activation_it_is():
    model = Sequential([Conv2D(2, 3, activation="relu"), Flatten(), Dense(3, activation="softmax", name="head")], SHAPE)
    assert [layer.name for layer in model.layers] == ["conv2d_1", "conv2d_1_activation", "flatten_1", "head",
                                                      "head_activation"]
    x = Input(SHAPE)
    model = Model(x, Dense(1, activation="sigmoid")(Flatten()(Conv2D(2, 3, activation="tanh")(x))))
    assert [layer.name for layer in model.layers][1::3] == ["conv2d_1_activation", "dense_1_activation"]


def test_the_layer_that_was_written_is_the_one_in_the_network():
    conv = Conv2D(2, 3, activation="relu")
    model = Sequential([conv, Flatten(), Dense(1)], SHAPE)
    assert model.layers[0] is conv and conv.activation is None and conv.parameters and repr(conv) == repr(Conv2D(2, 3))
    # Its activation follows it into another network too, and once alone.
    assert [type(layer) for layer in Sequential([conv, Flatten(), Dense(1)], SHAPE).layers][:2] == [Conv2D, ReLU]
    assert len(Sequential(model.layers, SHAPE).layers) == 4


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_trains_on_with_the_same_bits(copied):
    model = trained(short())
    twin, x, t = copied(model), np.ones((4, *SHAPE), np.float32), np.array([0, 1, 1, 0])
    for one in (model, twin):
        one.train_on_batch(x, t)
    for ours, its in zip(model.get_weights(), twin.get_weights(), strict=True):
        assert_same_bits(ours, its)


@pytest.mark.parametrize("make", [lambda: Conv2D(3, 3, activation="relu"), lambda: Dense(4, activation="tanh"),
                                  lambda: DepthwiseConv2D(2, activation="leaky_relu"),
                                  lambda: SeparableConv2D(2, 2, activation="softmax")])
def test_by_hand_a_layer_computes_its_activation_too(make):
    shape = (7,) if make().label == "Dense" else (5, 6, 3)
    both, alone = built(make, shape), built(make, shape)
    activation = alone.unfold()
    activation.build(alone.output_shape)
    x, dy = batch(both, 3)
    y, dx, *gradients = passed(both, x, dy)
    assert_same_bits(y, activation.forward(alone.forward(x)))
    assert_same_bits(dx, alone.backward(activation.backward(dy)))
    for ours, parameter in zip(gradients, alone.parameters, strict=True):
        assert_same_bits(ours, parameter.grad)
    for engine in ENGINES:
        assert gradcheck(make(), shape=(2, *shape), engine=engine)


def test_the_kernels_of_a_separable_convolution_have_regularizers_of_their_own(tmp_path):
    layers = [SeparableConv2D(2, 3, depthwise_regularizer=L2(0.5)), Flatten(), Dense(1)]
    model = Sequential(layers, SHAPE, dtype="float64")
    assert [repr(p.regularizer) for p in layers[0].parameters] == ["L2(0.5)", "None", "None"] and gradcheck(model)
    model.save(tmp_path / "m.safetensors")
    config = Sequential.load(tmp_path / "m.safetensors").layers[0].config()
    assert config == model.layers[0].config()
    assert "depthwise_regularizer" in config and "pointwise_regularizer" not in config


def test_without_a_bias_it_is_a_bias_of_zeros_that_does_not_learn():
    model = Sequential([Conv2D(2, 3, use_bias=False), ReLU(), Flatten(), Dense(1, use_bias=False)], SHAPE)
    assert [w.shape for w in model.get_weights()] == [(3, 3, 3, 2), (200, 1)]
    assert "use_bias" in Conv2D(2, 3, use_bias=False).config() and "use_bias" not in Conv2D(2, 3).config()


@pytest.mark.parametrize("make, error, facts", [
    (lambda: Dense(3, activation="rellu"), InputError, "activation.*relu"),
    (lambda: Dense(3, use_bias=1), InputError, "use_bias.*True or False"),
    (lambda: Conv2D(4, 3, groups=0), InputError, "groups"),
    (lambda: Conv2D(4, 3, groups=2).build((5, 5, 3)), ShapeError, "groups=2.*3 channels.*4 filters"),
    (lambda: Conv2D(3, 3, groups=2).build((5, 5, 4)), ShapeError, "groups=2.*4 channels.*3 filters"),
    (lambda: Conv2D(3, 3, dilation_rate=3).build((6, 9, 4)), ShapeError, "height.*a window of 7 does not fit into 6"),
    (lambda: DepthwiseConv2D(3, depth_multiplier=0), InputError, "depth_multiplier")])
def test_bad_arguments_get_a_sentence(make, error, facts):
    with pytest.raises(error, match=facts):
        make()
    assert Dense(3, activation="linear").activation is None
