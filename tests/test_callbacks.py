"""Callbacks: what training would never call, or not with what it takes, is said before it begins."""

import functools

import numpy as np
import pytest

from minicnn import (Adam, Callback, Checkpoint, Dense, EarlyStopping, Flatten, InputError, LambdaCallback,
                     LearningRateSchedule, LearningRateScheduler, ModelCheckpoint, ReduceLROnPlateau, Sequential, Sigmoid,
                     Softmax, weights)
from tests.support.interruptions import interrupted_after

X, T = np.linspace(0, 1, 12 * 4, dtype=np.float32).reshape(12, 2, 2, 1), np.arange(12) % 2


def tiny(loss="binary_crossentropy", layers=None):
    model = Sequential([Flatten(), *(layers or [Dense(1), Sigmoid()])], (2, 2, 1), seed=3, engine="reference")
    model.compile(Adam(0.1), loss)
    return model


def made(**methods):
    return type("Mine", (Callback,), methods)()


def refused(callbacks, sentence, model=None, **arguments):
    model = model or tiny()
    before = model.get_weights()
    with pytest.raises(InputError, match=sentence):
        model.fit(X, T, callbacks=callbacks, progress=False, **arguments)
    assert model.history == [] and all((a == b).all() for a, b in zip(before, model.get_weights()))


def test_one_callback_is_as_good_as_a_list():
    epochs = []
    one = made(on_epoch_end=lambda self, model, epoch, metrics: epochs.append(epoch))
    for callbacks in (one, [one], (one,), iter([one]), None):
        tiny().fit(X, T, callbacks=callbacks, progress=False)
    assert epochs == [1, 1, 1, 1]


@pytest.mark.parametrize("callbacks, sentence", [
    (7, "callbacks: expected objects of a class made from minicnn.Callback, got 7"),
    ("EarlyStopping", "callbacks: expected objects .* got 'EarlyStopping'"),
    ({"stop": EarlyStopping("loss")}, "callbacks: expected objects .* got 'stop'"),
    (EarlyStopping, r"callbacks: expected objects .*Make one: EarlyStopping\(...\)"),
    ([Callback], r"callbacks: expected objects .*Make one: Callback\(...\)"),
    (2 * [EarlyStopping("loss")], "the same EarlyStopping is there twice"),
])
def test_what_is_no_callback(callbacks, sentence):
    refused(callbacks, sentence)


@pytest.mark.parametrize("name, meant", [
    ("on_batch_end", "on_train_batch_end"), ("on_epoch_ends", "on_epoch_end"), ("onEpochEnd", "on_epoch_end"),
    ("on_fit_start", None), ("on_Epoch_Begin", "on_epoch_begin"),
])
def test_a_method_that_would_never_be_called(name, meant):
    sentence = rf"Mine\.{name} would never be called.*on_epoch_end\(model, epoch, metrics\)"
    refused(made(**{name: lambda self, *rest: None}), sentence + (f".*Did you mean '{meant}'" if meant else ""))
    callback = made()
    setattr(callback, name, print)
    refused([made(), callback], sentence)


def test_other_names_are_the_authors_own():
    callback = made(_on_batch=lambda self: 1, once=lambda self: 1, on_gpu=False, only=print)
    tiny().fit(X, T, progress=False, callbacks=callback)


@pytest.mark.parametrize("name, method", [
    ("on_epoch_end", lambda self, epoch, logs: None),
    ("on_epoch_end", lambda self, epoch, logs=None: None),
    ("on_epoch_end", lambda self, metrics, epoch, model: None),
    ("on_epoch_end", lambda self, model, epoch: None),
    ("on_epoch_end", lambda self, model, epoch, metrics, *, more: None),
    ("on_epoch_begin", lambda self, epoch, logs=None: None),     # would fit, and take a model for a number
    ("on_train_begin", lambda self, logs=None: None),
    ("on_train_end", lambda self: None),
    ("on_interrupt", lambda self, model, epoch: None),
])
def test_a_method_that_takes_something_else(name, method):
    refused(made(**{name: method}), rf"Mine: it has {name}\(.*called with \(model.*count from 1.*def {name}\(self, model")


def test_a_hook_that_is_no_method():
    refused(made(on_epoch_end=None), "Mine: on_epoch_end must be a method, got None")


