"""Pools and reductions."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from paretoscope.graph.onnx_rules.layers import Sizes, spread
from paretoscope.graph.trace import Trace, refuse, rule, varies


@rule(F.max_pool1d, F.max_pool2d, F.max_pool3d, torch.max_pool1d, torch.max_pool2d, torch.max_pool3d)
def _max_pool(
    trace: Trace,
    output: Tensor,
    input: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    dilation: Sizes = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> str:
    axes = input.ndim - 2
    return trace.emit(
        "MaxPool",
        [trace.name(input)],
        trace.size(output),
        kernel_shape=spread(kernel_size, axes),
        strides=spread(stride or kernel_size, axes),
        pads=spread(padding, axes) * 2,
        dilations=spread(dilation, axes),
        ceil_mode=int(ceil_mode),
    )


@rule(F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)
def _avg_pool(
    trace: Trace,
    output: Tensor,
    input: Tensor,
    kernel_size: Sizes,
    stride: Sizes | None = None,
    padding: Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> str:
    if divisor_override is not None:
        raise refuse("a mean pool with a divisor of its own")
    axes = input.ndim - 2
    return trace.emit(
        "AveragePool",
        [trace.name(input)],
        trace.size(output),
        kernel_shape=spread(kernel_size, axes),
        strides=spread(stride or kernel_size, axes),
        pads=spread(padding, axes) * 2,
        ceil_mode=int(ceil_mode),
        count_include_pad=int(count_include_pad),
    )


@rule(F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)
def _adaptive_avg_pool(trace: Trace, output: Tensor, input: Tensor, output_size: Sizes | None) -> str:
    given, wanted = input.shape[2:], output.shape[2:]
    if set(wanted) == {1}:
        return trace.emit("GlobalAveragePool", [trace.name(input)], trace.size(output))
    if all(size % out == 0 for size, out in zip(given, wanted, strict=True)):
        kernel = [size // out for size, out in zip(given, wanted, strict=True)]
        return _avg_pool(trace, output, input, kernel)  # type: ignore[return-value]
    x, shape = trace.name(input), list(trace.size(input))
    for axis, out in enumerate(wanted, 2):
        # Windows of several sizes: means along an axis are a product with the shares of its places.
        shares, size = np.zeros((shape[axis], out), np.float32), int(shape[axis])
        for place in range(out):
            first, last = place * size // out, -(-(place + 1) * size // out)
            shares[first:last, place] = 1 / (last - first)
        order = list(range(len(shape)))
        order[axis], order[-1] = order[-1], order[axis]
        shape[axis] = out
        moved = trace.transpose(x, order)
        moved = trace.emit("MatMul", [moved, trace.constant(shares)], [shape[place] for place in order])
        x = trace.transpose(moved, order)
    return x


@rule(F.adaptive_max_pool1d, F.adaptive_max_pool2d, F.adaptive_max_pool3d)
def _adaptive_max_pool(
    trace: Trace, output: Tensor, input: Tensor, output_size: Sizes | None, return_indices: bool = False
) -> str:
    given, wanted = input.shape[2:], output.shape[2:]
    if any(size % out for size, out in zip(given, wanted, strict=True)):
        raise refuse(f"adaptive maximum pooling of {tuple(given)} to {tuple(wanted)}, which does not divide it")
    return _max_pool(trace, output, input, [size // out for size, out in zip(given, wanted, strict=True)])  # type: ignore[return-value]


def _axes(input: Tensor, dim: int | Sequence[int] | None) -> list[int]:
    """The axes that a reduction is over; all of them where none are named."""
    named = [dim] if isinstance(dim, int) else list(dim or ())
    return sorted(axis % input.ndim for axis in named) or list(range(input.ndim))


def _reduced(
    trace: Trace, op: str, x: str, input: Tensor, axes: Sequence[int], keepdim: bool, **attributes: Any
) -> str:
    shape = trace.size(input)
    kept = [1 if axis in axes else size for axis, size in enumerate(shape)]
    if not keepdim:
        kept = [size for axis, size in enumerate(shape) if axis not in axes]
    return trace.emit(op, [x, trace.ints(*axes)], kept, keepdims=int(keepdim), **attributes)


@rule(Tensor.mean, torch.mean)
def _mean(
    trace: Trace,
    output: Tensor,
    input: Tensor,
    dim: int | Sequence[int] | None = None,
    keepdim: bool = False,
    *,
    dtype: torch.dtype | None = None,
) -> str:
    axes = _axes(input, dim)
    if input.ndim == 4 and axes == [2, 3] and input.dtype == output.dtype:
        pooled = trace.emit("GlobalAveragePool", [trace.name(input)], (*trace.size(input)[:2], 1, 1))
        return pooled if keepdim else trace.reshape(pooled, trace.size(output))
    return _reduced(trace, "ReduceMean", trace.operand(input, output.dtype), input, axes, keepdim)


def _plain(op: str, *functions: Any) -> None:
    @rule(*functions)
    def _reduce(
        trace: Trace,
        output: Tensor,
        input: Tensor,
        dim: int | Sequence[int] | None = None,
        keepdim: bool = False,
        *,
        dtype: torch.dtype | None = None,
    ) -> str:
        return _reduced(trace, op, trace.operand(input, output.dtype), input, _axes(input, dim), keepdim)


_plain("ReduceSum", torch.sum, Tensor.sum)
_plain("ReduceMax", torch.amax, Tensor.amax)
_plain("ReduceMin", torch.amin, Tensor.amin)
_plain("ReduceProd", torch.prod, Tensor.prod)
_plain("ReduceLogSumExp", torch.logsumexp, Tensor.logsumexp)


@rule(torch.max, Tensor.max, torch.min, Tensor.min, several=True)
def _extreme(trace: Trace, output: Any, input: Tensor, dim: Any = None, keepdim: bool = False) -> list[str]:
    raise refuse("max or min that give places too; amax and amin give the values alone")


@rule(torch.argmax, Tensor.argmax)
def _argmax(trace: Trace, output: Tensor, input: Tensor, dim: int | None = None, keepdim: bool = False) -> str:
    if dim is None:
        raise refuse("argmax over all axes")
    return trace.of("ArgMax", [input], output, axis=dim % input.ndim, keepdims=int(keepdim))


def _spread_of(
    trace: Trace, output: Tensor, input: Tensor, dim: Any, correction: Any, keepdim: bool, unbiased: Any
) -> str:
    """The variance over some axes."""
    if isinstance(dim, bool):  # var(unbiased), over all axes
        dim, unbiased = None, dim
    if unbiased is not None:
        correction = int(unbiased)
    axes, shape, x = _axes(input, dim), trace.size(input), trace.name(input)
    if any(varies(shape[axis]) for axis in axes):
        raise refuse("a variance over the batch")
    count = math.prod(int(shape[axis]) for axis in axes)
    mean = _reduced(trace, "ReduceMean", x, input, axes, True)
    off = trace.emit("Sub", [x, mean], shape)
    found = _reduced(trace, "ReduceMean", trace.emit("Mul", [off, off], shape), input, axes, keepdim)
    wanted = 1 if correction is None else correction
    if not wanted:
        return found
    return trace.emit("Mul", [found, trace.constant(count / (count - wanted))], trace.size(output))


@rule(torch.var, Tensor.var)
def _var(
    trace: Trace,
    output: Tensor,
    input: Tensor,
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: Any = None,
) -> str:
    return _spread_of(trace, output, input, dim, correction, keepdim, unbiased)


@rule(torch.std, Tensor.std)
def _std(
    trace: Trace,
    output: Tensor,
    input: Tensor,
    dim: Any = None,
    unbiased: bool | None = None,
    keepdim: bool = False,
    *,
    correction: Any = None,
) -> str:
    found = _spread_of(trace, output, input, dim, correction, keepdim, unbiased)
    return trace.emit("Sqrt", [found], trace.size(output))


@rule(torch.linalg.vector_norm, torch.norm, Tensor.norm)
def _norm(
    trace: Trace, output: Tensor, input: Tensor, ord: Any = 2, dim: Any = None, keepdim: bool = False, **more: Any
) -> str:
    ops = {1: "ReduceL1", 2: "ReduceL2", "fro": "ReduceL2"}
    order = more.pop("p", ord)
    if order not in ops or any(value is not None for value in more.values()):
        raise refuse(f"a norm of order {order}")
    return _reduced(trace, ops[order], trace.name(input), input, _axes(input, dim), keepdim)


@rule(F.normalize)
def _normalize(
    trace: Trace, output: Tensor, input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12, out: None = None
) -> str:
    if p not in (1, 2):
        raise refuse(f"a norm of order {p}")
    x, axis, shape = trace.name(input), dim % input.ndim, trace.size(output)
    kept = [1 if place == axis else size for place, size in enumerate(shape)]
    length = _reduced(trace, f"ReduceL{int(p)}", x, input, [axis], True)
    length = trace.emit("Max", [length, trace.constant(eps)], kept)
    return trace.emit("Div", [x, length], shape)
