# %% [markdown]
# # 2. A convolution is a matrix product
#
# A convolution looks at a picture through a small window, again and again. Here we lay what it sees out as the rows of
# a matrix; the whole convolution then is one product of matrices, which computers are very good at.

# %%
import numpy as np

from minicnn import Conv2D, cov19net
from minicnn.data.synthetic import phantom
from minicnn.reference import conv2d, im2col
from minicnn.teaching.drawing import ORANGE, figure, heat, matrix, picture, save

# %% [markdown]
# A picture of 4 x 4 pixels with an edge in its middle, and a filter of 3 x 3 that answers to such edges: it takes the
# column on the right and subtracts the column on the left.

# %%
x = np.array([[0, 0, 5, 5],
              [0, 0, 5, 5],
              [0, 1, 5, 5],
              [1, 1, 5, 5]], dtype=float)
w = np.array([[-1, 0, 1],
              [-1, 0, 1],
              [-1, 0, 1]], dtype=float)

# %% [markdown]
# The window fits at two places along each axis: (4 - 3) + 1 = 2. At each it multiplies what it sees with the filter,
# number by number, and adds up. In loops, word for word:

# %%
def convolve(x, w):
    KH, KW = w.shape
    OH, OW = x.shape[0] - KH + 1, x.shape[1] - KW + 1
    y = np.zeros((OH, OW))
    for oh in range(OH):
        for ow in range(OW):
            for kh in range(KH):
                for kw in range(KW):
                    y[oh, ow] += x[oh + kh, ow + kw] * w[kh, kw]
    return y


y = convolve(x, w)
# By hand, top left: the right column of the window is 5 5 5, the left one 0 0 0, so 15 - 0. Below: 15 - (0 + 0 + 1).
assert y.tolist() == [[15, 14], [14, 13]]

# %% [markdown]
# Now write each window as a row: first its top row, then the middle one, then the bottom one. Write the filter as a
# column in the same order. A row times a column is just that sum of nine products.

# %%
cols = np.array([x[oh:oh + 3, ow:ow + 3].ravel() for oh in range(2) for ow in range(2)])
assert cols.shape == (4, 9)                         # 4 places, 9 numbers under the window
assert ((cols @ w.ravel()).reshape(2, 2) == y).all()

# %% [markdown]
# With N pictures, C channels and F filters nothing changes but the sizes. Rows: one for each picture and place.
# Columns: one for each number under the window, now KH x KW x C of them. And the filters stand side by side, so that
# the product has a column for each:
#
#     (N OH OW, KH KW C) @ (KH KW C, F) = (N OH OW, F)
#
# `reference` calls the laying out `im2col` ("image to columns", though they are rows here).

# %%
rng = np.random.default_rng(0)
pictures, filters, bias = rng.normal(size=(2, 6, 7, 3)), rng.normal(size=(3, 3, 3, 4)), rng.normal(size=4)
rows = im2col(pictures, (3, 3), strides=(1, 1), pads=(0, 0, 0, 0))
assert rows.shape == (2 * 4 * 5, 27)
product = rows @ filters.reshape(27, 4) + bias
assert np.allclose(product.reshape(2, 4, 5, 4), conv2d(pictures, filters, bias, (1, 1), (0, 0, 0, 0)))

layer = Conv2D(4, 3)
layer.configure(dtype="float64")
layer.build((6, 7, 3))
for parameter, value in zip(layer.parameters, (filters, bias)):
    parameter.value[...] = value
assert np.allclose(layer.forward(pictures), product.reshape(2, 4, 5, 4))

# %% [markdown]
# What it costs: the first layer of COV-19Net turns one picture of 64 x 64 x 3 into 3,844 rows of 27 numbers. Each pixel
# is copied up to nine times, once for every window that sees it; that is the price. The fast engine reads the windows
# where they lie and never makes this matrix; what it computes is the same (chapter 7).

# %%
first = cov19net().layers[0]
rows = im2col(np.zeros((1, 64, 64, 3)), (3, 3), (1, 1), (0, 0, 0, 0))
assert rows.shape == (62 * 62, 27) == (3844, 27)
assert rows.size / (64 * 64 * 3) > 8.4
assert first.flops() == 2 * 3844 * 27 * 32          # a product and an addition for each row, number and filter

# %%
chest = phantom.render(seed=1, patient=0, image=2, positive=False, size=128) / 255.0
edges = convolve(chest, w)
assert edges.shape == (126, 126)
assert not convolve(np.full((5, 5), 7.0), w).any()  # where nothing changes it says 0: its numbers sum to 0

fig = figure(9.6, 5.9)
above, below = fig.subfigures(2, 1, height_ratios=[1, 1.25])
a, b, c, d = above.subplots(1, 4, width_ratios=[4, 9, 2, 2.4])
seen = np.zeros((4, 4), bool)
seen[:3, 1:] = True
matrix(a, x, "picture x", seen, room=5)
matrix(b, cols, "cols: each window is a row", (np.arange(4) == 1)[:, None], room=5)
matrix(c, w.reshape(9, 1), "w", size=8)
matrix(d, y, "y = cols @ w", np.array([[False, True], [False, False]]), ORANGE, room=4)
left, middle, right = below.subplots(1, 3)
picture(left, chest, "a synthetic radiograph", 0, 1)
heat(middle, edges, "the filter: brighter to the right (red), left (blue)")
heat(right, convolve(chest, w.T), "the filter turned: brighter below, above")
save(fig, "02_a_convolution_is_a_matrix_product")
