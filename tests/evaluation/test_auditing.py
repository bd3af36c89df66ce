"""The audit: it finds every flaw that was planted, and none where there is none."""

import argparse
import json
import tracemalloc
from collections import Counter

import numpy as np
import pytest
from PIL import Image, ImageChops
from sklearn.linear_model import LogisticRegression

from minicnn.cli import audit as audit_command
from minicnn.core.random import Stream, normals, uniforms, words
from minicnn.data import registration
from minicnn.data.manifest import Manifest
from minicnn.data import near_duplicates
from minicnn.data.near_duplicates import clusters, find_pairs, mirror_bits, perceptual_hashes, similarity
from minicnn.data.preprocessing import Preprocessing, resize
from minicnn.data.split import groups
from minicnn.data.synthetic import phantom
from minicnn.errors import ManifestError
from minicnn.evaluation.auditing import confounders
from minicnn.evaluation.auditing.auditor import audit
from minicnn.evaluation.auditing.file_scan import FileScan
from minicnn.evaluation.regression import logistic_regression
from minicnn.reporting.audit_text import text
from tests.support import planted


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return planted.clean(tmp_path_factory.mktemp("clean") / "files", n=140)


@pytest.fixture(scope="module")
def flawed(tmp_path_factory):
    return planted.flawed(tmp_path_factory.mktemp("flawed") / "files", n=140)


@pytest.fixture(scope="module")
def found(flawed):
    """The audit of the flawed collection."""
    return audit(Manifest.read(flawed.manifest), source="flawed")


def command(capsys, *arguments):
    """Run `minicnn data audit` with these arguments; return (exit code, stdout)."""
    parser = argparse.ArgumentParser()
    audit_command.add_options(parser)
    code = audit_command.run(parser.parse_args([str(argument) for argument in arguments] + ["--quiet", "--workers", "2"]))
    return code, capsys.readouterr().out


# ---- All planted flaws, and no others --------------------------------------------------------------------------------

def check_all_found(flawed, found):
    """Every planted flaw is among the problems, and no other."""
    files = {}
    for finding in found.problems:
        files.setdefault(finding.what, []).append(finding.files)
    assert files.pop("unreadable") == [(flawed.corrupt,)]
    assert sorted(files.pop("not frontal")) == sorted([(flawed.lateral,), (flawed.slice,)])
    torn = files.pop("torn duplicate")
    assert torn == [(flawed.copies[flawed.torn_copy][0], flawed.torn_copy)]
    pairs = [(original, copy) for copy, (original, _) in flawed.copies.items()]
    assert sorted(files.pop("duplicate") + torn) == sorted(pairs)
    assert len(files.pop("torn patient")) == len(files.pop("shortcut")) == 1
    assert not files
    sentences = {finding.what: finding.sentence for finding in found.problems}
    assert f"patient {flawed.torn} is in " in sentences["torn patient"]
    assert "border" in sentences["shortcut"]
    odd = {finding.files[0]: finding.sentence for finding in found.remarks if finding.what == "odd file"}
    assert "is a PNG of 16-bit grey, where most are " in odd[flawed.deep]


def test_every_planted_flaw_is_found_and_nothing_else(flawed, found):
    check_all_found(flawed, found)


