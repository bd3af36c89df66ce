"""Recorded predictions: a replay is bit for bit the pass that was recorded, whatever has changed since."""

import copy
import os
import pickle
import threading

import numpy as np
import pytest

import minicnn
from minicnn import Input, Model, Sequential
from minicnn.kernels.runtime import recording, threads
from minicnn.layers import (Add, BatchNormalization, Concatenate, Conv2D, Dense, DepthwiseConv2D, Flatten, MaxPool2D, Multiply,
                            ReLU, Sigmoid, Softmax)
from minicnn.network import Network
from tests.support.laws import assert_same_bits
from tests.support.layer_checks import LAYERS_TO_CHECK
from tests.support.strategies import normals

pytestmark = pytest.mark.usefixtures("same_threads")


def programs(network):
    return [program for several in network._recordings._programs.values() for program in several]


def assert_replays(network, *xs, times=5):
    """Each x is predicted as a pass does it: while it is recorded, and from then on."""
    for x in xs:
        expected = np.array(network.forward(x))
        for _ in range(times):
            assert_same_bits(np.array(network.predict(x)), expected)


def changed(network):
    """Change every weight a little: where it lies, as an optimizer does."""
    for weight in [weight for _, weight in network.weights()]:
        weight.value[...] = weight.value * 1.25 + 0.125


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("make, shape", LAYERS_TO_CHECK, ids=[f"{make()!r} {shape}" for make, shape in LAYERS_TO_CHECK])
def test_every_layer_replays(make, shape, dtype, count):
    threads.set_thread_count(count)
    network = Network([make()], shape, dtype=dtype)
    for n in (1, 3):
        assert_replays(network, *(normals(seed, (n, *shape), dtype) for seed in range(3)))
    replayed = programs(network)
    assert len(replayed) == 2
    changed(network)
    assert_replays(network, *(normals(seed, (n, *shape), dtype) for n in (1, 3) for seed in range(2)))
    changed(network)                            # and back again, from whatever is kept of the weights before
    before = [weight.value.copy() for _, weight in network.weights()]
    assert_replays(network, normals(5, (1, *shape), dtype))
    changed(network)
    network.forward(normals(6, (1, *shape), dtype))
    for (_, weight), value in zip(network.weights(), before):
        weight.value = value
    assert_replays(network, normals(5, (1, *shape), dtype))


def a_graph():
    one, other = Input((8, 9, 3)), Input((4,))
    y = ReLU()(BatchNormalization()(Conv2D(16, 3, padding="same")(one)))
    z = MaxPool2D()(ReLU()(Add()([y, BatchNormalization()(Conv2D(16, 3, padding="same")(y))])))
    z = Concatenate()([z, Conv2D(4, 1, groups=2)(z), DepthwiseConv2D(3, padding="same")(z)])
    gate = Sigmoid()(Dense(36)(other))
    both = Multiply()([Flatten()(z), Dense(576, activation="tanh")(gate)])
    return Model([one, other], [Softmax()(Dense(3)(both)), Dense(2)(both)])


@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_graph_replays(count):
    threads.set_thread_count(count)
    network = a_graph().network
    shape = network.input_shape
    assert_replays(network, *(normals(seed, (n, *shape), np.float32) for n in (1, 2, 40, 1) for seed in range(2)))
    changed(network)
    assert_replays(network, *(normals(seed, (n, *shape), np.float32) for n in (1, 40) for seed in range(2)))
    assert len(programs(network)) == 3


def cov19net():
    return minicnn.cov19net(seed=1)


def radiographs(n, seed=0):
    return np.repeat(np.random.default_rng(seed).random((n, 64, 64, 1), np.float32), 3, axis=3)


@pytest.mark.parametrize("count", [1, 2])
def test_images_that_go_another_way_are_recorded_apart(count):
    threads.set_thread_count(count)
    network, grey, colour = cov19net().network, radiographs(3), normals(0, (3, 64, 64, 3), np.float32)
    for _ in range(3):
        assert_replays(network, grey, colour, np.concatenate([grey[:1], colour[:2]]))
    assert len(programs(network)) == 2          # batches of both kinds are not recorded
    pixels = (grey * 255).astype(np.uint8)
    assert_replays(network, pixels, pixels.transpose(0, 2, 1, 3))
    assert len(programs(network)) == 3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_what_is_of_another_dtype_is_made_the_networks_before(dtype):
    network = Network([Flatten(), Dense(3)], (4, 4, 1), dtype=dtype)
    assert_replays(network, *(np.full((2, 4, 4, 1), value, np.uint8) for value in (0, 7, 255)))
    for other in (np.float16, np.float32, np.float64):
        assert_replays(network, *(normals(seed, (2, 4, 4, 1), other) for seed in range(3)))


