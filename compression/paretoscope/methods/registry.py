"""Kinds of methods: on the network, on the weights of a layer, and on the outputs of the compressed network.

A method is a file of this folder that declares one of them in its `METHODS`, with the stage in which it runs; the
pipeline runs what is there. Another package adds its own with `weight_methods.add(...)` and the like.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

import numpy as np
from torch import nn

from paretoscope.base.batch import Batch
from paretoscope.base.registry import Registry
from paretoscope.methods.all import declared
from paretoscope.model.statistics import LayerStatistics, ModelStatistics
from paretoscope.model.structure import Structure
from paretoscope.model.tensors import Codebook, CompressedTensor
from paretoscope.recipe.recipe import LayerRecipe, Prune, Quantize, Recipe, Repair, Share, Simplify

Plans = Mapping[str, LayerRecipe]


class Stage(Enum):
    """Where a method runs, in this order.

    REGROUP is a part of sharing that comes after rounding: only then it is known which entries are equal. In REPAIR the
    methods on weights come before those on outputs.
    """

    SIMPLIFY = "simplify"
    PRUNE = "prune"
    SHARE = "share"
    QUANTIZE = "quantize"
    REGROUP = "regroup"
    REPAIR = "repair"


class Sampled(Enum):
    """What can be measured on calibration samples for the methods on weights."""

    SECOND_MOMENTS = "second moments of the inputs of every layer"
    FISHER = "diagonal Fisher information of every parameter"


@dataclass(frozen=True, eq=False, slots=True)
class NetworkWork:
    """A network on its way through the simplify step.

    module: float32, in evaluation mode, the step's own copy: methods change it in place. structure: how it differs from
    the architecture, widths apart. report: what was done and what was refused, a sentence each. input_shape: of one
    sample of the first input, e.g. (C, H, W). images: samples of the train split, or None. reestimate: whether
    statistics of batch normalisation are taken anew before they are folded and gone.
    """

    module: nn.Module
    step: Simplify
    input_shape: tuple[int, ...]
    images: Batch | None = None
    reestimate: bool = False
    structure: Structure = field(default_factory=Structure)
    report: tuple[str, ...] = ()

    @property
    def parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.module.parameters())


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
        assert self.plan.quantize is not None  # a method asks for it only where it takes a plan with this step
        return self.plan.quantize

    @property
    def prune(self) -> Prune:
        """The step of pruning, of a plan that has one."""
        assert self.plan.prune is not None  # see `quantize`
        return self.plan.prune

    @property
    def share(self) -> Share:
        """The step of sharing, of a plan that has one."""
        assert self.plan.share is not None  # see `quantize`
        return self.plan.share

    @property
    def codebook(self) -> Codebook:
        """The tensor of a layer whose weights are shared."""
        assert isinstance(self.tensor, Codebook)  # see `quantize`
        return self.tensor


@dataclass(frozen=True, eq=False, slots=True)
class OutputWork:
    """A compressed network beside the one that it was made from.

    reference, compressed: modules of one architecture in evaluation mode, the latter with the decoded weights; not to
    be changed. images: float32 (n, ...) of the train split, their inputs. structure: of both.
    """

    reference: nn.Module
    compressed: nn.Module
    samples: Batch
    structure: Structure


def _nothing_prepared(statistics: ModelStatistics, plans: Plans, recipe: Recipe) -> dict[str, Any]:
    return {}


def _nothing_told(shapes: Mapping[str, tuple[int, ...]], plans: Plans) -> list[str]:
    return []


def _no_way(recipe: Recipe) -> str:
    return ""


def _no_samples(recipe: Recipe) -> tuple[Sampled, ...]:
    return ()


@dataclass(frozen=True, slots=True)
class NetworkMethod:
    """A method that makes the network itself smaller.

    takes: whether a step asks for it. apply: does it. place: where in the stage it runs; lower numbers first, equal
    ones by name.
    """

    name: str
    takes: Callable[[Simplify], bool]
    apply: Callable[[NetworkWork], NetworkWork]
    place: int = 0
    stage: Stage = Stage.SIMPLIFY


@dataclass(frozen=True, slots=True)
class WeightMethod:
    """A method on the weights of a layer; pure: equal work gives equal results.

    takes: whether it has something to do for a layer. apply: does it. prepare: what it needs of the network as a whole,
    by names of layers. notes: what a person should know of layers of these shapes. keeping: what keeps some weights of
    a layer that the method empties, in a few words, "" where it is not to blame. samples: what a recipe wants to have
    measured for this method. place: where in the stage it runs; lower numbers first, equal ones by name.
    """

    name: str
    stage: Stage
    takes: Callable[[Work], bool]
    apply: Callable[[Work], Work]
    prepare: Callable[[ModelStatistics, Plans, Recipe], Mapping[str, Any]] = _nothing_prepared
    notes: Callable[[Mapping[str, tuple[int, ...]], Plans], list[str]] = _nothing_told
    keeping: Callable[[Recipe], str] = _no_way
    samples: Callable[[Recipe], tuple[Sampled, ...]] = _no_samples
    place: int = 0


@dataclass(frozen=True, slots=True)
class OutputMethod:
    """A method that mends the outputs of the compressed network by its entries that are not compressed.

    takes: whether a step asks for it. apply: gives new values of entries, by state-dict name. notes: what a person
    should know, given the work and the names of the entries that changed. place: where in the stage it runs; lower
    numbers first, equal ones by name.
    """

    name: str
    takes: Callable[[Repair], bool]
    apply: Callable[[OutputWork], Mapping[str, np.ndarray]]
    notes: Callable[[OutputWork, Iterable[str]], tuple[str, ...]] = lambda work, changed: ()
    place: int = 0
    stage: Stage = Stage.REPAIR


class Staged(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def stage(self) -> Stage: ...
    @property
    def place(self) -> int: ...


T = TypeVar("T", bound=Staged)


def _place(method: Staged) -> tuple[int, int]:
    return list(Stage).index(method.stage), method.place


network_methods: Registry[NetworkMethod] = Registry("method on networks", lambda: declared(NetworkMethod, _place))
weight_methods: Registry[WeightMethod] = Registry("method on weights", lambda: declared(WeightMethod, _place))
output_methods: Registry[OutputMethod] = Registry("method on outputs", lambda: declared(OutputMethod, _place))


def in_order(methods: Iterable[T]) -> list[T]:
    """Methods in the order in which they run: by stage, place and name, whenever they were registered."""
    return sorted(methods, key=lambda method: (_place(method), method.name))


def run(work: Work) -> Work:
    """A layer after all methods that take it."""
    for method in in_order(weight_methods):
        if method.takes(work):
            work = method.apply(work)
    return work
