"""From an ONNX file to a module that computes what it says, to be imported as any program of PyTorch is.

Weights are parameters under the names that the file gives them, or the names of the nodes that read them. Sizes that a
graph computes with (Shape, then Gather, Concat, Reshape) are numbers here, not tensors, so that a batch of any size
stays one.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper
from torch import Tensor, nn
from torch.nn import functional as F

from paretoscope.base.errors import ModelError
from paretoscope.base.text import reason
from paretoscope.graph import onnx_layers, onnx_moves, onnx_nd, onnx_recurrent
from paretoscope.graph.layers import LARGEST
from paretoscope.graph.onnx_calls import RULES, TYPES, Call
from paretoscope.graph.onnx_file import MOST_NUMBERS, array, opset_of
from paretoscope.graph.onnx_sizes import Numbers, Sizes, array_of, with_sizes
from paretoscope.graph.onnx_strided import Strided

# Their rules are registered when they are imported.
assert onnx_layers and onnx_moves and onnx_nd

# Inputs of these that are weights, by place, and what they are called in a layer.
_WEIGHTS: dict[str, tuple[str, ...]] = {
    "Conv": ("", "weight", "bias"),
    "ConvTranspose": ("", "weight", "bias"),
    "Gemm": ("", "weight", "bias"),
    "MatMul": ("", "weight"),
    "BatchNormalization": ("", "weight", "bias", "running_mean", "running_var"),
    "InstanceNormalization": ("", "weight", "bias"),
    "GroupNormalization": ("", "weight", "bias"),
    "LayerNormalization": ("", "weight", "bias"),
    "PRelu": ("", "weight"),
    "Gather": ("weight",),
}
_BUFFERS = ("running_mean", "running_var")

# Operators whose inputs after the first are numbers.
_BY_NUMBERS = {
    *("Reshape", "Expand", "Tile", "Slice", "Pad", "Resize", "Upsample", "Split", "Unsqueeze", "Squeeze", "Clip"),
    *("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceSumSquare", "ReduceProd", "Trilu"),
    *("CumSum", "ConstantOfShape", "Range"),
}
# What computes with one number beside a tensor.
_ARITHMETIC = ("Add", "Sub", "Mul", "Div", "Pow", "Equal", "Less", "Greater", "GreaterOrEqual", "LessOrEqual")
# What is computed at once where all its inputs are constants, and which of these give the numbers of their input.
_SAME = ("Identity", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten")
_FOLDED = (
    *(*_SAME, "Cast", "Concat", "Slice", "Split", "Gather", "Expand", "Shape", "Add", "Sub", "Mul", "Div", "Neg"),
    *("Equal", "Not", "Where", "GatherND", "ScatterND"),
)
_INDEXED = ("GatherND", "ScatterND")
MOST_FOLDED = 1 << 28
# Constants of up to so many integers may be sizes.
_FEW = 4096
# What one sample, and the batch of a file, may have at most. Chosen by hand.
MOST_SAMPLE = 1 << 26


class OnnxNetwork(nn.Module):
    """batch: the one that the file fixes, None where any may come. sizes: the shapes of one sample, by input."""

    def __init__(self, model: onnx.ModelProto) -> None:
        super().__init__()
        self._opset = opset_of(model)
        graph = model.graph
        arrays = {each.name: array(each) for each in graph.initializer}
        self.inputs = [each for each in graph.input if each.name not in arrays]
        self.outputs = [each.name for each in graph.output]
        self._nodes = list(graph.node)
        numbers = 0
        # Of constants that were made from one weight: that weight.
        self._sources: dict[str, str] = {}
        for node in self._nodes:
            if node.op_type == "Constant":
                arrays[node.output[0]] = _constant(node)
            elif node.op_type == "ConstantOfShape" and node.input[0] in arrays:
                # Published graphs without their weights make them so.
                shape = [int(each) for each in arrays[node.input[0]].reshape(-1)]
                numbers += math.prod(shape)
                if numbers > MOST_NUMBERS or any(each < 0 for each in shape) or len(shape) > 8:
                    raise ModelError(
                        f"the tensors of an ONNX file may have {MOST_NUMBERS:,} numbers; with {node.output[0]} of "
                        f"{str(shape)[:80]} it has more. Export it again."
                    )
                arrays[node.output[0]] = np.full(shape, *_filled(node))
            elif (
                node.op_type in _FOLDED
                and all(name in arrays for name in node.input if name)
                and not _grows(node, arrays)
            ):
                arrays.update(self._folded(node, arrays))
        self._nodes = [node for node in self._nodes if node.output[0] not in arrays]
        _expect_known(self._nodes)
        self._recurrent: dict[str, onnx_recurrent.Recurrent] = {}
        self._names: dict[str, str] = {}
        self._arrays: dict[str, Tensor] = {}
        self._biases: dict[str, str] = {}
        self._numbers: dict[str, Numbers] = {}
        self._plain: dict[str, Sizes] = {}
        self._skipped: set[str] = set()
        self._linear(arrays)
        self._register(arrays)
        self._calls = [self._prepared(node, arrays) for node in self._nodes]

    def _folded(self, node: onnx.NodeProto, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What a node makes of constants alone."""
        _, call, function = self._prepared(node, arrays)
        given: list[Any] = [torch.from_numpy(np.array(arrays[name])) if name else None for name in node.input]
        if node.op_type in _BY_NUMBERS:
            given[1:] = [each if each is None else Numbers(each.reshape(-1).tolist()) for each in given[1:]]
        if node.op_type in _SAME:
            self._sources[node.output[0]] = self._sources.get(node.input[0], node.input[0])
        try:
            found = array_of([*given[0].shape]) if node.op_type == "Shape" else function(call, *given)
        except ModelError:
            raise
        except Exception as error:  # PyTorch's errors have no common base
            raise call.refuse(f"constants that do not fit ({reason(error, 200)})") from None
        if node.op_type == "Shape":
            return {node.output[0]: found[call.get("start", 0) : call.get("end")].astype(np.int64)}
        results = found if isinstance(found, tuple) else (found,)
        if sum(each.numel() for each in results) > MOST_FOLDED:
            raise call.refuse(f"a result of more than {MOST_FOLDED:,} numbers")
        return {name: each.contiguous().numpy() for name, each in zip(node.output, results, strict=False) if name}

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
            if node.op_type in onnx_recurrent.KINDS:
                self._register_recurrent(node, arrays, taken)
                continue
            if node.output[0] in self._biases:
                inputs, leaves = [*inputs[:2], self._biases[node.output[0]]], ("", "weight", "bias")
            weights = {
                leaf: name
                for leaf, name in zip(leaves, inputs, strict=False)
                if leaf and name in arrays and arrays[name].dtype in (np.float32, np.float64, np.float16)
            }
            if not weights or "weight" not in weights or (node.op_type == "MatMul" and arrays[inputs[1]].ndim != 2):
                continue
            if node.op_type == "Gather" and (arrays[weights["weight"]].ndim != 2 or _attribute(node, "axis", 0)):
                continue
            if weights["weight"] in self._names:
                continue
            path = _free(_path_of(node, self._sources.get(weights["weight"], weights["weight"])), taken)
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
        for name, values in arrays.items():
            if name not in self._names:
                self._register_other(name, values, taken)

    def _register_recurrent(self, node: onnx.NodeProto, arrays: Mapping[str, np.ndarray], taken: set[str]) -> None:
        path = _free(_path_of(node, ""), taken)
        found, tensors = onnx_recurrent.of(node, arrays, path)
        for leaf, tensor in tensors.items():
            _put(self, f"{path}.{leaf}", tensor, buffer=False)
        self._recurrent[node.output[0] or node.output[1]] = found

    def _register_other(self, name: str, values: np.ndarray, taken: set[str]) -> None:
        """Weights that are no layer's, as parameters; other constants, and small ones as numbers too."""
        tensor = torch.from_numpy(np.array(values))
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            tensor = tensor.float()
        if tensor.is_floating_point() and tensor.numel() > 1:
            path = _free(_sanitized(name, dots=True), taken)
            self._names[name] = path
            _put(self, path, tensor, buffer=False)
        else:
            self._arrays[name] = tensor
        if tensor.numel() <= (8 if tensor.is_floating_point() else _FEW):
            # Numbers that shape others are no tensors: a tracer would make values of them.
            self._numbers[name] = Numbers(values.reshape(-1).tolist())
            self._plain[name] = array_of(values.tolist())

    def _prepared(
        self, node: onnx.NodeProto, arrays: Mapping[str, np.ndarray]
    ) -> tuple[onnx.NodeProto, Call, Callable[..., Any]]:
        attributes = {}
        for each in node.attribute:
            value = helper.get_attribute_value(each)
            if isinstance(value, bytes):
                value = value.decode()
            elif isinstance(value, onnx.TensorProto):
                value = array(value)
            elif isinstance(value, Sequence) and not isinstance(value, str):
                value = [each.decode() if isinstance(each, bytes) else each for each in value]
            attributes[each.name] = value
        where = f"{node.op_type} {node.name or node.output[0]}"
        # Recurrent layers are called with their weights, which no rule gets.
        indices = arrays.get(node.input[1]) if node.op_type in _INDEXED and len(node.input) > 1 else None
        call = Call(attributes, self._opset, len(node.output), where, indices)
        return node, call, RULES.get(node.op_type, _no_rule)

    # Running it.

    def forward(self, *inputs: Tensor) -> Any:
        values: dict[str, Any] = {each.name: x for each, x in zip(self.inputs, inputs, strict=True)}
        for node, call, function in self._calls:
            if node.output[0] in self._skipped:
                source = next(name for name in node.input if name in self._biases)
                values[node.output[0]] = values[source]
                continue
            try:
                result = self._run(node, call, function, [self._value(name, values) for name in node.input], values)
            except ModelError:
                raise
            except Exception as error:  # PyTorch's errors have no common base
                raise call.refuse(f"inputs that do not fit ({reason(error, 200)})") from None
            outputs = result if isinstance(result, tuple) else (result,)
            values.update((name, each) for name, each in zip(node.output, outputs, strict=False) if name)
        results = [values[name] if name in values else self._value(name, values) for name in self.outputs]
        for name, each in zip(self.outputs, results, strict=True):
            if not isinstance(each, Tensor):
                raise ModelError(f"outputs must be tensors; {name} of this file is a size. Export it without that.")
        return results[0] if len(results) == 1 else tuple(results)

    def _run(
        self,
        node: onnx.NodeProto,
        call: Call,
        function: Callable[..., Any],
        given: list[Any],
        values: Mapping[str, Any],
    ) -> Any:
        kind = node.op_type
        if kind in onnx_recurrent.KINDS:
            found = self._recurrent[node.output[0] or node.output[1]]
            return onnx_recurrent.run(self.get_submodule(found.path), found, *given[:1], *given[4:])
        if kind == "Shape" and isinstance(given[0], Tensor):
            return array_of(list(given[0].shape)[call.get("start", 0) : call.get("end")])
        if kind == "Gather" and isinstance(given[0], Tensor) and node.input[1] in self._plain:
            if not self._plain[node.input[1]].ndim:
                return given[0].select(call.get("axis", 0), int(self._plain[node.input[1]].item()))
        elif any(isinstance(each, (Sizes, Strided)) for each in given) or self._is_of_sizes(node, values):
            told = [
                self._plain[name] if isinstance(each, Tensor) and name in self._plain and name not in values else each
                for name, each in zip(node.input, given, strict=True)
            ]
            if kind == "Expand":
                told[0] = given[0]
            return with_sizes(kind, call, function, told)
        if kind in ("MatMul", "Gemm") and node.input[1] in self._names:
            return self._product(node, call, given)
        if kind in _BY_NUMBERS:
            rest = zip(node.input[1:], given[1:], strict=True)
            given = [given[0], *(self._numbers.get(name, each) for name, each in rest)]
        elif kind in _ARITHMETIC:
            given = self._with_numbers(node, given)
        return function(call, *given)

    def _is_of_sizes(self, node: onnx.NodeProto, values: Mapping[str, Any]) -> bool:
        """Whether all that a node reads are small integers of the file."""
        named = [name for name in node.input if name]
        return bool(named) and all(
            name in self._plain and name not in values and not self._arrays[name].is_floating_point()
            if name in self._arrays
            else False
            for name in named
        )

    def _with_numbers(self, node: onnx.NodeProto, given: list[Any]) -> list[Any]:
        """One float beside a tensor of floats is a number: no constant is kept for it."""
        if not any(isinstance(each, Tensor) and each.is_floating_point() and each.ndim for each in given):
            return given
        single = {n for n in node.input if n in self._arrays and n in self._plain and self._arrays[n].numel() == 1}
        if len(single) != 1 or any(self._arrays[n].ndim > 1 for n in single):
            return given
        found = [
            float(self._arrays[name]) if name in single and self._arrays[name].is_floating_point() else each
            for name, each in zip(node.input, given, strict=True)
        ]
        return found

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
        result: Tensor = call.get("alpha", 1.0) * F.linear(x, rows)
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


