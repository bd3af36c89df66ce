"""Splits: no patient in two sets, sets of the given sizes, each class in each set, and repeatable from the seed."""

import numpy as np
import pytest
from hypothesis import given, strategies as st
from PIL import Image

import minicnn.kernels.runtime.jit  # noqa: F401  takes its cache folder before these tests move it
from minicnn.data import Augmentation, Manifest
from minicnn.data.augmentation import TECHNIQUES
from minicnn.data.manifest import ManifestWarning
from minicnn.data.split import groups, split_groups, split_images
from minicnn.errors import InputError, ManifestError

THREE = (0.70, 0.15, 0.15)


@pytest.fixture(autouse=True)
def private_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("MINICNN_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))


def digests(*numbers):
    return np.array([[number] * 32 for number in numbers], np.uint8)


def deal(n_groups, n_classes, seed, largest=6):
    """Return (group, labels) of drawn sizes, most of them small; a group may hold several labels."""
    draw = np.random.default_rng(seed)
    size = np.minimum(draw.geometric(0.6, n_groups), largest)
    group = draw.permutation(np.repeat(np.arange(n_groups), size))
    usual = draw.integers(0, n_classes, n_groups)
    labels = np.where(draw.random(len(group)) < 0.1, draw.integers(0, n_classes, len(group)), usual[group])
    return group, labels


# ---- Groups ----------------------------------------------------------------------------------------------------------

def test_unknown_patients_are_on_their_own():
    assert groups(["b", "", "a", "b", None, ""]).tolist() == [0, 1, 2, 0, 3, 4]


def test_identical_pictures_join_patients():
    assert groups(["a", "b", "c", "a"], digests(1, 2, 3, 2)).tolist() == [0, 0, 1, 0]
    assert groups(["", "", ""], digests(5, 4, 5)).tolist() == [0, 1, 0]


def test_joins_chain():
    patients = ["a", "b", "c", "d", "e"]
    assert groups(patients, digests(1, 2, 3, 4, 5)).tolist() == [0, 1, 2, 3, 4]
    assert groups(patients + ["b", "c", "d"], digests(1, 2, 3, 4, 5, 1, 2, 3)).tolist() == [0, 0, 0, 0, 1, 0, 0, 0]


@given(st.lists(st.tuples(st.sampled_from(["", "a", "b", "c", "d"]), st.integers(0, 9)), min_size=1, max_size=12))
def test_groups_are_the_connected_parts(rows):
    patients, pixels = zip(*rows)
    found = groups(patients, digests(*pixels))
    n = len(rows)
    together = np.eye(n, dtype=bool)
    for i in range(n):
        for j in range(n):
            together[i, j] |= pixels[i] == pixels[j] or (patients[i] == patients[j] != "")
    for _ in range(n):
        together = together @ together
    np.testing.assert_array_equal(found[:, None] == found, together)
    assert [g for i, g in enumerate(found) if g not in found[:i]] == list(range(found.max() + 1))


# ---- Sets ------------------------------------------------------------------------------------------------------------

@given(n_groups=st.integers(120, 300), n_classes=st.integers(2, 3), seed=st.integers(0, 2**32))
def test_parts_are_whole_groups_of_the_right_size_with_every_class(n_groups, n_classes, seed):
    group, labels = deal(n_groups, n_classes, seed)
    sets = split_groups(group, labels, THREE, seed)
    assert sets.dtype == np.int8 and all(len(set(sets[group == g])) == 1 for g in range(n_groups))
    stratum = np.array([labels[group == g].max() for g in range(n_groups)])[group]
    for label in range(n_classes):
        for number, share in enumerate(THREE):
            inside = np.count_nonzero((stratum == label) & (sets == number))
            # There are single images in plenty: no stratum need be off by two.
            assert abs(inside - share * np.count_nonzero(stratum == label)) < 2
            assert (labels[sets == number] == label).any()


def test_the_same_seed_is_the_same_split_and_another_is_another():
    group, labels = deal(100, 2, 1)
    np.testing.assert_array_equal(split_groups(group, labels, THREE, 5), split_groups(group, labels, THREE, 5))
    assert (split_groups(group, labels, THREE, 5) != split_groups(group, labels, THREE, 6)).mean() > 0.2


def test_large_groups_are_dealt_fairly():
    """A patient with many images is as likely to be tested as any other: sorting by size would always train on them."""
    size = np.array([12] * 4 + [1] * 200)
    group = np.repeat(np.arange(len(size)), size)
    labels = np.zeros(len(group), np.int64)
    tested = [split_groups(group, labels, (0.7, 0.3), seed)[group < 4] == 1 for seed in range(60)]
    assert 0.2 < np.mean(tested) < 0.4
    assert all(abs(split_groups(group, labels, (0.7, 0.3), seed).mean() - 0.3) < 0.005 for seed in range(10))


def test_scarce_classes_reach_every_part():
    group = np.arange(203)
    labels = np.where(group < 3, 1, 0)
    for seed in range(10):
        sets = split_groups(group, labels, THREE, seed)
        assert sorted(sets[:3].tolist()) == [0, 1, 2]


def test_a_group_is_positive_if_any_of_its_images_is():
    group = np.repeat(np.arange(20), 2)
    labels = np.tile([0, 1], 20)        # every patient has both
    sets = split_groups(group, labels, (0.5, 0.5), 3)
    assert np.bincount(sets).tolist() == [20, 20]


def test_too_few_groups_are_said():
    with pytest.raises(ManifestError, match="split: set [123] of 3 .*'covid'.* 2 patients"):
        split_groups(np.array([0, 1, 2, 3, 4, 4]), np.array([0, 0, 0, 0, 1, 1]) | (np.arange(6) == 0), THREE, 0,
                     ["normal", "covid"])
    with pytest.raises(ManifestError, match="no image of class 0"):
        split_images(np.array([0, 1, 1, 1]), (0.5, 0.5), 0)


@pytest.mark.parametrize("fractions", [(0.7, 0.2), (1.2, -0.2), (0.5, 0.5, 0.0), (np.nan, 1.0), 1.0])
def test_fractions_are_checked(fractions):
    with pytest.raises(InputError, match="split: expected positive fractions that sum to 1, got"):
        split_groups(np.arange(10), np.arange(10) % 2, fractions, 0)


@given(n=st.integers(20, 300), seed=st.integers(0, 2**32))
def test_images_are_split_one_by_one_near_70_to_30(n, seed):
    labels = np.random.default_rng(seed).integers(0, 2, n)
    labels[:4] = [0, 0, 1, 1]
    sets = split_images(labels, (0.7, 0.3), seed)
    for label in 0, 1:
        share = np.count_nonzero((sets == 0) & (labels == label)) - 0.7 * np.count_nonzero(labels == label)
        assert abs(share) <= 1


# ---- Manifests -------------------------------------------------------------------------------------------------------

def memory(n=60, **columns):
    images = np.random.default_rng(1).integers(0, 256, (n, 64, 64), dtype=np.uint8)
    manifest = Manifest.from_arrays(images, np.arange(n) % 2, ("normal", "covid"))
    return images, Manifest("", manifest.names, manifest.labels, manifest.classes, pixels=manifest.pixels, **columns)


def test_the_real_split_keeps_patients_together(shared):
    manifest = Manifest.read(shared / "data" / "chestxray" / "manifest.csv")
    sets = manifest.split(0.70, 0.15, 0.15, seed=7)
    patients = [set(part.patients) for part in sets]
    assert not (patients[0] & patients[1] or patients[0] & patients[2] or patients[1] & patients[2])
    assert sorted(sum((part.names for part in sets), [])) == sorted(manifest.names)
    for part, share in zip(sets, THREE):
        assert abs(len(part) - share * 820) <= 3 and abs(part.counts()["covid"] - share * 410) <= 3
        assert part.pixels.decoded == 820        # once, for all sets
    again = manifest.split(0.70, 0.15, 0.15, seed=7)
    assert [part.names for part in again] == [part.names for part in sets] and again[0].pixels.decoded == 0


def test_the_same_picture_in_two_files_stays_on_one_side(tmp_path):
    noise = np.random.default_rng(2).integers(0, 256, (40, 30, 30), dtype=np.uint8)
    names = []
    for i, pixels in enumerate(noise):
        for kind in "png", "bmp", "tif":
            names.append(f"{i}.{kind}")
            Image.fromarray(pixels).save(tmp_path / names[-1])
    manifest = Manifest(tmp_path, names, np.repeat(np.arange(40) % 2, 3), ["normal", "covid"])
    for part in manifest.split(seed=1):
        stems = [name.split(".")[0] for name in part.names]
        assert all(stems.count(stem) == 3 for stem in stems)


def test_a_split_column_wins():
    words = ["train", "Training", "val", "valid", "dev", "test"] * 10
    images, manifest = memory(splits=words)
    training, validation, test = manifest.split(0.9, 0.05, 0.05, seed=1)
    assert (len(training), len(validation), len(test)) == (20, 30, 10)
    assert training.names[:3] == ["000000", "000001", "000006"] and set(test.splits) == {"test"}
    training, validation = manifest.paper_split(seed=1)
    assert (len(training), len(validation)) == (140, 280)
    np.testing.assert_array_equal(training.open().batch(np.array([0]))[0, :, :, 0], images[0] / np.float32(255))


def test_a_split_column_is_checked():
    with pytest.raises(ManifestError, match=r"the split column .* test set.* columns=\{'split': None\}"):
        memory(splits=["train", "val"] * 30)[1].split()
    with pytest.raises(ManifestError, match="the split column: 1 problem, in 30 places\n  30 times, as in 000001 and 000003: .*'vla'.* "
                       "training"):
        memory(splits=["train", "vla"] * 30)[1].split()
    with pytest.warns(ManifestWarning, match="1 patients .* more than one set"):
        memory(splits=["train", "val", "test"] * 20, patients=["x", "x", "x"] + [str(i) for i in range(57)])[1].split()


# ---- The paper's protocol --------------------------------------------------------------------------------------------

def test_the_papers_versions():
    images, manifest = memory()
    training, validation = manifest.paper_split(seed=3)
    assert len(training) == 294 and len(validation) == 126 and training.counts() == {"normal": 147, "covid": 147}
    versions = np.concatenate([training.versions, validation.versions])
    assert sorted(versions) == list(range(420))
    np.testing.assert_array_equal(training.techniques, training.versions % 7)
    assert training.names == [f"{version // 7:06d}" for version in training.versions]
    assert [row["technique"] for row in training.rows()] == [TECHNIQUES[k] for k in training.techniques]
    with pytest.raises(InputError, match="augment: .*paper_split"):
        training.augment(Augmentation.honest())


def test_a_version_looks_the_same_in_every_pass_and_batch():
    images, manifest = memory()
    training, validation = manifest.paper_split(seed=3)
    for part in training, validation:
        source = part.open()
        samples = np.arange(len(part))
        whole = source.batch(samples)
        np.testing.assert_array_equal(source.batch(samples[::-1], passes=samples * 9, seed=8)[::-1], whole)
        expected = Augmentation.paper().apply(images[part.versions // 7], 3, 0, part.versions, 3, part.versions % 7)
        np.testing.assert_array_equal(whole, expected)
        rescaled = part.techniques == 0
        np.testing.assert_array_equal(whole[rescaled][..., 0], images[part.versions[rescaled] // 7] / np.float32(255))
        vertical = part.techniques == 1
        np.testing.assert_array_equal(whole[vertical][:, ::-1, :, 0],
                                      images[part.versions[vertical] // 7] / np.float32(255))


def test_another_seed_draws_other_versions():
    _, manifest = memory()
    first, second = (manifest.paper_split(seed=seed)[0] for seed in (1, 2))
    assert first.versions.tolist() != second.versions.tolist()
    assert first.versions.tolist() == manifest.paper_split(seed=1)[0].versions.tolist()
