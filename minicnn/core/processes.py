"""The processes that train together: this one alone. `distributed.MPI` is what takes its place where there are several."""

from contextlib import contextmanager, nullcontext

__all__ = ["Alone"]


class Alone:
    """One process. Of a batch it has all samples; what others would have to be asked or told, it knows.

    Attributes
    ----------
    rank, size : int; the number of this process, and how many there are. Rank 0 alone writes and reports
    """

    rank, size = 0, 1

    def sharing(self, n, network):
        """Return a context in which this process computes its part of a batch of n samples; it gives what has the next three."""
        return nullcontext(self)

    def whole(self, array):
        """Return, of the batch, the arrays of all processes as one, in the order of the samples."""
        return array

    def own(self, array):
        """Return the part of an array of the whole batch that belongs to this process."""
        return array

    def finish(self):
        """Wait until the gradients are those of the whole batch."""

    def samples(self, n, network):
        """Return the slice of a batch of n samples that `sharing` leaves to this process; never empty."""
        return slice(0, n)

    def portions(self, n):
        """Return, for n samples that are to be predicted, the slice of each process."""
        return [slice(0, n)]

    def joined(self, array):
        """Return the arrays of all processes as one."""
        return array

    def between(self, function):
        """Return what is called after each batch: `function`, or what asks all processes for signals."""
        return function

    def blame(self, function):
        """Call a function in each process; raise the NonFiniteError of the first that raises one."""
        function()

    def compare(self, step, network):
        """Now and then, raise DistributedError unless all processes have the same weights."""

    def largest(self, number):
        """Return the largest of the whole numbers that the processes give."""
        return number

    def broadcast(self, content=None):
        """Return what rank 0 gives."""
        return content

    def same(self, owner, **facts):
        """Raise InputError in all processes where {name: value} differ among them."""

    def end(self, code):
        """End all processes with this exit code, if one has failed."""

    @contextmanager
    def together(self):
        """Within it, an error in one process is an error in all."""
        yield
