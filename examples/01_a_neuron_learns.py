# %% [markdown]
# # 1. A neuron learns
#
# Everything in this library, up to a network of 609,473 parameters, learns the way that the one neuron of this chapter
# does. It has two parameters, `w` and `b`, so all of its training fits on one plot.

# %%
import numpy as np

from minicnn import SGD, Dense, Sequential, Sigmoid
from minicnn.teaching.drawing import BLUE, ORANGE, QUIET, SKY, figure, legend, note, plot, save

# %% [markdown]
# Six samples, each a number `x` with its target `t`: 0 on the left, 1 on the right. The two in the middle are the wrong
# way round, as happens in real data, so no neuron can classify all of them correctly.

# %%
x, t = np.array([[-3.0, -2.0, -0.5, 0.5, 2.0, 3.0],
                 [0.0, 0.0, 1.0, 0.0, 1.0, 1.0]])

# %% [markdown]
# The neuron multiplies its input by a weight and adds a bias: `z = w x + b`. The sigmoid turns `z`, which may be any
# number, into a probability `p` between 0 and 1. For `z` = 0 the neuron is undecided: `p` is a half.

# %%
def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def neuron(w, b):
    return sigmoid(w * x + b)


assert (neuron(0.0, 0.0) == 0.5).all()              # it has learned nothing yet

# %% [markdown]
# How wrong is it? A sample that should be 1 costs `-log p`, one that should be 0 costs `-log (1 - p)`: nothing where
# the neuron is sure and right, a lot where it is sure and wrong. The loss is the mean over the samples.

# %%
def loss(w, b):
    p = neuron(w, b)
    return -np.mean(t * np.log(p) + (1 - t) * np.log(1 - p))


assert np.isclose(loss(0.0, 0.0), np.log(2))        # undecided costs log 2 = 0.693 a sample

# %% [markdown]
# In which direction should `w` and `b` change? For one sample the chain rule goes from the loss L to p to z:
#
#     dL/dp = -t/p + (1 - t)/(1 - p) = (p - t) / (p (1 - p))
#     dp/dz = p (1 - p)
#     dL/dz = dL/dp dp/dz = p - t
#
# The factor p (1 - p) cancels: *the gradient is the difference of prediction and target*. And since z = w x + b, we
# have dz/dw = x and dz/db = 1.

# %%
def gradient(w, b):
    dz = neuron(w, b) - t
    return (dz * x).mean(), dz.mean()


dw, db = gradient(0.0, 0.0)
# By hand: p - t is (0.5, 0.5, -0.5, 0.5, -0.5, -0.5); times x: -1.5 - 1 + 0.25 + 0.25 - 1 - 1.5 = -4.5; over 6: -0.75
assert dw == -0.75 and db == 0.0

# %% [markdown]
# Check every derivative numerically: change the parameter a little and compare. Chapter 5 does this well.

# %%
assert np.isclose((loss(1e-5, 0.0) - loss(-1e-5, 0.0)) / 2e-5, dw)

# %% [markdown]
# dL/dw is negative: a larger `w` would lower the loss. So go *against* the gradient, a little at a time. That is all.

# %%
w, b, path = 0.0, 2.0, [(0.0, 2.0)]                 # it starts biased: with b = 2 it predicts 1 everywhere
for step in range(200):
    dw, db = gradient(w, b)
    w, b = w - 0.5 * dw, b - 0.5 * db
    path.append((w, b))
path, losses = np.array(path), np.array([loss(*point) for point in path])
assert (np.diff(losses) < 0).all()                  # every step lowers the loss
assert np.abs(gradient(w, b)).max() < 1e-4          # and at the end the gradient is 0
assert abs(b) < 1e-3                                # the initial bias is gone: the data is symmetric
assert ((neuron(w, b) > 0.5) == t).sum() == 4       # all but the two that are the wrong way round
print(f"200 steps: the loss falls from {losses[0]:.3f} to {losses[-1]:.3f}, w = {w:.3f}, b = {b:.3f}, 4 of 6 are right")

# %% [markdown]
# The library does the same, number for number. `Dense(1)` is `w x + b`, and the loss takes `z` itself: with the factor
# cancelled on paper, no logarithm of 0 is ever computed.

# %%
model = Sequential([Dense(1), Sigmoid()], input_shape=(1,), dtype="float64")
model.set_weights([np.array([[0.0]]), np.array([2.0])])
model.compile(SGD(0.5), loss="binary_crossentropy")
for step in range(200):
    model.train_on_batch(x[:, None], t)
assert np.allclose(model.get_weights()[0], w) and np.allclose(model.get_weights()[1], b)

# %%
fig = figure(9.0, 3.9)
left, right = fig.subplots(1, 2)
plot(left, "The neuron's output", "x", "p")
line = np.linspace(-4, 4, 200)
for step, colour, style in ((0, SKY, ":"), (3, SKY, "--"), (200, BLUE, "-")):
    left.plot(line, sigmoid(path[step, 0] * line + path[step, 1]), style, color=colour, label=f"after {step} steps")
left.plot(x, t, "o", color=ORANGE, markersize=8, label="the samples", clip_on=False, zorder=3)
legend(left, loc="lower right", bbox_to_anchor=(1.0, 0.08))
plot(right, "The path of gradient descent", "w", "b")
ws, bs = np.meshgrid(np.linspace(-0.4, 2.6, 90), np.linspace(-1.4, 2.4, 90))
levels = losses[-1] + np.geomspace(0.005, 2, 12)
right.contour(ws, bs, np.vectorize(loss)(ws, bs), levels=levels, colors=QUIET, linewidths=0.6, alpha=0.6)
right.plot(*path.T, "o-", color=BLUE, markersize=2.5, linewidth=1.2)
right.plot(*path[-1], "*", color=ORANGE, markersize=14)
right.grid(False)
note(right, f"start: loss {losses[0]:.2f}", path[0], (0.75, 2.15))
note(right, f"end: loss {losses[-1]:.2f}", path[-1], (1.9, -0.9))
save(fig, "01_a_neuron_learns")
