"""Plots of the report: they show the values of the network and the results, and say what is undefined."""

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score, precision_recall_curve

from minicnn import metrics
from minicnn.data.synthetic import phantom
from minicnn.errors import InputError, ShapeError
from minicnn.evaluation.calibration import reliability_curve
from minicnn.evaluation.explanation.gradcam import explain
from minicnn.layers import (AveragePool2D, Conv2D, Dense, Dropout, Flatten, MaxPool2D, ReLU, Sigmoid, Softmax, Tanh)
from minicnn.metrics.curves import roc as roc_curve
from minicnn.model import Sequential
from minicnn.networks import cov19net
from minicnn.plotting import network, run
from minicnn.study import forest_plots, result_plots
from tests.support.reproduction_example import example

HOSTILE = "$x_1$<script>alert('\x1b[2J\u202e')</script> " * 5
FIGURE = {"value": 0.8, "low": 0.7, "high": 0.9, "seeds": [0.75, 0.85], "reason": ""}
NONE = {"value": None, "low": None, "high": None, "seeds": [], "reason": "all samples have the same label"}
ROWS = [{"name": "test", "group": "these data", "note": "9 images", "accuracy": FIGURE, "auc": NONE}]
HISTORY = [{"epoch": e, "loss": 1 / e, "accuracy": 1 - 0.3 / e, "val_loss": 1.2 / e, "val_accuracy": None}
           for e in range(1, 6)]


@pytest.fixture(scope="module")
def small():
    """A network of two convolutions on phantoms: (model, pictures (8, 64, 64, 3), labels)."""
    made = phantom.generate(n=8, seed=2)
    model = Sequential([Conv2D(8, 3), ReLU(), MaxPool2D(2), Conv2D(4, 3), ReLU(), Flatten(), Dense(1), Sigmoid()],
                       (64, 64, 3), seed=3, classes=made.classes)
    return model, np.repeat(made.images[..., np.newaxis], 3, axis=3).astype(np.float32) / 255, made.labels


def answers(seed, n=40):
    draw = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    return labels, np.clip(0.5 + 0.2 * (labels - 0.5) + draw.normal(0, 0.2, n), 0, 1).round(2)


