"""Training that a signal ends after so many steps."""

from contextlib import contextmanager

import pytest

from minicnn.core.signals import Interrupted
from minicnn.training import Trainer


@contextmanager
def interrupted_after(count, monkeypatch):
    """Within it training takes `count` steps, and then a signal comes; the block must end with it."""
    step, steps = Trainer.step, []

    def interrupt(self, *batch):
        if len(steps) == count:
            raise Interrupted(2)
        steps.append(step(self, *batch))
        return steps[-1]

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", interrupt)
        with pytest.raises(KeyboardInterrupt):
            yield
