"""Frozen layers: their features once, the same bits, and no backward pass through them."""

import numpy as np
import pytest

from minicnn import (Adam, BatchNormalization, Conv2D, Dense, Dropout, Flatten, GlobalAveragePooling2D, Input, Model, ReLU,
                     Sequential)
from minicnn.data.augmentation import Augmentation
from minicnn.data.manifest import Manifest
from minicnn.data.preprocessing import Preprocessing
from minicnn.errors import NonFiniteError, ShapeError
from minicnn.frozen import FrozenFeatures, frozen_end, frozen_features
from minicnn.layers import Add

ENGINES = ["fast", "reference"]


def graph(engine="fast", dtype="float32", frozen=8):
    """A network with a branch, of whose layers the first are frozen."""
    x = Input((12, 12, 3))
    a = Conv2D(4, 3, padding="same", name="a")(x)
    b = ReLU(name="b_active")(BatchNormalization(name="norm")(Conv2D(4, 3, padding="same", name="b")(a)))
    y = Dropout(0.5, name="inside")(Add(name="sum")([a, b]))
    y = GlobalAveragePooling2D(name="means")(Conv2D(5, 3, name="c")(y))
    y = Dense(1, activation="sigmoid", name="out")(Dropout(0.5, name="drop")(Dense(6, activation="relu", name="hidden")(y)))
    model = Model(x, y, seed=3, engine=engine, dtype=dtype)
    model.compile(Adam(1e-2), "binary_crossentropy")
    rng = np.random.default_rng(1)
    norm = model.get_layer("norm")
    norm.statistics[0].value, norm.statistics[1].value = rng.normal(size=4) * 0.1, rng.uniform(0.1, 0.5, 4)
    for layer in model.layers[:frozen]:
        layer.trainable = False
    return model


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (20, 12, 12), np.uint8)
    manifest = Manifest.from_arrays(pixels, np.arange(20) % 2, ["normal", "covid"])
    return manifest.open(Preprocessing(12, 12, 3))


@pytest.mark.parametrize("frozen, end", [(0, 0), (1, 0), (2, 0), (6, 6), (7, 8), (8, 8), (9, 10), (11, 11)])
def test_where_the_frozen_part_ends(frozen, end):
    """Behind one value alone: inside the branch two are needed, and dropout that is not frozen is drawn anew."""
    model = graph(frozen=frozen)
    assert [layer.name for layer in model.layers][:9] == ["a", "b", "norm", "b_active", "sum", "inside", "c", "means", "hidden"]
    assert frozen_end(model.network) == {1: 1, 2: 1}.get(frozen, end)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training_on_features_gives_the_bits_of_training_on_images(engine, dtype, images):
    whole, behind = (graph(engine, dtype) for _ in range(2))
    features = frozen_features(behind, images)
    assert isinstance(features, FrozenFeatures) and features.begin == 8 and features.shape == (5,)
    for model, data in ((whole, images), (behind, features)):
        model.fit(data, validation=data, epochs=3, batch_size=6, progress=False)
    assert whole.history == behind.history and whole.training_digests.tobytes() == behind.training_digests.tobytes()
    for a, b in zip(whole.get_weights(), behind.get_weights()):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(behind.predict(features), whole.predict(images))
    assert behind.evaluate(features) == whole.evaluate(images)


