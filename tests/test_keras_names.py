"""What a Keras user types: each row of docs/KERAS.md; validation that is drawn, batches from elsewhere, metrics by name."""

import re
from pathlib import Path

import numpy as np
import pytest

import minicnn
from minicnn import Adam, Dense, Dropout, Flatten, Sequential, Sigmoid, Softmax, model_data
from minicnn.data import Manifest
from minicnn.errors import DTypeError, InputError, ManifestError, MiniCNNError, ShapeError
from minicnn.keras_names import as_metrics
from minicnn.losses import get_loss
from tests.support.interruptions import interrupted_after

TABLE = (Path(__file__).parents[1] / "docs" / "KERAS.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (`.*`) \| (.*) \|$", TABLE, re.M)
X = np.linspace(0, 1, 24 * 16, dtype=np.float32).reshape(24, 4, 4, 1)[np.arange(24) * 7 % 24]
Y = np.arange(24) % 3 % 2


class BatchesByNumber:
    def __init__(self, x=X, y=Y, size=5):
        self.x, self.y, self.size, self.ends = x, y, size, 0

    def __len__(self):
        return -(-len(self.x) // self.size)

    def __getitem__(self, i):
        part = slice(i * self.size, (i + 1) * self.size)
        return self.x[part], self.y[part]

    def on_epoch_end(self):
        self.ends += 1


def endless(x=X, y=Y):
    while True:
        yield from ((x[i:i + 6], y[i:i + 6]) for i in range(0, len(x), 6))


def made(seed=3, engine="reference", **arguments):
    model = Sequential([Flatten(), Dense(4), Dropout(0.2), Dense(1), Sigmoid()], (4, 4, 1), seed=seed, engine=engine)
    model.compile(Adam(0.01), "binary_crossentropy", **arguments)
    return model


def same(one, other):
    return all((a == b).all() for a, b in zip(one.get_weights(), other.get_weights(), strict=True))


def made_of_two():
    names = vars(minicnn) | {name: getattr(minicnn, name) for name in minicnn.__all__}
    for typed, _ in [row for row in ROWS if "two = " in row[0] or "two.compile" in row[0]]:
        for line in re.findall(r"`([^`]*)`", typed):
            exec(line, names)
    return names["two"]


@pytest.mark.parametrize("typed, here", ROWS, ids=[re.sub(r"[^\w=.]+", " ", typed)[:60] for typed, _ in ROWS])
def test_every_row_of_the_table(typed, here, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {name: getattr(minicnn, name) for name in minicnn.__all__}
    names |= {"np": np, "x": X, "y": Y, "model": made(), "batches": BatchesByNumber(), "endless": endless,
              "two": made_of_two(), "ages": X[:, 0, :3, 0], "sizes": X[:, :2, 0, 0]}

    def run():
        for line in re.findall(r"`([^`]*)`", typed):
            exec(line, names)
    if here == "works":
        return run()
    with pytest.raises(MiniCNNError, match=re.escape(here)):
        run()


def test_the_table_is_one():
    assert len(ROWS) == TABLE.count("\n| ") - 1 > 50


# ---- validation_split ------------------------------------------------------------------------------------------------

def test_validation_is_drawn_by_the_seed_and_stratified(capsys):
    """It trains as on the rows that are left, in their order, and measures those drawn."""
    model = made()
    history = model.fit(X, Y, validation_split=0.25, epochs=2, batch_size=5)
    assert "validation_split=0.25: 6 of 24 samples, drawn by the seed (3) and stratified by class. Which are of one patient " \
           "is not said" in capsys.readouterr().err
    from minicnn.data.split import split_groups
    sets = split_groups(np.arange(24), Y, (0.75, 0.25), 3)
    assert (sets == 1).sum() == 6 and Y[sets == 1].mean() == pytest.approx(Y.mean(), abs=0.01) and not sets[-6:].all()
    by_hand = made()
    again = by_hand.fit(X[sets == 0], Y[sets == 0], validation=(X[sets == 1], Y[sets == 1]), epochs=2, batch_size=5,
                        progress=False)
    assert again.rows == history.rows and same(model, by_hand)
    other = made(seed=4).fit(X, Y, validation_split=0.25, verbose=0)
    assert other.history["val_loss"] != history.history["val_loss"]


def test_sample_weights_are_split_too():
    model, w = made(), np.linspace(0, 2, 24)
    history = model.fit(X, Y, validation_split=0.5, sample_weight=w, verbose=0)
    from minicnn.data.split import split_groups
    sets = split_groups(np.arange(24), Y, (0.5, 0.5), 3)
    by_hand = made()
    again = by_hand.fit(X[sets == 0], Y[sets == 0], sample_weight=w[sets == 0], verbose=0,
                        validation_data=(X[sets == 1], Y[sets == 1], w[sets == 1]))
    assert again.rows == history.rows and same(model, by_hand)


def test_images_of_one_patient_stay_together(capsys, monkeypatch):
    images, labels = (np.random.default_rng(2).random((24, 8, 8)) * 255).astype(np.uint8), np.arange(24) // 4 % 2
    manifest = Manifest.from_arrays(images, labels, ("normal", "covid"), patients=[f"p{i // 4}" for i in range(24)])
    model = Sequential([Flatten(), Dense(1), Sigmoid()], (8, 8, 1), seed=1, engine="reference")
    model.compile("sgd", "binary_crossentropy")
    seen = []
    data_of = model_data.training_data
    monkeypatch.setattr(model_data, "training_data", lambda *given: seen.append(data_of(*given)) or seen[-1])
    model.fit(manifest, validation_split=0.34)
    assert "Images of one patient stay together." in capsys.readouterr().err
    training, _, _, (validation, *_) = seen[0]
    patients = [{manifest.patients[i] for i in part._numbers} for part in (training, validation)]
    assert len(validation) == 8 and not patients[0] & patients[1]
    assert len(model.training_digests) <= 2 * len(training)


def test_a_class_that_would_be_missing():
    with pytest.raises(ManifestError, match="set 2 of 2 would have no image of class 1"):
        made().fit(X, np.arange(24) == 3, validation_split=0.2, verbose=0)


# ---- Batches from elsewhere ------------------------------------------------------------------------------------------

def test_batches_by_number_train_as_an_array_does():
    by_array, by_number = made(), made()
    one = by_array.fit(X, Y, batch_size=5, epochs=2, shuffle=False, verbose=0)
    batches = BatchesByNumber()
    other = by_number.fit(batches, epochs=2, shuffle=False, verbose=0, workers=2)
    assert same(by_array, by_number) and one.rows == other.rows and batches.ends == 2
    assert by_number.evaluate(BatchesByNumber()) == by_array.evaluate(X, Y)
    assert (by_number.predict(BatchesByNumber()) == by_array.predict(X)).all()
    pixels = BatchesByNumber((X * 255).astype(np.uint8))
    assert made().fit(pixels, epochs=1, verbose=0).rows != one.rows


def test_their_order_is_drawn_by_the_seed():
    asked = []

    class Watched(BatchesByNumber):
        def __getitem__(self, i):
            asked.append(i)
            return super().__getitem__(i)

    made().fit(Watched(), epochs=3, verbose=0, workers=0)
    epochs = [asked[:5], asked[5:10], asked[10:]]
    assert all(sorted(epoch) == list(range(5)) for epoch in epochs) and epochs[0] != epochs[1] != epochs[2]
    asked.clear()
    made().fit(Watched(), epochs=3, verbose=0, workers=2)
    assert asked == sum(epochs, [])


def test_training_on_them_goes_on_at_any_batch(tmp_path, monkeypatch):
    settings = dict(epochs=3, verbose=0, validation_data=(X, Y), class_weight={0: 1, 1: 2}, resume=True)
    whole = made(metrics=["accuracy", "auc", "f1"])
    whole.fit(BatchesByNumber(), run=tmp_path / "whole", **settings)
    for steps in (2, 4, 3):
        with interrupted_after(steps, monkeypatch):
            made(metrics=["accuracy", "auc", "f1"]).fit(BatchesByNumber(), run=tmp_path / "run", **settings)
    model = made(metrics=["accuracy", "auc", "f1"])
    model.fit(BatchesByNumber(), run=tmp_path / "run", **settings)
    assert same(model, whole)
    for file in ("last.safetensors", "history.csv"):
        assert (tmp_path / "run" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    assert list(model.history[0]) == ["epoch", "loss", "accuracy", "auc", "f1", "val_loss", "val_accuracy", "val_auc", "val_f1"]
    with pytest.raises(InputError, match="begun with other metrics"):
        made().fit(BatchesByNumber(), run=tmp_path / "run", **settings)


def test_a_generator_goes_on_in_the_process_and_not_in_another(tmp_path, monkeypatch):
    whole, model = made(), made()
    whole.fit(endless(), steps_per_epoch=4, epochs=2, verbose=0)
    generator = endless()
    with interrupted_after(2, monkeypatch):
        model.fit(generator, steps_per_epoch=4, epochs=2, verbose=0)
    next(generator)         # the batch under way when the signal came is asked for again: this one was lost
    with pytest.raises(InputError, match="data that can be taken up again"):
        model.fit(endless(), steps_per_epoch=4, run=tmp_path, resume=True)


@pytest.mark.parametrize("batches, error, sentence", [
    (lambda: iter([(X[:6], Y[:6])]), InputError, "generator ended in epoch 1 after 1 of 3 batches"),
    (lambda: iter([(X[:6], Y[:6]), (X[:6, :2], Y[:6])]), ShapeError, r"fit, epoch 1, batch 2: expected x of shape \(N, 4, 4, 1\)"),
    (lambda: iter([(X[:6], Y[:5])]), ShapeError, "fit, epoch 1, batch 1: 6 samples, but 5 targets"),
    (lambda: iter([(X[:6], np.ones((6, 2)))]), ShapeError, r"fit, epoch 1, batch 1: targets: expected shape \(N, 1\)"),
    (lambda: iter([(X[:6], Y[:6], [1.0])]), ShapeError, r"batch 1: expected sample_weight of shape \(6,\)"),
    (lambda: iter([X[:6]]), InputError, "batch 1: expected .x, t. or .x, t, weights., got ndarray"),
    (lambda: iter([(X[:6],)]), InputError, "batch 1: expected .* got 1 parts"),
    (lambda: iter([(X[:6], np.array(["a"] * 6))]), InputError, "batch 1: targets: .*For named classes"),
    (lambda: iter([(np.array([object()] * 6), Y[:6])]), DTypeError, "fit, epoch 1, batch 1: x"),
    (lambda: BatchesByNumber(size=20), InputError, "expected at least 3 batches, the BatchesByNumber has 2"),
    (lambda: BatchesByNumber(X[:0]), InputError, "expected at least 3 batches, the BatchesByNumber has 0")])
def test_batches_that_cannot_be_trained_on(batches, error, sentence):
    with pytest.raises(error, match=sentence):
        made().fit(batches(), steps_per_epoch=3, verbose=0)


@pytest.mark.parametrize("arguments, sentence", [
    ({"y": Y}, "batches bring their targets"), ({"sample_weight": np.ones(24)}, "batches bring their targets"),
    ({"class_weight": "balanced"}, "the weight of each class as a number"),
    ({"validation": (X, Y), "validation_data": (X, Y)}, "validation and validation_data are the same argument"),
    ({"validation_data": iter([(X, Y)])}, "give validation_steps=..."),
    ({"validation_data": iter([(X, Y), (X[:, :2], Y)]), "validation_steps": 2}, "batch 2: expected arrays of shape")])
def test_arguments_that_do_not_go_with_batches(arguments, sentence):
    with pytest.raises((InputError, ShapeError), match=sentence):
        made().fit(BatchesByNumber(), verbose=0, **arguments)


def test_an_error_of_a_batch_is_its_own():
    class Broken(BatchesByNumber):
        def __getitem__(self, i):
            raise OSError("disk")

    for workers in (0, 1):
        with pytest.raises(OSError, match="disk"):
            made().fit(Broken(), verbose=0, workers=workers)


# ---- Metrics and weights ---------------------------------------------------------------------------------------------

def test_metrics_of_an_epoch_are_those_of_all_its_samples():
    model = made(metrics=["recall", "precision"])
    seen = []
    step = model._trainer.step
    model._trainer.step = lambda x, t, w: seen.append((step(x, t, w), t.copy())) or (seen[-1][0][0], seen[-1][0][1].copy())
    history = model.fit(X, Y, batch_size=24, validation_data=(X, Y), verbose=0)
    assert list(history.history) == ["loss", "recall", "precision", "val_loss", "val_recall", "val_precision"]
    measured = model.evaluate(X, Y)
    assert history.history["val_recall"] == [measured["recall"]] and history.history["val_precision"] == [measured["precision"]]
    (_, outputs), t = seen[0]
    positive = outputs[:, 0] > 0.5
    assert history.history["recall"] == [positive[t[:, 0] == 1].mean()]


def test_what_is_measured_depends_on_the_loss_and_the_outputs():
    assert as_metrics(None, get_loss("mean_squared_error"), (1,)) is None
    assert as_metrics("accuracy", get_loss("binary_crossentropy"), (3,)) == ["accuracy"]
    for loss, shape, name in [("binary_crossentropy", (3,), "auc"), ("mean_squared_error", (1,), "accuracy")]:
        with pytest.raises(InputError, match="is not measured with"):
            as_metrics([name], get_loss(loss), shape)
    with pytest.raises(InputError, match="metric of your own is measured by a callback"):
        as_metrics([max], get_loss("binary_crossentropy"), (1,))


def test_a_model_file_keeps_the_metrics(tmp_path):
    model = made(metrics=["f1"])
    model.save(tmp_path / "m")
    assert Sequential.load(tmp_path / "m").metrics == ["f1"]
    made().save(tmp_path / "n")
    assert b"metrics" not in (tmp_path / "n").read_bytes()


def test_sample_weights_count_times_class_weights():
    w = np.linspace(0.5, 2, 24)
    one, other = made(), made()
    one.fit(X, Y, sample_weight=w, class_weight={1: 3.0}, verbose=0)
    other.fit(X, Y, sample_weight=w * np.where(Y, 3.0, 1.0), verbose=0)
    assert same(one, other)
    assert one.evaluate(X, Y, sample_weight=w)["loss"] == pytest.approx(one.test_on_batch(X, Y, w))
    with pytest.raises(ShapeError, match=r"evaluate: expected sample_weight of shape \(24,\), got \(1,\)"):
        one.evaluate(X, Y, sample_weight=[1.0])


def test_testing_a_batch_changes_nothing():
    model = made()
    before = model.get_weights()
    assert model.test_on_batch(X, y=Y) == pytest.approx(model.evaluate(X, Y)["loss"], rel=1e-12)
    assert set(model.train_on_batch(X, Y, return_dict=True)) == {"loss", "accuracy"}
    assert not all((a == b).all() for a, b in zip(before, model.get_weights()))
    three = Sequential([Flatten(), Dense(3), Softmax()], (4, 4, 1), engine="reference")
    three.compile("adam", "sparse_categorical_crossentropy")
    assert three.test_on_batch(X, np.arange(24) % 3, return_dict=True)["accuracy"] == \
        three.evaluate(X, np.arange(24) % 3)["accuracy"]


def test_epochs_are_counted_to_their_end():
    model = made()
    model.fit(X, Y, epochs=2, verbose=0)
    assert model.fit(X, Y, epochs=5, initial_epoch=2, verbose=0).epoch == [2, 3, 4]


def test_what_is_frozen_in_a_run_goes_on_frozen(tmp_path):
    def train(epochs, frozen):
        model = made()
        model.layers[1].trainable = not frozen
        model.fit(X, Y, epochs=epochs, run=tmp_path, resume=True, verbose=0)
        return model

    before = train(1, True)
    with pytest.warns(RuntimeWarning, match="what was frozen in the run, which differs in dense_1"):
        after = train(2, False)
    assert (before.get_weights()[0] == after.get_weights()[0]).all() and not after.layers[1].trainable


def test_layers_set_all_of_their_weights_or_none():
    layer = made().layers[1]
    before = layer.get_weights()
    with pytest.raises(ShapeError, match="kernel has shape|bias has shape"):
        layer.set_weights([before[0] + 1, before[1][:2]])
    assert all((a == b).all() for a, b in zip(before, layer.get_weights()))
    layer.set_weights([before[0] + 1, before[1]])
    assert (layer.get_weights()[0] == before[0] + 1).all() and layer.count_params() == 68
    layer.trainable = False
    assert layer.trainable_weights == [] and len(layer.weights) == 2 and layer.get_config() == layer.config()
