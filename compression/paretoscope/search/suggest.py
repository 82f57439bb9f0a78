"""From sensitivity curves to a recipe: how much each layer can take, for a wanted size or a wanted loss.

Every layer may be pruned to a rate, and then shared or quantized, at the values of its curves. What an option costs is
the divergence (KL) of its points, added up; what it saves are its bytes. Where the sum of divergences is to be least
for a sum of bytes, all layers pay the same price a byte (Shoham and Gersho 1988, Efficient bit allocation for an
arbitrary set of quantizers): along each layer's convex hull, the cheapest step of all layers is taken until the target
is met. What the last step leaves unused then goes to the options between the hulls' corners.

Divergences of small changes nearly add up; in deep networks those of larger ones are more than their sum (measured on
ResNet-20: 2 times at 8 times smaller, 12 times at 15 times smaller). A suggestion is a prediction: evaluate it, or have
`suggest_measured` evaluate on its way.
"""

import dataclasses
import glob
import itertools
import math
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.isotonic import isotonic_regression

from paretoscope import codec
from paretoscope.base.errors import RecipeError
from paretoscope.base.progress import SILENT, Progress
from paretoscope.measure.sensitivity import Sensitivity, SensitivityPoint, compress_alone
from paretoscope.methods.pipeline import compress
from paretoscope.model.statistics import LayerStatistics, ModelStatistics
from paretoscope.model.tensors import Codebook, CompressedTensor, Integers
from paretoscope.recipe.recipe import Override, Prune, Quantize, Recipe, Share

# Weights of a layer that entropies are taken from; whole output channels, evenly spaced. This and the constants below
# were chosen by hand; no benchmark shows them.
SAMPLE = 8192
# Rounds of correcting the prediction by the measured size, and how little of the wanted size may stay unused.
ROUNDS, UNUSED = 3, 0.01
# Bytes left for the recipe's own text, which grows with other settings; tried one after the other.
SPARES = (0, 32, 128)

# Points that the whole split comes to where the task's figure is a share of it.
PERCENT = 100.0

_KIND_OF = {each.name: kind for kind in (Prune, Share, Quantize) for each in dataclasses.fields(kind)}


@dataclass(frozen=True, slots=True)
class Target:
    """Either of two wishes.

    bytes: of the artefact, at most. drop: of the task's figure against the baseline's, at most, in points (of accuracy,
    1.0 is one in a hundred samples).
    """

    bytes: int | None = None
    drop: float | None = None

    def __post_init__(self) -> None:
        if (self.bytes is None) == (self.drop is None):
            raise RecipeError(
                f"a target must be bytes or drop, one of them; got bytes {self.bytes} and drop {self.drop}. Pass one."
            )
        name, value = ("drop", self.drop) if self.bytes is None else ("bytes", self.bytes)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
            raise RecipeError(f"{name} of a target must be a number of at least 0; got {value!r}. Pass e.g. 1.")


def default_targets(dense: int) -> tuple[Target, Target]:
    """What is wished for before a person says otherwise: a twentieth of the dense bytes, and half a point.

    Sizes in whole 0.1 KB, as a person types them. Chosen by hand, no benchmark.
    """
    return Target(bytes=round(1000 * default_kb(dense))), Target(drop=0.5)


