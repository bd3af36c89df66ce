"""Transfer learning in runs: any network, weights of any tool, frozen features, and what is said before the data is read."""

import csv
import json
import shutil

import numpy as np
import pytest

from minicnn import Adam, experiment, networks, weights
from minicnn.cli.main import main
from minicnn.cli.options import _NETWORKS
from minicnn.errors import InputError, ShapeError, WeightsError
from minicnn.experiment import Config, training_run, transfer
from minicnn.experiment.config import _TRAINED_HERE
from minicnn.experiment.transfer import initial_model, trunk_length
from minicnn.frozen import FrozenFeatures
from minicnn.interop import keras, pytorch
from tests.support.interruptions import interrupted_after

SMALL = {"epochs": 2, "steps_per_epoch": 3, "batch_size": 8, "classes": ["normal", "covid"], "network": "mobilenet_v2", "size": 32}
CLASSES = ("normal", "covid")


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    """40 small radiographs."""
    folder = tmp_path_factory.mktemp("transfer") / "files"
    main(["data", "phantom", str(folder), "--n", "40", "--seed", "5", "--size", "64", "--quiet"])
    return str(folder / "manifest.csv")


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """Files of one trunk: of Keras, of PyTorch, and of minicnn."""
    folder = tmp_path_factory.mktemp("weights")
    model = networks.mobilenet_v2(classes=7, input_shape=(32, 32, 3), seed=9)
    rng = np.random.default_rng(4)
    for layer in model.layers:
        for statistic in layer.statistics:
            statistic.value = rng.uniform(0.5, 1.0, statistic.value.shape)
    keras.save_weights(model, folder / "model.weights.h5")
    pytorch.save(model, folder / "model.py")
    model.save(folder / "model.minicnn")
    return {"keras": folder / "model.weights.h5", "pytorch": folder / "model.safetensors", "minicnn": folder / "model.minicnn",
            "model": model}


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(training_run, "draw", lambda *arguments: [])


def trunk_of(model, n=None):
    """Return {name: array} of the trunk's weights, without the scale of the pixels."""
    names = {layer.name for layer in model.layers[:trunk_length(model)]} - {"pixels"}
    return {key: weight.value for key, weight in model.network.weights() if key.rpartition("/")[0] in names}


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "environment.json"}


# ---- Networks and weights --------------------------------------------------------------------------------------------

def test_the_command_line_knows_the_networks():
    assert list(_NETWORKS) == _TRAINED_HERE


@pytest.mark.parametrize("name, before", [("cov19net", "flatten_1"), ("vgg16", "flatten"), ("mobilenet_v2", "avg_pool"),
                                          ("efficientnet_b0", "avg_pool"), ("covid_caps", "pixels")])
def test_the_trunk_makes_the_last_feature_map(name, before):
    model = networks.NETWORKS[name](input_shape=(64, 64, 3))
    assert model.layers[trunk_length(model)].name == before


@pytest.mark.parametrize("tool, scale", [("keras", 0.5), ("pytorch", 0.485), ("minicnn", None)])
def test_weights_of_any_tool_fill_the_trunk(tool, scale, pretrained):
    """And bring the scale of pixels that they were trained on; the head is new."""
    model = initial_model(Config(weights=str(pretrained[tool]), seed=1, **SMALL), CLASSES)
    expected, got = trunk_of(pretrained["model"]), trunk_of(model)
    assert expected.keys() == got.keys() and len(got) > 200
    for key, array in expected.items():
        np.testing.assert_array_equal(got[key], array)
    assert model.classes == CLASSES and model.output_shape == (1,)
    assert (model.layers[0].name == "pixels") == (scale is not None)
    if scale is not None:
        assert model.layers[0].statistics[0].value[0] == np.float32(scale) and not model.layers[0].trainable


def test_a_model_of_before_brings_its_head_too(tmp_path):
    """Unfreezing goes on with all that was trained; with other classes, or another head, that alone is new."""
    config = Config(freeze="trunk", head=[4], seed=2, **SMALL)
    before = initial_model(config, CLASSES)
    before.get_layer("head1").parameters[0].value[...] = 0.25
    before.save(tmp_path / "before.safetensors")
    after = Config(weights=str(tmp_path / "before.safetensors"), head=[4], seed=7, **SMALL)
    same = initial_model(after, CLASSES)
    for one, other in zip(before.get_weights(), same.get_weights()):
        np.testing.assert_array_equal(one, other)
    assert same.trainable_weights and all(layer.trainable for layer in same.layers)
    three = initial_model(after, ("a", "b", "c"))
    np.testing.assert_array_equal(three.get_layer("head1").parameters[0].value, 0.25)
    assert three.output_shape == (3,)


