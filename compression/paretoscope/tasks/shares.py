"""Outputs that are probabilities already, as those of a network that ends in a softmax."""

import torch
from torch import Tensor

# How far the sum of probabilities may be from 1: float16 keeps three digits; chosen by hand, no benchmark.
ROUNDING = 1e-3


def are_shares(outputs: Tensor, dim: int) -> bool:
    """Whether all outputs along an axis are probabilities: none is negative, and they add up to 1."""
    sums = outputs.double().sum(dim)
    return bool((outputs >= 0).all()) and bool(((sums - 1).abs() <= ROUNDING).all())


def as_logits(outputs: Tensor, shares: bool) -> Tensor:
    """Outputs whose softmax is what the network means: the logarithms of probabilities, or the logits as they are."""
    return outputs.clamp_min(torch.finfo(torch.float32).tiny).log() if shares else outputs
