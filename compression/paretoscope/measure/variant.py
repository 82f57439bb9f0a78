"""What a subject keeps between recipes: networks as the simplify step leaves them, and modules to load weights into."""

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from paretoscope.base.batch import Batch, parts
from paretoscope.measure.engine import Speeds
from paretoscope.methods import input_moments, simplify
from paretoscope.methods.fisher import diagonal_fisher
from paretoscope.methods.pipeline import compress, repair_outputs, samples
from paretoscope.methods.registry import Sampled
from paretoscope.model import weights
from paretoscope.model.compressed import CompressedModel
from paretoscope.model.statistics import ModelStatistics
from paretoscope.model.structure import Structure
from paretoscope.networks.network import Input
from paretoscope.recipe.recipe import Recipe, Simplify

if TYPE_CHECKING:
    from paretoscope.runtimes.integer.blueprint import Blueprint


@dataclass(frozen=True, eq=False)
class Variant:
    """A network as the simplify step leaves it, with what the later steps need to know of it.

    module: in evaluation mode, not to be changed. source: digest of the baseline. images: of the train split, for
    calibration. notes: what was done and what was refused, a sentence each. known: layers of the network before.
    """

    module: nn.Module
    structure: Structure
    statistics: ModelStatistics
    source: str
    images: Batch
    notes: tuple[str, ...] = ()
    known: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        model: nn.Module,
        statistics: ModelStatistics,
        step: Simplify,
        images: Batch,
        *,
        reestimate: bool = False,
    ) -> "Variant":
        """Simplify a model; `statistics` are the model's own. Raises RecipeError or ModelError."""
        simplified = simplify.apply(model, step, tuple(parts(images)[0].shape[1:]), images, reestimate=reestimate)
        own = ModelStatistics.of(simplified.module, statistics.architecture)
        return cls(
            simplified.module,
            simplified.structure,
            own,
            statistics.digest,
            images,
            simplified.report,
            tuple(statistics.layers),
        )

    @cached_property
    def hessians(self) -> dict[str, np.ndarray]:
        """Second moments of the inputs of every layer, over the calibration samples."""
        return input_moments.hessians(self.module, self.images, self.statistics.layers)

    @cached_property
    def fisher(self) -> Mapping[str, np.ndarray]:
        """Diagonal Fisher information of every parameter, over the calibration samples."""
        return diagonal_fisher(self.module, self.images)

    def compress(self, recipe: Recipe) -> CompressedModel:
        """All steps after simplify, repair included."""
        wanted = samples(recipe)
        compressed = compress(
            self.statistics,
            recipe,
            source=self.source,
            structure=self.structure,
            hessians=self.hessians if Sampled.SECOND_MOMENTS in wanted else None,
            fisher=self.fisher if Sampled.FISHER in wanted else None,
            notes=self.notes,
            known=self.known,
        )
        return repair_outputs(compressed, self.module, self.images)


@dataclass(frozen=True, eq=False)
class Form:
    """One network without regard to its weights. module: of that network, not to be changed. inputs: what it takes.

    speeds: of the engines that run it.
    """

    module: nn.Module
    inputs: tuple[Input, ...]
    speeds: Speeds = field(default_factory=Speeds)
    _idle: list[tuple[nn.Module, dict[str, torch.Tensor]]] = field(default_factory=list, repr=False)

    @cached_property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.module.parameters())

    @cached_property
    def kinds(self) -> dict[str, str]:
        """What each parameter is, by name."""
        return weights.described(self.module)

    @cached_property
    def blueprint(self) -> "Blueprint":
        """What integer networks of this form are made from; raises ModelError."""
        # ONNX is slow to import, and networks on floats need none of it.
        from paretoscope.runtimes.integer.blueprint import Blueprint

        return Blueprint(self.module, self.inputs)

    @contextmanager
    def loaded(self, compressed: CompressedModel) -> Iterator[nn.Module]:
        """A module that holds the decoded weights for as long as the context lasts."""
        # Copies are reused from one evaluation to the next: making one takes longer than filling it.
        module, state = self._idle.pop() if self._idle else self._copy()
        try:
            compressed.copy_into(state)
            yield module
        finally:
            self._idle.append((module, state))

    def _copy(self) -> tuple[nn.Module, dict[str, torch.Tensor]]:
        module = copy.deepcopy(self.module).eval()
        return module, module.state_dict()
