"""The waterfall: what each step of a recipe is responsible for.

Steps work on what the others leave, so what one of them saves depends on which came before. The Shapley value (Shapley
1953, A value for n-person games) is its mean contribution over all orders: with N steps and v(S) what the recipe with
the steps S alone gives,

    contribution(i) = sum over S without i of |S|! (N - |S| - 1)! / N! * (v(S + i) - v(S))

Every v(S) is evaluated, none is guessed, and the contributions add up to the whole difference.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, combinations
from typing import Any

from paretoscope.base.progress import SILENT, Progress
from paretoscope.recipe.recipe import STEPS, Code, Override, Recipe

CODING = "coding"
STEPS_AT_ENDS = ("share", "quantize")
_STEP_OF = {each.name: step for step, kind in STEPS.items() for each in dataclasses.fields(kind)}

Measure = Callable[[Recipe], tuple[int, float]]


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one step is responsible for.

    step: "coding" (entropy coding alone, from dense fp32), or a step of the recipe. bytes: that it saves. accuracy: of
    the task's headline figure, that it costs, before `Words.factor`; negative where it gains.
    """

    step: str
    bytes: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Waterfall:
    """From the dense fp32 model to the recipe's artefact, and from the baseline's headline figure to the recipe's.

    contributions: coding first, then the steps in the order in which they run. evaluations: how many recipes were
    measured.
    """

    dense_bytes: int
    bytes: int
    baseline_accuracy: float
    accuracy: float
    contributions: tuple[Contribution, ...]
    evaluations: int

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Waterfall":
        """What `to_dict` wrote; KeyError or TypeError when it is not that."""
        contributions = tuple(Contribution(**each) for each in data["contributions"])
        return cls(**{**data, "contributions": contributions})


def attribute(
    recipe: Recipe,
    measure: Measure,
    dense_bytes: int,
    progress: Progress = SILENT,
) -> Waterfall:
    """Attribute bytes saved, and what the task's headline figure loses, to the steps of a recipe.

    measure: bytes of a recipe's artefact and its headline figure; called once for each different recipe among the
    2**N subsets of the N steps, at most 64. dense_bytes: of the uncompressed fp32 model. progress: told
    before each evaluation; what it raises ends the work.
    """
    steps = steps_of(recipe)
    subsets = [frozenset(subset) for subset in _subsets(steps)]
    parts = {subset: only(recipe, subset) for subset in subsets}
    different = {part.digest: part for part in parts.values()}
    measured: dict[str, tuple[int, float]] = {}
    for done, (digest, part) in enumerate(different.items()):
        progress.report(done, len(different))
        measured[digest] = measure(part)
    # Fractions, so that the contributions add up to the difference, but for the last rounding.
    sizes = {subset: Fraction(measured[part.digest][0]) for subset, part in parts.items()}
    accuracies = {subset: Fraction(measured[part.digest][1]) for subset, part in parts.items()}
    start: frozenset[str] = frozenset()
    end = frozenset(steps)
    contributions = [Contribution(CODING, float(dense_bytes - sizes[start]), 0.0)] + [
        Contribution(step, -_shapley(step, steps, sizes), -_shapley(step, steps, accuracies)) for step in steps
    ]
    return Waterfall(
        dense_bytes=dense_bytes,
        bytes=int(sizes[end]),
        baseline_accuracy=float(accuracies[start]),
        accuracy=float(accuracies[end]),
        contributions=tuple(contributions),
        evaluations=len(different),
    )


def steps_of(recipe: Recipe) -> list[str]:
    """The steps that a recipe has, for all layers or in an override, in the order in which they run."""
    overridden = {_STEP_OF[name] for override in recipe.overrides for name, _ in override.settings}
    return [
        name
        for name in STEPS
        if name in overridden or (recipe.code != Code() if name == "code" else getattr(recipe, name) is not None)
    ]


def only(recipe: Recipe, steps: frozenset[str]) -> Recipe:
    """The recipe with those steps and no others, in its overrides too."""
    kept = {name: getattr(recipe, name) for name in STEPS if name in steps}
    overrides = []
    for override in recipe.overrides:
        settings = tuple((name, value) for name, value in override.settings if _STEP_OF[name] in steps)
        if settings:
            overrides.append(Override(override.layers, settings))
    # Keeping the ends at 8 bits is part of sharing and of quantizing.
    keep_ends = recipe.keep_ends and any(step in steps for step in STEPS_AT_ENDS)
    return Recipe(**kept, keep_ends=keep_ends, overrides=tuple(overrides))


def _subsets(steps: list[str]) -> Iterator[tuple[str, ...]]:
    return chain.from_iterable(combinations(steps, count) for count in range(len(steps) + 1))


def _shapley(step: str, steps: list[str], value: dict[frozenset[str], Fraction]) -> float:
    total, count = Fraction(0), len(steps)
    for others in _subsets([each for each in steps if each != step]):
        before = frozenset(others)
        weight = Fraction(math.factorial(len(before)) * math.factorial(count - len(before) - 1), math.factorial(count))
        total += weight * (value[before | {step}] - value[before])
    return float(total)
