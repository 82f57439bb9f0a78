"""Conversion: a compressed model in the formats that people deploy, each checked in its own runtime before it is given
away. One file each; this registers them, in the order in which a person sees them."""

from compression.convert.artefact import ARTEFACT
from compression.convert.base import Check, Conversion, Format, Source, Verification, differing, formats, stem, zipped
from compression.convert.bundle import BUNDLE
from compression.convert.config import CONFIG
from compression.convert.measured import figures_of, without_figures
from compression.convert.onnx import ONNX, ONNX_INT8
from compression.convert.openvino import OPENVINO, OPENVINO_INT8
from compression.convert.tflite import TFLITE
from compression.convert.torch_export import TORCH_EXPORT
from compression.convert.verify import Checked, convert, produce, verify
from compression.convert.weights import SAFETENSORS, SAFETENSORS_CODES

__all__ = [
    "Check",
    "Checked",
    "Conversion",
    "Format",
    "Source",
    "Verification",
    "convert",
    "differing",
    "figures_of",
    "formats",
    "produce",
    "stem",
    "verify",
    "without_figures",
    "zipped",
]

for _format in (
    ARTEFACT,
    BUNDLE,
    CONFIG,
    SAFETENSORS,
    SAFETENSORS_CODES,
    ONNX,
    ONNX_INT8,
    TORCH_EXPORT,
    OPENVINO,
    OPENVINO_INT8,
    TFLITE,
):
    formats.add(_format)
