# %% [markdown]
# # 3. Why backward is the adjoint
#
# Forward, a layer multiplies its input by its weights. Backward, gradients pass through *the same weights*. Why? And
# why does the backward pass of im2col *add*? Both answers are the same fact about matrices.

# %%
import numpy as np

from minicnn.reference import col2im, im2col
from minicnn.teaching.drawing import ORANGE, figure, matrix, save

# %% [markdown]
# Take a convolution in one dimension: five numbers in, a window of three, three numbers out. It is linear, so there is
# a matrix A with y = A x. Each row holds the window at another place.

# %%
w = np.array([1.0, 2.0, 3.0])
A = np.array([[1, 2, 3, 0, 0],
              [0, 1, 2, 3, 0],
              [0, 0, 1, 2, 3]], dtype=float)
x = np.array([1.0, 0.0, 2.0, 0.0, 1.0])
y = A @ x
assert y.tolist() == [7, 4, 5]                      # 1 + 0 + 6; 0 + 4 + 0; 2 + 0 + 3

# %% [markdown]
# The loss L is computed from y. Suppose we know its derivatives with respect to y: `dy`. How does it change with, say,
# x[2]? This number goes into y[0] times 3, into y[1] times 2, into y[2] times 1. By the chain rule
#
#     dx[2] = 3 dy[0] + 2 dy[1] + 1 dy[2]
#
# Look for 3, 2, 1 in the matrix: they are its *column* 2. Forward reads rows, backward reads columns; a matrix whose
# columns are the rows of A is the transpose of A:
#
#     y = A x   forward           dx = A^T dy   backward

# %%
dy = np.array([1.0, 10.0, 100.0])
dx = A.T @ dy
assert dx[2] == 3 * 1 + 2 * 10 + 1 * 100 == 123
assert dx.tolist() == [1, 12, 123, 230, 300]

# %% [markdown]
# Without writing the matrix down: each dy[i] sends `w dy[i]` back to the three numbers of its window, and the
# contributions of several windows to one place are *added*. Forward gathers, backward scatters.

# %%
scattered = np.zeros(5)
for i in range(3):
    scattered[i:i + 3] += w * dy[i]
assert (scattered == dx).all()

# %% [markdown]
# There is a test for this that needs no derivative at all. For all v and u, u . (A v) is the sum of u[i] A[i, j] v[j]
# over all i and j, so it does not matter whether A goes to the right or, transposed, to the left:
#
#     u . (A v) = (A^T u) . v
#
# A map with that property is called the *adjoint*. If forward is linear, backward must be its adjoint. So take random v
# and u, and compare two numbers. A backward pass that overwrites where it should add is caught at once:

# %%
def overwriting(dy):
    dx = np.zeros(5)
    for i in range(3):
        dx[i:i + 3] = w * dy[i]                     # a common bug of col2im
    return dx


rng = np.random.default_rng(0)
v, u = rng.normal(size=5), rng.normal(size=3)
assert np.isclose(u @ (A @ v), (A.T @ u) @ v)
assert not np.isclose(u @ (A @ v), overwriting(u) @ v)
print(f"u . (A v) = {u @ (A @ v):.6f} and (A^T u) . v = {(A.T @ u) @ v:.6f}; "
      f"with a backward pass that overwrites: {overwriting(u) @ v:.6f}")

# %% [markdown]
# In two dimensions: im2col copies each pixel into every window that contains it, so its adjoint, col2im, adds up the
# gradients from all of them. With 1 at every place of every window, each pixel counts the windows that contain it.

# %%
windows_seen = col2im(np.ones((1, 3, 3, 2, 2, 1)), (4, 4), (2, 2), (1, 1), (0, 0, 0, 0))[0, :, :, 0]
assert windows_seen.tolist() == [[1, 2, 2, 1], [2, 4, 4, 2], [2, 4, 4, 2], [1, 2, 2, 1]]

image, back = rng.normal(size=(1, 4, 4, 1)), rng.normal(size=(9, 4))
forward = im2col(image, (2, 2), (1, 1), (0, 0, 0, 0))
backward = col2im(back.reshape(1, 3, 3, 2, 2, 1), (4, 4), (2, 2), (1, 1), (0, 0, 0, 0))
assert np.isclose((back * forward).sum(), (backward * image).sum())

# %% [markdown]
# And the weights? y = cols @ w is linear in `w` as well, with the matrix `cols`; so dw = cols^T @ dy. A layer that is
# not linear, such as a ReLU, is linear *near* the current point; backward is the adjoint of that (chapter 4).

# %%
cols = np.array([x[i:i + 3] for i in range(3)])
dw = cols.T @ dy
assert dw[0] == 1 * 1 + 0 * 10 + 2 * 100 == 201     # w[0] met x[0], x[1] and x[2]
for k in range(3):                                  # a difference gives the same, exactly: the map is linear
    nudge = np.eye(3)[k]
    assert np.isclose((cols @ (w + nudge) - cols @ w) @ dy, dw[k])

# %%
fig = figure(9.6, 3.3)
axes = fig.subplots(1, 5, width_ratios=[5, 2, 4, 2, 5])
column = np.zeros((3, 5), bool)
column[:, 2] = True
matrix(axes[0], A, "forward: rows of A gather", column, room=6)
matrix(axes[1], y[:, None], "y = A x", room=6)
matrix(axes[2], A.T, "backward: its columns", column.T, room=6)
matrix(axes[3], dx[:, None], "dx", np.arange(5)[:, None] == 2, room=6)
matrix(axes[4], windows_seen, "col2im of ones counts\nthe windows of a pixel", windows_seen == 4, ORANGE, room=6)
save(fig, "03_why_backward_is_the_adjoint")
