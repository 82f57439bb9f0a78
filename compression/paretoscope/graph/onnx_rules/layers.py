"""Layers with weights of their own, and normalisations. The rules take the arguments that PyTorch documents."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from paretoscope.graph.trace import Trace, refuse, rule

Sizes = int | Sequence[int]


def spread(value: Sizes, axes: int) -> list[int]:
    """One value for each axis of space."""
    values = [value] if isinstance(value, int) else [int(size) for size in value]
    return values * axes if len(values) == 1 else values


@rule(F.conv1d, F.conv2d, F.conv3d)
def _conv(
    trace: Trace,
    output: Tensor,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: str | Sizes = 0,
    dilation: Sizes = 1,
    groups: int = 1,
) -> str:
    if input.ndim != weight.ndim:
        raise refuse("a convolution of one sample without a batch")
    axes = weight.ndim - 2
    kernel, dilations = list(weight.shape[2:]), spread(dilation, axes)
    if isinstance(padding, str):
        # What is odd goes to the end, as in PyTorch.
        total = [d * (k - 1) if padding == "same" else 0 for d, k in zip(dilations, kernel, strict=True)]
        pads = [each // 2 for each in total] + [each - each // 2 for each in total]
    else:
        pads = spread(padding, axes) * 2
    inputs = [trace.name(tensor) for tensor in (input, weight, bias) if tensor is not None]
    return trace.emit(
        "Conv",
        inputs,
        trace.size(output),
        kernel_shape=kernel,
        strides=spread(stride, axes),
        pads=pads,
        dilations=dilations,
        group=groups,
    )


@rule(F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)
def _conv_transpose(
    trace: Trace,
    output: Tensor,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sizes = 1,
    padding: Sizes = 0,
    output_padding: Sizes = 0,
    groups: int = 1,
    dilation: Sizes = 1,
) -> str:
    if input.ndim != weight.ndim:
        raise refuse("a convolution of one sample without a batch")
    axes = weight.ndim - 2
    inputs = [trace.name(tensor) for tensor in (input, weight, bias) if tensor is not None]
    return trace.emit(
        "ConvTranspose",
        inputs,
        trace.size(output),
        kernel_shape=list(weight.shape[2:]),
        strides=spread(stride, axes),
        pads=spread(padding, axes) * 2,
        output_padding=spread(output_padding, axes),
        dilations=spread(dilation, axes),
        group=groups,
    )


@rule(F.linear)
def _linear(trace: Trace, output: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> str:
    if input.ndim < 2 or weight.ndim != 2:
        raise refuse("a linear layer of one sample without a batch")
    name, given = trace.name(input), trace.name(weight)
    if given not in trace.initializers:  # a weight that the network computes
        product = trace.emit("MatMul", [name, trace.transpose(given, (1, 0))], trace.size(output))
        return product if bias is None else trace.emit("Add", [product, trace.name(bias)], trace.size(output))
    return trace.gemm(name, given, None if bias is None else trace.name(bias))


@rule(F.embedding)
def _embedding(trace: Trace, output: Tensor, input: Tensor, weight: Tensor, *settings: Any, **more: Any) -> str:
    if (settings and len(settings) > 1 and settings[1] is not None) or more.get("max_norm") is not None:
        raise refuse("an embedding whose rows are scaled when they are read")
    return trace.of("Gather", [weight, input], output, axis=0)


@rule(F.batch_norm)
def _batch_norm(
    trace: Trace,
    output: Tensor,
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> str:
    if training or running_mean is None or running_var is None:
        raise refuse("batch normalisation by the statistics of the batch")
    gamma = trace.constant(np.ones(len(running_mean))) if weight is None else trace.name(weight)
    beta = trace.constant(np.zeros(len(running_mean))) if bias is None else trace.name(bias)
    inputs = [trace.name(input), gamma, beta, trace.name(running_mean), trace.name(running_var)]
    return trace.emit("BatchNormalization", inputs, trace.size(output), epsilon=eps)


@rule(F.layer_norm)
def _layer_norm(
    trace: Trace,
    output: Tensor,
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> str:
    gamma = trace.constant(np.ones(normalized_shape)) if weight is None else trace.name(weight)
    inputs = [trace.name(input), gamma] + ([] if bias is None else [trace.name(bias)])
    axis = input.ndim - len(normalized_shape)
    return trace.emit("LayerNormalization", inputs, trace.size(output), axis=axis, epsilon=eps)


def _instances(
    trace: Trace, output: Tensor, x: str, parts: int, weight: Tensor | None, bias: Tensor | None, eps: float
) -> str:
    """Normalisation of each of the parts of a sample, then the factors and terms of each channel."""
    shape = trace.size(output)
    n, rest = shape[0], int(np.prod(output.shape[1:]))
    ones, none = trace.constant(np.ones(parts)), trace.constant(np.zeros(parts))
    x = trace.reshape(x, (n, parts, rest // parts))
    x = trace.emit("InstanceNormalization", [x, ones, none], (n, parts, rest // parts), epsilon=eps)
    x = trace.reshape(x, shape)
    channels = (shape[1], *[1] * (output.ndim - 2))
    for op, tensor in (("Mul", weight), ("Add", bias)):
        if tensor is not None:
            x = trace.emit(op, [x, trace.reshape(trace.name(tensor), channels)], shape)
    return x


@rule(F.group_norm)
def _group_norm(
    trace: Trace,
    output: Tensor,
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> str:
    return _instances(trace, output, trace.name(input), num_groups, weight, bias, eps)


@rule(F.instance_norm)
def _instance_norm(
    trace: Trace,
    output: Tensor,
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> str:
    if not use_input_stats:
        return _batch_norm(trace, output, input, running_mean, running_var, weight, bias, False, momentum, eps)  # type: ignore[return-value]
    return _instances(trace, output, trace.name(input), input.shape[1], weight, bias, eps)


@rule(F.rms_norm, torch.rms_norm)
def _rms_norm(
    trace: Trace,
    output: Tensor,
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> str:
    x, shape = trace.name(input), trace.size(output)
    axes = trace.ints(*range(input.ndim - len(normalized_shape), input.ndim))
    kept = (*shape[: input.ndim - len(normalized_shape)], *[1] * len(normalized_shape))
    squares = trace.emit("ReduceMean", [trace.emit("Mul", [x, x], shape), axes], kept, keepdims=1)
    small = trace.constant(torch.finfo(input.dtype).eps if eps is None else eps)
    root = trace.emit("Sqrt", [trace.emit("Add", [squares, small], kept)], kept)
    x = trace.emit("Div", [x, root], shape)
    return x if weight is None else trace.emit("Mul", [x, trace.name(weight)], shape)


@rule(F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, torch.dropout, F.alpha_dropout, F.feature_alpha_dropout)
def _dropout(
    trace: Trace, output: Tensor, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> str:
    if training:
        raise refuse("dropout while training")
    return trace.name(input)
