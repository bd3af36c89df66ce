"""Layers of capsules in networks and in ONNX, what they refuse, and the margin loss's targets and metrics."""

import numpy as np
import pytest

from minicnn import Adam, CapsuleLength, Capsules, Conv2D, InputError, Model, ReLU, Reshape, Sequential, ShapeError, gradcheck
from minicnn.core.backend import ENGINES
from minicnn.gradient_check.subjects import loss_of
from minicnn.kernels.runtime import threads
from minicnn.losses import get_loss
from tests.support.laws import assert_same_bits
from tests.support.strategies import normals


def a_model(engine="fast", dtype="float32"):
    """Return a model whose lengths are neither 0 nor 1: 16 pixels of 6 channels, then capsules."""
    model = Sequential([Conv2D(6, 3), ReLU(), Reshape((-1, 6)), Capsules(5, 4), Capsules(3, 4), CapsuleLength()], (6, 6, 2), seed=5,
                       engine=engine, dtype=dtype)
    model.set_weights([3 * weight for weight in model.get_weights()])
    model.compile(Adam(1e-2), "margin")
    return model


def samples(n=9):
    x = normals(0, (n, 6, 6, 2), np.float32)
    return x, np.arange(n) % 3


def test_engines_agree_in_a_network_also_when_it_is_replayed():
    x, _ = samples()
    fast, slow = a_model(), a_model("reference")
    for _ in range(5):                                  # recorded, then replayed
        np.testing.assert_allclose(fast.predict(x), slow.predict(x), rtol=1e-4)
    weights = fast.get_weights()
    weights[2] *= np.float32(0.5)                       # a replay sees other weights
    fast.set_weights(weights)
    slow.set_weights(weights)
    np.testing.assert_allclose(fast.predict(x), slow.predict(x), rtol=1e-4)
    assert 0.05 < slow.predict(x).max() < 1


@pytest.mark.parametrize("engine", ENGINES)
def test_gradcheck_of_a_network(engine):
    assert (report := gradcheck(a_model(engine), limit=100)), report


def test_gradcheck_finds_the_loss_of_lengths():
    model = Sequential([Capsules(2, 3), CapsuleLength()], (4, 3))
    assert loss_of(model.network).name == "margin" and gradcheck(model)


def test_threads_decide_no_bit(same_threads):
    x, t = samples(4)
    found = []
    for count in (1, 2, 3):
        threads.set_thread_count(count)
        model = a_model()
        model.fit(x, t, epochs=2, batch_size=3, progress=False)
        found.append(model.get_weights())
    for other in found[1:]:
        for one, another in zip(found[0], other, strict=True):
            assert_same_bits(one, another)


def test_training_and_what_is_measured(tmp_path):
    x, t = samples()
    model = a_model()
    rows = model.fit(x, t, epochs=30, validation=(x, np.eye(3)[t]), batch_size=4, progress=False, class_weight={0: 2.0}).rows
    assert rows[-1]["loss"] < rows[0]["loss"] and set(rows[0]) == {"epoch", "loss", "accuracy", "val_loss", "val_accuracy", "val_auc"}
    right = (model.predict(x).argmax(axis=1) == t).mean()
    assert model.evaluate(x, t)["accuracy"] == rows[-1]["val_accuracy"] == right > 0.5
    assert model.train_on_batch(x, t, return_dict=True)["accuracy"] == right
    model.save(tmp_path / "model.safetensors")
    again = Model.load(tmp_path / "model.safetensors")
    assert_same_bits(again.predict(x), model.predict(x))
    assert again.loss.name == "margin" and [repr(layer) for layer in again.layers] == [repr(layer) for layer in model.layers]


def test_accuracy_in_training_is_that_of_the_outputs_before_each_step():
    """Backward writes where the last layer's output was, and no head makes another array of it."""
    x, t = samples(8)
    model = a_model()
    expected = [(model.predict(x[i:i + 4]).argmax(axis=1) == t[i:i + 4]).mean() for i in (0, 4)]
    model.optimizer.learning_rate = 1e-12
    assert model.fit(x, t, batch_size=4, shuffle=False, progress=False).rows[0]["accuracy"] == np.mean(expected)


def test_metrics_are_of_shares():
    loss, t = get_loss("margin"), np.eye(2)[[0, 1, 1, 0]]
    lengths = np.array([[0.9, 0.2], [0.3, 0.9], [0.2, 0.1], [0.0, 0.0]], np.float32)
    found = loss.describe(lengths, t, loss=0.25)
    assert (found["accuracy"], found["recall"], found["specificity"], found["loss"]) == (0.75, 0.5, 1, 0.25)
    three = loss.describe(np.hstack([lengths, lengths[:, :1] / 2]), np.eye(3)[[0, 1, 2, 0]], loss=0.25)
    assert three["accuracy"] == 0.75 and loss.share_right(lengths, t) == 0.75


def test_the_same_in_onnx(tmp_path):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    from minicnn.interop import onnx
    model, (x, _) = a_model(), samples(3)
    onnx.save(model, tmp_path / "model.onnx")
    session = runtime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    got, = session.run(None, {"input": x})
    np.testing.assert_allclose(got, model.predict(x), rtol=1e-5)


def test_what_keras_and_pytorch_do_not_have(tmp_path):
    from minicnn.interop import keras, pytorch
    for save, name in ((keras.save, "model.keras"), (pytorch.save, "model.py")):
        with pytest.raises(InputError, match=r"(?s)Capsules 'capsules_1'.*CapsuleLength 'capsule_length_1'"):
            save(a_model(), tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("make, error, sentence", [
    (lambda: Capsules(0, 4), InputError, "Capsules: count must"), (lambda: Capsules(2, 1.5), InputError, "Capsules: size must"),
    (lambda: Capsules(2, 4, routings=0), InputError, "Capsules: routings must"),
    (lambda: Capsules(2, 4).build((6, 6, 2)), ShapeError, r"Capsules: expected capsules, .* got inputs of shape \(6, 6, 2\). Put a Reshape"),
    (lambda: CapsuleLength().build((6,)), ShapeError, r"CapsuleLength: expected capsules, .* got inputs of shape \(6,\)")])
def test_what_cannot_be_used_is_said(make, error, sentence):
    with pytest.raises(error, match=sentence):
        make()
