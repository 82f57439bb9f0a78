"""What each call of PyTorch becomes in ONNX. The rules take the arguments that PyTorch documents for the call."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from paretoscope.graph.trace import BATCH, INPUT, Trace, refuse, rule


def _pair(value: int | Sequence[int]) -> list[int]:
    return [value, value] if isinstance(value, int) else [int(size) for size in value]


@rule(F.conv2d)
def _conv2d(
    trace: Trace,
    output: Tensor,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> str:
    if isinstance(padding, str):
        raise refuse(f"a convolution with padding={padding!r}")
    inputs = [trace.name(tensor) for tensor in (input, weight, bias) if tensor is not None]
    return trace.emit(
        "Conv",
        inputs,
        output.shape,
        kernel_shape=list(weight.shape[2:]),
        strides=_pair(stride),
        pads=_pair(padding) * 2,
        dilations=_pair(dilation),
        group=groups,
    )


@rule(F.linear)
def _linear(trace: Trace, output: Tensor, input: Tensor, weight: Tensor, bias: Tensor | None = None) -> str:
    return trace.gemm(trace.name(input), trace.name(weight), None if bias is None else trace.name(bias))


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
    return trace.emit("BatchNormalization", inputs, output.shape, epsilon=eps)


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
    return trace.emit("LayerNormalization", inputs, output.shape, axis=axis, epsilon=eps)


@rule(F.relu, torch.relu, Tensor.relu)
def _relu(trace: Trace, output: Tensor, input: Tensor, inplace: bool = False) -> str:
    return trace.emit("Relu", [trace.name(input)], output.shape)


@rule(F.hardtanh)
def _hardtanh(
    trace: Trace, output: Tensor, input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> str:
    bounds = [trace.constant(min_val), trace.constant(max_val)]
    return trace.emit("Clip", [trace.name(input), *bounds], output.shape)


@rule(F.gelu)
def _gelu(trace: Trace, output: Tensor, input: Tensor, approximate: str = "none") -> str:
    return trace.emit("Gelu", [trace.name(input)], output.shape, approximate=approximate)


@rule(F.dropout)
def _dropout(
    trace: Trace, output: Tensor, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
) -> str:
    if training:
        raise refuse("dropout while training")
    return trace.name(input)


@rule(F.max_pool2d, torch.max_pool2d)
def _max_pool2d(
    trace: Trace,
    output: Tensor,
    input: Tensor,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> str:
    return trace.emit(
        "MaxPool",
        [trace.name(input)],
        output.shape,
        kernel_shape=_pair(kernel_size),
        strides=_pair(stride or kernel_size),
        pads=_pair(padding) * 2,
        dilations=_pair(dilation),
        ceil_mode=int(ceil_mode),
    )


@rule(F.adaptive_avg_pool2d)
def _adaptive_avg_pool2d(trace: Trace, output: Tensor, input: Tensor, output_size: int | Sequence[int] | None) -> str:
    if tuple(output.shape[2:]) != (1, 1):
        raise refuse(f"adaptive pooling to {tuple(output.shape[2:])}, other than (1, 1)")
    return trace.emit("GlobalAveragePool", [trace.name(input)], output.shape)


@rule(Tensor.mean, torch.mean)
def _mean(
    trace: Trace, output: Tensor, input: Tensor, dim: int | Sequence[int] | None = None, keepdim: bool = False
) -> str:
    if input.ndim != 4 or dim is None or {axis % 4 for axis in _pair(dim)} != {2, 3}:
        raise refuse(f"a mean over dim={dim}, other than both axes of a map")
    pooled = trace.emit("GlobalAveragePool", [trace.name(input)], (*input.shape[:2], 1, 1))
    return pooled if keepdim else trace.reshape(pooled, output.shape)


@rule(Tensor.flatten, torch.flatten)
def _flatten(trace: Trace, output: Tensor, input: Tensor, start_dim: int = 0, end_dim: int = -1) -> str:
    return trace.reshape(trace.name(input), output.shape)


@rule(Tensor.reshape, torch.reshape, Tensor.view)
def _reshape(trace: Trace, output: Tensor, input: Tensor, *shape: int | Sequence[int]) -> str:
    return trace.reshape(trace.name(input), output.shape)


@rule(Tensor.permute, torch.permute)
def _permute(trace: Trace, output: Tensor, input: Tensor, *dims: int | Sequence[int]) -> str:
    order = [axis for each in dims for axis in ([each] if isinstance(each, int) else each)]
    return trace.transpose(trace.name(input), [axis % input.ndim for axis in order])


@rule(Tensor.transpose, torch.transpose)
def _transpose(trace: Trace, output: Tensor, input: Tensor, dim0: int, dim1: int) -> str:
    order = list(range(input.ndim))
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return trace.transpose(trace.name(input), order)


@rule(Tensor.expand)
def _expand(trace: Trace, output: Tensor, input: Tensor, *sizes: int | Sequence[int]) -> str:
    if len(input) != 1 or len(output) != BATCH or output.ndim != input.ndim:
        raise refuse(f"expand{sizes} of a tensor of shape {tuple(input.shape)}, other than over the batch")
    batch = trace.emit("Shape", [INPUT], (1,), end=1)
    shape = trace.emit("Concat", [batch, trace.constant(output.shape[1:], np.int64)], (output.ndim,), axis=0)
    return trace.emit("Expand", [trace.name(input), shape], output.shape)


@rule(torch.cat)
def _cat(trace: Trace, output: Tensor, tensors: Sequence[Tensor], dim: int = 0) -> str:
    return trace.emit("Concat", [trace.name(tensor) for tensor in tensors], output.shape, axis=dim % output.ndim)


@rule(Tensor.add, torch.add, Tensor.add_)
def _add(trace: Trace, output: Tensor, input: Tensor, other: object, *, alpha: float = 1) -> str:
    if alpha != 1 or not isinstance(other, Tensor):
        raise refuse("the addition of anything but two tensors")
    return trace.emit("Add", [trace.name(input), trace.name(other)], output.shape)


@rule(Tensor.__getitem__)
def _getitem(trace: Trace, output: Tensor, input: Tensor, index: object) -> str:
    if not (isinstance(index, tuple) and len(index) == 2 and index[0] == slice(None) and isinstance(index[1], int)):
        raise refuse(f"the index {index}, other than [:, i]")
    return trace.emit("Gather", [trace.name(input), trace.constant(index[1], np.int64)], output.shape, axis=1)


@rule(F.multi_head_attention_forward)
def _multi_head_attention(
    trace: Trace,
    output: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    **settings: object,
) -> str:
    """Self-attention of (tokens, n, features), Vaswani et al. 2017, section 3.2; the nodes have the batch first."""
    variants = ("key_padding_mask", "attn_mask", "is_causal", "use_separate_proj_weight", "static_k", "static_v")
    set_variants = [name for name in variants if settings.get(name) not in (None, False)]
    if not query is key is value or add_zero_attn or bias_k is not None or bias_v is not None or set_variants:
        raise refuse("attention other than plain self-attention")
    tokens, batch, features = query.shape
    width = features // num_heads
    heads, scores = (batch, num_heads, tokens, width), (batch, num_heads, tokens, tokens)

    x = trace.transpose(trace.name(query), (1, 0, 2))
    x = trace.gemm(x, trace.name(in_proj_weight), None if in_proj_bias is None else trace.name(in_proj_bias))
    x = trace.reshape(x, (batch, tokens, 3, num_heads, width))
    x = trace.transpose(x, (2, 0, 3, 1, 4))
    q, k, v = (trace.emit("Gather", [x, trace.constant(part, np.int64)], heads, axis=0) for part in range(3))
    x = trace.emit("MatMul", [q, trace.transpose(k, (0, 1, 3, 2))], scores)
    x = trace.emit("Mul", [x, trace.constant(width**-0.5)], scores)
    x = trace.emit("Softmax", [x], scores, axis=-1)
    x = trace.emit("MatMul", [x, v], heads)
    x = trace.transpose(x, (0, 2, 1, 3))
    x = trace.reshape(x, (batch, tokens, features))
    x = trace.gemm(x, trace.name(out_proj_weight), None if out_proj_bias is None else trace.name(out_proj_bias))
    return trace.transpose(x, (1, 0, 2))
