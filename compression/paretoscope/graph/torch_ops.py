"""The operators of our ONNX graphs as calls of PyTorch: what a node computes, on tensors."""

from collections.abc import Callable
from typing import Any

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


def _conv(a: Attributes) -> Callable[..., Tensor]:
    stride, pad, dilation, groups = a["strides"], a["pads"][:2], a["dilations"], a["group"]
    return lambda x, weight, bias=None: F.conv2d(x, weight, bias, stride, pad, dilation, groups)


def _max_pool(a: Attributes) -> Callable[..., Tensor]:
    settings = a["kernel_shape"], a["strides"], a["pads"][:2], a["dilations"], bool(a["ceil_mode"])
    return lambda x: F.max_pool2d(x, *settings)


def _batch_norm(a: Attributes) -> Callable[..., Tensor]:
    return lambda x, gamma, beta, mean, variance: F.batch_norm(x, mean, variance, gamma, beta, eps=a["epsilon"])


def _layer_norm(a: Attributes) -> Callable[..., Tensor]:
    return lambda x, gamma, beta=None: F.layer_norm(x, x.shape[a["axis"] :], gamma, beta, a["epsilon"])


_OPERATORS: dict[str, Callable[[Attributes], Callable[..., Tensor]]] = {
    "Add": lambda a: torch.add,
    "BatchNormalization": _batch_norm,
    "Clip": lambda a: lambda x, low, high: x.clamp(float(low), float(high)),
    "Concat": lambda a: lambda *parts: torch.cat(parts, a["axis"]),
    "Conv": _conv,
    "Expand": lambda a: lambda x, shape: x.expand(shape.tolist()),
    "Gather": lambda a: lambda x, index: x.select(a["axis"], int(index)),
    "Gelu": lambda a: lambda x: F.gelu(x, approximate=a["approximate"].decode()),
    "Gemm": lambda a: F.linear,
    "GlobalAveragePool": lambda a: lambda x: x.mean((2, 3), keepdim=True),
    "LayerNormalization": _layer_norm,
    "MatMul": lambda a: torch.matmul,
    "MaxPool": _max_pool,
    "Mul": lambda a: torch.mul,
    "Relu": lambda a: torch.relu,
    "Reshape": lambda a: lambda x, shape: x.reshape(shape.tolist()),
    "Shape": lambda a: lambda x: torch.tensor(x.shape[: a["end"]]),
    "Softmax": lambda a: lambda x: x.softmax(a["axis"]),
    "Transpose": lambda a: lambda x: x.permute(a["perm"]),
}
