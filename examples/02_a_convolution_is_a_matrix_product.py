# %% [markdown]
# # 2. A convolution is a matrix product
#
# A convolution slides a small window over an image. Here the contents of the windows become the rows of a matrix; the
# whole convolution is then one matrix product, which computers do very fast.

# %%
import numpy as np

from minicnn import Conv2D, cov19net
from minicnn.data.synthetic import phantom
from minicnn.reference import conv2d, im2col
from minicnn.teaching.drawing import ORANGE, figure, heat, matrix, picture, save

# %% [markdown]
# An image of 4 x 4 pixels with an edge in its middle, and a filter of 3 x 3 that responds to such edges: it takes the
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
# The window fits at two places along each axis: (4 - 3) + 1 = 2. At each, the pixels below it are multiplied by the
# filter, number by number, and added up. As loops:

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
# column in the same order. A row times a column is that sum of nine products.

# %%
cols = np.array([x[oh:oh + 3, ow:ow + 3].ravel() for oh in range(2) for ow in range(2)])
assert cols.shape == (4, 9)                         # 4 places, 9 numbers under the window
assert ((cols @ w.ravel()).reshape(2, 2) == y).all()

# %% [markdown]
# With N images, C channels and F filters only the sizes change. Rows: one for each image and place. Columns: one for
# each number under the window, now KH x KW x C of them. The filters are the columns of the second matrix, so the
# product has a column for each:
#
#     (N OH OW, KH KW C) @ (KH KW C, F) = (N OH OW, F)
#
# In `reference` this is `im2col` ("image to columns", though they are rows here).

# %%
rng = np.random.default_rng(0)
images, filters, bias = rng.normal(size=(2, 6, 7, 3)), rng.normal(size=(3, 3, 3, 4)), rng.normal(size=4)
rows = im2col(images, (3, 3), strides=(1, 1), pads=(0, 0, 0, 0))
assert rows.shape == (2 * 4 * 5, 27)
product = rows @ filters.reshape(27, 4) + bias
assert np.allclose(product.reshape(2, 4, 5, 4), conv2d(images, filters, bias, (1, 1), (0, 0, 0, 0)))

layer = Conv2D(4, 3)
layer.configure(dtype="float64")
layer.build((6, 7, 3))
for parameter, value in zip(layer.parameters, (filters, bias)):
    parameter.value[...] = value
assert np.allclose(layer.forward(images), product.reshape(2, 4, 5, 4))

# %% [markdown]
# What it costs: the first layer of COV-19Net turns one image of 64 x 64 x 3 into 3,844 rows of 27 numbers. Each pixel
# is copied up to nine times, once for every window that contains it; that is the cost. The fast engine reads the
# windows in place and never builds this matrix; its result is the same (chapter 7).

# %%
first = cov19net().layers[0]
rows = im2col(np.zeros((1, 64, 64, 3)), (3, 3), (1, 1), (0, 0, 0, 0))
assert rows.shape == (62 * 62, 27) == (3844, 27)
assert rows.size / (64 * 64 * 3) > 8.4
assert first.flops() == 2 * 3844 * 27 * 32          # a product and an addition for each row, number and filter
print(f"loops and matrix product agree; 64 x 64 x 3 pixels become {len(rows):,} rows of 27 numbers, "
      f"{rows.size / (64 * 64 * 3):.1f} times as many")

# %%
chest = phantom.render(seed=1, patient=0, image=2, positive=False, size=128) / 255.0
edges = convolve(chest, w)
assert edges.shape == (126, 126)
assert not convolve(np.full((5, 5), 7.0), w).any()  # where nothing changes the output is 0: w sums to 0

fig = figure(9.6, 5.9)
above, below = fig.subfigures(2, 1, height_ratios=[1, 1.25])
a, b, c, d = above.subplots(1, 4, width_ratios=[4, 9, 2, 2.4])
seen = np.zeros((4, 4), bool)
seen[:3, 1:] = True
matrix(a, x, "image x", seen, room=5)
matrix(b, cols, "cols: each window is a row", (np.arange(4) == 1)[:, None], room=5)
matrix(c, w.reshape(9, 1), "w", size=8)
matrix(d, y, "y = cols @ w", np.array([[False, True], [False, False]]), ORANGE, room=4)
left, middle, right = below.subplots(1, 3)
picture(left, chest, "a synthetic radiograph", 0, 1)
heat(middle, edges, "the filter: brighter to the right (red), left (blue)")
heat(right, convolve(chest, w.T), "the filter transposed: brighter below, above")
save(fig, "02_a_convolution_is_a_matrix_product")