def draw_all(folder, small, name="plain"):
    """Draw every plot, with `name` as the untrusted names."""
    folder.mkdir()
    model, x, labels = small
    explained = explain(model, x[:2])
    rows = [{"label": name, "prediction": name, "probability": 0.9, "part": name, "source": name, "seed": 0}] * 2
    forest_plots.forest_plot([row | {"name": name, "group": name, "note": name} for row in ROWS], folder / "a.png")
    forest_plots.forest_plot([{"name": name, "group": name, "auc": FIGURE}], folder / "b.png",
                             forest_plots.SOURCE_METRICS)
    result_plots.samples_of_both([x[:2], x[:0]], [name, "covid"], folder / "c.png")
    result_plots.curves_of_seeds([HISTORY, HISTORY[:2]], folder / "d.png")
    result_plots.roc_and_precision({name: [answers(0), answers(1)], "one": [([1, 1], [0.2, 0.3])]}, folder / "e.png")
    run.reliability({name: reliability_curve(*answers(0)),
                     "by patient": reliability_curve(*answers(1), np.arange(40) // 2)}, folder / "f.png")
    result_plots.confusions({name: [[3, 1], [0, 4]], "other": [[0, 0], [1, 0]]}, [name, "covid"], folder / "g.png")
    result_plots.worst_errors(x[:2], explained, rows, folder / "h.png")
    network.convolution(model, x[0], folder / "i.png")
    network.pooling(model, x[0], folder / "j.png")
    network.architecture(model, folder / "k.png")
    return sorted(folder.iterdir())


def test_equal_input_gives_equal_bytes_at_16_cm(tmp_path, small):
    first, second = draw_all(tmp_path / "a", small), draw_all(tmp_path / "b", small)
    assert len(first) == 11
    for one, other in zip(first, second):
        assert one.read_bytes() == other.read_bytes()
        with Image.open(one) as picture:
            assert set(picture.info) == {"dpi"} and picture.width <= 1024 and picture.size[0] > 500
            assert np.asarray(picture.convert("L")).std() > 5


def test_names_cannot_break_a_plot(tmp_path, small, caught):
    draw_all(tmp_path / "a", small, HOSTILE)
    texts = [text for figure in caught for text in figure.findobj(lambda artist: hasattr(artist, "get_parse_math"))]
    told = [text for text in texts if "script" in text.get_text() or "x_1" in text.get_text()]
    assert len(told) > 12
    assert not any(text.get_parse_math() or "\x1b" in text.get_text() or "\u202e" in text.get_text() for text in told)


# ---- The main plot ------------------------------------------------------------------------------------------------

def texts(ax):
    return [text.get_text() for text in ax.texts]


def lines(ax):
    return [line.get_xydata().tolist() for line in ax.get_lines()]


def test_a_row_shows_value_interval_and_seeds(tmp_path, caught):
    forest_plots.forest_plot(ROWS, tmp_path / "x.png")
    page, accuracy, auc = caught[0].axes
    assert texts(accuracy) == ["80.0 %\n(70.0 to 90.0)"]
    (low, y), (high, same) = next(line for line in lines(accuracy) if line[0][0] == 0.7)
    assert (low, high) == (0.7, 0.9) and y == same and [[0.8, y]] in lines(accuracy)
    assert [[0.75, 0.85]] == [[x for x, _ in line] for line in lines(accuracy) if line[0][0] == 0.75]
    assert [[0.5, 0.0], [0.5, 1.0]] in lines(accuracy) and [[0.5, 0.0], [0.5, 1.0]] in lines(auc)
    assert len(lines(auc)) == 2 and texts(auc) == ["undefined: all\nsamples have\nthe same label"]
    assert texts(page)[:3] == ["these data", "test", "9 images"]
    assert accuracy.get_xlim() == (0.4, 1.0)


def test_a_claim_is_hollow_and_what_lacks_an_interval_says_so(tmp_path, caught):
    claim = FIGURE | {"value": 0.9945, "low": None, "high": None, "seeds": [], "claimed": True}
    forest_plots.forest_plot([ROWS[0] | {"accuracy": claim},
                             ROWS[0] | {"accuracy": claim | {"claimed": False, "value": 0.31}},
                             ROWS[0] | {"accuracy": None, "auc": NONE | {"value": float("nan"), "reason": ""}}],
                            tmp_path / "x.png")
    page, accuracy, auc = caught[0].axes
    assert texts(accuracy) == ["99.45 %", "31.0 %,\nno interval", "not measured"] and texts(auc)[2] == "undefined"
    marks = [line for line in accuracy.get_lines() if len(line.get_xdata()) == 1]
    assert [mark.get_markerfacecolor() for mark in marks] == ["white", "#0072B2"]
    assert accuracy.get_xlim()[0] == pytest.approx(0.3)
    assert texts(page).count("these data") == 1 and "Hollow: reported by the paper" in " ".join(texts(page))
    with pytest.raises(InputError, match=r"rows: expected at least one row to draw, got none\."):
        forest_plots.forest_plot([], tmp_path / "y.png")


@pytest.mark.parametrize("metrics", [("accuracy", "auc"), forest_plots.SOURCE_METRICS])
def test_names_panels_and_values_are_columns(tmp_path, caught, metrics):
    """No text lies on a panel, on another text or outside the picture."""
    edge = [ROWS[0] | {"group": f"group {i // 3}", metrics[0]: FIGURE | {"value": value, "low": 0.0, "high": 1.0},
                       "auc": FIGURE | {"value": 1 - value} if i % 2 else NONE} for i, value in
            enumerate(np.linspace(0, 1, 10))]
    forest_plots.forest_plot(edge, tmp_path / "x.png", metrics)
    page, *panels = caught[0].axes
    right = max(text.get_window_extent().x1 for text in page.texts if text.get_text() in ("test", "9 images"))
    assert len(panels) == len(metrics)
    for panel in panels:
        inside, boxes = panel.get_window_extent(), [text.get_window_extent() for text in panel.texts]
        assert right < inside.x0 and len(boxes) == 10
        for above, box in zip([None, *boxes], boxes):
            assert inside.x1 + 3 < box.x0 and box.x1 <= caught[0].bbox.x1
            assert above is None or box.y1 < above.y0                           # the next row is below the one before
        right = max(box.x1 for box in boxes)


def test_rows_come_from_the_results():
    results = example()
    rows = {(row["group"], row["name"]): row for row in forest_plots.headline_rows(results)}
    claim, here = ("the paper", "Table II, validation"), "the same network on these data"
    assert list(rows)[:4] == [claim, (here, "the paper's protocol"), (here, "the honest protocol"),
                              (here, "recipe robust")]
    assert rows[claim]["accuracy"]["value"] == 0.9945 and rows[claim]["accuracy"]["claimed"]
    test = results["protocols"]["honest"]["parts"]["test"]
    shown = rows[here, "the honest protocol"]["auc"]
    assert shown["value"] == test["mean"]["auc"] and [shown["low"], shown["high"]] == test["mean"]["intervals"]["auc"]
    assert shown["seeds"] == [seed["auc"] for seed in test["seeds"]]
    away = results["protocols"]["robust"]["parts"]["external"]["mean"]
    assert rows["external validation", "recipe robust"]["accuracy"]["value"] == away["accuracy"]
    assert [name for group, name in rows if group == "leave-one-source-out validation"] == [
        fold["source"] for fold in results["unseen"] if fold["recipes"]["paper"] and "auc" in fold["shows"]]
    alone = forest_plots.headline_rows(example(external=False))
    assert not [row for row in alone if row["group"] == "external validation"]


def test_what_cannot_be_said_of_a_source_is_said():
    fold = {"name": "negative source held out: a", "source": "a", "shows": ["specificity"], "test": 5, "reason": "",
            "recipes": {"paper": {"recall": None, "specificity": 0.4, "auc": None, "intervals": {}, "undefined": {}}}}
    untrained = {"name": "negative source held out: b", "source": "b", "shows": ["specificity"], "test": 1_000,
                 "reason": "without it there is no image of normal to train on",
                 "recipes": {"paper": None, "robust": None}}
    results = example(sources=False) | {"unseen": [fold, untrained]}
    one, other = forest_plots.source_rows(results)
    assert one["specificity"]["value"] == 0.4 and one["recall"]["reason"] == one["auc"]["reason"] == "one class only"
    assert other["name"] == "not trained" and other["note"] == "1,000 images"
    assert {other[metric]["reason"] for metric in ("recall", "specificity", "auc")} == {untrained["reason"]}
    by_source = forest_plots.source_rows(example() | {"unseen": []})
    assert {row["name"] for row in by_source} == {"cohen", "nih"}
    assert by_source[0]["group"] == "the honest test set, by source"


# ---- Curves, ROC, confusions -----------------------------------------------------------------------------------------

def test_seeds_are_thin_and_their_mean_is_thick(tmp_path, caught):
    other = [row | {"loss": row["loss"] + 1} for row in HISTORY[:3]]
    result_plots.curves_of_seeds([HISTORY, other, []], tmp_path / "x.png")
    loss, accuracy = caught[0].axes
    assert loss.get_title(loc="left") == "loss"
    drawn = {tuple(line.get_ydata()): line.get_linewidth() for line in loss.get_lines()
             if "training" in line.get_label()}
    thin = [tuple(row["loss"] for row in HISTORY), tuple(row["loss"] for row in other)]
    assert all(drawn[values] < 1 for values in thin)
    mean = next(values for values, width in drawn.items() if width == 2)
    np.testing.assert_allclose(mean, [row["loss"] + 0.5 for row in HISTORY[:3]])
    assert not [line for line in accuracy.get_lines() if "validation" in line.get_label()]     # recorded as None
    result_plots.curves_of_seeds([HISTORY[:1]], tmp_path / "w.png")
    assert [text.get_text() for text in caught[0].legends[0].get_texts()] == [
        "training, one seed", "training, mean", "validation, one seed", "validation, mean"]
    assert [line.get_marker() for line in caught[1].axes[0].get_lines()] == ["o", "o"]
    result_plots.curves_of_seeds([[{"epoch": 1, "loss": float("nan")}]], tmp_path / "y.png")
    assert [texts(ax) for ax in caught[2].axes] == [["not recorded"]] * 2
    for nothing in ([], [[]]):
        with pytest.raises(InputError, match="histories: expected at least one epoch"):
            result_plots.curves_of_seeds(nothing, tmp_path / "z.png")


@pytest.mark.parametrize("seed", range(5))
def test_precision_and_recall_are_those_of_scikit_learn(seed):
    labels, p = answers(seed)
    recall, precision = result_plots.precision_recall(labels, p)
    theirs = precision_recall_curve(labels, p)
    np.testing.assert_allclose(recall[1:], theirs[1][-2::-1])
    np.testing.assert_allclose(precision[1:], theirs[0][-2::-1])
    assert (np.diff(recall) * precision[1:]).sum() == pytest.approx(average_precision_score(labels, p))


def test_roc_and_precision_say_their_areas_and_what_chance_gives(tmp_path, caught):
    seeds = [answers(0), answers(1)]
    curves = {"test": seeds, "one class": [([0, 0], [0.1, 0.2])], "nothing": []}
    result_plots.roc_and_precision(curves, tmp_path / "x.png")
    roc, precision = caught[0].axes
    areas = [metrics.auc(*seed) for seed in seeds]
    scores = [average_precision_score(*seed) for seed in seeds]
    said = [text.get_text() for text in caught[0].legends[0].get_texts()]
    assert said == ["chance",
                    f"test: AUC {np.mean(areas):.3f} ({min(areas):.3f} to {max(areas):.3f}), AP "
                    f"{np.mean(scores):.3f} ({min(scores):.3f} to {max(scores):.3f})",
                    "one class: undefined, all samples have the same label", "nothing: undefined, not measured"]
    assert np.stack(roc_curve(*seeds[0]), axis=1).tolist() in lines(roc)
    assert sum(line.get_ydata() == [0.5, 0.5] for line in precision.get_lines() if len(line.get_ydata()) == 2) == 2
    with pytest.raises(InputError, match=r"curves: expected 1 to 6 names, got 0\."):
        result_plots.roc_and_precision({}, tmp_path / "y.png")


def test_confusions_stand_side_by_side(tmp_path, caught):
    result_plots.confusions({str(i): [[i, 1], [0, 4]] for i in range(5)}, ["normal", "covid"], tmp_path / "x.png")
    drawn = [ax for ax in caught[0].axes if ax.axison]
    assert [ax.get_title(loc="left") for ax in drawn] == [f"{i}\n{i + 4} of {i + 5} correct" for i in range(5)]
    assert texts(drawn[1]) == ["1", "50.0 %", "1", "50.0 %", "0", "0.0 %", "4", "100.0 %"]
    with pytest.raises(ShapeError, match=r"matrices: expected shape \(2, 2\) of 'a', got \(3, 3\)\."):
        result_plots.confusions({"a": np.eye(3)}, ["normal", "covid"], tmp_path / "y.png")
    with pytest.raises(InputError, match=r"matrices: expected at least one confusion matrix, got none\."):
        result_plots.confusions({}, ["normal", "covid"], tmp_path / "y.png")


# ---- Images ----------------------------------------------------------------------------------------------------------

def test_samples_stand_in_rows_by_class(tmp_path, small, caught):
    _, x, labels = small
    result_plots.samples_of_both([x[labels == 0], x[:0]], ["normal", "covid"], tmp_path / "x.png")
    first, second = caught[0].axes[:4], caught[0].axes[4:]
    assert first[0].get_title(loc="left") == "normal" and second[0].get_title(loc="left") == "covid: no image"
    np.testing.assert_array_equal(first[1].get_images()[0].get_array(), x[labels == 0][1])
    with pytest.raises(InputError, match="images: expected those of each of the 2 classes, got 1"):
        result_plots.samples_of_both([x], ["normal", "covid"], tmp_path / "y.png")
    with pytest.raises(InputError, match="images: expected at least one image of one class, got none"):
        result_plots.samples_of_both([x[:0], x[:0]], ["normal", "covid"], tmp_path / "y.png")


def test_worst_errors_show_each_image_twice(tmp_path, small, caught):
    model, x, _ = small
    rows = [{"label": "normal", "prediction": "covid", "probability": 0.987, "part": "test", "source": None, "seed": 0},
            {"label": "covid", "prediction": "normal", "probability": 0.9, "path": "a.png"}]
    explained = explain(model, x[:2])
    result_plots.worst_errors(x[:2], explained, rows, tmp_path / "x.png")
    left, right, other = caught[0].axes[:3]
    assert left.get_title(loc="left") == "true: normal\npredicted: covid 0.987"
    assert left.get_xlabel() == f"test, seed 0\nborder {100 * explained.border_shares[0]:.0f} %"
    assert other.get_xlabel() == f"\nborder {100 * explained.border_shares[1]:.0f} %"
    np.testing.assert_array_equal(right.get_images()[1].get_array(), explained.maps[0])
    assert "Grad-CAM of conv2d_2" in caught[0].get_suptitle().replace("\n", " ")
    result_plots.worst_errors([], None, [], tmp_path / "y.png")
    assert texts(caught[1].axes[0]) == ["No errors."]
    with pytest.raises(InputError, match="rows: expected 2.* got 1"):
        result_plots.worst_errors(x[:2], explained, rows[:1], tmp_path / "z.png")
    with pytest.raises(InputError, match="explained: expected the result of explain"):
        result_plots.worst_errors(x[:1], None, rows[:1], tmp_path / "z.png")


# ---- The network -----------------------------------------------------------------------------------------------------

def numbers(ax):
    return np.array([float(text.get_text()) for text in ax.texts])


def all_axes(figure):
    return [ax for part in figure.subfigs for ax in part.axes]


def test_convolution_shows_the_networks_own_numbers(tmp_path, small, caught):
    model, x, _ = small
    network.convolution(model, x[0], tmp_path / "x.png")
    _, patch, weights, products, *rest = all_axes(caught[0])
    k = int(weights.get_title().removeprefix("filter "))
    w, b = model.get_weights()[0][..., k].sum(axis=2), model.get_weights()[1][k]
    np.testing.assert_allclose(numbers(weights), w.ravel(), atol=0.0051)
    around = numbers(patch).reshape(5, 5)
    np.testing.assert_allclose(numbers(products), (around[1:-1, 1:-1] * w).ravel(), atol=0.011)
    places = np.lib.stride_tricks.sliding_window_view(x[0, ..., 0], (5, 5))
    near = np.abs(places - around).max(axis=(2, 3))
    row, column = np.unravel_index(near.argmin(), near.shape)
    assert near.min() < 0.0051                                  # what is framed is in the picture
    engine = model.network.forward(x[:1], model.network.rows(1))[0, row + 1, column + 1, k]
    told = caught[0].subfigs[0].get_supxlabel().replace("\n", " ")
    assert f"The engine gives {engine:.3f}; after relu_1 it is {max(engine, 0):.3f}." in told
    assert f"plus bias {b:.3f}: {engine:.3f}." in told and "All channels of the image are equal" in told
    after = model.network.forward(x[:1], model.network.rows(2))[0]
    assert len(rest) == 12                                      # filters, and below them their maps
    for filters, shown in zip(rest[:6], rest[6:]):
        each = after[..., int(filters.get_title().removeprefix("filter "))]
        expected = (each - each.min()) / ((each.max() - each.min()) or 1)
        np.testing.assert_allclose(shown.get_images()[0].get_array(), expected, atol=1e-6)


def odd_network():
    return Sequential([Dropout(0.1), Conv2D(3, (5, 3), strides=2, padding="same"), Tanh(),
                       AveragePool2D(3, strides=2, padding="same"), *(Conv2D(2, 1) for _ in range(6)),
                       Flatten(), Dense(4), Dense(2), Softmax()], (20, 24, 3), seed=1)


def test_convolution_of_a_colour_image_adds_up(tmp_path, caught):
    picture = np.random.default_rng(0).integers(0, 256, (20, 24, 3)).astype(np.uint8)
    network.convolution(odd_network(), picture, tmp_path / "x.png")
    told = caught[0].subfigs[0].get_supxlabel().replace("\n", " ")
    sums = [float(word.strip(",;.:")) for word in told.split() if word.strip(",;.:-").replace(".", "").isdigit()]
    count, shown, others, bias, total, engine = sums[:6]
    assert count == 15 and shown + others + bias == pytest.approx(total, abs=0.002) and total == engine
    assert "Shown: channel" in told and "after tanh_1" in told


def test_a_black_image_and_a_tiny_one_are_drawn(tmp_path, caught):
    tiny = Sequential([Conv2D(1, 2), Flatten(), Dense(1), Sigmoid()], (2, 2, 1))
    network.convolution(tiny, np.zeros((2, 2, 1)), tmp_path / "x.png")
    pool = Sequential([MaxPool2D(2), Flatten(), Dense(1), Sigmoid()], (3, 3, 1))
    network.pooling(pool, np.zeros((3, 3, 1)), tmp_path / "y.png")
    assert numbers(caught[1].axes[2]).tolist() == [0.0]


def test_pooling_keeps_the_largest_of_each_window(tmp_path, small, caught):
    model, x, _ = small
    network.pooling(model, x[1], tmp_path / "x.png")
    _, before, kept, _ = caught[0].axes
    windows = numbers(before).reshape(2, 2, 2, 2)
    np.testing.assert_array_equal(numbers(kept).reshape(2, 2), windows.max(axis=(1, 3)))
    filled = [patch.get_facecolor() != (1, 1, 1, 1) for patch in before.patches[:16]]
    assert sum(filled) == 4 and sorted(numbers(before)[filled]) == sorted(numbers(kept))
    assert "max_pool2d_1 keeps the largest of each window of 2 x 2: 62 x 62 numbers" in caught[0].get_suptitle()


def test_average_pooling_is_the_mean_of_what_is_inside(tmp_path, caught):
    model = Sequential([AveragePool2D(2), Flatten(), Dense(1), Sigmoid()], (8, 6, 1))
    network.pooling(model, np.random.default_rng(1).random((8, 6, 1)), tmp_path / "x.png")
    _, before, kept, _ = caught[0].axes
    means = numbers(before).reshape(2, 2, 2, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(numbers(kept).reshape(2, 2), means, atol=0.011)
    network.pooling(odd_network(), np.zeros((20, 24, 3)), tmp_path / "y.png")
    assert "keeps the mean of each window of 3 x 3" in caught[1].get_suptitle()


def test_the_architecture_is_that_of_the_network(tmp_path, caught):
    network.architecture(cov19net(seed=1), tmp_path / "x.png")
    assert caught[0].get_suptitle().startswith("609,473 parameters, 97 % of them in dense_1\n")
    told = texts(caught[0].axes[0])
    assert [text for text in told if text.startswith(("input", "Conv2D", "MaxPool", "Flatten", "Dense"))] == [
        "input", "Conv2D\n3 x 3\nReLU", "MaxPool\n2 x 2", "Conv2D\n3 x 3\nReLU", "MaxPool\n2 x 2",
        "Conv2D\n3 x 3\nReLU", "Flatten", "Dense\nReLU", "Dense\nSigmoid"]
    assert {"64 x 64\nx 3", "62 x 62\nx 32", "31 x 31\nx 32", "29 x 29\nx 32", "14 x 14\nx 32", "12 x 12\nx 32", "4608",
            "896", "9,248", "589,952", "129"} <= set(told)
    network.architecture(odd_network(), tmp_path / "y.png")
    assert len(caught[1].axes) == 2                             # more than nine blocks go on below
    said = [text for ax in caught[1].axes for text in texts(ax)]
    assert said.count("Conv2D\n1 x 1") == 6 and "MeanPool\n3 x 3" in said and "Dropout" in said


def test_the_page_shows_what_the_pictures_of_the_network_show(small):
    model, x, _ = small
    computation, filters = result_plots.tiles_of(network.convolution_figure(model, x[0]))
    image, patch, weights, products = computation.tiles
    assert computation.title == "conv2d_1: the computation of one number" and computation.note.startswith("Sum of the 9 ")
    assert len(image.pictures) == 1 and len(image.frame) == 4 and all(0 < part < 100 for part in image.frame)
    full = [float(text) for row in patch.numbers for text, marked in row if marked]
    w, p = ([float(text) for row in tile.numbers for text, _ in row] for tile in (weights, products))
    assert len(full) == len(w) == len(p) == 9 and len(patch.numbers) == len(patch.numbers[0]) == 5
    np.testing.assert_allclose(np.multiply(full, w), p, atol=0.02)
    assert len(filters.tiles) == 6 and all(len(tile.pictures) == 2 and tile.title.startswith("filter") for tile in filters.tiles)
    pooled, = result_plots.tiles_of(network.pooling_figure(model, x[0]))
    before, after = ([float(text) for row in tile.numbers for text, marked in row if marked] for tile in pooled.tiles[1:3])
    assert sorted(before) == sorted(after) and len(after) == 4
    layers, = result_plots.architecture_tiles(cov19net(seed=1))
    assert layers.title == "609,473 parameters, 97 % of them in dense_1"
    assert [(tile.title, tile.lines) for tile in layers.tiles][:2] == [
        ("input", ("64 x 64 x 3", "")), ("Conv2D 3 x 3 ReLU", ("62 x 62 x 32", "896 parameters"))]


@pytest.mark.parametrize("draw, layers, channels, error, message", [
    (network.convolution, [Flatten(), Dense(1)], 1, InputError,
     r"convolution: this network has no convolution layer to draw; its layers are flatten_1, dense_1\."),
    (network.pooling, [Conv2D(1, 1)], 1, InputError,
     r"pooling: this network has no pooling layer to draw; its layers are conv2d_1\."),
    (network.convolution, [Conv2D(1, 8)], 1, InputError,
     r"convolution: the window of conv2d_1, 8 x 8, is too large to be drawn; at most 7 x 7\."),
    (network.pooling, [MaxPool2D(4)], 1, InputError,
     r"pooling: the windows of max_pool2d_1, 4 x 4, are too large to be drawn; at most 3 x 3\."),
    (network.convolution, [Conv2D(1, 1)], 3, ShapeError,
     r"image: expected shape \(9, 9, 1\), the network's input shape, got \(9, 9, 3\)\."),
])
def test_what_cannot_be_drawn_is_said(tmp_path, draw, layers, channels, error, message):
    with pytest.raises(error, match=message):
        draw(Sequential(layers, (9, 9, 1)), np.zeros((9, 9, channels)), tmp_path / "x.png")
