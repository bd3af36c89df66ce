"""Runs: train a network as configured, evaluate it, and predict with it.

>>> import tempfile
>>> from minicnn import experiment
>>> config = experiment.Config(epochs=1, steps_per_epoch=1, seed=3)     # no data: synthetic radiographs
>>> with tempfile.TemporaryDirectory() as folder:
...     result = experiment.train(config, folder=folder + "/run", progress=False, plots=False)
...     model = experiment.load_model(result.folder)
...     again = experiment.evaluate(result.folder)
>>> result.metrics["test"]["n"], again.metrics == result.metrics
(123, True)
"""

from minicnn.experiment.config import PROTOCOLS, Config
from minicnn.experiment.evaluation_run import Result, evaluate, load_model
from minicnn.experiment.prediction_run import Predictions, predict
from minicnn.experiment.recipes import RECIPES, Recipe
from minicnn.experiment.splits import split, split_table
from minicnn.experiment.training_run import resume, train, train_or_resume

__all__ = ["Config", "PROTOCOLS", "Recipe", "RECIPES", "train", "resume", "train_or_resume", "evaluate", "predict",
           "load_model", "split", "split_table", "Result", "Predictions"]
