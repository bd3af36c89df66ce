"""Custom layers that hold layers: they are named, seeded, told, collected, saved, checked and frozen."""

import numpy as np
import pytest

from minicnn import (Adam, BatchNormalization, Conv2D, Dense, Dropout, Flatten, InputError, Parameter, ReLU, Sequential,
                     gradcheck)


class Twice:
    """Two convolutions of our own, with batch normalization and dropout between them."""

    def __init__(self, filters=3, rate=0.0):
        self.layers = [Conv2D(filters, 3, padding="same"), BatchNormalization(), Dropout(rate), Conv2D(filters, 3, padding="same")]
        self.training, self.told = False, []

    def build(self, shape):
        for layer in self.layers:
            shape = layer.build(shape)
        return shape

    def forward(self, x):
        self.told.append(self.training)
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, dy):
        for layer in self.layers[::-1]:
            dy = layer.backward(dy)
        return dy


def model(**options):
    return Sequential([Twice(**options), ReLU(), Flatten(), Dense(1)], input_shape=(5, 5, 2), seed=3, dtype="float64")


def data():
    rng = np.random.default_rng(0)
    return rng.random((6, 5, 5, 2)), rng.random(6)


def test_its_layers_are_named_and_begin_with_different_weights():
    made = model()
    names = list(made.network.named_weights())
    assert names[:4] == ["twice_1/conv2d_1/kernel", "twice_1/conv2d_1/bias", "twice_1/batch_normalization_1/gamma",
                         "twice_1/batch_normalization_1/beta"]
    assert "twice_1/conv2d_2/kernel" in names and any("moving_mean" in name for name in names)
    first, second = (made.network.named_weights()[f"twice_1/conv2d_{k}/kernel"].value for k in (1, 2))
    assert first.dtype == np.float64 and not np.array_equal(first[:, :, :2], second[:, :, :2])


def test_they_are_trained_checked_saved_and_frozen(tmp_path):
    made, (x, t) = model(), data()
    assert gradcheck(made, x=x)
    made.compile(Adam(0.01), loss="mean_squared_error")
    before = made.get_weights()
    made.fit(x, t, epochs=1, progress=False)
    assert all(np.any(a != b) for a, b in zip(before, made.get_weights()) if b.shape == (3, 3, 3, 3) or b.ndim == 4)
    made.save(tmp_path / "m.safetensors")
    other = model()
    other.load_weights(tmp_path / "m.safetensors")
    assert np.array_equal(other.predict(x), made.predict(x))
    made.layers[0].trainable = False
    kernel = made.get_weights()[0]
    made.fit(x, t, epochs=1, progress=False)
    assert np.array_equal(kernel, made.get_weights()[0])


def test_it_is_told_whether_it_trains():
    made, (x, t) = model(rate=0.5), data()
    made.compile(Adam(0.01), loss="mean_squared_error")
    layer = made.layers[0]
    made.train_on_batch(x, t)
    made.predict(x)
    assert layer.told == [True, False]


def test_a_second_network_gathers_its_parameters_again():
    layer = Twice()
    for _ in range(2):
        made = Sequential([layer, Flatten()], input_shape=(5, 5, 2), dtype="float64")
        assert list(made.network.named_parameters())[0] == "twice_1/conv2d_1/kernel"
        assert made.network.parameters[0].value is not None and len(made.network.parameters) == 6


def test_layers_that_are_hidden_are_an_error():
    class Hidden(Twice):
        def build(self, shape):
            self.parameters = [Parameter("own", np.ones(1))]
            return super().build(shape)
    with pytest.raises(InputError, match="Conv2D.*self.layers"):
        Sequential([Hidden()], input_shape=(5, 5, 2))
