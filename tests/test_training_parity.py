"""Parity of what training has beyond COV-19Net's with frozen vectors of Keras (vectors/make_keras.py): RMSprop, AMSGrad,
clipped gradients, label smoothing, L2 and frozen layers."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import minicnn
from minicnn import L2, Adam, Sigmoid
from minicnn.core.backend import ENGINES, get_engine
from minicnn.core.parameter import Parameter
from minicnn.losses import get_loss
from tests.test_parity import assert_near, make_model
from tests.vectors import cases

FROZEN = load_file(Path(__file__).with_name("vectors") / "keras_training.safetensors")
each_engine = pytest.mark.parametrize("engine", ENGINES)


@each_engine
@pytest.mark.parametrize("name", cases.FURTHER_OPTIMIZERS)
def test_optimizers_on_frozen_gradients(name, engine):
    kind, arguments = cases.FURTHER_OPTIMIZERS[name]
    optimizer = getattr(minicnn, kind)(**arguments)
    parameters = [Parameter("w", half) for half in np.split(cases.optimizer_start(), 2)]
    for gradient, expected in zip(cases.optimizer_gradients(), FROZEN[f"optimizer/{name}/float32"], strict=True):
        for parameter, half in zip(parameters, np.split(gradient.astype(np.float32), 2)):
            parameter.grad = half
        optimizer.step(get_engine(engine), parameters)
        ours = np.concatenate([parameter.value for parameter in parameters])
        # The first half starts at 0 and is the sum of the updates; Keras' powers of beta are float32 (test_parity.py).
        np.testing.assert_allclose(ours[:160], expected[:160], rtol=2e-5, atol=1e-12)
        np.testing.assert_allclose(ours[160:], expected[160:], rtol=1e-5, atol=1e-6)


@each_engine
@pytest.mark.parametrize("name", ["binary_crossentropy", "categorical_crossentropy"])
def test_smoothed_losses(name, engine):
    z, t = cases.smoothed_logits(name)
    loss = get_loss(f"{name}(smoothing={cases.LABEL_SMOOTHING})")
    losses, dz = np.empty(len(z)), np.empty_like(z)
    value = loss(get_engine(engine), z, loss.smoothed(t), None, losses, dz)
    assert value == pytest.approx(FROZEN[f"smoothed_{name}/float32/loss"].item(), rel=1e-6)
    assert_near(dz, FROZEN[f"smoothed_{name}/float32/dz"], 1e-6)


@each_engine
@pytest.mark.parametrize("frozen", [False, True])
def test_three_steps_with_l2_and_a_frozen_layer(frozen, engine):
    """Reported losses hold the penalty of what is trained; a frozen layer stays to the bit."""
    model = make_model("small", "float32", engine, head=[Sigmoid()])
    for parameter in model.network.parameters:
        parameter.regularizer = L2(cases.L2) if parameter.name == "kernel" else None
    model.layers[0].trainable = not frozen
    model.compile(Adam(cases.LEARNING_RATE), "binary_crossentropy")
    key = f"l2_frozen_{frozen}/float32"
    for step, expected in enumerate(FROZEN[f"{key}/losses"]):
        assert model.train_on_batch(*cases.batch("small", step)) == pytest.approx(expected, rel=1e-5)
    assert model.test_on_batch(*cases.batch("small", 0)) == pytest.approx(FROZEN[f"{key}/tested"].item(), rel=1e-5)
    for index, (value, before) in enumerate(zip(model.get_weights(), cases.weights("small"), strict=True)):
        after = FROZEN[f"{key}/{index}"]
        assert (np.abs(cases.sampled(value) - after) <= 2e-5).mean() >= 0.999, f"parameter {index}"
        assert (value == before).all() == (frozen and index < 2)
