"""Promises B1 to B4: the same seed is the same bytes, whatever interrupts training, and wherever."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.reliability.run_faults import measure
from minicnn import (Adam, Callback, Conv2D, Dense, Dropout, EarlyStopping, Flatten, InputError, LearningRateSchedule,
                     MaxPool2D, NonFiniteError, ReLU, Sequential, ShapeError, Sigmoid, WeightAverage, WeightsError,
                     cov19net, set_thread_count, weights)
from minicnn.callbacks import keeping
from minicnn.core import signals
from minicnn.core.random import Stream, uniforms
from minicnn.core.signals import Interrupted
from minicnn.data import Augmentation, Manifest
from minicnn.data.synthetic import phantom

FILES = ["best.safetensors", "history.csv", "last.safetensors", "previous.safetensors"]
EPOCHS = 4


def radiographs(n=22, side=8):
    pixels = (uniforms(5, Stream.PHANTOM, 9, 3, n * side * side) * 255).astype(np.uint8).reshape(n, side, side)
    return Manifest.from_arrays(pixels, np.arange(n) % 2, ("normal", "covid"))


TRAINING, VALIDATION = radiographs().augment(Augmentation.honest()), radiographs(9)


def small(seed=7, rate=1e-2):
    layers = [Conv2D(3, 3), ReLU(), MaxPool2D(2), Flatten(), Dropout(0.3), Dense(1), Sigmoid()]
    model = Sequential(layers, (8, 8, 3), seed)
    model.compile(Adam(rate), "binary_crossentropy")
    return model


def callbacks():
    return [EarlyStopping(patience=3), LearningRateSchedule(lambda epoch: 0.01 / epoch)]


def train(folder, model=None, resume=True, **settings):
    model = small() if model is None else model
    settings = dict(validation=VALIDATION, epochs=EPOCHS, batch_size=8, callbacks=callbacks(), workers=0) | settings
    model.fit(TRAINING, run=folder, resume=resume, progress=False, **settings)
    return model


def everything(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def left(folder):
    assert sorted(os.listdir(folder)) == FILES
    return everything(folder)


INTERRUPTED = r"^interrupted (in epoch \d, batch \d of \d|after epoch \d of 4): saved\.$"


class Signals:
    """A signal comes before the checks with these numbers; `count` counts all. Number 0, where `fit` begins to handle
    signals, is no place to go on from."""

    def __init__(self, monkeypatch, *numbers):
        self.numbers, self.count = set(numbers), -1
        monkeypatch.setattr(signals, "check", self.check)

    def check(self):
        self.count += 1
        if self.count in self.numbers:
            raise Interrupted(signal.SIGINT)


@pytest.fixture(scope="module", params=[None, 4], ids=["whole passes", "a stream of batches"])
def whole(request, tmp_path_factory):
    """(settings, files, weights at the end, number of checks) of training that nobody interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        signals = Signals(patch)
        model = train(folder, steps_per_epoch=request.param)
    assert signals.count == EPOCHS * ((request.param or 3) + 2 + 1) + 1
    return {"steps_per_epoch": request.param}, left(folder), model.get_weights(), signals.count


def test_a_signal_at_any_check_changes_no_bit(whole, tmp_path, monkeypatch):
    """After every batch of training and of validation, and after every epoch."""
    settings, files, arrays, count = whole
    for number in range(1, count):
        folder = tmp_path / str(number)
        with monkeypatch.context() as patch:
            Signals(patch, number)
            with pytest.raises(Interrupted, match=INTERRUPTED):
                train(folder, **settings)
        model = train(folder, **settings)
        assert left(folder) == files, f"check {number} of {count}"
        assert all((a == b).all() for a, b in zip(arrays, model.get_weights()))