def default_kb(dense: int) -> float:
    """The size of the first of `default_targets`, in KB of 1000 bytes: never more than all, at least 0.1."""
    return max(0.1, min(dense / 1000, round(dense / 20_000, 1)))


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A recipe for a target.

    predicted_bytes: of the artefact; measured where a measure was given. predicted_drop: of the task's figure, in
    points; measured by `suggest_measured`. kl: the sum of divergences. reached: whether these numbers meet the target.
    """

    recipe: Recipe
    predicted_bytes: int
    predicted_drop: float
    kl: float
    reached: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {**fields, "recipe": self.recipe.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Suggestion":
        """What `to_dict` wrote; KeyError, TypeError or RecipeError when it is not that."""
        return cls(**{**data, "recipe": Recipe.from_dict(data["recipe"])})


@dataclass(frozen=True, slots=True)
class Option:
    """One way to compress one layer."""

    settings: tuple[tuple[str, Any], ...]
    bytes: float
    kl: float


def suggest(
    sensitivity: Sensitivity,
    statistics: ModelStatistics,
    target: Target,
    base: Recipe | None = None,
    measure: Callable[[Recipe], int] | None = None,
    *,
    factor: float = PERCENT,
) -> Suggestion:
    """A recipe with an override for each layer that is worth compressing.

    base: whose repair and code steps the recipe has; `Recipe()` by default. measure: bytes of a recipe's artefact; with
    it, a suggestion for a size is corrected at most twice, so that the size is met. factor: points that the whole split
    comes to, the task's `Words.factor`. Layers that were not measured stay as they are. Where the target cannot be met,
    the suggestion is the nearest to it.
    """
    plan = _Plan(sensitivity, statistics, base, factor)
    if target.bytes is not None:
        return _of_size(plan, target.bytes, measure)
    assert target.drop is not None  # `Target` has one of the two
    most = plan.harm.kl_at(target.drop)
    last = next(choice for choice in reversed(plan.path) if _kl(choice) <= most)
    filled = _filled(last, plan.choices, most - _kl(last), cost="kl", gain="bytes")
    # Zero divergence is no loss, so that a drop can always be kept to.
    return dataclasses.replace(plan.made(filled), reached=True)


def suggest_measured(
    sensitivity: Sensitivity,
    statistics: ModelStatistics,
    drop: float,
    evaluate: Callable[[Recipe], float],
    base: Recipe | None = None,
    progress: Progress = SILENT,
    *,
    factor: float = PERCENT,
) -> Suggestion:
    """The smallest recipe, along the path of rising prices, that loses at most `drop` points where it is measured.

    evaluate: the points that a recipe loses, measured; called about log2 of the number of steps times, 6 to 9 for the
    models of the zoo. It begins with the prediction and bisects from there. progress: told after each evaluation, with
    the suggestion that was tried; what it raises ends the search. The suggestion's drop is the measured one. `base` and
    `factor` are as for `suggest`; with a repair step in the base the search sees what repair wins back.
    """
    plan = _Plan(sensitivity, statistics, base, factor)
    Target(drop=drop)  # checks it
    most = plan.harm.kl_at(drop)
    middle = max(index for index, choice in enumerate(plan.path) if _kl(choice) <= most)
    low, high, evaluations = 0, len(plan.path), 0
    best = plan.made(plan.path[0])
    best = dataclasses.replace(best, predicted_drop=0.0, reached=True)
    while high - low > 1:
        middle = middle if low < middle < high else (low + high) // 2
        tried = plan.made(plan.path[middle])
        lost = evaluate(tried.recipe)
        evaluations += 1
        tried = dataclasses.replace(tried, predicted_drop=lost, reached=lost <= drop + plan.harm.tolerance)
        if tried.reached:
            low, best = middle, tried
        else:
            high = middle
        left = math.log2(max(1, high - low))
        progress.report(evaluations, evaluations + left, partial=tried)
        middle = (low + high) // 2
    return best


def find(
    sensitivity: Sensitivity,
    statistics: ModelStatistics,
    target: Target,
    base: Recipe,
    measure: Callable[[Recipe], int],
    evaluate: Callable[[Recipe], float],
    progress: Progress = SILENT,
    *,
    factor: float = PERCENT,
) -> Suggestion:
    """`suggest` for a wanted size, `suggest_measured` for a wanted loss: either is met where it is measured.

    measure: bytes of a recipe's artefact. evaluate: points that it loses. progress, factor: as for `suggest_measured`.
    """
    if target.drop is None:
        return suggest(sensitivity, statistics, target, base, measure, factor=factor)
    return suggest_measured(sensitivity, statistics, target.drop, evaluate, base, progress, factor=factor)


class _Plan:
    """What is known before a target is: each layer's options, and the path of choices from no change to the smallest.

    harm: how the task's figure falls with divergence.
    """

    def __init__(
        self, sensitivity: Sensitivity, statistics: ModelStatistics, base: Recipe | None, factor: float
    ) -> None:
        base = Recipe() if base is None else base
        self._base = Recipe(repair=base.repair, code=base.code)
        self._settings = sensitivity.settings
        lossless = len(codec.write(compress(statistics, Recipe(code=base.code))))
        self._fixed = lossless - sum(sensitivity.layer_bytes.values()) - _text_bytes(self._base)
        self.choices = {layer: options(sensitivity, statistics, layer) for layer in sensitivity.curves}
        self.path = list(_path({layer: hull(each) for layer, each in self.choices.items()}))
        self.harm = Harm.of(sensitivity, factor)

    def made(self, choice: Mapping[str, Option]) -> Suggestion:
        recipe = dataclasses.replace(self._base, overrides=_overrides(choice, self._settings))
        size = self._fixed + sum(option.bytes for option in choice.values()) + _text_bytes(recipe)
        return Suggestion(recipe, round(size), self.harm.drop(_kl(choice)), _kl(choice), reached=False)


def _of_size(plan: _Plan, wanted: int, measure: Callable[[Recipe], int] | None) -> Suggestion:
    off, found = 0, []
    for _ in range(ROUNDS):
        suggestion = _fitted(plan, wanted - off)
        if measure is None:
            return dataclasses.replace(suggestion, reached=suggestion.predicted_bytes <= wanted)
        size = measure(suggestion.recipe)
        off = size - suggestion.predicted_bytes
        found.append(dataclasses.replace(suggestion, predicted_bytes=size, reached=size <= wanted))
        if (1 - UNUSED) * wanted <= size <= wanted:
            break
    met = [each for each in found if each.reached]
    return min(met, key=lambda each: each.kl) if met else min(found, key=lambda each: each.predicted_bytes)


def _fitted(plan: _Plan, wanted: int) -> Suggestion:
    """The first along the path that is small enough, or the last (sizes fall along it), and its unused bytes spent."""
    low, high = 0, len(plan.path) - 1
    while low < high:
        middle = (low + high) // 2
        if plan.made(plan.path[middle]).predicted_bytes <= wanted:
            high = middle
        else:
            low = middle + 1
    first = plan.made(plan.path[low])
    unused = wanted - first.predicted_bytes
    for spare in SPARES:
        filled = plan.made(_filled(plan.path[low], plan.choices, unused - spare, cost="bytes", gain="kl"))
        if filled.predicted_bytes <= wanted:
            return filled
    return first


def _filled(
    choice: Mapping[str, Option], choices: Mapping[str, Sequence[Option]], unused: float, cost: str, gain: str
) -> dict[str, Option]:
    """Spend what is unused of the one quantity on exchanges that bring most of the other."""
    choice = dict(choice)
    while True:
        exchanges = [
            (getattr(choice[layer], gain) - getattr(option, gain), layer, option)
            for layer, each in choices.items()
            for option in each
            if getattr(option, gain) < getattr(choice[layer], gain)
            and getattr(option, cost) - getattr(choice[layer], cost) <= unused
        ]
        if not exchanges:
            return choice
        _, layer, option = max(exchanges, key=lambda exchange: exchange[0])
        unused -= getattr(option, cost) - getattr(choice[layer], cost)
        choice[layer] = option


def options(sensitivity: Sensitivity, statistics: ModelStatistics, layer: str) -> list[Option]:
    """All combinations of a layer's settings, the first being to leave it as it is.

    The bytes of a single setting were measured. Those of a sparsity together with bits or clusters are predicted: the
    measured bytes without the sparsity, less what the entropy of the codes falls by when the smallest weights become
    zero. (A codebook is fitted anew to the weights that are left; its entropy is taken as that of the old one.)
    """
    curves = sensitivity.curves[layer]
    sparsities = curves.get("sparsity", ())
    result = [Option((), sensitivity.layer_bytes[layer], 0.0)]
    result += [Option((("sparsity", point.value),), point.bytes, point.kl) for point in sparsities]
    count = statistics.layers[layer].weight.size
    sample = _sample(statistics, layer)
    ranks = _ranks(sample.layers[layer].weight)
    for setting in ("bits", "clusters"):
        for point in curves.get(setting, ()):
            result.append(Option(((setting, point.value),), point.bytes, point.kl))
            if not sparsities:
                continue
            alone = compress_alone(sample, layer, {**sensitivity.settings, setting: point.value})
            for pruned, saved in _saved(alone.weights[layer], ranks, sparsities):
                size = max(point.bytes - count * saved / 8, 0.0)
                result.append(Option((("sparsity", pruned.value), (setting, point.value)), size, pruned.kl + point.kl))
    return result


def hull(options: Sequence[Option]) -> list[Option]:
    """The options on the lower convex hull of kl over bytes, from the largest to the smallest: each next one has the
    least price, in kl a byte saved, and prices rise.
    """
    chosen: list[Option] = []
    for option in sorted(options, key=lambda each: (-each.bytes, each.kl)):
        if chosen and option.bytes == chosen[-1].bytes:
            continue
        while chosen and option.kl <= chosen[-1].kl:
            chosen.pop()
        while len(chosen) > 1 and _price(chosen[-2], chosen[-1]) >= _price(chosen[-2], option):
            chosen.pop()
        chosen.append(option)
    return chosen


@dataclass(frozen=True, eq=False, slots=True)
class Harm:
    """How the task's figure falls with divergence: an isotonic regression over all points of all curves.

    kl: ascending. points: the fitted drop at each, ascending. tolerance: half a sample, in points.
    """

    kl: np.ndarray
    points: np.ndarray
    tolerance: float

    @classmethod
    def of(cls, sensitivity: Sensitivity, factor: float = PERCENT) -> "Harm":
        """factor: points that the whole split comes to."""
        measured = [point for curves in sensitivity.curves.values() for curve in curves.values() for point in curve]
        measured.sort(key=lambda point: (point.kl, -point.correct))
        lost = [factor * (sensitivity.correct / sensitivity.n - point.correct / point.n) for point in measured]
        kl = np.array([0.0, *(point.kl for point in measured)])
        return cls(kl, np.maximum(isotonic_regression([0.0, *lost]), 0.0), 0.5 * factor / sensitivity.n)

    def drop(self, kl: float) -> float:
        """Points that are lost at that divergence; constant beyond the largest that was measured."""
        return float(np.interp(kl, self.kl, self.points))

    def kl_at(self, drop: float) -> float:
        """The largest measured divergence at which no more points are lost, to half a sample; at least 0."""
        return float(self.kl[self.points <= drop + self.tolerance].max(initial=0.0))


def _path(hulls: Mapping[str, Sequence[Option]]) -> Iterator[dict[str, Option]]:
    """Each layer's option, from no change at all to the smallest, one step of one layer at a time, cheapest first."""
    steps = [
        (_price(before, after), index, layer, after)
        for layer, chosen in hulls.items()
        for index, (before, after) in enumerate(itertools.pairwise(chosen))
    ]
    choice = {layer: chosen[0] for layer, chosen in hulls.items()}
    yield dict(choice)
    for _, _, layer, option in sorted(steps, key=lambda step: step[:3]):
        choice[layer] = option
        yield dict(choice)