def test_any_way_to_take_the_arguments_will_do():
    seen = []
    for method in (lambda self, *everything: seen.append(everything[1]), lambda self, m, e, row: seen.append(e),
                   lambda self, model, epoch, logs: seen.append(epoch), functools.partialmethod(
                       lambda self, unit, model, epoch, metrics: seen.append(epoch), 1)):
        tiny().fit(X, T, callbacks=made(on_epoch_end=method), progress=False)
    own = made()
    own.on_epoch_end = lambda model, epoch, metrics, more=2: seen.append(epoch)
    tiny().fit(X, T, callbacks=own, progress=False)
    assert seen == [1] * 5


def test_keras_way_to_stop_stops():
    model = tiny()
    stop = made(on_epoch_end=lambda self, model, epoch, metrics: setattr(model, "stop_training", epoch == 2))
    assert model.fit(X, T, epochs=9, callbacks=stop, progress=False).epochs == [1, 2]
    model.stop_training = True          # of an earlier training
    assert model.fit(X, T, epochs=2, progress=False).epochs == [3, 4]


@pytest.mark.parametrize("monitor, arguments, sentence", [
    ("val_loss", {}, "there is no 'val_loss' in this training, only loss, accuracy.*Give fit a validation set"),
    ("val_acc", {"validation": (X, T)}, "no 'val_acc' .*only loss, accuracy, val_loss, val_accuracy, val_auc"),
    ("Loss", {}, "no 'Loss' .*only loss, accuracy. Did you mean 'loss'"),
    ("f1", {"validation": [X, T]}, "no 'f1' .*only loss, accuracy, val_loss, val_accuracy, val_auc"),
])
def test_a_metric_that_there_will_not_be(monitor, arguments, sentence):
    refused(EarlyStopping(monitor), sentence, **arguments)
    seen = made(on_epoch_begin=lambda self, model, epoch: None)
    refused([seen, EarlyStopping(monitor)], sentence, **arguments)


def test_which_metrics_there_are_depends_on_the_loss():
    for loss, layers, known in [("mean_squared_error", [Dense(1)], "loss, val_loss"),
                                ("categorical_crossentropy", [Dense(2), Softmax()],
                                 "loss, accuracy, val_loss, val_accuracy, val_auc")]:
        refused(EarlyStopping("val_f1"), f"only {known}[.]", tiny(loss, layers), validation=(X, T))
        history = tiny(loss, layers).fit(X, T, validation=(X, T), progress=False)
        assert ", ".join(history.metrics) == known


def test_a_checkpoint_of_a_metric_that_there_will_not_be(tmp_path):
    refused(Checkpoint(tmp_path / "run", monitor="val_f1"), "no 'val_f1' .*val_auc")
    assert not (tmp_path / "run").exists()
    # Without validation data there is no best one, as ever.
    tiny().fit(X, T, callbacks=Checkpoint(tmp_path / "run", monitor="val_auc"), progress=False)


def test_a_metric_that_another_callback_adds():
    class Adds(Callback):
        def on_epoch_end(self, model, epoch, metrics):
            metrics["rate"] = 1.0

    history = tiny().fit(X, T, epochs=9, callbacks=[Adds(), EarlyStopping("rate", patience=2)], progress=False)
    assert history.epochs == [1, 2, 3]
    refused([EarlyStopping("rate"), Adds()], "no 'rate'")
    with pytest.raises(InputError, match="no 'rates' in this training, only epoch, loss, accuracy, rate. Did you mean"):
        tiny().fit(X, T, callbacks=[Adds(), EarlyStopping("rates")], progress=False)


@pytest.mark.parametrize("make, sentence", [
    (lambda: EarlyStopping(5), "EarlyStopping: monitor must be the name of a metric"),
    (lambda: EarlyStopping(min_delta="little"), "EarlyStopping: min_delta"),
    (lambda: Checkpoint("run", monitor=None), "Checkpoint: monitor must be the name of a metric"),
    (lambda: LearningRateSchedule(0.1), "LearningRateSchedule: rate must be a function of the epoch, got 0.1"),
])
def test_arguments_are_checked_when_a_callback_is_made(make, sentence):
    with pytest.raises(InputError, match=sentence):
        make()


# ---- Keras' callbacks ------------------------------------------------------------------------------------------------

class Losses(Callback):
    """Says what the losses of the epochs are."""

    def __init__(self, *losses):
        self.losses = losses

    def on_epoch_end(self, model, epoch, metrics):
        metrics["told"] = self.losses[epoch - 1]


