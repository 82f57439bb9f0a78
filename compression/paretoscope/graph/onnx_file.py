"""Reads an ONNX file of anybody: what lies outside its folder is never opened, and what it declares is measured."""

import math
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import onnx
from onnx import numpy_helper

from paretoscope.base.errors import ModelError
from paretoscope.base.text import listed, reason
from paretoscope.graph.layers import LARGEST

# What a file may have, and all its tensors together. Chosen by hand.
MOST_NODES = 100_000
MOST_NUMBERS = 1 << 31
OLDEST = 9
_LIMIT = 2**31 - 1  # of a protobuf message
_QUANTIZED = {
    *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger"),
    "MatMulInteger",
}
_BRANCHES = {"If", "Loop", "Scan", "SequenceMap"}
_HALF = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)


def read(file: bytes | Path) -> onnx.ModelProto:
    """The model, its external data in it; raises ModelError.

    External data must be files beside the file itself: no absolute paths, no folders above it, no links out of it; a
    file that is given as bytes must hold all its data. Quantized files, branches and loops, operators of other domains
    and half-precision weights are refused by name.
    """
    name = file.name if isinstance(file, Path) else "the file"
    try:
        data = file.read_bytes() if isinstance(file, Path) else file
        if len(data) > _LIMIT:
            raise _refused("have at most 2 GB beside its external data", "Use torch.export's .pt2.")
        model: onnx.ModelProto = onnx.ModelProto.FromString(data)
        _expect_plain(model)
        for tensor in _tensors(model):
            _attach(tensor, file.resolve().parent if isinstance(file, Path) else None)
            _expect_tensor(tensor)
        onnx.checker.check_model(model)
    except ModelError:
        raise
    except Exception as error:  # protobuf's, the checker's and the file's errors have no common base
        raise ModelError(f"{name} must be an ONNX file; {reason(error, 300)}. Export it again.") from None
    return model


def array(tensor: onnx.TensorProto) -> np.ndarray:
    """The numbers of a tensor that `read` has let in."""
    return np.asarray(numpy_helper.to_array(tensor))


def opset_of(model: onnx.ModelProto) -> int:
    return max((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), default=0)


def _expect_plain(model: onnx.ModelProto) -> None:
    graph, opset = model.graph, opset_of(model)
    if not graph.node or not graph.output:
        raise _refused("have nodes and outputs", "It is no ONNX model, or an empty one; export it again.")
    if opset < OLDEST:
        raise _refused(f"be of opset {OLDEST} or later; this one is of {opset}", "Export it again with a newer opset.")
    if len(graph.node) > MOST_NODES:
        raise _refused(f"have at most {MOST_NODES:,} nodes; got {len(graph.node):,}", "Export a smaller network.")
    kinds = {node.op_type for node in graph.node}
    if found := sorted(kinds & _QUANTIZED):
        raise ModelError(
            "a network must have its weights as floats to be compressed; this file is quantized already "
            f"({listed(found)}). Export the network that it was made from."
        )
    if domains := sorted({node.domain for node in graph.node} - {"", "ai.onnx"}):
        first = next(node for node in graph.node if node.domain == domains[0])
        raise ModelError(
            f"the operators of an ONNX file must be ONNX's own; this one has some of {listed(domains[:3])}, such as "
            f"{first.op_type} at {first.name or first.output[0]}. Export it without them."
        )
    for node in graph.node:
        if node.op_type in _BRANCHES or any(a.HasField("g") or a.graphs for a in node.attribute):
            raise ModelError(
                f"a network must do the same for every sample; {node.op_type} at {node.name or node.output[0]} of this "
                "file is a branch or a loop. Export the network without it, or from PyTorch with torch.export."
            )
    if model.functions or graph.sparse_initializer:
        what = "functions of its own" if model.functions else "sparse weights"
        raise _refused(
            f"consist of nodes and dense weights; it has {what}", "Inline them (onnx.inliner), or export again."
        )


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    yield from model.graph.initializer
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _attach(tensor: onnx.TensorProto, folder: Path | None) -> None:
    """Read a tensor's external data into it."""
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        if tensor.external_data:
            raise _refused(f"say where its data lies; {tensor.name} says it in two ways", "Export it again.")
        return
    entries = {each.key: each.value for each in tensor.external_data}
    location = entries.get("location", "")
    if folder is None:
        raise ModelError(
            f"an ONNX file that is given alone must hold all its data; that of {tensor.name} lies in {location!r}. "
            "Give its path, with the data beside it, or save it with save_as_external_data=False."
        )
    plain = PurePosixPath(location)
    place = (folder / location).resolve()
    strange = plain.is_absolute() or ".." in plain.parts or PureWindowsPath(location).drive or "\\" in location
    if not location or strange or folder not in place.parents:
        raise ModelError(
            f"external data must lie in the file's own folder; {tensor.name} names {location!r}. "
            "Save the model with its data beside it."
        )
    if not place.is_file():
        raise ModelError(f"external data must lie beside the file; {location} is missing. Copy it there.")
    size, offset = place.stat().st_size, int(entries.get("offset") or 0)
    length = int(entries["length"]) if entries.get("length") else size - offset
    if not 0 <= offset <= offset + length <= size:
        raise _refused(f"have its data whole; {location} ends before {tensor.name} does", "Copy it again.")
    with place.open("rb") as opened:
        opened.seek(offset)
        tensor.raw_data = opened.read(length)
    tensor.data_location = onnx.TensorProto.DEFAULT
    del tensor.external_data[:]


def _expect_tensor(tensor: onnx.TensorProto) -> None:
    dims = tuple(tensor.dims)
    if len(dims) > 8 or any(not 0 <= n <= 2**40 for n in dims) or math.prod(dims) > MOST_NUMBERS:
        raise _refused(f"have tensors of up to eight axes; {tensor.name} has {str(dims)[:80]}", "Export it again.")
    if tensor.data_type in _HALF and math.prod(dims) > 1:
        raise ModelError(
            f"the weights of a network must be float32; {tensor.name} is of half precision. "
            "Export the network that it was made from, in float32."
        )
    if tensor.data_type == onnx.TensorProto.STRING:
        raise _refused(f"have tensors of numbers; {tensor.name} holds texts", "Export the network without them.")
    if any(n > LARGEST for n in dims) and len(dims) > 1:
        raise _refused(f"have axes of up to {LARGEST:,}; {tensor.name} has {dims}", "Export it again.")


def _refused(rule: str, remedy: str) -> ModelError:
    return ModelError(f"an ONNX file must {rule}. {remedy}")
