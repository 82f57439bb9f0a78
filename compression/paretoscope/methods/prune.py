"""Magnitude pruning: the weights of least magnitude become zero (Han et al. 2015, Learning both Weights and
Connections for Efficient Neural Networks).

To a rate: exactly `floor(sparsity * n)` weights are zeroed, n counting all layers for scope "global" or each layer for
"layer". Equal magnitudes at the threshold are zeroed in the order of the layers and of the flat index, first ones
first. By a threshold: all magnitudes below it. By a pattern N:M: all but the N largest of every M consecutive inputs
(Mishra et al. 2021, Accelerating Sparse Deep Neural Networks).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from paretoscope.base.compiled import compiled
from paretoscope.base.text import listed
from paretoscope.methods.catalogue import MethodEntry, Section, explained
from paretoscope.methods.registry import Stage, WeightMethod, Work
from paretoscope.model.statistics import LayerStatistics, ModelStatistics
from paretoscope.recipe.recipe import LayerRecipe, Prune, Recipe
from paretoscope.recipe.steps.prune import Scope

INFINITY_BITS = 0x7F800000


@dataclass(frozen=True, slots=True)
class Cut:
    """Where a layer is cut: magnitudes below `threshold` go, and the first `ties` of those equal to it."""

    threshold: float
    ties: int


def cuts(statistics: ModelStatistics, prune: Prune) -> dict[str, Cut]:
    """Each layer's cut; a pattern has none. Look-ups only, but for counting ties that straddle layers."""
    if prune.pattern:
        return {}
    if prune.threshold:
        return dict.fromkeys(statistics.layers, Cut(prune.threshold, 0))
    if prune.scope == Scope.LAYER:
        return {name: _cut(layer.magnitudes, prune.sparsity) for name, layer in statistics.layers.items()}
    return _shared_out(_cut(statistics.magnitudes, prune.sparsity), list(statistics.layers.values()))


def cuts_of(statistics: ModelStatistics, plans: Mapping[str, LayerRecipe], prune: Prune | None) -> dict[str, Cut]:
    """The cuts of layers that have steps of their own: `plans` for every layer, `prune` of the recipe.

    Layers that follow the recipe's rate at scope "global" are ranked with one another only; every other layer is
    pruned alone. Layers without a rate or a threshold are left out.
    """
    own = {name: plan.prune for name, plan in plans.items() if plan.own_rate or plan.prune != prune}
    if not own:
        return cuts(statistics, prune) if prune else {}
    result, ranked, sparsity = {}, [], 0.0
    for name, layer in statistics.layers.items():
        step = plans[name].prune
        if step is None or step.pattern:
            continue
        if step.threshold:
            result[name] = Cut(step.threshold, 0)
        elif step.scope == Scope.LAYER or plans[name].own_rate:
            result[name] = _search([layer], step.sparsity)
        else:
            ranked.append(layer)
            sparsity = step.sparsity
    return result | _shared_out(_search(ranked, sparsity), ranked)


def apply(weight: np.ndarray, cut: Cut) -> np.ndarray:
    """A copy of `weight` with what the cut removes set to zero."""
    with np.errstate(over="ignore"):
        threshold = np.float32(cut.threshold)
    return _apply(np.ascontiguousarray(weight).reshape(-1), threshold, cut.ties).reshape(weight.shape)


def divides(shape: tuple[int, ...], group: int) -> bool:
    """Whether the input dimension of a weight of this shape (its second axis) is made of whole groups."""
    return len(shape) > 1 and shape[1] % group == 0


