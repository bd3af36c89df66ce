"""Datasets and loading: the same batches for any number of workers, arrays of any layout, and the pixel cache."""

import os
import re
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st
from PIL import Image

import minicnn.kernels.runtime.jit  # noqa: F401  takes its cache folder before these tests move it
from minicnn import Sequential
from minicnn.data import ArrayDataset, Augmentation, ImageDataset, Manifest, Preprocessing, pixel_cache
from minicnn.data.decoding import ImageWarning
from minicnn.data.loader import image_files, load, open_dataset, schedule
from minicnn.data.pixel_cache import PixelCache
from minicnn.data.preprocessing import decode, resize
from minicnn.errors import CheckpointError, DTypeError, ImageError, InputError, ManifestError, ShapeError


@pytest.fixture(autouse=True)
def cache_folder(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("MINICNN_CACHE_DIR", str(folder))
    return folder / "pixels"


@pytest.fixture
def files(tmp_path):
    """Return the paths of 30 images of noise."""
    noise = np.random.default_rng(1)
    paths = [str(tmp_path / f"{i:02d}.png") for i in range(30)]
    for path in paths:
        Image.fromarray(noise.integers(0, 256, (25, 20), dtype=np.uint8)).save(path)
    return paths


# ---- The cache -------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("color", ["grey", "rgb"])
def test_the_cache_holds_decoded_and_resized_images(files, color):
    how = Preprocessing(10, 12, color=color)
    cache = PixelCache.prepare(files, how)
    assert len(cache) == 30 and cache.decoded == 30
    indices = np.array([29, 0, 0, 13])
    expected = np.stack([resize(decode(files[i], color), how) for i in indices])
    read = cache.read(indices)
    assert read.dtype == np.uint8 and read.shape == (4,) + how.stored_shape
    np.testing.assert_array_equal(read, expected)
    np.testing.assert_array_equal(cache.take(indices).read(np.array([3, 1])), expected[[3, 1]])
    np.testing.assert_array_equal(cache.take(indices).file_digests, cache.file_digests[indices])
    assert cache.read(np.array([], np.int64)).shape == (0,) + how.stored_shape


def test_any_number_of_workers_makes_the_same_file(files, cache_folder):
    contents = []
    for workers in 0, 1, 2, 4:
        cache = PixelCache.prepare(files, Preprocessing(), workers=workers)
        assert cache.decoded == 30
        [path] = cache_folder.iterdir()
        contents.append((path.name, path.read_bytes()))
        path.unlink()
    assert len(set(contents)) == 1


def test_the_same_content_is_not_decoded_again(files, tmp_path, cache_folder, monkeypatch):
    first = PixelCache.prepare(files, Preprocessing())
    moved = []
    for path in files:
        moved.append(path.replace(".png", "_moved.jpg"))
        os.rename(path, moved[-1])
    again = PixelCache.prepare(moved, Preprocessing())
    assert again.decoded == 0
    np.testing.assert_array_equal(again.read(np.arange(30)), first.read(np.arange(30)))
    np.testing.assert_array_equal(again.pixel_digests, first.pixel_digests)
    assert PixelCache.prepare(moved, Preprocessing(32)).decoded == 30       # another size
    assert PixelCache.prepare(moved, Preprocessing(equalize=True)).decoded == 30
    assert PixelCache.prepare(moved, Preprocessing(border=1 / 8)).decoded == 30
    assert PixelCache.prepare(moved[::-1], Preprocessing()).decoded == 30   # another order
    Image.new("L", (9, 9)).save(moved[7], "PNG")
    assert PixelCache.prepare(moved, Preprocessing()).decoded == 30         # another content
    monkeypatch.setattr("minicnn.data.preprocessing.DECODER_VERSION", 2)
    assert PixelCache.prepare(moved, Preprocessing(decoder=2)).decoded == 30


@pytest.mark.parametrize("damage", ["cut", "longer", "index", "check", "empty", "link"])
def test_a_damaged_cache_is_made_anew(files, cache_folder, damage, tmp_path):
    whole = PixelCache.prepare(files, Preprocessing()).read(np.arange(30))
    [path] = cache_folder.iterdir()
    data = path.read_bytes()
    place = {"index": 30 * 4096 + 40, "check": len(data) - 1}.get(damage, 0)
    broken = {"cut": data[:-100], "longer": data + b"x", "empty": b"", "link": data}.get(
        damage, data[:place] + bytes([data[place] ^ 1]) + data[place + 1:])
    path.write_bytes(broken)
    if damage == "link":
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    again = PixelCache.prepare(files, Preprocessing())
    assert again.decoded == 30 and path.read_bytes() == data and not path.is_symlink()
    np.testing.assert_array_equal(again.read(np.arange(30)), whole)


def test_pixel_digests_are_equal_for_the_same_image_in_another_file(tmp_path):
    pixels = np.random.default_rng(3).integers(0, 256, (90, 80), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(pixels).save(tmp_path / "b.bmp")
    Image.fromarray(np.stack([pixels] * 3, axis=-1)).save(tmp_path / "c.tif")
    Image.fromarray(pixels.T).save(tmp_path / "d.png")
    Image.fromarray(np.pad(pixels, 1)).save(tmp_path / "e.png")
    cache = PixelCache.prepare([str(tmp_path / name) for name in ("a.png", "b.bmp", "c.tif", "d.png", "e.png")],
                               Preprocessing())
    assert len({bytes(row) for row in cache.pixel_digests[:3]}) == 1 and len({bytes(r) for r in cache.pixel_digests}) == 3
    assert len({bytes(row) for row in cache.file_digests}) == 5


def test_all_unreadable_files_are_reported_and_nothing_is_left(tmp_path, files, cache_folder):
    for i in range(0, 25):
        (tmp_path / f"{i:02d}.png").write_bytes(b"no image" if i % 2 else b"")
    for workers in 0, 2:
        with pytest.raises(ManifestError) as error:
            PixelCache.prepare(files, Preprocessing(), workers=workers)
        lines = str(error.value).splitlines()       # the empty ones come first, as they do where files are read
        assert lines[0] == "images that cannot be read: 2 problems, in 25 places" and len(lines) == 3
        assert lines[1].startswith("  13 times, as in ") and "00.png and " in lines[1] and "02.png: is empty" in lines[1]
        assert lines[2].startswith("  12 times, as in ") and "03.png: PNG, JPEG" in lines[2]
    for i in range(0, 25, 2):
        (tmp_path / f"{i:02d}.png").write_bytes(b"no image either %d" % i)
    with pytest.raises(ManifestError, match="images that cannot be read: 1 problem, in 25 places\n.*00.png and .*PNG, JPEG"):
        PixelCache.prepare(files, Preprocessing())
    assert list(cache_folder.iterdir()) == []


def test_remarks_are_counted_not_repeated(tmp_path):
    for i in range(5):
        Image.new("LA", (9, 9), (200, 100 + i)).save(tmp_path / f"{i}.png")
    for decoded in (5, 0):          # the cache remembers them
        with pytest.warns(ImageWarning, match="5 of 5 images: .*not opaque") as caught:
            assert PixelCache.prepare([str(tmp_path / f"{i}.png") for i in range(5)], Preprocessing()).decoded == decoded
        assert len(caught) == 1


def test_an_unusable_cache_folder_means_decoding_without_keeping(files, tmp_path, monkeypatch):
    blocked = tmp_path / "a file"
    blocked.touch()
    monkeypatch.setenv("MINICNN_CACHE_DIR", str(blocked))
    with pytest.warns(RuntimeWarning, match="pixel cache .* cannot be used .*; decoding without keeping it"):
        cache = PixelCache.prepare(files, Preprocessing())
    np.testing.assert_array_equal(cache.read(np.array([5]))[0], resize(decode(files[5]), Preprocessing()))
    monkeypatch.setenv("MINICNN_CACHE_DIR", str(tmp_path / "open"))
    (tmp_path / "open" / "pixels").mkdir(parents=True)
    os.chmod(tmp_path / "open" / "pixels", 0o777)
    with pytest.warns(RuntimeWarning, match="pixel cache .* is not a folder of this user alone; decoding without keeping"):
        assert PixelCache.prepare(files, Preprocessing()).decoded == 30
    assert list((tmp_path / "open" / "pixels").iterdir()) == []


def test_a_full_disk_is_a_typed_error(files, cache_folder, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(pixel_cache.os, "replace", full)
    with pytest.raises(CheckpointError, match="the pixel cache could not be written: No space left on device. Free some"):
        PixelCache.prepare(files, Preprocessing())
    assert list(cache_folder.iterdir()) == []


def test_a_file_that_changes_is_noticed(files, monkeypatch):
    calls = []

    def changing(path, root=None):
        calls.append(path)
        with open(path, "rb") as file:
            return file.read() + (b"more" if calls.count(path) == 2 and path == files[3] else b"")
    monkeypatch.setattr(pixel_cache, "read_bytes", changing)
    with pytest.raises(ManifestError, match="03.png: changed while it was being read. Start again"):
        PixelCache.prepare(files, Preprocessing())


def test_a_cache_cut_off_while_in_use_is_a_typed_error(files, cache_folder):
    cache = PixelCache.prepare(files, Preprocessing())
    os.truncate(next(cache_folder.iterdir()), 5000)
    with pytest.raises(ManifestError, match="the pixel cache was cut off while it was in use. Start again"):
        cache.read(np.array([1]))


def test_old_caches_make_room(files, cache_folder, monkeypatch):
    def age(path, seconds):
        os.utime(path, (time.time() - seconds, time.time() - seconds))

    PixelCache.prepare(files[:10], Preprocessing())
    [oldest] = cache_folder.iterdir()
    age(oldest, 3000)
    PixelCache.prepare(files[10:20], Preprocessing())
    [older] = set(cache_folder.iterdir()) - {oldest}
    age(older, 2000)
    left, going_on = cache_folder / ".x.1.tmp", cache_folder / ".y.2.tmp"
    left.touch(), going_on.touch()
    age(left, 90_000)
    held = PixelCache.prepare(files[:10], Preprocessing())      # used again: now the youngest
    assert held.decoded == 0
    monkeypatch.setattr(pixel_cache, "_MOST_BYTES", 100_000)
    PixelCache.prepare(files[20:], Preprocessing())
    names = {path.name for path in cache_folder.iterdir()}
    assert oldest.name in names and older.name not in names and left.name not in names and going_on.name in names
    oldest.unlink()
    assert held.read(np.array([9])).shape == (1, 64, 64)        # an open cache stays readable
    assert all(path.stat().st_mode & 0o077 == 0 for path in cache_folder.iterdir() if path.suffix != ".tmp")


# ---- Arrays ----------------------------------------------------------------------------------------------------------

X = np.random.default_rng(4).random((6, 4, 5, 3)).astype(np.float32)


def forms():
    unaligned = np.empty(X.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(X.shape)
    unaligned[...] = X
    frozen = X.copy()
    frozen.setflags(write=False)
    return {"plain": X, "Fortran": np.asfortranarray(X), "strided": np.repeat(X, 2, axis=1)[:, ::2],
            "backwards": X[::-1].copy()[::-1], "big-endian": X.astype(">f4"), "unaligned": unaligned, "frozen": frozen,
            "subclass": X.view(np.memmap), "unmasked": np.ma.array(X), "list": X.tolist()}


@pytest.mark.parametrize("name", forms())
def test_any_memory_layout_gives_the_same_batch(name):
    x = forms()[name]
    before = np.array(x, copy=True)
    batch = ArrayDataset(x).batch(np.array([5, 0]))
    np.testing.assert_array_equal(batch, X[[5, 0]])
    assert batch.flags.c_contiguous and batch.flags.writeable and type(batch) is np.ndarray and batch.dtype.isnative
    batch[...] = 7
    np.testing.assert_array_equal(x, before)


def test_dtypes_of_samples():
    grey = np.arange(24, dtype=np.uint8).reshape(2, 3, 4, 1) * 10
    np.testing.assert_array_equal(ArrayDataset(grey).batch(np.array([1])), grey[1:] / np.float32(255))
    assert ArrayDataset(X.astype(np.float64)).batch(np.arange(2)).dtype == np.float64
    assert ArrayDataset(X.astype(np.float16)).batch(np.arange(2)).dtype == np.float32
    assert ArrayDataset([[0, 1], [1, 1]]).batch(np.arange(2)).tolist() == [[0.0, 1.0], [1.0, 1.0]]


@pytest.mark.parametrize("x, error, sentence", [
    (X.astype(object), DTypeError, "x must hold real numbers, got dtype object"),
    (X.astype(complex), DTypeError, "x must hold real numbers, got dtype complex128"),
    (X.astype(str), DTypeError, "x must hold real numbers, got dtype <U32"),
    (np.ma.masked_less(X, 0.5), InputError, "x is masked in places"),
    ([np.ma.array(image, mask=i > 3) for i, image in enumerate(X)], InputError, "of which 2 are masked in places"),
    ([[1, 2], [3]], ShapeError, "its rows have different lengths"),
    (X[0, 0, 0], ShapeError, r"expected x of shape \(N, ...\), got \(3,\). One sample still needs a batch axis"),
    (X[:0], ShapeError, r"x of shape \(0, 4, 5, 3\) holds no samples"),
    (X[:, :0], ShapeError, r"x of shape \(6, 0, 5, 3\) holds no samples"),
    (X.astype(np.int64), DTypeError, r"images are floats, which are used as they are, or uint8.*got int64. Say which is meant"),
    (np.where(np.arange(3) == 2, np.nan, X), InputError, r"x holds nan at \[0, 0, 0, 2\]"),
    (np.where(np.arange(6)[:, None, None, None] == 5, -np.inf, X), InputError, r"x holds -inf at \[5, 0, 0, 0\]"),
])
def test_arrays_that_cannot_be_used(x, error, sentence):
    with pytest.raises(error, match="ArrayDataset: .*" + sentence):
        ArrayDataset(x)


@pytest.mark.parametrize("shape, sentence", [
    ((4, 5, 1), r"expected x of shape \(N, 4, 5, 1\), got \(6, 4, 5, 3\)"),
    ((6, 4, 5, 3), "One sample still needs a batch axis"),
    ((5, 3, 4), r"Images are channels-last; try x.transpose\(0, 2, 3, 1\)"),
])
def test_samples_of_another_shape(shape, sentence):
    with pytest.raises(ShapeError, match=sentence):
        ArrayDataset(X, shape=shape, owner="fit")


@pytest.mark.parametrize("t", [[0, 1, 0, 1, 1, 0], np.array([[0.0], [1], [0], [1], [1], [0]]), np.array([0, 1] * 3) == 1])
def test_labels(t):
    data = ArrayDataset(X, t, classes=["no", "yes"])
    assert data.labels.dtype == np.int64 and data.labels.tolist() == np.ravel(t).astype(int).tolist()
    assert data.classes == ("no", "yes") and len(data) == 6 and data.shape == (4, 5, 3)


@pytest.mark.parametrize("t, error, sentence", [
    ([0, 1, 2, 0, 1, 2], InputError, r"expected classes 0 to 1 \(no, yes\) in t, got 2 at \[2\]"),
    ([0, 1, -1, 0, 1, 1], InputError, r"got -1 at \[2\]"),
    ([0, 1, 0.5, 0, 1, 1], InputError, r"got 0.5 at \[2\]"),
    ([0, 1, np.nan, 0, 1, 1], InputError, r"got nan at \[2\]"),
    ([0, 1], ShapeError, r"expected t of shape \(6,\), one class for each sample, got \(2,\)"),
    (np.eye(6), ShapeError, r"got \(6, 6\). If its rows are one-hot, try t.argmax\(axis=1\)"),
    (["no", "yes"] * 3, DTypeError, "t must hold real numbers, got dtype <U3"),
])
def test_labels_that_cannot_be_used(t, error, sentence):
    with pytest.raises(error, match="ArrayDataset: .*" + sentence):
        ArrayDataset(X, t, classes=["no", "yes"])
    with pytest.raises(InputError, match=r"expected whole numbers from 0 in t, got -1 at \[0\]"):
        ArrayDataset(X, [-1] * 6)


def test_arrays_can_be_augmented():
    data = ArrayDataset(X, augmentation=Augmentation.honest())
    samples, passes = np.array([3, 1]), np.array([0, 4])
    np.testing.assert_array_equal(data.batch(samples, passes, seed=9),
                                  Augmentation.honest().apply(X[[3, 1]], 9, passes, samples))
    np.testing.assert_array_equal(data.batch(samples), X[[3, 1]])


# ---- Images ----------------------------------------------------------------------------------------------------------

def test_augmentation_is_drawn_by_pass_and_sample(files):
    manifest = Manifest("/", files, np.arange(30) % 2, ["normal", "covid"])
    plain, augmented = manifest.open(), manifest.augment(Augmentation.honest()).open()
    samples, passes = np.array([7, 2, 7]), np.array([0, 0, 1])
    x = augmented.batch(samples, passes, seed=5)
    stored = np.stack([resize(decode(files[i]), Preprocessing()) for i in samples])
    np.testing.assert_array_equal(x, Augmentation.honest().apply(stored, 5, passes, samples))
    np.testing.assert_array_equal(x[1:2], augmented.batch(samples[1:2], passes[1:2], seed=5))   # whatever the batch
    assert (x[0] != x[2]).any()
    np.testing.assert_array_equal(augmented.batch(samples), plain.batch(samples, passes, seed=5))


def test_open_dataset_accepts_arrays_files_and_manifests(files):
    how = Preprocessing()
    data = open_dataset(files, how)
    assert isinstance(data, ImageDataset) and data.names == files and data.labels is None and data.classes is None
    assert open_dataset(data) is data
    np.testing.assert_array_equal(open_dataset(files[4], how).batch(np.array([0])), data.batch(np.array([4])))
    manifest = Manifest("/", files, np.arange(30) % 2, ["normal", "covid"])
    assert open_dataset(manifest, how).labels.tolist() == [0, 1] * 15
    array = open_dataset(X, how, ["a", "b"])
    assert isinstance(array, ArrayDataset) and array.preprocessing is None and array.digests is None
    with pytest.raises(InputError, match="predict: this network does not take images of 1 or 3 channels; give it an array"):
        open_dataset(files, None, owner="predict")
    with pytest.raises(ShapeError, match="predict: expected x of shape"):
        open_dataset([], how, owner="predict")
    with pytest.raises(ManifestError, match="images that cannot be read: 1 problem\n  none.png: cannot be read"):
        open_dataset(["none.png"], how)


def test_files_that_cannot_be_read_are_left_out_where_they_are_asked_for(tmp_path, files):
    (tmp_path / "bad.png").write_bytes(b"no image")
    unreadable = {}
    named = ["none.png", files[3], str(tmp_path / "bad.png"), files[0], files[3]]
    data = open_dataset(named, Preprocessing(), unreadable=unreadable)
    assert data.names == [files[3], files[0], files[3]] and sorted(unreadable) == [0, 2]
    assert "none.png: cannot be read" in unreadable[0] and "bad.png: PNG, JPEG" in unreadable[2]
    np.testing.assert_array_equal(data.batch(slice(0, 3)), open_dataset(files, Preprocessing()).batch(np.array([3, 0, 3])))
    assert open_dataset(named[:1], Preprocessing(), unreadable={}) is None


def test_folders_and_patterns_stand_for_their_images(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b.png", "a.JPG", "deep/er/c.tif", "deep/.hidden.png", ".git/d.png", "notes.txt", "x[1].png"):
        Path("scans", name).parent.mkdir(parents=True, exist_ok=True)
        Path("scans", name).touch()
    inside = [os.path.join("scans", name) for name in ("a.JPG", "b.png", os.path.join("deep", "er", "c.tif"), "x[1].png")]
    assert image_files(["scans"]) == inside
    assert image_files(["scans/*.png", "none.png", "scans/a.JPG"]) == [inside[1], inside[3], "none.png", "scans/a.JPG"]
    assert image_files([Path("scans/x[1].png")]) == ["scans/x[1].png"]          # a name that looks like a pattern
    assert image_files(["scans/**/*.tif", "scans/de*"]) == [inside[2]] * 2
    for wrong in ("scans/*.bmp", "scans/q?.png"):
        with pytest.raises(InputError, match=re.escape(wrong)):
            image_files(["scans/b.png", wrong])
    Path("empty").mkdir()
    with pytest.raises(InputError, match="empty: there is no image in this folder"):
        image_files(["empty"])
    with pytest.warns(ImageWarning, match="empty: there is no image in this folder"):       # not the loss of the others
        assert image_files(["empty", "none.png"]) == ["none.png"]


def test_what_a_folder_holds_beside_images_is_said(tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    (folder / "a.nii").write_bytes(b"")
    with pytest.raises(InputError, match="there is no image in this folder .* Left out: 1 NIfTI file"):
        image_files([folder])
    (folder / "b.png").touch()
    (tmp_path / "secret.png").touch()
    (folder / "c.png").symlink_to(tmp_path / "secret.png")
    (folder / "d.png").symlink_to(folder / "b.png")
    with pytest.warns(ImageWarning, match="scans: left out: 1 link to files outside of it.* 1 NIfTI file"):
        assert image_files([folder]) == [str(folder / "b.png"), str(folder / "d.png")]
    assert image_files([folder / "c.png"]) == [str(folder / "c.png")]           # named by the user


# ---- The schedule ----------------------------------------------------------------------------------------------------

def test_an_epoch_without_steps_is_one_pass():
    batches = list(schedule(10, 4, epoch=3, steps=None, seed=1))
    assert [len(samples) for samples, _ in batches] == [4, 4, 2]
    assert sorted(np.concatenate([samples for samples, _ in batches])) == list(range(10))
    assert {int(p) for _, passes in batches for p in passes} == {3}
    orders = [tuple(np.concatenate([s for s, _ in schedule(10, 4, epoch, None, 1)])) for epoch in range(5)]
    assert len(set(orders)) == 5


@given(n=st.integers(1, 40), batch_size=st.integers(1, 50), steps=st.integers(1, 8), seed=st.integers(0, 2**64 - 1))
def test_with_steps_the_stream_runs_on(n, batch_size, steps, seed):
    epochs = [list(schedule(n, batch_size, epoch, steps, seed)) for epoch in range(3)]
    batches = sum(epochs, [])
    assert all(len(samples) == len(passes) == batch_size for samples, passes in batches) and len(batches) == 3 * steps
    samples = np.concatenate([samples for samples, _ in batches])
    passes = np.concatenate([passes for _, passes in batches])
    np.testing.assert_array_equal(passes, np.arange(len(samples)) // n)
    for number in range(len(samples) // n):
        assert sorted(samples[passes == number]) == list(range(n))
    for start in range(steps + 1):      # taken up again at any step
        rest = list(schedule(n, batch_size, 1, steps, seed, start=start))
        assert len(rest) == steps - start
        for (a, b), (c, d) in zip(rest, epochs[1][start:]):
            np.testing.assert_array_equal(a, c)
            np.testing.assert_array_equal(b, d)


def test_without_shuffling_the_order_is_that_of_the_numbers():
    assert [s.tolist() for s, _ in schedule(5, 2, 0, None, 1, shuffle=False)] == [[0, 1], [2, 3], [4]]
    assert [s.tolist() for s, _ in schedule(5, 3, 1, 2, 1, shuffle=False)] == [[1, 2, 3], [4, 0, 1]]


# ---- Loading ---------------------------------------------------------------------------------------------------------

class Slow:
    """A dataset whose batches take unequal times, and which may fail."""

    def __init__(self, fail_at=None):
        self.fail_at, self.lock, self.threads, self.started = fail_at, threading.Lock(), set(), 0

    def batch(self, samples, passes, seed):
        with self.lock:
            self.started += 1
            self.threads.add(threading.current_thread())
        time.sleep(0.002 * (samples[0] % 3))
        if self.fail_at in samples:
            raise ImageError("the disk is gone.")
        return samples * 10.0 + passes + seed


@pytest.mark.parametrize("workers", [0, 1, 2, 4])
def test_batches_come_in_order_from_any_number_of_workers(workers):
    data = Slow()
    loaded = list(load(data, schedule(9, 4, 0, 20, 7), 0.5, workers))
    expected = list(schedule(9, 4, 0, 20, 7))
    assert len(loaded) == 20
    for (samples, x), (wanted, passes) in zip(loaded, expected):
        np.testing.assert_array_equal(samples, wanted)
        np.testing.assert_array_equal(x, wanted * 10.0 + passes + 0.5)
    assert (threading.current_thread() in data.threads) == (workers == 0)
    assert not any(thread.is_alive() for thread in data.threads - {threading.current_thread()})


@pytest.mark.parametrize("workers", [0, 3])
def test_an_error_arrives_in_its_step(workers):
    data, seen = Slow(fail_at=40), []
    with pytest.raises(ImageError, match="the disk is gone"):
        for samples, _ in load(data, schedule(100, 4, 0, None, 1, shuffle=False), 0, workers):
            seen.append(samples[0])
    assert seen == list(range(0, 40, 4))


def test_only_so_much_is_prepared_ahead_and_closing_ends_it():
    data = Slow()
    batches = load(data, schedule(1000, 1, 0, None, 1), 0, 2)
    assert data.started == 0
    next(batches)
    time.sleep(0.05)
    assert data.started <= 2 * 2 + 1
    batches.close()
    assert not any(thread.is_alive() for thread in data.threads)


def test_images_in_memory_are_prepared_from_the_originals():
    given = np.arange(3 * 16 * 16, dtype=np.uint32).astype(np.uint8).reshape(3, 16, 16)
    how = Preprocessing(16, 16, border=1 / 8, equalize=True)
    manifest = Manifest.from_arrays(given, [0, 1, 0], ("normal", "covid")).subset([2, 0])
    for before in (Preprocessing(16, 16), Preprocessing(8, 8), how):
        data = manifest.prepared(before).open(how)
        np.testing.assert_array_equal(data.batch(np.arange(2))[..., 0] * 255,
                                      np.stack([resize(given[i], how) for i in (2, 0)]))
    plain = manifest.prepared(how).open(Preprocessing(16, 16)).batch(np.arange(2))
    np.testing.assert_array_equal(plain[..., 0] * 255, given[[2, 0]])


def test_training_does_not_depend_on_workers(files):
    """The same bits of weights with 0, 1 and 4 threads that decode and prepare."""
    from minicnn import Adam, Dense, Flatten, Sigmoid
    weights = []
    for workers in 0, 1, 4:
        manifest = Manifest("/", files, np.arange(30) % 2, ["normal", "covid"]).augment(Augmentation.honest())
        model = Sequential([Flatten(), Dense(1), Sigmoid()], input_shape=(16, 16, 1), seed=3)
        model.compile(Adam(), loss="binary_crossentropy")
        model.fit(manifest.open(Preprocessing(16, 16, 1), workers=workers), epochs=2, batch_size=8, steps_per_epoch=5,
                  workers=workers, progress=False)
        weights.append(b"".join(array.tobytes() for array in model.get_weights()))
    assert len(set(weights)) == 1
