"""What the plots show around a recipe: the three sweeps, and the timings that others are predicted from."""

from collections.abc import Iterator
from typing import Any

from paretoscope.recipe.recipe import Recipe

SWEEP_SPARSITIES = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98)
SWEEP_CLUSTERS = (None, 256, 64, 32, 16, 8, 4, 2)
SWEEP_BITS = (1, 2, 3, 4, 5, 6, 7, 8, 16, 32)
# Where the time depends on the zeros, these sparsities are timed and the others are predicted from them. Chosen by
# hand; no benchmark.
ANCHORS = (0.5, 0.8, 0.9, 0.95, 0.98)


def _grids() -> dict[str, tuple[Any, ...]]:
    return {"sparsity": SWEEP_SPARSITIES, "clusters": SWEEP_CLUSTERS, "bits": SWEEP_BITS}


def sweeps(recipe: Recipe) -> dict[str, list[Recipe]]:
    """The three one-slider sweeps around a recipe, by the name of the setting that varies.

    Where another rule than a rate prunes the recipe, the sweep of the sparsity replaces it.
    """
    return {name: [recipe.with_setting(name, value) for value in grid] for name, grid in _grids().items()}


def swept(recipe: Recipe) -> Iterator[Recipe]:
    """All of them one by one, so that whoever looks for the first that is missing makes no more."""
    return (recipe.with_setting(name, value) for name, grid in _grids().items() for value in grid)
