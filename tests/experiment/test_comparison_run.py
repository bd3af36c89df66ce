"""Two runs compared: on what both held out, and on other images; the command."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from minicnn import Dense, Flatten, Sequential, Sigmoid, Softmax, experiment
from minicnn.cli import compare as compare_command
from minicnn.cli.main import main
from minicnn.data.manifest import Manifest
from minicnn.data.preprocessing import Preprocessing
from minicnn.data.synthetic import phantom
from minicnn.errors import InputError, ManifestError
from minicnn.evaluation import comparison
from minicnn.experiment.comparison_run import Comparison


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    """A data set as files, and two short runs on it that hold the same images out."""
    folder = tmp_path_factory.mktemp("compared")
    data = str(phantom.write(str(folder / "files"), n=24, seed=3, size=64))
    for name, epochs in (("a", 1), ("b", 3)):
        config = experiment.Config(data, epochs=epochs, steps_per_epoch=3, batch_size=8, classes=["normal", "covid"])
        experiment.train(config, folder / name, progress=False)
    return folder, data


def run(*arguments):
    import argparse

    parser = argparse.ArgumentParser()
    compare_command.add_options(parser)
    compare_command.run(parser.parse_args(list(map(str, arguments))))


def test_the_command_compares_what_both_held_out(two_runs, capsys):
    folder, data = two_runs
    run(folder / "a", folder / "b", "--json")
    told = json.loads(capsys.readouterr().out)
    for name, of in (("a", "a"), ("b", "b")):
        metrics = json.loads((folder / name / "metrics.json").read_text())["test"]
        assert told["n"] == metrics["n"] and told[of]["accuracy"] == metrics["accuracy"]
        assert told[of]["auc"] == metrics["auc"]
    run(folder / "a", folder / "b")
    text = capsys.readouterr().out
    assert "the set that each held out." in text and "McNemar's exact test, by patient" in text
    assert "Approximate: fewer than 50 patients." in text and "A - B" in text
    assert text.startswith(f"Verdict: {told['verdict']['sentence']}\n")


# Read as prose: the verdict once, what it was measured on, the sizes, the criterion.
GOLDEN = {
    9: """\
Verdict: no difference in accuracy is shown (p = 0.23; images that A alone gets right: 8, B alone: 3). This does not\
 show that A and B are equally accurate.
By their intervals B is better in average precision and loss. These measure one class, the order of the \
probabilities or their size, not the accuracy at p > 0.5, which the verdict is about; nine intervals are looked at, \
and none is corrected for that.

A is runs/001, B is runs/002; on 60 images of 60 patients, the set that each held out.

                                     A        B          A - B  95 % interval of A - B
accuracy                       95.00 %  86.67 %   +8.33 points  -2.47 to +18.33
specificity                    96.67 %  86.67 %  +10.00 points  -3.33 to +26.52
precision                      96.55 %  86.67 %   +9.89 points  -2.56 to +25.91
recall                         93.33 %  86.67 %   +6.67 points  -9.09 to +23.33
F1                             94.92 %  86.67 %   +8.25 points  -2.44 to +20.36
AUC                             0.9022   0.9778        -0.0756  -0.2351 to +0.0127
average precision               0.8677   0.9801        -0.1124  -0.3706 to -0.0026
Brier score (lower is better)   0.1440   0.1133        +0.0307  +0.0000 to +0.0966
loss (lower is better)          0.4784   0.3916        +0.0869  +0.0084 to +0.2621

The verdict is on the accuracy at p > 0.5, by McNemar's exact test, by patient: p < 0.05 is a difference. The \
intervals show sizes.
""",
    20: """\
Verdict: A is more accurate than B (p = 0.00086; images that A alone gets right: 19, B alone: 3).

A is runs/001, B is runs/002; on 60 images of 60 patients, the set that each held out.

                                     A        B          A - B  95 % interval of A - B
accuracy                       95.00 %  68.33 %  +26.67 points  +13.33 to +40.00
specificity                    96.67 %  70.00 %  +26.67 points  +8.09 to +45.45
precision                      96.55 %  68.97 %  +27.59 points  +10.36 to +47.38
recall                         93.33 %  66.67 %  +26.67 points  +6.06 to +48.15
F1                             94.92 %  67.80 %  +27.12 points  +12.29 to +43.86
AUC                             0.9022   0.8889        +0.0133  -0.1597 to +0.1426
average precision               0.8677   0.9055        -0.0378  -0.2970 to +0.0881
Brier score (lower is better)   0.1440   0.1476        -0.0036  -0.0409 to +0.0650
loss (lower is better)          0.4784   0.4610        +0.0175  -0.0738 to +0.2056

