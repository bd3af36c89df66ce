# %% [markdown]
# # 10. Write your own layer, check it, train it
#
# A layer is any object with three methods: `build` returns the output shape, `forward` computes, `backward` returns the
# gradient. It needs no base class and no registration. We write one that learns: *Swish*, a smooth ReLU of which every
# unit learns its own curvature.

# %%
import numpy as np

from minicnn import Adam, Dense, Parameter, ReLU, Sequential, Sigmoid, gradcheck
from minicnn.teaching.drawing import BLUE, ORANGE, QUIET, figure, legend, plot, save

# %% [markdown]
# ## On paper
# Swish is y = x s, where s = sigmoid(beta x). For large beta the sigmoid is a step from 0 to 1, and y is a ReLU; for
# beta = 0 it is 1/2 everywhere, and y a straight line. Of the sigmoid we know that s' = s (1 - s) (chapter 1). The
# product rule and the chain rule give
#
#     dy/dx    = s + x beta s (1 - s)
#     dy/dbeta = x^2 s (1 - s)
#
# Each unit has one beta for all samples, so its gradient is a sum over the samples.

# %%
class Swish:
    """x sigmoid(beta x), with a beta for each unit."""

    def build(self, input_shape):
        self.parameters = [Parameter("beta", np.ones(input_shape[-1]))]
        return input_shape

    def forward(self, x):
        self.x, self.s = x, 1 / (1 + np.exp(-self.parameters[0].value * x))
        return x * self.s

    def backward(self, dy):
        beta, bend = self.parameters[0], self.s * (1 - self.s)
        beta.grad[...] = (dy * self.x**2 * bend).sum(axis=0)
        return dy * (self.s + self.x * beta.value * bend)

# %% [markdown]
# ## Check it
# `gradcheck` builds the layer for the given input shape, 4 samples of 3 units, and checks every number.

# %%
report = gradcheck(Swish(), shape=(4, 3))
print(report)
assert report and report.counts["OK"] >= 4 * 3 + 3              # each x and each beta

# %% [markdown]
# ## Break it
# The most common mistake with a product is to forget half of its rule. The report names the layer, the place and both
# numbers; beta is not flagged, because its gradient is correct.

# %%
class HalfSwish(Swish):
    def backward(self, dy):
        super().backward(dy)
        return dy * self.s


report = gradcheck(HalfSwish(), shape=(4, 3))
print(report.bugs[0])
assert not report and {bug.parameter for bug in report.bugs} == {"x"}

# %% [markdown]
# ## Train it
# Two interleaved moons: no straight line separates them. 300 points for training, 300 for testing.

# %%
rng = np.random.default_rng(0)
angle, moon = rng.uniform(0, np.pi, 600), np.arange(600) % 2
points = np.stack([np.cos(angle), np.sin(angle)], axis=1) * np.where(moon, 1, -1)[:, None]
points += np.where(moon, -0.5, 0.5)[:, None] * [1.0, 0.5] + rng.normal(0, 0.12, (600, 2))
seen, fresh = slice(0, 300), slice(300, 600)


def train(*activations):
    """Return a trained network with a dense layer before each of these activations."""
    layers = [layer for activation in activations for layer in (Dense(8), activation)]
    model = Sequential([*layers, Dense(1), Sigmoid()], input_shape=(2,), seed=1, dtype="float64")
    model.compile(Adam(0.02), loss="binary_crossentropy")
    model.fit(points[seen], moon[seen], epochs=60, batch_size=50, progress=False)
    return model


line, relu, swish = train(), train(ReLU(), ReLU()), train(Swish(), Swish())
scores = [model.evaluate(points[fresh], moon[fresh])["accuracy"] for model in (line, relu, swish)]
print("accuracy on test points: no hidden layer {:.1%}, ReLU {:.1%}, Swish {:.1%}".format(*scores))
assert scores[0] < 0.95 < 0.97 < scores[2]

# %% [markdown]
# The betas were learned like the weights. Some units became sharper, closer to a ReLU, others smoother.

# %%
betas = np.concatenate([layer.parameters[0].value for layer in swish.layers if isinstance(layer, Swish)])
assert betas.min() < 1 < betas.max() and betas.std() > 0.1

# %%
fig = figure(9.6, 3.5)
curves, left, right = fig.subplots(1, 3, width_ratios=[1.15, 1, 1])
plot(curves, "The 16 learned units", "x", "y")
x = np.linspace(-4, 4, 161)
for k, beta in enumerate(np.sort(betas)):
    curves.plot(x, x / (1 + np.exp(-beta * x)), color=BLUE, linewidth=0.8, label="learned" if k == 0 else None)
curves.plot(x, x / (1 + np.exp(-x)), "--", color=ORANGE, label="beta = 1, at the start")
curves.set_ylim(-1, 4)
legend(curves, loc="upper left")
grid = np.stack(np.meshgrid(np.linspace(-2, 2, 90), np.linspace(-1.6, 1.6, 80)), axis=-1)
for ax, model, title in ((left, relu, "ReLU"), (right, swish, "Swish")):
    plot(ax, f"Output with {title}")
    p = model.predict(grid.reshape(-1, 2)).reshape(grid.shape[:2])
    ax.contourf(*grid.transpose(2, 0, 1), p, levels=np.linspace(0, 1, 11), cmap="RdBu", alpha=0.3)
    ax.contour(*grid.transpose(2, 0, 1), p, levels=[0.5], colors=QUIET, linewidths=1)
    for k, colour, marker in ((0, ORANGE, "o"), (1, BLUE, "^")):
        ax.plot(*points[fresh][moon[fresh] == k].T, marker, color=colour, markersize=3)
    ax.set(xticks=[], yticks=[])
save(fig, "10_write_your_own_layer")
