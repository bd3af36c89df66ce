"""Networks of several inputs and outputs: one row in, one row out, and a loss with a weight for each output."""

import copy
import pickle

import numpy as np
import pytest

from minicnn import (SGD, Add, Concatenate, Conv2D, Dense, EarlyStopping, Flatten, GlobalAveragePooling2D, Input, InputError,
                     MaxPool2D, Model, ReLU, ShapeError, Sigmoid, Softmax, check_determinism, gradcheck, load_model)
from minicnn.core.backend import ENGINES
from minicnn.evaluation import explain
from minicnn.layers import Outputs

each_engine = pytest.mark.parametrize("engine", ENGINES)
RNG = np.random.default_rng(0)
X, AGES = RNG.random((12, 8, 8, 2)).astype(np.float32), RNG.random((12, 3)).astype(np.float32)
COVID, KIND, SIZE = np.arange(12) % 2, np.arange(12) % 3, RNG.random((12, 2))
LOSSES = {"covid": "binary_crossentropy", "kind": "categorical_crossentropy", "size": "mse"}


def stopping():
    return EarlyStopping("val_kind_loss", patience=9, restore_best_weights=False)


def trunk(x):
    return MaxPool2D()(Conv2D(4, 3, padding="same", activation="relu")(x))


def of_two(engine="fast", compiled=True, weights=(1, 0.5), dtype="float32"):
    """A network with one input and two outputs: of the whole trunk, and of its first layers."""
    x = Input((8, 8, 2))
    y = trunk(x)
    covid = Sigmoid()(Dense(1, name="covid_logit")(Flatten()(y)))
    kind = Dense(3, activation="softmax", name="kind")(GlobalAveragePooling2D()(Add()([y, Conv2D(4, 3, padding="same")(y)])))
    model = Model(x, [covid, kind], seed=3, engine=engine, dtype=dtype)
    if compiled:
        model.compile(SGD(0.1), ["binary_crossentropy", "categorical_crossentropy"], loss_weights=list(weights))
    return model


def of_all(engine="fast", compiled=True, dtype="float32"):
    """A network with two inputs and three outputs, of which one has no classes, and one is taken by a layer too."""
    image, age = Input((8, 8, 2), name="image"), Input((3,), name="age")
    features = Concatenate()([Flatten()(trunk(image)), Dense(4, activation="relu")(age)])
    size = Dense(2, name="size")(features)
    covid = Dense(1, activation="sigmoid", name="covid")(Concatenate()([features, size]))
    model = Model([image, age], [covid, Dense(3, activation="softmax", name="kind")(features), size], seed=5, engine=engine,
                  dtype=dtype)
    if compiled:
        model.compile("adam", LOSSES, loss_weights={"covid": 1, "kind": 0.3, "size": 2}, metrics=["accuracy"])
    return model


@each_engine
def test_the_loss_is_the_weighted_sum_and_so_is_its_gradient(engine):
    """Each output alone, of the same weights, has a loss and gradients; those of the whole are their weighted sum."""
    whole = of_two(engine, weights=(0.7, 0.2), dtype="float64")
    loss, gradients = whole.loss_and_gradients(X, [COVID, KIND])
    losses, sums = [], [np.zeros_like(gradient) for gradient in gradients]
    for weights in ((1, 0), (0, 1)):
        alone = of_two(engine, weights=weights, dtype="float64")
        value, parts = alone.loss_and_gradients(X, [COVID, KIND])
        losses.append(value)
        share = (0.7, 0.2)[weights.index(1)]
        sums = [total + share * part for total, part in zip(sums, parts)]
    p, q = whole.predict(X)
    assert np.allclose(losses, [-np.log(np.where(COVID[:, None] == 1, p, 1 - p)).mean(),
                                -np.log(q[np.arange(12), KIND]).mean()], rtol=1e-12)
    assert np.isclose(loss, 0.7 * losses[0] + 0.2 * losses[1], rtol=1e-13)
    for gradient, total in zip(gradients, sums):
        assert np.allclose(gradient, total, rtol=1e-12, atol=1e-15)


@each_engine
@pytest.mark.parametrize("make", [of_two, of_all])
def test_gradcheck_and_determinism(make, engine):
    assert (report := gradcheck(make(engine, compiled=False))), report      # a loss is found for each output
    assert (report := gradcheck(make(engine))), report
    assert (report := check_determinism(lambda: make(engine))), report


