"""Pooling over the whole image: one number for each channel."""

import numpy as np

__all__ = ["global_average_pool2d", "global_average_pool2d_gradient", "global_max_pool2d", "global_max_pool2d_gradient"]


def global_average_pool2d(x):
    """Return the mean of each channel: y[n, c] = (sum over h, w of x[n, h, w, c]) / (H W) (Lin et al. 2014).

    Parameters
    ----------
    x : ndarray, shape (N, H, W, C)

    Returns
    -------
    y : ndarray, shape (N, C)

    >>> global_average_pool2d(np.arange(8.0).reshape(1, 2, 2, 2))
    array([[3., 4.]])
    """
    N, H, W, C = x.shape
    return (x.reshape(N, H * W, C).sum(axis=1, dtype=np.float64) / (H * W)).astype(x.dtype)


def global_average_pool2d_gradient(dy, image_size):
    """Return dx of `global_average_pool2d`: dy[n, c] / (H W) at each pixel.

    >>> global_average_pool2d_gradient(np.array([[4.0]]), (2, 2))[0, :, :, 0]
    array([[1., 1.],
           [1., 1.]])
    """
    H, W = image_size
    share = dy / dy.dtype.type(H * W)
    return np.broadcast_to(share[:, None, None], (len(dy), H, W, dy.shape[1])).copy()


def global_max_pool2d(x):
    """Return the maximum of each channel, and which pixel it came from: h W + w.

    Ties: the first pixel in row-major order. NaN: a channel that holds one is NaN, its switch the place of a NaN. A channel
    of -inf alone is -inf.

    Parameters
    ----------
    x : ndarray, shape (N, H, W, C)

    Returns
    -------
    y : ndarray, shape (N, C)
    switches : ndarray, shape (N, C), uint32

    >>> global_max_pool2d(np.array([[5.0, 7.0], [7.0, 1.0]]).reshape(1, 2, 2, 1))
    (array([[7.]]), array([[1]], dtype=uint32))
    """
    pixels = x.reshape(len(x), -1, x.shape[3])
    switches = pixels.argmax(axis=1)            # the first of equals; NumPy holds NaN to be the largest
    return np.take_along_axis(pixels, switches[:, None], axis=1)[:, 0], switches.astype(np.uint32)


def global_max_pool2d_gradient(dy, switches, image_size):
    """Return dx of `global_max_pool2d`: y is a copy of one pixel, which receives dy; all others get 0.

    >>> global_max_pool2d_gradient(np.array([[4.0]]), np.array([[1]], np.uint32), (2, 2))[0, :, :, 0]
    array([[0., 4.],
           [0., 0.]])
    """
    H, W = image_size
    dx = np.zeros((len(dy), H * W, dy.shape[1]), dy.dtype)
    np.put_along_axis(dx, switches[:, None].astype(np.intp), dy[:, None], axis=1)
    return dx.reshape(len(dy), H, W, dy.shape[1])
