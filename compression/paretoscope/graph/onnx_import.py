"""From an ONNX file to a module that computes what it says, to be imported as any program of PyTorch is.

Weights are parameters under the names that the file gives them, or the names of the nodes that read them. Sizes that a
graph computes with (Shape, then Gather, Concat, Reshape) are numbers here, not tensors, so that a batch of any size
stays one.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

from paretoscope.base.errors import ModelError
from paretoscope.base.text import listed
from paretoscope.graph.onnx_calls import RULES, Call

QUANTIZED = {"QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"}
# Inputs of these that are weights, by place, and what they are called in a layer.
_WEIGHTS: dict[str, tuple[str, ...]] = {
    "Conv": ("", "weight", "bias"),
    "ConvTranspose": ("", "weight", "bias"),
    "Gemm": ("", "weight", "bias"),
    "MatMul": ("", "weight"),
    "BatchNormalization": ("", "weight", "bias", "running_mean", "running_var"),
    "InstanceNormalization": ("", "weight", "bias"),
    "LayerNormalization": ("", "weight", "bias"),
    "PRelu": ("", "weight"),
    "Gather": ("weight",),
}
_BUFFERS = ("running_mean", "running_var")

# Operators whose inputs after the first are numbers.
_BY_NUMBERS = {
    *("Reshape", "Expand", "Tile", "Slice", "Pad", "Resize", "Upsample", "Split", "Unsqueeze", "Squeeze", "Clip"),
    *("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceSumSquare", "ReduceProd"),
}

# A list of sizes, as numbers that may depend on the batch.
Sizes = np.ndarray


def read(path: Path) -> onnx.ModelProto:
    """The model of a file, with external data from its own folder alone; raises ModelError."""
    try:
        model = onnx.load(path, load_external_data=False)
        folder = path.resolve().parent
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    place = (folder / entry.value).resolve()
                    if folder not in place.parents:
                        raise ModelError(
                            f"external data must lie in the file's own folder; {path.name} names {entry.value!r}. "
                            "Save the model with its data beside it."
                        )
                    if not place.is_file():
                        raise ModelError(
                            f"external data must lie beside the file; {entry.value} is missing. Copy it there."
                        )
        onnx.external_data_helper.load_external_data_for_model(model, str(folder))
        onnx.checker.check_model(model)
    except ModelError:
        raise
    except Exception as error:  # protobuf's, the checker's and the file's errors have no common base
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"{path.name} must be an ONNX file; {reason}. Export it again.") from None
    return model


class OnnxNetwork(nn.Module):
    """batch: the one that the file fixes, None where any may come. sizes: the shapes of one sample, by input."""

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__()
        _expect_floats(model)
        self._opset = next(each.version for each in model.opset_import if each.domain in ("", "ai.onnx"))
        graph = model.graph
        arrays = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
        self.inputs = [each for each in graph.input if each.name not in arrays]
        self.outputs = [each.name for each in graph.output]
        self._nodes = list(graph.node)
        for node in self._nodes:
            if node.op_type == "Constant":
                arrays[node.output[0]] = _constant(node)
            elif node.op_type == "ConstantOfShape" and node.input[0] in arrays:
                # Published graphs without their weights make them so.
                arrays[node.output[0]] = np.full(arrays[node.input[0]], *_filled(node))
        self._nodes = [node for node in self._nodes if node.output[0] not in arrays]
        _expect_known(self._nodes)
        self._names: dict[str, str] = {}
        self._arrays: dict[str, Tensor] = {}
        self._biases: dict[str, str] = {}
        self._numbers: dict[str, _Numbers] = {}
        self._skipped: set[str] = set()
        self._linear(arrays)
        self._register(arrays)
        self._calls = [self._prepared(node) for node in self._nodes]

    # What is a weight of what.

    def _linear(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Find the additions that are the bias of a product with a matrix."""
        readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self._nodes:
            for name in node.input:
                readers.setdefault(name, []).append(node)
        for node in self._nodes:
            if node.op_type != "MatMul" or node.input[1] not in arrays or arrays[node.input[1]].ndim != 2:
                continue
            following = readers.get(node.output[0], [])
            if len(following) == 1 and following[0].op_type == "Add" and node.output[0] not in self.outputs:
                other = [name for name in following[0].input if name != node.output[0]]
                width = arrays[node.input[1]].shape[1]
                if len(other) == 1 and other[0] in arrays and arrays[other[0]].shape == (width,):
                    self._biases[node.output[0]] = other[0]
                    self._skipped.add(following[0].output[0])

    def _register(self, arrays: Mapping[str, np.ndarray]) -> None:
        taken: set[str] = set()
        transposed: set[str] = set()
        for node in self._nodes:
            leaves = _WEIGHTS.get(node.op_type, ())
            inputs = list(node.input)
            if node.output[0] in self._biases:
                inputs, leaves = [*inputs[:2], self._biases[node.output[0]]], ("", "weight", "bias")
            weights = {
                leaf: name
                for leaf, name in zip(leaves, inputs, strict=False)
                if leaf and name in arrays and arrays[name].dtype in (np.float32, np.float64, np.float16)
            }
            if not weights or "weight" not in weights or (node.op_type == "MatMul" and arrays[inputs[1]].ndim != 2):
                continue
            if node.op_type == "Gather" and arrays[weights["weight"]].ndim != 2:
                continue
            if weights["weight"] in self._names:
                continue
            path = _free(_path_of(node, weights["weight"]), taken)
            for leaf, name in weights.items():
                if name in self._names:
                    continue
                array = np.asarray(arrays[name], np.float32)
                turn = leaf == "weight" and (
                    node.op_type == "MatMul" or (node.op_type == "Gemm" and not _attribute(node, "transB", 0))
                )
                if turn:
                    transposed.add(name)
                    array = array.T
                self._names[name] = f"{path}.{leaf}"
                _put(self, f"{path}.{leaf}", torch.from_numpy(array.copy()), buffer=leaf in _BUFFERS)
        self._transposed = transposed
        for name, array in arrays.items():
            if name not in self._names:
                tensor = torch.from_numpy(np.array(array))
                if tensor.is_floating_point() and tensor.numel() > 1 and tensor.dtype != torch.float32:
                    tensor = tensor.float()
                if tensor.is_floating_point() and tensor.numel() > 1:
                    path = _free(_sanitized(name), taken)
                    self._names[name] = path
                    _put(self, path, tensor, buffer=False)
                else:
                    self._arrays[name] = tensor
                    if tensor.dtype == torch.int64 or tensor.numel() <= 8:
                        # Numbers that shape others are no tensors: a tracer would make values of them.
                        self._numbers[name] = _Numbers(np.atleast_1d(array).reshape(-1).tolist())

    def _prepared(self, node: onnx.NodeProto) -> tuple[onnx.NodeProto, Call, Callable[..., Any]]:
        attributes = {}
        for each in node.attribute:
            value = helper.get_attribute_value(each)
            if isinstance(value, bytes):
                value = value.decode()
            elif isinstance(value, onnx.TensorProto):
                value = numpy_helper.to_array(value)
            elif isinstance(value, Sequence) and not isinstance(value, str):
                value = [each.decode() if isinstance(each, bytes) else each for each in value]
            attributes[each.name] = value
        where = f"{node.op_type} {node.name or node.output[0]}"
        return node, Call(attributes, self._opset, len(node.output), where), RULES[node.op_type]

    # Running it.

    def forward(self, *inputs: Tensor) -> Any:
        values: dict[str, Any] = {each.name: x for each, x in zip(self.inputs, inputs, strict=True)}
        batch = inputs[0].shape[0]
        for node, call, function in self._calls:
            if node.output[0] in self._skipped:
                source = next(name for name in node.input if name in self._biases)
                values[node.output[0]] = values[source]
                continue
            given = [self._value(name, values) for name in node.input]
            if node.op_type in _BY_NUMBERS:
                given = [
                    given[0],
                    *(self._numbers.get(name, each) for name, each in zip(node.input[1:], given[1:], strict=True)),
                ]
            result = self._run(node, call, function, given, batch)
            outputs = result if isinstance(result, tuple) else (result,)
            values.update(zip(node.output, outputs, strict=False))
        results = [values[name] if name in values else self._value(name, values) for name in self.outputs]
        return results[0] if len(results) == 1 else tuple(results)

    def _run(self, node: onnx.NodeProto, call: Call, function: Callable[..., Any], given: list[Any], batch: int) -> Any:
        if node.op_type == "Shape":
            return np.array(list(given[0].shape)[call.get("start", 0) : call.get("end")], dtype=object)
        if any(isinstance(each, Sizes) for each in given):
            return _with_sizes(node, call, function, given)
        if node.op_type in ("MatMul", "Gemm") and node.input[1] in self._names:
            return self._product(node, call, given)
        if node.op_type == "Reshape":
            given[1] = _any_batch(given[0], given[1].tolist(), batch)
        return function(call, *given)

    def _product(self, node: onnx.NodeProto, call: Call, given: list[Any]) -> Tensor:
        """A product with a weight, which is kept with its outputs in front."""
        x, weight = given[0], given[1]
        bias = self._biases.get(node.output[0])
        if node.op_type == "MatMul":
            rows = weight if node.input[1] in self._transposed else weight.t()
            return F.linear(x, rows, None if bias is None else self._value(bias, {}))
        rows = weight if (node.input[1] in self._transposed) != bool(call.get("transB", 0)) else weight.t()
        x = x.t() if call.get("transA", 0) else x
        plain = call.get("alpha", 1.0) == 1.0 and call.get("beta", 1.0) == 1.0
        third = given[2] if len(given) > 2 else None
        if plain and (third is None or third.ndim == 1):
            return F.linear(x, rows, third)
        result = call.get("alpha", 1.0) * F.linear(x, rows)
        return result if third is None else result + call.get("beta", 1.0) * third

    def _value(self, name: str, values: Mapping[str, Any]) -> Any:
        if not name:
            return None
        if name in values:
            return values[name]
        if name in self._arrays:
            return self._arrays[name]
        path, _, leaf = self._names[name].rpartition(".")
        return getattr(self.get_submodule(path), leaf)