def example_of(given: onnx.ValueInfoProto, shapes: Mapping[str, Sequence[int]]) -> tuple[int | None, Tensor]:
    """The batch that an input has, None where any may come; and two samples of it. Raises ModelError."""
    kind = given.type.tensor_type
    dtype = TYPES.get(kind.elem_type)
    if dtype is None or dtype == torch.float16:
        raise ModelError(
            f"an input must be of numbers, floats of 32 bits; {given.name} is of the type {kind.elem_type} of ONNX. "
            "Export the network in float32."
        )
    sizes = [each.dim_value if each.HasField("dim_value") else None for each in kind.shape.dim]
    if not sizes and given.name not in shapes:
        raise ModelError(f"an input must have the batch in front; {given.name} has no axes. Export the network so.")
    batch = sizes[0] if sizes and sizes[0] else None
    inner: tuple[Any, ...] = tuple(shapes[given.name]) if given.name in shapes else tuple(sizes[1:])
    fits = not sizes or len(inner) == len(sizes) - 1
    if not fits or not all(type(n) is int and 0 < n <= LARGEST for n in inner):
        raise ModelError(
            f"an input may have any batch, and fixed sizes otherwise; {given.name} has {str(sizes)[:80]}, and one "
            f"sample {str(inner)[:80]}. Give the shape of a sample: --input {given.name}=3,224,224."
        )
    if math.prod(inner) > MOST_SAMPLE or (batch or 1) * math.prod(inner) > MOST_SAMPLE:
        raise ModelError(
            f"a sample may have {MOST_SAMPLE:,} numbers; {given.name} has the shape {inner}. "
            "Export it for smaller ones."
        )
    return batch, torch.zeros((2, *inner), dtype=dtype)