# (images, side in pixels, form, the tag's corner and side of 256 pixels)
CASES = [(120, 64, "png", (0, 0), 40), (110, 160, "jpeg", (1, 1), 16)]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_other_seeds_formats_copies_and_tags(case, tmp_path):
    n, size, form, corner, side = CASES[case]
    whole = planted.clean(tmp_path / "clean", n, 30 + case, size, form)
    assert audit(Manifest.read(whole)).problems == []
    made = planted.flawed(tmp_path / "flawed", n, 40 + case, size, form, planted.Tag(corner, side / 256), altered=1)
    check_all_found(made, audit(Manifest.read(made.manifest)))


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(24))
def test_many_collections(seed, tmp_path):
    n, size = (100, 200, 400, 820)[seed % 4], (64, 96, 128, 256, 512)[seed % 5 if seed % 4 < 3 else 0]
    form, corner = ("png", "jpeg")[seed // 2 % 2], (seed // 4 % 2, seed // 8 % 2)
    whole = planted.clean(tmp_path / "clean", n, 50 + seed, size, form)
    assert audit(Manifest.read(whole)).problems == []
    tag = planted.Tag(corner, (16, 24, 40)[seed % 3] / 256, (255, 220)[seed % 2])
    made = planted.flawed(tmp_path / "flawed", n, 80 + seed, size, form, tag, altered=seed % 2)
    check_all_found(made, audit(Manifest.read(made.manifest)))


def test_sentences_name_the_problem(flawed, found):
    said = {finding.files[-1]: finding.sentence for finding in found.problems if finding.files}
    assert "is a lateral view according to the manifest (L X-ray)" in said[flawed.lateral]
    assert "is a slice of a CT according to the manifest" in said[flawed.slice]
    assert "cannot be decoded" in said[flawed.corrupt]
    for copy, (original, how) in flawed.copies.items():
        assert said[copy].startswith(f"{original} and {copy} are the same image")
        assert ("mirrored" in said[copy]) == (how == "mirrored") and "of two patients" in said[copy]
    assert "in two sets" in said[flawed.torn_copy]


def test_the_16_bit_file_is_odd(flawed, found):
    odd = {finding.files[0]: finding.sentence for finding in found.remarks if finding.what == "odd file"}
    assert "is a PNG of 16-bit grey, where most are PNG of 8-bit grey" in odd.pop(flawed.deep)
    # The copies differ in their files: a JPEG, and a side of 48 pixels.
    assert set(odd) == {"images/copy-jpeg.jpg", "images/copy-half.png"}


def test_a_clean_collection_has_no_problem(clean):
    result = audit(Manifest.read(clean))
    assert result and result.problems == []
    assert {finding.what for finding in result.remarks} <= {"several labels"}
    assert {confounder.name: confounder.reason for confounder in result.confounders if confounder.auc is None} == {
        "header": "all headers are the same", "source": "all images are from one source"}
    by_name = {confounder.name: confounder for confounder in result.confounders}
    assert by_name["border"].low < 0.5 < by_name["border"].high
    assert "No problem found." in text(result)


def test_tables_count_every_readable_image(found):
    for name, images in (("source", found.images), ("view", found.images), ("format", found.readable),
                         ("size", found.readable)):
        assert sum(sum(row.values()) for row in found.tables[name].values()) == images
    assert found.images == found.readable + 1 == 147


# ---- The command -----------------------------------------------------------------------------------------------------

def test_exit_codes_and_json(clean, flawed, capsys):
    code, out = command(capsys, clean, "--json")
    assert code == 0 and json.loads(out)["problems"] == []
    code, out = command(capsys, flawed.manifest)
    assert code == 1
    assert "(b) image border" in out and "predicts the label (flagged)" in out
    assert "The labels can be predicted without the lungs." in out
    assert all(len(line) <= 120 for line in out.splitlines()[1:] if not line.startswith("    "))


def test_a_folder_of_class_folders_is_audited(tmp_path, capsys):
    made = phantom.generate(n=30, seed=2, size=64)
    for i, (picture, label) in enumerate(zip(made.images, made.labels)):
        folder = tmp_path / made.classes[label]
        folder.mkdir(exist_ok=True)
        Image.fromarray(picture).save(folder / (f"{i}.png" if i else "\x1b[2J.png"))
    Image.new("L", (64, 64), 7).save(tmp_path / "normal" / "blank.png")
    code, out = command(capsys, tmp_path)
    assert "there is no source column" in out and "blank.png is blank: all pixels are equal" in out
    assert "\x1b" not in out


def test_a_collection_without_readable_files_is_an_error(tmp_path):
    for label in ("normal", "covid"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "a.png").write_bytes(b"no picture")
    with pytest.raises(ManifestError, match="none of the 2 files can be read: 1 problem, in 2 places\n .*/a.png: .*none of them"):
        audit(Manifest.read(tmp_path))


def test_too_few_patients_are_undefined_with_a_reason(tmp_path):
    result = audit(Manifest.read(planted.clean(tmp_path / "few", n=6)))
    border = next(confounder for confounder in result.confounders if confounder.name == "border")
    assert border.auc is None and not border.is_flagged
    assert "too few patients for 5 folds" in border.reason and border.reason in text(result)


def test_three_classes_are_each_compared_with_the_rest(tmp_path):
    made = phantom.generate(n=60, seed=4, size=64)
    lines = ["path,label,source"]
    for i, picture in enumerate(made.images):
        Image.fromarray(picture).save(tmp_path / f"{i}.png")
        lines.append(f"{i}.png,{'abc'[i % 3]},{'other' if i % 3 else 'hospital'}")
    (tmp_path / "index.csv").write_text("\n".join(lines))
    result = audit(Manifest.read(tmp_path / "index.csv"))
    flagged = [one.against for one in result.confounders if one.name == "source" and one.is_flagged]
    assert "a" in flagged and len(result.confounders) == 12
    assert "a against the rest" in text(result)


def test_outlying_images_are_listed_without_a_verdict(tmp_path):
    manifest = planted.clean(tmp_path / "files", n=60)
    path = tmp_path / "files" / "images" / "000010.png"
    Image.fromarray(255 - np.array(Image.open(path))).save(path, compress_level=0)
    result = audit(Manifest.read(manifest))
    assert result.unusual[0].files == ("images/000010.png",)
    assert result and "Unusual images" in text(result)


# ---- Confounders -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("penalty", [0.5, 10.0])
def test_logistic_regression_is_scikit_learns(penalty):
    x = normals(3, Stream.CHECK, 0, 0, 120 * 7).reshape(120, 7) * np.arange(1, 8)
    positive = uniforms(3, Stream.CHECK, 0, 1, 120) < 1 / (1 + np.exp(-x[:, 0] - 0.3 * x[:, 6]))
    theirs = LogisticRegression(C=1 / penalty, tol=1e-12, max_iter=10_000).fit(x, positive)
    ours, = logistic_regression(x, positive, penalty=penalty)
    np.testing.assert_allclose(ours, np.r_[theirs.intercept_, theirs.coef_[0]], rtol=1e-4, atol=1e-6)


def test_more_features_than_images_have_the_same_optimum():
    x, positive = normals(4, Stream.CHECK, 0, 0, 30 * 50).reshape(30, 50), np.arange(30) % 3 == 0
    theirs = LogisticRegression(C=1 / 50, tol=1e-12, max_iter=10_000).fit(x, positive)
    ours, = logistic_regression(x, positive, penalty=50.0)
    np.testing.assert_allclose(ours, np.r_[theirs.intercept_, theirs.coef_[0]], rtol=1e-4, atol=1e-6)


def test_logistic_regression_of_separable_data_is_finite():
    x = np.r_[np.full((20, 1), -1e4), np.full((20, 1), 1e4)]
    weights, = logistic_regression(x, np.arange(40) >= 20, penalty=1.0)
    assert np.isfinite(weights).all() and weights[1] > 0


def test_cross_validation_is_by_patient():
    # Each patient has a feature of their own: on images of known patients it would tell the label without fail.
    group, n = np.repeat(np.arange(60), 3), 180
    positive = (uniforms(8, Stream.CHECK, 0, 0, 60) < 0.5)[group]
    features = np.eye(60)[group]
    confounder, = confounders.examine("header", features, positive.astype(int), group, ("a", "b"))
    assert confounder.low < 0.5 < confounder.high and not confounder.is_flagged
    alone, = confounders.examine("header", features, positive.astype(int), np.arange(n), ("a", "b"))
    assert alone.auc > 0.99


@pytest.mark.parametrize("low, judged, flagged", [(0.60, True, False), (0.61, True, True), (0.61, False, False),
                                                  (None, True, False)])
def test_what_is_flagged(low, judged, flagged):
    assert confounders.Confounder("border", "covid", 0.8, low, 0.9, "", judged).is_flagged is flagged


def test_the_length_of_a_file_is_not_a_feature(clean):
    manifest = Manifest.read(clean)
    scan = FileScan(manifest)
    assert confounders.header_features(scan.headers) is None
    changed = scan.headers[:-1] + [scan.headers[-1]._replace(width=97)]
    assert confounders.header_features(changed).shape[0] == len(manifest)
    scan.close()


# ---- Duplicates ------------------------------------------------------------------------------------------------------

def test_different_radiographs_are_never_duplicates():
    made = phantom.generate(n=300, seed=0)
    manifest = Manifest.from_arrays(made.images, made.labels, made.classes)
    assert find_pairs(manifest.pixels) == []
    # Nor would the hash alone do: it takes many pairs for the same.
    hashes = perceptual_hashes(made.images)
    bits = np.bitwise_count(hashes[:, np.newaxis] ^ hashes).sum(axis=2, dtype=int)
    assert np.triu(bits <= 56, 1).sum() > 10


@pytest.mark.parametrize("size", [64, 200])
def test_copies_that_were_cut_turned_or_moved_are_found(size):
    """Not all of them, of every kind: near_duplicates.py says how many of which."""
    made = phantom.generate(n=120, seed=11, size=size)
    pictures = [Image.fromarray(picture) for picture in made.images]
    changes = {"cut": planted.cropped(0.05, 0.05, 0.05, 0.05), "cut unevenly": planted.cropped(0.03, 0, 0, 0.03),
               "turned": lambda picture: picture.rotate(5, Image.Resampling.BILINEAR),
               "moved": lambda picture: ImageChops.offset(picture, round(0.02 * size), 0),
               "mirrored, and turned": lambda picture: planted.turned(planted.mirrored(picture))}
    copies = [change(pictures[8 * i + k]) for k, change in enumerate(changes.values()) for i in range(8)]
    small = np.stack([resize(np.array(picture), Preprocessing(64, 64, 1)) for picture in pictures + copies])
    pixels = Manifest.from_arrays(small, np.arange(len(small)) % 2, ("a", "b")).pixels
    found = {(pair.first, pair.second): pair.how for pair in find_pairs(pixels)}
    planted_pairs = {(8 * i + k, 120 + 8 * k + i): "mirrored" if "mirrored" in name else "near"
                     for k, name in enumerate(changes) for i in range(8)}
    assert found.items() <= planted_pairs.items() and len(found) >= 37


def test_registration_aligns_an_image_with_another():
    """A known map is found again: what was under it comes back, and what is beyond the edge is not known."""
    pictures = phantom.generate(n=6, seed=2).images
    angle = np.radians([2, -3, 1, 0, 4, -1])
    maps = np.tile(np.eye(3, dtype=np.float32), (6, 1, 1))
    maps[:, 0, 0] = maps[:, 1, 1] = np.cos(angle) * 0.96
    maps[:, 0, 1], maps[:, 1, 0], maps[:, 0, 2] = -np.sin(angle), np.sin(angle), [1, 0, -1.5, 2, 0, 1]
    moved, _ = registration.warp(pictures, maps)
    worth, aligned, known = registration.register(moved, pictures, np.zeros(6, bool), margin=4)
    assert worth.all()
    assert np.abs(aligned - moved)[known].mean() < 1.5 and np.abs(pictures - moved)[known].mean() > 5
    _, known = registration.warp(pictures, maps @ np.diag([2, 2, 1]).astype(np.float32))
    assert known[:, 20:44, 20:44].all() and not known[:, 0].any()


def test_even_pictures_are_like_nothing():
    even = np.full((2, 64, 64), 99, np.uint8)
    assert not registration.features(even).any() and similarity(even, even).tolist() == [0, 0]
    assert not registration.register(even, even, np.zeros(2, bool))[0].any()
    found = registration.candidates(registration.features(even[:1]), lambda rows: even[rows], lambda n: None, 1)
    assert [len(part) for pairs in found.values() for part in pairs] == [0] * 6


def test_the_hash_of_the_mirror_image_is_known():
    pictures = phantom.generate(n=20, seed=1).images
    differ = perceptual_hashes(pictures) ^ perceptual_hashes(pictures[:, :, ::-1]) ^ mirror_bits()
    assert np.bitwise_count(differ).sum(axis=1).max() <= 2     # coefficients of almost 0
    assert similarity(pictures, pictures).min() > 1 - 1e-9


@pytest.mark.parametrize("color", [False, True])
def test_equal_pictures_and_chains_are_one_cluster(color):
    pictures = phantom.generate(n=6, seed=1, size=96).images
    blank = np.zeros_like(pictures[:1])
    pictures = np.concatenate([pictures, pictures[2:3], pictures[2:3, :, ::-1], pictures[2:3] // 2 + 40, blank, blank])
    manifest = Manifest.from_arrays(pictures, [0, 1] * 5 + [0], ("a", "b"))
    pixels = manifest.pixels
    if color:
        pixels = argparse.Namespace(read=lambda rows: np.repeat(pictures[rows][..., np.newaxis], 3, axis=3),
                                    pixel_digests=pixels.pixel_digests)
        pixels = type("Colored", (), {"__len__": lambda self: len(pictures), **vars(pixels)})()
        pixels.read = vars(type(pixels))["read"]
    pairs = {(pair.first, pair.second): pair.how for pair in find_pairs(pixels)}
    assert pairs == {(2, 6): "exact", (2, 7): "mirrored", (2, 8): "near", (9, 10): "exact"}
    group = groups(["p"] + [""] * 10, clusters(pixels))
    assert group.tolist() == [0, 1, 2, 3, 4, 5, 2, 2, 2, 6, 6]


def test_many_copies_are_a_tree_of_pairs():
    picture = phantom.generate(n=2, seed=1).images[:1]
    copies = (picture * np.linspace(0.5, 1, 300)[:, np.newaxis, np.newaxis]).astype(np.uint8)
    pixels = Manifest.from_arrays(copies, [0, 1] * 150, ("a", "b")).pixels
    assert len(find_pairs(pixels)) == 299
    assert len(np.unique(clusters(pixels), axis=0)) == 1


def test_no_images_make_no_pairs():
    pixels = Manifest.from_arrays(phantom.generate(n=2, seed=1).images, [0, 1], ("a", "b")).pixels
    assert find_pairs(pixels.take(np.arange(0))) == [] and clusters(pixels).shape == (2, 8)


# ---- Memory, and the real radiographs --------------------------------------------------------------------------------

def test_memory_grows_by_little_for_each_image(tmp_path, monkeypatch):
    monkeypatch.setattr(near_duplicates, "_WORKERS", 1)      # how many blocks are in memory at once
    monkeypatch.setattr(near_duplicates, "_AHEAD", 1)
    peaks = {}
    for n in (600, 1400):
        for label in "ab":
            (tmp_path / str(n) / label).mkdir(parents=True)
        for i in range(n):
            noise = words(1, Stream.CHECK, n, i, 512).view(np.uint8).reshape(64, 64)
            Image.fromarray(noise).save(tmp_path / str(n) / "ab"[i % 2] / f"{i}.png", compress_level=0)
    for n in (1400, 600, 1400):         # the first may compile kernels, which takes memory too
        manifest = Manifest.read(tmp_path / str(n), classes=["a", "b"])
        tracemalloc.start()
        scan = FileScan(manifest, workers=1)
        find_pairs(scan)
        peaks[n] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        scan.close()
    assert (peaks[1400] - peaks[600]) / 800 < 4000


def test_the_confounders_of_the_real_collection(shared):
    result = audit(Manifest.read(shared / "data/chestxray/manifest.csv"))
    by_name = {confounder.name: confounder for confounder in result.confounders}
    assert by_name["source"].is_flagged and by_name["source"].auc > 0.9
    assert by_name["border"].is_flagged and by_name["header"].is_flagged and not by_name["thumbnail"].is_flagged
    told = {row["name"]: row for row in json.loads(json.dumps(result.to_dict()))["shortcuts"]}
    assert [name for name, row in told.items() if row["flagged"]] == ["header", "border", "source"]
    assert all(0.5 < row["low"] < row["auc"] < row["high"] <= 1 for row in told.values())
    # Four pictures came into the collection twice, under two patients' names; nobody had noticed.
    assert [finding.files for finding in result.problems if finding.what == "duplicate"] == [
        ("images/b683b5b3534710fa.jpg", "images/5b3cb858d9bdd5fd.jpg"),         # brighter, and less cut
        ("images/3fbdcbbafea0d738.jpg", "images/f1d7b4947b544ddf.jpg"),
        ("images/40a930d8d223d64c.jpg", "images/34d9c44e27bbb486.jpg"),
        ("images/c7206764ce110ee1.jpg", "images/4e0524c64da2c7ae.jpg")]         # moved, with a black margin
    assert Counter(finding.what for finding in result.remarks)["several labels"] == 4


def test_the_external_collection_holds_a_mirrored_pair(shared):
    result = audit(Manifest.read(shared / "data/chestxray/external.csv"))
    pairs = [finding for finding in result.problems if finding.what == "duplicate"]
    assert len(pairs) == 1 and "the same image, mirrored" in pairs[0].sentence
    assert next(confounder for confounder in result.confounders if confounder.name == "border").approximate
