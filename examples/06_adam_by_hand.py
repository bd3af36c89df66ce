# %% [markdown]
# # 6. Adam by hand
#
# The steps of gradient descent are proportional to the gradient: short on gentle slopes, long on steep ones. Adam, the
# optimizer of COV-19Net, takes steps of about one length everywhere. Here are two of them by hand.

# %%
import numpy as np

from minicnn import SGD, Adam, Parameter
from minicnn.core.backend import get_engine
from minicnn.teaching.drawing import BLUE, GREEN, ORANGE, QUIET, figure, legend, plot, save

# %% [markdown]
# Adam keeps two running means for each weight: `m` of the gradients g, and `v` of their squares. At every step a tenth
# of m is replaced, and a thousandth of v.
#
#     m <- m + (1 - 0.9) (g - m)            v <- v + (1 - 0.999) (g^2 - v)
#
# Take w = 1, and let the first gradient be 0.5.

# %%
g = 0.5
m = 0 + 0.1 * (g - 0)
v = 0 + 0.001 * (g**2 - 0)
assert np.isclose(m, 0.05) and np.isclose(v, 0.00025)

# %% [markdown]
# Both began at 0, so both are far too small: m should be near 0.5 and is a tenth of it, v a thousandth. The bias is
# known: after t steps a mean that began at 0 holds only the fraction 1 - 0.9^t, or 1 - 0.999^t. Divide by it:

# %%
m_hat, v_hat = m / (1 - 0.9**1), v / (1 - 0.999**1)
assert np.isclose(m_hat, 0.5) and np.isclose(v_hat, 0.25)

# %% [markdown]
# The step is the mean over the root of the mean square: w <- w - rate m_hat / sqrt(v_hat). After one step that is 0.5 /
# 0.5 = 1, *whatever the gradient was*; only its sign counts.

# %%
rate = 0.1
w = 1 - rate * m_hat / np.sqrt(v_hat)
assert np.isclose(w, 0.9)

# %% [markdown]
# The second gradient is -0.5: it points the other way. m nearly cancels, v does not, and the step becomes small. That
# is the idea of Adam: where gradients agree the steps are long, where they contradict each other they are short.

# %%
g = -0.5
m, v = m + 0.1 * (g - m), v + 0.001 * (g**2 - v)
m_hat, v_hat = m / (1 - 0.9**2), v / (1 - 0.999**2)
assert np.isclose(m, -0.005) and np.isclose(v, 0.00049975)
assert np.isclose(m_hat, -0.0263, atol=1e-4) and np.isclose(v_hat, 0.25)
w2 = w - rate * m_hat / np.sqrt(v_hat)
assert np.isclose(w2, 0.90526, atol=1e-5)           # a twentieth of the first step

# %% [markdown]
# The library computes the same. It adds a tiny `epsilon` to the root, for a weight whose gradients were all 0, and it
# does both divisions at once on the rate: rate sqrt(1 - 0.999^t) / (1 - 0.9^t).

# %%
def take(optimizer, start, gradient, steps):
    """Return the places that an optimizer visits: shape (steps + 1, size of start)."""
    parameter = Parameter("w", np.array(start))
    visited = [parameter.value.copy()]
    for _ in range(steps):
        parameter.grad[...] = gradient(parameter.value)
        optimizer.step(get_engine("reference"), [parameter])
        visited.append(parameter.value.copy())
    return np.array(visited)


signs = iter([0.5, -0.5])
assert np.allclose(take(Adam(0.1), [1.0], lambda w: next(signs), 2).ravel(), [1, w, w2], atol=1e-5)

# %% [markdown]
# Scale all gradients by 1000 and Adam's path stays the same; that of gradient descent explodes. This is why one
# learning rate, 0.001, serves for the first convolution and for the last dense layer.

# %%
def bowl(w):
    return 0.5 * (w[..., 0]**2 + 40 * w[..., 1]**2)


def slope(w):
    return np.array([w[0], 40 * w[1]])


start = [-4.0, 1.5]
adam = take(Adam(0.1), start, slope, 120)
assert np.allclose(adam, take(Adam(0.1), start, lambda w: 1000 * slope(w), 120), atol=1e-4)

# %% [markdown]
# In the valley, plain descent (rate 0.045) bounces between the walls, since it must be slow enough for the steep way
# and then is slow along the gentle one; at 0.051 it would climb out. Adam walks almost straight at first: both
# coordinates move by 0.1 a step.

# %%
plain = take(SGD(0.045), start, slope, 120)
assert (np.sign(plain[1:10, 1]) == -np.sign(plain[:9, 1])).all()            # from wall to wall
assert bowl(take(SGD(0.051), start, slope, 120)[-1]) > bowl(np.array(start))    # a little faster, and it diverges
assert np.allclose(np.abs(adam[1] - adam[0]), 0.1)                          # the first step of Adam: 0.1 each way
print(f"first step: Adam {np.abs(adam[1] - adam[0]).round(3)}, gradient descent {np.abs(plain[1] - plain[0]).round(3)}")

# %%
fig = figure(9.6, 3.6)
valley, lengths = fig.subplots(1, 2, width_ratios=[3, 2])
plot(valley, "A long valley, 40 times as steep across as along", "w[0]", "w[1]")
grid = np.stack(np.meshgrid(np.linspace(-4.6, 1.2, 120), np.linspace(-1.9, 1.9, 90)), axis=-1)
valley.contour(*grid.transpose(2, 0, 1), bowl(grid), levels=np.geomspace(0.05, 100, 12), colors=QUIET, linewidths=0.3)
lengths.set_yscale("log")
plot(lengths, "Length of each step", "step")
for path, name, colour in ((plain, "gradient descent", ORANGE), (adam, "Adam", BLUE)):
    valley.plot(*path.T, "o-", color=colour, markersize=2.5, linewidth=1, label=name)
    lengths.plot(np.linalg.norm(np.diff(path, axis=0), axis=1), color=colour, label=name)
valley.plot(0, 0, "*", color=GREEN, markersize=13, label="the lowest point")
valley.grid(False)
legend(valley, loc="upper right")
save(fig, "06_adam_by_hand")