def _price(larger: Option, smaller: Option) -> float:
    saved = larger.bytes - smaller.bytes
    return (smaller.kl - larger.kl) / saved if saved > 0 else math.inf


def _kl(choice: Mapping[str, Option]) -> float:
    return sum(option.kl for option in choice.values())


def _sample(statistics: ModelStatistics, layer: str) -> ModelStatistics:
    weight = statistics.layers[layer].weight
    channels = max(1, min(len(weight), SAMPLE * len(weight) // weight.size))
    rows = np.linspace(0, len(weight) - 1, channels).round().astype(np.int64)
    sampled = LayerStatistics.of(layer, np.ascontiguousarray(weight[rows]))
    return ModelStatistics(statistics.architecture, {layer: sampled}, {}, (layer,), sampled.magnitudes)


def _ranks(weight: np.ndarray) -> np.ndarray:
    """The place of each weight in the order of magnitudes, in [0, 1): at sparsity s those below s are zero."""
    magnitudes = np.abs(weight).reshape(-1)
    ranks = np.empty(len(magnitudes))
    ranks[np.argsort(magnitudes, kind="stable")] = np.arange(len(magnitudes)) / len(magnitudes)
    return ranks


def _saved(
    tensor: CompressedTensor, ranks: np.ndarray, sparsities: Sequence[SensitivityPoint]
) -> Iterator[tuple[SensitivityPoint, float]]:
    """For each sparsity, the bits a weight by which the entropy of the codes falls."""
    codes, zero = _symbols(tensor)
    whole = _entropy(codes)
    for point in sparsities:
        yield point, whole - _entropy(np.where(ranks < point.value, zero, codes))


def _symbols(tensor: CompressedTensor) -> tuple[np.ndarray, int]:
    """A tensor's codes as counting numbers, flat, and the one that is zero."""
    match tensor:
        case Codebook(indices=indices):
            return indices.reshape(-1).astype(np.int64), 0
        case Integers(codes=codes):
            flat = codes.reshape(-1).astype(np.int64)
            lowest = min(int(flat.min()), 0)
            return flat - lowest, -lowest
        case _:
            raise TypeError(f"only codes have an entropy; got a {type(tensor).__name__}")


def _entropy(symbols: np.ndarray) -> float:
    """Bits a symbol."""
    counts = np.bincount(symbols)
    shares = counts[counts > 0] / len(symbols)
    return float(-(shares * np.log2(shares)).sum())


def _overrides(choice: Mapping[str, Option], settings: Mapping[str, Any]) -> tuple[Override, ...]:
    result = []
    for layer, option in choice.items():
        own = dict(option.settings)
        kinds = {_KIND_OF[name] for name in own}
        beside = {name: value for name, value in settings.items() if _KIND_OF.get(name) in kinds}
        if own:
            pattern = glob.escape(layer.removesuffix(".weight"))
            result.append(Override(pattern, tuple({**beside, **own}.items())))
    return tuple(result)


def _text_bytes(recipe: Recipe) -> int:
    """About what the recipe takes in the artefact's packed header."""
    return len(zlib.compress(recipe.to_json().encode(), 9))