def test_features_are_computed_once_for_the_same_weights_and_pixels(images, monkeypatch, tmp_path):
    monkeypatch.setenv("MINICNN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("minicnn.data.pixel_cache._kept", {})
    passes, forward = [], type(graph().network).forward
    monkeypatch.setattr("minicnn.network.Network.forward", lambda *arguments, **named: passes.append(1) or forward(*arguments, **named))

    def computed(model, data=images):
        passes.clear()
        frozen_features(model, data)
        return bool(passes)
    assert computed(graph()) and not computed(graph())
    assert not computed(graph()) and len(list((tmp_path / "pixels").glob("features-*"))) == 1
    monkeypatch.setattr("minicnn.data.pixel_cache._kept", {})          # another process
    assert not computed(graph())
    changed = graph()
    changed.layers[0].parameters[0].value[0, 0, 0, 0] += 1
    assert computed(changed)
    moved = graph()
    moved.get_layer("norm").statistics[0].value[0] += 1
    assert computed(moved)
    behind = graph()
    behind.get_layer("hidden").parameters[0].value[...] = 0             # not of the frozen part
    assert not computed(behind)
    assert computed(graph(engine="reference")) and computed(graph(frozen=10))
    assert computed(graph(), images.manifest.subset(np.arange(10)).open(images.preprocessing))
    damaged = next((tmp_path / "pixels").glob("features-*"))
    for file in (tmp_path / "pixels").glob("features-*"):
        file.write_bytes(file.read_bytes()[:-40] + b"\0" * 40)
    monkeypatch.setattr("minicnn.data.pixel_cache._kept", {})
    assert damaged.exists() and computed(graph())


def test_versions_of_the_papers_protocol_have_features_of_their_own(images):
    model = graph()
    plain = frozen_features(model, images)
    training, _ = images.manifest.paper_split(seed=1, preprocessing=images.preprocessing)
    versions = training.open(images.preprocessing)
    features = frozen_features(model, versions)
    assert len(features) == len(versions) > len(plain)
    whole = model.network.forward(versions.batch(np.arange(9)), model.network.rows(8))
    np.testing.assert_array_equal(features.batch(np.arange(9)), whole)


def test_nothing_frozen_or_too_much_of_it_leaves_the_images(images, monkeypatch):
    assert frozen_features(graph(frozen=0), images) is images
    monkeypatch.setattr("minicnn.frozen._MOST_BYTES", 20 * 5 * 4 - 1)
    assert frozen_features(graph(), images) is images


def test_features_of_other_layers_are_told_by_their_shape(images):
    features = frozen_features(graph(frozen=10), images)
    with pytest.raises(ShapeError, match="fit"):
        graph(frozen=8).fit(FrozenFeatures(images, features.batch(np.arange(20)), 8), progress=False)


@pytest.mark.parametrize("engine", ENGINES)
def test_frozen_layers_cost_no_backward_pass_and_keep_their_weights(engine, images, monkeypatch):
    model, went = graph(engine), []
    for layer in model.layers:
        if hasattr(layer, "backward"):
            monkeypatch.setattr(layer, "backward", lambda dy, layer=layer, back=layer.backward: went.append(layer.name) or back(dy))
    model.network._steps = [model.network.single(i) for i in range(len(model.layers))]
    model.compile(Adam(1e-2), "binary_crossentropy")
    before = model.get_weights()
    model.train_on_batch(images.batch(np.arange(8)), images.labels[:8])
    assert set(went) == {"hidden", "hidden_activation", "drop", "out"}
    moved = [name for (name, _), a, b in zip(model.network.weights(), before, model.get_weights()) if not np.array_equal(a, b)]
    assert moved == ["hidden/kernel", "hidden/bias", "out/kernel", "out/bias"]
    _, gradients = model.loss_and_gradients(images.batch(np.arange(8)), images.labels[:8])
    zero = [not gradient.any() for gradient in gradients]
    assert zero == [True] * 8 + [False] * 4


def test_a_frozen_dropout_drops_nothing():
    layer = Dropout(0.5)
    layer.build((4,))
    layer.training, layer.trainable = True, False
    assert layer.forward(np.ones((3, 4))).all()
    layer.trainable = True
    assert not layer.forward(np.ones((30, 4))).all()


def test_unfreezing_goes_on_from_there(images):
    """What was trained behind features trains on as a whole, to the bits of a model that never had features."""
    whole, behind = graph(), graph()
    for model, data in ((whole, images), (behind, frozen_features(behind, images))):
        model.fit(data, epochs=2, batch_size=5, progress=False)
        model.trainable = True
        model.fit(images, epochs=2, batch_size=5, progress=False)
    for a, b in zip(whole.get_weights(), behind.get_weights()):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(behind.layers[0].parameters[0].value, graph().layers[0].parameters[0].value)


def test_what_is_not_finite_is_blamed_on_a_layer_behind_the_features(images):
    model = graph()
    features = frozen_features(model, images)
    model.get_layer("hidden").parameters[1].value[0] = np.inf
    with pytest.raises(NonFiniteError, match="hidden"):
        model.fit(features, progress=False)


def test_augmented_images_are_not_what_features_are_of(images):
    augmented = images.manifest.augment(Augmentation.honest()).open(images.preprocessing)
    model = Sequential([Conv2D(2, 3), Flatten(), Dense(1)], (12, 12, 3))
    model.layers[0].trainable = False
    features = frozen_features(model, augmented)
    np.testing.assert_array_equal(features.batch(np.arange(3), passes=np.zeros(3, np.int64)), features.batch(np.arange(3)))
    np.testing.assert_array_equal(features.batch(np.arange(20)), frozen_features(model, images).batch(np.arange(20)))
