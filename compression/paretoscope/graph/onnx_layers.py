"""The layers and the pooling of ONNX files as calls of PyTorch.

Where ONNX pads at the two ends of an axis differently, the input is padded first.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from paretoscope.graph.onnx_calls import Call, rule


def _padded(
    call: Call, x: Tensor, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], value: float
) -> tuple[Tensor, list[int]]:
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
    result: Tensor = alpha * (a @ rows.t())
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


@rule("GroupNormalization")
def _group_normalization(call: Call, x: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
    groups = call.get("num_groups")
    if len(gamma) != x.shape[1]:  # before opset 21: one number for each group
        raise call.refuse("a scale for each group, not for each channel")
    return F.group_norm(x, groups, gamma, beta, call.get("epsilon", 1e-5))


@rule("LRN")
def _lrn(call: Call, x: Tensor) -> Tensor:
    size, alpha = call.get("size"), call.get("alpha", 1e-4)
    beta, bias = call.get("beta", 0.75), call.get("bias", 1.0)
    # The sum over neighbouring channels as an average over an axis of its own.
    squares = (x * x).unsqueeze(1)
    flat = squares.flatten(3) if x.ndim > 3 else squares.unsqueeze(-1)
    padded = F.pad(flat, (0, 0, (size - 1) // 2, size // 2))
    mean = F.avg_pool2d(padded, (size, 1), stride=1).squeeze(1).reshape(x.shape)
    below: Tensor = (mean * alpha + bias).pow(beta)
    return x / below


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
