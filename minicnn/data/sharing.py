"""Datasets for processes that train together: rank 0 reads the data, and the others get what they need of it to make batches.

That is labels, how images are augmented, and the name of the pixel cache, which is opened where the disk is shared. A process on
another disk decodes the images that it meets, and keeps them in a cache that all processes of its machine fill.
"""

import os
from typing import NamedTuple

import numpy as np

from minicnn.core.files import open_flags, private_folder
from minicnn.data.augmentation import Augmentation
from minicnn.data.decoding import quiet
from minicnn.data.loader import ImageDataset
from minicnn.data.pixel_cache import CachePlace, PixelCache, decode_file

__all__ = ["share_dataset"]


class _Images(NamedTuple):
    """What batches need of a Manifest; as of there."""

    labels: np.ndarray
    classes: tuple
    augmentation: Augmentation
    techniques: np.ndarray
    versions: np.ndarray
    seed: int
    names: None = None


def share_dataset(group, dataset=None):
    """Return the ImageDataset that rank 0 of a group gives; other ranks get one that makes the same batches.

    Raises
    ------
    ImageError
        where an image of another disk is not the one that rank 0 has; when it is read
    """
    if group.size == 1:
        return dataset
    told = None
    if group.rank == 0:
        manifest, pixels = dataset.manifest, dataset._pixels
        images = _Images(*(getattr(manifest, name) for name in _Images._fields[:-1]))
        told = images, dataset.preprocessing, pixels.place if isinstance(pixels, PixelCache) else pixels
    images, preprocessing, pixels = group.broadcast(told)
    if isinstance(pixels, CachePlace):
        place = pixels
        pixels = dataset._pixels if group.rank == 0 else PixelCache.reopen(place, preprocessing)
        if group.largest(pixels is None):                   # somebody has another disk
            files = (os.fsencode("\0".join(dataset.manifest.paths)), dataset.digests) if group.rank == 0 else None
            files = group.broadcast(files)
            pixels = _OwnPixels(place, preprocessing, *files) if pixels is None else pixels
    return dataset if group.rank == 0 else ImageDataset(pixels, preprocessing, images)


class _OwnPixels:
    """Images that this process decodes when it first meets them, with the interface of a PixelCache.

    The file of the cache holds n images and then n bytes, each 1 once its image is there. Processes of one machine share it: who
    decodes an image that another is decoding writes the same bytes.
    """

    facts = file_digests = pixel_digests = None

    def __init__(self, place, preprocessing, paths, digests):
        self.preprocessing, self._paths, self._digests = preprocessing, paths, digests
        self._ends = np.append(np.flatnonzero(np.frombuffer(paths, np.uint8) == 0), len(paths))
        self._rows, self._n = place.rows, place.images
        folder, self._file = private_folder("pixels", "pixel cache", "decoding without keeping it"), None
        if folder is not None:
            self._file = os.open(folder / f"{place.check.hex()}.own", open_flags("RDWR", "CREAT", "NOFOLLOW"), 0o600)
            os.ftruncate(self._file, self._n * (int(np.prod(preprocessing.stored_shape)) + 1))

    def __len__(self):
        return len(self._rows)

    def read(self, samples):
        """Return the images with these numbers, or of a slice: ndarray, shape (n,) + stored_shape, uint8."""
        numbers = np.arange(len(self))[samples]
        out = np.empty((len(numbers),) + self.preprocessing.stored_shape, np.uint8)
        for image, number in zip(out, numbers.tolist()):
            row = int(self._rows[number])
            if self._file is not None and os.pread(self._file, 1, self._n * image.nbytes + row) == b"\1":
                os.preadv(self._file, [image.data], row * image.nbytes)
                continue
            image[...] = self._decoded(number)
            if self._file is not None:
                os.pwrite(self._file, image.data, row * image.nbytes)
                os.pwrite(self._file, b"\1", self._n * image.nbytes + row)
        return out

    def _decoded(self, number):
        begin = 0 if number == 0 else int(self._ends[number - 1]) + 1
        path = os.fsdecode(self._paths[begin:int(self._ends[number])])
        with quiet():
            return decode_file(path, bytes(self._digests[number]), self.preprocessing, "it is not the image that rank 0 has under "
                               "this name. Give all machines the same data.")[0]

    def __del__(self, close=os.close):
        if getattr(self, "_file", None) is not None:
            close(self._file)
