"""Networks that are graphs: gradients, both engines, fused steps, threads, model files, training that goes on."""

import copy
import json
import pickle

import numpy as np
import pytest

from minicnn import (Adam, Add, BatchNormalization, Conv2D, Dense, Flatten, GlobalAveragePooling2D, Input, InputError, MaxPool2D,
                     Model, ReLU, Rescaling, Residual, Sequential, ShapeError, Sigmoid, WeightsError, gradcheck, set_thread_count,
                     weights)
from minicnn.core.backend import ENGINES
from minicnn.evaluation.explanation.gradcam import explain
from minicnn.layers.nodes import connect
from tests.support.random_networks import random_graph


def resnet(seed=4, side=16, dtype="float32", engine=None):
    """Eight layers with weights, as in He et al. (2016), for small images."""
    def block(F, strides=1):
        body = [Conv2D(F, 3, strides=strides, padding="same"), BatchNormalization(), ReLU(),
                Conv2D(F, 3, padding="same"), BatchNormalization()]
        return [Residual(body, [Conv2D(F, 1, strides=strides)] if strides > 1 else []), ReLU()]
    return Sequential([Input((side, side, 3)), Conv2D(8, 3, padding="same"), BatchNormalization(), ReLU(), *block(8),
                       *block(16, 2), *block(32, 2), GlobalAveragePooling2D(), Dense(1), Sigmoid()],
                      seed=seed, dtype=dtype, engine=engine)


def data(n=24, side=16, dtype=np.float32):
    rng = np.random.default_rng(2)
    x = rng.random((n, side, side, 3)).astype(dtype)
    return x, (x[:, :4, :4].mean(axis=(1, 2, 3)) > 0.5).astype(int)


@pytest.mark.parametrize("count", [40, pytest.param(500, marks=pytest.mark.soak)])
def test_random_graphs_pass_the_gradient_check(count):
    checked = 0
    for number in range(count):
        model, x = random_graph(number)
        report = gradcheck(model, x=x, seed=number, limit=300)
        assert report, f"graph {number}:\n{report}"
        checked += not model.network.is_chain
    assert checked > count / 2


@pytest.mark.parametrize("number", range(20))
def test_both_engines_agree(number):
    model, x = random_graph(number)
    other, _ = random_graph(number, engine=ENGINES[1 - ENGINES.index(model.engine)])
    ours, theirs = ([y] if isinstance(y, np.ndarray) else y for y in (model.predict(x), other.predict(x)))
    for y, again in zip(ours, theirs, strict=True):
        assert np.allclose(y, again, rtol=1e-12, atol=1e-14)


def test_fused_steps_change_nothing_but_the_last_place():
    """A value that two layers take is never inside a fused step; chains between merges are fused."""
    def nodes():
        x = Input((9, 9, 3))
        a = Conv2D(16, 3)(x)
        return x, Sigmoid()(Dense(1)(Flatten()(Add()([a, MaxPool2D(1)(ReLU()(Conv2D(16, 1)(ReLU()(a))))]))))

    model = Model(*nodes(), seed=1)
    plan = model.network.plan()
    assert ["conv2d_1"] in plan and ["conv2d_2", "relu_2"] in plan
    reference = Model(*nodes(), seed=1, engine="reference")
    reference.set_weights(model.get_weights())
    images = np.random.default_rng(0).random((5, 9, 9, 3)).astype(np.float32)
    assert np.allclose(model.predict(images), reference.predict(images), rtol=1e-5)


def trained(model, epochs, **options):
    x, t = data()
    model.compile(Adam(1e-3), loss="binary_crossentropy")
    model.fit(x, t, epochs=epochs, batch_size=7, progress=False, **options)
    return model


@pytest.mark.usefixtures("same_threads")
def test_threads_and_interruptions_change_no_bit(tmp_path):
    whole = []
    for count in (1, 2, 3, 4):
        set_thread_count(count)
        model = trained(resnet(), 3)
        model.save(tmp_path / f"{count}.safetensors")
        whole.append((tmp_path / f"{count}.safetensors").read_bytes())
    assert whole.count(whole[0]) == 4
    half = trained(resnet(), 2, run=tmp_path / "run")
    gone_on = trained(resnet(seed=4), 3, run=tmp_path / "run", resume=True)
    gone_on.save(tmp_path / "gone_on.safetensors")
    assert len(half.history) == 2 and (tmp_path / "gone_on.safetensors").read_bytes() == whole[0]


def test_a_prediction_depends_on_no_other_image():
    model, (x, _) = trained(resnet(), 1), data()
    together = model.predict(x)
    assert all(np.array_equal(model.predict(x[i:i + 1]), together[i:i + 1]) for i in range(5))
    assert np.array_equal(model.predict(x[::-1], batch_size=5), together[::-1])


