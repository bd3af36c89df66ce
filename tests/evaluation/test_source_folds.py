"""Leave-one-source-out folds, leakage of training images, evaluations on the test set counted."""

import os
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from minicnn.data.manifest import Manifest
from minicnn.data.synthetic import phantom
from minicnn.errors import InputError, ManifestError
from minicnn.evaluation.source_folds import leave_one_source_out
from minicnn.evaluation.test_access import access_counts, access_sentence, check_unseen, count_access, split_digest
from minicnn.experiment.evaluation_run import note_access
from minicnn.experiment.run_folder import RunFolder


def collection(*rows):
    """Return (manifest, group) of rows (label, patient, source), without files."""
    labels, patients, sources = zip(*rows)
    manifest = Manifest("/data", [f"{i}.png" for i in range(len(rows))], list(labels), ("normal", "covid"),
                        patients=list(patients), sources=list(sources))
    return manifest, np.unique(patients, return_inverse=True)[1]


@pytest.fixture
def mixed():
    """Two sources of positives, one of them with negatives; one of negatives; a patient in two; one of unknown."""
    rows = [(1, f"a{i}", "a") for i in range(6)] + [(0, "a6", "a")] + [(1, f"b{i}", "b") for i in range(4)]
    rows += [(0, f"n{i // 2}", "n") for i in range(40)] + [(1, "both", "a"), (1, "both", "b")] + [(0, "u", "")]
    return collection(*rows)


def test_each_positive_source_is_held_out_with_some_negatives(mixed):
    manifest, group = mixed
    folds = leave_one_source_out(manifest, group, seed=3)
    assert [fold.name for fold in folds] == ["positive source held out: a", "positive source held out: b",
                                             "negative source held out: n"]
    a, b, n = folds
    for fold in (a, b):
        assert set(np.flatnonzero(manifest.sources == fold.source)) <= set(fold.test)
        assert fold.shows == ("recall", "specificity", "auc") and not fold.reason
        assert set(manifest.sources[fold.test][manifest.labels[fold.test] == 1]) == {fold.source}
        assert fold.source not in manifest.sources[fold.training]
    negatives = [set(fold.test[manifest.sources[fold.test] == "n"]) for fold in (a, b)]
    assert not negatives[0] & negatives[1] and len(negatives[0] | negatives[1]) == 40
    assert min(map(len, negatives)) >= 18
    assert n.shows == ("specificity",) and len(n.test) == 40


def test_no_patient_is_in_both_sets_and_no_unknown_source_in_any(mixed):
    manifest, group = mixed
    for fold in leave_one_source_out(manifest, group, seed=3):
        assert not set(group[fold.training]) & set(group[fold.test])
        assert len(fold.training) + len(fold.test) + fold.left_out == len(manifest)
        assert "" not in manifest.sources[fold.training] and "" not in manifest.sources[fold.test]
    # The patient of both sources is tested with one of them, and is no positive of the other's training.
    a = leave_one_source_out(manifest, group, seed=3)[0]
    assert a.left_out == 2


def test_the_seed_decides_and_repeats(mixed):
    def tests(seed):
        return [fold.test.tolist() for fold in leave_one_source_out(*mixed, seed=seed)]

    assert tests(1) == tests(1) != tests(2)


def test_a_fold_without_training_images_has_a_reason():
    manifest, group = collection(*[(1, f"p{i}", "a") for i in range(5)], *[(0, f"n{i}", "b") for i in range(5)])
    a, b = leave_one_source_out(manifest, group)
    assert a.reason == "without it there is no image of normal and of covid to train on"
    assert b.reason == "without it there is no image of normal to train on"
    with pytest.raises(ManifestError, match="positive source held out: a: without it there is no image"):
        a.parts(manifest)


def test_sets_of_a_fold_are_split_by_patient(mixed):
    manifest, group = mixed
    fold = leave_one_source_out(manifest, group, seed=3)[1]
    training, validation, test = fold.parts(manifest, seed=1)
    assert len(training) + len(validation) == len(fold.training) and len(test) == len(fold.test)
    assert not set(training.patients) & set(validation.patients)
    assert training.counts()["covid"] and validation.counts()["covid"]


def test_sources_that_cannot_be_held_out():
    manifest, group = collection((0, "a", "x"), (1, "b", "x"))
    with pytest.raises(ManifestError, match="there are fewer than two known sources"):
        leave_one_source_out(manifest, group)
    with pytest.raises(ManifestError, match="there is no source column"):
        leave_one_source_out(Manifest("/", ["a", "b"], [0, 1], ("x", "y")), np.arange(2))
    with pytest.raises(InputError, match="expected two classes, got x, y, z"):
        leave_one_source_out(Manifest("/", ["a", "b"], [0, 1], ("x", "y", "z"), sources=["a", "b"]), np.arange(2))