def test_what_a_bit_of_the_weights_changes_is_seen():
    network = Network([Conv2D(16, 3), ReLU()], (12, 12, 16))
    x, w = normals(0, (1, 12, 12, 16), np.float32), network.parameters[0].value
    assert_replays(network, x)
    before = np.array(network.predict(x))
    w.reshape(-1)[7] = np.nextafter(w.reshape(-1)[7], np.float32(np.inf))
    assert_replays(network, x)
    assert np.array(network.predict(x)).tobytes() != before.tobytes()


@pytest.mark.parametrize("count", [1, 2])
def test_a_batch_in_portions(count, monkeypatch):
    """Of one size or nearly; in each call each program compares the weights once."""
    threads.set_thread_count(count)
    network = Network([Conv2D(16, 3), ReLU(), Flatten(), Dense(3)], (12, 12, 16))
    monkeypatch.setattr(network._recordings, "_most", 3)
    replay, calls = recording._Program.__call__, []

    def seen(program, x, has_compared):
        calls.append((len(x), has_compared))
        return replay(program, x, has_compared)
    monkeypatch.setattr(recording._Program, "__call__", seen)
    xs = [normals(n, (n, 12, 12, 16), np.float32) for n in (1, 2, 3, 4, 7, 11)]
    assert_replays(network, *xs, times=9)
    changed(network)
    assert_replays(network, *xs[::-1], times=9)
    calls.clear()
    network.predict(xs[-1])
    assert calls == ([(3, False), (3, True), (3, True), (2, False)] if count == 1 else [(6, False), (5, False)])


def test_training_forgets_what_was_recorded():
    model = Sequential([Dense(3)], (4,))
    model.compile("sgd", "mse")
    x = normals(0, (2, 4), np.float32)
    for _ in range(5):
        model.predict(x)
    assert programs(model.network)
    model.train_on_batch(x, x[:, :3])
    assert not programs(model.network)
    assert_replays(model.network, x)


def test_few_shapes_are_kept():
    network = Network([Dense(3)], (4,))
    for n in range(1, 12):
        assert_replays(network, normals(n, (n, 4), np.float32))
    assert len(programs(network)) == recording._SHAPES


@pytest.mark.parametrize("alone", [True, False])
def test_alone_or_together_are_the_same_bits(alone):
    threads.set_thread_count(4)                 # more than there are cores: helpers come and go as it happens
    network, x = cov19net().network, radiographs(9)
    assert_replays(network, x)
    program, = programs(network)
    program._alone = alone
    assert_replays(network, x, times=200)


def test_what_helpers_gain_is_tried_again(monkeypatch):
    threads.set_thread_count(2)
    network, x = Network([Dense(3)], (4,)), normals(0, (2, 4), np.float32)
    assert_replays(network, x, times=4)
    monkeypatch.setattr(recording, "_SHORT", 60)
    monkeypatch.setattr(recording, "_SOON", 60)             # no pause is one
    monkeypatch.setattr(recording, "_AGAIN", 3)
    program, = programs(network)
    program._alone, program._times = None, {True: [], False: []}
    found = []
    for _ in range(2 * (2 * recording._TRIALS + 3)):
        assert_replays(network, x, times=1)
        found.append(program._alone)
    trying = [None] * (2 * recording._TRIALS - 1)
    assert [None if one is None else "known" for one in found] == 2 * [*trying, "known", "known", "known", None]


def test_predictions_after_pauses_leave_nothing_behind(monkeypatch):
    threads.set_thread_count(2)
    network, x = Network([Dense(3)], (4,)), normals(0, (2, 4), np.float32)
    assert_replays(network, x, times=4)
    monkeypatch.setattr(recording, "_SHORT", 60)
    monkeypatch.setattr(recording, "_SOON", -1)             # each call comes after a pause,
    monkeypatch.setattr(threads, "helpers_sleep", lambda: True)
    program, = programs(network)
    program._alone, program._times = None, {True: [], False: []}
    assert_replays(network, x, times=100)
    assert program._alone is None and len(program._times[True]) == recording._TRIALS


def test_several_threads_predict_at_once():
    threads.set_thread_count(2)
    models, xs = [cov19net() for _ in range(3)], [radiographs(n, seed=n) for n in (1, 2, 5)]
    expected, wrong = [np.array(model.network.forward(x)) for model, x in zip(models, xs)], []

    def work(model, x, y):
        wrong.extend(1 for _ in range(100) if model.predict(x).tobytes() != y.tobytes())
    started = [threading.Thread(target=work, args=one) for one in [*zip(models, xs, expected)] * 2]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("way", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_records_anew(way):
    model, x = cov19net(), radiographs(2)
    assert_replays(model.network, x)
    other = way(model)
    assert not programs(other.network)
    changed(other.network)
    assert_replays(other.network, x)
    assert_replays(model.network, x)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_replays():
    threads.set_thread_count(2)
    model, x = cov19net(), radiographs(3)
    assert_replays(model.network, x)
    expected, child = model.predict(x).tobytes(), os.fork()
    if child == 0:
        os._exit(0 if all(model.predict(x).tobytes() == expected for _ in range(20)) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert_replays(model.network, x)
