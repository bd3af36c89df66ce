"""Running the callbacks of one training, and resuming them."""

from contextlib import contextmanager
from dataclasses import replace

from minicnn.callbacks.base import Callback
from minicnn.callbacks.history import in_words
from minicnn.core import signals
from minicnn.core.processes import Alone
from minicnn.core.progress import Progress
from minicnn.errors import InputError, printable

__all__ = ["Callbacks"]


class Callbacks:
    """The callbacks of one training, in order. Those that save come after the others, and are told what these remember.

    Parameters
    ----------
    callbacks : list of Callback
    kept : (whether a callback has ended training, [(type name, state)]) from a checkpoint, or None
    progress : bool, report on stderr
    group : the processes that train together (core/processes.py)

    Attributes
    ----------
    save : bool, whether one of them saves
    """

    def __init__(self, callbacks, kept=None, progress=False, group=Alone()):
        self._all, self._kept, self._progress, self._bar = callbacks, kept, progress, None
        self._group = group
        for callback in callbacks:
            callback.reports = group.rank == 0
        self._savers = [callback for callback in callbacks if callback.saves]
        self._others = [callback for callback in callbacks if not callback.saves]
        self.save = bool(self._savers)
        self._by_batch = [callback for callback in callbacks
                          if any(getattr(type(callback), hook) is not getattr(Callback, hook) or hook in vars(callback)
                                 for hook in ("on_train_batch_begin", "on_train_batch_end"))]

    def begin(self, model):
        """Before the first epoch; return whether training has ended already.

        Raises
        ------
        InputError
            if these are not the callbacks that the states were taken from
        """
        vars(model).pop("stop_training", None)
        self._model = model
        for callback in self._all:
            callback.on_train_begin(model)
        if self._kept is None:
            return False
        stop, states = self._kept
        remembering = [callback for callback in self._others if callback.state()]
        here, there = [type(callback).__name__ for callback in remembering], [name for name, _ in states]
        if here != there:
            raise InputError(f"callbacks: the run was begun with {printable(', '.join(there)) or 'none'} (of those that "
                             f"remember something), now there is {', '.join(here) or 'none'}. Give the same, in the same "
                             "order.")
        for callback, (_, state) in zip(remembering, states):
            callback.restore(state)
        return stop

    @contextmanager
    def epoch(self, model, epoch, epochs, begin):
        """Within it, epoch number `epoch` is trained from the Position that this gives on: `model.position`, or `begin`.

        Where a signal ends training there, the model knows its position again, and is saved.

        Raises
        ------
        Interrupted
            saying after which epoch or batch
        """
        if model.position is None:
            for callback in self._all:
                callback.on_epoch_begin(model, epoch)
        position, model.position = model.position or replace(begin), None
        name = f"epoch {epoch}/{epochs}"
        try:
            with Progress(position.steps, name, "step", self._progress, done=position.batch) as self._bar:
                yield position
                self._bar.say(f"{name}  {in_words(model.history[-1])}")
                signals.check()
        except signals.Interrupted as signal:
            place = f"after epoch {epoch} of {epochs}"
            if len(model.history) < epoch:
                place = f"in epoch {epoch}, batch {position.batch} of {position.steps}"
                model.position = position if position.batch else None
                self._tell_savers(False)
                for callback in self._all:
                    callback.on_interrupt(model)
            signal.args = (f"interrupted {place}{': saved' * self.save}.",)
            raise

    def begin_batch(self, position):
        """Before a batch, which comes after the position."""
        for callback in self._by_batch:
            callback.on_train_batch_begin(self._model, position.batch + 1)

    def end_batch(self, position):
        """After a batch, which is in the position."""
        self._bar.advance(loss=position.loss / position.seen)
        for callback in self._by_batch:
            metrics = {"loss": position.loss / position.seen}
            if self._model.loss.classifies:
                metrics["accuracy"] = position.right / position.seen
            callback.on_train_batch_end(self._model, position.batch, metrics)

    def end_epoch(self, model, epoch, row):
        """After an epoch; return whether one of them ends training."""
        # Every callback hears of the epoch, also when one says stop; what they then remember is saved.
        stop = any([callback.on_epoch_end(model, epoch, row) for callback in self._others])
        stop = bool(self._group.largest(bool(vars(model).pop("stop_training", False)) or stop))
        self._tell_savers(stop)
        for callback in self._savers:
            callback.on_epoch_end(model, epoch, row)
        return stop

    def end(self, model):
        """After the last epoch."""
        for callback in self._all:
            callback.on_train_end(model)

    def _tell_savers(self, stop):
        states = [(type(callback).__name__, state) for callback in self._others if (state := callback.state())]
        for saver in self._savers:
            saver.stop, saver.states = stop, states
