"""Magnitude pruning: the weights of least magnitude become zero (Han et al. 2015, Learning both Weights and
Connections for Efficient Neural Networks).

Exactly `floor(sparsity * n)` weights are zeroed, n counting all layers for scope "global" or each layer for "layer".
Equal magnitudes at the threshold are zeroed in the order of the layers and of the flat index, first ones first.
"""

import math
from dataclasses import dataclass

import numba
import numpy as np

from compression.recipe import Prune
from compression.statistics import ModelStatistics


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a layer is cut: magnitudes below `threshold` go, and the first `ties` of those equal to it."""

    threshold: float
    ties: int


def cuts(statistics: ModelStatistics, prune: Prune) -> dict[str, Cut]:
    """Each layer's cut. Look-ups only, but for counting ties that straddle layers."""
    if prune.scope == "layer":
        return {name: _cut(layer.magnitudes, prune.sparsity) for name, layer in statistics.layers.items()}
    whole = _cut(statistics.magnitudes, prune.sparsity)
    result, left = {}, whole.ties
    for name, layer in statistics.layers.items():
        equal = min(left, _count_equal(layer.ordered, whole.threshold)) if left else 0
        result[name] = Cut(whole.threshold, equal)
        left -= equal
    return result


def apply(weight: np.ndarray, cut: Cut) -> np.ndarray:
    """A copy of `weight` with what the cut removes set to zero."""
    return _apply(np.ascontiguousarray(weight).reshape(-1), np.float32(cut.threshold), cut.ties).reshape(weight.shape)


@numba.njit(cache=True, nogil=True)
def _apply(weights, threshold, ties):
    pruned = np.empty_like(weights)
    for i in range(len(weights)):
        magnitude = abs(weights[i])
        pruned[i] = weights[i] if magnitude >= threshold else np.float32(0)
        if magnitude == threshold and ties > 0:
            pruned[i] = np.float32(0)
            ties -= 1
    return pruned


def _cut(magnitudes: np.ndarray, sparsity: float) -> Cut:
    count = math.floor(sparsity * len(magnitudes))
    if count == 0:
        return Cut(0.0, 0)
    threshold = magnitudes[count - 1]
    return Cut(float(threshold), count - int(np.searchsorted(magnitudes, threshold, side="left")))


def _count_equal(ordered: np.ndarray, magnitude: float) -> int:
    value = ordered.dtype.type(magnitude)
    both = {value, -value}
    return sum(int(np.searchsorted(ordered, v, side="right") - np.searchsorted(ordered, v, side="left")) for v in both)
