"""The operators of ONNX that become layers: {operator: its handler}."""

from minicnn.interop.onnx.arrangement import ARRANGEMENT
from minicnn.interop.onnx.elementwise import ELEMENTWISE
from minicnn.interop.onnx.matrices import MATRICES
from minicnn.interop.onnx.resizing import RESIZING
from minicnn.interop.onnx.windows import WINDOWS

__all__ = ["OPERATORS", "PASSING"]

OPERATORS = WINDOWS | RESIZING | ELEMENTWISE | MATRICES | ARRANGEMENT

# Those that whole pixels, and edges that are to be repeated, pass through.
PASSING = {"Cast", "Identity", "Transpose"}
