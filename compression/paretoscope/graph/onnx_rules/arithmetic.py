"""Activations and arithmetic, value by value."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from paretoscope.graph.trace import Function, Trace, refuse, rule


def called(*names: str) -> list[Function]:
    """All functions of these names: of torch, of its functional module and of tensors, in place or not."""
    found: dict[Function, None] = {}
    for name in names:
        for place in (torch, F, Tensor):
            for each in (name, f"{name}_"):
                if (function := getattr(place, each, None)) is not None:
                    found[function] = None
    return list(found)


def unary(op: str, *names: str, **attributes: Any) -> None:
    """One node of one input."""

    @rule(*called(*names))
    def _one(trace: Trace, output: Tensor, input: Tensor, **settings: Any) -> str:
        if set(settings) - {"inplace"}:
            raise refuse(f"{names[0]} with {', '.join(settings)}")
        return trace.emit(op, [trace.operand(input, output.dtype)], trace.size(output), **attributes)


for _op, _names in {
    "Sigmoid": ("sigmoid",),
    "Tanh": ("tanh",),
    "Exp": ("exp",),
    "Log": ("log",),
    "Sqrt": ("sqrt",),
    "Abs": ("abs", "absolute", "__abs__"),
    "Neg": ("neg", "negative"),
    "Reciprocal": ("reciprocal",),
    "Erf": ("erf",),
    "Sin": ("sin",),
    "Cos": ("cos",),
    "Floor": ("floor",),
    "Ceil": ("ceil",),
    "Round": ("round",),
    "Sign": ("sign",),
    "Softsign": ("softsign",),
    "HardSwish": ("hardswish",),
    "Selu": ("selu",),
}.items():
    unary(_op, *_names)
unary("HardSigmoid", "hardsigmoid", alpha=1 / 6, beta=0.5)


@rule(F.relu, torch.relu, Tensor.relu, torch.relu_, Tensor.relu_)
def _relu(trace: Trace, output: Tensor, input: Tensor, inplace: bool = False) -> str:
    return trace.emit("Relu", [trace.name(input)], trace.size(output))


@rule(F.hardtanh)
def _hardtanh(
    trace: Trace, output: Tensor, input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> str:
    bounds = [trace.constant(min_val), trace.constant(max_val)]
    return trace.emit("Clip", [trace.name(input), *bounds], trace.size(output))


@rule(F.relu6)
def _relu6(trace: Trace, output: Tensor, input: Tensor, inplace: bool = False) -> str:
    return _hardtanh(trace, output, input, 0.0, 6.0)  # type: ignore[return-value]


@rule(F.gelu)
def _gelu(trace: Trace, output: Tensor, input: Tensor, approximate: str = "none") -> str:
    return trace.emit("Gelu", [trace.name(input)], trace.size(output), approximate=approximate)


@rule(F.silu)
def _silu(trace: Trace, output: Tensor, input: Tensor, inplace: bool = False) -> str:
    x, shape = trace.name(input), trace.size(output)
    return trace.emit("Mul", [x, trace.emit("Sigmoid", [x], shape)], shape)


@rule(F.mish)
def _mish(trace: Trace, output: Tensor, input: Tensor, inplace: bool = False) -> str:
    x, shape = trace.name(input), trace.size(output)
    gate = trace.emit("Tanh", [trace.emit("Softplus", [x], shape)], shape)
    return trace.emit("Mul", [x, gate], shape)


@rule(F.logsigmoid)
def _log_sigmoid(trace: Trace, output: Tensor, input: Tensor) -> str:
    shape = trace.size(output)
    turned = trace.emit("Neg", [trace.name(input)], shape)
    return trace.emit("Neg", [trace.emit("Softplus", [turned], shape)], shape)


@rule(F.elu)
def _elu(
    trace: Trace,
    output: Tensor,
    input: Tensor,
    alpha: float = 1.0,
    scale: Any = 1,
    input_scale: Any = 1,
    inplace: bool = False,
) -> str:
    # In PyTorch's function the third is the switch for in place; in the operator two factors come before it.
    if scale not in (1, False) or input_scale != 1:
        raise refuse("elu with factors")
    return trace.of("Elu", [input], output, alpha=float(alpha))


@rule(F.celu)
def _celu(trace: Trace, output: Tensor, input: Tensor, alpha: float = 1.0, inplace: bool = False) -> str:
    return trace.of("Celu", [input], output, alpha=float(alpha))


@rule(F.leaky_relu)
def _leaky(trace: Trace, output: Tensor, input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> str:
    return trace.of("LeakyRelu", [input], output, alpha=float(negative_slope))


@rule(F.prelu, Tensor.prelu)
def _prelu(trace: Trace, output: Tensor, input: Tensor, weight: Tensor) -> str:
    slope = trace.name(weight)
    if weight.numel() > 1:
        slope = trace.reshape(slope, (len(weight), *[1] * (input.ndim - 2)))
    return trace.emit("PRelu", [trace.name(input), slope], trace.size(output))


@rule(F.softplus)
def _softplus(trace: Trace, output: Tensor, input: Tensor, beta: float = 1, threshold: float = 20) -> str:
    x, shape = trace.name(input), trace.size(output)
    if beta == 1:
        return trace.emit("Softplus", [x], shape)
    x = trace.emit("Softplus", [trace.emit("Mul", [x, trace.constant(beta)], shape)], shape)
    return trace.emit("Div", [x, trace.constant(beta)], shape)


@rule(F.glu)
def _glu(trace: Trace, output: Tensor, input: Tensor, dim: int = -1) -> str:
    shape, axis = trace.size(output), dim % input.ndim
    half = output.shape[axis]
    x = trace.name(input)
    parts = [
        trace.emit("Slice", [x, trace.ints(start), trace.ints(start + half), trace.ints(axis)], shape)
        for start in (0, half)
    ]
    return trace.emit("Mul", [parts[0], trace.emit("Sigmoid", parts[1:], shape)], shape)


@rule(torch.rsqrt, Tensor.rsqrt)
def _rsqrt(trace: Trace, output: Tensor, input: Tensor) -> str:
    shape = trace.size(output)
    return trace.emit("Reciprocal", [trace.emit("Sqrt", [trace.name(input)], shape)], shape)


@rule(torch.square, Tensor.square)
def _square(trace: Trace, output: Tensor, input: Tensor) -> str:
    return trace.of("Mul", [input, input], output)


@rule(torch.log1p, Tensor.log1p)
def _log1p(trace: Trace, output: Tensor, input: Tensor) -> str:
    shape = trace.size(output)
    return trace.emit("Log", [trace.emit("Add", [trace.name(input), trace.constant(1.0)], shape)], shape)


Normaliser = Callable[..., str]


def _normalised(op: str, *functions: Function) -> None:
    @rule(*functions)
    def _soft(trace: Trace, output: Tensor, input: Tensor, dim: int | None = None, *rest: Any, **more: Any) -> str:
        if dim is None:
            raise refuse(f"{op} without an axis")
        x = trace.operand(input, output.dtype)
        return trace.emit(op, [x], trace.size(output), axis=dim)


_normalised("Softmax", F.softmax, torch.softmax, Tensor.softmax)
_normalised("LogSoftmax", F.log_softmax, torch.log_softmax, Tensor.log_softmax)


# Two operands, tensors or numbers.


def _pair(trace: Trace, op: str, output: Tensor, first: Any, second: Any) -> str:
    given = [trace.operand(each, output.dtype) for each in (first, second)]
    return trace.emit(op, given, trace.size(output))


def _scaled(trace: Trace, value: Any, alpha: float, dtype: torch.dtype) -> Any:
    """A term times its factor."""
    if alpha == 1:
        return trace.operand(value, dtype)
    if not isinstance(value, Tensor):
        return trace.constant(value * alpha, trace.numpy_type(dtype))
    factor = trace.constant(alpha, trace.numpy_type(dtype))
    return trace.emit("Mul", [trace.operand(value, dtype), factor], trace.size(value))


@rule(*called("add"), Tensor.__radd__)
def _add(trace: Trace, output: Tensor, input: Any, other: Any, alpha: float = 1) -> str:
    given = [trace.operand(input, output.dtype), _scaled(trace, other, alpha, output.dtype)]
    return trace.emit("Add", given, trace.size(output))


@rule(*called("sub", "subtract"))
def _sub(trace: Trace, output: Tensor, input: Any, other: Any, alpha: float = 1) -> str:
    given = [trace.operand(input, output.dtype), _scaled(trace, other, alpha, output.dtype)]
    return trace.emit("Sub", given, trace.size(output))


@rule(torch.rsub, Tensor.__rsub__)
def _rsub(trace: Trace, output: Tensor, input: Any, other: Any, alpha: float = 1) -> str:
    given = [trace.operand(other, output.dtype), _scaled(trace, input, alpha, output.dtype)]
    return trace.emit("Sub", given, trace.size(output))


@rule(*called("mul", "multiply"), Tensor.__rmul__)
def _mul(trace: Trace, output: Tensor, input: Any, other: Any) -> str:
    return _pair(trace, "Mul", output, input, other)


@rule(*called("div", "divide", "true_divide"))
def _div(trace: Trace, output: Tensor, input: Any, other: Any, rounding_mode: str | None = None) -> str:
    if rounding_mode is None:
        return _pair(trace, "Div", output, input, other)
    if rounding_mode != "floor":
        raise refuse(f"a division with rounding_mode={rounding_mode!r}")
    return _floor_divided(trace, output, input, other)


@rule(*called("floor_divide"), Tensor.__floordiv__)
def _floor_div(trace: Trace, output: Tensor, input: Any, other: Any) -> str:
    return _floor_divided(trace, output, input, other)


def _floor_divided(trace: Trace, output: Tensor, input: Any, other: Any) -> str:
    shape = trace.size(output)
    if output.dtype.is_floating_point:
        return trace.emit("Floor", [_pair(trace, "Div", output, input, other)], shape)
    first, second = (trace.operand(each, output.dtype) for each in (input, other))
    left = trace.emit("Mod", [first, second], shape)
    return trace.emit("Div", [trace.emit("Sub", [first, left], shape), second], shape)


@rule(*called("remainder"))
def _remainder(trace: Trace, output: Tensor, input: Any, other: Any) -> str:
    if output.dtype.is_floating_point:
        raise refuse("the remainder of floats")
    return _pair(trace, "Mod", output, input, other)


@rule(Tensor.__rdiv__)
def _rdiv(trace: Trace, output: Tensor, input: Any, other: Any) -> str:
    return _pair(trace, "Div", output, other, input)


@rule(*called("pow"), Tensor.__pow__)
def _pow(trace: Trace, output: Tensor, input: Any, exponent: Any) -> str:
    return _pair(trace, "Pow", output, input, exponent)


@rule(Tensor.__rpow__)
def _rpow(trace: Trace, output: Tensor, input: Any, base: Any) -> str:
    return _pair(trace, "Pow", output, base, input)


@rule(torch.maximum, Tensor.maximum)
def _maximum(trace: Trace, output: Tensor, input: Tensor, other: Tensor) -> str:
    return _pair(trace, "Max", output, input, other)


@rule(torch.minimum, Tensor.minimum)
def _minimum(trace: Trace, output: Tensor, input: Tensor, other: Tensor) -> str:
    return _pair(trace, "Min", output, input, other)


@rule(*called("clamp", "clip"))
def _clamp(trace: Trace, output: Tensor, input: Tensor, min: Any = None, max: Any = None) -> str:
    x, shape = trace.operand(input, output.dtype), trace.size(output)
    if isinstance(min, (int, float)) and isinstance(max, (int, float)):
        return trace.emit("Clip", [x, *(trace.operand(each, output.dtype) for each in (min, max))], shape)
    for op, bound in (("Max", min), ("Min", max)):
        if bound is not None:
            x = trace.emit(op, [x, trace.operand(bound, output.dtype)], shape)
    return x


@rule(*called("clamp_min"))
def _clamp_min(trace: Trace, output: Tensor, input: Tensor, min: Any) -> str:
    return _pair(trace, "Max", output, input, min)


@rule(*called("clamp_max"))
def _clamp_max(trace: Trace, output: Tensor, input: Tensor, max: Any) -> str:
    return _pair(trace, "Min", output, input, max)


# Truth.


def _compared(op: str, name: str, *dunders: str) -> None:
    @rule(*called(name, *dunders))
    def _compare(trace: Trace, output: Tensor, input: Any, other: Any) -> str:
        dtype = torch.result_type(input, other)
        given = [trace.operand(each, dtype) for each in (input, other)]
        found = trace.emit("Equal" if op == "Not" else op, given, trace.size(output))
        return trace.emit("Not", [found], trace.size(output)) if op == "Not" else found


for _op, _name in {
    "Equal": "eq",
    "Not": "ne",
    "Less": "lt",
    "LessOrEqual": "le",
    "Greater": "gt",
    "GreaterOrEqual": "ge",
}.items():
    _compared(_op, _name, f"__{_name}__")


@rule(torch.logical_not, Tensor.logical_not, torch.bitwise_not, Tensor.bitwise_not, Tensor.__invert__)
def _not(trace: Trace, output: Tensor, input: Tensor) -> str:
    if output.dtype != torch.bool:
        raise refuse("bitwise operations on integers")
    return trace.emit("Not", [trace.operand(input, torch.bool)], trace.size(output))


def _logical(op: str, *names: str) -> None:
    @rule(*called(*names))
    def _both(trace: Trace, output: Tensor, input: Any, other: Any) -> str:
        if output.dtype != torch.bool:
            raise refuse("bitwise operations on integers")
        return _pair(trace, op, output, input, other)


_logical("And", "logical_and", "bitwise_and", "__and__")
_logical("Or", "logical_or", "bitwise_or", "__or__")
_logical("Xor", "logical_xor", "bitwise_xor", "__xor__")


@rule(torch.where)
def _where(trace: Trace, output: Tensor, condition: Tensor, input: Any, other: Any) -> str:
    given = [trace.name(condition), *(trace.operand(each, output.dtype) for each in (input, other))]
    return trace.emit("Where", given, trace.size(output))


@rule(Tensor.where)
def _where_of(trace: Trace, output: Tensor, input: Tensor, condition: Tensor, other: Any) -> str:
    return _where(trace, output, condition, input, other)  # type: ignore[return-value]


@rule(torch.masked_fill, Tensor.masked_fill, Tensor.masked_fill_)
def _masked_fill(trace: Trace, output: Tensor, input: Tensor, mask: Tensor, value: Any) -> str:
    return _where(trace, output, mask, value, input)  # type: ignore[return-value]


@rule(*called("cumsum"))
def _cumsum(trace: Trace, output: Tensor, input: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> str:
    given = [trace.operand(input, output.dtype), trace.constant(dim % max(1, input.ndim), np.int64)]
    return trace.emit("CumSum", given, trace.size(output))