def test_a_signal_after_every_batch_changes_no_bit(tmp_path, monkeypatch):
    """Each process gets one batch further, or from the last batch of an epoch to its end."""
    settings = dict(validation=None, epochs=2, steps_per_epoch=5)
    train(tmp_path / "whole", callbacks=[EarlyStopping("loss")], **settings)
    for process in range(2 * (5 + 1)):
        with monkeypatch.context() as patch:
            Signals(patch, 1)
            with pytest.raises(Interrupted):
                train(tmp_path / "run", callbacks=[EarlyStopping("loss")], **settings)
    train(tmp_path / "run", callbacks=[EarlyStopping("loss")], **settings)
    assert everything(tmp_path / "run") == everything(tmp_path / "whole")


def test_a_mean_of_weights_goes_on_as_if_nothing_had_been(tmp_path, monkeypatch):
    """Whenever a signal comes, the files are the same, and so is the mean that the model ends with."""
    settings = dict(epochs=3, steps_per_epoch=2)
    whole = train(tmp_path / "whole", callbacks=[WeightAverage(0.6)], **settings)
    files = everything(tmp_path / "whole")
    raw = Sequential.load(tmp_path / "whole" / "last.safetensors").get_weights()
    assert any((a != b).any() for a, b in zip(whole.get_weights(), raw))
    for number in range(1, 3 * (2 + 2 + 1) + 1):
        folder = tmp_path / str(number)
        with monkeypatch.context() as patch:
            Signals(patch, number)
            with pytest.raises(Interrupted):
                train(folder, callbacks=[WeightAverage(0.6)], **settings)
        model = train(folder, callbacks=[WeightAverage(0.6)], **settings)
        assert everything(folder) == files, f"check {number}"
        assert all((a == b).all() for a, b in zip(model.get_weights(), whole.get_weights()))
    again = train(tmp_path / "whole", callbacks=[WeightAverage(0.6)], **settings)       # nothing is left to train
    assert all((a == b).all() for a, b in zip(again.get_weights(), whole.get_weights()))


@pytest.mark.parametrize("decay", [0.3, 0.6, 0.999])
def test_a_mean_of_weights_is_its_formula(decay):
    class Seen(Callback):
        def __init__(self):
            self.epochs = []

        def on_epoch_end(self, model, epoch, metrics):
            self.epochs.append([w.astype(np.float64) for w in model.get_weights()])

    model, seen = small(), Seen()
    model.fit(TRAINING, epochs=5, batch_size=8, callbacks=[WeightAverage(decay), seen], progress=False)
    for i, found in enumerate(model.get_weights()):
        mean = seen.epochs[0][i]
        for k, weights_then in enumerate(seen.epochs[1:], 2):
            share = max(1 / k, 1 - decay)
            mean = (1 - share) * mean + share * weights_then[i]
        np.testing.assert_allclose(found, mean, rtol=1e-5, atol=1e-6)
    if decay == 0.999:                      # five epochs are few: all count alike
        np.testing.assert_allclose(model.get_weights()[0], np.mean([e[0] for e in seen.epochs], axis=0), atol=1e-6)


@pytest.mark.parametrize("decay", [0, 1, 1.5, -0.1, True, "0.9", float("nan")])
def test_a_decay_that_cannot_be(decay):
    with pytest.raises(InputError, match=r"WeightAverage: decay must lie in \(0, 1\), got"):
        WeightAverage(decay)


@pytest.mark.parametrize("state", [{}, {"epochs": 1}, {"epochs": "1", "weights/0": np.ones(2)}, {"epochs": -1},
                                   {"epochs": 0, "weights/0": np.ones(2, "f")}, {"epochs": 1, "weights/0": [1.0, 1.0]},
                                   {"epochs": 1, **{f"weights/{i}": np.ones(2, "f") for i in range(4)}}])
def test_a_mean_refuses_what_it_never_said(state):
    average = WeightAverage()
    average.on_train_begin(small())
    with pytest.raises(InputError, match="WeightAverage: the state in the file is not one of WeightAverage"):
        average.restore(state)


