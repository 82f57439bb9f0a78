"""Methods on weights: each registers itself here with the stage in which it runs, and the pipeline runs what is there.

A new method is a file that adds a WeightMethod, named in `all`; the pipeline stays as it is.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Any

import numpy as np

from paretoscope.base.registry import Registry
from paretoscope.model.statistics import LayerStatistics, ModelStatistics
from paretoscope.model.tensors import CompressedTensor
from paretoscope.recipe.recipe import LayerRecipe, Quantize, Recipe

Plans = Mapping[str, LayerRecipe]


class Stage(Enum):
    """The steps of a recipe that act on weights, in the order in which they run.

    REGROUP is a part of sharing that comes after rounding: only then it is known which entries are equal.
    """

    PRUNE = "prune"
    SHARE = "share"
    QUANTIZE = "quantize"
    REGROUP = "regroup"
    REPAIR = "repair"


@dataclass(frozen=True, eq=False, slots=True)
class Work:
    """A layer on its way through the stages.

    layer: as it was. plan: its steps. weight: float32, as pruning left it. tensor: its compressed form so far, None
    before there is one. prepared: what methods prepared for this layer, by their names. hessian: float64 (groups,
    columns, columns), second moments of its inputs, where rounding errors are to be made good. fisher: float64 (rows,),
    mean diagonal Fisher information of each output channel. settled: whether its codes make good their errors already.
    """

    layer: LayerStatistics
    plan: LayerRecipe | Recipe
    weight: np.ndarray
    tensor: CompressedTensor | None = None
    prepared: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    hessian: np.ndarray | None = None
    fisher: np.ndarray | None = None
    settled: bool = False

    @property
    def kept(self) -> np.ndarray | None:
        """Where weights are left: bool of the weight's shape, or None where nothing was pruned."""
        return self.weight != 0 if self.weight is not self.layer.weight else None

    @property
    def quantize(self) -> Quantize:
        """The step of quantization, of a plan that has one."""
        assert self.plan.quantize is not None
        return self.plan.quantize


def _nothing_prepared(statistics: ModelStatistics, plans: Plans, recipe: Recipe) -> dict[str, Any]:
    return {}


def _nothing_told(shapes: Mapping[str, tuple[int, ...]], plans: Plans) -> list[str]:
    return []


def _no_way(recipe: Recipe) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class WeightMethod:
    """A method on the weights of a layer; pure: equal work gives equal results.

    takes: whether it has something to do for a layer. apply: does it. prepare: what it needs of the network as a whole,
    by names of layers. notes: what a person should know of layers of these shapes. keeping: what keeps some weights of
    a layer that the method empties, in a few words, "" where it is not to blame.
    """

    name: str
    stage: Stage
    takes: Callable[[Work], bool]
    apply: Callable[[Work], Work]
    prepare: Callable[[ModelStatistics, Plans, Recipe], dict[str, Any]] = _nothing_prepared
    notes: Callable[[Mapping[str, tuple[int, ...]], Plans], list[str]] = _nothing_told
    keeping: Callable[[Recipe], str] = _no_way


weight_methods: Registry[WeightMethod] = Registry("method on weights")


def in_order() -> list[WeightMethod]:
    """The methods in the order in which they run: by stage, and in each as they were registered."""
    return [method for stage in Stage for method in weight_methods if method.stage is stage]


def run(work: Work) -> Work:
    """A layer after all methods that take it."""
    for method in in_order():
        if method.takes(work):
            work = method.apply(work)
    return work
