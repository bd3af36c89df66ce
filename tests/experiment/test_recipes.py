"""Recipes: the model that they train, and what a model file keeps of them for prediction."""

import json

import numpy as np
import pytest

from minicnn import Adam, AdamW, Dropout, Sequential, WeightAverage, weights
from minicnn.data import Augmentation, Manifest
from minicnn.data.preprocessing import Preprocessing
from minicnn.data.synthetic import phantom
from minicnn.experiment.recipes import RECIPES, Recipe


@pytest.fixture(scope="module")
def splits():
    made = phantom.generate(n=40, seed=3)
    manifest = Manifest.from_arrays(made.images, made.labels, made.classes, patients=made.patients, names=made.names)
    return manifest.split(0.6, 0.2, 0.2, seed=1)


def trained(recipe, splits, **settings):
    """Return (model, the test set as a dataset), as a run would train it."""
    training, validation, test = splits
    datasets = [manifest.open(recipe.preprocessing) for manifest in
               (training.augment(getattr(Augmentation, recipe.augmentation or "honest")()), validation, test)]
    model = recipe.model(5, training.classes)
    model.fit(datasets[0], validation=datasets[1], epochs=2, steps_per_epoch=1, batch_size=4, progress=False,
              callbacks=recipe.callbacks(), **settings)
    return model, datasets[2]


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains_and_its_model_file_predicts_the_same(name, splits, tmp_path):
    recipe = RECIPES[name]
    model, test = trained(recipe, splits)
    model.save(tmp_path / "model.safetensors")
    again = Sequential.load(tmp_path / "model.safetensors")
    assert again.preprocessing == recipe.preprocessing and again.loss.name == model.loss.name
    assert again.optimizer.config() == model.optimizer.config()
    np.testing.assert_array_equal(again.predict(test), model.predict(test))
    np.testing.assert_array_equal(again.predict(splits[2]), model.predict(test))        # prepared by what the file says


@pytest.mark.parametrize("classes", [("a", "b"), ("a", "b", "c")])
def test_a_recipe_is_what_it_says(classes):
    recipe = Recipe(Preprocessing(32, 32, border=1 / 8), dropout=0.3, weight_decay=0.1, smoothing=0.2, average=0.5)
    model = recipe.model(5, classes, learning_rate=1e-2)
    assert model.input_shape == (32, 32, 3) and model.classes == classes and model.loss.label_smoothing == 0.2
    assert type(model.optimizer) is AdamW and model.optimizer.weight_decay == 0.1
    assert model.optimizer.learning_rate == 1e-2
    assert [layer.rate for layer in model.layers if isinstance(layer, Dropout)] == [0.3, 0.3]
    average, = recipe.callbacks()
    assert type(average) is WeightAverage and average.decay == 0.5 and recipe.callbacks()[0] is not average


def test_the_papers_recipe_has_nothing_of_it():
    recipe = RECIPES["paper"]
    model = recipe.model(0, ("normal", "covid"))
    assert recipe == Recipe() and recipe.preprocessing == Preprocessing() and recipe.callbacks() == []
    assert type(model.optimizer) is Adam and model.loss.name == "binary_crossentropy"
    assert not any(isinstance(layer, Dropout) for layer in model.layers)
    assert sum(w.size for w in model.get_weights()) == 609_473


def test_a_model_file_of_before_still_loads(splits, tmp_path):
    model, test = trained(RECIPES["paper"], splits)
    model.save(tmp_path / "new.safetensors")
    tensors, metadata = weights.load(tmp_path / "new.safetensors")
    before = json.loads(metadata["preprocessing"])
    assert before.pop("equalize") is False and before.pop("border") == 0
    weights.save(tmp_path / "old.safetensors", tensors, metadata | {"preprocessing": json.dumps(before)})
    old = Sequential.load(tmp_path / "old.safetensors")
    assert old.preprocessing == Preprocessing()
    np.testing.assert_array_equal(old.predict(splits[2]), model.predict(test))
