"""ONNX: networks of other tools as models, and models for other tools."""

from minicnn.interop.onnx.reader import load

__all__ = ["load"]
