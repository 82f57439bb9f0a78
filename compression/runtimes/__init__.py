"""Runtimes: what runs a model, to time it and to see what it answers. One file each; this registers them."""

from compression.runtimes.base import Program, Runtime, Session, Subject, predict, runtimes
from compression.runtimes.onnx_runtime import ONNX_RUNTIME
from compression.runtimes.openvino import OPENVINO
from compression.runtimes.pytorch import PYTORCH
from compression.runtimes.sparse import SPARSE
from compression.runtimes.torch_compiled import TORCH_COMPILED

__all__ = [
    "ONNX_RUNTIME",
    "OPENVINO",
    "PYTORCH",
    "SPARSE",
    "TORCH_COMPILED",
    "Program",
    "Runtime",
    "Session",
    "Subject",
    "predict",
    "runtimes",
]