def _with_sizes(node: onnx.NodeProto, call: Call, function: Callable[..., Any], given: list[Any]) -> Any:
    """A node on sizes: numbers in, numbers out; or a tensor that is shaped by them."""
    kind = node.op_type
    if isinstance(given[0], Tensor) and kind in ("Reshape", "Expand", "Tile", "Slice", "Pad", "Resize", "Split"):
        if kind in ("Reshape", "Expand"):
            return function(call, given[0], list(given[1].reshape(-1)))
        rest = [list(each.reshape(-1)) if isinstance(each, Sizes) else each for each in given[1:]]
        if kind == "Tile":
            return given[0].repeat(rest[0])
        if kind == "Resize":
            return F.interpolate(
                given[0], rest[2][2:], None, "nearest" if call.get("mode") == "nearest" else "bilinear"
            )
        return function(call, given[0], *(_Numbers(each) if isinstance(each, list) else each for each in rest))
    arrays = [_as_sizes(each) for each in given]
    axes = [int(each) for each in arrays[1].reshape(-1)] if len(arrays) > 1 and arrays[1] is not None else None
    match kind:
        case "Gather":
            return np.take(arrays[0], arrays[1].astype(np.int64), call.get("axis", 0))
        case "Concat":
            return np.concatenate([np.atleast_1d(each) for each in arrays], call.get("axis", 0))
        case "Unsqueeze":
            return np.asarray(np.expand_dims(arrays[0], tuple(axes or call.get("axes"))), dtype=object)
        case "Squeeze":
            chosen = axes or call.get("axes")
            return np.asarray(np.squeeze(arrays[0], tuple(chosen) if chosen else None), dtype=object)
        case "Cast" | "Identity":
            return arrays[0]
        case "Add":
            return np.asarray(arrays[0] + arrays[1], dtype=object)
        case "Sub":
            return np.asarray(arrays[0] - arrays[1], dtype=object)
        case "Mul":
            return np.asarray(arrays[0] * arrays[1], dtype=object)
        case "Div":
            return np.asarray(arrays[0] // arrays[1], dtype=object)
        case "Slice":
            starts, ends = (int(each.reshape(-1)[0]) for each in arrays[1:3])
            step = int(arrays[4].reshape(-1)[0]) if len(arrays) > 4 and arrays[4] is not None else 1
            return arrays[0][starts : min(ends, 2**31) : step]
        case "ConstantOfShape":
            return function(call, list(arrays[0].reshape(-1)))
        case "Reshape":
            return arrays[0].reshape([int(each) for each in arrays[1].reshape(-1)])
        case "ReduceProd":
            return np.asarray(np.prod(arrays[0]), dtype=object)
    raise call.refuse("sizes among its inputs")


class _Numbers(list):
    """A list of numbers where rules expect a tensor of them."""

    def reshape(self, *shape: int) -> "_Numbers":
        return self

    def tolist(self) -> list[int]:
        return list(self)

    def numel(self) -> int:
        return len(self)

    def __float__(self) -> float:
        (number,) = self
        return float(number)


def _as_sizes(value: Any) -> Any:
    if value is None or isinstance(value, Sizes):
        return value
    return np.array(value.tolist(), dtype=object) if isinstance(value, Tensor) else np.array(list(value), dtype=object)


def _any_batch(x: Tensor, shape: list[int], batch: Any) -> list[Any]:
    """The shape of a reshape for any batch, where a file fixes the batch to one in front of all other axes."""
    if -1 in shape or not shape or shape[0] != 1 or not x.ndim:
        return shape
    return [batch, *shape[1:]]


def _expect_floats(model: onnx.ModelProto) -> None:
    found = sorted({node.op_type for node in model.graph.node} & QUANTIZED)
    if found:
        raise ModelError(
            "a network must have its weights as floats to be compressed; this file is quantized already "
            f"({listed(found)}). Export the network that it was made from."
        )
    domains = sorted({node.domain for node in model.graph.node} - {"", "ai.onnx"})
    if domains:
        raise ModelError(
            f"the operators of an ONNX file must be ONNX's own; this one has some of {listed(domains)}. "
            "Export it without them."
        )


def _expect_known(nodes: Sequence[onnx.NodeProto]) -> None:
    for node in nodes:
        if node.op_type not in RULES and node.op_type != "ReduceProd":
            raise ModelError(
                f"the operators of an ONNX file must be known here; {node.op_type} at {node.name or node.output[0]} is "
                "not. Export the network without it, or from PyTorch with torch.export."
            )


def _filled(node: onnx.NodeProto) -> tuple[Any, np.dtype]:
    """What a ConstantOfShape is filled with."""
    value = next((numpy_helper.to_array(a.t) for a in node.attribute if a.name == "value"), np.zeros(1, np.float32))
    return value.reshape(-1)[0], value.dtype


def _constant(node: onnx.NodeProto) -> np.ndarray:
    values = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    if "value" in values:
        return numpy_helper.to_array(values["value"])
    for name, kind in (("value_float", np.float32), ("value_int", np.int64)):
        if name in values or f"{name}s" in values:
            return np.array(values.get(name, values.get(f"{name}s")), kind)
    raise ModelError(f"a constant must be numbers; {node.name or node.output[0]} is not. Export the network again.")


def _attribute(node: onnx.NodeProto, name: str, default: Any) -> Any:
    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def _path_of(node: onnx.NodeProto, weight: str) -> str:
    """The layer's path: the weight's own name where it is one of a state dict, else the node's as PyTorch writes it."""
    if re.fullmatch(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*\.weight", weight):
        return weight.removesuffix(".weight")
    if node.name.startswith("/"):
        path: list[str] = []
        for part in node.name.strip("/").split("/")[:-1]:
            if path and part.startswith(f"{path[-1]}."):
                path[-1] = part
            else:
                path.append(part)
        if path:
            return ".".join(_sanitized(part, dots=True) for part in path)
    if weight.startswith("onnx::") or re.fullmatch(r"\d+", weight):
        return _sanitized(node.name or node.output[0])
    return _sanitized(re.sub(r"[._/](weight|w|W|kernel)(_0)?(:0)?$", "", weight))


def _sanitized(name: str, *, dots: bool = False) -> str:
    kept = re.sub(r"[^A-Za-z0-9_.]" if dots else r"[^A-Za-z0-9_]", "_", name).strip("._")
    return kept or "tensor"


def _free(path: str, taken: set[str]) -> str:
    number, free = 1, path
    while free in taken:
        number += 1
        free = f"{path}_{number}"
    taken.add(free)
    return free


def _put(root: nn.Module, name: str, tensor: Tensor, *, buffer: bool) -> None:
    path, _, leaf = name.rpartition(".")
    module = root
    for part in path.split(".") if path else ():
        if part not in module._modules:
            module.add_module(part, nn.Module())
        module = module.get_submodule(part)
    if buffer:
        module.register_buffer(leaf, tensor)
    else:
        module.register_parameter(leaf, nn.Parameter(tensor))
