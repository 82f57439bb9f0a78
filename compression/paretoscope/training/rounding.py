"""Rounding that gradients pass as if it were not there: the straight-through estimator (Bengio et al. 2013)."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx


class _Through(torch.autograd.Function):
    """The stand-in for a value, exactly; the gradient goes to the value."""

    @staticmethod
    def forward(ctx: FunctionCtx, value: Tensor, stand_in: Tensor) -> Tensor:
        return stand_in

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


# `through(value, stand_in)`: see `_Through`. PyTorch leaves `apply` without annotations.
through: Callable[[Tensor, Tensor], Tensor] = _Through.apply


def rounded(value: Tensor) -> Tensor:
    """The nearest whole number, half to even; the gradient is the value's."""
    return through(value, value.round())