def _no_rule(call: Call, *inputs: Any) -> Any:
    raise call.refuse("no rule")


def _expect_known(nodes: Sequence[onnx.NodeProto]) -> None:
    for node in nodes:
        if node.op_type not in RULES and node.op_type not in onnx_recurrent.KINDS:
            raise ModelError(
                f"the operators of an ONNX file must be known here; {node.op_type} at {node.name or node.output[0]} is "
                "not. Export the network without it, or from PyTorch with torch.export."
            )


def _filled(node: onnx.NodeProto) -> tuple[Any, np.dtype]:
    """What a ConstantOfShape is filled with."""
    value = next((array(a.t) for a in node.attribute if a.name == "value"), np.zeros(1, np.float32))
    return value.reshape(-1)[0], value.dtype


def _grows(node: onnx.NodeProto, arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether a node picks more weights than there are, as from a table of positions: the table is what is kept."""
    if node.op_type not in ("Gather", "GatherND") or arrays[node.input[0]].dtype.kind != "f":
        return False
    shape, indices = arrays[node.input[0]].shape, arrays[node.input[1]]
    if node.op_type == "Gather":
        return bool(shape) and indices.size > shape[_attribute(node, "axis", 0) % len(shape)]
    axes = indices.shape[-1] if indices.ndim else 0
    return bool(axes) and indices.size // axes > math.prod(shape[:axes])


def _constant(node: onnx.NodeProto) -> np.ndarray:
    values = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    if "value" in values:
        return array(values["value"])
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
