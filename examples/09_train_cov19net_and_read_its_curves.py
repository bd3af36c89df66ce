# %% [markdown]
# # 9. Train COV-19Net and read its curves
#
# Two numbers per epoch describe training: the loss on the training set and the loss on the validation set. Most of what
# can go wrong shows in the distance of the two curves.

# %%
import numpy as np

from minicnn import Adam, cov19net
from minicnn.callbacks import EarlyStopping
from minicnn.data.synthetic import phantom
from minicnn.teaching.drawing import BLUE, ORANGE, QUIET, figure, legend, note, plot, save

# %% [markdown]
# 330 synthetic radiographs, half of them ill, each of another patient. The last 80 are for validation. If one patient
# had images on both sides, the network could succeed by recognizing patients; `minicnn train` therefore splits by
# patient.

# %%
made = phantom.generate(n=330, patients=330, seed=5)
images, labels = np.repeat(made.images[..., None], 3, axis=3), made.labels
validation = images[250:], labels[250:]
assert len(set(made.patients)) == 330 and labels.mean() == 0.5

# %% [markdown]
# Train the same network twice: once on 40 images, once on all 250.

# %%
def train(n, epochs, batch_size, callbacks=()):
    model = cov19net(seed=8)
    model.compile(Adam(1e-3), loss="binary_crossentropy")
    history = model.fit(images[:n], labels[:n], validation=validation, epochs=epochs, batch_size=batch_size,
                        callbacks=list(callbacks), progress=False)
    return model, {name: np.array(values) for name, values in history.metrics.items()}


_, few = train(40, epochs=22, batch_size=8)
model, many = train(250, epochs=12, batch_size=16, callbacks=[EarlyStopping("val_loss", patience=12)])

# %% [markdown]
# ## The plateau
# Both begin at a loss of 0.69. That is log 2: the loss of predicting one half for everything (chapter 1). A curve that
# begins *higher* has initial weights that are too large; one that stays there has not learned anything yet. Do not stop
# too early: these networks stay on the plateau for some epochs.

# %%
assert np.isclose(few["val_loss"][0], np.log(2), atol=0.03) and np.isclose(many["val_loss"][0], np.log(2), atol=0.03)

# %% [markdown]
# ## The gap
# On 40 images the training loss keeps falling. The validation loss does not follow: the network overfits these 40
# images. By its training loss alone it would be the better network, and it is the worse one.

# %%
few_gap, many_gap = few["val_loss"][-1] - few["loss"][-1], many["val_loss"][-1] - many["loss"][-1]
print(f"validation minus training loss at the end: 40 images {few_gap:.2f}, 250 images {many_gap:.2f}")
assert few["loss"][-1] < many["loss"][-1]                       # looks better ...
assert many["val_loss"].min() < few["val_loss"].min()           # ... and is worse on unseen patients
assert few_gap > 0.5 > many_gap

# %% [markdown]
# ## The best epoch
# Validation loss has a lowest point. `EarlyStopping` waits for some epochs and then restores the weights of that epoch.
# The validation images were now used to choose, so the validation metrics are a little optimistic: an unbiased value
# needs a third set, used once. That is the test set of `minicnn train`.

# %%
best = int(many["val_loss"].argmin())
assert np.isclose(model.evaluate(*validation)["loss"], many["val_loss"][best], rtol=1e-4)

# %% [markdown]
# ## How sure is an accuracy?
# 80 images are not many. If the true accuracy is a, the measured one has a standard error of about sqrt(a (1 - a) /
# 80): the curve varies by some points from epoch to epoch by chance.

# %%
accuracy = many["val_accuracy"][best]
error = np.sqrt(accuracy * (1 - accuracy) / 80)
print(f"validation accuracy {accuracy:.0%}, plus or minus {error:.0%}")
assert accuracy > 0.55 and 0.02 < error < 0.06

# %% [markdown]
# ## Reproducibility
# Training with the same seed gives the same numbers, to the last bit, with any number of threads. If your own runs
# differ, they depend on more than the seed.

# %%
_, again = train(250, epochs=1, batch_size=16)
assert again["loss"][0] == many["loss"][0] and again["val_loss"][0] == many["val_loss"][0]

# %%
fig = figure(9.6, 3.7)
for ax, run, title in zip(fig.subplots(1, 2, sharey=True), (few, many),
                          ("40 images", "250 images")):
    plot(ax, title, "epoch", "loss")
    epochs = np.arange(1, len(run["loss"]) + 1)
    ax.axhline(np.log(2), color=QUIET, linewidth=0.8, linestyle=":")
    ax.plot(epochs, run["loss"], "o-", color=BLUE, markersize=3, label="training")
    ax.plot(epochs, run["val_loss"], "s--", color=ORANGE, markersize=3, label="validation")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set_ylim(0, max(few["val_loss"]) + 0.1)
    k = int(run["val_loss"].argmin())
    note(ax, "best epoch", (k + 1, run["val_loss"][k]), (k + 1 - 0.07 * len(epochs), run["val_loss"][k] + 0.5))
    legend(ax, loc="lower left")
note(ax, "log 2: nothing learned", (2, np.log(2)), (4, 1.0), QUIET)
save(fig, "09_train_cov19net_and_read_its_curves")