The verdict is on the accuracy at p > 0.5, by McNemar's exact test, by patient: p < 0.05 is a difference. The \
intervals show sizes.
""",
}


def golden(differ):
    """Return a Comparison of made-up networks on 60 images of 60 patients; A alone is right for `differ` of them."""
    labels = np.arange(60) % 2
    a = np.where(labels == 1, 0.5 + np.arange(60) / 150, 0.5 - np.arange(60) / 150)
    b = np.where(np.arange(60) < differ, 1 - a, a)
    a = np.where(np.arange(60) >= 57, 1 - a, a)
    return Comparison(Path("runs/001"), Path("runs/002"), comparison.compare(labels, a, b, np.arange(60)),
                      "the set that each held out")


@pytest.mark.parametrize("differ", GOLDEN)
def test_what_is_said_word_for_word(differ):
    assert golden(differ).table() + "\n" == GOLDEN[differ]


def test_a_run_against_itself_is_said_to_be_the_same(two_runs, other, tmp_path, capsys):
    folder, _ = two_runs
    shutil.copytree(folder / "a", tmp_path / "copy")
    (tmp_path / "link").symlink_to(folder / "a")
    for second, how, same in ((folder / "a", [], "run"), (tmp_path / "link", [], "run"), (tmp_path / "copy", [], "weights"),
                              (tmp_path / "copy", ["--data", other, "--quiet"], "weights"),
                              (tmp_path / "copy" / "best.safetensors", ["--data", other, "--quiet"], "weights"),
                              (folder / "b", ["--data", other, "--quiet"], None)):
        run(folder / "a", second, *how, "--json")
        told = json.loads(capsys.readouterr().out)
        assert told["verdict"]["same"] == same
        run(folder / "a", second, *how)
        text = capsys.readouterr().out
        assert ("there is nothing to compare" in text.split("\n")[0]) == (same is not None)
        assert ("95 % interval" in text) == (same is None)
    # Other weights that answer the same.
    model = experiment.load_model(folder / "a")
    model.set_weights([np.nextafter(value, np.inf) if value.ndim == 1 and len(value) > 1 else value
                       for value in model.get_weights()])
    (tmp_path / "copy" / "best.safetensors").unlink()
    model.save(tmp_path / "copy" / "best.safetensors")
    told = experiment.compare(folder / "a", tmp_path / "copy")
    assert told.metrics["verdict"]["same"] == "predictions" and "the same probability for every image" in told.table()


def test_the_command_refuses_what_cannot_be_compared(two_runs, tmp_path):
    folder, _ = two_runs
    copy = tmp_path / "copy"
    copy.mkdir()
    for name in ("config.json", "best.safetensors", "split.csv", "predictions.csv"):
        (copy / name).write_bytes((folder / "b" / name).read_bytes())
    answers, split = ((copy / name).read_text() for name in ("predictions.csv", "split.csv"))

    def refused(match, predictions=answers, parts=split):
        (copy / "predictions.csv").write_text(predictions)
        (copy / "split.csv").write_text(parts)
        with pytest.raises(InputError, match=match):
            run(folder / "a", copy)

    refused("do not hold the same images in the same order", answers.replace("test", "validation"))
    others = [text.replace("/", "_") for text in (answers, split)]
    refused("no image is held out by both. Train both on the same data", *others)
    refused("predictions.csv: .* no column 'label'", "path,part\na,b\n")
    refused(r"the probability must lie in \[0, 1\], got nan", "\n".join(
        line.rsplit(",", 1)[0] + (",nan" if i else ",probability") for i, line in enumerate(answers.splitlines())))
    swap = answers.replace("covid", "?").replace("normal", "covid").replace("?", "normal")
    refused(" is (normal|covid) in .* and (normal|covid) in ", swap)
    (copy / "predictions.csv").unlink()
    with pytest.raises(InputError, match="has no predictions.csv: this run is not finished"):
        run(folder / "a", copy)
    (copy / "predictions.csv").mkdir()
    with pytest.raises(InputError, match="predictions.csv: .*not a regular file"):
        run(folder / "a", copy)


# ---- Other images ----------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def other(two_runs):
    """Images that neither run was trained on."""
    return Path(phantom.write(two_runs[0] / "other", n=20, seed=8, size=64))


def test_images_that_a_network_was_trained_on_are_refused_and_said(two_runs, other, tmp_path, capsys):
    folder, data = two_runs
    a, b = folder / "a", folder / "b"
    with pytest.raises(InputError, match=r"a: 1\d of these 24 images are among those that the network was trained on"):
        experiment.compare(a, b, data, progress=False)
    told = experiment.compare(a, b, data, allow_training_images=True, progress=False)
    assert told.metrics["n"] == 24 and len(told.notes) == 2 and "the metrics mean nothing" in told.notes[0]
    assert told.table().endswith(told.notes[1]) and told.to_dict()["notes"] == told.notes
    # One image of many, under another name; and only the second network knows it.
    config = experiment.Config(str(other), epochs=1, steps_per_epoch=1, batch_size=4)
    experiment.train(config, tmp_path / "c", progress=False, plots=False)
    trained = (tmp_path / "c" / "split.csv").read_text().splitlines()
    known = next(line.split(",")[0] for line in trained if "training" in line)
    fresh = phantom.write(tmp_path / "fresh", n=12, seed=9, size=64)
    shutil.copy(other.parent / known, fresh.parent / "renamed.png")
    fresh.write_text(fresh.read_text() + "renamed.png,covid,new,,\n")
    with pytest.raises(InputError, match=r"c: 1 of these 13 images .* the first is renamed.png"):
        experiment.compare(a, tmp_path / "c", fresh, progress=False)
    assert main(["compare", str(a), str(b), "--data", data, "--quiet"]) == 3
    assert "--allow-training-images" in capsys.readouterr().err
    assert main(["compare", str(a), str(b), "--data", data, "--quiet", "--json", "--allow-training-images"]) == 0
    assert len(json.loads(capsys.readouterr().out)["notes"]) == 2


def test_data_is_read_as_evaluate_reads_it(two_runs, other, tmp_path, capsys):
    """Other headers, other words for the classes, files elsewhere, and a number of workers."""
    folder, _ = two_runs
    runs = [str(folder / name) for name in "ab"]
    plain = experiment.compare(*runs, other, progress=False)
    assert plain.metrics["n"] == 20 and all("None of these images" in note for note in plain.notes)
    renamed = other.parent / "renamed.csv"
    lines = other.read_text().replace(",covid,", ",ill,").replace(",normal,", ",well,").splitlines()
    renamed.write_text("\n".join([lines[0].replace("label", "finding"), *lines[1:]]))
    how = ["--data", str(renamed), "--columns", "label=finding", "--classes", "well,ill", "--workers", "0", "--quiet",
           "--json"]
    assert main(["compare", *runs, *how]) == 0
    assert json.loads(capsys.readouterr().out) == plain.to_dict()
    for name in "ab":       # evaluate takes the same options
        assert main(["evaluate", str(folder / name), *how]) == 0
        assert json.loads(capsys.readouterr().out)["evaluation"]["auc"] == plain.metrics[name]["auc"]
    elsewhere = tmp_path / "list.csv"
    rows = other.read_text().splitlines()
    elsewhere.write_text("\n".join([rows[0], *(f"{other.parent}/{row}" for row in rows[1:])]))
    assert main(["compare", *runs, "--data", str(elsewhere), "--quiet", "--json"]) == 3
    assert "--allow-outside-root" in capsys.readouterr().err
    assert main(["compare", *runs, "--data", str(elsewhere), "--quiet", "--json", "--allow-outside-root"]) == 0
    assert json.loads(capsys.readouterr().out)["a"] == plain.metrics["a"]


@pytest.mark.parametrize("classes, match", [(["covid", "normal"], "the network's are normal, covid, in this order"),
                                            (["a", "b", "c"], "tells 2 classes apart, got 3 labels"),
                                            (["well", "ill"], "covid")])
def test_classes_that_do_not_fit_are_refused(two_runs, other, classes, match):
    folder, _ = two_runs
    with pytest.raises((InputError, ManifestError), match=match):
        experiment.compare(folder / "a", folder / "b", other, classes=classes, progress=False)
    with pytest.raises((InputError, ManifestError), match=match):
        experiment.evaluate(folder / "a", other, classes=classes, progress=False)


def network(path, classes=None, outputs=1):
    outputs = 3 if classes and len(classes) == 3 else outputs
    last = Sigmoid() if outputs == 1 else Softmax()
    model = Sequential([Flatten(), Dense(outputs), last], (16, 16, 1), seed=len(path.name))
    model.classes = classes
    model.save(path)
    return path


def test_weights_files_and_networks_that_cannot_be_compared(tmp_path):
    made = phantom.generate(n=30, seed=4)
    images = Manifest.from_arrays(made.images, made.labels, made.classes)
    two, other_two, three = (network(tmp_path / name, classes) for name, classes in
                             (("a", ("a", "b")), ("bb", ("b", "a")), ("c", ("a", "b", "c"))))
    plain, more, wide = network(tmp_path / "d"), network(tmp_path / "ee"), network(tmp_path / "f", None, 2)
    for pair, classes, match in (((two, other_two), None, "in the same order; they have a, b and b, a"),
                                 ((two, plain), None, "a, b and none"),
                                 ((plain, more), None, "none and none. .*--classes"),
                                 ((three, three), None, "must have two classes, they have 3: a, b, c"),
                                 ((wide, plain), ["no", "yes"], r"must have one output, .* the shape \(2,\)")):
        with pytest.raises(InputError, match=match):
            experiment.compare(*pair, images, classes=classes, progress=False)
    told = experiment.compare(plain, more, images, classes=["normal", "covid"], progress=False)
    assert told.metrics["n"] == 30 and "in the given manifest" in told.table()
    p = experiment.load_model(plain).predict(images.open(Preprocessing(16, 16, 1)))[:, 0] > 0.5
    assert told.metrics["a"]["accuracy"] == np.mean(p == made.labels)
