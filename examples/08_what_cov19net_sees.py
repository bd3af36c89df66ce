# %% [markdown]
# # 8. What COV-19Net sees
#
# A trained network is 609,473 numbers. Here are three ways to look inside: its filters, its feature maps, and what
# happens when a part of the image is covered. The radiographs are synthetic, which has an advantage: the same patient
# can be drawn with and without the disease, so its place is known.

# %%
import numpy as np

from minicnn import Adam, cov19net
from minicnn.data.synthetic import phantom
from minicnn.teaching.drawing import figure, heat, picture, save

made = phantom.generate(n=240, seed=1)
model = cov19net(seed=7)
model.compile(Adam(1e-3), loss="binary_crossentropy")
model.fit(np.repeat(made.images[..., None], 3, axis=3), made.labels, epochs=10, batch_size=16, progress=False)


def answers(images):
    """Return the network's probability of COVID-19 for grey images (n, 64, 64)."""
    return model.predict(np.repeat(images[..., None], 3, axis=3))[:, 0]

# %% [markdown]
# ## The same patient, well and ill
# A counterfactual test of a classifier: only the disease differs. Does the output?

# %%
well, ill = (np.stack([phantom.render(seed=2, patient=k, image=k, positive=sick) for k in range(10)])
             for sick in (False, True))
before, after = answers(well), answers(ill)
print(f"p rises in {(after > before).sum()} of 10 patients, from {before.mean():.2f} to {after.mean():.2f} on average")
assert (after > before).sum() >= 8 and after.mean() > before.mean() + 0.1
patient = int(np.argmax(after - before))            # the clearest case: we look at it from here on

# %% [markdown]
# ## Filters
# The first layer has 32 filters of 3 x 3, for red, green and blue. A radiograph is grey, so the three always see the
# same, and what counts is their sum. A filter whose sum is red on one side and blue on the other responds to edges.

# %%
w, b = model.get_weights()[:2]
filters = w.sum(axis=2)
assert w.shape == (3, 3, 3, 32) and filters.shape == (3, 3, 32)

# %% [markdown]
# ## Feature maps
# An image passes through the layers one at a time. Each convolution of 3 x 3 removes a border of one pixel, each
# pooling halves the size; at the end each number depends on a region, its receptive field.

# %%
maps = [np.repeat(ill[[patient], :, :, None], 3, axis=3).astype(np.float32) / 255]
for layer in model.layers[:8]:
    maps.append(layer.forward(maps[-1]).copy())
assert [m.shape[1] for m in maps] == [64, 62, 62, 31, 29, 29, 14, 12, 12]

by_hand = (maps[0][0, 20:23, 30:33, :, None] * w).sum(axis=(0, 1, 2)) + b     # one pixel of the first layer's 32 maps
assert np.allclose(maps[1][0, 20, 30], by_hand, atol=1e-5)
assert (maps[2] == np.maximum(maps[1], 0)).all()

# %% [markdown]
# ## Occlusion
# The usual occlusion map: cover a square with the mean grey, record by how much p falls, and move on by four pixels.
# Here we can do better than cover: we can *heal* the square, by inserting the healthy image there.

# %%
corners = [(i, j) for i in range(0, 53, 4) for j in range(0, 53, 4)]            # of squares of 12 x 12: 14 x 14 of them


def falls(image, other):
    """Return by how much p falls when a square of the image is replaced by that of `other`, for each square."""
    copies = np.repeat(image[None], len(corners), axis=0)
    for copy, (i, j) in zip(copies, corners):
        copy[i:i + 12, j:j + 12] = other[i:i + 12, j:j + 12]
    return answers(image[None]) - answers(copies)


covering = np.array([falls(sick, np.full_like(sick, sick.mean())) for sick in ill])
healing = np.array([falls(sick, healthy) for sick, healthy in zip(ill, well)])
painted = np.abs(ill.astype(float) - well)
changes = np.array([[p[i:i + 12, j:j + 12].mean() for i, j in corners] for p in painted])
much, none = changes > 20, changes == 0                                         # how much disease a square holds

# %% [markdown]
# Healing behaves as expected: p falls, on average, where there was disease; elsewhere nothing changes. Covering changes
# p everywhere, also where there is *no* disease: to this network a grey square is out-of-distribution, and it may look
# like a finding, or hide evidence against one.

# %%
print(f"p falls by {healing[much].mean():.3f} where disease is healed; covering moves it by "
      f"{np.abs(covering[much]).mean():.3f} there, and by {np.abs(covering[none]).mean():.3f} where there is none")
assert healing[much].mean() > 0.01 and (healing[none] == 0).all()
assert (covering[none] != 0).mean() > 0.99

# %% [markdown]
# With real radiographs healing is impossible, so only occlusion maps remain. Read them with care: such a map can raise
# the suspicion that a network uses the letters in a corner. It cannot prove that it does not.

# %%
def tiles(images):
    """Arrange 32 images (H, W, 32), each divided by its largest number, in 4 rows of 8."""
    scaled = images / np.maximum(np.abs(images).max(axis=(0, 1)), 1e-6)
    padded = np.pad(scaled, ((0, 1), (0, 1), (0, 0)), constant_values=np.nan)
    H, W, _ = padded.shape
    return padded.reshape(H, W, 4, 8).transpose(2, 0, 3, 1).reshape(4 * H, 8 * W)


fig = figure(9.2, 4.3)
above, below = fig.subfigures(2, 1, height_ratios=[1, 1.15])
a, b, c, d, e = above.subplots(1, 5)
picture(a, well[patient], f"well: p = {before[patient]:.2f}", 0, 255)
picture(b, ill[patient], f"ill: p = {after[patient]:.2f}", 0, 255)
heat(c, ill[patient].astype(float) - well[patient], "the disease alone")
heat(d, healing[patient].reshape(14, 14), "healed: p falls (red)")
heat(e, covering[patient].reshape(14, 14), "covered: p falls")
left, right = below.subplots(1, 2)
heat(left, tiles(filters), "the 32 filters of the first layer")
picture(right, tiles(maps[2][0]), "their 32 feature maps, after ReLU", 0, 1)
save(fig, "08_what_cov19net_sees")
