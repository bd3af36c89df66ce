# %% [markdown]
# # 14. Transfer learning, measured
#
# Labels are few in medicine, and plentiful elsewhere. Train a network there, keep its *trunk*, the layers that make
# features of an image, and give it a new *head*. This chapter measures what that gains, and what breaks it.

# %%
import numpy as np

from minicnn import Adam, BatchNormalization, Conv2D, Dense, Flatten, MaxPool2D, ReLU, Sequential, Softmax
from minicnn.data import ArrayDataset
from minicnn.data.synthetic import phantom
from minicnn.frozen import FrozenFeatures, frozen_end
from minicnn.teaching.drawing import BLUE, GREEN, ORANGE, QUIET, figure, legend, picture, plot, save

SEED, SIZE, COUNTS = 0, 20, (20, 400, 3200)

# %% [markdown]
# ## Two tasks
# What lies on a piece of a synthetic radiograph? First, with 3,200 labels, a disc of 0, 2 or 4 lobes, full or hollow;
# second, with 20, 400 or 3,200 labels, one of 3 or 5. The test images are of other patients.

# %%
def drawn(lobes, n, patients, seed):
    rng, (y, x) = np.random.default_rng([SEED, seed]), np.mgrid[:SIZE, :SIZE]
    whole = phantom.generate(n=60, patients=60, seed=patients, size=96).images
    images, kinds = np.empty((n, SIZE, SIZE, 1), np.uint8), np.arange(n) % (2 * len(lobes))
    for image, kind in zip(images, kinds):
        k, (i, j), (cy, cx) = rng.integers(60), rng.integers(0, 96 - SIZE, 2), rng.uniform(6.5, SIZE - 7.5, 2)
        w = (x - cx + 1j * (y - cy)) * np.exp(2j * np.pi * rng.random()) / rng.uniform(4.5, 6.5)    # turned and scaled
        r = abs(w) / (0.7 + 0.3 * np.cos(lobes[kind // 2] * np.angle(w)))                           # 1 at the edge
        disc = rng.uniform(35, 70) * (r < 1) * (2 * r >= kind % 2)
        image[..., 0] = np.minimum(whole[k, i:i + SIZE, j:j + SIZE] + disc, 255)
    return images, kinds


def network(*top, seed=SEED):
    blocks = [layer for filters in (16, 32, 64)
              for layer in (Conv2D(filters, 3), BatchNormalization(momentum=0.9), ReLU(), MaxPool2D(2))]
    return Sequential([*blocks[:-1], Flatten(), *top], input_shape=(SIZE, SIZE, 1), seed=seed)


def train(model, x, t=None, rate=1e-2, steps=250):
    for rate, steps in ((rate, steps * 4 // 5), (rate / 10, steps // 5)):
        model.compile(Adam(rate), loss="categorical_crossentropy")
        model.fit(x, t, epochs=1, steps_per_epoch=steps, batch_size=64, progress=False)
    return model


(images, kinds), (test, answers) = drawn((3, 5), 3200, 3, 1), drawn((3, 5), 1200, 4, 2)
trunk, random = network(), network(seed=SEED + 1)
trunk.set_weights(train(network(Dense(6), Softmax()), *drawn((0, 2, 4), 3200, 3, 0)).get_weights()[:-2])

# %% [markdown]
# ## A frozen trunk runs once an image
# It makes the same bits of an image each time, whatever else is in the batch. `minicnn train --freeze trunk` therefore
# computes features once, and trains the head on those. No gradient passes the trunk either.

# %%
def with_head(trunk, n, x=images):
    model = network(Dense(4), Softmax())
    model.set_weights(trunk.get_weights() + model.get_weights()[-2:])
    for layer in model.layers[:-2]:
        layer.trainable = False
    return train(model, FrozenFeatures(ArrayDataset(x[:n], kinds[:n]), trunk.predict(x[:n]), frozen_end(model.network)))


assert np.array_equal(trunk.predict(images)[::-99], trunk.predict(images[::-99]))
products = sum(layer.flops() // 2 for layer in trunk.layers if isinstance(layer, Conv2D))
print(f"multiplications: {250 * 64 * products:.1e} in 250 steps of 64 images, {400 * products:.1e} for 400 images once")

# %% [markdown]
# ## What it gains, by number of labels
# With 20 labels the frozen trunk is best; *fine-tuning* all weights from there is worse. With 400 it is best. With as
# many as the first task had, from scratch is about as good. The more the tasks differ, the less is gained (Yosinski
# et al., 2014); on medical images large networks gained little from ImageNet (Raghu et al., 2019).

# %%
def tuned(n, rate=3e-3):
    model = with_head(trunk, n)
    model.trainable = True
    return train(model, images[:n], kinds[:n], rate, 125)


WAYS = {"from scratch": lambda n: train(network(Dense(4), Softmax()), images[:n], kinds[:n]), "fine-tuned": tuned,
        "frozen trunk": lambda n: with_head(trunk, n), "random trunk": lambda n: with_head(random, n)}
measured = {name: np.array([way(n).evaluate(test, answers)["accuracy"] for n in COUNTS]) for name, way in WAYS.items()}
print("accuracy with 20, 400, 3200 labels:", *(f"{name} {values.round(2)}" for name, values in measured.items()))
scratch, fine, frozen, noise = measured.values()
assert frozen[0] > max(scratch[0], fine[0]) and fine[1] > max(frozen[1], scratch[1]) and noise.max() < 0.5
assert scratch[2] > max(frozen[2] + 0.04, fine[2] - 0.06)

# %% [markdown]
# ## What breaks it
# A *large rate* leaves nothing of the trunk. Frozen *batch normalization* takes its moving statistics in training too,
# as in Keras; with a batch's own, an answer depends on the other images, here all of one kind. *Pixels* x must be as
# in the first training: not divided by 255 twice, nor black for white. A real network, its head first, then all of it:
#
#     minicnn train --network efficientnet_lite0 --weights imagenet --freeze trunk --out head
#     minicnn train --network efficientnet_lite0 --weights head --freeze normalization --learning-rate 1e-4

# %%
wrong, model = {"rate 0.1": tuned(400, 0.1).evaluate(test, answers)["accuracy"]}, with_head(trunk, 400)
model.trainable = True
wrong["one kind"] = np.mean([model.network.forward(test[k::4], training=True).argmax(1) == k for k in range(4)])
for name, change in {"x / 255": lambda x: x / np.float32(255**2), "255 - x": lambda x: 255 - x}.items():
    wrong[name] = with_head(trunk, 400, change(images)).evaluate(change(test), answers)["accuracy"]
print("with 400 labels:", *(f"{name} {value:.2f}" for name, value in wrong.items()))
assert max(wrong.values()) < frozen[1] - 0.05

# %%
left, middle, last = (fig := figure(9.6, 3.4)).subplots(1, 3, width_ratios=[1, 1.7, 1.5])
picture(left, np.vstack([np.hstack(images[i:i + 4, ..., 0]) for i in range(0, 20, 4)]), "The second task", 0, 255)
plot(middle, "Accuracy", "labels")
for (name, values), colour, style in zip(measured.items(), (ORANGE, GREEN, BLUE, QUIET), ("o-", "D-", "s-", "^:")):
    middle.plot([f"{n:,}" for n in COUNTS], values, style, color=colour, label=name)
legend(middle, loc=(0.55, 0.2))
plot(last, "With 400 labels")
last.bar(["right", *wrong], [frozen[1], *wrong.values()], color=[BLUE] + [ORANGE] * 4)
save(fig, "14_transfer_learning")