def test_random_batches_of_cov19net_with_threads_and_loaders(tmp_path, monkeypatch, same_threads):
    made = phantom.generate(n=20, seed=2)
    images = made.images[..., None].repeat(3, axis=3)

    def fit(folder, resume=True, workers=1):
        model = cov19net(seed=1)
        model.compile(Adam(), "binary_crossentropy")
        model.fit(images[:16], made.labels[:16], validation=(images[16:], made.labels[16:]), epochs=3, batch_size=2,
                  run=folder, resume=resume, workers=workers, progress=False)

    set_thread_count(1)
    fit(tmp_path / "whole", workers=0)
    files, chance, batches = left(tmp_path / "whole"), random.Random(4), 3 * (8 + 2 + 1)
    for i, number in enumerate(chance.sample(range(1, batches + 1), 8)):
        set_thread_count(1 + i % 4)
        folder = tmp_path / str(i)
        with monkeypatch.context() as patch:
            Signals(patch, number)
            with pytest.raises(Interrupted):
                fit(folder, workers=i % 5)
        set_thread_count(1 + (i + 1) % 4)
        fit(folder, workers=(i + 2) % 5)
        assert left(folder) == files, f"batch {number}"
        shutil.rmtree(folder)


def test_it_goes_on_in_memory_too(whole, monkeypatch):
    settings, _, arrays, _ = whole
    def go_on(model):
        model.fit(TRAINING, validation=VALIDATION, epochs=EPOCHS - len(model.history), batch_size=8, progress=False,
                  callbacks=[LearningRateSchedule(lambda epoch: 0.01 / epoch)], **settings)

    model, other = small(), small()
    for number in (2, 6, 3):
        with monkeypatch.context() as patch:
            Signals(patch, number)
            patch.setattr(model._trainer, "between_batches", signals.check)     # the model was compiled before
            with pytest.raises(Interrupted, match=r"^interrupted in epoch \d, batch \d of \d\.$"):
                go_on(model)
    go_on(model), go_on(other)
    assert model.position is None and model.history == other.history
    assert all((a == b).all() for a, b in zip(model.get_weights(), other.get_weights()))


