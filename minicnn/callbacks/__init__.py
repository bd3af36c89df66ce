"""Callbacks: what happens between epochs and batches. Some decide (deciding.py), some keep (keeping.py).

What a callback remembers is its `state`. A checkpoint holds the state of each, so that a run that was interrupted goes
on as if it had not been.
"""

from minicnn.callbacks.base import Callback, as_callbacks, check_monitors
from minicnn.callbacks.deciding import (EarlyStopping, LambdaCallback, LearningRateSchedule, LearningRateScheduler,
                                        ReduceLROnPlateau, WeightAverage)
from minicnn.callbacks.history import History
from minicnn.callbacks.keeping import Checkpoint, CSVHistory, ModelCheckpoint
from minicnn.callbacks.running import Callbacks

__all__ = ["Callback", "EarlyStopping", "LearningRateSchedule", "LearningRateScheduler", "ReduceLROnPlateau",
           "LambdaCallback", "WeightAverage", "Checkpoint", "ModelCheckpoint", "CSVHistory", "Callbacks", "History",
           "as_callbacks", "check_monitors"]
