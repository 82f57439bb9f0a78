"""A network in training whose activations are rounded as integer kernels round them, with ranges that are learned.

It runs the steps that the integer network runs (runtimes.integer), in floats: every value that is a code there is
rounded here, and gradients pass the rounding as if it were not there (Jacob et al., Quantization and Training of
Neural Networks, 2018; ranges by the gradients of Esser et al. 2020). Batch normalisation is not folded, so that its
statistics move.
"""

from collections.abc import Mapping
from typing import Any

import torch
from onnx import NodeProto
from torch import Tensor, nn
from torch.nn import functional as F

from paretoscope.base.batch import Batch, joined, parts
from paretoscope.graph.operations import MOVES, Operation
from paretoscope.graph.torch_ops import operator
from paretoscope.model.compressed import CompressedModel
from paretoscope.model.tensors import integers_of
from paretoscope.runtimes.integer.blueprint import LEVELS, Blueprint, IntegerNetwork
from paretoscope.training.rounding import rounded
from paretoscope.training.trainable import PACE

# Momentum of batch normalisation: PyTorch's default.
MOMENTUM = 0.1
# Below this width a range counts as this wide, so that no scale is zero; chosen by hand, no benchmark.
_LEAST_RANGE = 1e-8


class RoundedActivations(nn.Module):
    """The steps of a blueprint, with parameters for the ends of each range.

    network: the integer network where training starts; its ranges are the first.
    """

    low: Tensor
    high: Tensor

    def __init__(self, blueprint: Blueprint, compressed: CompressedModel, network: IntegerNetwork) -> None:
        super().__init__()
        self._steps = blueprint.steps
        integers = {name for name, tensor in compressed.weights.items() if integers_of(tensor) is not None}
        layers = [step.output for step in self._steps.steps if step.is_layer and step.weight in integers]
        self._codes = self._steps.codes(frozenset(layers))
        self._names = tuple(self._codes.scaled)
        grids = [network.grids[name] for name in self._names]
        # The ends are those of the grid, so that the same values saturate. They are learned as a growth, in proportion
        # to their size.
        self.register_buffer("low", torch.tensor([-grid.zero * float(grid.scale) for grid in grids]))
        self.register_buffer("high", torch.tensor([(LEVELS - grid.zero) * float(grid.scale) for grid in grids]))
        self.growth = nn.Parameter(torch.zeros(2, len(grids)))

    def ranges(self) -> dict[str, tuple[float, float]]:
        """Least and largest value by name, zero included; to four digits, because they are stored as text."""
        ends = zip(*(end.tolist() for end in self._ends()), strict=True)
        return {name: (_short(low), _short(high)) for name, (low, high) in zip(self._names, ends, strict=True)}

    def _ends(self) -> tuple[Tensor, Tensor]:
        grown = (PACE * self.growth).exp()
        return self.low * grown[0], self.high * grown[1]

    def forward(self, samples: Batch, tensors: Mapping[str, Tensor]) -> Any:
        """The outputs of samples; tensors: of the whole network, by state-dict name."""
        floats: dict[str, Tensor] = dict(zip(self._steps.inputs, parts(samples), strict=True))
        codes = {name: self._round(name, each) for name, each in floats.items() if name in self._codes.coded}
        for step in self._steps.steps:
            name, integer = step.output, step.output in self._codes.integer
            sources = [self._read(source, integer, floats, codes) for source in step.sources]
            value = self._run(step, sources, tensors)
            floats[name] = value
            if name in self._codes.coded:
                # A value that is only moved stays on the grid of its source.
                moved = integer and step.node.op_type in MOVES
                codes[name] = value if moved else self._round(name, value)
        # An output that exists as codes alone is what they mean.
        return joined(
            tuple(codes[name] if self._codes.gives_codes(name) else floats[name] for name in self._steps.outputs)
        )

    def _read(self, name: str, integer: bool, floats: Mapping[str, Tensor], codes: Mapping[str, Tensor]) -> Tensor:
        if name in self._codes.coded and (integer or self._codes.gives_codes(name)):
            return codes[name]
        return floats[name]

    def _run(self, step: Operation, sources: list[Tensor], tensors: Mapping[str, Tensor]) -> Tensor:
        given = iter(sources)
        inputs = [
            next(given) if name in step.sources else self._tensor(name, tensors) if name else None
            for name in step.node.input
        ]
        value = operator(step.node)(*inputs)
        if step.norm is not None:
            gamma, beta, mean, variance = (self._tensor(name, tensors) for name in step.norm.input[1:])
            epsilon = next(a.f for a in step.norm.attribute if a.name == "epsilon")
            value = F.batch_norm(value, mean, variance, gamma, beta, self.training, MOMENTUM, epsilon)
        if step.activation is not None:
            low, high = self._bounds(step.activation)
            value = value.clamp(min=low, max=high)
        return value

    def _bounds(self, activation: NodeProto) -> tuple[float, float | None]:
        if activation.op_type == "Relu":
            return 0.0, None
        low, high = (float(self._steps.constants[name]) for name in activation.input[1:])
        return low, high

    def _tensor(self, name: str, tensors: Mapping[str, Tensor]) -> Tensor:
        return tensors[name] if name in tensors else torch.from_numpy(self._steps.constants[name].copy())

    def _round(self, name: str, value: Tensor) -> Tensor:
        place = self._names.index(name)
        low, high = (end[place] for end in self._ends())
        scale = (high - low).clamp(min=_LEAST_RANGE) / LEVELS
        zero = rounded(-low / scale)
        return (rounded(value / scale + zero).clamp(0, LEVELS) - zero) * scale


def _short(end: float) -> float:
    """Four significant digits; never -0."""
    return float(f"{end:.4g}") + 0.0
