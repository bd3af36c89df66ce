"""Finding copies: the index, the work it saves, and what is kept. What is found: tests/evaluation/test_auditing.py."""

import os
import stat
import warnings

import numpy as np
import pytest

from minicnn.core.random import Stream, words
from minicnn.data import near_duplicates, pixel_cache, registration
from minicnn.data.manifest import Manifest
from minicnn.data.near_duplicates import clusters, find_pairs
from minicnn.data.pixel_cache import MemoryPixels, keep, recall
from minicnn.data.synthetic import phantom


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder of a pixel cache of its own, and nothing known of earlier searches."""
    monkeypatch.setenv("MINICNN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(pixel_cache, "_kept", {})
    return tmp_path / "cache" / "pixels"


@pytest.fixture
def searches(monkeypatch):
    """A list that grows by one with each search."""
    done, search = [], near_duplicates._search

    def counted(*arguments):
        done.append(1)
        return search(*arguments)

    monkeypatch.setattr(near_duplicates, "_search", counted)
    return done


def with_copies(n=60, seed=2):
    images = phantom.generate(n=n, seed=seed).images
    return np.concatenate([images, images[:3], images[3:6, :, ::-1], np.roll(images[6:9], 1, axis=2) // 2])


# ---- What is kept ----------------------------------------------------------------------------------------------------

def test_a_search_is_made_once_for_all_processes(cache, searches):
    pixels = MemoryPixels(with_copies())
    found = find_pairs(pixels)
    assert len(found) == 9 and {pair.how for pair in found} == {"exact", "near", "mirrored"} and len(searches) == 1
    assert find_pairs(pixels) == found and len(np.unique(clusters(pixels), axis=0)) == 60
    pixel_cache._kept.clear()           # as another process begins
    again = find_pairs(MemoryPixels(with_copies()))
    assert again == found and len(searches) == 1
    assert [type(value) for value in again[0]] == [type(value) for value in found[0]]
    (file,) = cache.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    none = MemoryPixels(phantom.generate(n=9, seed=1).images)
    assert find_pairs(none) == [] and len(searches) == 2
    pixel_cache._kept.clear()
    assert find_pairs(none) == [] and len(searches) == 2


def test_what_decides_the_pairs_decides_what_is_kept(cache, searches, monkeypatch):
    images = with_copies()
    people = [str(number) for number in range(len(images))]
    find_pairs(MemoryPixels(images))
    find_pairs(MemoryPixels(images), people)
    find_pairs(MemoryPixels(images), [""] + people[1:])
    find_pairs(MemoryPixels(images[::-1]))
    find_pairs(MemoryPixels(images).take(np.arange(30)))
    find_pairs(MemoryPixels(images.reshape(len(images), 32, 128)))      # the same bytes
    monkeypatch.setattr(near_duplicates, "_VERSION", 99)
    find_pairs(MemoryPixels(images))
    assert len(searches) == len(list(cache.iterdir())) == 7


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"", lambda data: data[:9] + b"?" + data[10:],
                                    lambda data: data[8:]])
def test_a_damaged_result_is_searched_again(cache, searches, damage):
    pixels = MemoryPixels(with_copies())
    found = find_pairs(pixels)
    (file,) = cache.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    pixel_cache._kept.clear()
    assert find_pairs(pixels) == found and len(searches) == 2
    pixel_cache._kept.clear()
    assert find_pairs(pixels) == found and len(searches) == 2       # it is whole again


def test_without_a_cache_it_is_found_all_the_same(cache, searches):
    cache.parent.mkdir()
    cache.write_text("a file where the folder should be")
    with warnings.catch_warnings():
        warnings.simplefilter("error")      # reading files warns; in-memory images need no cache
        assert len(find_pairs(MemoryPixels(with_copies()))) == len(find_pairs(MemoryPixels(with_copies()))) == 9
    assert len(searches) == 1


def test_only_the_last_results_stay_in_memory(cache):
    for i in range(20):
        keep(f"copies-{i}", bytes([i]))
    assert len(pixel_cache._kept) <= 8 and recall("copies-3") == b"\3" and recall("copies-20") is None
    os.unlink(cache / "copies-4")
    assert recall("copies-4") is None


# ---- The search ------------------------------------------------------------------------------------------------------

def noise(n, side, seed):
    return words(seed, Stream.CHECK, n, side, n * side * side // 8).view(np.uint8).reshape(n, side, side)


@pytest.mark.parametrize("n, most", [(700, 4), (700, 1), (30, 3), (3, 2)])
def test_neighbours_are_those_of_all_comparisons(n, most):
    """Features that are alike in groups, so that many of them pass the least similarity."""
    made, groups = noise(n, 16, 1).reshape(n, 256) / 128.0 - 1, noise(5, 16, 2).reshape(5, 256) / 128.0 - 1
    made += 3 * groups[np.arange(n) % 5]
    known = (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float16)
    own, allowed = np.arange(n), np.full(n, most)
    allowed[::3] = 1
    bounds = registration._bounds(known, registration._directions(known))
    query, number = registration._neighbours(known, known, bounds, bounds, own, allowed)
    alike = known.astype(np.float32) @ known.astype(np.float32).T
    alike[own, own] = -1
    best = np.argsort(-alike, axis=1, kind="stable")
    expected = [(i, j) for i in range(n) for j in best[i, :allowed[i]] if alike[i, j] >= 0.80]
    assert list(zip(query.tolist(), number.tolist())) == expected
    assert np.all(bounds @ bounds.T >= known.astype(np.float32) @ known.astype(np.float32).T - registration._ROUNDING)


def test_the_work_grows_with_the_number_of_images(cache):
    """Images that are read again, to be compared: as many for each image of a collection of any size."""
    class Counted(MemoryPixels):
        count = 0

        def read(self, samples):
            type(self).count += len(samples)
            return super().read(samples)

    images, reads = phantom.generate(n=1200, seed=4).images, {}
    for n in (300, 1200):
        Counted.count = 0
        find_pairs(Counted(images[:n]))
        reads[n] = Counted.count / n
    assert reads[1200] < 1.5 * reads[300]


def test_progress_reaches_its_end(cache, monkeypatch):
    steps = []

    class Bar:
        def __init__(self, total, label, unit, enabled):
            steps.append((total, label, enabled))

        def advance(self, n=1):
            steps.append(n)

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            pass

    monkeypatch.setattr(near_duplicates, "Progress", Bar)
    find_pairs(MemoryPixels(with_copies(300)), progress=True)
    (total, label, enabled), *done = steps
    assert sum(done) == total and label == "finding copies" and enabled and len(done) > 4
    made = phantom.generate(n=40, seed=6)
    steps.clear()
    Manifest.from_arrays(made.images, made.labels, made.classes).split(progress=True)
    assert steps[0][1:] == ("finding copies", True)