def test_normalization_keeps_the_statistics_of_the_weights(collection, pretrained, tmp_path, quick):
    config = Config(collection, weights=str(pretrained["keras"]), freeze="normalization", **SMALL)
    assert "normalization frozen" in config.protocol_sentence and config.drawn == "honest"
    experiment.train(config, tmp_path / "run", progress=False)
    model = experiment.load_model(tmp_path / "run")
    before, after = trunk_of(pretrained["model"]), trunk_of(model)
    moved = {key.rpartition("/")[0] for key in before if not np.array_equal(before[key], after[key])}
    kinds = {type(layer).__name__ for layer in model.layers if layer.name in moved}
    assert "Conv2D" in kinds and "BatchNormalization" not in kinds


@pytest.mark.parametrize("name", ["covid_caps", "cov19net"])
def test_networks_without_another_head_take_weights_too(name, tmp_path):
    config = Config(network=name, size=32, seed=1)
    model = initial_model(config, CLASSES)
    model.save(tmp_path / "model.safetensors")
    again = initial_model(Config(network=name, size=32, seed=2, weights=str(tmp_path / "model.safetensors"), freeze="trunk"), CLASSES)
    for one, other in zip(model.get_weights(), again.get_weights()):
        np.testing.assert_array_equal(one, other)
    assert [layer.trainable for layer in again.layers].index(True) == trunk_length(again)
    assert model.loss.name == ("margin" if name == "covid_caps" else "binary_crossentropy")


def test_a_file_whose_header_is_as_long_as_an_archive_begins_is_a_minicnn_file(tmp_path):
    """Its first bytes are that length: PK, of 19,280 bytes, as a network of some hundred weights has."""
    path, config = tmp_path / "model.safetensors", Config(network="cov19net", size=32, seed=1)
    model = initial_model(config, CLASSES)
    model.save(path)
    tensors, metadata = weights.load(path)
    padding = int.from_bytes(b"PK", "little") - int.from_bytes(path.read_bytes()[:8], "little") - len(',"more":""')
    weights.save(path, tensors, metadata | {"more": "x" * padding})
    assert path.read_bytes().startswith(b"PK\0\0")
    for one, other in zip(model.get_weights(), initial_model(config, CLASSES, path).get_weights()):
        np.testing.assert_array_equal(one, other)


# ---- What is said ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("tool", ["keras", "pytorch", "minicnn"])
def test_weights_of_another_network_are_told_in_a_table(tool, pretrained):
    with pytest.raises(WeightsError) as caught:
        initial_model(Config(network="efficientnet_lite0", size=32, weights=str(pretrained[tool])), CLASSES)
    text = str(caught.value)
    assert "what was done" in text and "stem_conv/kernel" in text and "predictions" in text


def test_weights_of_a_run_of_another_network_say_which(collection, tmp_path, quick):
    experiment.train(Config(collection, **SMALL | {"epochs": 1, "steps_per_epoch": 1}), tmp_path / "run", progress=False)
    with pytest.raises(WeightsError, match="weights of cov19net. Those of this run are of --network mobilenet_v2 --size 32"):
        initial_model(Config(weights=str(tmp_path / "run")), CLASSES)