def test_a_wrong_gradient_is_found(monkeypatch):
    backward = Outputs.backward
    monkeypatch.setattr(Outputs, "backward", lambda self, dy: [2 * part if part.shape[1:] == (3,) else part
                                                               for part in backward(self, dy)])
    report = gradcheck(of_two(dtype="float64"))
    assert not report and "outputs_1" in str(report)


@each_engine
def test_lists_and_dicts_are_the_same(engine):
    listed, named = of_all(engine), of_all(engine)
    one = listed.fit([X, AGES], [COVID, KIND, SIZE], epochs=2, batch_size=5, progress=False)
    other = named.fit({"age": AGES, "image": X}, {"size": SIZE, "covid": COVID, "kind": KIND}, epochs=2, batch_size=5, verbose=0)
    assert one.history == other.history and list(one.history) == ["loss", "covid_loss", "kind_loss", "size_loss",
                                                                  "covid_accuracy", "kind_accuracy"]
    for a, b in zip(listed.predict([X, AGES]), named.predict({"image": X, "age": AGES}), strict=True):
        assert np.array_equal(a, b)
    measured = listed.evaluate([X, AGES], [COVID, KIND, SIZE], batch_size=7)
    covid, kind, size = listed.predict([X, AGES])
    assert measured["covid_accuracy"] == ((covid[:, 0] > 0.5) == COVID).mean()
    assert measured["kind_accuracy"] == (kind.argmax(1) == KIND).mean()
    assert np.isclose(measured["size_loss"], np.square(size - SIZE).mean(), rtol=1e-5)
    assert np.isclose(measured["loss"], measured["covid_loss"] + 0.3 * measured["kind_loss"] + 2 * measured["size_loss"])
    assert listed.evaluate([X, AGES], [COVID, KIND, SIZE], return_dict=False) == \
        [measured[name] for name in one.history]
    assert listed.train_on_batch([X, AGES], [COVID, KIND, SIZE], return_dict=True).keys() == one.history.keys()
    assert isinstance(listed.test_on_batch([X, AGES], [COVID, KIND, SIZE]), float)


def test_uint8_images_are_divided_and_generators_give_lists():
    model, pixels = of_all(), (X * 255).astype(np.uint8)
    whole = model.predict([pixels, AGES])
    for a, b in zip(whole, model.predict([pixels.astype(np.float32) / 255, AGES])):
        assert np.array_equal(a, b)
    batches = [([X[i:i + 4], AGES[i:i + 4]], [COVID[i:i + 4], KIND[i:i + 4], SIZE[i:i + 4]]) for i in range(0, 12, 4)]

    class Sequence:
        def __len__(self):
            return 3

        def __getitem__(self, i):
            return batches[i]
    history = model.fit(Sequence(), epochs=2, validation_data=Sequence(), progress=False).history
    assert len(history["val_covid_accuracy"]) == 2
    assert model.evaluate(Sequence()) == model.evaluate([X, AGES], [COVID, KIND, SIZE])
    assert np.array_equal(model.predict(Sequence())[1], model.predict([X, AGES])[1])


@each_engine
def test_saved_loaded_copied_and_resumed_to_the_byte(engine, tmp_path):
    def data():
        return dict(x=[X, AGES], y=[COVID, KIND, SIZE], batch_size=4, validation_split=0.34, progress=False)
    straight = of_all(engine)
    straight.fit(**data(), epochs=4, run=tmp_path / "straight", callbacks=stopping())
    part = of_all(engine)
    part.fit(**data(), epochs=2, run=tmp_path / "part", callbacks=stopping())
    again = of_all(engine)
    again.fit(**data(), epochs=4, run=tmp_path / "part", resume=True, callbacks=stopping())
    assert (tmp_path / "straight/last.safetensors").read_bytes() == (tmp_path / "part/last.safetensors").read_bytes()
    loaded = load_model(tmp_path / "part/last.safetensors", engine=engine)
    assert loaded.input_names == ("image", "age") and loaded.output_names == ("covid", "kind", "size")
    assert loaded.loss.weights == [1.0, 0.3, 2.0] and loaded.metrics == ["covid_accuracy", "kind_accuracy"]
    for other in (loaded, copy.deepcopy(loaded), pickle.loads(pickle.dumps(loaded))):
        for a, b in zip(other.predict([X, AGES]), straight.predict([X, AGES]), strict=True):
            assert np.array_equal(a, b)
        assert other.train_on_batch([X, AGES], [COVID, KIND, SIZE]) == copy.deepcopy(straight).train_on_batch(
            [X, AGES], [COVID, KIND, SIZE])
    other = of_all(engine)
    other.compile("adam", LOSSES, metrics=["accuracy"])
    with pytest.raises(InputError, match="loss weights"):
        other.fit(**data(), epochs=5, run=tmp_path / "part", resume=True)


