"""The face: Sequential builds, trains, answers, saves; COV-19Net is Table I of the paper."""

import copy
import io
import os
import pickle
import subprocess
import sys
import threading

import numpy as np
import pytest

from minicnn import (ELU, SGD, Adam, AdamW, AveragePooling2D, Conv2D, CSVHistory, Dense, Dropout, DTypeError, EarlyStopping,
                     Flatten, GlobalAveragePooling2D, GlobalMaxPooling2D, InputError, LeakyReLU, LearningRateSchedule,
                     MaxPool2D, MaxPooling2D, NonFiniteError, Parameter, ReLU, Rescaling, Reshape, Sequential, ShapeError,
                     Sigmoid, SiLU, Softmax, Softplus, SpatialDropout2D, Tanh, UpSampling2D, WeightsError, ZeroPadding2D,
                     cov19net, set_thread_count, thread_count)
from minicnn.core.backend import ENGINES
from minicnn.core.random import Stream, uniforms
from minicnn.data import Augmentation, Manifest
from minicnn.data.loader import ArrayDataset


def samples(n=24, side=8, seed=3):
    """Images whose label is whether their left half is brighter, and the labels."""
    x = uniforms(seed, Stream.PHANTOM, 9, 0, n * side * side * 3).reshape(n, side, side, 3).astype(np.float32)
    return x, (x[:, :, :side // 2].mean(axis=(1, 2, 3)) > x[:, :, side // 2:].mean(axis=(1, 2, 3))).astype(int)


def small(seed=7, engine="fast", dtype="float32", optimizer=None, head=None):
    layers = [Conv2D(4, 3), ReLU(), MaxPool2D(2), Flatten(), Dense(8), ReLU()] + (head or [Dense(1), Sigmoid()])
    model = Sequential(layers, input_shape=(8, 8, 3), seed=seed, engine=engine, dtype=dtype)
    loss = "categorical_crossentropy" if isinstance(layers[-1], Softmax) else "binary_crossentropy"
    model.compile(optimizer or Adam(1e-2), loss=loss)
    return model


def same(a, b):
    return all((x == y).all() for x, y in zip(a, b, strict=True))


def test_cov19net_is_table_1_of_the_paper(capsys):
    cov19net(seed=7).summary()
    text = capsys.readouterr().out
    for name, shape, parameters in [("conv2d_1", "62 x 62 x 32", "896"), ("max_pool2d_1", "31 x 31 x 32", "0"),
                                    ("conv2d_2", "29 x 29 x 32", "9,248"), ("max_pool2d_2", "14 x 14 x 32", "0"),
                                    ("conv2d_3", "12 x 12 x 32", "9,248"), ("flatten_1", "4608", "0"),
                                    ("dense_1", "128", "589,952"), ("dense_2", "1", "129")]:
        line = next(line for line in text.splitlines() if line.startswith(name))
        assert f"  {shape}  " in line and parameters in line.split()
    assert "Total parameters: 609,473 (all trainable" in text
    assert "26.2 MFLOP" in text


def test_weights_come_in_keras_order():
    shapes = [w.shape for w in cov19net().get_weights()]
    assert shapes == [(3, 3, 3, 32), (32,), (3, 3, 32, 32), (32,), (3, 3, 32, 32), (32,), (4608, 128), (128,), (128, 1),
                      (1,)]


def test_the_plan_folds_the_head_into_the_loss(capsys):
    small().summary(plan=True)
    assert "sigmoid_1 + loss" in capsys.readouterr().out


@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_it_learns(engine):
    x, t = samples(64)
    model = small(engine=engine)
    history = model.fit(x, t, validation=(x, t), epochs=40, batch_size=16, progress=False)
    assert history.epochs == list(range(1, 41))
    assert history.metrics["val_accuracy"][-1] > 0.9 > 0.75 > history.metrics["val_accuracy"][0]
    assert model.evaluate(x, t)["auc"] > 0.95


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_engines_agree_step_by_step(dtype):
    x, t = samples()
    models = [small(engine=engine, dtype=dtype) for engine in ("fast", "reference")]
    for _ in range(3):
        losses = [model.train_on_batch(x, t) for model in models]
        assert losses[0] == pytest.approx(losses[1], rel=1e-5 if dtype == "float32" else 1e-12)
    for a, b in zip(*(model.get_weights() for model in models)):
        assert np.abs(a - b).max() < (2e-4 if dtype == "float32" else 1e-11)


def test_three_classes_end_in_a_softmax():
    x, t = samples(30)
    t = t + (x.mean(axis=(1, 2, 3)) > 0.5)
    model = small(head=[Dense(3), Softmax()])
    model.fit(x, t, epochs=2, progress=False)
    assert model.predict(x).sum(axis=1) == pytest.approx(np.ones(30), abs=1e-6)
    assert set(model.evaluate(x, t)) >= {"n", "accuracy", "auc", "loss"}
    assert cov19net(classes=["a", "b", "c"]).output_shape == (3,)


def test_threads_workers_and_repeats_change_no_bit():
    x, t = samples(40)

    def trained(threads, workers, seed=7):
        set_thread_count(threads)
        model = small(seed=seed)
        model.fit(x, t, epochs=3, batch_size=16, workers=workers, progress=False)
        return model.get_weights()

    before = thread_count()
    try:
        first = trained(1, 0)
        assert all(same(first, trained(*case)) for case in [(1, 0), (2, 1), (4, 4), (3, 2)])
        assert not same(first, trained(1, 0, seed=8))
    finally:
        set_thread_count(before)


def test_cov19net_is_the_same_bits_with_1_2_and_4_threads():
    x, t = samples(8, side=64)
    results, before = [], thread_count()
    try:
        for threads in (1, 2, 4):
            set_thread_count(threads)
            model = cov19net(seed=1)
            model.compile(Adam(), loss="binary_crossentropy")
            for _ in range(2):
                model.train_on_batch(x, t)
            results.append(model.get_weights())
    finally:
        set_thread_count(before)
    assert same(results[0], results[1]) and same(results[0], results[2])


def test_a_prediction_does_not_depend_on_its_company():
    x, _ = samples(33, side=8)
    model = small()
    whole = model.predict(x)
    order = np.argsort(x[:, 0, 0, 0])
    assert (model.predict(x[order]) == whole[order]).all()
    for size in (1, 2, 3, 7, 16, 33):
        assert (model.predict(x, batch_size=size) == whole).all()
        assert (model.predict(x[5:5 + size]) == whole[5:5 + size]).all()


def test_predict_returns_copies_and_several_threads_may_ask():
    x, _ = samples(20)
    model = small()
    expected = model.predict(x)
    answers = {}

    def ask(i):
        answers[i] = [model.predict(x[i:i + 5]) for _ in range(10)]

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert all((answer == expected[i:i + 5]).all() for i in answers for answer in answers[i])


def test_fit_goes_on_where_it_stopped(tmp_path):
    x, t = samples(30)
    whole, first = small(optimizer=Adam(1e-2)), small(optimizer=Adam(1e-2))
    whole.fit(x, t, epochs=4, batch_size=8, progress=False)
    first.fit(x, t, epochs=2, batch_size=8, progress=False)
    first.save(tmp_path / "half.safetensors")
    second = Sequential.load(tmp_path / "half.safetensors")
    history = second.fit(x, t, epochs=2, batch_size=8, progress=False)
    assert history.epochs == [3, 4]
    whole.save(tmp_path / "a.safetensors"), second.save(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_save_and_load_keep_everything(tmp_path):
    x, t = samples()
    model = small(optimizer=SGD(0.1, momentum=0.9))
    model.fit(x, t, epochs=1, progress=False)
    model.save(tmp_path / "m.safetensors")
    again = Sequential.load(tmp_path / "m.safetensors")
    assert (again.predict(x) == model.predict(x)).all() and again.history == model.history
    assert repr(again.optimizer) == repr(model.optimizer) and again.optimizer.t == model.optimizer.t
    again.save(tmp_path / "again.safetensors")
    assert (tmp_path / "m.safetensors").read_bytes() == (tmp_path / "again.safetensors").read_bytes()


def test_the_further_layers_learn_resume_and_do_not_depend_on_threads(tmp_path):
    x, t = samples(30)

    def model():
        made = Sequential([
            Rescaling(2, offset=-1), ZeroPadding2D(1), Conv2D(6, 3), LeakyReLU(), MaxPooling2D(), SpatialDropout2D(0.2),
            UpSampling2D(2), Conv2D(6, 3), ReLU(6), AveragePooling2D(), Conv2D(8, 1), SiLU(), Conv2D(8, 2), ELU(),
            Reshape((-1, 2, 8)), Softplus(), GlobalMaxPooling2D(keepdims=True), GlobalAveragePooling2D(), Dense(1), Sigmoid()], (8, 8, 3), seed=7)
        made.compile(Adam(1e-2), loss="binary_crossentropy")
        return made

    def trained(threads):
        set_thread_count(threads)
        made = model()
        history = made.fit(x, t, epochs=4, batch_size=8, progress=False)
        made.save(tmp_path / f"{threads}.safetensors")
        return history.metrics["loss"], (tmp_path / f"{threads}.safetensors").read_bytes()
    before = thread_count()
    try:
        losses, whole = trained(1)
        assert losses[-1] < losses[0] and all(trained(threads)[1] == whole for threads in (2, 3, 4))
    finally:
        set_thread_count(before)
    half = model()
    half.fit(x, t, epochs=2, batch_size=8, progress=False)
    half.save(tmp_path / "half.safetensors")
    again = Sequential.load(tmp_path / "half.safetensors")
    assert repr(again.layers) == repr(half.layers)
    again.fit(x, t, epochs=2, batch_size=8, progress=False)
    again.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == whole


class Scale:
    """A custom layer: no base class."""

    def build(self, input_shape):
        self.parameters = [Parameter("factor", np.ones(input_shape[-1]))]
        return input_shape

    def forward(self, x):
        self.x = x
        return x * self.parameters[0].value

    def backward(self, dy):
        self.parameters[0].grad[...] = (dy * self.x).sum(axis=(0, 1, 2))
        return dy * self.parameters[0].value


def test_layers_of_your_own_train_and_keep_their_weights(tmp_path):
    x, t = samples()

    def build():
        model = Sequential([Scale(), Flatten(), Dense(1), Sigmoid()], input_shape=(8, 8, 3))
        model.compile(Adam(1e-2), loss="binary_crossentropy")
        return model

    model = build()
    model.fit(x, t, epochs=2, progress=False)
    assert not (model.get_weights()[0] == 1).any()
    model.save(tmp_path / "own.safetensors")
    with pytest.raises(WeightsError, match="not one of minicnn's. Build the model in code and use model.load_weights"):
        Sequential.load(tmp_path / "own.safetensors")
    again = build()
    again.load_weights(tmp_path / "own.safetensors")
    assert (again.predict(x) == model.predict(x)).all()
    with pytest.raises(WeightsError, match="expected conv2d_1/kernel of shape"):
        small().load_weights(tmp_path / "own.safetensors")


def test_uint8_means_pixels_at_every_door():
    x, t = samples()
    pixels = np.rint(x * 255).astype(np.uint8)
    a, b = small(), small()
    assert a.train_on_batch(pixels, t) == b.train_on_batch(np.divide(pixels, 255, dtype=np.float32), t)
    assert (a.predict(pixels) == b.predict(np.divide(pixels, 255, dtype=np.float32))).all()


def test_dropout_is_repeatable_and_off_in_prediction():
    x, t = samples()

    def build():
        model = small(head=[Dropout(0.5), Dense(1), Sigmoid()])
        model.fit(x, t, epochs=2, progress=False)
        return model

    a, b = build(), build()
    assert same(a.get_weights(), b.get_weights())
    assert (a.predict(x) == a.predict(x)).all()


def test_callbacks_stop_schedule_and_record(tmp_path):
    x, t = samples()
    rates = []
    model = small(optimizer=Adam(1e-2))

    class Watch(LearningRateSchedule):
        def on_epoch_end(self, model, epoch, metrics):
            rates.append(model.optimizer.learning_rate)

    history = model.fit(x, t, validation=(x, 1 - t), epochs=30, progress=False,
                        callbacks=[EarlyStopping(patience=2), Watch(lambda epoch: 0.01 / epoch),
                                   CSVHistory(tmp_path / "history.csv")])
    assert len(history.epochs) < 30                       # wrong targets: validation gets worse while training gets better
    assert rates == [0.01 / epoch for epoch in history.epochs]
    lines = (tmp_path / "history.csv").read_text().splitlines()
    assert lines[0].startswith("epoch,loss,accuracy,val_loss") and len(lines) == len(history.epochs) + 1
    best = int(np.argmin(history.metrics["val_loss"]))
    assert model.evaluate(x, 1 - t)["loss"] == pytest.approx(history.metrics["val_loss"][best])
    with pytest.raises(InputError, match="there is no 'val_loss' in this training.*Give fit a validation set"):
        small().fit(x, t, progress=False, callbacks=[EarlyStopping()])


def test_a_run_folder_holds_last_previous_and_best(tmp_path):
    x, t = samples()
    model = small()
    model.fit(x, t, validation=(x, t), epochs=3, run=tmp_path / "run", progress=False)
    assert sorted(os.listdir(tmp_path / "run")) == ["best.safetensors", "history.csv", "last.safetensors",
                                                    "previous.safetensors"]
    assert len(Sequential.load(tmp_path / "run" / "previous.safetensors").history) == 2
    assert same(Sequential.load(tmp_path / "run" / "last.safetensors").get_weights(), model.get_weights())


def test_class_weights_count_in_the_loss():
    x, t = samples()
    model = small()
    plain, _ = model.loss_and_gradients(x, t)
    doubled, _ = model.loss_and_gradients(x, t, sample_weight=np.full(len(x), 2.0))
    assert doubled == pytest.approx(2 * plain)
    a, b = small(), small()
    a.fit(x, t, epochs=1, progress=False, class_weight={0: 1, 1: 1})
    b.fit(x, t, epochs=1, progress=False)
    assert same(a.get_weights(), b.get_weights())
    b.fit(x, t, epochs=1, progress=False, class_weight={1: 5})
    assert not same(a.get_weights(), b.get_weights())
    with pytest.raises(InputError, match="class_weight: expected a class"):
        a.fit(x, t, progress=False, class_weight={2: 1.0})


def test_a_nan_stops_training_in_its_step_and_names_the_layer():
    x, t = samples()
    model = small()
    weights = model.get_weights()
    model.network.parameters[2].value[0, 0] = np.nan
    with pytest.raises(NonFiniteError, match="epoch 1, batch 1: layer 'dense_1': its kernel holds NaN or infinity"):
        model.fit(x, t, progress=False)
    with pytest.raises(NonFiniteError, match="dense_1/kernel holds NaN or infinity; such weights are never saved"):
        model.save("never.safetensors")
    assert not os.path.exists("never.safetensors")
    model.set_weights(weights)
    model.fit(x, t, epochs=1, progress=False)


def test_a_failed_fit_leaves_the_model_as_it_was():
    x, t = samples()
    a, b = small(), small()
    with pytest.raises(ShapeError):
        a.fit(x.transpose(0, 3, 1, 2), t, progress=False)
    with pytest.raises(ShapeError, match="24 samples, but 23 targets"):
        a.fit(x, t[:-1], progress=False)
    a.fit(x, t, progress=False), b.fit(x, t, progress=False)
    assert same(a.get_weights(), b.get_weights())


@pytest.mark.parametrize("make, error, sentence", [
    (lambda: cov19net(input_shape=(17, 40, 3)), ShapeError, "needs images of at least 18 x 18; these are 17 x 40"),
    (lambda: small().predict(np.zeros((2, 3, 8, 8), np.float32)), ShapeError, r"channels-last; try x.transpose\(0, 2, 3, 1\)"),
    (lambda: small().predict(np.full((1, 8, 8, 3), np.nan)), InputError, r"x holds nan at \[0, 0, 0, 0\]"),
    (lambda: small().predict(np.zeros((0, 8, 8, 3))), ShapeError, "holds no samples"),
    (lambda: Sequential([], (8, 8, 3)), InputError, "at least one layer"),
    (lambda: Sequential([Dense], (8,)), InputError, r"layer 0 is the class Dense; make one: Dense\(...\)"),
    (lambda: Sequential([Conv2D(2, 3), Dense(1)], (8, 8, 3)), ShapeError, r"Put a Flatten\(\) before this layer"),
    (lambda: Sequential([Flatten(), Dense(1)], (4, 4, 1)).fit(np.zeros((2, 4, 4, 1)), [0, 1]), InputError, "not compiled"),
    (lambda: Sequential([Dense(1)], (4,)).compile(Adam(), loss="binary_crossentropy"), InputError,
     r"needs Sigmoid\(\) as the last layer, got Dense"),
    (lambda: Sequential([Dense(1), Sigmoid()], (4,)).compile(Adam(), loss="binary_crossentropie"), InputError,
     "Did you mean 'binary_crossentropy'"),
    (lambda: small().train_on_batch(np.zeros((1, 8, 8, 3)), [2]), InputError, r"targets must lie in \[0, 1\]"),
    (lambda: small().set_weights([]), ShapeError, "expected 6 arrays, got 0"),
    (lambda: small().fit(*samples(), epochs=0), InputError, "fit: epochs must be a whole number from 1.*got 0"),
    (lambda: small().fit(*samples(), callbacks=[print]), InputError, "callbacks: expected objects of a class made from"),
    (lambda: Sequential([Dense(1)], (4,), engine="slow"), InputError, "engine must be one of fast, reference"),
])
def test_bad_input_gets_a_sentence(make, error, sentence):
    with pytest.raises(error, match=sentence):
        make()


def test_manifests_bring_classes_and_augmentation():
    images = (uniforms(1, Stream.PHANTOM, 9, 1, 24 * 64).reshape(24, 8, 8) * 255).astype(np.uint8)
    manifest = Manifest.from_arrays(images, np.arange(24) % 2, ("normal", "covid"))
    training, validation, test = manifest.split(0.5, 0.25, 0.25, seed=1)
    model = small()
    model.fit(training.augment(Augmentation.honest()), validation=validation, epochs=2, progress=False)
    assert model.classes == ("normal", "covid") and model.preprocessing.height == 8
    assert model.evaluate(test)["n"] == len(test) and model.predict(test).shape == (len(test), 1)
    other = Manifest.from_arrays(images, np.arange(24) % 2, ("covid", "normal"))
    with pytest.raises(InputError, match="the data's classes are covid, normal, the model's normal, covid"):
        model.evaluate(other)


def test_importing_minicnn_costs_nothing():
    code = "import sys, minicnn; assert 'numba' not in sys.modules and 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_weights_can_be_exchanged():
    """What set_weights is given may be the model's own arrays."""
    model = Sequential([Dense(3), Dense(3)], (3,), seed=1)
    first, second = model.get_weights()[::2]
    own = [p.value for p in model.network.parameters]
    model.set_weights([own[2], own[3], own[0], own[1]])
    assert same(model.get_weights()[::2], [second, first])


@pytest.mark.parametrize("engine", ["fast", "reference"])
@pytest.mark.parametrize("dtype", ["float64", ">f4", "float16", "longdouble"])
def test_parameters_of_another_dtype_train_as_they_did(engine, dtype):
    made = [small(engine=engine, seed=3) for _ in range(2)]
    for parameter in made[0].network.parameters:
        parameter.value = parameter.value.astype(np.float16)
    for parameter, other in zip(made[1].network.parameters, made[0].network.parameters, strict=True):
        parameter.value = other.value.astype(dtype)
    x, t = np.random.default_rng(0).random((4, 8, 8, 3)), [0, 1, 0, 1]
    for _ in range(3):
        losses = [model.train_on_batch(x, t) for model in made]
        assert losses[0] == losses[1]
    assert same(*(model.get_weights() for model in made))


# ---- Freezing --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("optimizer", [Adam, lambda rate: SGD(rate, momentum=0.9), AdamW])
def test_a_frozen_layer_keeps_weights_and_moments(optimizer, engine):
    """Whether it is frozen before `compile` or later; the others move as if each were updated alone."""
    x, t = np.random.default_rng(0).random((4, 8, 8, 3)).astype("f"), [0, 1, 0, 1]
    early, late = small(engine=engine), small(engine=engine)
    early.layers[0].trainable = False
    for model in (early, late):
        model.compile(optimizer(0.1), "binary_crossentropy")
    late.layers[0].trainable = False
    before = early.get_weights()
    for model in (early, late):
        for _ in range(3):
            model.train_on_batch(x, t)
    after = early.get_weights()
    assert same(after, late.get_weights()) and same(after[:2], before[:2])
    assert all((a != b).any() for a, b in zip(after[2:], before[2:]))
    state = early.optimizer.state(early.network.parameters)
    assert not any(array.any() for arrays in state.values() for array in arrays[:2])
    assert all(arrays[2].any() for arrays in state.values())
    early.layers[0].trainable = True
    early.train_on_batch(x, t)
    assert all((a != b).any() for a, b in zip(early.get_weights(), after))


def test_a_frozen_model_trains_nothing_and_a_layer_can_be_let_go():
    x, t = np.random.default_rng(0).random((4, 8, 8, 3)).astype("f"), [0, 1, 0, 1]
    model = small()
    model.compile(SGD(0.1), "binary_crossentropy")
    before, model.trainable = model.get_weights(), False
    model.train_on_batch(x, t)
    assert same(model.get_weights(), before) and not model.trainable
    model.layers[-2].trainable = True
    model.train_on_batch(x, t)
    assert model.trainable and [(a == b).all() for a, b in zip(model.get_weights(), before)].count(False) == 2
    with pytest.raises(InputError, match="model: trainable must be True or False"):
        model.trainable = 1


def test_a_model_file_keeps_what_is_frozen(tmp_path):
    model = small()
    model.save(tmp_path / "a")
    model.layers[0].trainable = False
    model.save(tmp_path / "b")
    assert b"trainable" not in (tmp_path / "a").read_bytes()
    for again in (Sequential.load(tmp_path / "b"), copy.deepcopy(model)):
        assert [layer.trainable for layer in again.layers] == [False] + [True] * (len(model.layers) - 1)


# ---- Forms of targets, validation data and class weights -------------------------------------------------------------

def linear(outputs=1, loss=None, engine="reference"):
    head = [Dense(outputs), Softmax()] if outputs > 1 else [Dense(1), Sigmoid()]
    model = Sequential([Flatten()] + head, (8, 8, 3), seed=3, engine=engine)
    model.compile(Adam(1e-2), loss or ("categorical_crossentropy" if outputs > 1 else "binary_crossentropy"))
    return model


def trained(outputs=1, *arguments, **options):
    model = linear(outputs)
    model.fit(*arguments, progress=False, **options)
    return model


@pytest.mark.parametrize("form", [
    list, tuple, lambda t: t.astype(object), lambda t: t.astype(bool), lambda t: t[:, None].tolist(),
    lambda t: list(map(bool, t)), lambda t: np.array([np.float64(v) for v in t], object), np.ma.array, lambda t: [np.ma.array([v]) for v in t],
    lambda t: t.astype(">f4"), lambda t: np.repeat(t, 2)[::2],
])
@pytest.mark.parametrize("outputs", [1, 2])
def test_targets_are_taken_in_any_form(form, outputs):
    x, t = samples()
    assert same(trained(outputs, x, form(t)).get_weights(), trained(outputs, x, t).get_weights())


def masked(t):
    return np.ma.array(t, mask=np.arange(len(t)) < 5)


@pytest.mark.parametrize("form, error, sentence", [
    (masked, InputError, r"t is masked in 5 of 24 samples.*x\[known\] and t\[known\]"),
    (lambda t: masked(t)[:, None], InputError, "t is masked in 5 of 24 samples"),
    (lambda t: [*t[:-1].tolist(), np.ma.masked], InputError, "t is masked in 1 of 24 samples"),
    (lambda t: [*t[:-1, None].tolist(), [np.ma.masked]], InputError, "t is masked in 1 of 24 samples"),
    (lambda t: [np.ma.array([v], mask=[i < 3]) for i, v in enumerate(t)], InputError, "t is masked in 3 of 24 samples"),
    (lambda t: [*t[:-1].tolist(), None], InputError, r"expected a number for each sample, got None at \[23\]"),
    (lambda t: np.array(["1", *t[1:]], object), InputError, r"expected a number for each sample, got '1' at \[0\]"),
    (lambda t: ["normal", "covid"] * 12, InputError, "For named classes use a manifest"),
    (lambda t: [*t[:-1].tolist(), np.nan], InputError, "NaN"),
    (lambda t: [[0], [0, 1]] * 12, ShapeError, "rows have different lengths"),
    (lambda t: np.eye(2)[t], ShapeError, r"got \(24, 2\). If its rows are one-hot, try t.argmax"),
    (lambda t: set(t), InputError, "must hold real numbers"),
    (lambda t: (v for v in t), InputError, "must hold real numbers"),
    (lambda t: t + 1j, InputError, "must hold real numbers"),
])
def test_targets_that_cannot_be_used(form, error, sentence):
    x, t = samples()
    model = linear()
    for call, verb in ((lambda: model.fit(x, form(t), progress=False), "^fit: "),
                       (lambda: model.fit(x, t, validation=[x, form(t)], progress=False), "^fit, validation: "),
                       (lambda: model.evaluate(x, form(t)), "^evaluate: "),
                       (lambda: model.train_on_batch(x, form(t)), "")):
        with pytest.raises(error, match=f"{verb}.*{sentence}"):
            call()
    with pytest.raises((error, DTypeError)):
        ArrayDataset(x, form(t))


def test_validation_data_come_in_a_tuple_or_a_list_with_or_without_weights():
    x, t = samples()
    u, v = samples(10, seed=4)
    rows = [trained(1, x, t, validation=form).history[0] for form in
            [(u, v), [u, v], [u.tolist(), v.tolist()], (u, v, None), [u, v, np.ones(10)], ArrayDataset(u, v),
             (ArrayDataset(u, v),)]]
    assert all(row == rows[0] for row in rows) and "val_auc" in rows[0]
    half = trained(1, x, t, validation=(u, v, np.full(10, 0.5))).history[0]
    assert half["val_loss"] == pytest.approx(rows[0]["val_loss"] / 2)
    assert half["val_accuracy"] == rows[0]["val_accuracy"]
    keep = np.arange(10) % 3 > 0
    some = trained(1, x, t, validation=[u, v, keep]).history[0]
    model = trained(1, x, t)
    assert some["val_loss"] == pytest.approx(model.evaluate(u[keep], v[keep])["loss"] * keep.mean())


@pytest.mark.parametrize("form, error, sentence", [
    (lambda x, t: (x,), InputError, r"expected \(x, t\), \(x, t, weights\), a Manifest or a dataset.*got a tuple of 1"),
    (lambda x, t: [x], InputError, "got a list of 1"),
    (lambda x, t: x, InputError, "got ndarray without targets"),
    (lambda x, t: (), InputError, "got a tuple of 0"),
    (lambda x, t: (x, t, None, t), InputError, "got a tuple of 4"),
    (lambda x, t: 0.2, InputError, "got float without targets"),
    (lambda x, t: {"x": x, "y": t}, InputError, "got dict without targets"),
    (lambda x, t: (x, t[:-1]), ShapeError, "24 samples, but 23 targets"),
    (lambda x, t: (t, x), ShapeError, "expected x of shape"),
    (lambda x, t: (x, t, np.ones(23)), ShapeError, r"expected weights of shape \(24,\), got \(23,\)"),
    (lambda x, t: [x, t, "balanced"], DTypeError, "weights must hold real numbers"),
    (lambda x, t: (x, t, np.full(24, np.nan)), InputError, "weights holds nan"),
    (lambda x, t: (ArrayDataset(x),), InputError, "expected targets beside x"),
])
def test_what_is_no_validation_data(form, error, sentence):
    model = linear()
    with pytest.raises(error, match=f"^fit, validation: .*{sentence}"):
        model.fit(*samples(), validation=form(*samples()), progress=False)
    assert model.history == []


def test_a_dataset_brings_its_labels():
    x, t = samples()
    assert same(trained(1, ArrayDataset(x, t)).get_weights(), trained(1, x, t).get_weights())
    assert linear().evaluate(ArrayDataset(x, t))["n"] == 24


class Series(dict):
    """What a pandas Series is to `dict`: something with keys."""


@pytest.mark.parametrize("form", [
    {0: 1, 1: 5}, {1: 5.0}, {np.int64(1): np.float32(5)}, [1, 5], (1.0, 5), np.array([1, 5]), Series({1: 5}),
    np.ma.array([1, 5]), {"covid": 5}, {"covid": 5, "normal": 1}, {0: 1, "covid": 5},
])
def test_class_weights_in_any_form(form):
    x, t = samples()
    models = [Sequential([Flatten(), Dense(1), Sigmoid()], (8, 8, 3), classes=("normal", "covid")) for _ in range(2)]
    for model, weight in zip(models, ({0: 1.0, 1: 5.0}, form)):
        model.compile(Adam(1e-2), "binary_crossentropy")
        model.fit(x, t, class_weight=weight, progress=False)
    assert same(models[0].get_weights(), models[1].get_weights())


@pytest.mark.parametrize("outputs, labels", [
    (1, [0] * 6 + [1] * 18), (3, [0] * 4 + [1] * 8 + [2] * 12), (3, [0] * 6 + [2] * 18)])
def test_balanced_weights_let_classes_count_alike(outputs, labels):
    x, t = samples()[0], np.array(labels)
    counts = np.bincount(t, minlength=max(2, outputs))
    expected = {int(c): len(t) / (len(counts) * counts[c]) for c in np.flatnonzero(counts)}
    assert same(trained(outputs, x, t, class_weight="balanced").get_weights(),
                trained(outputs, x, t, class_weight=expected).get_weights())
    assert not same(trained(outputs, x, t, class_weight="balanced").get_weights(), trained(outputs, x, t).get_weights())


@pytest.mark.parametrize("weight, error, sentence", [
    ("balance", InputError, "got 'balance'. Did you mean 'balanced'"), ("auto", InputError, "'balanced', got 'auto'"),
    ([1, 2, 3], ShapeError, r"one weight for each of 2 classes, got shape \(3,\)"), (5, ShapeError, r"got shape \(\)"),
    (True, ShapeError, r"got shape \(\)"), ({1, 2}, InputError, "Give a dict, one weight for each class, or"),
    ([1, -1], InputError, "got 1: -1.0"), ([1, np.nan], InputError, "got 1: nan"), ({1: "5"}, InputError, "got 1: '5'"),
    ({1: None}, InputError, "got 1: None"), ({True: 5}, InputError, "got True: 5"), ({1.: 5}, InputError, "got 1.0: 5"),
    ({"covid": 5}, InputError, "got 'covid': 5"), ({0: 0, 1: 0}, InputError, "a weight above 0 for at least one class"),
    (np.ma.array([1, 5], mask=[0, 1]), InputError, "masked"), ([[1], [1, 2]], InputError, "different lengths"),
])
def test_class_weights_that_cannot_be_used(weight, error, sentence):
    with pytest.raises(error, match=f"class_weight: .*{sentence}"):
        linear().fit(*samples(), class_weight=weight, progress=False)


def test_one_class_is_not_weighed_twice():
    model = Sequential([Flatten(), Dense(1), Sigmoid()], (8, 8, 3), classes=("normal", "covid"))
    model.compile(Adam(), "binary_crossentropy")
    with pytest.raises(InputError, match="class_weight: 'covid' and 1 are the same class"):
        model.fit(*samples(), class_weight={"covid": 2, 1: 3}, progress=False)


def test_numbers_that_are_no_classes_have_no_class_weights():
    x, t = samples()
    model = Sequential([Flatten(), Dense(1)], (8, 8, 3))
    model.compile(Adam(), "mean_squared_error")
    with pytest.raises(InputError, match="class_weight: each sample must be of one class.*mean_squared_error"):
        model.fit(x, t + 0.5, class_weight="balanced", progress=False)
    several = Sequential([Flatten(), Dense(2), Sigmoid()], (8, 8, 3))
    several.compile(Adam(), "binary_crossentropy")
    with pytest.raises(InputError, match="class_weight: each sample must be of one class"):
        several.fit(x, np.ones((24, 2)), class_weight={1: 2}, progress=False)
    model.fit(x, t, class_weight={1: 2}, progress=False)            # these are classes


# ---- Copies ----------------------------------------------------------------------------------------------------------

def through_joblib(model):
    joblib = pytest.importorskip("joblib")
    file = io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    return joblib.load(file)


WAYS = {"deepcopy": copy.deepcopy, "joblib": through_joblib, "pickle 0": lambda model: pickle.loads(pickle.dumps(model, 0)),
        "pickle": lambda model: pickle.loads(pickle.dumps(model))}


class Scaled:
    """A custom layer that keeps what people keep: an array and a view of a parameter, an inner layer, its last input."""

    def build(self, input_shape):
        self.factor, self.inner = np.full(input_shape[-1], 0.5, np.float32), Dense(4)
        shape = self.inner.build(input_shape)
        self.parameters = [Parameter("factor", self.factor), *self.inner.parameters]
        self.view = self.parameters[0].value
        return shape

    def forward(self, x):
        self.x = x
        return self.inner.forward(x * self.view * self.factor)

    def backward(self, dy):
        dx = self.inner.backward(dy)
        self.parameters[0].grad = (dx * self.x * 2 * self.factor).sum(axis=0)
        return dx * self.view * self.factor


MODELS = {
    "conv": lambda engine, dtype: small(engine=engine, dtype=dtype),
    "softmax": lambda engine, dtype: small(engine=engine, dtype=dtype, head=[Dropout(0.5), Dense(3), Softmax()]),
    "sgd": lambda engine, dtype: small(engine=engine, dtype=dtype, optimizer=SGD(0.01, momentum=0.9)),
    "grey": lambda engine, dtype: small(engine=engine, dtype=dtype, head=[Dense(5), Tanh(), Dense(1), Sigmoid()]),
    "custom": lambda engine, dtype: small(engine=engine, dtype=dtype, head=[Scaled(), Tanh(), Dense(1), Sigmoid()]),
}


def of_grey(x):
    return np.repeat(x[..., :1], 3, axis=3)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("engine, dtype", [("fast", "float32"), ("reference", "float32"), ("fast", "float64")])
@pytest.mark.parametrize("name", MODELS)
def test_a_copy_predicts_and_trains_on_with_the_same_bits(name, engine, dtype, way, tmp_path):
    if name == "custom" and dtype == "float64":
        pytest.skip("its factor is float32")
    x, t = samples()
    x = of_grey(x) if name == "grey" else x
    model = MODELS[name](engine, dtype)
    new = WAYS[way](model)                                      # before training too
    for each in (model, new):
        each.fit(x, t, validation=(x, t), epochs=2, batch_size=7, progress=False)
    assert same(new.get_weights(), model.get_weights())
    other = WAYS[way](model)
    assert (other.predict(x) == model.predict(x)).all() and other.history == model.history
    frozen = model.get_weights()
    other.fit(x, t, epochs=2, batch_size=7, progress=False)
    assert same(model.get_weights(), frozen) and not same(other.get_weights(), frozen)     # they share nothing
    model.fit(x, t, epochs=2, batch_size=7, progress=False)
    assert same(other.get_weights(), model.get_weights()) and other.history == model.history
    assert (other.predict(x) == model.predict(x)).all()
    assert other.optimizer.t == model.optimizer.t and other.optimizer is not model.optimizer
    if name != "custom":
        model.save(tmp_path / "model"), other.save(tmp_path / "other")
        assert (tmp_path / "model").read_bytes() == (tmp_path / "other").read_bytes()


def test_a_copy_of_cov19net_predicts_the_same():
    x = (uniforms(1, Stream.PHANTOM, 9, 1, 2 * 64 * 64 * 3).reshape(2, 64, 64, 3) * 255).astype(np.uint8)
    model = cov19net(seed=7)
    model.classes = ("normal", "covid")
    for way in WAYS.values():
        other = way(model)
        assert (other.predict(x) == model.predict(x)).all() and other.classes == model.classes
        assert other.network.plan() == model.network.plan() and other.optimizer is None


def test_what_is_copied_together_stays_together():
    model = small()
    for way in WAYS.values():
        other, optimizer, layer = way((model, model.optimizer, model.layers[0]))
        assert other.optimizer is optimizer and other.layers[0] is layer


def test_a_callback_may_copy_the_model():
    x, t = samples()
    kept = []

    class Keep(LearningRateSchedule):
        def on_epoch_end(self, model, epoch, metrics):
            kept.append((copy.deepcopy(model), pickle.dumps(model)))

    model = small()
    model.fit(x, t, epochs=2, callbacks=Keep(lambda epoch: 0.01), progress=False)
    for other in (kept[0][0], pickle.loads(kept[0][1])):
        other.fit(x, t, epochs=1, progress=False)
        assert same(other.get_weights(), model.get_weights())


def test_a_shallow_copy_shares_the_network_and_its_lock():
    model = small()
    other = copy.copy(model)
    assert other.network is model.network and other._lock is model._lock
    other.fit(*samples(), progress=False)
    assert same(other.get_weights(), model.get_weights())


@pytest.mark.parametrize("engine", ["fast", "reference"])
def test_read_only_memory_maps_train_on(engine, tmp_path):
    joblib = pytest.importorskip("joblib")
    x, t = samples()
    model = small(engine=engine, head=[Scaled(), Dense(1), Sigmoid()])
    model.fit(x, t, progress=False)
    joblib.dump(model, tmp_path / "model.joblib")
    other = joblib.load(tmp_path / "model.joblib", mmap_mode="r")
    for each in (model, other):
        each.fit(x, t, progress=False)
    assert same(model.get_weights(), other.get_weights())


def test_a_part_of_a_parameter_cannot_be_copied_without_a_word():
    class Part(Scaled):
        def build(self, input_shape):
            shape = super().build(input_shape)
            self.first = self.parameters[0].value[:2]
            return shape

    model = Sequential([Flatten(), Part(), Dense(1), Sigmoid()], (2, 2, 1))
    for way in (copy.deepcopy, pickle.dumps):
        with pytest.raises(InputError, match=r"layer 'part_1': its first is a part of its factor.*parameter\.value"):
            way(model)
