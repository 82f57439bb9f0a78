"""Libraries that would send something home, imported with that turned off. Nobody else imports them.

ONNX Runtime writes a device id into the user's cache folder and looks up its maker's server when a first session is
made; it reads ORT_DISABLE_TELEMETRY when its library is loaded, so that is set before. OpenVINO's Python package writes
a client id into ~/intel and reports its own import, unless the package openvino_telemetry cannot be imported; it then
uses the stub that it ships.
"""

import os
import sys
from types import ModuleType

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime

__all__ = ["onnxruntime", "openvino"]


def openvino() -> ModuleType:
    """The package openvino, which is large and an extra; raises ImportError where it is not installed."""
    silence_openvino()
    import openvino

    library: ModuleType = openvino
    return library


def silence_openvino() -> None:
    """Keep OpenVINO from reporting its use; for code that imports it or its tools by itself."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # Python's way to say: not importable
