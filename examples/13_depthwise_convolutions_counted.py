# %% [markdown]
# # 13. Depthwise convolutions, counted
#
# A convolution does two things at once: it looks around, in a window, and it mixes channels. A separable convolution
# does one after the other, with about a ninth of the work. This chapter counts what that saves, and what it costs.

# %%
import timeit

import numpy as np

from minicnn import Conv2D, DepthwiseConv2D, SeparableConv2D, gradcheck
from minicnn.teaching.drawing import BLUE, GREEN, ORANGE, figure, heat, legend, plot, save

# %% [markdown]
# ## Three ways to use weights
# C channels in, F filters, windows of K x K. A convolution has K K C F weights: each filter sees each channel. A
# *depthwise* convolution has one filter a channel, K K C weights, and mixes nothing. A *pointwise* one has windows of
# 1 x 1, C F weights, and looks nowhere. A separable convolution is a depthwise, then a pointwise one.

# %%
K, C, F = 3, 32, 64


def built(layer, size=16):
    layer.build((size, size, C))
    return layer


def weights(layer):
    return sum(parameter.value.size for parameter in layer.parameters)


full, separable = (built(kind(F, K, padding="same", use_bias=False)) for kind in (Conv2D, SeparableConv2D))
depthwise, pointwise = built(DepthwiseConv2D(K, padding="same", use_bias=False)), built(Conv2D(F, 1, use_bias=False))
assert weights(full) == K * K * C * F == 18432
assert weights(depthwise) == K * K * C == 288 and weights(pointwise) == C * F == 2048
assert weights(separable) == 288 + 2048 == 2336

# %% [markdown]
# Each weight is used once for each pixel, so products are counted by the same numbers, and their ratio is
#
#     (K K C + C F) / (K K C F) = 1 / F + 1 / (K K)
#
# With many filters nearly 1/9 remains, whatever C is; larger windows save more.

# %%
ratio = 1 / F + 1 / K**2
assert np.isclose(weights(separable) / weights(full), ratio) and np.isclose(separable.flops() / full.flops(), ratio)
assert full.flops() == 2 * 16 * 16 * weights(full)              # a product and an addition each

# %% [markdown]
# ## Special cases of a convolution
# A depthwise convolution is one whose weights are 0 wherever the two channels differ. A separable one is a convolution
# with w[i, j, c, f] = d[i, j, c] p[c, f]: of each channel, all filters see the same window, times a number.

# %%
x = np.random.default_rng(0).normal(size=(2, 16, 16, C)).astype(np.float32)
d, p = (parameter.value for parameter in separable.parameters)      # (K, K, C, 1) and (1, 1, C, F)
full.parameters[0].value = d * p[0, 0]
assert np.allclose(separable.forward(x), full.forward(x), atol=1e-5)
square = built(Conv2D(C, K, padding="same", use_bias=False))
square.parameters[0].value = depthwise.parameters[0].value * np.eye(C, dtype=np.float32)
assert np.allclose(depthwise.forward(x), square.forward(x), atol=1e-5)
assert gradcheck(SeparableConv2D(2, 2), shape=(1, 4, 4, 2))         # and its gradients are those of one, then the other

# %% [markdown]
# ## What it costs
# For one channel, write the weights as a matrix, 9 places by F filters. In a separable convolution it has rank 1. The
# best matrix of rank M keeps the M largest singular values, and loses the squares of the others. Filters drawn at
# random have no structure to exploit: with M = 1 four fifths of their squares are lost. `depth_multiplier` is M, and
# at 9 nothing is lost, and nothing is saved.

# %%
assert np.linalg.matrix_rank(full.parameters[0].value[:, :, 0].reshape(K * K, F)) == 1
random = np.random.default_rng(1).normal(size=(K * K, F))
u, s, vt = np.linalg.svd(random, full_matrices=False)
lost = np.array([np.sum(s[M:]**2) for M in range(10)]) / np.sum(s**2)
for M in range(1, 10):
    assert np.isclose(np.square(random - u[:, :M] * s[:M] @ vt[:M]).sum() / np.square(random).sum(), lost[M])
cost = [weights(built(SeparableConv2D(F, K, depth_multiplier=M, use_bias=False))) / weights(full) for M in range(1, 10)]
assert 0.75 < lost[1] < 0.85 and lost[9] < 1e-12 and cost[8] > 1
print(f"random filters: M = 1 loses {lost[1]:.0%} with {cost[0]:.0%} of the weights; M = 9 has {cost[8]:.0%}")

# %% [markdown]
# ## Products are not time
# A number of the input is used in K K F products by the convolution, but in K K by the depthwise part, so reading and
# writing count for more there. The times are printed but not asserted, because they differ between computers.

# %%
assert full.flops() / 2 / x[0].size == K * K * F and depthwise.flops() / 2 / x[0].size == K * K


def microseconds(layer, x):
    return min(timeit.repeat(lambda: layer.forward(x), number=1, repeat=20)) / len(x) * 1e6


images = np.random.default_rng(2).normal(size=(8, 64, 64, C)).astype(np.float32)
one, two = (microseconds(built(kind(F, K, padding="same"), 64), images) for kind in (Conv2D, SeparableConv2D))
print(f"an image: {one:.0f} us, separable {two:.0f} us: {two / one:.0%} of the time for {ratio:.0%} of the products")

# %%
fig = figure(9.6, 3.5)
*uses, left, right = fig.subplots(1, 5, width_ratios=[0.5, 0.5, 0.5, 2, 2])
row, column = np.indices((36, 8))                   # 9 places of 4 channels by 8 filters, or 4 x 2 outputs
used = {"full": row >= 0, "depth-\nwise": row % 4 == column // 2, "point-\nwise": row // 4 == 4}
for ax, (title, mask) in zip(uses, used.items()):
    heat(ax, mask, title, 2)
uses[0].set(xlabel="8 filters", ylabel="9 places of 4 channels")
plot(left, "Weights, separable / full", "filters F")
filters = 2 ** np.arange(11)
for k, colour, style in ((3, BLUE, "o-"), (5, GREEN, "s-"), (7, ORANGE, "^-")):
    left.loglog(filters, 1 / filters + 1 / k**2, style, color=colour, markersize=3, label=f"{k} x {k}")
legend(left, loc="upper right")
plot(right, "Random filters: what is lost", "weights, separable / full")
right.plot(cost, lost[1:], "o-", color=BLUE, markersize=4)
right.set_ylim(-0.03, 1)
for M in (1, 3, 9):
    right.annotate(f"M = {M}", (cost[M - 1], lost[M]), (6, 6), textcoords="offset points", fontsize=9)
save(fig, "13_depthwise_convolutions_counted")
