"""The operators of our ONNX graphs as calls of PyTorch: what a node computes, on tensors."""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper
from torch import Tensor
from torch.nn import functional as F

from paretoscope.base.errors import ModelError

Attributes = dict[str, Any]


def operator(node: onnx.NodeProto) -> Callable[..., Tensor]:
    """The function of a node's inputs that gives its output; none changes its inputs."""
    if node.op_type not in _OPERATORS:
        raise ModelError(
            f"the integer simulation does not cover the operator {node.op_type}. "
            "Use a recipe of float activations for this model."
        )
    return _OPERATORS[node.op_type]({a.name: helper.get_attribute_value(a) for a in node.attribute})


_CONVOLUTIONS: dict[int, Callable[..., Tensor]] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED: dict[int, Callable[..., Tensor]] = {
    1: F.conv_transpose1d,
    2: F.conv_transpose2d,
    3: F.conv_transpose3d,
}
_MAX_POOLS: dict[int, Callable[..., Any]] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_MEAN_POOLS: dict[int, Callable[..., Tensor]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
# Where in ONNX each gate of PyTorch is: input, forget, cell, output of an LSTM; reset, update, new of a GRU.
_GATES = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}


def _conv(a: Attributes) -> Callable[..., Tensor]:
    axes = len(a["kernel_shape"])
    first, last = a["pads"][:axes], a["pads"][axes:]
    convolve, stride, dilation, groups = _CONVOLUTIONS[axes], a["strides"], a["dilations"], a["group"]
    if first == last:
        return lambda x, weight, bias=None: convolve(x, weight, bias, stride, first, dilation, groups)
    around = [pad for pair in zip(first[::-1], last[::-1], strict=True) for pad in pair]
    return lambda x, weight, bias=None: convolve(F.pad(x, around), weight, bias, stride, 0, dilation, groups)


def _conv_transpose(a: Attributes) -> Callable[..., Tensor]:
    axes = len(a["kernel_shape"])
    settings = a["strides"], a["pads"][:axes], a["output_padding"], a["group"], a["dilations"]
    return lambda x, weight, bias=None: _TRANSPOSED[axes](x, weight, bias, *settings)


def _max_pool(a: Attributes) -> Callable[..., Tensor]:
    axes = len(a["kernel_shape"])
    settings = a["kernel_shape"], a["strides"], a["pads"][:axes], a["dilations"], bool(a["ceil_mode"])
    return lambda x: _MAX_POOLS[axes](x, *settings)


def _mean_pool(a: Attributes) -> Callable[..., Tensor]:
    axes = len(a["kernel_shape"])
    ends = bool(a["ceil_mode"]), bool(a["count_include_pad"])
    return lambda x: _MEAN_POOLS[axes](x, a["kernel_shape"], a["strides"], a["pads"][:axes], *ends)


def _batch_norm(a: Attributes) -> Callable[..., Tensor]:
    return lambda x, gamma, beta, mean, variance: F.batch_norm(x, mean, variance, gamma, beta, eps=a["epsilon"])


def _layer_norm(a: Attributes) -> Callable[..., Tensor]:
    return lambda x, gamma, beta=None: F.layer_norm(x, x.shape[a["axis"] :], gamma, beta, a["epsilon"])


def _gather(a: Attributes) -> Callable[..., Tensor]:
    def pick(x: Tensor, index: Tensor) -> Tensor:
        if not index.ndim:
            return x.select(a["axis"], int(index))
        found = x.index_select(a["axis"], index.reshape(-1).long())
        return found.reshape(*x.shape[: a["axis"]], *index.shape, *x.shape[a["axis"] + 1 :])

    return pick


def _slice(a: Attributes) -> Callable[..., Tensor]:
    def cut(x: Tensor, start: Tensor, end: Tensor, axis: Tensor, step: Tensor | None = None) -> Tensor:
        if step is not None and int(step) == -1:
            return x.flip(int(axis))
        index: list[Any] = [slice(None)] * x.ndim
        index[int(axis)] = slice(int(start), int(end), 1 if step is None else int(step))
        return x[tuple(index)]

    return cut