def test_in_the_middle_of_an_epoch(tmp_path):
    """A signal ends training between two batches; the sums of each loss go on from the file."""
    from minicnn.core import signals
    straight = of_two()
    straight.fit(X, [COVID, KIND], batch_size=2, progress=False)
    cut, count = of_two(), [0]

    def after_three():
        count[0] += 1
        if count[0] == 3:
            raise signals.Interrupted(2, "")
    cut._trainer.between_batches = after_three
    with pytest.raises(signals.Interrupted):
        cut.fit(X, [COVID, KIND], batch_size=2, run=tmp_path, progress=False)
    resumed = of_two()
    resumed.fit(X, [COVID, KIND], batch_size=2, run=tmp_path, resume=True, progress=False)
    assert resumed.history == straight.history


def test_a_model_of_several_ends_is_a_block():
    head = of_two(compiled=False)
    x = Input((8, 8, 2))
    covid, kind = head(x)
    model = Model(x, [Dense(2)(Concatenate()([covid, kind])), kind], seed=3)
    assert model.output_names == ("dense_1", "model_1/kind")
    assert [y.shape for y in model.predict(X)] == [(12, 2), (12, 3)]
    both = of_all(compiled=False)
    image, age = Input((8, 8, 2)), Input((3,))
    assert len(both([image, age])) == len(both({"age": age, "image": image})) == 3


def test_what_is_seen_of_it():
    model = of_all()
    assert model.input_shape == [(8, 8, 2), (3,)] and model.output_shape == [(1,), (3,), (2,)]
    assert "8 x 8 x 2 and 3 to 1 and 3 and 2" in repr(model)
    text = model.summary_text(plan=True)
    assert "InputLayer" in text and "covid_activation, kind_activation, size" in text
    traced = model.trace([X[:1], AGES[:1]], [COVID[:1], KIND[:1], SIZE[:1]])
    assert "outputs_1" in str(traced)
    traced = of_two().trace(X[:1])
    assert all(hand.agrees for layer in traced.layers if layer.kind for hand in [layer.by_hand()])


@pytest.mark.parametrize("method", ["gradcam", "hirescam", "occlusion"])
def test_one_output_is_explained(method):
    """The map of one output is that of a network which has no other."""
    both = of_two()
    x = Input((8, 8, 2))
    y = trunk(x)
    alone = Model(x, Sigmoid()(Dense(1, name="covid_logit")(Flatten()(y))))
    names = list(alone.network.named_weights())
    alone.set_weights([both.network.named_weights()[name].value for name in names])
    layer = None if method == "occlusion" else "conv2d_1"
    ours, theirs = explain(both, X, method, layer, output="sigmoid_1"), explain(alone, X, method, layer)
    assert np.array_equal(ours.maps, theirs.maps) and np.array_equal(ours.probabilities, theirs.probabilities)
    kind = explain(both, X, method, output="kind", target=2)
    assert kind.maps.shape == (12, 8, 8) and kind.names == ["class 2"] * 12
    with pytest.raises(InputError, match="output must be one of sigmoid_1, kind"):
        explain(both, X, method)


