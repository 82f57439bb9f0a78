"""Conversion: a compressed model in the formats that people deploy, each checked in its own runtime before it is given
away. One file each; this registers them, in the order in which a person sees them."""

from paretoscope.export.artefact import ARTEFACT
from paretoscope.export.base import Conversion, Format, Source, Verification, differing, formats, stem, zipped
from paretoscope.export.bundle import BUNDLE
from paretoscope.export.config import CONFIG
from paretoscope.export.measured import figures_of, without_figures
from paretoscope.export.onnx import ONNX, ONNX_INT8
from paretoscope.export.openvino import OPENVINO, OPENVINO_INT8
from paretoscope.export.tflite import TFLITE
from paretoscope.export.torch_export import TORCH_EXPORT
from paretoscope.export.verify import Checked, convert, produce, verify
from paretoscope.export.weights import SAFETENSORS, SAFETENSORS_CODES

__all__ = [
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
