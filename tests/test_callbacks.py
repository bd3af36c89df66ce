"""Callbacks: what training would never call, or not with what it takes, is said before it begins."""

import functools

import numpy as np
import pytest

from minicnn import (Adam, Callback, Checkpoint, Dense, EarlyStopping, Flatten, InputError, LearningRateSchedule,
                     Sequential, Sigmoid, Softmax)

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
    ("on_train_batch_end", None), ("on_epoch_ends", "on_epoch_end"), ("onEpochEnd", "on_epoch_end"),
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