@pytest.mark.parametrize("act, error, facts", [
    (lambda m: m.compile("sgd", {"covid": "mse"}), InputError, ["got none for kind, size"]),
    (lambda m: m.compile("sgd", LOSSES | {"sizes": "mse"}), InputError, ["'sizes'", "Did you mean 'size'?"]),
    (lambda m: m.compile("sgd", ["mse"] * 2), InputError, ["covid, kind, size", "got 2"]),
    (lambda m: m.compile("sgd", "binary_crossentropy"), InputError, ["Sigmoid()", "'kind_activation'"]),
    (lambda m: m.compile("sgd", LOSSES, loss_weights=[1, -1, 1]), InputError, ["loss_weights: kind", "-1"]),
    (lambda m: m.compile("sgd", LOSSES, metrics=["auk"]), InputError, ["'auk'", "auc"]),
    (lambda m: m.compile("sgd", LOSSES, metrics={"size": "auc"}), InputError, ["size_auc"]),
    (lambda m: m.fit([X], [COVID, KIND, SIZE]), InputError, ["arrays x", "image, age", "got 1"]),
    (lambda m: m.fit(X, [COVID, KIND, SIZE]), InputError, ["arrays x", "one ndarray"]),
    (lambda m: m.fit([AGES, X], [COVID, KIND, SIZE]), ShapeError, ["input 'image'", "(N, 8, 8, 2)"]),
    (lambda m: m.fit([X, AGES[:5]], [COVID, KIND, SIZE]), ShapeError, ["12, 5"]),
    (lambda m: m.fit([X, AGES], COVID), InputError, ["targets", "one ndarray"]),
    (lambda m: m.fit([X, AGES], [COVID, KIND[:5], SIZE]), ShapeError, ["output 'kind'", "12 samples, but 5"]),
    (lambda m: m.fit([X, AGES], [COVID, KIND + 7, SIZE]), InputError, ["output 'kind'", "0 to 2"]),
    (lambda m: m.fit([X, AGES], [COVID, KIND, SIZE], class_weight="balanced"), InputError, ["class_weight", "loss_weights"]),
    (lambda m: m.predict(X), InputError, ["arrays x"]),
    (lambda m: m.predict({"image": X, "ages": AGES}), InputError, ["'ages'", "Did you mean 'age'?"]),
])
def test_errors_name_inputs_and_outputs(act, error, facts):
    with pytest.raises(error) as raised:
        act(of_all())
    assert all(fact in str(raised.value) for fact in facts), raised.value


def test_a_loss_is_not_folded_into_an_activation_that_a_layer_takes_too():
    x = Input((4,))
    covid = Dense(1, activation="sigmoid", name="covid")(x)
    model = Model(x, [covid, Softmax()(Dense(2)(covid))])
    with pytest.raises(InputError, match="'covid_activation'.*another layer takes"):
        model.compile("sgd", ["binary_crossentropy", "categorical_crossentropy"])
    assert (report := gradcheck(model)), report         # not compiled: the loss that fits does not fold it either
    assert model.trace(np.ones((1, 4))).layers[2].x[0, 0] == model.predict(np.ones((1, 4)))[0][0, 0]
    model.compile("sgd", ["mse", "categorical_crossentropy"])
    assert gradcheck(model)


def test_metrics_of_two_outputs_have_two_names():
    x = Input((4,))
    model = Model(x, [Dense(1, name="a-b")(x), Dense(1, name="a_b")(x)])
    with pytest.raises(InputError, match="a_b, a_b"):
        model.compile("sgd", "mse")


def test_a_model_of_one_output_has_none_to_choose():
    x = Input((8, 8, 2))
    model = Model(x, Sigmoid()(Dense(1)(Flatten()(Conv2D(2, 3)(x)))))
    with pytest.raises(InputError, match="one output; leave output='covid' out"):
        explain(model, X, output="covid")


def test_weights_of_samples_count_in_each_loss():
    model, rows = of_two(), np.array([0, 3, 5])
    weights = np.isin(np.arange(12), rows) * 1.0
    of_some = model.test_on_batch(X[rows], [COVID[rows], KIND[rows]])
    assert np.isclose(model.test_on_batch(X, [COVID, KIND], sample_weight=weights) * 12 / 3, of_some, rtol=1e-6)


def test_relu_may_be_an_output_as_well_as_a_part():
    x = Input((8, 8, 2))
    y = ReLU()(Conv2D(3, 3)(x))
    model = Model(x, [y, Dense(1)(Flatten()(y))])
    model.compile("sgd", "mse")
    assert [part.shape for part in model.predict(X)] == [(12, 6, 6, 3), (12, 1)]
    assert (report := gradcheck(model)), report


def test_its_layers_are_drawn(tmp_path):
    from minicnn.plotting import network
    blocks = network.blocks_of(of_all())
    assert [block["name"] for block in blocks if not block["follows"]] == ["input", "age", "conv2d_1", "dense_1", "concatenate_1",
                                                                           "concatenate_2", "kind", "outputs_1"]
    network.architecture(of_all(), tmp_path / "layers.png")
    assert (tmp_path / "layers.png").stat().st_size > 5000
