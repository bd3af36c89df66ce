"""The shortcut check: its conditions, its metrics, and its findings with and without a tag."""

import io

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter1d
from sklearn.metrics import roc_auc_score

from minicnn.data.manifest import Manifest
from minicnn.data.preprocessing import Preprocessing
from minicnn.errors import InputError, ShapeError
from minicnn.evaluation import shortcut_test
from minicnn.evaluation.intervals import Interval
from minicnn.evaluation.shortcut_test import CONDITIONS, check_shortcuts, disturb, examples
from minicnn import experiment
from minicnn.layers import Conv2D, Dense, Flatten, ReLU, Sigmoid, Softmax
from minicnn.model import Sequential
from minicnn.plotting.explanation import shortcut_check
from tests.support import tagged
from tests.support.strategies import normals


def small(k=1, input_shape=(16, 16, 1)):
    head = [Dense(1), Sigmoid()] if k == 1 else [Dense(k), Softmax()]
    return Sequential([Conv2D(3, 3), ReLU(), Flatten()] + head, input_shape)


def images(n, seed=0, shape=(16, 16, 1)):
    return (normals(seed, (n, *shape)) * 40 + 128).clip(0, 255).astype(np.uint8)


# ---- Conditions ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("shape", [(40, 48, 1), (64, 40, 3)])
def test_conditions(shape):
    x = images(3, shape=shape) / np.float32(255)
    before = x.copy()
    done = {name: disturb(x, name) for name in CONDITIONS}
    h, w = shape[0] // 8, shape[1] // 8
    middle = np.zeros(shape, bool)
    middle[h:-h, w:-w] = True
    assert (done["untouched"] == x).all() and (done["inverted"] == 1 - x).all()
    assert (done["border black"] == x * middle).all() and (done["middle black"] == x * ~middle).all()
    assert (done["border black"] + done["middle black"] == x).all()         # told by one is not told by the other
    deviation = min(shape[:2]) / 64
    blurred = x.astype(np.float64)
    for axis in (1, 2):
        blurred = gaussian_filter1d(blurred, deviation, axis, mode="nearest", radius=int(np.ceil(3 * deviation)))
    np.testing.assert_allclose(done["blurred"], blurred, atol=1e-6)
    assert np.abs(blurred - x).max() > 0.01
    for name, y in done.items():
        assert y.shape == x.shape and y.dtype == x.dtype and 0 <= y.min() <= y.max() <= 1, name
        assert (disturb(x[1:2], name)[0] == y[1]).all()                     # whatever is in the batch
    assert (x == before).all()


def test_images_are_written_as_jpeg_and_read_again():
    grey = np.repeat(images(2, shape=(32, 32, 1)), 3, axis=3)
    colour = images(1, 7, (32, 32, 3))
    for x, as_written in ((grey, grey[..., 0]), (colour, colour)):
        y = disturb(x / 255, "re-encoded")
        for picture, written in zip(y, as_written):
            file = io.BytesIO()
            Image.fromarray(written).save(file, "JPEG", quality=50)
            assert (np.rint(picture * 255) == np.asarray(Image.open(file)).reshape(32, 32, -1)).all()
        assert np.abs(y - x / 255).max() > 0.02


def test_invalid_images_are_refused():
    for x in (np.zeros((8, 8, 1)), np.zeros((1, 8, 8, 2)), np.full((1, 8, 8, 1), 1.5), np.full((1, 8, 8, 1), -0.5),
              np.full((1, 8, 8, 1), np.nan)):
        with pytest.raises(InputError, match="expected images .* between 0 .* and 1"):
            disturb(x, "inverted")
    with pytest.raises(InputError, match="must be one of untouched, border black, .* got 'sepia'"):
        disturb(np.zeros((1, 8, 8, 1)), "sepia")
    with pytest.raises(ShapeError, match="at least 8 x 8, got 7 x 8"):
        disturb(np.zeros((1, 7, 8, 1)), "border black")


# ---- Metrics ---------------------------------------------------------------------------------------------------------