def apply_pattern(weight: np.ndarray, kept: int, group: int) -> np.ndarray:
    """A copy of `weight` in which only the `kept` largest of every `group` consecutive inputs are not zero.

    weight: float32 (outputs, inputs, *kernel); inputs are taken for each output and each kernel position by itself.
    Among equal magnitudes the first stay. A weight that `divides` refuses is left dense.
    """
    if not divides(weight.shape, group):
        return weight.copy()
    outputs, inputs = weight.shape[:2]
    blocks = np.ascontiguousarray(weight).reshape(outputs * (inputs // group), group, -1)
    return _apply_pattern(blocks, kept).reshape(weight.shape)


@compiled()
def _apply(weights: np.ndarray, threshold: np.float32, ties: int) -> np.ndarray:
    pruned = np.empty_like(weights)
    for i in range(len(weights)):
        magnitude = abs(weights[i])
        pruned[i] = weights[i] if magnitude >= threshold else np.float32(0)
        if magnitude == threshold and ties > 0:
            pruned[i] = np.float32(0)
            ties -= 1
    return pruned


@compiled()
def _apply_pattern(blocks: np.ndarray, kept: int) -> np.ndarray:
    count, group, kernel = blocks.shape
    result = np.empty_like(blocks)
    magnitudes = np.empty(group, np.float32)
    for block in range(count):
        for place in range(kernel):
            for i in range(group):
                magnitudes[i] = abs(blocks[block, i, place])
            for i in range(group):
                # Ranks by comparing all pairs: no branch depends on a weight, so even large groups stay fast.
                rank = 0
                for j in range(i):
                    rank += magnitudes[j] >= magnitudes[i]
                for j in range(i + 1, group):
                    rank += magnitudes[j] > magnitudes[i]
                result[block, i, place] = blocks[block, i, place] if rank < kept else np.float32(0)
    return result


def _cut(magnitudes: np.ndarray, sparsity: float) -> Cut:
    count = math.floor(sparsity * len(magnitudes))
    if count == 0:
        return Cut(0.0, 0)
    threshold = magnitudes[count - 1]
    return Cut(float(threshold), count - int(np.searchsorted(magnitudes, threshold, side="left")))


def _search(layers: Sequence[LayerStatistics], sparsity: float) -> Cut:
    """`_cut` of some layers together: bisection over the bit patterns of floats, which rank as the floats do."""
    count = math.floor(sparsity * sum(len(layer.ordered) for layer in layers))
    if count == 0:
        return Cut(0.0, 0)
    below, low, high = 0, 0, INFINITY_BITS
    while low < high:
        middle = (low + high) // 2
        found = sum(_count_up_to(layer.ordered, np.uint32(middle).view(np.float32)) for layer in layers)
        if found < count:
            below, low = found, middle + 1
        else:
            high = middle
    return Cut(float(np.uint32(low).view(np.float32)), count - below)


@compiled()
def _count_up_to(ordered: np.ndarray, magnitude: np.float32) -> int:
    """How many of the ascending values have at most this magnitude."""
    return int(np.searchsorted(ordered, magnitude, side="right") - np.searchsorted(ordered, -magnitude, side="left"))


def _shared_out(whole: Cut, layers: Sequence[LayerStatistics]) -> dict[str, Cut]:
    """The cut of several layers that are ranked together, with its ties handed out to the first ones."""
    result, left = {}, whole.ties
    for layer in layers:
        equal = min(left, _count_equal(layer.ordered, whole.threshold)) if left else 0
        result[layer.name] = Cut(whole.threshold, equal)
        left -= equal
    return result


def _count_equal(ordered: np.ndarray, magnitude: float) -> int:
    value = ordered.dtype.type(magnitude)
    both = {value, -value}
    return sum(int(np.searchsorted(ordered, v, side="right") - np.searchsorted(ordered, v, side="left")) for v in both)


def _cut_away(work: Work) -> Work:
    return replace(work, weight=apply(work.weight, work.prepared["magnitude"]))


def _has_pattern(work: Work) -> bool:
    step = work.plan.prune
    if step is None or not step.pattern or "magnitude" in work.prepared:
        return False
    return divides(work.weight.shape, step.kept_of[1])


def _cut_by_pattern(work: Work) -> Work:
    return replace(work, weight=apply_pattern(work.weight, *work.prune.kept_of))


def _left_dense(shapes: Mapping[str, tuple[int, ...]], plans: Mapping[str, LayerRecipe]) -> list[str]:
    dense: dict[str, list[str]] = {}
    for name, plan in plans.items():
        step = plan.prune
        if step is not None and step.pattern and not divides(shapes[name], step.kept_of[1]):
            dense.setdefault(step.pattern, []).append(name)
    return [
        f"Left dense, because the inputs of a weight do not divide into groups of {pattern.split(':')[1]}: "
        f"{listed(names)}."
        for pattern, names in dense.items()
    ]


def _keeping(recipe: Recipe) -> str:
    if (step := recipe.prune) is None:
        return ""
    return "scope layer" if step.sparsity and step.scope == Scope.GLOBAL else "less pruning"


METHODS = (
    WeightMethod(
        "magnitude",
        Stage.PRUNE,
        takes=lambda work: "magnitude" in work.prepared,
        apply=_cut_away,
        prepare=lambda statistics, plans, recipe: cuts_of(statistics, plans, recipe.prune),
        keeping=_keeping,
    ),
    WeightMethod("pattern", Stage.PRUNE, takes=_has_pattern, apply=_cut_by_pattern, notes=_left_dense, place=10),
    MethodEntry(
        name="prune",
        title="Magnitude pruning",
        summary=(
            "Most weights of a trained network are close to zero and hardly change its answers. Pruning sets the "
            "smallest ones to exactly zero. A zero costs almost nothing to store, so the file shrinks; ordinary "
            "kernels still multiply by it, so the network does not get faster by this alone."
        ),
        formula=(
            r"\begin{gathered} \hat w_i = \begin{cases} 0 & |w_i| \le t \\ w_i & \text{otherwise} \end{cases} "
            r"\\[0.6em] t = \text{the } \lfloor s\,n \rfloor\text{-th smallest } |w_i| \end{gathered}"
        ),
        settings=explained(sparsity="s", scope=""),
        reference=(
            "Han, Pool, Tran and Dally, *Learning both weights and connections for efficient neural networks*, "
            "NeurIPS 2015, [arXiv:1506.02626](https://arxiv.org/abs/1506.02626)"
        ),
        section=Section.PRUNE,
        example=Recipe(prune=Prune(0.8)),
        used_by=lambda recipe: recipe.prune is not None and recipe.prune.sparsity > 0,
    ),
    MethodEntry(
        name="threshold",
        title="Threshold pruning",
        summary=(
            "The same idea with the question turned round: instead of saying how many weights should go, say how small "
            "a weight must be to go. How sparse each layer becomes is then a result, and it is reported."
        ),
        formula=(r"\hat w_i = \begin{cases} 0 & |w_i| < t \\ w_i & \text{otherwise} \end{cases}"),
        settings=explained(threshold="t"),
        reference=(
            "Han, Pool, Tran and Dally, *Learning both weights and connections for efficient neural networks*, "
            "NeurIPS 2015, [arXiv:1506.02626](https://arxiv.org/abs/1506.02626)"
        ),
        section=Section.PRUNE,
        place=10,
        example=Recipe(prune=Prune(threshold=0.02)),
        used_by=lambda recipe: recipe.prune is not None and recipe.prune.threshold > 0,
    ),
    MethodEntry(
        name="pattern",
        title="N:M pruning",
        summary=(
            "Zeros in a regular pattern: of every four neighbouring weights two stay, say. Some accelerators skip such "
            "zeros, which they cannot do with zeros in random places, so this kind of pruning can make a network "
            "faster there. A layer whose inputs do not divide into whole groups is left as it is."
        ),
        formula=(
            r"\hat w_i = \begin{cases} w_i & |w_i| \text{ among the } N \text{ largest of } M \\ "
            r"0 & \text{otherwise} \end{cases}"
        ),
        settings=explained(pattern=""),
        reference=(
            "Mishra et al., *Accelerating sparse deep neural networks*, 2021, "
            "[arXiv:2104.08378](https://arxiv.org/abs/2104.08378)"
        ),
        section=Section.PRUNE,
        place=20,
        example=Recipe(prune=Prune(pattern="2:4")),
        used_by=lambda recipe: recipe.prune is not None and recipe.prune.pattern != "",
    ),
)