def test_an_epoch_begun_goes_on_with_what_it_was_begun_with(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        Signals(patch, 2)
        with pytest.raises(Interrupted):
            train(tmp_path / "run")
    model = Sequential.load(tmp_path / "run" / "last.safetensors")
    assert (model.position.batch, model.position.steps, model.position.seen) == (2, 3, 16)
    with pytest.raises(InputError, match=r"in the middle of an epoch \(batch 2 of 3\) with batch_size = 8, now it is 4"):
        model.fit(TRAINING, batch_size=4, progress=False)
    with pytest.raises(InputError, match="with samples = 22, now it is 9"):
        model.fit(VALIDATION, batch_size=8, progress=False)
    with pytest.raises(InputError, match="with shuffle = True, now it is False"):
        model.fit(TRAINING, batch_size=8, shuffle=False, progress=False)
    assert model.position.batch == 2
    model.position = None
    assert model.fit(TRAINING, batch_size=4, progress=False).epochs == [1]


def test_callbacks_are_called_as_often_as_without_interruption(tmp_path, monkeypatch):
    def record(numbers):
        events = []

        class Record(Callback):
            def on_epoch_begin(self, model, epoch):
                events.append(("begin", epoch))

            def on_epoch_end(self, model, epoch, metrics):
                events.append(("end", epoch))

            def on_interrupt(self, model):
                events.append("interrupt")

        folder = tmp_path / "-".join(map(str, numbers or "0"))
        for number in [*numbers, None]:
            with monkeypatch.context() as patch:
                Signals(patch, number)
                try:
                    train(folder, callbacks=[Record()], epochs=2)
                except Interrupted:
                    pass
        return events

    once = record([])
    assert once == [("begin", 1), ("end", 1), ("begin", 2), ("end", 2)]
    again = record([2, 3, 2, 5])        # in training, in validation, in validation again, and in the second epoch
    assert [event for event in again if event != "interrupt"] == once and again.count("interrupt") == 4


def test_early_stopping_stops_where_it_would_have(tmp_path, monkeypatch):
    def stopping():
        return [EarlyStopping("val_loss", patience=2)]

    wrong = Manifest.from_arrays((uniforms(5, Stream.PHANTOM, 9, 4, 9 * 64) * 255).astype(np.uint8).reshape(9, 8, 8),
                                 np.arange(9) // 5, ("normal", "covid"))
    settings = dict(validation=wrong, epochs=40, steps_per_epoch=12)
    with monkeypatch.context() as patch:
        signals = Signals(patch)
        model = train(tmp_path / "whole", small(rate=0.1), callbacks=stopping(), **settings)
    n, best = len(model.history), model.get_weights()
    assert 2 < n < 40 and signals.count == n * (12 + 2 + 1) + 1
    last = Sequential.load(tmp_path / "whole" / "last.safetensors").get_weights()
    assert any((a != b).any() for a, b in zip(last, best))                      # it ends with the best, not the last
    for number in (n * 15, n * 15 - 1, n * 15 - 20, (n - 1) * 15):
        with monkeypatch.context() as patch:
            Signals(patch, number)
            with pytest.raises(Interrupted):
                train(tmp_path / str(number), small(rate=0.1), callbacks=stopping(), **settings)
        model = train(tmp_path / str(number), small(rate=0.1), callbacks=stopping(), **settings)
        assert left(tmp_path / str(number)) == left(tmp_path / "whole")
        assert all((a == b).all() for a, b in zip(best, model.get_weights()))


class Killed(BaseException):
    """Training ends between two files, as kill -9 would end it: what was written stays, nothing is tidied up."""


def kill_after(monkeypatch, number):
    """Raise Killed after so many files; return a list that grows with each."""
    done = []

    def counted(function):
        def call(path, *rest):
            function(path, *rest)
            done.append(path)
            if len(done) == number:
                raise Killed
        return call

    for module, name in ((weights, "write_atomic"), (keeping, "write_atomic"), (keeping, "keep_as")):
        monkeypatch.setattr(module, name, counted(getattr(module, name)))
    return done


def test_dying_between_any_two_files_changes_no_bit(whole, tmp_path, monkeypatch):
    settings, files, _, _ = whole
    with monkeypatch.context() as patch:
        done = kill_after(patch, None)
        train(tmp_path / "all", **settings)
    assert len(done) > 3 * EPOCHS
    for number in range(1, len(done)):
        with monkeypatch.context() as patch:
            kill_after(patch, number)
            with pytest.raises(Killed):
                train(tmp_path / str(number), **settings)
        train(tmp_path / str(number), **settings)
        assert left(tmp_path / str(number)) == files, f"after file {number}: {done[number - 1]}"


def test_a_damaged_last_gives_way_to_previous_with_a_warning(whole, tmp_path):
    settings, files, _, _ = whole
    train(tmp_path / "run", **settings | {"epochs": 3})
    last, previous = tmp_path / "run" / "last.safetensors", tmp_path / "run" / "previous.safetensors"
    damaged = bytearray(last.read_bytes())
    damaged[-1] ^= 1
    last.write_bytes(damaged)
    with pytest.warns(RuntimeWarning, match="damaged.*Going on from .*previous.safetensors, the epoch before") as told:
        train(tmp_path / "run", **settings)
    assert len(told) == 1 and left(tmp_path / "run") == files
    for path in (last, previous):
        path.write_bytes(damaged)
    with pytest.raises(WeightsError, match="previous.safetensors: damaged"):
        train(tmp_path / "run", **settings)


@pytest.mark.parametrize("change, part", [
    (dict(model=lambda: small(seed=8)), "seed"),
    (dict(model=lambda: Sequential([Flatten(), Dense(1), Sigmoid()], (8, 8, 3), 7)), "layers"),
    (dict(rule=("mean_squared_error", Adam())), "loss"),
    (dict(rule=("binary_crossentropy", Adam(beta_1=0.8))), "optimizer"),
    (dict(data=radiographs(21)), "training images"),
])
def test_another_training_is_not_gone_on_with(change, part, tmp_path):
    train(tmp_path / "run", epochs=1)
    before = everything(tmp_path / "run")
    model = change.get("model", small)()
    loss, optimizer = change.get("rule", ("binary_crossentropy", Adam()))
    model.compile(optimizer, loss)
    with pytest.raises(InputError, match=f"last.safetensors: this run was begun with other {part}. Give the same"):
        model.fit(change.get("data", TRAINING), validation=VALIDATION, run=tmp_path / "run", resume=True,
                  progress=False)
    assert everything(tmp_path / "run") == before


def test_the_callbacks_must_be_the_same(tmp_path):
    train(tmp_path / "run", epochs=1)
    with pytest.raises(InputError, match="begun with EarlyStopping .of those that remember something., now .* none"):
        train(tmp_path / "run", callbacks=[])
    with pytest.raises(InputError, match="now there is EarlyStopping, EarlyStopping. Give the same, in the same order"):
        train(tmp_path / "run", callbacks=[EarlyStopping(), EarlyStopping()])
    with pytest.raises(InputError, match="resume=True needs the folder to go on with"):
        small().fit(TRAINING, resume=True)


class Counting(Callback):
    """A callback of a user's own that remembers a number and an array."""

    def __init__(self):
        self.n, self.sums = 0, np.zeros(2)

    def on_epoch_end(self, model, epoch, metrics):
        self.n, self.sums = self.n + 1, self.sums + metrics["loss"]

    def state(self):
        return {"n": self.n, "sums": self.sums}

    def restore(self, state):
        self.n, self.sums = state["n"], state["sums"]


def test_callbacks_of_your_own_remember(tmp_path):
    whole, first, second = Counting(), Counting(), Counting()
    train(tmp_path / "whole", callbacks=[whole], epochs=3)
    train(tmp_path / "run", callbacks=[first], epochs=2)
    train(tmp_path / "run", callbacks=[second], epochs=3)
    assert second.n == whole.n == 3 and (second.sums == whole.sums).all()
    assert left(tmp_path / "run") == left(tmp_path / "whole")


@pytest.mark.parametrize("n, error, sentence", [
    (object(), InputError, "save: callbacks must hold plain numbers, strings, lists and dicts"),
    (np.nan, NonFiniteError, "save: callbacks holds NaN or infinity"),
])
def test_what_a_callback_cannot_have_remembered_is_not_saved(n, error, sentence, tmp_path):
    class Wrong(Counting):
        def state(self):
            return {"n": n}

    with pytest.raises(error, match=sentence):
        train(tmp_path / "run", callbacks=[Wrong()], epochs=1)
    assert "last.safetensors" not in os.listdir(tmp_path / "run")


def test_fit_is_idempotent_and_a_failed_fit_leaves_no_trace(tmp_path):
    def weights_of(model):
        return [array.tobytes() for array in model.get_weights()]

    a, b, c = small(), small(), small()
    for model in (a, b):
        model.fit(TRAINING, validation=VALIDATION, epochs=2, batch_size=8, progress=False)
    assert weights_of(a) == weights_of(b) and a.history == b.history
    with pytest.raises(ShapeError):
        c.fit(np.zeros((2, 3, 8, 8), np.float32), [0, 1], progress=False)
    with pytest.raises(InputError):
        c.fit(TRAINING, epochs=0, progress=False)
    with pytest.raises(InputError, match="there is no 'val_loss'"):
        small().fit(TRAINING, callbacks=[EarlyStopping()], progress=False)
    c.fit(TRAINING, validation=VALIDATION, epochs=2, batch_size=8, progress=False)
    assert weights_of(c) == weights_of(a) and c.history == a.history


def test_a_validation_loss_that_is_not_finite_stops_training(tmp_path):
    x = np.ones((4, 2, 2, 1))
    model = Sequential([Flatten(), Dense(1)], (2, 2, 1), dtype="float64")
    model.compile(Adam(), "mean_squared_error")
    with pytest.raises(NonFiniteError, match="epoch 1: the validation loss is inf"):
        model.fit(x, np.ones(4), validation=(np.full_like(x, 1e300), np.ones(4)), run=tmp_path / "run", progress=False)
    assert os.listdir(tmp_path / "run") == []


# ---- Checkpoints of unknown origin -----------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """(tensors, metadata) of a checkpoint in the middle of an epoch, with callbacks."""
    folder = tmp_path_factory.mktemp("interrupted")
    with pytest.MonkeyPatch.context() as patch:
        Signals(patch, 8)
        with pytest.raises(Interrupted, match="in epoch 2, batch 2 of 3"):
            train(folder / "run")
    return weights.load(folder / "run" / "last.safetensors")


def put(value, *path):
    """Return a change of a checkpoint: `value` at this place of its JSON."""
    def change(tensors, metadata):
        table = json.loads(metadata[path[0]])
        inner = table
        for key in path[1:-1]:
            inner = inner[key]
        if len(path) > 1:
            inner[path[-1]] = value
        metadata[path[0]] = json.dumps(table if len(path) > 1 else value)
    return change


def drop(name):
    return lambda tensors, metadata: (tensors.pop(name, None), metadata.pop(name, None))


def array(name, value):
    return lambda tensors, metadata: tensors.update({name: value})


STRANGE = [
    put(3, "position", "batch"), put(0, "position", "batch"), put(True, "position", "batch"),
    put(4, "position", "batch"), put(10**400, "position", "batch"), put(7, "position", "seen"),
    put(17.0, "position", "right"),
    put(-1.0, "position", "right"), put("1", "position", "loss"), put(1, "position", "shuffle"),
    put(0, "position", "batch_size"), put(2**31, "position", "samples"), put(-1, "position", "steps_per_epoch"),
    put([], "position"), put({}, "position"), put(1, "position", "more"), put(None, "history"), put([1], "history"),
    put(2, "history", 0, "epoch"), put("x", "history", 0, "loss"), put([], "history", 0, "loss"),
    put(10**30, "history", 0, "loss"), put(0.5, "history", 0, "a\x1b[2J"), put(True, "callbacks", "states", 0, "type"),
    put(1, "callbacks", "stop"), put({}, "callbacks", "states"), put([], "callbacks"), put(1, "callbacks", "more"),
    put([], "callbacks", "states"), put(0, "callbacks", "states", 0, "state", "weights/0"),
    put(["normal"], "classes"), put(["a", "a"], "classes"), put([1, 2], "classes"), put("ab", "classes"),
    put(["a", "b", "c"], "classes"), put(1, "preprocessing"), put(0, "preprocessing", "height"), put(7, "loss"),
    put("entropy", "loss"), put("RMSprop", "optimizer", "type"), put([], "optimizer", "type"),
    put(-1, "optimizer", "learning_rate"), put("1", "optimizer", "beta_1"), put(1, "optimizer", "more"),
    put("Lambda", "architecture", "layers", 0, "type"), put([], "architecture", "layers", 0, "type"),
    put({}, "architecture", "layers"), put([[]], "architecture", "layers"), put(8, "architecture", "input_shape"),
    put([2**40, 8, 3], "architecture", "input_shape"), put("float16", "architecture", "dtype"),
    put([], "architecture", "dtype"), put(-1, "architecture", "seed"), put(2**65, "architecture", "seed"),
    put(0, "architecture", "layers", 0, "filters"), put(10**9, "architecture", "layers", 0, "filters"),
    put("../x", "architecture", "layers", 0, "name"), lambda tensors, metadata: metadata.update(extra="0"),
    drop("architecture"), drop("history"), drop("classes"), drop("loss"), drop("optimizer"),
    drop("optimizer/t"), drop("optimizer/v/dense_1/kernel"),
    drop("dense_1/bias"), array("more", np.zeros(1)), array("callbacks/0x/weights/0", np.zeros(1)),
    array("optimizer/t", np.array(-1)), array("optimizer/t", np.array([1])), array("optimizer/t", np.array(2**60)),
    array("optimizer/m/dense_1/bias", np.zeros(1)), array("training_images", np.zeros((2, 31), np.uint8)),
    array("training_images", np.zeros((), np.uint8)), array("training_images", np.zeros((2, 32))),
    lambda tensors, metadata: metadata.update(position="[" * 100_000),
    lambda tensors, metadata: metadata.update(history='[{"epoch": 1, "loss": NaN}]'),
    lambda tensors, metadata: metadata.update(history='[{"epoch": 1, "loss": 1e999}]'),
    lambda tensors, metadata: metadata.update(history='[{"epoch": ' + "9" * 5000 + "}]"),
    lambda tensors, metadata: metadata.update(format="minicnn model 2"),
]


@pytest.mark.parametrize("change", STRANGE, ids=range(len(STRANGE)))
def test_a_strange_checkpoint_is_refused(change, interrupted, tmp_path):
    tensors, metadata = dict(interrupted[0]), dict(interrupted[1])
    metadata.pop("sha256", None)
    change(tensors, metadata)
    weights.save(tmp_path / "strange.safetensors", tensors, metadata)
    with pytest.raises(WeightsError, match="strange.safetensors: "):
        Sequential.load(tmp_path / "strange.safetensors")


def test_the_tester_of_strange_checkpoints_saves_what_load_takes(interrupted, tmp_path):
    tensors, metadata = interrupted
    weights.save(tmp_path / "same.safetensors", tensors, metadata)
    model = Sequential.load(tmp_path / "same.safetensors")
    assert model.position.batch == 2 and len(model.history) == 1


@pytest.mark.parametrize("state", [{"best": "0", "waited": 0}, {"best": None, "waited": -1}, {"best": 0.5}, {},
                                   {"best": 0.5, "waited": 1, "weights/1": np.zeros(1)},
                                   {"best": 0.5, "waited": 1, "weights/0": [1]}, {"best": 0.5, "waited": True}])
def test_early_stopping_refuses_what_it_never_said(state):
    with pytest.raises(InputError, match="EarlyStopping: the state in the file is not one of EarlyStopping"):
        EarlyStopping().restore(state)


# ---- Other processes -------------------------------------------------------------------------------------------------

SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from tests.test_training import train
train(Path(sys.argv[2]))
"""


def test_neither_the_process_nor_blas_threads_change_a_bit(tmp_path):
    train(tmp_path / "here")
    processes = [subprocess.Popen([sys.executable, "-c", SCRIPT, str(Path(__file__).parents[1]), str(tmp_path / threads)],
                                  env=os.environ | {"OPENBLAS_NUM_THREADS": threads, "PYTHONHASHSEED": threads},
                                  stderr=subprocess.PIPE, text=True) for threads in ("1", "2")]
    for threads, process in zip(("1", "2"), processes):
        error = process.communicate(timeout=120)[1]
        assert process.returncode == 0, error
        assert left(tmp_path / threads) == left(tmp_path / "here")


def test_ten_kills_in_one_run_lose_nothing(tmp_path):
    counts = measure("killed", folder=str(tmp_path), count=10)
    assert counts["kills"] == 10 and counts["in_epochs"] >= 4
    assert counts["lost"] == counts["litter"] == 0 and counts["identical"] == counts["runs"]


@pytest.mark.soak
def test_two_hundred_kills_lose_nothing(tmp_path):
    counts = measure("killed", folder=str(tmp_path), count=200, seed=1)
    assert counts["kills"] == 200 and counts["in_epochs"] >= 100
    assert counts["lost"] == counts["litter"] == 0 and counts["identical"] == counts["runs"]
