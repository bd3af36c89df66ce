"""Normalization: what training does to moving statistics, where they are kept, and what decides the bits."""

import copy
import pickle

import numpy as np
import pytest

from minicnn import (SGD, Adam, BatchNormalization, Conv2D, Dense, EarlyStopping, Flatten, LayerNormalization, ReLU,
                     Sequential, Sigmoid, WeightAverage, gradcheck, set_thread_count, weights)
from minicnn.core.backend import ENGINES
from minicnn.errors import InputError, NonFiniteError, ShapeError, WeightsError
from tests.support.interruptions import interrupted_after
from tests.support.laws import assert_same_bits
from tests.support.layer_checks import batch, built, each_engine, passed, while_training
from tests.support.strategies import normals

X, T = normals(0, (9, 6, 6, 2)), np.arange(9) % 2


def model(engine="fast", dtype="float32", momentum=0.9, rate=1e-2):
    made = Sequential([Conv2D(4, 3, name="conv"), BatchNormalization(momentum=momentum, name="norm"), ReLU(), Flatten(),
                       Dense(3), BatchNormalization(name="last"), Dense(1), Sigmoid()], (6, 6, 2), seed=3, dtype=dtype,
                      engine=engine)
    made.compile(Adam(rate), "binary_crossentropy")
    return made


def statistics(model):
    return [s.value.copy() for layer in model.layers for s in getattr(layer, "statistics", ())]


def same(one, other):
    return all(a.tobytes() == b.tobytes() for a, b in zip(one, other, strict=True))


@each_engine
def test_a_step_moves_them_by_the_batch_and_a_prediction_takes_them(engine):
    made = model(engine, "float64")
    before, conv = statistics(made), Sequential([Conv2D(4, 3)], (6, 6, 2), seed=3, dtype="float64", engine=engine)
    images = conv.predict(X)                            # what the first step normalizes
    made.train_on_batch(X, T)
    after = statistics(made)
    np.testing.assert_allclose(after[0], 0.9 * before[0] + 0.1 * images.mean(axis=(0, 1, 2)), rtol=1e-12)
    np.testing.assert_allclose(after[1], 0.9 * before[1] + 0.1 * images.var(axis=(0, 1, 2)), rtol=1e-12)    # over M
    layer = built(lambda: BatchNormalization(epsilon=0.5), (3,), np.float64, engine)
    mean, variance = (s.value for s in layer.statistics)
    gamma, beta = (p.value for p in layer.parameters)
    x = normals(3, (4, 3))
    np.testing.assert_allclose(layer.forward(x), gamma * (x - mean) / np.sqrt(variance + 0.5) + beta, rtol=1e-12)


def test_nothing_but_a_step_moves_them():
    made = model(dtype="float64")
    made.train_on_batch(X, T)
    before = statistics(made)
    made.predict(X)
    made.evaluate(X, T)
    made.loss_and_gradients(X, T)
    assert gradcheck(made, x=X[:3])
    made.trace(X[:2], T[:2])
    assert same(statistics(made), before)
    made.train_on_batch(X, T)
    assert not same(statistics(made), before)


def test_a_step_that_is_not_finite_moves_nothing():
    made = model()
    made.train_on_batch(X, T)
    kept = made.get_weights()
    made.layers[-2].parameters[0].value = np.full((3, 1), 3e38)
    with pytest.raises(NonFiniteError, match="layer 'dense_2': the first whose output"):
        made.train_on_batch(X, T)
    assert same(statistics(made), [kept[i] for i in (4, 5, 10, 11)])
    made.set_weights(kept)
    with pytest.raises(NonFiniteError, match="layer 'norm': its moving_variance would hold NaN or infinity"):
        made.train_on_batch(X * 1e30, T)                # a finite loss, and a variance that float32 cannot hold
    assert same(made.get_weights(), kept)


