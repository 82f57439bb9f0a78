"""The operators of ONNX files as calls of PyTorch: opset 7 to today, of the default domain.

Each rule takes the inputs of a node, tensors or None, and its attributes. What an older opset says as an attribute and
a newer one as an input (axes, sizes, bounds) is read from whichever is there. Where ONNX pads at the two ends of an
axis differently, the input is padded first.
"""

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from paretoscope.base.errors import ModelError

Attributes = dict[str, Any]
Rule = Callable[..., Any]
RULES: dict[str, Rule] = {}

TYPES = {
    1: torch.float32, 2: torch.uint8, 3: torch.int8, 6: torch.int32, 7: torch.int64, 9: torch.bool, 10: torch.float16,
    11: torch.float64,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Call:
    """What a rule knows beside the inputs: the attributes, the opset, how many outputs are asked for, and the place.

    indices: of GatherND and ScatterND, where they are constants of the file.
    """

    attributes: Attributes
    opset: int
    outputs: int
    where: str
    indices: np.ndarray | None = None

    def get(self, name: str, default: Any = None) -> Any:
        return self.attributes.get(name, default)

    def refuse(self, what: str) -> ModelError:
        return ModelError(
            f"a node of an ONNX file must be one that PyTorch can compute; {self.where} has {what}. "
            "Export the network again, with a newer opset or from PyTorch with torch.export."
        )


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register what nodes of these types compute."""

    def register(function: Rule) -> Rule:
        for name in names:
            if name in RULES:
                raise ValueError(f"a rule must be registered once; {name} is there already.")
            RULES[name] = function
        return function

    return register


def numbers(value: Tensor | Sequence[int] | None) -> list[int] | None:
    """A list of numbers that may be a constant tensor, or computed from sizes."""
    if value is None:
        return None
    return [int(each) for each in value.reshape(-1).tolist()] if isinstance(value, Tensor) else [*value]


# Plain functions, by their names in ONNX.
_PLAIN: dict[str, Callable[..., Tensor]] = {
    "Abs": torch.abs, "Add": operator.add, "And": torch.logical_and, "Ceil": torch.ceil, "Cos": torch.cos,
    "Equal": operator.eq, "Erf": torch.erf, "Exp": torch.exp, "Floor": torch.floor, "Greater": operator.gt,
    "GreaterOrEqual": operator.ge, "HardSwish": F.hardswish, "Less": operator.lt, "LessOrEqual": operator.le,
    "Log": torch.log,
    "MatMul": torch.matmul, "Mish": F.mish, "Mul": operator.mul, "Neg": torch.neg, "Not": torch.logical_not,
    "Or": torch.logical_or, "PRelu": lambda x, slope: torch.where(x >= 0, x, x * slope), "Pow": operator.pow,
    "Reciprocal": torch.reciprocal, "Relu": F.relu, "Sigmoid": torch.sigmoid, "Sin": torch.sin, "Softsign": F.softsign,
    "Sqrt": torch.sqrt, "Sub": operator.sub, "Tanh": torch.tanh, "Where": torch.where,
}  # fmt: skip


def _plain(function: Callable[..., Tensor]) -> Rule:
    return lambda call, *inputs: function(*inputs)


for _name, _function in _PLAIN.items():
    RULES[_name] = _plain(_function)


@rule("Identity")
def _identity(call: Call, x: Any) -> Any:
    return x


@rule("Dropout")
def _dropout(call: Call, x: Tensor, *rest: Tensor) -> Any:
    return x if call.outputs == 1 else (x, torch.ones_like(x, dtype=torch.bool))


@rule("Div")
def _div(call: Call, x: Any, y: Any) -> Any:
    if any(isinstance(each, float) or (isinstance(each, Tensor) and each.is_floating_point()) for each in (x, y)):
        return x / y
    return torch.div(x, y, rounding_mode="trunc")


@rule("Sum")
def _sum(call: Call, *inputs: Tensor) -> Tensor:
    total = inputs[0]
    for each in inputs[1:]:
        total = total + each
    return total


@rule("Max", "Min")
def _extreme(call: Call, *inputs: Tensor) -> Tensor:
    function = torch.maximum if call.where.split(" ")[0] == "Max" else torch.minimum
    result = inputs[0]
    for each in inputs[1:]:
        result = function(result, each)
    return result


@rule("Gelu")
def _gelu(call: Call, x: Tensor) -> Tensor:
    return F.gelu(x, approximate=call.get("approximate", "none"))


@rule("LeakyRelu")
def _leaky(call: Call, x: Tensor) -> Tensor:
    return F.leaky_relu(x, call.get("alpha", 0.01))


@rule("Elu")
def _elu(call: Call, x: Tensor) -> Tensor:
    return F.elu(x, call.get("alpha", 1.0))


@rule("Softplus")
def _softplus(call: Call, x: Tensor) -> Tensor:
    return F.softplus(x)


@rule("HardSigmoid")
def _hard_sigmoid(call: Call, x: Tensor) -> Tensor:
    alpha, beta = call.get("alpha", 0.2), call.get("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return F.hardsigmoid(x)
    line: Tensor = x * alpha + beta
    return line.clamp(0, 1)


@rule("Clip")
def _clip(call: Call, x: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    least = float(low) if low is not None else call.get("min")
    most = float(high) if high is not None else call.get("max")
    if least is None and most is None:
        return x
    if least is not None and most is not None and x.is_floating_point():
        return F.relu6(x) if (least, most) == (0.0, 6.0) else F.hardtanh(x, least, most)
    return x.clamp(least, most)


@rule("Softmax", "LogSoftmax")
def _softmax(call: Call, x: Tensor) -> Tensor:
    function = torch.softmax if call.where.startswith("Softmax") else torch.log_softmax
    if call.opset >= 13:
        return function(x, call.get("axis", -1))
    axis = call.get("axis", 1) % x.ndim
    if axis == x.ndim - 1:
        return function(x, axis)
    return function(x.flatten(axis), axis).reshape(x.shape)


@rule("Cast")
def _cast(call: Call, x: Tensor) -> Tensor:
    kind = call.get("to")
    if kind not in TYPES:
        raise call.refuse(f"a type with the number {kind}")
    # Weights and constants of double precision are float32 here.
    return x.to(torch.float32 if kind == 11 else TYPES[kind])


@rule("CastLike")
def _cast_like(call: Call, x: Tensor, other: Tensor) -> Tensor:
    return x.to(other.dtype)


@rule("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceSumSquare")
def _reduce(call: Call, x: Tensor, axes: Tensor | None = None) -> Tensor:
    kind = call.where.split(" ")[0]
    chosen = numbers(axes) or call.get("axes")
    if not chosen and call.get("noop_with_empty_axes", 0):
        return x
    dims = tuple(chosen) if chosen else tuple(range(x.ndim))
    keep = bool(call.get("keepdims", 1))
    if kind == "ReduceL2":
        return x.square().sum(dims, keepdim=keep).sqrt()
    if kind == "ReduceSumSquare":
        return x.square().sum(dims, keepdim=keep)
    functions: dict[str, Callable[..., Tensor]] = {
        "ReduceMean": torch.mean,
        "ReduceSum": torch.sum,
        "ReduceMax": torch.amax,
        "ReduceMin": torch.amin,
    }
    return functions[kind](x, dims, keepdim=keep)


@rule("ArgMax")
def _argmax(call: Call, x: Tensor) -> Tensor:
    return torch.argmax(x, call.get("axis", 0), bool(call.get("keepdims", 1)))


# Sizes and new tensors.


@rule("Shape", "Size", "ReduceProd")
def _of_sizes(call: Call, *inputs: Any) -> Any:
    raise call.refuse("an input that is no size")  # those of sizes are numbers: `onnx_sizes`


@rule("ConstantOfShape")
def _constant_of_shape(call: Call, shape: Any) -> Tensor:
    value = np.asarray(call.get("value", np.zeros(1, np.float32))).reshape(-1)
    sizes: list[int] = numbers(shape) or []
    return torch.full(sizes, value[0].item(), dtype=getattr(torch, value.dtype.name))


@rule("Range")
def _range(call: Call, *bounds: Any) -> Tensor:
    start, limit, step = (each[0] if isinstance(each, list) else each for each in bounds)
    return torch.arange(start, limit, step)


@rule("CumSum")
def _cumsum(call: Call, x: Tensor, axis: Any) -> Tensor:
    if call.get("exclusive", 0) or call.get("reverse", 0):
        raise call.refuse("a sum in reverse, or without its own value")
    (only,) = numbers(axis) or [0]
    return torch.cumsum(x, only)


@rule("Trilu")
def _trilu(call: Call, x: Tensor, diagonal: Any = None) -> Tensor:
    (k,) = numbers(diagonal) or [0]
    return torch.triu(x, k) if call.get("upper", 1) else torch.tril(x, k)


@rule("Einsum")
def _einsum(call: Call, *inputs: Tensor) -> Tensor:
    return torch.einsum(call.get("equation"), *inputs)
