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


class _SharedNetwork:
    """A Network that trains with its part of a batch: its logits are those of the whole batch, and it takes their gradient.

    Anything else is that of the network.
    """

    def __init__(self, group, network):
        self._group, self._network, self.share = group, network, None

    def __getattr__(self, name):
        return getattr(self._network, name)

    @contextmanager
    def sharing(self, n):
        """Within it, a batch of n samples is shared; on the reference engine every process computes all of it."""
        self.share = here.share = Share(self._group, n, self.dtype) if self.engine == "fast" else None
        try:
            yield
        finally:
            self.share = here.share = None

    def forward(self, x, *arguments, **named):
        z = self._network.forward(x, *arguments, **named)
        return z if self.share is None else self.share.whole(z)

    def backward(self, dz, rows):
        self._network.backward(dz if self.share is None else self.share.own(dz), rows)
        if self.share is not None:
            self.share.finish()

    def blame_forward(self, x):
        """Raise NonFiniteError naming the first process that finds a layer to blame, and that layer."""
        here.share, sentence = None, None
        try:
            self._network.blame_forward(x)
        except MiniCNNError as error:
            sentence = str(error)
        here.share = self.share
        for rank, said in enumerate(self._group.collect(sentence)):
            if said is not None:
                raise NonFiniteError(f"rank {rank}: {said}")


class SharingTrainer(Trainer):
    """A Trainer whose x are the samples of this process; targets and weights are those of the whole batch.

    Parameters
    ----------
    group : MPI
    trainer : Trainer; the one whose network, loss, optimizer and metrics this has
    """

    def __init__(self, group, trainer):
        super().__init__(_SharedNetwork(group, trainer.network), trainer.loss, trainer.optimizer, self._check_signals,
                         trainer.metrics)
        self._group, self._signal = group, None

    def loss_and_gradients(self, x, t, weights=None):
        with self.network.sharing(len(t)):
            share = self.network.share
            try:
                return super().loss_and_gradients(x, t, weights)
            except NonFiniteError as error:
                raise self._group.of_all(error)         # loss and gradients are the same in all processes
            finally:
                self._signal = share and share.signal

    def step(self, x, t, weights=None):
        found = super().step(x, t, weights)
        if self.optimizer.t % self._group.check_every == 0:
            self._compare()
        return found

    def predict(self, data, batch_size):
        own, longest = self._group.portion(len(data)), -(-len(data) // self._group.size)
        found = super().predict(Subset(data, np.arange(own.start, own.stop)), batch_size)
        for _ in range(-(-longest // batch_size) - -(-(own.stop - own.start) // batch_size)):
            self.between_batches()                  # as often as the others
        return tuple(map(self._group.joined, found))

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
                    f"after step {self.optimizer.t} the weights of rank {rank} are not those of rank 0. A callback or a custom "
                    "layer does not do the same in all processes, or a machine has a fault."))
