"""The deviation loss: a few numbers for each sample, as NumPy has them. See reference for the equation."""

from minicnn.reference import anomaly as specification

__all__ = ["deviation"]


def deviation(z, t, scale, losses, dz):
    """Write the scaled deviation loss of each row of scores z (N, D) against t to losses (N,), and its gradient to dz."""
    losses[...], dz[...] = specification.deviation(z, t, scale)