def _reduced(a: Attributes, function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda x, axes: function(x, dim=axes.tolist(), keepdim=bool(a["keepdims"]))


def _product(x: Tensor, dim: list[int], keepdim: bool) -> Tensor:
    for axis in sorted(dim, reverse=True):
        x = x.prod(axis, keepdim=keepdim)
    return x


def _pad(a: Attributes) -> Callable[..., Tensor]:
    mode = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}[a["mode"].decode()]

    def pad(x: Tensor, pads: Tensor, value: Tensor | None = None) -> Tensor:
        ends = pads.tolist()
        around = [each for axis in reversed(range(x.ndim)) for each in (ends[axis], ends[axis + x.ndim])]
        if mode == "constant":
            return F.pad(x, around, mode, 0 if value is None else value.item())
        while not any(around[-2:]):
            around = around[:-2]
        return F.pad(x, around, mode)

    return pad


def _resize(a: Attributes) -> Callable[..., Tensor]:
    mode, corners = a["mode"].decode(), a["coordinate_transformation_mode"] == b"align_corners"

    def resize(x: Tensor, *how: Tensor) -> Tensor:
        names = {"nearest": "nearest", "cubic": "bicubic", "linear": ("linear", "bilinear", "trilinear")[x.ndim - 3]}
        kind = names[mode]
        align = None if mode == "nearest" else corners
        if how[-1].dtype == torch.int64:
            return F.interpolate(x, size=how[-1].tolist()[2:], mode=kind, align_corners=align)
        return F.interpolate(x, scale_factor=how[-1].tolist()[2:], mode=kind, align_corners=align)

    return resize


def _recurrent(kind: str) -> Callable[[Attributes], Callable[..., Tensor]]:
    """A layer of both directions, (length, directions, n, hidden)."""

    def made(a: Attributes) -> Callable[..., Tensor]:
        hidden, directions = a["hidden_size"], 1 + (a["direction"] == b"bidirectional")
        call = torch.lstm if kind == "LSTM" else torch.gru
        if kind == "RNN":
            call = torch.rnn_relu if a["activations"][0] == b"Relu" else torch.rnn_tanh

        def back(rows: Tensor) -> Tensor:
            return torch.cat([rows.chunk(len(_GATES[kind]))[gate] for gate in _GATES[kind]])

        def run(x: Tensor, w: Tensor, r: Tensor, b: Tensor | None = None, *more: Tensor | None) -> Tensor:
            params = []
            for d in range(directions):
                params += [back(w[d]), back(r[d])]
                if b is not None:
                    params += [back(half) for half in b[d].chunk(2)]
            none = x.new_zeros(directions, x.shape[1], hidden)
            first = [none if each is None else each for each in (more[1:] or (None,))]
            first += [none] * (1 + (kind == "LSTM") - len(first))
            start: Any = first if kind == "LSTM" else first[0]
            out = call(x, start, params, b is not None, 1, 0.0, False, directions == 2, False)[0]
            return out.reshape(*x.shape[:2], directions, hidden).transpose(1, 2)

        return run

    return made


def _cast(a: Attributes) -> Callable[..., Tensor]:
    kind = torch.from_numpy(np.zeros(0, helper.tensor_dtype_to_np_dtype(a["to"]))).dtype
    return lambda x: x.to(kind)


def _shape(a: Attributes) -> Callable[..., Tensor]:
    return lambda x: torch.tensor(x.shape[: a["end"]])


def _expand(x: Tensor, shape: Tensor) -> Tensor:
    return x.expand(torch.broadcast_shapes(x.shape, tuple(shape.tolist())))


def _depth_to_space(a: Attributes) -> Callable[..., Tensor]:
    return lambda x: F.pixel_shuffle(x, a["blocksize"])


def _divided(x: Tensor, y: Tensor) -> Tensor:
    return x / y if x.is_floating_point() else torch.div(x, y, rounding_mode="trunc")


def _global_mean(x: Tensor) -> Tensor:
    return x.mean(tuple(range(2, x.ndim)), keepdim=True)


