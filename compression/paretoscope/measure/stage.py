"""What a few steps make of a network, each with some of its own weights: plain data for a demonstration."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from paretoscope.measure.record import Record
from paretoscope.model.compressed import CompressedModel
from paretoscope.model.statistics import ModelStatistics
from paretoscope.model.tensors import integers_of
from paretoscope.recipe.recipe import Recipe

# Weights of a picture, and values of a layer that are counted, the most frequent first. Chosen by hand, no benchmark.
WEIGHTS, VALUES = 64, 40


class Step(StrEnum):
    """The steps, in their order."""

    BASELINE = "baseline"
    INT8 = "int8"
    PRUNE = "prune"
    SHARE = "share"
    CODE = "code"
    TRAINED = "trained"


@dataclass(frozen=True, slots=True)
class Shot:
    """What a recipe gives, and some neighbouring weights of the largest layer that it leaves.

    weights: as they decode. codes: the integers that they are stored as, () without. counts: how often each value
    occurs in the layer, by value ascending, the most frequent VALUES of them; distinct: how many values there are.
    """

    record: Record
    layer: str
    weights: tuple[float, ...]
    codes: tuple[int, ...]
    counts: tuple[tuple[float, int], ...]
    distinct: int

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "record": self.record.to_dict(),
            "layer": self.layer,
            "weights": list(self.weights),
            "codes": list(self.codes),
            "counts": [list(each) for each in self.counts],
            "distinct": self.distinct,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Shot":
        """What `to_dict` wrote; KeyError, TypeError or ValueError when it is not that."""
        return cls(
            Record.from_dict(data["record"]),
            str(data["layer"]),
            tuple(map(float, data["weights"])),
            tuple(map(int, data["codes"])),
            tuple((float(value), int(count)) for value, count in data["counts"]),
            int(data["distinct"]),
        )


@dataclass(frozen=True, slots=True)
class Slide:
    """One step. recipe: None where the network has none for it. shot: None where it is not measured yet.

    untrained: the headline figure of the recipe without its training, None where that is not known. problem: why it
    could not be measured.
    """

    step: Step
    recipe: Recipe | None
    shot: Shot | None
    untrained: float | None = None
    problem: str = ""


def shot(compressed: CompressedModel, record: Record) -> Shot:
    """The picture of a compressed model that was measured."""
    layer = max(compressed.weights, key=lambda name: int(np.prod(compressed.weights[name].shape)))
    tensor = compressed.weights[layer]
    values = tensor.decode().reshape(-1)
    integers = integers_of(tensor)
    codes = () if integers is None else tuple(map(int, middle(integers.codes)))
    found, counts = np.unique(values, return_counts=True)
    often = np.sort(np.argsort(-counts, kind="stable")[:VALUES])
    return Shot(
        record=record,
        layer=layer,
        weights=tuple(_short(each) for each in middle(values)),
        codes=codes,
        counts=tuple((_short(found[at]), int(counts[at])) for at in often),
        distinct=len(found),
    )


def originals(statistics: ModelStatistics) -> tuple[str, tuple[float, ...]]:
    """The same weights of the baseline: of its largest layer, whose name comes first."""
    layer = max(statistics.layers, key=lambda name: statistics.layers[name].weight.size)
    return layer, tuple(float(each) for each in middle(statistics.layers[layer].weight))


def middle(values: np.ndarray) -> np.ndarray:
    """Neighbours from the middle of a tensor, at most WEIGHTS of them."""
    flat = values.reshape(-1)
    start = max(0, (len(flat) - WEIGHTS) // 2)
    return flat[start : start + WEIGHTS]


def _short(value: float) -> float:
    return float(f"{float(value):.6g}")
