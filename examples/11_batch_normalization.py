# %% [markdown]
# # 11. Batch normalization, derived and checked
#
# Chapter 9 warned of initial weights that are too large. Batch normalization makes their size nearly irrelevant: after
# a layer it brings each channel to mean 0 and variance 1. Forward is one line; backward has a trap.

# %%
import numpy as np

from minicnn import SGD, BatchNormalization, Dense, NonFiniteError, ReLU, Sequential, Sigmoid, gradcheck
from minicnn.teaching.drawing import BLUE, ORANGE, QUIET, figure, legend, matrix, note, plot, save

# %% [markdown]
# One channel, a batch of eight numbers with mean 5 and variance 4. Subtract the mean, divide by s, the root of the
# variance. The layer then scales by gamma and shifts by beta, which it learns, and adds a tiny epsilon to the variance.

# %%
x = np.array([2.0, 4, 4, 4, 5, 5, 7, 9])
M = len(x)


def normalize(x):
    return (x - x.mean()) / x.std()


z, s = normalize(x), x.std()
assert x.mean() == 5 and s == 2 and z.tolist() == [-1.5, -0.5, -0.5, -0.5, 0, 0, 1, 2]
assert np.allclose(normalize(100 * x + 7), z)       # scale and shift of the input are forgotten

# %% [markdown]
# The trap: mean and s are made of the batch, so x[i] reaches *every* z[j], in three ways:
#
#     itself         1 / s                     if i = j
#     by the mean    -1 / (M s)                since d mean / dx[i] = 1 / M
#     by s           -z[j] z[i] / (M s)        since ds / dx[i] = (x[i] - mean) / (M s) = z[i] / M

# %%
J = (np.eye(M) - 1 / M - np.outer(z, z) / M) / s    # J[i, j] = dz[j] / dx[i]
for i, one in enumerate(np.eye(M)):
    assert np.allclose((normalize(x + 1e-5 * one) - normalize(x - 1e-5 * one)) / 2e-5, J[i], atol=1e-9)

# %% [markdown]
# Multiply by the gradient g that arrives at z. The sums over j are means:
#
#     dx[i] = (g[i] - mean(g) - z[i] mean(g z)) / s
#
# Two directions are lost, and must be: shifting all x (along ones) and stretching them (along z) changes no z. What is
# left of g is perpendicular to both. In mathematics' word, s J is a projection: applied twice, it does what once does.

# %%
g = np.random.default_rng(0).normal(size=M)
dx = (g - g.mean() - z * (g * z).mean()) / s
assert np.allclose(J @ g, dx) and np.isclose(dx.sum(), 0) and np.isclose(dx @ z, 0)
assert np.allclose((s * J) @ (s * J), s * J) and np.linalg.matrix_rank(J) == M - 2

# %% [markdown]
# The common mistake is to take mean and s for constants: dx = g / s. `gradcheck` flags every number of it.

# %%
layer = BatchNormalization()
layer.training = True
report, wrong = gradcheck(layer, shape=(6, 3)), gradcheck((normalize, lambda x, dy: dy / x.std()), shape=(8,))
print(f"the layer: {report.counts['OK']} numbers right; mean and s as constants: 8 of 8 wrong:\n{wrong.bugs[0]}")
assert report and wrong.counts["BUG"] == 8

# %% [markdown]
# ## Training and prediction differ
# In training an output depends on the whole batch. Prediction instead uses moving means of the batches' means and
# variances. As in Adam (chapter 6) they hold 1 - 0.9^n of it after n steps, but nothing divides by that here.

# %%
layer = BatchNormalization(momentum=0.9)
model = Sequential([layer], input_shape=(1,), dtype="float64")
model.compile(SGD(0.1), loss="mse")
for n in (1, 2, 3):
    model.train_on_batch(x[:, None], z[:, None])
    assert np.isclose(layer.statistics[0].value[0], x.mean() * (1 - 0.9**n))

# %% [markdown]
# ## What it is for
# Six hidden layers, their initial weights multiplied by a factor, and 60 steps of gradient descent on a simple task: is
# the point inside the circle? Without normalization only factors of 1 and 2 work, and 4 overflows. With it, all do.

# %%
points = np.random.default_rng(0).normal(size=(256, 2))
inside = (np.square(points).sum(axis=1) < 1.4).astype(float)[:, None]
factors = 2.0 ** np.arange(-6, 3)


def loss_after_training(factor, normalized):
    layers = [Dense(1), Sigmoid()]
    for _ in range(6):
        layers = [Dense(16)] + [BatchNormalization()] * normalized + [ReLU()] + layers
    model = Sequential(layers, input_shape=(2,), seed=2, dtype="float64")
    for dense in model.layers[:-2:2 + normalized]:
        dense.set_weights([dense.get_weights()[0] * factor, dense.get_weights()[1]])
    model.compile(SGD(0.2), loss="binary_crossentropy")
    try:
        return [model.train_on_batch(points, inside) for _ in range(60)][-1]
    except NonFiniteError:
        return np.inf


without, with_it = ([loss_after_training(factor, normalized) for factor in factors] for normalized in (False, True))
print("loss after 60 steps, by factor:", np.round(without, 2), "with batch normalization:", np.round(with_it, 2))
assert [k for k, loss in zip(factors, without) if loss < 0.5] == [1, 2] and without[-1] == np.inf and max(with_it) < 0.3

# %%
fig = figure(9.6, 3.7)
left, losses = fig.subplots(1, 2, width_ratios=[1, 1.25])
matrix(left, M * s * J, "8 s dz[j]/dx[i]: far from diagonal", np.eye(M) == 1, size=8)
plot(losses, "Loss after 60 steps", "initial weights multiplied by")
losses.set_xscale("log", base=2)
losses.plot(factors, without, "o-", color=ORANGE, label="without")
losses.plot(factors, with_it, "s-", color=BLUE, label="with batch normalization")
losses.set_ylim(0, 0.9)
note(losses, "log 2: nothing learned", (2**-3, np.log(2)), (2**-3, 0.5), QUIET)
note(losses, "overflow", (2.0, without[-2]), (3.2, 0.6), QUIET)
legend(losses, loc="upper left")
save(fig, "11_batch_normalization")
