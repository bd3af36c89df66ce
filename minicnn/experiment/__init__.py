"""Runs: train a network as configured, evaluate it, and predict with it. Imported at first use.

>>> import tempfile
>>> from minicnn import experiment
>>> config = experiment.Config(epochs=1, steps_per_epoch=1, seed=3)     # no data: synthetic radiographs
>>> with tempfile.TemporaryDirectory() as folder:
...     run = experiment.train(config, folder=folder + "/run", progress=False, plots=False)
...     model = experiment.load_model(run.folder)
...     again = experiment.evaluate(run.folder)
>>> run.metrics["test"]["n"], again.metrics == run.metrics
(123, True)
"""

import importlib

_HOMES = {
    "config": ["Config", "PROTOCOLS"],
    "recipes": ["Recipe", "RECIPES"],
    "training_run": ["train", "resume", "train_or_resume"],
    "evaluation_run": ["evaluate", "load_model", "Result"],
    "prediction_run": ["predict", "Predictions"],
    "splits": ["split", "split_table"],
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [*_HOME]


def __getattr__(name):
    if name in _HOME:
        value = getattr(importlib.import_module(f"minicnn.experiment.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'minicnn.experiment' has no attribute {name!r}")
