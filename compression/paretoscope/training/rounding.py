"""Rounding that gradients pass as if it were not there: the straight-through estimator (Bengio et al. 2013)."""

import torch
from torch import Tensor


class Through(torch.autograd.Function):
    """What stands for a value, exactly; the gradient goes to the value."""

    @staticmethod
    def forward(ctx, value: Tensor, stand_in: Tensor) -> Tensor:
        return stand_in

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return gradient, None


def rounded(value: Tensor) -> Tensor:
    """The nearest whole number, half to even; the gradient is the value's."""
    return Through.apply(value, value.round())
