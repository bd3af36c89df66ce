"""The processes that train together: this one alone. `distributed.MPI` takes its place where there are several."""

import platform
from contextlib import contextmanager

from minicnn import __version__

__all__ = ["Alone", "versions"]


class Alone:
    """One process: what others would have to be asked or told, it knows.

    Attributes
    ----------
    rank, size : int; the number of this process, and how many there are. Rank 0 alone writes and reports
    """

    rank, size = 0, 1

    def trainer(self, trainer):
        """Return the Trainer that trains in place of `trainer`, each process with samples of its own."""
        return trainer

    def samples(self, n, network):
        """Return the slice of a training batch of n samples that this process has; never empty."""
        return slice(0, n)

    def portion(self, n):
        """Return the slice of n samples that this process predicts."""
        return slice(0, n)

    def joined(self, array):
        """Return the arrays of all processes as one."""
        return array

    def largest(self, number):
        """Return the largest of the whole numbers that the processes give."""
        return number

    def broadcast(self, content=None):
        """Return what rank 0 gives, in every process."""
        return content

    def same(self, owner, **facts):
        """Raise InputError in every process where {name: value} differ among them."""

    @contextmanager
    def together(self):
        """Within it, an error in one process is an error in all."""
        yield

    def end(self, code):
        """End all processes with this exit code, if one has failed."""


def versions():
    """Return the versions that the bits of a result depend on, {name: version}."""
    import llvmlite
    import numba
    import numpy
    import PIL

    return {"minicnn": __version__, "python": platform.python_version(), "numpy": numpy.__version__,
            "numba": numba.__version__, "llvmlite": llvmlite.__version__, "pillow": PIL.__version__}
