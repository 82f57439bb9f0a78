"""Products of matrices, and attention."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from paretoscope.graph.trace import Trace, refuse, rule


@rule(torch.matmul, Tensor.matmul, torch.mm, Tensor.mm, torch.bmm, Tensor.bmm)
def _matmul(trace: Trace, output: Tensor, input: Tensor, other: Tensor) -> str:
    return trace.of("MatMul", [input, other], output)


@rule(Tensor.__rmatmul__)
def _rmatmul(trace: Trace, output: Tensor, input: Tensor, other: Tensor) -> str:
    return trace.of("MatMul", [other, input], output)


@rule(torch.addmm, Tensor.addmm, torch.baddbmm, Tensor.baddbmm)
def _addmm(
    trace: Trace, output: Tensor, input: Tensor, first: Tensor, second: Tensor, *, beta: float = 1, alpha: float = 1
) -> str:
    shape = trace.size(output)
    product, term = trace.of("MatMul", [first, second], output), trace.name(input)
    if alpha != 1:
        product = trace.emit("Mul", [product, trace.constant(alpha)], shape)
    if beta != 1:
        term = trace.emit("Mul", [term, trace.constant(beta)], trace.size(input))
    return trace.emit("Add", [term, product], shape)


@rule(torch.einsum)
def _einsum(trace: Trace, output: Tensor, equation: str, *operands: Any) -> str:
    tensors = operands[0] if len(operands) == 1 and isinstance(operands[0], (list, tuple)) else operands
    return trace.of("Einsum", list(tensors), output, equation=equation.replace(" ", ""))


@rule(F.scaled_dot_product_attention)
def _attention(
    trace: Trace,
    output: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> str:
    if dropout_p or enable_gqa or query.ndim != key.ndim:
        raise refuse("attention with dropout, or with fewer heads for keys")
    order = [*range(key.ndim - 2), key.ndim - 1, key.ndim - 2]
    scores = (*trace.size(output)[:-1], trace.size(key)[-2])
    x = trace.emit("MatMul", [trace.name(query), trace.transpose(trace.name(key), order)], scores)
    x = trace.emit("Mul", [x, trace.constant(query.shape[-1] ** -0.5 if scale is None else scale)], scores)
    if is_causal:
        hidden = np.triu(np.full((query.shape[-2], key.shape[-2]), -np.inf, np.float32), 1)
        x = trace.emit("Add", [x, trace.constant(hidden)], scores)
    if attn_mask is not None:
        mask = trace.name(attn_mask)
        if attn_mask.dtype == torch.bool:
            ends = [trace.constant(0.0), trace.constant(-np.inf)]
            mask = trace.emit("Where", [mask, *ends], trace.size(attn_mask))
        x = trace.emit("Add", [x, mask], scores)
    x = trace.emit("Softmax", [x], scores, axis=-1)
    return trace.emit("MatMul", [x, trace.name(value)], trace.size(output))


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
    tokens, batch, features = trace.size(query)
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
