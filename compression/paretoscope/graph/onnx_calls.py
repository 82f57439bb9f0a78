"""The operators of ONNX files as calls of PyTorch: opset 7 to today, of the default domain.

Each rule takes the inputs of a node, tensors or None, and its attributes. What an older opset says as an attribute and
a newer one as an input (axes, sizes, bounds) is read from whichever is there. Where ONNX pads at the two ends of an
axis differently, the input is padded first.
"""

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

_TYPES = {
    1: torch.float32, 2: torch.uint8, 3: torch.int8, 6: torch.int32, 7: torch.int64, 9: torch.bool, 10: torch.float16,
    11: torch.float64,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Call:
    """What a rule knows beside the inputs: the attributes, the opset, how many outputs are asked for, and the place."""

    attributes: Attributes
    opset: int
    outputs: int
    where: str

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
    "Abs": torch.abs, "Add": torch.add, "And": torch.logical_and, "Ceil": torch.ceil, "Cos": torch.cos,
    "Equal": torch.eq, "Erf": torch.erf, "Exp": torch.exp, "Floor": torch.floor, "Greater": torch.gt,
    "GreaterOrEqual": torch.ge, "HardSwish": F.hardswish, "Less": torch.lt, "LessOrEqual": torch.le, "Log": torch.log,
    "MatMul": torch.matmul, "Mish": F.mish, "Mul": torch.mul, "Neg": torch.neg, "Not": torch.logical_not,
    "Or": torch.logical_or, "PRelu": lambda x, slope: torch.where(x >= 0, x, x * slope), "Pow": torch.pow,
    "Reciprocal": torch.reciprocal, "Relu": F.relu, "Sigmoid": torch.sigmoid, "Sin": torch.sin, "Softsign": F.softsign,
    "Sqrt": torch.sqrt, "Sub": torch.sub, "Tanh": torch.tanh, "Where": torch.where,
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
    whole = not any(t.is_floating_point() for t in (x, y))
    return torch.div(x, y, rounding_mode="trunc") if whole else torch.div(x, y)


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
    return (x * alpha + beta).clamp(0, 1)


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
    if kind not in _TYPES:
        raise call.refuse(f"a type with the number {kind}")
    return x.to(_TYPES[kind])


@rule("CastLike")
def _cast_like(call: Call, x: Tensor, other: Tensor) -> Tensor:
    return x.to(other.dtype)


# Layers.


def _padded(call: Call, x: Tensor, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], value: float):
    """The input, padded where its two ends differ, and the padding that is left to the operator."""
    axes = len(kernel)
    auto, pads = call.get("auto_pad", "NOTSET"), call.get("pads") or [0] * (2 * axes)
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        pads = [0] * (2 * axes)
        for axis in range(axes):
            size = x.shape[2 + axis]
            reach = dilation[axis] * (kernel[axis] - 1) + 1
            missing = max((-(-size // stride[axis]) - 1) * stride[axis] + reach - size, 0)
            less, more = missing // 2, missing - missing // 2
            pads[axis], pads[axes + axis] = (less, more) if auto == "SAME_UPPER" else (more, less)
    elif auto == "VALID":
        pads = [0] * (2 * axes)
    before, after = pads[:axes], pads[axes:]
    if before == after:
        return x, list(before)
    flat = [each for axis in reversed(range(axes)) for each in (before[axis], after[axis])]
    return F.pad(x, flat, value=value), [0] * axes


@rule("Conv")
def _conv(call: Call, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    axes = weight.ndim - 2
    if axes not in (1, 2, 3):
        raise call.refuse(f"a convolution over {axes} axes")
    stride, dilation = call.get("strides") or [1] * axes, call.get("dilations") or [1] * axes
    x, padding = _padded(call, x, weight.shape[2:], stride, dilation, 0.0)
    function = (F.conv1d, F.conv2d, F.conv3d)[axes - 1]
    return function(x, weight, bias, stride, padding, dilation, call.get("group", 1))


@rule("ConvTranspose")
def _conv_transpose(call: Call, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    axes = weight.ndim - 2
    stride, dilation = call.get("strides") or [1] * axes, call.get("dilations") or [1] * axes
    pads, extra = call.get("pads") or [0] * (2 * axes), call.get("output_padding") or [0] * axes
    if call.get("output_shape") or call.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise call.refuse("a transposed convolution whose padding follows from its output")
    before, after = pads[:axes], pads[axes:]
    if any(b < a for b, a in zip(before, after, strict=True)) and before != after:
        raise call.refuse(f"pads {pads} of a transposed convolution")
    extra = [e + b - a for e, b, a in zip(extra, before, after, strict=True)]
    function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[axes - 1]
    return function(x, weight, bias, stride, list(before), extra, call.get("group", 1), dilation)


@rule("Gemm")
def _gemm(call: Call, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    alpha, beta = call.get("alpha", 1.0), call.get("beta", 1.0)
    a = a.t() if call.get("transA", 0) else a
    rows = b if call.get("transB", 0) else b.t()
    if alpha == 1.0 and (c is None or (beta == 1.0 and c.ndim == 1 and len(c) == rows.shape[0])):
        return F.linear(a, rows, c)
    result = alpha * (a @ rows.t())
    return result if c is None else result + beta * c


@rule("BatchNormalization")
def _batch_norm(call: Call, x: Tensor, gamma: Tensor, beta: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    if call.get("training_mode", 0) or call.outputs > 1:
        raise call.refuse("batch normalisation in training")
    return F.batch_norm(x, mean, variance, gamma, beta, False, 0.1, call.get("epsilon", 1e-5))


@rule("InstanceNormalization")
def _instance_norm(call: Call, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    return F.group_norm(x, x.shape[1], gamma, beta, call.get("epsilon", 1e-5))


@rule("LayerNormalization")
def _layer_norm(call: Call, x: Tensor, gamma: Tensor, beta: Tensor | None = None) -> Tensor:
    axis = call.get("axis", -1) % x.ndim
    return F.layer_norm(x, list(x.shape[axis:]), gamma, beta, call.get("epsilon", 1e-5))


@rule("LRN")
def _lrn(call: Call, x: Tensor) -> Tensor:
    size, alpha = call.get("size"), call.get("alpha", 1e-4)
    beta, bias = call.get("beta", 0.75), call.get("bias", 1.0)
    # The sum over neighbouring channels as an average over an axis of its own.
    squares = (x * x).unsqueeze(1)
    flat = squares.flatten(3) if x.ndim > 3 else squares.unsqueeze(-1)
    padded = F.pad(flat, (0, 0, (size - 1) // 2, size // 2))
    mean = F.avg_pool2d(padded, (size, 1), stride=1).squeeze(1).reshape(x.shape)
    return x / (mean * alpha + bias).pow(beta)


# Pooling and reductions.


@rule("MaxPool")
def _max_pool(call: Call, x: Tensor) -> Tensor:
    kernel = call.get("kernel_shape")
    axes = len(kernel)
    if call.outputs > 1:
        raise call.refuse("pooling that gives indices")
    stride, dilation = call.get("strides") or [1] * axes, call.get("dilations") or [1] * axes
    x, padding = _padded(call, x, kernel, stride, dilation, float("-inf"))
    function = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[axes - 1]
    return function(x, list(kernel), list(stride), padding, list(dilation), bool(call.get("ceil_mode", 0)))


@rule("AveragePool")
def _average_pool(call: Call, x: Tensor) -> Tensor:
    kernel = call.get("kernel_shape")
    axes = len(kernel)
    stride, counted = call.get("strides") or [1] * axes, bool(call.get("count_include_pad", 0))
    padded, padding = _padded(call, x, kernel, stride, [1] * axes, 0.0)
    function = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[axes - 1]
    ceil = bool(call.get("ceil_mode", 0))
    if padded is x or counted:
        return function(padded, list(kernel), list(stride), padding, ceil, counted)
    if ceil:
        raise call.refuse("average pooling with uneven padding and ceil_mode")
    # What was padded does not count: the share of each window that lies within the input is divided by.
    ones, _ = _padded(call, torch.ones_like(x[:1, :1]), kernel, stride, [1] * axes, 0.0)
    return function(padded, list(kernel), list(stride)) / function(ones, list(kernel), list(stride))


@rule("GlobalAveragePool")
def _global_average(call: Call, x: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(x, (1, 1)) if x.ndim == 4 else x.mean(tuple(range(2, x.ndim)), keepdim=True)


@rule("GlobalMaxPool")
def _global_max(call: Call, x: Tensor) -> Tensor:
    return torch.amax(x, tuple(range(2, x.ndim)), keepdim=True)


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
    function = {"ReduceMean": torch.mean, "ReduceSum": torch.sum, "ReduceMax": torch.amax, "ReduceMin": torch.amin}[
        kind
    ]
    return function(x, dims, keepdim=keep)


@rule("ArgMax")
def _argmax(call: Call, x: Tensor) -> Tensor:
    return torch.argmax(x, call.get("axis", 0), bool(call.get("keepdims", 1)))


# What moves values.


@rule("Reshape")
def _reshape(call: Call, x: Tensor, shape: Any) -> Tensor:
    sizes = list(shape) if not isinstance(shape, Tensor) else shape.tolist()
    if not call.get("allowzero", 0):
        sizes = [x.shape[axis] if type(size) is int and size == 0 else size for axis, size in enumerate(sizes)]
    return x.reshape(sizes)


@rule("Flatten")
def _flatten(call: Call, x: Tensor) -> Tensor:
    axis = call.get("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    if axis == 1:
        return x.flatten(1)
    if axis == 0:
        return x.reshape(1, -1)
    return x.flatten(0, axis - 1).flatten(1)


@rule("Transpose")
def _transpose(call: Call, x: Tensor) -> Tensor:
    return x.permute(call.get("perm") or list(reversed(range(x.ndim))))


@rule("Unsqueeze")
def _unsqueeze(call: Call, x: Tensor, axes: Tensor | None = None) -> Tensor:
    chosen = numbers(axes) or call.get("axes")
    rank = x.ndim + len(chosen)
    for axis in sorted(axis % rank for axis in chosen):
        x = x.unsqueeze(axis)
    return x


@rule("Squeeze")
def _squeeze(call: Call, x: Tensor, axes: Tensor | None = None) -> Tensor:
    chosen = numbers(axes) or call.get("axes")
    if not chosen:
        chosen = [axis for axis, size in enumerate(x.shape) if type(size) is int and size == 1]
    for axis in sorted((axis % x.ndim for axis in chosen), reverse=True):
        x = x.squeeze(axis)
    return x


@rule("Concat")
def _concat(call: Call, *parts: Tensor) -> Tensor:
    return torch.cat(parts, call.get("axis"))


@rule("Split")
def _split(call: Call, x: Tensor, sizes: Tensor | None = None) -> Any:
    chosen, axis = numbers(sizes) or call.get("split"), call.get("axis", 0)
    if chosen is None:
        return tuple(torch.chunk(x, call.outputs, axis))
    return tuple(torch.split(x, list(chosen), axis))


@rule("Slice")
def _slice(call: Call, x: Tensor, *given: Tensor | None) -> Tensor:
    starts, ends, axes, steps = (*(numbers(each) for each in given), None, None, None, None)[:4]
    starts, ends = starts or call.get("starts"), ends if ends is not None else call.get("ends")
    axes = axes if axes is not None else call.get("axes")
    axes = list(range(len(starts))) if axes is None else axes
    steps = steps if steps is not None else [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step <= 0:
            if step == -1 and start in (-1, 2**31 - 1, 2**63 - 1) and end < -(2**30):
                x = x.flip(axis)
                continue
            raise call.refuse(f"a slice with the step {step}")
        index: list[Any] = [slice(None)] * x.ndim
        index[axis] = slice(start, None if end >= 2**31 - 1 else end, step)
        x = x[tuple(index)]
    return x


@rule("Gather")
def _gather(call: Call, x: Tensor, indices: Tensor) -> Tensor:
    axis = call.get("axis", 0) % x.ndim
    if axis == 0 and x.is_floating_point() and x.ndim == 2 and indices.ndim:
        return F.embedding(indices, x)
    if indices.ndim == 0:
        return x.select(axis, int(indices)) if not isinstance(indices, torch._subclasses.FakeTensor) else x[indices]
    return x[(*([slice(None)] * axis), indices)]


@rule("GatherElements")
def _gather_elements(call: Call, x: Tensor, indices: Tensor) -> Tensor:
    return torch.gather(x, call.get("axis", 0), indices)


@rule("Expand")
def _expand(call: Call, x: Tensor, shape: Any) -> Tensor:
    sizes = list(shape) if not isinstance(shape, Tensor) else shape.tolist()
    own = [1] * (len(sizes) - x.ndim) + list(x.shape)
    return x.expand([mine if type(size) is int and size == 1 else size for size, mine in zip(sizes, own, strict=True)])


@rule("Tile")
def _tile(call: Call, x: Tensor, times: Tensor) -> Tensor:
    return x.repeat(numbers(times))


@rule("Pad")
def _pad(call: Call, x: Tensor, pads: Tensor | None = None, value: Tensor | None = None, *axes: Tensor) -> Tensor:
    sizes = numbers(pads) or call.get("pads")
    if axes and axes[0] is not None:
        raise call.refuse("padding of chosen axes")
    half = len(sizes) // 2
    flat = [each for axis in reversed(range(half)) for each in (sizes[axis], sizes[half + axis])]
    while len(flat) > 2 and flat[-2:] == [0, 0]:
        flat = flat[:-2]
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate"}.get(call.get("mode", "constant"))
    if mode is None:
        raise call.refuse(f"padding of the mode {call.get('mode')}")
    if mode == "constant":
        return F.pad(x, flat, value=float(value) if value is not None else call.get("value", 0.0))
    return F.pad(x, flat, mode=mode)


@rule("DepthToSpace")
def _depth_to_space(call: Call, x: Tensor) -> Tensor:
    if call.get("mode", "DCR") != "CRD":
        raise call.refuse("DepthToSpace of the mode DCR")
    return F.pixel_shuffle(x, call.get("blocksize"))


@rule("Resize", "Upsample")
def _resize(call: Call, x: Tensor, *given: Tensor | None) -> Tensor:
    mode = {"nearest": "nearest", "linear": "bilinear"}.get(call.get("mode", "nearest"))
    if mode is None or x.ndim != 4:
        raise call.refuse(f"a resize of the mode {call.get('mode')} of {x.ndim} axes")
    inputs = [*given, None, None, None]
    if call.where.startswith("Upsample"):
        scales, sizes = inputs[0], None
    else:
        scales, sizes = inputs[1] if call.opset >= 11 else inputs[0], inputs[2]
    transform = call.get("coordinate_transformation_mode", "half_pixel" if call.opset >= 11 else "asymmetric")
    plain = transform == "asymmetric" and call.get("nearest_mode", "round_prefer_floor") == "floor"
    factors = None if scales is None or not scales.numel() else [float(each) for each in scales.tolist()]
    whole = factors is not None and all(factor == int(factor) for factor in factors)
    if mode == "nearest" and not (plain or (whole and transform in ("asymmetric", "half_pixel", "pytorch_half_pixel"))):
        raise call.refuse(f"nearest neighbours with {transform}")
    if mode == "bilinear" and transform not in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        raise call.refuse(f"interpolation with {transform}")
    corners = (transform == "align_corners") if mode == "bilinear" else None
    if sizes is not None and sizes.numel():
        return F.interpolate(x, numbers(sizes)[2:], None, mode, corners)
    return F.interpolate(x, None, factors[2:], mode, corners)


# Sizes and new tensors.


@rule("Shape")
def _shape(call: Call, x: Tensor) -> Any:
    return list(x.shape)[call.get("start", 0) : call.get("end")]


@rule("ConstantOfShape")
def _constant_of_shape(call: Call, shape: Any) -> Tensor:
    value = np.asarray(call.get("value", np.zeros(1, np.float32))).reshape(-1)
    sizes = list(shape) if not isinstance(shape, Tensor) else shape.tolist()
    return torch.full(sizes, value[0].item(), dtype=getattr(torch, value.dtype.name))


@rule("Range")
def _range(call: Call, start: Tensor, limit: Tensor, step: Tensor) -> Tensor:
    return torch.arange(start.item(), limit.item(), step.item(), dtype=start.dtype)