def test_a_batch_with_one_number_in_a_channel_is_refused():
    made = Sequential([Dense(3), BatchNormalization(name="norm"), Dense(1), Sigmoid()], (4,))
    made.compile(SGD(), "binary_crossentropy")
    with pytest.raises(InputError, match=r"BatchNormalization 'norm': .* more than one number in each channel, and "
                                         r"this is one sample, \(3,\).* batch_size .* steps_per_epoch"):
        made.fit(np.ones((5, 4)), [0, 1, 0, 1, 0], batch_size=2, progress=False)
    assert made.predict(np.ones((1, 4))).shape == (1, 1)
    images = while_training(BatchNormalization())
    images.build((2, 1, 3))
    assert images.forward(normals(0, (1, 2, 1, 3))).shape == (1, 2, 1, 3)           # two pixels are enough


@each_engine
def test_frozen_it_takes_its_moving_statistics_and_leaves_them(engine):
    frozen = built(lambda: while_training(BatchNormalization()), (4, 4, 3), np.float64, engine)
    asked = built(BatchNormalization, (4, 4, 3), np.float64, engine)
    frozen.trainable = False
    for got, expected in zip(passed(frozen, *batch(frozen, 3)), passed(asked, *batch(asked, 3)), strict=True):
        assert_same_bits(got, expected)
    assert frozen.moved() == []


def test_weights_have_the_order_of_keras():
    made = model()
    assert [(w.shape, name) for w, name in zip(made.get_weights(), made.network.named_weights())][:6] == [
        ((3, 3, 2, 4), "conv/kernel"), ((4,), "conv/bias"), ((4,), "norm/gamma"), ((4,), "norm/beta"),
        ((4,), "norm/moving_mean"), ((4,), "norm/moving_variance")]
    given = [normals(i, w.shape) ** 2 for i, w in enumerate(made.get_weights())]
    made.set_weights(given)
    for got, expected in zip(made.get_weights(), given):
        np.testing.assert_allclose(got, expected, rtol=1e-6)
    assert made.layers[1].statistics[1].value.tobytes() == made.get_weights()[5].tobytes()
    with pytest.raises(ShapeError, match="expected 14 arrays, got 10"):
        made.set_weights([w for w, name in zip(given, made.network.named_weights()) if "moving" not in name])
    # No optimizer has moments for them, and no gradient is of them.
    assert len(made.loss_and_gradients(X, T)[1]) == 10 and len(made.network.named_parameters()) == 10


