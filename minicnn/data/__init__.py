"""From files to batches: manifests, splits, decoding, augmentation; synthetic radiographs. Imported at first use."""

import importlib

_HOME = {"Manifest": "manifest", "Augmentation": "augmentation", "Preprocessing": "preprocessing",
         "ImageDataset": "loader", "ArrayDataset": "loader"}

__all__ = [*_HOME]


def __getattr__(name):
    if name in _HOME:
        value = getattr(importlib.import_module(f"minicnn.data.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'minicnn.data' has no attribute {name!r}")