def test_a_graph_is_saved_loaded_explained_and_traced(tmp_path):
    model, (x, t) = trained(resnet(), 1), data()
    model.save(tmp_path / "m.safetensors")
    loaded = Model.load(tmp_path / "m.safetensors")
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in model.layers]
    assert loaded.network.sources == model.network.sources
    assert np.array_equal(loaded.predict(x), model.predict(x))
    again = [one.fit(x, t, epochs=1, batch_size=7, progress=False) and one for one in (model, loaded)]
    assert all(np.array_equal(a, b) for a, b in zip(*(one.get_weights() for one in again)))
    assert explain(model, x[:2]).layer.startswith("residual_3/")
    text = str(model.trace(x[:1], t[:1]))
    assert "residual_2/add_1" in text and "takes" in text
    assert "residual_1/conv2d_2" in model.summary_text() and "takes" in model.summary_text()


@pytest.mark.parametrize("sources, sentence", [
    ([[0], [2]], "made before it"), ([[0], [-1]], "made before it"), ([[0], [0, 1]], "made before it"), ([[0]], "made before"),
    ([[0], [0]], "taken by none"), ("ab", "list"), ([[0], [True]], "made before it"), ([0, 1], "list"), ([[0], []], "made before"),
    ([[0], [0.0]], "made before it")])
def test_sources_of_a_file_are_checked(tmp_path, sources, sentence):
    Sequential([Flatten(), Dense(1)], input_shape=(2, 2, 1)).save(tmp_path / "m.safetensors")
    tensors, metadata = weights.load(tmp_path / "m.safetensors")
    architecture = json.loads(metadata["architecture"]) | {"sources": sources}
    weights.save(tmp_path / "n.safetensors", tensors, metadata | {"architecture": json.dumps(architecture)})
    with pytest.raises(WeightsError, match=sentence):
        Model.load(tmp_path / "n.safetensors")


def test_too_small_images_are_told_the_least_size():
    with pytest.raises(ShapeError, match="at least 5 x 5"):
        Sequential([Conv2D(2, 3), Residual([Conv2D(2, 3, padding="same")]), Conv2D(2, 3)], input_shape=(4, 4, 1))


def test_nodes_are_built_once():
    x = Input((4, 4, 1))
    y = Flatten()(Conv2D(2, 3)(x))
    first = Model(x, y)
    Model(x, y)
    with pytest.raises(InputError, match="built again"):
        first.predict(np.zeros((1, 4, 4, 1), np.float32))


@pytest.mark.parametrize("number", range(0, 40, 3))
def test_memory_that_is_used_again_changes_no_bit(number):
    """Gradients are those of a network each of whose steps has buffers of its own, also after a larger batch."""
    networks = [random_graph(number, engine="fast")[0].network for _ in range(2)]
    networks[1]._pool = None
    rng = np.random.default_rng(number)
    for n in (3, 5, 2):
        x, dy = rng.random((n, *networks[0].input_shape)), rng.normal(size=(n, *networks[0].output_shape))
        results = []
        for network in networks:
            y = network.forward(x.copy(), training=True).copy()
            network.backward(dy.copy())
            results.append([y, *(parameter.grad.copy() for parameter in network.parameters)])
        for one, other in zip(*results, strict=True):
            assert np.array_equal(one, other)


def test_a_training_step_holds_what_backward_needs_and_little_more():
    """Of a convolution, its normalization and a ReLU, backward needs two arrays of three; and few gradients at a time."""
    def block(x):
        return ReLU()(BatchNormalization()(Conv2D(8, 3, padding="same", use_bias=False)(x)))
    x = y = Input((16, 16, 8))
    for _ in range(20):
        y = block(y)
    network = Model(x, Dense(1)(GlobalAveragePooling2D()(y)), engine="fast").network
    network.forward(np.ones((8, 16, 16, 8), np.float32), training=True)
    network.backward(np.ones((8, 1), np.float32))
    pool, one = network._pool, 8 * 16 * 16 * 8 * 4
    held = sum(array.size for array in (*pool._free, *pool._lent.values()))
    assert not pool._held and 40 * one <= held <= 45 * one


def test_a_copy_keeps_no_memory_of_a_pass():
    model = Sequential([Conv2D(4, 3, padding="same"), BatchNormalization(), ReLU(), Flatten(), Dense(1), Sigmoid()], (16, 16, 3))
    before = len(pickle.dumps(model))
    model.predict(np.ones((32, 16, 16, 3), np.float32))
    assert len(pickle.dumps(model)) < before + 2000
    assert not copy.deepcopy(model).network._pool._held


def test_a_custom_layer_may_write_to_dy_and_keep_it():
    class Halved:
        def build(self, input_shape):
            return input_shape

        def forward(self, x):
            return x / 2

        def backward(self, dy):
            self.kept = dy
            dy *= 0.5
            return dy

    def gradients(layer):
        x = Input((6, 6, 2))
        y = Conv2D(2, 3, padding="same")(x)
        model = Model(x, Sigmoid()(Dense(1)(Flatten()(Add()([layer(y) if isinstance(layer, Rescaling) else
                                                             connect(layer, y), y])))), seed=1)
        model.compile(Adam(), "binary_crossentropy")
        return model.loss_and_gradients(np.random.default_rng(0).random((4, 6, 6, 2)), [0, 1, 1, 0])[1]
    layer = Halved()
    for one, other in zip(gradients(layer), gradients(Rescaling(0.5)), strict=True):
        assert np.allclose(one, other, rtol=1e-6)
    assert layer.kept.any()