def test_metrics_are_those_of_the_disturbed_images():
    for k in (1, 3):
        model, x = small(k), images(70)
        t = np.arange(70) % max(k, 2)
        check = check_shortcuts(model, x, t)
        assert [one.name for one in check.conditions] == list(CONDITIONS)
        assert check.images_of_unknown_patients == 70
        for one in check.conditions:
            p = model.predict(disturb(x / np.float32(255), one.name))
            expected = roc_auc_score(t, p[:, 0]) if k == 1 else roc_auc_score(t, p, multi_class="ovr")
            assert one.metrics["auc"] == pytest.approx(expected) and one.metrics["n"] == 70
            right = (p[:, 0] > 0.5) if k == 1 else p.argmax(axis=1)
            assert one.metrics["accuracy"] == pytest.approx((right == t).mean())
            assert one.interval.low < one.metrics["auc"] < one.interval.high
            if one.name != "untouched":
                assert one.change == pytest.approx(one.metrics["auc"] - check["untouched"].metrics["auc"])
        assert check["untouched"].change is None and ("macro AUC" in check.table()) == check.is_macro == (k == 3)
        assert check == check_shortcuts(model, x, t) and check.table() == check_shortcuts(model, x, t).table()


def test_images_of_a_patient_are_a_cluster():
    model, x = small(), np.repeat(images(20), 4, axis=0)
    t = np.repeat(np.arange(20) % 2, 4)
    alone, together = check_shortcuts(model, x, t), check_shortcuts(model, x, t, [f"p{i // 4}" for i in range(80)])
    assert (alone.images_of_unknown_patients, together.patients) == (80, 20)
    width = [check["untouched"].interval.high - check["untouched"].interval.low for check in (alone, together)]
    assert width[1] > 1.5 * width[0]
    assert "80 images of 20 patients (few: the intervals are approximate)." in together.table()
    unknown = check_shortcuts(model, x, t, ["ann"] + [""] * 79)
    assert (unknown.patients, unknown.images_of_unknown_patients) == (1, 79)
    with pytest.raises(InputError, match="expected 80 patients, one for each image, got 3"):
        check_shortcuts(model, x, t, ["a", "b", "c"])


def test_a_single_class_has_no_verdict():
    check = check_shortcuts(small(), images(12), np.ones(12))
    assert check["untouched"].metrics["auc"] is None and not check.findings
    text = check.table()
    assert "undefined: untouched AUC, because all samples have the same label." in text
    assert text.endswith("No verdict: the AUC is undefined, because all samples have the same label.")
    assert "0.000" not in text and "1.000" not in text


def test_invalid_arguments_are_refused():
    model, x = small(), images(4)
    with pytest.raises(InputError, match="expected images with labels"):
        check_shortcuts(model, x)
    with pytest.raises(InputError, match="does not classify"):
        check_shortcuts(Sequential([Conv2D(1, 3)], (16, 16, 1)), x, [0, 1, 0, 1])
    model.classes, model.preprocessing = ("normal", "covid"), Preprocessing(16, 16, 1)
    manifest = Manifest.from_arrays(x[..., 0], [0, 1, 0, 1], ("healthy", "ill"))
    with pytest.raises(InputError, match="the images' classes are healthy, ill, the network's normal, covid"):
        check_shortcuts(model, manifest)
    with pytest.raises(InputError, match="between 0 .* and 1"):
        check_shortcuts(model, x / 100.0, [0, 1, 0, 1])


def test_a_manifest_has_labels_and_patients():
    model, x = small(), images(12)
    model.preprocessing = Preprocessing(16, 16, 1)
    manifest = Manifest.from_arrays(x[..., 0], np.arange(12) % 2, ("normal", "covid"), patients=list("aabbccddeeff"))
    assert check_shortcuts(model, manifest).patients == 6


# ---- Findings --------------------------------------------------------------------------------------------------------