def told(callback, *losses):
    """Return (model, history) of training in which the metric "told" is as given."""
    model = tiny()
    return model, model.fit(X, T, epochs=len(losses), callbacks=[Losses(*losses), callback], progress=False)


def test_a_plateau_lowers_the_learning_rate_as_in_keras():
    """Worked by hand: epochs 3 and 4 are no better than epoch 2, nor are 5 and 6 after a cooldown; then the least rate."""
    plateau = ReduceLROnPlateau("told", factor=0.5, patience=2, cooldown=1, min_delta=0.1, min_lr=0.02)
    model, history = told(plateau, 9.0, 5.0, 4.95, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0)
    assert history.history["learning_rate"] == [0.1, 0.1, 0.1, 0.1, 0.05, 0.05, 0.025, 0.025, 0.02]
    assert model.optimizer.learning_rate == 0.02


@pytest.mark.parametrize("mode, epochs", [("auto", 2), ("min", 2), ("max", 4)])
def test_early_stopping_knows_which_way_is_up(mode, epochs):
    _, history = told(EarlyStopping("told", patience=1, mode=mode), 0.5, 0.6, 0.7, 0.6, 0.5)
    assert history.epoch == list(range(epochs)) and history.epochs[-1] == epochs


def test_early_stopping_waits_for_its_first_epoch_and_takes_a_patience_of_0():
    assert told(EarlyStopping("told", patience=0), 3.0, 2.0, 2.0, 1.0)[1].epochs == [1, 2, 3]
    assert told(EarlyStopping("told", patience=1, start_from_epoch=3), 1.0, 2.0, 3.0, 4.0, 5.0, 6.0)[1].epochs == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("restore", [False, True])
def test_the_weights_of_the_best_epoch_come_back_if_they_are_wanted(restore):
    weights = []
    keep = made(on_epoch_end=lambda self, model, epoch, metrics: weights.append(model.get_weights()))
    model = tiny()
    model.fit(X, T, epochs=5, progress=False,
              callbacks=[Losses(3, 1, 2, 2, 2), keep, EarlyStopping("told", 2, restore_best_weights=restore)])
    assert len(weights) == 4 and all((a == b).all() for a, b in zip(model.get_weights(), weights[1 if restore else 3]))


def test_a_scheduler_counts_from_0_and_is_told_the_rate():
    for schedule in (lambda epoch, rate: rate / 2 if epoch else rate, lambda epoch: 0.1 / 2**epoch):
        model = tiny()
        history = model.fit(X, T, epochs=3, progress=False, callbacks=LearningRateScheduler(schedule))
        assert history.history["learning_rate"] == [0.1, 0.05, 0.025] and model.optimizer.learning_rate == 0.025
    with pytest.raises(InputError, match=r"LearningRateScheduler, epoch 0: the rate must lie in \(0, inf\), got -1"):
        tiny().fit(X, T, progress=False, callbacks=LearningRateScheduler(lambda epoch: -1))


def test_a_lambda_is_called_as_keras_calls_it():
    seen = []
    names = ["on_epoch_begin", "on_epoch_end", "on_train_batch_begin", "on_train_batch_end", "on_train_begin", "on_train_end"]
    hooks = {name: lambda *given, name=name: seen.append((name, *given)) for name in names}
    # A function of *given takes any number; one with names of its own is counted.
    history = tiny().fit(X, T, epochs=2, batch_size=8, progress=False, callbacks=LambdaCallback(**hooks))
    assert [(name, *given[:-1]) for name, *given in seen] == [
        ("on_train_begin",), *[row for epoch in (0, 1) for row in [
            ("on_epoch_begin", epoch), ("on_train_batch_begin", 0), ("on_train_batch_end", 0), ("on_train_batch_begin", 1),
            ("on_train_batch_end", 1), ("on_epoch_end", epoch)]], ("on_train_end",)]
    logs = [given[-1] for name, *given in seen if name == "on_epoch_end"]
    assert [log["loss"] for log in logs] == history.history["loss"] and "epoch" not in logs[0]
    ends = [given[-1] for name, *given in seen if name == "on_train_batch_end"]
    assert ends[1] == {name: history.history[name][0] for name in ("loss", "accuracy")}
    with pytest.raises(InputError, match=r"LambdaCallback: on_epoch_end must be a function of \(epoch, logs\)"):
        LambdaCallback(on_epoch_end=lambda model, epoch, metrics: None)


