"""Training with a part of each batch: the step of training.Trainer, in which what sums over the batch is exchanged."""

import hashlib
from contextlib import contextmanager

import numpy as np

from minicnn.core import signals
from minicnn.core.memory import here
from minicnn.data.loader import Subset
from minicnn.distributed.share import Share
from minicnn.errors import DistributedError, MiniCNNError, NonFiniteError
from minicnn.training import Trainer

__all__ = ["SharingTrainer"]


class SharingTrainer(Trainer):
    """A Trainer whose x are the samples of this process; targets and weights are those of the whole batch.

    Parameters
    ----------
    group : MPI
    trainer : Trainer; the one whose network, loss, optimizer and metrics this has
    """

    def __init__(self, group, trainer):
        super().__init__(trainer.network, trainer.loss, trainer.optimizer, self._check_signals, trainer.metrics)
        self._group, self._share, self._signal = group, None, None

    def loss_and_gradients(self, x, t, weights=None):
        try:
            with self._sharing(len(t)):
                return super().loss_and_gradients(x, t, weights)
        except NonFiniteError as error:
            raise self._group.of_all(error)         # loss and gradients are the same in all processes

    def step(self, x, t, weights=None):
        found = super().step(x, t, weights)
        if self.optimizer.t % self._group.check_every == 0:
            self._compare()
        return found

    def logits(self, x):
        z = super().logits(x)
        return z if self._share is None else self._share.whole(z)

    def backward(self, dz):
        super().backward(dz if self._share is None else self._share.own(dz))
        if self._share is not None:
            self._share.finish()
            self._signal = self._share.signal

    def blame(self, x):
        """Raise the error of the first process that finds a layer to blame."""
        share, here.share, sentence = here.share, None, None
        try:
            super().blame(x)
        except MiniCNNError as error:
            sentence = str(error)
        finally:
            here.share = share
        for rank, said in enumerate(self._group.collect(sentence)):
            if said is not None:
                raise NonFiniteError(f"rank {rank}: {said}")

    def predict(self, data, batch_size):
        own, longest = self._group.portion(len(data)), -(-len(data) // self._group.size)
        found = super().predict(Subset(data, np.arange(own.start, own.stop)), batch_size)
        for _ in range(-(-longest // batch_size) - -(-(own.stop - own.start) // batch_size)):
            self.between_batches()                  # as often as the others
        return tuple(map(self._group.joined, found))

    @contextmanager
    def _sharing(self, n):
        """Within it kernels know of the batch; the reference engine computes all of it in every process."""
        self._share = here.share = Share(self._group, n, self.network.dtype) if self.network.engine == "fast" else None
        try:
            yield
        finally:
            self._share = here.share = None

    def _check_signals(self):
        """Raise Interrupted in all processes if a signal has arrived in one."""
        number, self._signal = self._signal, None
        if number is None:                          # nobody told with a batch
            number = self._group.largest(signals.noted() or 0)
        if number:
            raise self._group.of_all(signals.Interrupted(number))

    def _compare(self):
        """Raise DistributedError unless all processes have the same weights."""
        digest = hashlib.sha256()
        for weight in self.network.named_weights().values():
            digest.update(weight.value)
        found = self._group.collect(digest.digest())
        for rank, other in enumerate(found):
            if other != found[0]:
                raise self._group.of_all(DistributedError(
                    f"after step {self.optimizer.t} the weights of rank {rank} are not those of rank 0. A callback or a custom layer "
                    "does not do the same in all processes, or a machine has a fault."))