def test_a_tag_is_exposed_and_an_honest_network_is_not():
    honest, tag = tagged.trained(False), tagged.trained(True)
    check = check_shortcuts(tag.model, tag.images, tag.labels, tag.patients)
    assert check["untouched"].metrics["auc"] > 0.95 and check["middle black"].metrics["auc"] > 0.95
    assert check["border black"].metrics["auc"] < 0.75 and check["border black"].change_interval.high < -0.2
    assert [sentence.split(":")[0] for sentence in check.findings] == ["SHORTCUT", "POSSIBLE SHORTCUT"]
    assert "it uses the border" in check.table() and "99.45 %" in check.table()
    check = check_shortcuts(honest.model, honest.images, honest.labels, honest.patients)
    assert check["untouched"].metrics["auc"] > 0.75 and check["middle black"].metrics["auc"] < 0.65
    assert abs(check["border black"].change) < 0.06 and check.findings == []
    assert check.table().endswith("one may lie between the lungs.")


def test_a_network_at_chance_has_no_verdict():
    check = check_shortcuts(tagged.trained(True).model, images(60, shape=(64, 64, 1)), np.arange(60) % 2)
    assert check["untouched"].interval.low < 0.5 and check.findings == []
    assert "No verdict" in check.table() and "not above chance" in check.table()


@pytest.mark.parametrize("whole, middle, fall, words", [
    ((0.8, 0.9), (0.4, 0.6), (-0.05, 0.0), []), ((0.8, 0.9), (0.61, 0.8), (-0.05, 0.0), ["SHORTCUT"]),
    ((0.8, 0.9), (0.6, 0.8), (-0.3, -0.11), ["POSSIBLE SHORTCUT"]), ((0.8, 0.9), (0.4, 0.6), (-0.3, -0.09), []),
    ((0.5, 0.7), (0.4, 0.6), (-0.3, -0.2), []),         # what is not there cannot be lost
    ((0.4, 0.7), (0.7, 0.8), (-0.3, -0.2), ["SHORTCUT"]), ((None, None), (None, None), (None, None), [])])
def test_when_there_is_a_finding(whole, middle, fall, words):
    def condition(name, bounds, change):
        auc, difference = (None if pair[0] is None else sum(pair) / 2 for pair in (bounds, change))
        return shortcut_test.Condition(name, {"auc": auc}, Interval(*bounds, 90), difference, Interval(*change, 90))

    by_name = {"untouched": condition("untouched", whole, (None, None)), "middle black": condition("", middle, (0, 0)),
               "border black": condition("", whole, fall), "re-encoded": condition("", whole, (-0.01, 0.01))}
    assert [sentence.split(":")[0] for sentence in shortcut_test._findings(by_name)] == words
    by_name["re-encoded"] = condition("", whole, fall)
    assert [sentence.split(":")[0] for sentence in shortcut_test._findings(by_name)] == words + words[-1:] * (
        words[-1:] == ["POSSIBLE SHORTCUT"])


def test_the_plot(tmp_path):
    tag = tagged.trained(True)
    check = check_shortcuts(tag.model, tag.images[:40], tag.labels[:40])
    undefined = check_shortcuts(tag.model, tag.images[:4], np.zeros(4))
    for name in "ab":
        shortcut_check({"test": check, "$\\frac{\x1b": undefined}, examples(tag.images[0]), tmp_path / f"{name}.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.format == "PNG" and np.asarray(picture.convert("L")).std() > 10
    with pytest.raises(InputError, match="checks: .* got 0"):
        shortcut_check({}, examples(tag.images[0]), tmp_path / "c.png")


@pytest.mark.soak
def test_real_radiographs_with_confounded_sources(shared, tmp_path):
    """COV-19Net on the shared collection: it separates the classes by the border alone, and fails elsewhere."""
    data = shared / "data" / "chestxray"
    config = experiment.Config(data=str(data / "manifest.csv"), epochs=8, seed=1)
    experiment.train(config, tmp_path / "run", progress=False)
    model = experiment.load_model(tmp_path / "run")
    test = Manifest.read(data / "manifest.csv").split(seed=1)[2]
    check = check_shortcuts(model, test)
    assert check["untouched"].metrics["auc"] > 0.9 and check["middle black"].metrics["auc"] > 0.6
    outside = check_shortcuts(model, Manifest.read(data / "external.csv", classes=list(model.classes)))
    assert "No verdict" in outside.table() and shortcut_test.PAPER_ACCURACY - outside["untouched"].metrics["accuracy"] > 0.2
