"""A network in training whose weights stay within what its recipe can represent."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from paretoscope.methods.pipeline import with_rest
from paretoscope.model.compressed import CompressedModel
from paretoscope.training.integers import RoundedActivations
from paretoscope.training.trainable import Projected, Trainable, trainable


class Student(nn.Module):
    """The network of a compressed model, with a trainable twin in place of every compressed tensor.

    compressed: where training starts; what training does not change is taken from it. module: its network; a copy is
    kept. latents: float32 weights before rounding by name, None for the decoded ones. kept: bool masks by name, False
    where pruned. activations: runs the network with rounded activations, None for floats.
    """

    def __init__(
        self,
        compressed: CompressedModel,
        module: nn.Module,
        latents: Mapping[str, np.ndarray] | None = None,
        kept: Mapping[str, np.ndarray] | None = None,
        activations: RoundedActivations | None = None,
    ) -> None:
        super().__init__()
        self._compressed = compressed
        self.activations = activations
        # In a list, so that its parameters are not registered as this module's.
        self._network = [copy.deepcopy(module)]
        latents, kept = latents or {}, kept or {}
        self._twins = {
            name: trainable(tensor, latents.get(name, tensor.decode()), kept.get(name))
            for name, tensor in compressed.weights.items()
        }
        self.twins = nn.ModuleList(self._twins.values())
        learned = {name for name, _ in module.named_parameters()}
        self._rest = tuple(compressed.rest)
        decoded = {name: torch.tensor(compressed.decode(name)) for name in self._rest}
        self._learned = tuple(name for name in self._rest if name in learned)
        self._fixed = tuple(name for name in self._rest if name not in learned)
        self.values = nn.ParameterList(decoded[name] for name in self._learned)
        for place, name in enumerate(self._fixed):
            self.register_buffer(f"fixed{place}", decoded[name])

    def twin(self, name: str) -> Trainable:
        """The twin of a compressed tensor, by its state-dict name."""
        return self._twins[name]

    def forward(self, *inputs: Tensor) -> Any:
        """What the network gives; in training mode, batch normalisation updates its statistics."""
        network = self._network[0].train(self.training)
        tensors = {name: twin.weight() for name, twin in self._twins.items()}
        for name, groups in self._compressed.turned.items():
            parts = tensors[name].unflatten(0, (groups, -1)).transpose(1, 2)
            tensors[name] = parts.flatten(0, 1)
        tensors |= dict(zip(self._learned, self.values, strict=True))
        tensors |= {name: getattr(self, f"fixed{place}") for place, name in enumerate(self._fixed)}
        tensors |= {name: tensors[other] for name, other in self._compressed.ties.items()}
        if self.activations is None:
            return functional_call(network, tensors, inputs)
        return self.activations(*inputs, tensors)

    def latents(self) -> dict[str, np.ndarray]:
        """The weights before rounding, float32, by name."""
        return {name: twin.latent() for name, twin in self._twins.items()}

    def float_state(self) -> dict[str, np.ndarray]:
        """The whole state dict with weights before rounding, float32: what a later stage of the recipe starts from."""
        state = {**self.latents(), **self._rest_values()}
        return {name: state[self._compressed.ties.get(name, name)] for name in self._compressed.order}

    def compressed(self) -> CompressedModel:
        """The present weights, as the recipe stores them; they decode to exactly those that `forward` computes with."""
        weights = {name: twin.compressed() for name, twin in self._twins.items()}
        ranges = {} if self.activations is None else self.activations.ranges()
        return with_rest(replace(self._compressed, weights=weights, ranges=ranges), self._rest_values())

    def projected(self) -> Iterator[tuple[str, Projected]]:
        """The twins, by name, whose codes only a compression of the whole tensor finds."""
        for name, twin in self._twins.items():
            if isinstance(twin, Projected):
                yield name, twin

    def _rest_values(self) -> dict[str, np.ndarray]:
        found = {name: value.detach().numpy().copy() for name, value in zip(self._learned, self.values, strict=True)}
        found |= {name: getattr(self, f"fixed{place}").numpy().copy() for place, name in enumerate(self._fixed)}
        return {name: found[name] for name in self._rest}
