# %% [markdown]
# # 7. From reference to kernel
#
# The same sum at four speeds. A convolution is products and additions only; one program is thousands of times as fast
# as another because of how it carries them out. One caution: sums of rounded numbers depend on their order.

# %%
import timeit

import numba
import numpy as np

from minicnn import kernels, reference
from minicnn.data.synthetic import phantom
from minicnn.teaching.drawing import BLUE, GREEN, ORANGE, QUIET, SKY, figure, legend, plot, save

# %% [markdown]
# The work: two radiographs of 64 x 64 through the first layer of COV-19Net, 32 filters of 3 x 3 x 3.

# %%
images = np.stack([phantom.render(seed=1, patient=k, image=k, positive=k == 1) for k in range(2)])
x = np.repeat(images[..., None], 3, axis=3).astype(np.float32) / 255
rng = np.random.default_rng(0)
w, b = rng.normal(0, 0.2, (3, 3, 3, 32)).astype(np.float32), np.zeros(32, np.float32)
strides, pads = (1, 1), (0, 0, 0, 0)
products = 2 * 62 * 62 * 32 * 27                    # 6,642,432

# %% [markdown]
# **Loops in Python**, the definition. Every product creates and deletes a dozen objects. One row is enough here.

# %%
def loops(x, w, b, y, rows):
    KH, KW, C, F = w.shape
    for oh in range(rows):
        for ow in range(y.shape[2]):
            for f in range(F):
                total = b[f]
                for kh in range(KH):
                    for kw in range(KW):
                        for c in range(C):
                            total += x[0, oh + kh, ow + kw, c] * w[kh, kw, c, f]
                y[0, oh, ow, f] = total

# %% [markdown]
# **The same loops, compiled.** numba turns exactly this function into machine code: no objects, numbers in registers.
#
# **NumPy.** `reference.conv2d` arranges the windows as rows (chapter 2) and calls a matrix product that has been tuned
# for decades. It sums in float64, because it is the specification.
#
# **The kernel.** `kernels.conv2d` does eight or sixteen products with one instruction, keeps the sums of many pixels
# and filters in registers, and shares the rows among the cores. It writes to a given array.

# %%
compiled = numba.njit(loops)
by_loops, by_numba, by_kernel = (np.zeros((2, 62, 62, 32), np.float32) for _ in range(3))
loops(x, w, b, by_loops, 1)
by_numpy = reference.conv2d(x, w, b, strides, pads)
compiled(x, w, b, by_numba, 62)
kernels.conv2d(x, w, b, strides, pads, by_kernel)

# %% [markdown]
# Are they equal? Not to the last bit: each addition in float32 rounds, and the orders differ. This library allows eight
# units in the last place (2^-23) of all that is added up, |x| times |w|.

# %%
bound = 8 * 2.0**-23 * reference.conv2d(np.abs(x), np.abs(w), np.abs(b), strides, pads)
assert (np.abs(by_kernel - by_numpy) <= bound).all()
assert np.allclose(by_numba[0], by_numpy[0], atol=1e-5) and np.allclose(by_loops[0, 0], by_numpy[0, 0], atol=1e-5)

# %% [markdown]
# Measure: the best of several, because everything else on the computer can only make it slower. The result is printed
# and plotted but not asserted, because it differs between computers.

# %%
def nanoseconds(run, count, repeats=9):
    """Return the least time of several, in nanoseconds a product."""
    return min(timeit.repeat(run, number=1, repeat=repeats)) / count * 1e9


speeds = {
    "loops in Python": nanoseconds(lambda: loops(x, w, b, by_loops, 1), 62 * 32 * 27, 2),
    "loops, compiled": nanoseconds(lambda: compiled(x, w, b, by_numba, 62), products // 2),
    "NumPy (reference)": nanoseconds(lambda: reference.conv2d(x, w, b, strides, pads), products),
    "the kernel": nanoseconds(lambda: kernels.conv2d(x, w, b, strides, pads, by_kernel), products),
}
print("ns a product: " + ", ".join(f"{name} {speed:.3g}" for name, speed in speeds.items()))

# %% [markdown]
# Why does the order matter? A float32 keeps 24 binary digits: once a sum has grown to 2^24, adding 1 does nothing. Late
# terms lose their last digits beside a large sum. Adding in blocks of 16, then the blocks in blocks of 16, costs
# nothing and keeps terms and sums alike in size. The kernels do that (`kernels/runtime/microkernel.py`).

# %%
assert np.float32(2**24) + np.float32(1) == np.float32(2**24)
tenths = np.full(16**5, 0.1, np.float32)
counts = 16 ** np.arange(1, 6)
exact = counts * float(np.float32(0.1))
in_a_row = np.cumsum(tenths)[counts - 1]
blocks, in_blocks = tenths, []
for _ in counts:
    blocks = np.cumsum(blocks.reshape(-1, 16), axis=1)[:, -1]       # cumsum adds one after another, 16 at a time
    in_blocks.append(blocks[0])
worst_row, worst_blocks = (np.abs(np.array(s) - exact) / exact for s in (in_a_row, in_blocks))
assert worst_row[-1] > 1e-4 and worst_blocks.max() < 1e-6

# %%
fig = figure(9.6, 3.3)
bars, sums = fig.subplots(1, 2, width_ratios=[1.15, 1])
plot(bars, "Time of one product (ns)")
bars.set(xscale="log", xlim=(min(speeds.values()) / 3, max(speeds.values()) * 9), ylim=(-0.6, 3.4))
bars.grid(False)
for (name, speed), colour in zip(reversed(speeds.items()), (GREEN, BLUE, SKY, ORANGE)):
    bars.plot(speed, name, "o", color=colour, markersize=13)
    bars.text(speed * 2, name, f"{speed:.3g}", va="center", fontsize=10, color=QUIET)
plot(sums, "Adding up 0.1: relative error in float32", "how many terms")
sums.loglog(counts, worst_row + 1e-9, "o-", color=ORANGE, label="one after another")
sums.loglog(counts, worst_blocks + 1e-9, "s--", color=GREEN, label="in blocks of 16")
legend(sums, loc="upper left")
save(fig, "07_from_reference_to_kernel")
