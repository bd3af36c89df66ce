# %% [markdown]
# # 4. Pooling, ties and kinks
#
# Max pooling keeps the largest number of each window and drops the rest. Its derivative is simple, until two numbers
# are equal. This chapter is about that case, because it is frequent in radiographs.

# %%
import numpy as np

from minicnn import MaxPool2D
from minicnn.data.synthetic import phantom
from minicnn.reference import max_pool2d, max_pool2d_gradient
from minicnn.teaching.drawing import BLUE, GREEN, ORANGE, QUIET, figure, legend, matrix, note, plot, save

x = np.array([[1, 7, 2, 0],
              [3, 4, 5, 9],
              [6, 6, 0, 0],
              [6, 1, 0, 0]], dtype=float)
window = dict(pool_size=(2, 2), strides=(2, 2), pads=(0, 0, 0, 0))

# %% [markdown]
# Four windows of 2 x 2, next to each other; of each, the largest. The *switch* records which of the four it was: 0 1 in
# the upper row, 2 3 in the lower.

# %%
y, switches = max_pool2d(x[None, :, :, None], **window)
assert y[0, :, :, 0].tolist() == [[7, 9], [6, 0]]
assert switches[0, :, :, 0].tolist() == [[1, 3], [0, 0]]

# %% [markdown]
# Backward: y is a copy of the winner. If the winner changes by h, y changes by h; if any other number changes a little,
# y stays. So the gradient goes to the winner, all of it, and the others get 0.

# %%
dy = np.array([[10, 20], [30, 40]], dtype=float)
dx = max_pool2d_gradient(dy[None, :, :, None], switches, image_size=(4, 4), **window)[0, :, :, 0]
assert dx.tolist() == [[0, 10, 0, 0], [0, 0, 0, 20], [30, 0, 40, 0], [0, 0, 0, 0]]
assert dx.sum() == dy.sum() == 100                  # the sum is preserved

# %% [markdown]
# Look at the lower windows. In the left one three numbers are 6, in the right one all are 0: *ties*. Who wins? The rule
# here, as in other libraries, is that the first in reading order does. Any rule works, if forward and backward share
# it.
#
# Why is a rule needed? Take m(a) = max(a, 6) and let a pass through 6. Below it m is constant, above it m grows as a
# does. The slope jumps from 0 to 1, and at 6 there is none: a *non-differentiable point* (kink).

# %%
def m(a):
    return np.maximum(a, 6.0)


h = 1e-6
from_left, from_right = (m(6) - m(6 - h)) / h, (m(6 + h) - m(6)) / h
assert np.isclose(from_left, 0) and np.isclose(from_right, 1)

# %% [markdown]
# A central difference mixes both slopes: it is the slope of the line from a - h to a + h, which the function has
# nowhere:

# %%
central = (m(6 + h) - m(6 - h)) / (2 * h)
assert np.isclose(central, 0.5)

# %% [markdown]
# So at a tie a correct backward pass gives 1 (or 0) and the check gives 1/2: a false alarm. The tie need not be exact:
# if the second largest number is less than h away, the step crosses the kink.

# %%
a = 6 - 0.3 * h                                     # just below 6: the true slope is 0
assert m(a) == 6 and np.isclose((m(a + h) - m(a - h)) / (2 * h), 0.35)

# %% [markdown]
# The same holds for ReLU, max(z, 0), at z = 0; the rule there is that the slope is 0. At such a kink, every correct
# gradient lies *between* the two one-sided slopes. `gradcheck` uses this (chapter 5).
#
# How rare are ties? Among random numbers they do not occur. Among pixels they do: a radiograph has 256 grey levels, and
# a black border consists of ties.

# %%
def tied(image):
    """Return for each window of 2 x 2 whether its largest number occurs more than once."""
    H, W = (size // 2 * 2 for size in image.shape)
    windows = image[:H, :W].reshape(H // 2, 2, W // 2, 2).transpose(0, 2, 1, 3).reshape(H // 2, W // 2, 4)
    return (windows == windows.max(axis=2, keepdims=True)).sum(axis=2) > 1


assert tied(x).tolist() == [[False, False], [True, True]]
noise = np.random.default_rng(0).normal(size=(64, 64))
chests = phantom.generate(n=40, seed=3).images
bordered = np.pad(chests[0], 8)                     # a black frame, as scanners leave it
assert not tied(noise).any()
share = np.mean([tied(chest) for chest in chests])
print(f"tied windows: noise 0 %, radiographs {share:.0%}, in a black frame {tied(bordered).mean():.0%}")
assert share > 0.1 and tied(bordered).mean() > 0.4

# %% [markdown]
# The layer computes the same; the engine in numba has the same rule, and a test compares them.

# %%
layer = MaxPool2D(2)
layer.configure(dtype="float64")
layer.build((4, 4, 1))
assert (layer.forward(x[None, :, :, None]) == y).all()
assert (layer.backward(dy[None, :, :, None])[0, :, :, 0] == dx).all()

# %%
fig = figure(9.6, 3.2)
one, two, kink = fig.subplots(1, 3, width_ratios=[4, 4, 6])
matrix(one, x, "forward: the winners", dx > 0, GREEN)
matrix(two, dx, "backward: all to the winner", dx > 0, GREEN)
plot(kink, "max(a, 6): no slope at the tie", "a")
line = np.linspace(4, 8, 201)
kink.plot(line, m(line), color=BLUE, linewidth=2)
kink.plot([5, 7], [6, 7], "o--", color=ORANGE, linewidth=1.2, label="the central difference: 1/2")
note(kink, "slope 0", (4.6, 6), (4.6, 6.45), QUIET)
note(kink, "slope 1", (7.6, 7.6), (7.05, 7.75), QUIET)
kink.set_ylim(5.7, 8.3)
legend(kink, loc="upper left")
save(fig, "04_pooling_ties_and_kinks")