def test_patients_with_the_same_image_are_one_group():
    made = phantom.generate(n=8, seed=1)
    pictures = np.concatenate([made.images, made.images[3:4, :, ::-1]])
    manifest = Manifest.from_arrays(pictures, [*made.labels, made.labels[3]], made.classes,
                                    patients=[f"p{i}" for i in range(9)])
    group = manifest.patient_groups()
    assert group[8] == group[3] and len(set(group.tolist())) == 8


def test_the_real_sources(shared):
    manifest = Manifest.read(shared / "data/chestxray/manifest.csv")
    folds = {fold.source: fold for fold in leave_one_source_out(manifest, seed=0)}
    assert {source: fold.shows[0] for source, fold in folds.items()} == {
        "cohen": "recall", "cxnet": "recall", "figure1": "recall", "nih": "specificity"}
    assert all(not fold.reason for fold in folds.values())
    # One picture of cxnet is in cohen too: it is not trained on while cohen is held out.
    twin = manifest.names.index("images/40a930d8d223d64c.jpg")
    assert manifest.sources[twin] == "cxnet"
    assert twin not in folds["cohen"].training and twin not in folds["cohen"].test


# ---- Leakage ---------------------------------------------------------------------------------------------------------

def digests(*numbers):
    return np.array([[number] * 32 for number in numbers], np.uint8)


def test_the_digest_of_a_split():
    parts = {"training": SimpleNamespace(digests=digests(1, 2)), "test": SimpleNamespace(digests=digests(3))}
    assert split_digest(parts) == split_digest(dict(reversed(parts.items())))
    moved = {"training": SimpleNamespace(digests=digests(1)), "test": SimpleNamespace(digests=digests(3, 2))}
    assert split_digest(parts) != split_digest(moved) and len(split_digest(parts)) == 64


def test_images_seen_in_training_are_refused_unless_allowed():
    class Source(SimpleNamespace):
        def __len__(self):
            return len(self.names)

    model = SimpleNamespace(training_digests=digests(1, 2))
    source = Source(digests=digests(2, 3), names=["a\x1b.png", "b.png"])
    with pytest.raises(InputError, match=r"1 of these 2 images .*, the first is a\\x1b.png. .*\(--allow-training"):
        check_unseen(model, source)
    assert check_unseen(model, source, allowed=True).endswith("on them the metrics mean nothing.")
    assert check_unseen(model, Source(digests=digests(3), names=["b"])) is None
    assert check_unseen(SimpleNamespace(training_digests=None), source) is None
    same_pixels = Source(digests=digests(8, 9), pixel_digests=digests(7, 1), names=["a.png", "written again.png"])
    with pytest.raises(InputError, match="1 of these 2 images .*, the first is written again.png"):
        check_unseen(model, same_pixels)


def test_a_copy_under_another_name_is_known_by_its_bytes_and_by_its_pixels(tmp_path):
    made = phantom.generate(n=6, seed=3, size=64)
    for label in made.classes:
        (tmp_path / "a" / label).mkdir(parents=True), (tmp_path / "b" / label).mkdir(parents=True)
    for i, (picture, label) in enumerate(zip(made.images, made.labels)):
        path = tmp_path / "a" / made.classes[label] / f"{i}.png"
        Image.fromarray(picture).save(path)
        copy = tmp_path / "b" / made.classes[label] / f"copy {9 - i}.png"
        copy.write_bytes(path.read_bytes()) if i % 2 else Image.fromarray(picture).save(copy.with_suffix(".bmp"))
    ours, theirs = (Manifest.read(tmp_path / name).open() for name in "ab")
    for trained, seen in ((ours.digests, 3), (np.concatenate([ours.digests, ours.pixel_digests]), 6)):
        with pytest.raises(InputError, match=f"^{seen} of these 6 images"):
            check_unseen(SimpleNamespace(training_digests=trained), theirs)


def test_evaluations_are_counted(tmp_path):
    assert access_counts(RunFolder(tmp_path)) == {}
    assert [note_access(tmp_path) for _ in range(3)] == [1, 2, 3]
    with RunFolder(tmp_path) as run:
        assert count_access(run) == 4 and count_access(run, "validation") == 1
    assert access_counts(RunFolder(tmp_path)) == {"test": 4, "validation": 1}
    assert "4 times" in access_sentence(4)


@pytest.mark.parametrize("content", ["[]", '{"test": -1}', '{"test": "many"}', '{"test": true}', '{"te\\u001bst": 1}'])
def test_an_invalid_count_is_refused(content, tmp_path):
    (tmp_path / "looks.json").write_text(content)
    with pytest.raises(InputError, match="looks.json: expected the number of evaluations"):
        access_counts(RunFolder(tmp_path))


def test_evaluation_works_in_a_folder_that_is_not_writable(tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "ftruncate", refuse)
    assert note_access(tmp_path) is None and "not known" in access_sentence(None)
