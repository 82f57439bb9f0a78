"""Architecture and compressed tensors: what a recipe makes of a network, and what an artefact holds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from paretoscope.base.errors import ModelError
from paretoscope.graph.network_graph import NetworkGraph
from paretoscope.model import layouts
from paretoscope.model.structure import Structure, build
from paretoscope.model.tensors import CompressedTensor, Integers, Plain
from paretoscope.recipe.recipe import Recipe


@dataclass(frozen=True, eq=False)
class CompressedModel:
    """Architecture + compressed tensors; decodes to an ordinary `nn.Module`.

    architecture: the name it is rebuilt by. source: digest of the model that was compressed. weights: the compressible
    tensors by name. rest: every other entry of the state dict. order: all names, in the order of the state dict.
    structure: how the network differs from the architecture. ties: names that stand for the tensor of another name.
    ranges: least and largest value of activations that integer kernels round, where training has found them, by the
    name of the value; others are measured on calibration images. notes: what a person should know of how the recipe was
    applied, a sentence each; not part of the artefact. turned: groups of the weights that the state dict has in the
    other layout than the tensors here (`layouts`). description: the recipe as the file has it that this was read from,
    where a later version wrote it and `recipe` is only what this one knows of it. graph: the network as it is after the
    changes that `structure` tells, where it was imported; it is rebuilt from that alone.
    """

    architecture: str
    source: str
    recipe: Recipe
    weights: Mapping[str, CompressedTensor]
    rest: Mapping[str, Plain | Integers]
    order: tuple[str, ...]
    structure: Structure = field(default_factory=Structure)
    ties: Mapping[str, str] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    description: Mapping[str, Any] | None = None
    turned: Mapping[str, int] = field(default_factory=dict)
    graph: NetworkGraph | None = None

    def build(self) -> nn.Module:
        """The network with the decoded tensors, from nothing but what the artefact holds; raises ArtefactError."""
        return self.load_into(build(self.architecture, self.structure, self.shapes(), self.graph))

    @property
    def told(self) -> Mapping[str, Any]:
        """The recipe as plain data, with all that a file said of it that this version does not know."""
        return self.description or self.recipe.to_dict()

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of every entry of the state dict."""
        shapes = {name: self._tensor(name).shape for name in self.order}
        return shapes | {
            name: layouts.turned_shape(shape, groups)
            for name, shape in shapes.items()
            if (groups := self.turned.get(self.ties.get(name, name)))
        }

    def decode(self, name: str) -> np.ndarray:
        """One tensor of the state dict, exactly as it is evaluated."""
        decoded, groups = self._tensor(name).decode(), self.turned.get(self.ties.get(name, name))
        return layouts.turned(decoded, groups) if groups else decoded

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The full decoded state dict; the tensors are the caller's own."""
        return {name: torch.tensor(self.decode(name)) for name in self.order}

    def load_into(self, model: nn.Module) -> nn.Module:
        """Put the decoded tensors into `model`, in place, and return it in evaluation mode.

        Raises ModelError when the model's state dict has other names or shapes.
        """
        self.copy_into(model.state_dict())
        return model.eval()

    def copy_into(self, target: Mapping[str, torch.Tensor]) -> None:
        """Put the decoded tensors into the state dict of a model, in place; raises ModelError like `load_into`."""
        shapes = {name: tuple(tensor.shape) for name, tensor in target.items()}
        ours = self.shapes()
        if shapes != ours:
            differing = sorted(name for name in shapes.keys() | ours.keys() if shapes.get(name) != ours.get(name))
            raise ModelError(
                f"a compressed {self.architecture} needs a model of the same state dict; these entries differ: "
                f"{', '.join(differing[:5])}. Build the architecture that it names."
            )
        # Copied entry by entry: load_state_dict takes several times as long, and a slider waits for this.
        with torch.no_grad():
            for name, tensor in target.items():
                tensor.copy_(torch.from_numpy(np.asarray(self.decode(name))))

    def _tensor(self, name: str) -> CompressedTensor:
        name = self.ties.get(name, name)
        return self.weights[name] if name in self.weights else self.rest[name]
