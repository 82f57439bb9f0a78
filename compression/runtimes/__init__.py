"""Runtimes: what runs a model, to time it and to see what it answers. One file each; this registers them."""

from compression.runtimes.base import Program, Runtime, Session, Subject, predict, runtimes
from compression.runtimes.onnx_runtime import ONNX_RUNTIME
from compression.runtimes.pytorch import PYTORCH

__all__ = ["ONNX_RUNTIME", "PYTORCH", "Program", "Runtime", "Session", "Subject", "predict", "runtimes"]
