"""The operators that an imported network may consist of: the allow-list, and the call of PyTorch that each becomes.

An operator is called what PyTorch calls it (the overload of its ATen function), so that a graph can be read with
PyTorch's documentation. What is called is the function of the public interface where there is one, since those who
watch a forward pass (`trace`, `replay`, torch-pruning) know these. Operators that change their input in place, and
views of it, stand for those that give a new tensor: the importer has made sure that nobody sees the difference.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from paretoscope.base.errors import ModelError

Function = Callable[..., Any]

OPERATORS: dict[str, Function] = {}


def _add(functions: dict[str, Function]) -> None:
    for name, function in functions.items():
        if name in OPERATORS:
            raise ValueError(f"an operator must be registered once; {name} is there already.")
        OPERATORS[name] = function


def _batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor | None,
    variance: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
    cudnn: bool = True,
) -> Tensor:
    return F.batch_norm(x, mean, variance, weight, bias, training, momentum, eps)


def _unchanged(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return x


def _expand(x: Tensor, sizes: Sequence[int], *, implicit: bool = False) -> Tensor:
    return x.expand(*sizes)


def _slice(x: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Tensor:
    index: list[Any] = [slice(None)] * x.ndim
    index[dim] = slice(start, None if end is None or end >= 2**62 else end, step)
    return x[tuple(index)]


def _select(x: Tensor, dim: int, index: int) -> Tensor:
    before: list[Any] = [slice(None)] * (dim % x.ndim)
    return x[(*before, index)]


def _index(x: Tensor, indices: Sequence[Tensor | None]) -> Tensor:
    return x[tuple(slice(None) if each is None else each for each in indices)]


def _size(x: Tensor, dim: int) -> int:
    return x.shape[dim]


def _layer_norm(
    x: Tensor,
    shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn: bool = True,
) -> Tensor:
    return F.layer_norm(x, list(shape), weight, bias, eps)


def _group_norm(
    x: Tensor,
    groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    cudnn: bool = True,
) -> Tensor:
    return F.group_norm(x, groups, weight, bias, eps)


def _embedding(indices_of: Tensor, indices: Tensor, *settings: Any) -> Tensor:
    # What follows (padding, scaling of gradients, sparse gradients) is for training alone.
    return F.embedding(indices, indices_of)


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None = None,
    dropout: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    return F.scaled_dot_product_attention(
        query, key, value, mask, dropout_p=0.0, is_causal=is_causal, scale=scale, enable_gqa=enable_gqa
    )


def _upsample(mode: str, with_corners: bool) -> Function:
    def resize(x: Tensor, size: Any, *rest: Any) -> Tensor:
        corners = bool(rest[0]) if with_corners else None
        factors = rest[1 if with_corners else 0] if len(rest) > with_corners else None
        scales = list(factors) if factors is not None else None
        resized: Tensor = F.interpolate(
            x,
            None if size is None else list(size),
            scales if size is None else None,
            mode,
            corners,
        )
        return resized

    return resize


def _pool(function: Function) -> Function:
    def pool(
        x: Tensor, kernel: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False
    ) -> Tensor:
        pooled: Tensor = function(x, kernel, stride or None, padding, dilation, ceil_mode)
        return pooled

    return pool


def _average(function: Function) -> Function:
    def pool(
        x: Tensor,
        kernel: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor: int | None = None,
    ) -> Tensor:
        more = () if divisor is None else (divisor,)
        pooled: Tensor = function(x, kernel, stride or None, padding, ceil_mode, count_include_pad, *more)
        return pooled

    return pool


def _mean(x: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    return torch.mean(x, dim, keepdim, dtype=dtype) if dim is not None else torch.mean(x, dtype=dtype)


def _sum(x: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    return torch.sum(x, dim, keepdim, dtype=dtype) if dim is not None else torch.sum(x, dtype=dtype)


def _cast(x: Tensor, dtype: torch.dtype | None = None, *args: Any, **kwargs: Any) -> Tensor:
    return x if dtype is None else x.to(dtype)


def _zeros_like(x: Tensor, **settings: Any) -> Tensor:
    return torch.zeros_like(x, **settings)


# Layers and products: their weights are arguments. Where those are a module's own, the importer makes a module of them.
_add(
    {
        "aten.linear.default": F.linear,
        "aten.addmm.default": torch.addmm,
        "aten.matmul.default": torch.matmul,
        "aten.mm.default": torch.mm,
        "aten.bmm.default": torch.bmm,
        "aten.baddbmm.default": torch.baddbmm,
        "aten.einsum.default": lambda equation, tensors, **settings: torch.einsum(equation, *tensors),
        "aten.conv1d.default": F.conv1d,
        "aten.conv2d.default": F.conv2d,
        "aten.conv3d.default": F.conv3d,
        "aten.conv1d.padding": F.conv1d,
        "aten.conv2d.padding": F.conv2d,
        "aten.conv3d.padding": F.conv3d,
        "aten.conv_transpose1d.default": F.conv_transpose1d,
        "aten.conv_transpose2d.input": F.conv_transpose2d,
        "aten.conv_transpose3d.input": F.conv_transpose3d,
        "aten.batch_norm.default": _batch_norm,
        "aten.layer_norm.default": _layer_norm,
        "aten.group_norm.default": _group_norm,
        "aten.embedding.default": _embedding,
        "aten.scaled_dot_product_attention.default": _attention,
        "aten.prelu.default": F.prelu,
    }
)
WITH_WEIGHTS = frozenset(OPERATORS)

# Activations and arithmetic.
_add(
    {
        "aten.relu.default": F.relu,
        "aten.relu6.default": F.relu6,
        "aten.hardtanh.default": F.hardtanh,
        "aten.hardswish.default": F.hardswish,
        "aten.hardsigmoid.default": F.hardsigmoid,
        "aten.silu.default": F.silu,
        "aten.mish.default": F.mish,
        "aten.gelu.default": F.gelu,
        "aten.elu.default": F.elu,
        "aten.leaky_relu.default": F.leaky_relu,
        "aten.softplus.default": F.softplus,
        "aten.sigmoid.default": torch.sigmoid,
        "aten.tanh.default": torch.tanh,
        "aten.softmax.int": torch.softmax,
        "aten.log_softmax.int": torch.log_softmax,
        "aten.add.Tensor": torch.add,
        "aten.add.Scalar": torch.add,
        "aten.sub.Tensor": torch.sub,
        "aten.sub.Scalar": torch.sub,
        "aten.rsub.Scalar": torch.rsub,
        "aten.mul.Tensor": torch.mul,
        "aten.mul.Scalar": torch.mul,
        "aten.div.Tensor": torch.div,
        "aten.div.Scalar": torch.div,
        "aten.div.Tensor_mode": torch.div,
        "aten.neg.default": torch.neg,
        "aten.abs.default": torch.abs,
        "aten.exp.default": torch.exp,
        "aten.log.default": torch.log,
        "aten.sqrt.default": torch.sqrt,
        "aten.rsqrt.default": torch.rsqrt,
        "aten.reciprocal.default": torch.reciprocal,
        "aten.erf.default": torch.erf,
        "aten.sin.default": torch.sin,
        "aten.cos.default": torch.cos,
        "aten.square.default": torch.square,
        "aten.pow.Tensor_Scalar": torch.pow,
        "aten.pow.Tensor_Tensor": torch.pow,
        "aten.clamp.default": torch.clamp,
        "aten.clamp_min.default": torch.clamp_min,
        "aten.clamp_max.default": torch.clamp_max,
        "aten.maximum.default": torch.maximum,
        "aten.minimum.default": torch.minimum,
        "aten.where.self": torch.where,
        "aten.masked_fill.Scalar": torch.masked_fill,
        "aten.masked_fill.Tensor": torch.masked_fill,
        "aten.eq.Scalar": torch.eq,
        "aten.eq.Tensor": torch.eq,
        "aten.ne.Scalar": torch.ne,
        "aten.ne.Tensor": torch.ne,
        "aten.lt.Scalar": torch.lt,
        "aten.lt.Tensor": torch.lt,
        "aten.le.Scalar": torch.le,
        "aten.le.Tensor": torch.le,
        "aten.gt.Scalar": torch.gt,
        "aten.gt.Tensor": torch.gt,
        "aten.ge.Scalar": torch.ge,
        "aten.ge.Tensor": torch.ge,
        "aten.logical_not.default": torch.logical_not,
        "aten.logical_and.default": torch.logical_and,
        "aten.bitwise_and.Tensor": torch.bitwise_and,
        "aten.bitwise_not.default": torch.bitwise_not,
        "aten.cumsum.default": torch.cumsum,
    }
)
# Pooling and reductions.
_add(
    {
        "aten.max_pool1d.default": _pool(F.max_pool1d),
        "aten.max_pool2d.default": _pool(F.max_pool2d),
        "aten.max_pool3d.default": _pool(F.max_pool3d),
        "aten.avg_pool1d.default": _average(F.avg_pool1d),
        "aten.avg_pool2d.default": _average(F.avg_pool2d),
        "aten.avg_pool3d.default": _average(F.avg_pool3d),
        "aten.adaptive_avg_pool1d.default": F.adaptive_avg_pool1d,
        "aten.adaptive_avg_pool2d.default": F.adaptive_avg_pool2d,
        "aten.adaptive_avg_pool3d.default": F.adaptive_avg_pool3d,
        "aten.mean.dim": _mean,
        "aten.mean.default": _mean,
        "aten.sum.dim_IntList": _sum,
        "aten.sum.default": _sum,
        "aten.amax.default": torch.amax,
        "aten.amin.default": torch.amin,
        "aten.argmax.default": torch.argmax,
        "aten.var.correction": torch.var,
        "aten.linalg_vector_norm.default": torch.linalg.vector_norm,
    }
)
# What moves values without computing, and the sizes of tensors.
_add(
    {
        "aten.view.default": lambda x, size: x.reshape(size),
        "aten.reshape.default": lambda x, size: x.reshape(size),
        "aten.reshape_as.default": lambda x, other: x.reshape(other.shape),
        "aten.flatten.using_ints": torch.flatten,
        "aten.unflatten.int": torch.unflatten,
        "aten.permute.default": lambda x, order: x.permute(*order),
        "aten.transpose.int": torch.transpose,
        "aten.t.default": torch.t,
        "aten.unsqueeze.default": torch.unsqueeze,
        "aten.squeeze.dim": torch.squeeze,
        "aten.squeeze.dims": torch.squeeze,
        "aten.expand.default": _expand,
        "aten.expand_as.default": lambda x, other: x.expand(*other.shape),
        "aten.repeat.default": lambda x, times: x.repeat(*times),
        "aten.slice.Tensor": _slice,
        "aten.select.int": _select,
        "aten.index.Tensor": _index,
        "aten.index_select.default": torch.index_select,
        "aten.gather.default": torch.gather,
        "aten.narrow.default": torch.narrow,
        "aten.cat.default": torch.cat,
        "aten.stack.default": torch.stack,
        "aten.chunk.default": torch.chunk,
        "aten.split.Tensor": torch.split,
        "aten.split_with_sizes.default": torch.split,
        "aten.unbind.int": torch.unbind,
        "aten.roll.default": torch.roll,
        "aten.flip.default": torch.flip,
        "aten.pad.default": F.pad,
        "aten.constant_pad_nd.default": lambda x, pad, value=0: F.pad(x, pad, "constant", value),
        "aten.pixel_shuffle.default": F.pixel_shuffle,
        "aten.pixel_unshuffle.default": F.pixel_unshuffle,
        "aten.channel_shuffle.default": F.channel_shuffle,
        "aten.upsample_nearest2d.vec": _upsample("nearest", with_corners=False),
        "aten.upsample_bilinear2d.vec": _upsample("bilinear", with_corners=True),
        "aten.tril.default": torch.tril,
        "aten.triu.default": torch.triu,
        "aten.contiguous.default": _unchanged,
        "aten.clone.default": _unchanged,
        "aten.alias.default": _unchanged,
        "aten.detach.default": _unchanged,
        "aten.lift_fresh_copy.default": _unchanged,
        "aten.dropout.default": _unchanged,
        "aten.feature_dropout.default": _unchanged,
        "aten._to_copy.default": lambda x, *, dtype=None, **settings: _cast(x, dtype),
        "aten.to.dtype": _cast,
        "aten.to.dtype_layout": lambda x, *, dtype=None, **settings: _cast(x, dtype),
        "aten.type_as.default": lambda x, other: x.to(other.dtype),
        "aten.sym_size.int": _size,
        "operator.getitem": operator.getitem,
        "operator.add": operator.add,
        "operator.sub": operator.sub,
        "operator.mul": operator.mul,
        "operator.floordiv": operator.floordiv,
        "operator.mod": operator.mod,
        "operator.neg": operator.neg,
    }
)
# New tensors whose values, and sizes, the graph says itself.
MAKERS = (
    "aten.zeros.default",
    "aten.ones.default",
    "aten.full.default",
    "aten.arange.default",
    "aten.arange.start",
    "aten.arange.start_step",
    "aten.new_zeros.default",
    "aten.new_ones.default",
    "aten.new_full.default",
)
_add(
    {
        "aten.zeros.default": torch.zeros,
        "aten.ones.default": torch.ones,
        "aten.full.default": torch.full,
        "aten.arange.default": torch.arange,
        "aten.arange.start": torch.arange,
        "aten.arange.start_step": torch.arange,
        "aten.scalar_tensor.default": torch.scalar_tensor,
        "aten.zeros_like.default": _zeros_like,
        "aten.ones_like.default": torch.ones_like,
        "aten.full_like.default": torch.full_like,
        "aten.new_zeros.default": lambda x, size, **settings: x.new_zeros(size, **settings),
        "aten.new_ones.default": lambda x, size, **settings: x.new_ones(size, **settings),
        "aten.new_full.default": lambda x, size, value, **settings: x.new_full(size, value, **settings),
    }
)


def function_of(name: str, where: str = "") -> Function:
    """The call of an operator; raises ModelError, with the place in the network, for one that is not allowed."""
    if name not in OPERATORS:
        place = f" at {where}" if where else ""
        raise ModelError(
            f"a network must consist of operators that are known here; {name}{place} is not. "
            "Leave that part out of the network, write it with other operators, or report it."
        )
    return OPERATORS[name]
