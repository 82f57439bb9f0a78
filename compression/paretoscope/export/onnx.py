"""ONNX: the float graph, and the static int8 graph (QDQ) with the codes of the artefact."""

from collections.abc import Mapping

from paretoscope.export.base import Format, Original, close_to_decoded
from paretoscope.export.likeness import alike
from paretoscope.graph.trace import OPSET, inputs_of
from paretoscope.runtimes import Program
from paretoscope.runtimes.integer.onnx_int8 import write_int8
from paretoscope.runtimes.onnx_graph import Arrays, export_any, graph_digest
from paretoscope.runtimes.onnx_runtime import ONNX_RUNTIME

_REFERENCE = "ONNX, onnx.ai"
_RUNTIME = f"ONNX Runtime {ONNX_RUNTIME.version}"


def fp32(original: Original) -> bytes:
    """The float graph of the decoded network."""
    return export_any(original.module, original.inputs, original.samples)[0]


def int8(original: Original) -> bytes:
    """The graph of the integer network, the one that is timed."""
    return write_int8(original.network)


def _run(number_format: str, files: Mapping[str, bytes], original: Original) -> Arrays:
    (data,) = files.values()
    program = Program(ONNX_RUNTIME.name, number_format, graph_digest(data), inputs_of(original.inputs), data)
    session = ONNX_RUNTIME.prepare(program)
    try:
        return original.run(session.run)
    finally:
        session.close()


ONNX = Format(
    name="onnx",
    title="ONNX",
    summary=f"One file, opset {OPSET}, any batch: decoded float weights, for every runtime that reads ONNX.",
    reference=_REFERENCE,
    extension=".onnx",
    runtime=_RUNTIME,
    promise="the decoded network but for rounding",
    write=lambda original: {f"{original.stem}.onnx": fp32(original)},
    run=lambda files, original: _run("fp32", files, original),
    judge=close_to_decoded,
    place=50,
)
ONNX_INT8 = Format(
    name="onnx-int8",
    title="ONNX, int8",
    summary=f"One file, opset {OPSET}, any batch: QDQ with the artefact's own codes, for integer kernels.",
    reference=f"{_REFERENCE}; Jacob et al., Quantization and Training of Neural Networks, 2018",
    extension=".int8.onnx",
    runtime=_RUNTIME,
    promise="at most 0.5 % other predictions, logits off by 0.1 % on average",
    write=lambda original: {f"{original.stem}.int8.onnx": int8(original)},
    run=lambda files, original: _run("int8", files, original),
    # Chosen by hand; what the zoo comes to is printed by: python -m benchmarks.conversions.
    judge=alike(flips=0.005, mean=0.001),
    integer_only=True,
    place=51,
)
FORMATS = (ONNX, ONNX_INT8)