def test_a_model_file_keeps_them(tmp_path):
    made = model()
    for _ in range(3):
        made.train_on_batch(X, T)
    made.save(tmp_path / "a.safetensors")
    again = Sequential.load(tmp_path / "a.safetensors")
    again.save(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert same(again.get_weights(), made.get_weights())
    assert_same_bits(again.predict(X), made.predict(X))
    for other in (again, copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert other.train_on_batch(X, T) == model_after(made, other)
    other = model()
    other.load_weights(tmp_path / "a.safetensors")
    assert_same_bits(other.predict(X), made.predict(X))


def model_after(made, other):
    """The loss of the same step on a copy of `made`; both then have the same weights."""
    trained = copy.deepcopy(made)
    loss = trained.train_on_batch(X, T)
    assert same(trained.get_weights(), other.get_weights())
    return loss


@pytest.mark.parametrize("change, sentence", [
    (lambda tensors: tensors.pop("norm/moving_mean"), "norm/moving_mean of shape"),
    (lambda tensors: tensors.update({"norm/moving_mean": np.zeros(5, np.float32)}), "norm/moving_mean of shape"),
    (lambda tensors: tensors["norm/moving_variance"].__setitem__(2, -1), "norm/moving_variance .* cannot be negative"),
    (lambda tensors: tensors.update({"conv/moving_mean": np.zeros(4, np.float32)}), "conv/moving_mean")])
def test_a_file_with_other_statistics_is_refused(change, sentence, tmp_path):
    path = tmp_path / "model.safetensors"
    model().save(path)
    tensors, metadata = weights.load(path)
    change(tensors)
    weights.save(path, tensors, metadata)
    with pytest.raises(WeightsError, match=sentence):
        Sequential.load(path)


def test_a_variance_below_zero_is_refused_where_it_would_be_used():
    made = model()
    arrays = made.get_weights()
    arrays[5][1] = -0.25
    made.set_weights(arrays)
    with pytest.raises(InputError, match="BatchNormalization 'norm': its moving_variance holds -0.25"):
        made.predict(X)




def test_resumed_in_the_middle_of_an_epoch_or_after_one_the_bytes_are_those_of_one_run(tmp_path, monkeypatch):
    settings = dict(validation=(X[:4], T[:4]), batch_size=3, progress=False, workers=0)
    model().fit(X, T, run=tmp_path / "whole", epochs=4, **settings)
    model().fit(X, T, run=tmp_path / "parts", epochs=2, **settings)
    with interrupted_after(2, monkeypatch):
        model().fit(X, T, run=tmp_path / "parts", resume=True, epochs=4, **settings)
    assert Sequential.load(tmp_path / "parts" / "last.safetensors").position.batch == 2
    model().fit(X, T, run=tmp_path / "parts", resume=True, epochs=4, **settings)
    for name in ("last", "previous", "best"):
        assert (tmp_path / "whole" / f"{name}.safetensors").read_bytes() == \
            (tmp_path / "parts" / f"{name}.safetensors").read_bytes(), name


def test_threads_change_no_bit_of_a_training(same_threads):
    results = []
    x, t = normals(0, (40, 16, 16, 2)), np.arange(40) % 2
    for count in (1, 2, 3, 4):
        set_thread_count(count)
        made = Sequential([Conv2D(9, 3), BatchNormalization(), ReLU(), Conv2D(5, 3), LayerNormalization(), ReLU(),
                           Flatten(), Dense(1), Sigmoid()], (16, 16, 2), seed=1)
        made.compile(Adam(), "binary_crossentropy")
        for _ in range(2):
            made.train_on_batch(x, t)
        results.append(b"".join(w.tobytes() for w in made.get_weights()))
    assert results.count(results[0]) == 4


def test_what_is_predicted_of_a_sample_depends_on_no_other():
    made = model()
    for _ in range(3):
        made.train_on_batch(X, T)
    whole = made.predict(X)
    for i in range(len(X)):
        assert_same_bits(made.predict(X[i:i + 1]), whole[i:i + 1])
    assert_same_bits(made.predict(X[::-1]), whole[::-1])
    assert_same_bits(made.predict(X, batch_size=2), whole)


def test_callbacks_restore_and_average_them():
    made = model()
    stop = EarlyStopping(monitor="loss", patience=1, min_delta=1e9)             # the first epoch is the best
    kept = []

    class Keep(type(stop).__mro__[1]):
        def on_epoch_end(self, model, epoch, metrics):
            kept.append(model.get_weights())
    made.fit(X, T, epochs=3, batch_size=5, callbacks=[Keep(), stop], progress=False)
    assert same(made.get_weights(), kept[0]) and not same(kept[0], kept[1])
    kept.clear()
    made.fit(X, T, epochs=2, batch_size=5, callbacks=[Keep(), WeightAverage(0.5)], progress=False)
    for got, one, other in zip(made.get_weights(), *kept):
        np.testing.assert_allclose(got, one + (other - one) * 0.5, rtol=1e-5, atol=1e-7)
    assert all((s >= 0).all() for s in statistics(made)[1::2])


class Holder:
    """A custom layer with two batch normalizations, of which it tells the network the parameters alone."""

    def build(self, shape):
        self.parts = [Conv2D(3, 3), BatchNormalization(center=False), Conv2D(2, 2), BatchNormalization(center=False)]
        for part in self.parts:
            shape = part.build(shape)
        self.parameters = [p for part in self.parts for p in part.parameters]
        for i, parameter in enumerate(self.parameters):
            parameter.name += f"_{i}"
        return shape

    def forward(self, x):
        for part in self.parts:
            x = part.forward(x)
        return x

    def backward(self, dy):
        for part in self.parts[::-1]:
            dy = part.backward(dy)
        return dy


@each_engine
def test_inside_a_custom_layer_statistics_move_and_are_kept(engine, tmp_path):
    def make():
        made = Sequential([Holder(), Flatten(), Dense(1), Sigmoid()], (6, 6, 2), engine=engine, seed=2)
        made.compile(Adam(), "binary_crossentropy")
        return made
    made = make()
    made.fit(X, T, epochs=2, progress=False, run=tmp_path / "run")
    named = made.network.named_weights()
    assert [name for name in named if "moving" in name] == [
        "holder_1/moving_mean", "holder_1/moving_variance", "holder_1/moving_mean.2", "holder_1/moving_variance.2"]
    assert all(named[name].value.any() for name in named if "moving_mean" in name)
    other = make()
    other.load_weights(tmp_path / "run" / "last.safetensors")
    assert same(other.get_weights(), made.get_weights())
    assert_same_bits(other.predict(X), made.predict(X))
    again = make()
    again.fit(X, T, epochs=2, progress=False, run=tmp_path / "run", resume=True)
    assert same(again.get_weights(), made.get_weights()) and gradcheck(made, x=X[:3])


@pytest.mark.parametrize("kind", [BatchNormalization, LayerNormalization])
def test_arguments(kind):
    for arguments, sentence in [({"axis": 1}, "axis must be -1, .* got 1"), ({"axis": True}, "axis must be -1"),
                                ({"axis": None}, "axis must be -1"),
                                ({"epsilon": 0}, r"epsilon must lie in \(0, inf\)"), ({"center": 1}, "center must"),
                                ({"scale": "no"}, "scale must")]:
        with pytest.raises(InputError, match=f"{kind.__name__}: {sentence}"):
            kind(**arguments)
    with pytest.raises(ShapeError, match=r"samples of shape \(C,\) or \(H, W, C\)"):
        kind().build(())
    layer = kind(-1, epsilon=0.01)
    assert layer.epsilon == 0.01 and kind(**{key: value for key, value in layer.config().items() if key != "type"})
    with pytest.raises(InputError, match="epsilon cannot be changed once the layer is made"):
        layer.epsilon = 0.1


def test_momentum_lies_below_one():
    for momentum in (1, -0.1, "0.9"):
        with pytest.raises(InputError, match=r"BatchNormalization: momentum must lie in \[0, 1\)"):
            BatchNormalization(momentum=momentum)
    with pytest.raises(TypeError):
        LayerNormalization(momentum=0.9)


def test_momentum_may_be_changed_within_its_range():
    layer = BatchNormalization()
    layer.momentum = 0.5
    assert layer.momentum == 0.5 and layer.config()["momentum"] == 0.5
    with pytest.raises(InputError, match="momentum must lie"):
        layer.momentum = 1
    layer.build((2,)), setattr(layer, "training", True)
    layer.forward(np.array([[1, 2], [3, 4]], np.float32))
    (_, mean), _ = layer.moved()
    assert mean.tolist() == [1, 1.5]


@pytest.mark.parametrize("engine", ENGINES)
def test_it_may_be_the_first_layer_and_is_not_asked_for_the_gradient_of_the_pixels(engine):
    made = Sequential([BatchNormalization(), Flatten(), Dense(1), Sigmoid()], (6, 6, 2), engine=engine, dtype="float64")
    assert gradcheck(made, x=X[:3]) and not made.layers[0].needs_input_gradient
    bare = Sequential([BatchNormalization(center=False, scale=False), Flatten(), Dense(1), Sigmoid()], (6, 6, 2),
                      engine=engine, dtype="float64")
    assert gradcheck(bare, x=X[:3])
    bare.compile(SGD(0.1), "binary_crossentropy")
    bare.fit(X, T, epochs=2, progress=False)
    assert statistics(bare)[0].any()
