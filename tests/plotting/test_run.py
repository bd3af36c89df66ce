"""Plots of a run: their content, reproducible bytes, and names of unknown origin."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from minicnn.data.augmentation import TECHNIQUES, Augmentation
from minicnn.errors import CheckpointError, InputError, MissingExtraError, ShapeError
from minicnn.metrics.curves import roc as roc_curve
from minicnn.plotting import run

HISTORY = [{"epoch": e, "loss": 1 / e, "accuracy": 1 - 0.3 / e, "val_loss": 1.2 / e, "val_accuracy": 1 - 0.4 / e}
           for e in range(1, 6)]
IMAGES = np.arange(6 * 8 * 8, dtype=np.uint8).reshape(6, 8, 8)
LABELS, PREDICTED = np.array([0, 1, 0, 1, 0, 1]), np.array([0, 1, 1, 1, 0, 0])
PROBABILITIES = np.array([0.1, 0.9, 0.6, 0.8, 0.2, 0.3])
POINTS = [{"low": 0.0, "high": 0.1, "n": 20, "predicted": 0.04, "observed": 0.1, "interval": (0.02, 0.3, 20, None)},
          {"low": 0.9, "high": 1.0, "n": 1, "predicted": 0.95, "observed": 1.0, "interval": None}]
HOSTILE = ["$\\frac{", "_hidden", "a\x1b[2J\u202e\n", "肺炎", "", "x" * 200]


def draw_all(folder):
    folder.mkdir()
    run.curves(HISTORY, folder / "curves.png")
    run.confusion_matrix([[3, 1], [1, 3]], ["normal", "covid"], folder / "confusion.png")
    run.roc({"test": (*roc_curve(LABELS, PROBABILITIES), 0.9)}, folder / "roc.png")
    run.sample_grid(IMAGES, LABELS, PREDICTED, PROBABILITIES, ["normal", "covid"], folder / "grid.png")
    run.augmentation_sheet(IMAGES[:2], folder / "sheet.png", Augmentation.paper())
    run.reliability({"test": POINTS}, folder / "reliability.png")
    return sorted(folder.iterdir())


def test_equal_input_gives_equal_bytes_without_metadata(tmp_path):
    first, second = draw_all(tmp_path / "a"), draw_all(tmp_path / "b")
    assert len(first) == 6
    for one, other in zip(first, second):
        assert one.read_bytes() == other.read_bytes()
        with Image.open(one) as picture:
            assert picture.format == "PNG" and set(picture.info) == {"dpi"}
            assert 2 < np.asarray(picture.convert("L")).std()
        assert one.stat().st_mode & 0o077 == 0


def test_nothing_global_is_touched(tmp_path):
    code = """if True:
        import sys, matplotlib
        before = dict(matplotlib.rcParams)
        from minicnn.plotting import run
        assert "matplotlib.figure" not in sys.modules
        run.curves([{"epoch": 1, "loss": 0.5}], sys.argv[1])
        assert "matplotlib.pyplot" not in sys.modules
        assert dict(matplotlib.rcParams) == before
    """
    subprocess.run([sys.executable, "-W", "error", "-c", code, tmp_path / "x.png"], check=True)


def test_names_cannot_break_a_plot(tmp_path, caught):
    run.confusion_matrix(np.eye(6, dtype=int), HOSTILE, tmp_path / "confusion.png")
    run.roc({name: ([0, 1], [0, 1], 0.5) for name in HOSTILE}, tmp_path / "roc.png")
    run.reliability(dict.fromkeys(HOSTILE, POINTS), tmp_path / "reliability.png")
    run.sample_grid(IMAGES, range(6), range(6), np.eye(6), HOSTILE, tmp_path / "grid.png")
    shown = [tick.get_text() for tick in caught[0].axes[0].get_xticklabels()]
    assert shown == ["$\\frac{", "_hidden", "a\\x1b[2J\\u202e…", "肺炎", "", "x" * 14 + "…"]
    assert len(caught[1].axes[0].get_legend().get_texts()) == 6


# ---- Curves ----------------------------------------------------------------------------------------------------------

def lines_of(ax):
    return {line.get_label(): line.get_ydata().tolist() for line in ax.get_lines()}


def test_curves_show_both_sets(tmp_path, caught):
    run.curves(HISTORY, tmp_path / "curves.png")
    loss, accuracy = caught[0].axes
    assert lines_of(loss) == {"training": [row["loss"] for row in HISTORY],
                              "validation": [row["val_loss"] for row in HISTORY]}
    assert lines_of(accuracy)["validation"] == [row["val_accuracy"] for row in HISTORY]
    assert loss.get_ylim()[0] == 0 and loss.get_ylim()[1] > 1.2
    assert accuracy.get_ylim()[0] == pytest.approx(0.5) and accuracy.get_ylim()[1] >= 1
    assert all(tick == int(tick) for tick in loss.get_xticks())


@pytest.mark.parametrize("n", [1, 2, 3, 200])
def test_epoch_ticks_are_whole_numbers(tmp_path, caught, n):
    run.curves([{"epoch": e, "loss": 0.5, "accuracy": 1.0} for e in range(1, n + 1)], tmp_path / "curves.png")
    for ax in caught[0].axes:
        ticks = [tick for tick in ax.get_xticks() if ax.get_xlim()[0] <= tick <= ax.get_xlim()[1]]
        assert ticks and all(tick == int(tick) for tick in ticks)


def test_missing_values_are_gaps(tmp_path, caught):
    run.curves([{"epoch": 1, "loss": 0.5, "val_loss": None}, {"epoch": 2, "loss": float("nan"), "val_loss": 0.4},
                    {"epoch": 3, "loss": float("inf")}], tmp_path / "curves.png")
    loss, accuracy = caught[0].axes
    np.testing.assert_array_equal(lines_of(loss)["training"], [0.5, np.nan, np.nan])
    np.testing.assert_array_equal(lines_of(loss)["validation"], [np.nan, 0.4, np.nan])
    assert np.isfinite(loss.get_ylim()).all()
    assert not accuracy.get_lines() and accuracy.texts[0].get_text() == "not recorded"


def test_curves_need_epochs(tmp_path):
    with pytest.raises(InputError, match=r"history: expected at least one epoch, got none\."):
        run.curves([], tmp_path / "x.png")
    with pytest.raises(InputError, match=r"history: row 1 has no 'epoch'; it has loss\."):
        run.curves([{"epoch": 1, "loss": 1}, {"loss": 2}], tmp_path / "x.png")
    assert not list(tmp_path.iterdir())


# ---- Confusion matrix and ROC ----------------------------------------------------------------------------------------

def test_confusion_matrix_shows_counts_and_shares(tmp_path, caught):
    run.confusion_matrix([[1999, 1], [0, 0]], ["normal", "covid"], tmp_path / "x.png")
    ax = caught[0].axes[0]
    assert [text.get_text() for text in ax.texts] == ["1,999", "100.0 %", "1", "0.1 %", "0", "-", "0", "-"]
    assert ax.get_title(loc="left") == "1,999 of 2,000 correct"
    with pytest.raises(ShapeError, match=r"matrix: expected shape \(k, k\), got \(2, 3\)\."):
        run.confusion_matrix(np.zeros((2, 3)), ["a", "b"], tmp_path / "y.png")
    with pytest.raises(InputError, match=r"classes: expected 2 names, got 3\."):
        run.confusion_matrix(np.zeros((2, 2)), ["a", "b", "c"], tmp_path / "y.png")


def test_roc_names_each_curve_with_its_area(tmp_path, caught):
    x, y = roc_curve(LABELS, PROBABILITIES)
    run.roc({"validation": (x, y, 0.96), "test": (x, y, 0.5)}, tmp_path / "x.png")
    ax = caught[0].axes[0]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["AUC 0.960  validation", "AUC 0.500  test"]
    np.testing.assert_array_equal(ax.get_lines()[1].get_xydata(), np.stack([x, y], axis=1))
    for number in (0, 7):
        with pytest.raises(InputError, match=rf"curves: expected 1 to 6 ROC curves, got {number}\."):
            run.roc({str(i): (x, y, 0.5) for i in range(number)}, tmp_path / "y.png")


def test_reliability_shows_points_intervals_and_counts(tmp_path, caught):
    run.reliability({"test": POINTS, "external": []}, tmp_path / "x.png")
    ax, undefined, below, nothing = caught[0].axes
    assert lines_of(ax)["test"] == [0.1, 1.0] and lines_of(undefined)["external"] == [] and not nothing.patches
    assert [[0.04, 0.02], [0.04, 0.3]] in [line.get_xydata().tolist() for line in ax.get_lines()]
    assert sum(line.get_xdata().tolist() == [0.95, 0.95] for line in ax.get_lines()) == 0       # no interval: no line
    assert [bar.get_height() for bar in below.patches] == [20, 1]
    assert 0 <= below.patches[0].get_x() and below.patches[0].get_x() + below.patches[0].get_width() <= 0.1
    assert [one.get_title(loc="left") for one in (ax, undefined)] == ["test\n21 images", "external\nundefined"]
    run.reliability(dict.fromkeys("abcd", POINTS), tmp_path / "four.png")
    assert [one.get_title(loc="left")[:1] for one in caught[1].axes if one.axison and one.lines] == list("abcd")
    for number in (0, 7):
        with pytest.raises(InputError, match=rf"curves: expected 1 to 6 reliability curves, got {number}\."):
            run.reliability({str(i): POINTS for i in range(number)}, tmp_path / "y.png")
    with pytest.raises(InputError, match=r"curves: expected the points of 'mine' as calibration\.reliability_curve\(labels"):
        run.reliability({"mine": (LABELS, PROBABILITIES)}, tmp_path / "y.png")


# ---- Images ----------------------------------------------------------------------------------------------------------

def test_sample_grid_frames_errors_and_names_classes(tmp_path, caught):
    run.sample_grid(IMAGES, LABELS, PREDICTED, PROBABILITIES, ["normal", "covid"], tmp_path / "x.png")
    axes = [ax for ax in caught[0].axes if ax.axison]
    framed = [all(spine.get_visible() for spine in ax.spines.values()) for ax in axes]
    assert framed == [False, False, True, False, False, True]
    assert [ax.get_title(loc="left") for ax in axes] == ["normal", "covid"] * 3
    assert [ax.get_xlabel() for ax in axes] == ["normal 0.90", "covid 0.90", "covid 0.60", "covid 0.80", "normal 0.80",
                                                "normal 0.70"]
    np.testing.assert_array_equal(axes[1].get_images()[0].get_array(), IMAGES[1] / 255)
    assert caught[0].get_suptitle().startswith("6 images, 2 errors (framed)\n")
    run.sample_grid(IMAGES[:1, ..., np.newaxis] / np.float32(255), [1], [1], [[0.1, 0.7, 0.2]], "abc",
                        tmp_path / "y.png")
    assert caught[1].axes[0].get_xlabel() == "b 0.70"
    assert caught[1].get_suptitle().startswith("1 image, no errors\n")


@pytest.mark.parametrize("changed, error, message", [
    ({"images": IMAGES[:0]}, ShapeError, r"images: expected shape \(n, H, W\), .*, got \(0, 8, 8\)\."),
    ({"images": IMAGES[0]}, ShapeError, r"images: expected shape .*, got \(8, 8\)\."),
    ({"images": np.zeros((6, 3, 8, 8))}, ShapeError, r"images: expected shape .*, got \(6, 3, 8, 8\)\."),
    ({"labels": LABELS[:3]}, ShapeError, r"labels: expected one for each of the 6 images, got 3\."),
    ({"probabilities": [0.5]}, ShapeError, r"probabilities: expected one for each of the 6 images, got 1\."),
    ({"predicted": PREDICTED + 1}, InputError, r"predicted: expected classes from 0 to 1, got 1 to 2\."),
    ({"classes": ["normal"]}, InputError, r"labels: expected classes from 0 to 0, got 0 to 1\."),
])
def test_sample_grid_checks_its_arguments(tmp_path, changed, error, message):
    arguments = dict(images=IMAGES, labels=LABELS, predicted=PREDICTED, probabilities=PROBABILITIES,
                     classes=["normal", "covid"], path=tmp_path / "x.png") | changed
    with pytest.raises(error, match=message):
        run.sample_grid(**arguments)


def test_augmentation_sheet_has_a_row_for_each_technique_or_epoch(tmp_path, caught):
    run.augmentation_sheet(IMAGES[:2], tmp_path / "x.png", Augmentation.paper())
    names = [ax.get_ylabel().split("\n") for ax in caught[0].axes[::2]]
    assert [name for name, *_ in names] == [name.replace("_", " ") for name in TECHNIQUES]
    assert [name for name, *remark in names if remark[:1] == ["no anatomy:"]] == ["vertical flip", "shear"]
    assert [remark for name, *remark in names if name == "horizontal flip"] == [["mirrored: heart", "on the right"]]
    np.testing.assert_array_equal(caught[0].axes[2].get_images()[0].get_array()[..., 0],
                                  (IMAGES[0, ::-1] / 255).astype(np.float32))
    run.augmentation_sheet(np.stack([IMAGES] * 3, axis=-1), tmp_path / "y.png", Augmentation.honest(), epochs=1)
    assert [ax.get_ylabel() for ax in caught[1].axes[::6]] == ["original", "epoch 1"]
    assert caught[1].get_supxlabel() == ""
    run.augmentation_sheet(IMAGES[:1], tmp_path / "z.png", Augmentation(shear=5, vertical_flip=True), epochs=1)
    assert "a vertical flip and a shear" in caught[2].get_supxlabel()


# ---- Disk and extras -------------------------------------------------------------------------------------------------

def test_a_plot_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    target = tmp_path / "curves.png"
    target.write_bytes(b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("minicnn.core.files.os.replace", full)
        with pytest.raises(CheckpointError, match=r"curves\.png: not written, [\d,]+ bytes needed: No space left on device"):
            run.curves(HISTORY, target)
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"] and target.read_bytes() == b"old"
    with pytest.raises(CheckpointError, match=r"nowhere/x\.png: not written, .* No such file or directory\. Create the folder first"):
        run.curves(HISTORY, tmp_path / "nowhere" / "x.png")


def test_a_link_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "elsewhere").write_bytes(b"mine")
    (tmp_path / "x.png").symlink_to(tmp_path / "elsewhere")
    run.curves(HISTORY, tmp_path / "x.png")
    assert (tmp_path / "elsewhere").read_bytes() == b"mine" and not (tmp_path / "x.png").is_symlink()


def test_without_matplotlib_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r'drawing pictures needs matplotlib, .* pip install "minicnn\[app\]"'):
        run.curves(HISTORY, tmp_path / "x.png")
