"""Out of minimix: a trained model as an ONNX file, for whatever runs those."""

from .onnx import OPSET as OPSET
from .onnx import to_onnx as to_onnx
