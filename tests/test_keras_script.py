"""A script written for Keras runs after its import lines, and no others, are changed."""

import re

import numpy as np

SCRIPT = '''\
import numpy as np
import matplotlib.pyplot as plt
from keras import Input, Sequential
from keras.callbacks import EarlyStopping, LambdaCallback, LearningRateScheduler, ModelCheckpoint, ReduceLROnPlateau
from keras.layers import Conv2D, Dense, Dropout, Flatten, MaxPooling2D
from keras.models import load_model
from keras.optimizers import RMSprop
from keras.regularizers import L2

# Images of 16 x 16: a bar that stands, a bar that lies, or none, in noise.
rng = np.random.default_rng(0)
y = rng.integers(0, 3, 240)
x = rng.normal(0.3, 0.1, (240, 16, 16, 1)).astype("float32")
for image, label, place in zip(x, y, rng.integers(2, 13, 240)):
    if label == 1:
        image[:, place:place + 2] += 0.5
    elif label == 2:
        image[place:place + 2, :] += 0.5
x_train, x_test, y_train, y_test = x[:180], x[180:], y[:180], y[180:]

model = Sequential([
    Input((16, 16, 1)),
    Conv2D(8, 3, activation="relu", padding="same", kernel_regularizer=L2(1e-4)),
    MaxPooling2D(2),
    Conv2D(16, (3, 3), strides=1, activation="relu", use_bias=True),
    MaxPooling2D(pool_size=(2, 2)),
    Flatten(),
    Dropout(0.2),
    Dense(16, activation="relu", kernel_initializer="he_normal"),
    Dense(3, activation="softmax"),
])
model.summary()
model.compile(optimizer=RMSprop(learning_rate=2e-3, clipnorm=1.0), loss="sparse_categorical_crossentropy",
              metrics=["accuracy"])

seen = []
callbacks = [
    LearningRateScheduler(lambda epoch, lr: lr if epoch < 4 else lr * 0.9),
    ReduceLROnPlateau(monitor="val_loss", factor=0.5, patience=3, min_lr=1e-5),
    ModelCheckpoint("best.keras", monitor="val_loss", save_best_only=True),
    LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append((epoch, logs["val_accuracy"]))),
    EarlyStopping(monitor="val_loss", patience=4, min_delta=1e-4, mode="min", restore_best_weights=True),
]
history = model.fit(x_train, y_train, batch_size=16, epochs=10, verbose=2, validation_split=0.2, callbacks=callbacks,
                    class_weight={0: 1.0, 1: 1.0, 2: 1.0}, shuffle=True)

figure, axes = plt.subplots(1, 2)
for axis, name in zip(axes, ("loss", "accuracy")):
    axis.plot(history.epoch, history.history[name], label="training")
    axis.plot(history.epoch, history.history["val_" + name], label="validation")
    axis.set_title(name)
    axis.legend()
plt.savefig("history.png")

scores = model.evaluate(x_test, y_test, verbose=0, return_dict=True)
best = load_model("best.keras")
predicted = best.predict(x_test, verbose=0).argmax(axis=1)
print("test accuracy:", scores["accuracy"], "of the best epoch:", (predicted == y_test).mean())
print(model.count_params(), model.get_layer(index=0).get_weights()[0].shape, float(history.history["learning_rate"][-1]))
model.save_weights("model.weights.h5")
model.load_weights("model.weights.h5")
'''


def test_it_runs_after_its_imports_are_changed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    changed = re.sub(r"^from keras[.\w]* import", "from minicnn import", SCRIPT, flags=re.M)
    assert changed.count("from minicnn import") == 6 and "keras" not in re.sub(r"best\.keras", "", changed)
    assert 60 <= SCRIPT.count("\n") <= 70
    names = {}
    exec(compile(changed, "script.py", "exec"), names)
    assert names["scores"]["accuracy"] >= 0.9 and (names["predicted"] == names["y_test"]).mean() >= 0.9
    assert [epoch for epoch, _ in names["seen"]] == names["history"].epoch
    assert (tmp_path / "history.png").stat().st_size > 10_000 and np.isfinite(names["history"].history["val_loss"]).all()
    said = capsys.readouterr()
    assert "test accuracy:" in said.out and re.search(r"validation_split=0.2: 3[56] of 180 samples", said.err)


FUNCTIONAL = '''\
import numpy as np
from keras import Input, Model
from keras.layers import (Add, BatchNormalization, Concatenate, Conv2D, Dense, GlobalAveragePooling2D, MaxPooling2D,
                          Multiply, ReLU, Reshape)
from keras.models import load_model
from keras.optimizers import Adam

rng = np.random.default_rng(1)
y = rng.integers(0, 2, 160)
x = rng.normal(0.3, 0.1, (160, 16, 16, 1)).astype("float32")
for image, label, place in zip(x, y, rng.integers(2, 13, 160)):
    if label == 1:
        image[:, place:place + 2] += 0.5
    else:
        image[place:place + 2, :] += 0.5


def residual_block(inputs, filters, strides=1):
    y = Conv2D(filters, 3, strides=strides, padding="same", use_bias=False)(inputs)
    y = BatchNormalization(momentum=0.8)(y)
    y = ReLU()(y)
    y = Conv2D(filters, 3, padding="same", use_bias=False)(y)
    y = BatchNormalization(momentum=0.8)(y)
    if strides > 1 or inputs.shape[-1] != filters:
        inputs = Conv2D(filters, 1, strides=strides, use_bias=False)(inputs)
    return ReLU()(Add()([inputs, y]))


inputs = Input(shape=(16, 16, 1))
h = Conv2D(8, 3, padding="same", activation="relu")(inputs)
h = residual_block(h, 8)
h = residual_block(h, 16, strides=2)
one, three = Conv2D(8, 1, activation="relu")(h), Conv2D(8, 3, padding="same", activation="relu")(h)
h = Concatenate()([one, three, MaxPooling2D(3, strides=1, padding="same")(h)])
weights = Dense(32, activation="sigmoid")(GlobalAveragePooling2D()(h))
h = Multiply()([h, Reshape((1, 1, 32))(weights)])
outputs = Dense(1, activation="sigmoid")(GlobalAveragePooling2D()(h))
model = Model(inputs=inputs, outputs=outputs)
model.summary()
model.compile(optimizer=Adam(3e-3), loss="binary_crossentropy", metrics=["accuracy"])
model.fit(x[:120], y[:120], batch_size=20, epochs=12, verbose=0)
model.save("functional.keras")
p = load_model("functional.keras").predict(x[120:], verbose=0)
accuracy = ((p[:, 0] > 0.5) == y[120:]).mean()
'''


def test_a_functional_script_runs_after_its_imports_are_changed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    changed = re.sub(r"^from keras[.\w]* import", "from minicnn import", FUNCTIONAL, flags=re.M)
    names = {}
    exec(compile(changed, "script.py", "exec"), names)
    assert names["accuracy"] >= 0.9 and not names["model"].network.is_chain
    assert "add_2" in capsys.readouterr().out