def test_batches_are_counted_from_1_also_where_an_epoch_is_taken_up(monkeypatch):
    seen = []
    watch = made(on_train_batch_begin=lambda self, model, batch: seen.append(batch),
                 on_train_batch_end=lambda self, model, batch, metrics: seen.append(metrics["loss"]))
    tiny().fit(X, T, batch_size=4, progress=False, callbacks=watch)
    straight, model = seen[:], tiny()
    seen.clear()
    with interrupted_after(2, monkeypatch):
        model.fit(X, T, batch_size=4, progress=False, callbacks=watch)
    model.fit(X, T, batch_size=4, progress=False, callbacks=watch)
    assert straight[::2] == [1, 2, 3] and seen == [*straight[:5], *straight[4:]]       # the third is begun twice


def test_a_model_is_kept_each_epoch_or_where_it_is_best(tmp_path, capsys):
    name = str(tmp_path / "{epoch:02d}-{told:.1f}")
    told(ModelCheckpoint(name, verbose=1), 3.0, 1.0, 2.0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["01-3.0", "02-1.0", "03-2.0"]
    assert "epoch 2: saved " in capsys.readouterr().err
    best = tmp_path / "best"
    model, _ = told(ModelCheckpoint(best, "told", save_best_only=True), 3.0, 1.0, 2.0)
    assert len(Sequential.load(best).history) == 2
    told(ModelCheckpoint(best, "told", save_best_only=True, mode="max"), 3.0, 1.0, 2.0)
    assert len(Sequential.load(best).history) == 1
    told(ModelCheckpoint(tmp_path / "only", save_weights_only=True), 3.0)
    assert set(weights.load(tmp_path / "only")[0]) == {"dense_1/kernel", "dense_1/bias"}
    with pytest.raises(InputError, match="ModelCheckpoint: .*val_los.* cannot be filled with epoch, loss, accuracy, told"):
        told(ModelCheckpoint(str(tmp_path / "{val_los}")), 3.0)


def test_their_states_go_on_as_if_nothing_had_been(tmp_path):
    """After each epoch a process ends; the next goes on, and ends with the files of one that went through."""
    def run(folder, epochs, resume=True):
        model = tiny()
        model.fit(X, T, validation=(X[::-1], T), epochs=epochs, progress=False, run=folder, resume=resume, callbacks=[
            LearningRateScheduler(lambda epoch, rate: rate * (2 if epoch % 2 else 0.75)),
            ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=0.05, cooldown=1),
            ModelCheckpoint(folder / "best", save_best_only=True), EarlyStopping("loss", 3, 0.01, mode="min")])
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    whole = run(tmp_path / "whole", 6)
    for epochs in range(1, 7):
        parts = run(tmp_path / "parts", epochs)
    assert parts == whole and len(whole) == 5


@pytest.mark.parametrize("callback, state", [
    (ReduceLROnPlateau, {}), (ReduceLROnPlateau, {"best": 1, "waited": 0, "cooling": 0}),
    (ReduceLROnPlateau, {"best": 1.0, "waited": -1, "cooling": 0}),
    (ReduceLROnPlateau, {"best": float("nan"), "waited": 1, "cooling": 0}),
    (lambda: ModelCheckpoint("m"), {"best": "low"}), (lambda: ModelCheckpoint("m"), {"best": 1.0, "more": 0})])
def test_what_they_cannot_have_remembered(callback, state):
    with pytest.raises(InputError, match="the state in the file is not one of"):
        callback().restore(state)


@pytest.mark.parametrize("make, sentence", [
    (lambda: ReduceLROnPlateau(factor=1.5), r"ReduceLROnPlateau: factor must lie in \(0, 1\)"),
    (lambda: EarlyStopping(mode="down"), "EarlyStopping: mode must be one of auto, min, max"),
    (lambda: ModelCheckpoint(""), "ModelCheckpoint: filepath must be the name of a file"),
    (lambda: LearningRateScheduler(0.1), "schedule must be a function of .* got 0.1"),
    (lambda: LambdaCallback(on_train_end=3), r"on_train_end must be a function of \(logs\), got 3")])
def test_arguments_of_keras_callbacks(make, sentence):
    with pytest.raises(InputError, match=sentence):
        make()


def test_a_plateau_of_a_metric_that_there_will_not_be():
    refused(ReduceLROnPlateau(), "no 'val_loss' .*Give fit a validation set")
    refused(ModelCheckpoint("never", "val_loss", save_best_only=True), "no 'val_loss'")
