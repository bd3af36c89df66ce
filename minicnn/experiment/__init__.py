"""Runs: train a network as configured, evaluate it, and predict with it.

    config = experiment.Config(data="radiographs/index.csv", seed=3)        # without data: synthetic radiographs
    result = experiment.train(config, folder="runs/mine")
    again = experiment.evaluate("runs/mine")                                # the same metrics
    model = experiment.load_model("runs/mine")

>>> from minicnn import experiment
>>> experiment.Config(epochs=5).protocol
'honest'
"""

from minicnn.experiment.comparison_run import Comparison, compare
from minicnn.experiment.config import PROTOCOLS, Config
from minicnn.experiment.cross_validation import cross_validate, resume_folds
from minicnn.experiment.evaluation_run import Result, evaluate, load_model
from minicnn.experiment.prediction_run import Predictions, predict
from minicnn.experiment.recipes import RECIPES, Recipe
from minicnn.experiment.splits import split, split_table
from minicnn.experiment.training_run import assist, resume, train, train_or_resume

__all__ = ["Config", "PROTOCOLS", "Recipe", "RECIPES", "train", "resume", "assist", "train_or_resume", "cross_validate", "resume_folds", "evaluate",
           "predict", "compare", "load_model", "split", "split_table", "Result", "Predictions", "Comparison"]
