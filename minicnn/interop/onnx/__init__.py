"""ONNX: a network as a file that ONNX Runtime, OpenVINO and most other engines run; and such files as networks.

    from minicnn.interop import onnx
    onnx.save(model, "model.onnx")
    model = onnx.load("model.onnx")

ONNX computes on images (N, C, H, W), minicnn on (N, H, W, C); the weights of Conv are (F, C, KH, KW) and (KH, KW, C, F). Source:
the operators' specification (Operators.md of ONNX 1.23). Files are written in opset 17, IR version 8, which engines since 2022
read; opsets from 7 on are read.
"""

from minicnn.interop.onnx.reader import load
from minicnn.interop.onnx.writer import save

__all__ = ["load", "save"]
