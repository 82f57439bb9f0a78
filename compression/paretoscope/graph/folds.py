"""Batch normalisation folded into the layer before it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from onnx import helper
from torch import Tensor, nn

from paretoscope.graph.operations import Operations


@dataclass(frozen=True, eq=False, slots=True)
class Fold:
    """A layer and its batch normalisation as one: factor of each output channel, and bias; float64 (n,)."""

    weight: Tensor
    factor: np.ndarray
    bias: np.ndarray | None


def state_of(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, without gradients."""
    return {name: tensor.detach() for name, tensor in (*module.named_parameters(), *module.named_buffers())}


def fold_layers(steps: Operations, state: Mapping[str, Tensor]) -> dict[str, Fold]:
    """The fold of every layer, by the output of its step. state: the tensors of the module by name."""

    def array(name: str) -> np.ndarray:
        return (state[name].numpy() if name in state else steps.constants[name]).astype(np.float64)

    folds = {}
    for step in steps.steps:
        if not step.is_layer:
            continue
        weight = state[step.weight]
        factor = np.ones(len(weight))
        bias = array(step.node.input[2]) if len(step.node.input) > 2 else None
        if step.norm is not None:
            gamma, beta, mean, variance = map(array, step.norm.input[1:])
            factor = gamma / np.sqrt(variance + helper.get_node_attr_value(step.norm, "epsilon"))
            bias = beta + factor * ((0 if bias is None else bias) - mean)
        folds[step.output] = Fold(weight, factor, bias)
    return folds