# Of one input, or of two.
_PLAIN: dict[str, Callable[..., Tensor]] = {
    "Abs": torch.abs,
    "Add": torch.add,
    "And": torch.logical_and,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "CumSum": lambda x, axis: x.cumsum(int(axis)),
    "Div": _divided,
    "Equal": torch.eq,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Expand": _expand,
    "Floor": torch.floor,
    "Gemm": F.linear,
    "GlobalAveragePool": _global_mean,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "HardSigmoid": F.hardsigmoid,
    "HardSwish": F.hardswish,
    "Identity": lambda x: x,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Log": torch.log,
    "MatMul": torch.matmul,
    "Max": torch.maximum,
    "Min": torch.minimum,
    "Mod": torch.remainder,
    "Mul": torch.mul,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Or": torch.logical_or,
    "PRelu": lambda x, slope: torch.where(x < 0, x * slope, x),
    "Pow": torch.pow,
    "Reciprocal": torch.reciprocal,
    "Relu": torch.relu,
    "Reshape": lambda x, shape: x.reshape(shape.tolist()),
    "Round": torch.round,
    "Selu": F.selu,
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Softplus": F.softplus,
    "Softsign": F.softsign,
    "Sqrt": torch.sqrt,
    "Sub": torch.sub,
    "Tanh": torch.tanh,
    "Tile": lambda x, times: x.repeat(times.tolist()),
    "Where": torch.where,
    "Xor": torch.logical_xor,
}
_REDUCTIONS: dict[str, Callable[..., Tensor]] = {
    "ReduceL1": lambda x, dim, keepdim: torch.linalg.vector_norm(x, 1, dim, keepdim),
    "ReduceL2": lambda x, dim, keepdim: torch.linalg.vector_norm(x, 2, dim, keepdim),
    "ReduceLogSumExp": torch.logsumexp,
    "ReduceMax": torch.amax,
    "ReduceMean": torch.mean,
    "ReduceMin": torch.amin,
    "ReduceProd": _product,
    "ReduceSum": torch.sum,
}


def _fixed(function: Callable[..., Tensor]) -> Callable[[Attributes], Callable[..., Tensor]]:
    return lambda a: function


def _reduction(function: Callable[..., Tensor]) -> Callable[[Attributes], Callable[..., Tensor]]:
    return lambda a: _reduced(a, function)


_OPERATORS: dict[str, Callable[[Attributes], Callable[..., Tensor]]] = {
    **{op: _fixed(function) for op, function in _PLAIN.items()},
    **{op: _reduction(function) for op, function in _REDUCTIONS.items()},
    **{kind: _recurrent(kind) for kind in _GATES},
    "ArgMax": lambda a: lambda x: x.argmax(a["axis"], keepdim=bool(a["keepdims"])),
    "AveragePool": _mean_pool,
    "BatchNormalization": _batch_norm,
    "Cast": _cast,
    "Celu": lambda a: lambda x: F.celu(x, a["alpha"]),
    "Clip": lambda a: lambda x, low, high: x.clamp(low.item(), high.item()),
    "Concat": lambda a: lambda *parts: torch.cat(parts, a["axis"]),
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "DepthToSpace": _depth_to_space,
    "Einsum": lambda a: lambda *parts: torch.einsum(a["equation"].decode(), *parts),
    "Elu": lambda a: lambda x: F.elu(x, a["alpha"]),
    "Gather": _gather,
    "GatherElements": lambda a: lambda x, index: x.gather(a["axis"], index),
    "Gelu": lambda a: lambda x: F.gelu(x, approximate=a["approximate"].decode()),
    "InstanceNormalization": lambda a: lambda x, w, b: F.instance_norm(x, weight=w, bias=b, eps=a["epsilon"]),
    "LayerNormalization": _layer_norm,
    "LeakyRelu": lambda a: lambda x: F.leaky_relu(x, a["alpha"]),
    "LogSoftmax": lambda a: lambda x: x.log_softmax(a["axis"]),
    "MaxPool": _max_pool,
    "Pad": _pad,
    "Resize": _resize,
    "Shape": _shape,
    "Slice": _slice,
    "Softmax": lambda a: lambda x: x.softmax(a["axis"]),
    "Transpose": lambda a: lambda x: x.permute(a["perm"]),
    "Trilu": lambda a: lambda x, k: x.triu(int(k)) if a["upper"] else x.tril(int(k)),
}
