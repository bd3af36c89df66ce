# %% [markdown]
# # 12. A residual network, and why its gradient lives
#
# A deeper network can compute all that a shallow one can. For years it nevertheless learned less: no gradient reached
# its first layers. The remedy is one addition: y = x + f(x) (He et al., 2016).

# %%
from math import comb

import numpy as np

from minicnn import Adam, Add, BatchNormalization, Dense, Input, Model, ReLU, Residual, Sequential, Sigmoid, gradcheck
from minicnn.teaching.drawing import BLUE, GREEN, ORANGE, PURPLE, figure, legend, plot, save

# %% [markdown]
# ## One number a layer
# Let each layer multiply by a. The gradient passes through them all, so forty layers multiply it by a^40. For a = 1/2
# nothing arrives. With the addition each factor is 1 + a, and the 1 does not depend on any weight:
#
#     dx = dy + a dy

# %%
assert 0.5**40 < 1e-12
assert (1 + 0.5)**40 > 1e7                          # lives, but it may grow: more on that below

# %% [markdown]
# Multiply (1 + a)^L out: a path from the end to the start goes, in each block, either through the layer or past it.
# There are 2^L paths, comb(L, k) of them through k layers, each worth a^k. For a = 0.1 most of the gradient comes by
# paths through five layers or fewer: the network of forty layers is trained as many short ones.

# %%
L, a = 40, 0.1
by_length = np.array([comb(L, k) * a**k for k in range(L + 1)])
assert np.isclose(by_length.sum(), (1 + a)**L) and sum(comb(L, k) for k in range(L + 1)) == 2**L
assert by_length[:6].sum() > 0.8 * by_length.sum()

# %% [markdown]
# ## In the library
# `Residual(body)` adds its input to the output of its body. It is short for a graph in which `x` is taken twice. Where
# an array is taken twice, its gradients are added (chapter 3);
# a backward pass that forgets the shortcut is wrong in every number.

# %%
x = Input((6,))
by_hand = Model(x, Add()([x, Dense(6)(ReLU()(x))]), seed=1, dtype="float64")
block = Sequential([Residual([ReLU(), Dense(6)])], input_shape=(6,), seed=1, dtype="float64")
by_hand.set_weights(block.get_weights())
rng = np.random.default_rng(0)
sample = rng.normal(size=(1, 6))
assert np.array_equal(by_hand.predict(sample), block.predict(sample))
w = block.get_weights()[0]
forgotten = gradcheck((lambda x: x + np.maximum(x, 0) @ w, lambda x, dy: (x > 0) * (dy @ w.T)), shape=(1, 6))
assert gradcheck(block, shape=(2, 6)).counts["OK"] == 6 * 6 + 6 and forgotten.counts["BUG"] == 6
print(forgotten.bugs[0])

# %% [markdown]
# ## Forty blocks
# Four networks, which differ in what a block is, learn whether a point is inside the circle.

# %%
points = rng.normal(size=(256, 2))
inside = (np.square(points).sum(axis=1) < 1.4).astype(float)[:, None]
BLOCKS = {
    "plain": lambda: [ReLU(), Dense(32)],
    "normalized": lambda: [BatchNormalization(), ReLU(), Dense(32)],
    "residual": lambda: [Residual([ReLU(), Dense(32)])],
    "both": lambda: [Residual([BatchNormalization(), ReLU(), Dense(32)])],
}


def measure(kind):
    """Return the length of the first gradient of each block's weights, and the losses of 60 steps."""
    blocks = [part for _ in range(L) for part in BLOCKS[kind]()]
    model = Sequential([Dense(32), *blocks, Dense(1), Sigmoid()], input_shape=(2,), seed=1, dtype="float64")
    model.compile(Adam(1e-3), loss="binary_crossentropy")
    names, gradients = model.network.named_parameters(), model.loss_and_gradients(points, inside)[1]
    lengths = [np.linalg.norm(g) for name, g in zip(names, gradients) if name.endswith("kernel")]
    return np.array(lengths[1:-1]), np.array([model.train_on_batch(points, inside) for _ in range(60)])


lengths, losses = zip(*map(measure, BLOCKS))
plain, normalized, residual, both = lengths
for name, length, loss in zip(BLOCKS, lengths, losses):
    print(f"{name}: gradient of the first block {length[0]:.1e}, of the last {length[-1]:.1e}; loss {loss[-1]:.3f}")

# %% [markdown]
# The gradient of a weight is the number that came forward to it times the gradient that came back, so all 40 blocks
# count for each weight. A ReLU drops about half of the squares: with these initial weights a plain block halves them,
# and 40 leave 2^-20 of the product. A residual block adds that half to what there was: 1.5^20 = 3325.

# %%
factors = np.median(plain) / 2**-20, np.median(residual) / 1.5**20
print(f"measured over predicted, the median of the blocks: plain {factors[0]:.2f}, residual {factors[1]:.2f}")
assert plain.max() < 1e-5 and all(0.05 < factor < 1 for factor in factors)

# %% [markdown]
# So the shortcut alone makes numbers too large: the first loss is in the hundreds. Normalization alone (chapter 11)
# keeps them the same size forward, but backward the gradient grows by a fifth in each block. Both together work: the
# body adds about as much each time, so the kth block adds a kth. The gradient lives in every block, and stays small.

# %%
growth = np.exp(np.polyfit(np.arange(L), -np.log(normalized), 1)[0])
assert losses[2][0] > 100 and 1.15 < growth < 1.27
assert both.max() < 10 * both.min() and 1 < both.min() < both.max() < 10
assert [loss[-1] < 0.1 for loss in losses] == [False, False, True, True] and losses[3][10] < 0.2 < losses[2][10]

# %%
fig = figure(9.6, 3.7)
left, right = fig.subplots(1, 2)
plot(left, "First gradient of each block's weights", "block")
plot(right, "Training loss", "step")
for name, length, loss, style in zip(BLOCKS, lengths, losses, ("o", "^", "D", "s")):
    colour = dict(zip(BLOCKS, (ORANGE, PURPLE, GREEN, BLUE)))[name]
    left.semilogy(np.arange(1, L + 1), length, style + "-", color=colour, markersize=3, linewidth=1)
    right.semilogy(loss, color=colour, label=name)
legend(right, loc="upper right")
save(fig, "12_a_residual_network")