@pytest.mark.parametrize("options, error, sentence", [
    ({"network": "vgg19", "size": 20}, ShapeError, "at least 32 x 32; these are 20 x 20"),
    ({"freeze": 500}, InputError, "freeze: cov19net has 13 layers, the last with weights is number 12; freeze at most 11, got 500"),
    ({"freeze": 12}, InputError, "freeze at most 11, got 12"),
    ({"weights": "imagenet"}, InputError, "weights for ImageNet of cov19net, only of efficientnet_lite0"),
    ({"weights": "nowhere.h5"}, WeightsError, "nowhere.h5: cannot be read"),
])
def test_what_cannot_be_is_said_before_the_data_is_read(options, error, sentence, tmp_path):
    with pytest.raises(error, match=sentence):
        experiment.train(Config("no/such/data.csv", **options), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("options, sentence", [
    ({"network": "resnet"}, "network must be one of cov19net, .*got 'resnet'"), ({"network": "anomaly_detector"}, "network must be one of"),
    ({"size": 4}, "size must"), ({"freeze": "head"}, 'freeze must be "trunk", "normalization", or how many layers'), ({"freeze": 0}, "freeze must"),
    ({"head": []}, "head must be a list"), ({"head": [0]}, "head must"), ({"head": [8]}, "cov19net has no trunk that another head"),
    ({"network": "covid_caps", "head": [8]}, "covid_caps has no trunk"),
])
def test_options_that_are_none(options, sentence):
    with pytest.raises(InputError, match=sentence):
        Config(**options)


def test_memory_that_would_not_suffice_is_said_with_the_batch_that_fits(monkeypatch, tmp_path):
    model = networks.vgg16(classes=2, input_shape=(64, 64, 3), head=(8,))
    model.compile(Adam(), "binary_crossentropy")
    monkeypatch.setattr(transfer, "available_memory", lambda: 2**28)
    with pytest.raises(InputError, match=r"with 400 images needs about .* GiB of memory, there are 0.2 GiB. A batch of (\d+) fits") as caught:
        transfer.check_memory(model, 400)
    fits = int(str(caught.value).partition("A batch of ")[2].split()[0])
    transfer.check_memory(model, fits)
    with pytest.raises(InputError):
        transfer.check_memory(model, fits + 1)
    for layer in model.layers[:-4]:
        layer.trainable = False
    transfer.check_memory(model, fits + 3)                          # frozen layers remember nothing
    monkeypatch.setattr(transfer, "available_memory", lambda: 2**20)
    with pytest.raises(InputError, match="A smaller size is needed"):
        transfer.check_memory(model, 1)
    monkeypatch.setattr(transfer, "available_memory", lambda: None)
    transfer.check_memory(model, 2**31 - 1)
    monkeypatch.setattr(training_run, "check_memory", lambda model, batch: transfer.check_memory(model, batch))
    monkeypatch.setattr(transfer, "available_memory", lambda: 2**20)
    with pytest.raises(InputError, match="training step"):
        experiment.train(Config("no/such/data.csv", network="mobilenet_v2"), tmp_path / "run", progress=False)


# ---- Runs ------------------------------------------------------------------------------------------------------------

def test_a_run_on_frozen_features_and_one_unfrozen_from_there(collection, pretrained, tmp_path, quick, capsys):
    frozen = Config(collection, weights=str(pretrained["keras"]), freeze="trunk", head=[6], **SMALL)
    assert frozen.drawn == "none" and "32 x 32, weights" in frozen.protocol_sentence and "trunk frozen, head 6" in frozen.protocol_sentence
    result = experiment.train(frozen, tmp_path / "frozen", progress=False)
    model = experiment.load_model(tmp_path / "frozen")
    for key, array in trunk_of(pretrained["model"]).items():
        np.testing.assert_array_equal(trunk_of(model)[key], array)
    for name, dataset in result.datasets.items():                   # of features, as of images
        assert not isinstance(dataset, FrozenFeatures)
        np.testing.assert_array_equal(model.predict(dataset), result.outputs[name])
    assert json.loads((tmp_path / "frozen" / "environment.json").read_text())["weights"]
    tuned = Config(collection, weights=str(tmp_path / "frozen"), head=[6], learning_rate=1e-4, **SMALL)
    assert tuned.drawn == "honest"
    experiment.train(tuned, tmp_path / "tuned", progress=False)
    after = experiment.load_model(tmp_path / "tuned")
    assert any(not np.array_equal(array, trunk_of(model)[key]) for key, array in trunk_of(after).items())
    assert after.layers[0].name == "pixels"
    for command in (["evaluate", str(tmp_path / "tuned")], ["compare", str(tmp_path / "frozen"), str(tmp_path / "tuned")],
                    ["predict", str(tmp_path / "tuned"), shutil.os.path.dirname(collection), "--quiet"],
                    ["explain", str(tmp_path / "tuned"), str(next(tmp_path.parent.parent.rglob("files/*/*.png"))), "--out",
                     str(tmp_path / "maps"), "--quiet"]):
        assert main(command) == 0, command
    assert "Network mobilenet_v2, 32 x 32" in capsys.readouterr().out


@pytest.mark.parametrize("options", [{"freeze": "trunk", "network": "mobilenet_v2"}, {"freeze": "trunk", "augmentation": "honest"},
                                     {"freeze": 3}, {"freeze": "trunk", "protocol": "paper"}, {}])
def test_an_interrupted_run_goes_on_to_the_same_bytes(options, collection, pretrained, tmp_path, monkeypatch, quick):
    """Even where the file of its weights is gone, once there is a checkpoint."""
    options, weights, stop = SMALL | {"network": "cov19net"} | options, tmp_path / "weights", 4
    if options["network"] == "cov19net":
        initial_model(Config(**options), CLASSES).save(weights)
    else:
        shutil.copy(pretrained["keras"], weights)
    config = Config(collection, weights=str(weights), **options)
    experiment.train(config, tmp_path / "whole", progress=False)
    with interrupted_after(stop, monkeypatch):
        experiment.train(config, tmp_path / "cut", progress=False)
    weights.unlink()
    experiment.resume(tmp_path / "cut", progress=False)
    assert files_of(tmp_path / "cut") == files_of(tmp_path / "whole")


def test_before_the_first_checkpoint_the_weights_must_be_the_same(collection, pretrained, tmp_path, monkeypatch, quick):
    weights = shutil.copy(pretrained["keras"], tmp_path / "w.weights.h5")
    config = Config(collection, weights=str(weights), freeze="trunk", **SMALL)
    experiment.train(config, tmp_path / "whole", progress=False)
    monkeypatch.setattr("minicnn.model.Model.fit", lambda *arguments, **named: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        experiment.train(config, tmp_path / "cut", progress=False)
    monkeypatch.undo()
    monkeypatch.setattr(training_run, "draw", lambda *arguments: [])
    assert not (tmp_path / "cut" / "last.safetensors").exists()
    kept = weights.read_bytes()
    shutil.copy(pretrained["minicnn"], weights)
    with pytest.raises(InputError, match="not the weights that .* was begun with"):
        experiment.resume(tmp_path / "cut", progress=False)
    weights.write_bytes(kept)
    experiment.resume(tmp_path / "cut", progress=False)
    assert files_of(tmp_path / "cut") == files_of(tmp_path / "whole")


def test_capsules_in_a_run(collection, tmp_path, quick, capsys):
    """Lengths are no probabilities: what is evaluated, predicted and explained are their shares."""
    config = Config(collection, **SMALL | {"network": "covid_caps", "recipe": "robust"})
    result = experiment.train(config, tmp_path / "run", progress=False)
    outputs = result.outputs["test"]
    lengths = experiment.load_model(tmp_path / "run").predict(result.datasets["test"])
    assert outputs.shape == (len(lengths), 1) and lengths.shape[1] == 2
    np.testing.assert_allclose(outputs[:, 0], lengths[:, 1] / lengths.sum(axis=1), rtol=1e-6)
    with open(tmp_path / "run" / "predictions.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["part"] == "test"]
    assert [float(row["p_covid"]) for row in rows] and "auc" in result.metrics["test"]
    image = str(next(tmp_path.parent.parent.rglob("files/*/*.png")))
    assert main(["explain", str(tmp_path / "run"), image, "--out", str(tmp_path / "maps"), "--quiet"]) == 0
    assert main(["predict", str(tmp_path / "run"), image, "--quiet"]) == 0
    assert main(["evaluate", str(tmp_path / "run"), "--data", collection, "--allow-training-images", "--shortcuts", "--quiet"]) in (0, 1)


def test_options_of_an_earlier_config_are_its_own(collection, tmp_path, quick):
    """A config.json of before, without these options, is COV-19Net's."""
    config = Config(collection, **{name: SMALL[name] for name in ("epochs", "steps_per_epoch", "batch_size", "classes")})
    experiment.train(config, tmp_path / "run", progress=False)
    path = tmp_path / "run" / "config.json"
    kept = json.loads(path.read_text())
    for name in ("network", "size", "weights", "freeze", "head"):
        del kept[name]
    path.write_text(json.dumps(kept))
    assert experiment.resume(tmp_path / "run", progress=False).metrics and "Network" not in config.protocol_sentence
